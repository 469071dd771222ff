import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Setup } from './feed-server.ts'
import { foundByLookup, loaded, raw, revoked, setup, t0, token } from './feed-server.ts'

/** A gateway with room for 100 that holds 80 of a restored issuer, and ten that this no longer knows. */
async function restored(): Promise<Setup> {
  const it = setup({ cache_size: 100 })
  for (let at = 0; at < 10; at += 1) it.revoke(`lost${at}`)
  await it.blacklist.poll()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  for (let at = 0; at < 80; at += 1) it.revoke(`t${at}`)
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 90)
  return it
}

for (const cache_size of [10, 40, 90, 100, 1000]) {
  test(`a reload with a cache_size of ${cache_size} keeps ten that a restored issuer no longer knows beside its 80`, async () => {
    await using it = await restored()

    it.reload({ cache_size })
    await it.blacklist.poll()

    assert.deepEqual(it.counts, ['updated', 'updated', 'updated'])
    for (let at = 0; at < 10; at += 1) assert.deepEqual(it.blacklist.check(token({ jti: `lost${at}` })), revoked)
    for (let at = 0; at < 80; at += 1) assert.ok(await it.blacklist.check(token({ jti: `t${at}` })), `t${at}`)
    assert.equal(it.blacklist.state().entries, Math.min(90, cache_size))
    assert.equal(it.blacklist.state().lookups, cache_size < 90)
  })
}

test('a reload with a smaller cache_size keeps what was inherited, when its first polls fail and the issuer is restored', async () => {
  await using it = await restored()

  it.reload({ cache_size: 40 })
  it.answer = () => raw(503, '')
  await it.blacklist.poll()
  it.answer = undefined
  Object.assign(it.feed, { epoch: 'e3', entries: [], lastSeq: 0 })
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().entries, 40)
  for (let at = 0; at < 10; at += 1) assert.deepEqual(it.blacklist.check(token({ jti: `lost${at}` })), revoked)
})

test('what was inherited outlives what a second restore loses, where a smaller cache_size has no room for both', async () => {
  await using it = await restored()

  it.reload({ cache_size: 40 })
  Object.assign(it.feed, { epoch: 'e3', entries: [], lastSeq: 0 })
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().entries, 40)
  for (let at = 0; at < 10; at += 1) assert.deepEqual(it.blacklist.check(token({ jti: `lost${at}` })), revoked)
})

test('a list that was delivered and has no room is asked for, and takes no room of what is inherited', async () => {
  await using it = setup({ cache_size: 20 })
  for (let at = 0; at < 20; at += 1) it.revoke(`t${at}`)
  await it.blacklist.poll()
  for (const epoch of ['e2', 'e3', 'e4']) {
    for (let at = 0; at < 5; at += 1) it.revoke(`${epoch} ${at}`)
    it.feed.epoch = epoch
    await it.blacklist.poll()
  }

  assert.equal(it.blacklist.snapshot()?.held.inherited, undefined)
  assert.equal(it.blacklist.state().entries, 20)
  assert.deepEqual(it.blacklist.check(token({ jti: 'e4 4' })), revoked)
  assert.deepEqual(await it.blacklist.check(token({ jti: 't0' })), foundByLookup)
})

test('what was delivered for a shorter time than it was held for is inherited, though it has no room in the list', async () => {
  await using it = setup({ cache_size: 100 })
  it.revoke('a', { expires_at: t0 + 7200 })
  await it.blacklist.poll()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  it.revoke('a', { expires_at: t0 + 60 })
  for (let at = 0; at < 80; at += 1) it.revoke(`t${at}`, { expires_at: t0 + 7200 })
  it.reload({ cache_size: 40 })
  await it.blacklist.poll()
  it.pass(3_600_000)
  await it.blacklist.poll()

  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
})

test('a reload with a shorter purge_delay takes the list of an issuer that has forgotten what has run out', async () => {
  await using it = setup({ purge_delay: 600_000 })
  it.revoke('a', { expires_at: t0 + 2 })
  it.revoke('b')
  await it.blacklist.poll()
  it.pass(100_000)
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 2)

  it.reload({ purge_delay: 30_000 })
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'updated'])
  assert.equal(it.blacklist.state().entries, 1)
  assert.deepEqual(it.blacklist.check(token({ jti: 'b' })), revoked)
})

