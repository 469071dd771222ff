// What the primary holds of keys and lists, on its way to a worker: message by message, as JSON.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { IssuerSources } from '../../src/app/issuer-sources.ts'
import { createOutbox } from '../../src/app/workers/outbox.ts'
import { createPublisher } from '../../src/app/workers/publisher.ts'
import { createReplicaStore } from '../../src/app/workers/replicas.ts'
import type { ToPrimary, ToWorker } from '../../src/app/workers/worker-messages.ts'
import { parseToPrimary, parseToWorker } from '../../src/app/workers/worker-messages.ts'
import type { Clock } from '../../src/base/time.ts'
import type { Setup } from '../sources/feed-server.ts'
import { revoked, setup, t0, token } from '../sources/feed-server.ts'
import { endpoint, later, loadedEndpoint, reply, setOf, signerA, signerB } from '../sources/key-endpoint.ts'
import { createTestLog } from '../support/log.ts'
import { createSigner } from '../support/tokens.ts'

const issuer = 'https://issuer.test'
const keysId = 'its keys'
const limits = { cache_size: 10_000, purge_delay: 60_000 }

/** A primary with these sources, and one worker whose messages wait until they are passed on. */
function connect(jwks: IssuerSources['jwks'], blacklist: IssuerSources['blacklist'], clock: Clock) {
  const waiting: ToWorker[] = []
  const asked: ToPrimary[] = []
  const failures: unknown[] = []
  const publisher = createPublisher()
  const sources = [{ trusted: { issuer }, keysId, jwks, blacklist }]
  publisher.follow(sources, limits)
  const store = createReplicaStore({ clock, send: (message) => void asked.push(message) })
  const outbox = createOutbox(
    (message) => void waiting.push(message),
    (error) => void failures.push(error),
  )
  publisher.connect(outbox)
  outbox.queue((deliver) => publisher.hand(outbox, deliver))
  const disconnect = () => publisher.disconnect(outbox)
  const reload = (next: IssuerSources['jwks']) =>
    publisher.follow([{ trusted: { issuer }, keysId, jwks: next, blacklist }], limits)
  return { waiting, asked, failures, store, pass, answerLooks, keys, list, disconnect, reload }

  /** Passes messages on until a kind comes, or none is left. */
  async function pass(until?: ToWorker['kind']): Promise<readonly string[]> {
    const passed: string[] = []
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      const [next] = waiting
      if (next === undefined || next.kind === until) return passed
      waiting.shift()
      const read = parseToWorker(JSON.parse(JSON.stringify(next)))
      assert.ok(read !== undefined && (read.kind === 'keys' || read.kind === 'keys_looked' || 'issuer' in read))
      passed.push(read.kind)
      store.receive(read)
      if (read.kind === 'list_slice') outbox.took()
    }
  }

  async function answerLooks(): Promise<void> {
    for (const each of asked.splice(0)) {
      const read = parseToPrimary(JSON.parse(JSON.stringify(each)))
      assert.ok(read?.kind === 'look_for_key')
      await publisher.look(outbox, read)
    }
    await pass()
  }

  function keys() {
    return store.replicas.keys(keysId, { stale_max: 3_600_000, leeway: 30_000 }, () => {})
  }

  function list(max_staleness = 300_000) {
    const options = { issuer, url: `${issuer}/blacklist`, client_id: 'gateway', wait: 0, poll_interval: 60_000 }
    const made = store.replicas.list(
      { ...options, cache_size: 10_000, purge_delay: 60_000, max_staleness },
      { clock, send: () => Promise.reject(new Error('nothing is asked')), secret: () => '', log: createTestLog() },
    )
    made.start()
    return made
  }
}

async function withList(count: number): Promise<{ it: Setup; worker: ReturnType<typeof connect> }> {
  const it = setup()
  for (let at = 0; at < count; at += 1) it.revoke(`t${at}`)
  await it.blacklist.poll()
  const clock = { wallMs: () => it.clock.wallMs, monotonicMs: () => it.clock.monotonicMs }
  using jwks = endpoint()
  return { it, worker: connect(jwks.jwks, it.blacklist, clock) }
}

test('a copy of a list is stale until all of it has come', async () => {
  const { worker } = await withList(7000)
  const list = worker.list()

  const first = await worker.pass('list_end')
  assert.deepEqual(first, ['list_begin', 'list_slice', 'list_slice'])
  assert.equal(list.check(token({ jti: 't0' })), 'stale')
  assert.equal(list.check(token({ jti: 'unlisted' })), 'stale')
  assert.equal(list.state().loaded, false)
  await worker.pass()

  assert.equal(list.state().loaded, true)
  assert.deepEqual(list.check(token({ jti: 't0' })), revoked)
  assert.deepEqual(list.check(token({ jti: 't6999' })), revoked)
  assert.equal(list.check(token({ jti: 'unlisted' })), undefined)
  assert.deepEqual(worker.failures, [])
})

