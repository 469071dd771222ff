import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { answerOf, crowded, foundByLookup, json, raw, revoked, setup, t0, token } from './feed-server.ts'

test('check() asks for a token that may be beyond cache_size, once, until the next good poll', async () => {
  await using it = await crowded()

  assert.equal(it.blacklist.state().entries, 2)
  assert.deepEqual(it.blacklist.check(token({ jti: 'c' })), revoked)
  const asked = [it.blacklist.check(token({ jti: 'a' })), it.blacklist.check(token({ jti: 'a' }))]
  assert.deepEqual(await Promise.all(asked), [foundByLookup, foundByLookup])
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), foundByLookup)
  assert.equal(await it.blacklist.check(token({ jti: 'z' })), undefined)
  assert.equal(it.blacklist.check(token({ jti: 'z' })), undefined)
  assert.equal(it.blacklist.check(token({ sub: 's' })), undefined)
  assert.equal(it.calls.length, 2)
  assert.equal(it.calls[0]?.body, '{"jti":"a"}')

  await it.blacklist.poll()
  assert.equal(await it.blacklist.check(token({ jti: 'z' })), undefined)
  assert.equal(it.calls.length, 4)
})

test('check() asks for what a poll brought beyond cache_size at once', async () => {
  await using it = setup({ cache_size: 2 })
  it.revoke('old', { expires_at: t0 + 10 })
  await it.blacklist.poll()
  it.pass(80_000)
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 0)

  for (const value of ['a', 'b', 'c']) it.revoke(value)
  await it.blacklist.poll()

  assert.deepEqual(await it.blacklist.check(token({ jti: 'a' })), foundByLookup)
})

test("check() asks for a restored issuer's own tokens rather than give up those it no longer knows", async () => {
  await using it = setup({ cache_size: 3 })
  for (const value of ['a', 'b']) it.revoke(value)
  await it.blacklist.poll()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  for (const value of ['c', 'd', 'e']) it.revoke(value)
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().entries, 3)
  for (const jti of ['a', 'b', 'e']) assert.deepEqual(it.blacklist.check(token({ jti })), revoked)
  assert.deepEqual(await it.blacklist.check(token({ jti: 'c' })), foundByLookup)
})

test('check() asks no more once what was beyond cache_size has run out', async () => {
  await using it = await crowded()
  it.pass(3_660_000)
  await it.blacklist.poll()
  it.calls.length = 0

  assert.equal(it.blacklist.check(token({ jti: 'z' })), undefined)
  assert.equal(it.calls.length, 0)
})

const lookupFailures = [
  { is: 'is 503', reply: raw(503, '') },
  { is: 'is "false" as a string', reply: json({ revoked: 'false', seq: 1 }) },
  { is: 'is no object', reply: json([false]) },
  { is: 'is HTML', reply: raw(200, 'false', { 'content-type': 'text/html' }) },
  { is: 'does not come', reply: undefined },
] as const
for (const { is, reply } of lookupFailures) {
  test(`check() is stale, never "not revoked", when the answer to a look-up ${is}; and asks again`, async () => {
    await using it = await crowded()
    it.answer = () => reply ?? Promise.reject(new Error('ECONNRESET'))

    assert.equal(await it.blacklist.check(token({ jti: 'z' })), 'stale')
    assert.equal(await it.blacklist.check(token({ jti: 'y' })), 'stale')
    assert.equal(it.events.filter((event) => event.startsWith('blacklist_lookup_failed')).length, 1)
    it.answer = undefined
    assert.equal(await it.blacklist.check(token({ jti: 'z' })), undefined)
  })
}

test('check() neither joins nor keeps a look-up that a poll has overtaken', { timeout: 10_000 }, async () => {
  await using it = await crowded()
  const held = Promise.withResolvers<void>()
  it.answer = async (call) => {
    const before = answerOf(it.feed, call)
    await held.promise
    return before
  }
  const early = it.blacklist.check(token({ jti: 'd' }))
  it.answer = undefined
  for (const value of ['d', 'e', 'f']) it.revoke(value)
  it.pass(1000)
  await it.blacklist.poll()

  assert.deepEqual(await it.blacklist.check(token({ jti: 'd' })), foundByLookup)
  held.resolve()
  assert.equal(await early, undefined, 'it asked before the revocation')
  assert.deepEqual(it.blacklist.check(token({ jti: 'd' })), foundByLookup)
})

