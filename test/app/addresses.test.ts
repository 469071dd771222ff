import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { createAddresses } from '../../src/app/upstream/addresses.ts'
import { createTestDeadlines } from '../support/deadlines.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'

/** Addresses of a name that a test answers for. */
function createNamed(first?: readonly string[]) {
  const time = createTestDeadlines()
  const asked: string[] = []
  const logged: string[] = []
  let changes = 0
  let answer: () => Promise<readonly string[]> = async () => {
    if (first === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })
    return first
  }
  const log = {
    info: (event: string) => void logged.push(event),
    warn: (event: string) => void logged.push(event),
  }
  const resolve = (name: string) => {
    asked.push(name)
    return answer()
  }
  const addresses = createAddresses('app.test', {
    ...{ resolve, deadlines: time, log },
    changed() {
      changes += 1
    },
  })
  return {
    ...addresses,
    time,
    asked,
    logged,
    changes: () => changes,
    answers(next: readonly string[] | undefined | Promise<readonly string[]>) {
      answer = async () => {
        if (next === undefined) throw Object.assign(new Error('no such name'), { code: 'ESERVFAIL' })
        return await next
      }
    },
  }
}

/** Lets promises that are settled be heard of. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

test('createAddresses() looks a name up at once, and again every 30 s', async () => {
  const named = createNamed(['10.0.0.1', '10.0.0.2'])
  assert.deepEqual(named.list(), [])
  await settle()
  assert.deepEqual(named.list(), ['10.0.0.1', '10.0.0.2'])

  named.answers(['10.0.0.2', 'fd00::3', 'fd00::3'])
  named.time.pass(29_999)
  await settle()
  const early = named.asked.length
  named.time.pass(1)
  await settle()

  assert.equal(early, 1)
  assert.deepEqual(named.asked, ['app.test', 'app.test'])
  assert.deepEqual(named.list(), ['10.0.0.2', 'fd00::3'])
  assert.equal(named.changes(), 2)
})

test('createAddresses() takes the same addresses in another order for no change', async () => {
  const named = createNamed(['10.0.0.1', '10.0.0.2'])
  await settle()
  const before = named.list()

  named.answers(['10.0.0.2', '10.0.0.1'])
  named.time.pass(30_000)
  await settle()

  assert.equal(named.list(), before)
  assert.equal(named.changes(), 1)
})

for (const answer of [undefined, []]) {
  test(`createAddresses() keeps the last good addresses when a look-up ${answer === undefined ? 'fails' : 'finds none'}, and says so once`, async () => {
    const named = createNamed(['10.0.0.1'])
    await settle()

    named.answers(answer)
    for (let at = 0; at < 3; at += 1) {
      named.time.pass(30_000)
      await settle()
    }
    const failing = named.list()
    named.answers(['10.0.0.9'])
    named.time.pass(30_000)
    await settle()

    assert.deepEqual(failing, ['10.0.0.1'])
    assert.deepEqual(named.list(), ['10.0.0.9'])
    assert.equal(named.changes(), 2)
    assert.deepEqual(named.logged, ['upstream_resolve_failed', 'upstream_resolved'])
  })
}

test('createAddresses() says each time anew that look-ups fail, once they have gone well in between', async () => {
  const named = createNamed(['10.0.0.1'])
  await settle()

  for (const answer of [undefined, ['10.0.0.1'], ['10.0.0.1'], undefined]) {
    named.answers(answer)
    named.time.pass(30_000)
    await settle()
  }

  assert.deepEqual(named.logged, ['upstream_resolve_failed', 'upstream_resolved', 'upstream_resolve_failed'])
})

test('createAddresses() that has found none ever tells so, and looks again every second', async () => {
  const named = createNamed()
  await settle()
  assert.equal(named.changes(), 1)
  assert.deepEqual(named.list(), [])

  named.answers(['10.0.0.1'])
  named.time.pass(999)
  assert.equal(named.asked.length, 1)
  named.time.pass(1)
  await settle()

  assert.deepEqual(named.list(), ['10.0.0.1'])
  assert.equal(named.changes(), 2)
})

test('createAddresses().doubt() has a name looked up again, though no more than once a second', async () => {
  const named = createNamed(['10.0.0.1'])
  await settle()
  for (let at = 0; at < 100; at += 1) named.doubt()
  named.time.pass(999)
  assert.equal(named.asked.length, 1)
  named.time.pass(1)
  assert.equal(named.asked.length, 2)
  await settle()

  for (let at = 0; at < 100; at += 1) named.doubt()
  named.time.pass(500)
  await settle()

  assert.equal(named.asked.length, 2)
  named.time.pass(500)
  assert.equal(named.asked.length, 3)
})

test('createAddresses() has one look-up under way at a time, however long it takes', async () => {
  const named = createNamed(['10.0.0.1'])
  await settle()
  const slow = Promise.withResolvers<readonly string[]>()
  named.answers(slow.promise)
  named.time.pass(30_000)

  named.doubt()
  named.time.pass(120_000)
  assert.equal(named.asked.length, 2)
  slow.resolve(['10.0.0.2'])
  await settle()

  assert.deepEqual(named.list(), ['10.0.0.2'])
  named.time.pass(30_000)
  assert.equal(named.asked.length, 3)
})

test('createAddresses().close() ends it: what comes later is not taken, and nothing is asked', async () => {
  const named = createNamed(['10.0.0.1'])

  named.close()
  await settle()
  named.time.pass(60_000)

  assert.deepEqual(named.list(), [])
  assert.equal(named.changes(), 0)
  assert.equal(named.asked.length, 1)
  assert.equal(named.time.watched(), 0)
})

test('createAddresses() takes 256 addresses and no more', async () => {
  const named = createNamed(Array.from({ length: 300 }, (_, at) => `10.0.${at >> 8}.${at & 255}`))
  await settle()

  assert.equal(named.list().length, 256)
})

test('a gateway has threads for eight names at a time: libuv gives them half of what there are', {
  skip: process.platform !== 'linux' && 'only Linux shows its threads',
}, async () => {
  await using gateway = await startGatewayProcess({
    upstream: { url: 'http://127.0.0.1:1' },
    rules: [{ match: { path: '/' }, public: true }],
  })
  await gateway.ready()

  const threads = `/proc/${gateway.pid}/task`
  const names = readdirSync(threads).map((id) => readFileSync(`${threads}/${id}/comm`, 'latin1').trim())
  assert.equal(names.filter((name) => name === 'libuv-worker').length, 16)
})