test('a slice of a list is sent when the one before was taken, and not sooner', async () => {
  const { worker } = await withList(9000)

  await new Promise((resolve) => setImmediate(resolve))

  assert.deepEqual(
    worker.waiting.map(({ kind }) => kind),
    ['list_begin', 'list_slice'],
  )
})

test('what is revoked while a list is on its way does not wait for it, and is in it', async () => {
  const { it, worker } = await withList(7000)
  const list = worker.list()
  await worker.pass('list_slice')
  it.revoke('new')
  await it.blacklist.poll()

  assert.deepEqual(
    worker.waiting.map(({ kind }) => kind),
    ['list_slice', 'list_added'],
  )
  await worker.pass()

  assert.deepEqual(list.check(token({ jti: 'new' })), revoked)
  assert.deepEqual(list.check(token({ jti: 't6999' })), revoked)
})

test('what a poll brings is sent by itself, narrowed as it was', async () => {
  const { it, worker } = await withList(2)
  const list = worker.list()
  await worker.pass()
  it.revoke('alice', { kind: 'sub', issued_before: t0 - 1 })
  await it.blacklist.poll()

  assert.deepEqual(await worker.pass(), ['list_added', 'list_state'])
  assert.deepEqual(list.check(token({ sub: 'alice', iat: t0 - 1 })), { kind: 'sub', cause: 'owner' })
  assert.equal(list.check(token({ sub: 'alice', iat: t0 })), undefined)
})

test('another list, as after a new epoch, takes the place of the one before with what it inherits', async () => {
  const { it, worker } = await withList(2)
  const list = worker.list()
  await worker.pass()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  it.revoke('after')
  await it.blacklist.poll()

  await worker.pass()

  assert.deepEqual(list.check(token({ jti: 'after' })), revoked)
  assert.deepEqual(list.check(token({ jti: 't0' })), revoked)
})

test('a copy of a list forgets what has run out, with every poll', async () => {
  const { it, worker } = await withList(0)
  const list = worker.list()
  it.revoke('a', { expires_at: t0 + 60 })
  it.revoke('b', { expires_at: t0 + 600 })
  await it.blacklist.poll()
  await worker.pass()
  assert.equal(list.state().entries, 2)

  for (const left of [1, 0]) {
    it.pass(601_000)
    await it.blacklist.poll()
    await worker.pass()
    assert.equal(list.state().entries, left)
  }
})

test('a copy of a list ages by the poll it came from, and a poll that brings nothing makes it young again', async () => {
  const { it, worker } = await withList(1)
  const list = worker.list()
  await worker.pass()

  it.pass(300_001)
  assert.equal(list.check(token({ jti: 'other' })), 'stale')
  assert.deepEqual(list.check(token({ jti: 't0' })), revoked)
  await it.blacklist.poll()
  assert.deepEqual(await worker.pass(), ['list_state'])

  assert.equal(list.check(token({ jti: 'other' })), undefined)
})

test('a publisher keeps nothing of a list that a reload has put another one in the place of, or none', async () => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const publisher = createPublisher()
  const outbox = createOutbox(
    ({ kind }) => void (kind === 'list_slice' && setImmediate(outbox.took)),
    (error) => assert.fail(String(error)),
  )
  publisher.connect(outbox)
  const followed: WeakRef<object>[] = []
  const reload = async () => {
    using jwks = endpoint()
    await using it = setup()
    it.revoke('t')
    await it.blacklist.poll()
    followed.push(new WeakRef(it.blacklist.snapshot()?.held.index ?? assert.fail('nothing was polled')))
    publisher.follow([{ trusted: { issuer }, keysId, jwks: jwks.jwks, blacklist: it.blacklist }], limits)
    await hand()
  }
  const hand = async () => {
    outbox.queue((deliver) => publisher.hand(outbox, deliver))
    await new Promise<void>((resolve) => outbox.queue(() => resolve()))
  }

  for (let at = 0; at < 3; at += 1) await reload()
  await new Promise((resolve) => setImmediate(resolve))
  gc()

  assert.deepEqual(
    followed.map((each) => each.deref() !== undefined),
    [false, false, true],
  )

  using jwks = endpoint()
  publisher.follow([{ trusted: { issuer }, keysId, jwks: jwks.jwks, blacklist: undefined }], limits)
  await hand()
  await new Promise((resolve) => setImmediate(resolve))
  gc()
  assert.equal(followed[2]?.deref(), undefined)
})

test('a worker that connects later is sent all there is', async () => {
  const { it, worker } = await withList(1)
  await worker.pass()
  it.revoke('second')
  await it.blacklist.poll()

  const clock = { wallMs: () => it.clock.wallMs, monotonicMs: () => it.clock.monotonicMs }
  using jwks = endpoint()
  const second = connect(jwks.jwks, it.blacklist, clock)
  const list = second.list()
  await second.pass()

  assert.deepEqual(list.check(token({ jti: 'second' })), revoked)
})