test('check() finds what a poll has brought while it was asking', async () => {
  await using it = await crowded()
  const held = Promise.withResolvers<void>()
  it.answer = async (call) => {
    if (call.method === 'GET') return answerOf(it.feed, call)
    const before = answerOf(it.feed, call)
    await held.promise
    return before
  }
  const early = it.blacklist.check(token({ jti: 'd' }))
  it.revoke('d')
  it.pass(1000)
  await it.blacklist.poll()
  held.resolve()

  assert.deepEqual(await early, revoked, 'the poll has brought it meanwhile')
})

test('check() has no more look-ups under way than there are descriptors for', async () => {
  await using it = setup({ cache_size: 2, maxInFlight: 5 })
  for (const value of ['a', 'b', 'c']) it.revoke(value)
  await it.blacklist.poll()
  it.calls.length = 0
  it.answer = () => new Promise(() => {})

  for (let at = 0; at < 10; at += 1) void it.blacklist.check(token({ jti: `t${at}` }))

  assert.equal(it.calls.length, 5)
})

test('check() has 64 look-ups under way and 256 waiting; one more is stale at once', async () => {
  await using it = await crowded()
  const held = Promise.withResolvers<undefined>()
  it.answer = () => held.promise
  const asked = Array.from({ length: 320 }, (_, at) => it.blacklist.check(token({ jti: `t${at}` })))
  assert.equal(await it.blacklist.check(token({ jti: 'one more' })), 'stale')
  assert.equal(it.calls.length, 64)

  held.resolve(undefined)
  assert.deepEqual(new Set(await Promise.all(asked)), new Set([undefined]))
})

test('poll() puts every entry of a list into reach: in memory, or by look-up, whatever the size', async () => {
  await using it = setup({ cache_size: 500 })
  for (let at = 0; at < 2500; at += 1) it.revoke(`t${at}`)
  it.revoke('alice', { kind: 'sub' })
  for (let at = 2500; at < 3500; at += 1) it.revoke(`t${at}`)
  await it.blacklist.poll()

  assert.equal(it.calls.length, 4)
  assert.equal(it.blacklist.state().entries, 500)
  assert.deepEqual(it.blacklist.check(token({ sub: 'alice' })), { kind: 'sub', cause: 'owner' })
  for (const at of [0, 1, 999, 1000, 2999, 3000, 3001, 3499])
    assert.ok(await it.blacklist.check(token({ jti: `t${at}` })), `t${at}`)
})

test('check() refuses a token whose entry makes room for others of the same poll, whatever was answered before', async () => {
  await using it = setup({ cache_size: 10_000 })
  for (let at = 0; at < 6000; at += 1) it.revoke(`old${at}`)
  await it.blacklist.poll()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  // One more than there is room for beside what is inherited.
  for (let at = 0; at < 4001; at += 1) it.revoke(`new${at}`)
  await it.blacklist.poll()
  const bad = () => it.blacklist.check(token({ jti: 'bad' }))
  assert.equal(await bad(), undefined)

  // Where a slice ends, and four thousand entries before the end.
  for (let at = 1; at <= 10_000; at += 1) it.revoke(at === 5000 ? 'bad' : `later${at}`)
  let isPolled = false
  const poll = it.blacklist.poll().finally(() => {
    isPolled = true
  })
  const said: unknown[] = []
  while (!isPolled) {
    said.push(await bad())
    await nextTurn()
  }
  await poll

  const first = said.findIndex((each) => each !== undefined)
  assert.deepEqual(said[first], revoked)
  assert.equal(said.slice(first).includes(undefined), false)
  assert.deepEqual(await bad(), foundByLookup)
})