for (const purge_delay of [10_000, 60_000, 3_600_000]) {
  test(`a reload with a purge_delay of ${purge_delay / 1000} s for 600 holds each entry once, and asks for no token`, async () => {
    await using it = setup({ cache_size: 100, purge_delay: 600_000 })
    for (let at = 0; at < 60; at += 1) it.revoke(`t${at}`)
    it.revoke('alice', { kind: 'sub' })
    await it.blacklist.poll()

    it.reload({ purge_delay })
    await it.blacklist.poll()

    assert.equal(it.blacklist.state().entries, 61)
    assert.equal(it.blacklist.state().lookups, false)
    assert.equal(it.blacklist.check(token({ jti: 'unlisted' })), undefined)
  })

  for (const [what, forget] of [
    ['what is listed', false],
    ['what is inherited', true],
  ] as const) {
    test(`a reload with a purge_delay of ${purge_delay / 1000} s for 600 keeps ${what} for so long`, async () => {
      await using it = setup({ purge_delay: 600_000 })
      it.revoke('a', { expires_at: t0 + 1000 })
      await it.blacklist.poll()
      if (forget) Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
      await it.blacklist.poll()

      it.reload({ purge_delay })
      await it.blacklist.poll()
      it.pass(1_000_000 + purge_delay - 1)
      await it.blacklist.poll()
      assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
      it.pass(1)

      assert.equal(it.blacklist.check(token({ jti: 'a' })), undefined)
      await it.blacklist.poll()
      assert.equal(it.blacklist.state().entries, 0)
    })
  }
}

test('a reload holds what was held, for as long as that was good for, before and without a poll of its own', async () => {
  await using it = await loaded()
  it.pass(1000)
  it.reload({ poll_interval: 1000 })
  it.answer = () => raw(503, '')
  await it.blacklist.poll()

  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  assert.equal(it.blacklist.check(token({ jti: 'never listed' })), undefined)
  assert.equal(it.blacklist.state().ageMs, 1000)
  it.pass(300_000)
  assert.equal(it.blacklist.check(token({ jti: 'never listed' })), 'stale')
})

test('a reload still asks for what the issuer counts and never delivered, before a poll of its own', async () => {
  await using it = await loaded()
  it.feed.twist = { total_live: 5 }
  await it.blacklist.poll()
  it.reload({ poll_interval: 1000 })

  assert.equal(it.blacklist.state().lookups, true)
  assert.equal(await it.blacklist.check(token({ jti: 'never listed' })), undefined)
  assert.match(it.calls.at(-1)?.url ?? '', /\/lookup$/)
})

test('a reload takes a shorter list that the issuer says is a reset, and keeps what it no longer lists', async () => {
  await using it = await loaded()
  it.reload({ poll_interval: 1000 })
  it.feed.entries.length = 1
  it.feed.twist = { reset: true }
  await it.blacklist.poll()

  assert.equal(it.counts.at(-1), 'updated')
  assert.deepEqual(it.warnings, [])
  for (const jti of ['a', 'b']) assert.deepEqual(it.blacklist.check(token({ jti })), revoked)
})

test('the end of an outage is told by the list that a reload has put in its place, too, and once', async () => {
  await using it = setup()
  it.answer = () => raw(503, '')
  await it.blacklist.poll()
  it.reload({ poll_interval: 1000 })
  await it.blacklist.poll()
  assert.deepEqual(it.warnings, ['blacklist_poll_failed'])

  it.reload({ poll_interval: 2000 })
  it.answer = undefined
  await it.blacklist.poll()
  it.reload({ poll_interval: 3000 })
  await it.blacklist.poll()

  assert.equal(it.events.filter((event) => event.startsWith('blacklist_recovered ')).length, 1)
})

test('a reload with another url takes the list from there, though its epoch has the same name, and keeps what was held', async () => {
  await using it = setup()
  it.revoke('a')
  it.revoke('b')
  await it.blacklist.poll()
  it.feed.entries = []
  it.feed.lastSeq = 0

  it.reload({ url: 'https://issuer.test/other' })
  it.revoke('c')
  await it.blacklist.poll()
  it.revoke('d')
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'updated'])
  for (const jti of ['a', 'b', 'c', 'd']) assert.deepEqual(it.blacklist.check(token({ jti })), revoked)
})

test('a reload with another url that fails is followed by one with the old url as if there had been none', async () => {
  await using it = setup()
  it.revoke('a')
  it.revoke('b')
  await it.blacklist.poll()
  it.reload({ url: 'https://issuer.test/other' })
  it.answer = () => raw(404, '')
  await it.blacklist.poll()
  it.answer = undefined
  it.feed.entries.shift()

  it.reload({ url: 'https://issuer.test/blacklist' })
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'unavailable', 'refused'])
})

test('blacklist.watch() tells of a list that was read whole what was not held before, inherited or not', async () => {
  await using it = await loaded()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  it.revoke('b')
  await it.blacklist.poll()
  it.reload({})
  const told: string[] = []
  it.blacklist.watch((change) => {
    if (change.kind !== 'unchanged') for (const { value } of change.entries) told.push(`${change.kind} ${value}`)
  })

  it.revoke('a')
  it.revoke('c')
  it.revoke('b', { expires_at: t0 + 7200 })
  await it.blacklist.poll()

  assert.deepEqual(told, ['replaced c', 'replaced b'])
})

test('blacklist.watch() tells nothing of the entries of the first list there is', async () => {
  await using it = setup()
  const told: number[] = []
  it.blacklist.watch((change) => {
    if (change.kind === 'replaced') told.push([...change.entries].length)
  })

  it.revoke('a')
  await it.blacklist.poll()

  assert.deepEqual(told, [0])
})