test('a worker that has ended is sent nothing more', async () => {
  const { it, worker } = await withList(1)
  await worker.pass()

  worker.disconnect()
  it.revoke('second')
  await it.blacklist.poll()

  assert.deepEqual(await worker.pass(), [])
})

test('a copy of keys knows none before they come, and asks the primary once for all who wait', async () => {
  using it = endpoint()
  const { answer, settle } = later()
  it.answer = answer
  void it.jwks.refresh()
  const worker = connect(it.jwks, undefined, it.clock)
  const keys = worker.keys()
  const wanted = { kid: 'a', algorithm: 'ES256' as const, arrivedMs: it.clock.monotonicMs(), verifies: () => false }
  const iat = Math.floor(it.clock.wallMs() / 1000)

  const answers = Array.from({ length: 20 }, () => keys.key({ ...wanted, iat }))
  assert.equal(keys.state().loaded, false)
  assert.equal(worker.asked.length, 1)
  settle(reply(200, setOf(signerA)))
  await worker.answerLooks()

  for (const answer of await Promise.all(answers)) assert.equal(answer.kind, 'key')
  assert.equal(it.calls.length, 1)
})

test("a copy of keys gives the primary's verdict on a key that is not there, and heeds its cool-down", async () => {
  using it = await loadedEndpoint()
  const worker = connect(it.jwks, undefined, it.clock)
  const keys = worker.keys()
  await worker.pass()
  const ask = () =>
    keys.key({
      kid: 'b',
      algorithm: 'ES256',
      iat: Math.floor(it.clock.wallMs() / 1000),
      arrivedMs: it.clock.monotonicMs(),
      verifies: () => false,
    })

  const first = ask()
  await worker.answerLooks()
  it.clock.pass(1000)
  const second = await ask()

  assert.deepEqual(await first, { kind: 'unknown' })
  assert.deepEqual(second, { kind: 'unavailable', retryAfterS: 29 })
  assert.deepEqual(worker.asked, [])
  assert.equal(it.calls.length, 1)
})

test('a copy of keys is sent a key that a set made anew at the same place has found, when it asks and when not', async () => {
  using before = await loadedEndpoint()
  const worker = connect(before.jwks, undefined, before.clock)
  const keys = worker.keys()
  await worker.pass()
  using after = await loadedEndpoint()
  worker.reload(after.jwks)
  before.jwks.close()
  after.clock.pass(60_000)
  before.clock.pass(60_000)
  after.answer = () => reply(200, setOf(signerA, signerB))
  const wanted = { algorithm: 'ES256' as const, arrivedMs: after.clock.monotonicMs(), verifies: () => false }
  const iat = Math.floor(after.clock.wallMs() / 1000)

  const asked = keys.key({ ...wanted, kid: 'b', iat })
  await worker.answerLooks()
  assert.equal((await asked).kind, 'key')

  const third = createSigner('c')
  after.answer = () => reply(200, setOf(third))
  await after.jwks.refresh()
  await worker.pass()
  assert.equal((await keys.key({ ...wanted, kid: 'c', iat })).kind, 'key')
})

test('a copy of keys holds what was fetched last: a key that was withdrawn is gone there, too', async () => {
  using it = await loadedEndpoint()
  const worker = connect(it.jwks, undefined, it.clock)
  const keys = worker.keys()
  await worker.pass()
  const wanted = { algorithm: 'ES256' as const, iat: 0, arrivedMs: it.clock.monotonicMs(), verifies: () => false }
  const held = await keys.key({ ...wanted, kid: 'a' })
  assert.ok(held.kind === 'key' && keys.holds(held.key))

  it.answer = () => reply(200, setOf(signerB))
  await it.jwks.refresh()
  await worker.pass()

  assert.equal(keys.holds(held.key), false)
  assert.equal((await keys.key({ ...wanted, kid: 'b' })).kind, 'key')
  assert.equal((await keys.key({ ...wanted, kid: signerA.kid })).kind, 'unknown')
})

for (const [said, message] of [
  ['no kind of ours', { kind: 'exit' }],
  ['a member more', { kind: 'report', ask: 1, more: true }],
  ['an entry of no kind', { kind: 'list_added', issuer: 'i', entries: [['all', 'x', null, 1, 'owner']] }],
  ['a time that is none', { kind: 'drain', timeoutMs: null }],
  ['nothing', undefined],
] as const) {
  test(`parseToWorker() refuses ${said}`, () => assert.equal(parseToWorker(message), undefined))
}

for (const [said, message] of [
  ['no kind of ours', { kind: 'configure' }],
  ['fewer than no connections', { kind: 'connections', through: 0, lost: [], open: -1 }],
  ['an algorithm that we do not have', { kind: 'look_for_key', ask: 0, source: 'a', kid: 'a', algorithm: 'none' }],
  ['a report that is text', { kind: 'report', ask: 0, metrics: 'postern_x 1' }],
] as const) {
  test(`parseToPrimary() refuses ${said}`, () => assert.equal(parseToPrimary(message), undefined))
}
