import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import type { HttpCall } from '../../src/io/http-client.ts'
import { createHttpClient } from '../../src/io/http-client.ts'
import { startHttpServer } from '../../src/io/http-server.ts'
import { blacklistOptions, createBlacklist, nextPollAfterMs } from '../../src/sources/blacklist.ts'
import { parseBlacklistPage } from '../../src/spec/blacklist-feed.ts'
import type { Setup } from './feed-server.ts'
import { answerOf, json, raw, setup, t0, token } from './feed-server.ts'

const revoked = { kind: 'jti', cause: 'owner' }

/** A gateway that holds jti `a` and `b` after one good poll. */
async function loaded(options: Parameters<typeof setup>[0] = {}): Promise<Setup> {
  const it = setup(options)
  it.revoke('a')
  it.revoke('b')
  await it.blacklist.poll()
  assert.deepEqual(it.blacklist.check(token({ jti: 'b' })), revoked)
  return it
}

function query(call: HttpCall | undefined, name: string): string | null {
  return new URLSearchParams(call?.url.split('?')[1]).get(name)
}

test('check() is stale before the first load, and says what is revoked after it', async () => {
  await using it = setup()
  it.revoke('a')

  assert.equal(it.blacklist.loadedOnce, false)
  assert.equal(it.blacklist.check(token({ jti: 'a' })), 'stale')
  await it.blacklist.poll()

  assert.equal(it.blacklist.loadedOnce, true)
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  assert.equal(it.blacklist.check(token({ jti: 'c' })), undefined)
})

test('poll() authenticates, asks from its cursor on, and enforces what is new', async () => {
  await using it = await loaded({ clientId: 'gate way' })
  it.revoke('alice', { kind: 'sub', issued_before: t0 - 1 })
  await it.blacklist.poll()

  assert.equal(it.calls[0]?.headers?.['authorization'], `Basic ${Buffer.from('gate+way:s3cret').toString('base64')}`)
  assert.deepEqual(
    it.calls.map((call) => query(call, 'cursor')),
    ['0', '2'],
  )
  assert.equal(query(it.calls[0], 'limit'), '1000')
  assert.deepEqual(it.blacklist.check(token({ sub: 'alice', iat: t0 - 1 })), { kind: 'sub', cause: 'owner' })
  assert.equal(it.blacklist.check(token({ sub: 'alice', iat: t0 })), undefined)
})

test('poll() keeps the query of a feed URL, for look-ups too', async () => {
  await using it = setup({ url: 'https://issuer.test/list?realm=x', cacheSize: 1 })
  it.revoke('a')
  it.revoke('b')
  await it.blacklist.poll()
  await it.blacklist.check(token({ jti: 'a' }))

  assert.match(it.calls[0]?.url ?? '', /^https:\/\/issuer\.test\/list\?realm=x&cursor=0&limit=1000$/)
  assert.equal(it.calls[1]?.url, 'https://issuer.test/list/lookup?realm=x')
})

test('poll() sends the ETag of the same request before, and takes 304 as a good poll', async () => {
  await using it = await loaded()
  await it.blacklist.poll()
  it.pass(60_000)
  await it.blacklist.poll()

  assert.deepEqual(
    it.calls.map(({ headers }) => headers?.['if-none-match']),
    [undefined, undefined, 'W/"e1.2.2.2"'],
  )
  assert.deepEqual(it.counts, ['updated', 'updated', 'unchanged'])
  assert.equal(it.blacklist.state().ageMs, 0)
})

test('poll() runs once for all who ask at the same time', async () => {
  await using it = setup()

  await Promise.all([it.blacklist.poll(), it.blacklist.poll()])

  assert.equal(it.calls.length, 1)
})

test('poll() counts a first load only when its last page is in', async () => {
  await using it = setup()
  for (const value of ['a', 'b', 'c']) it.revoke(value)
  it.feed.pageSize = 1
  it.answer = (call) => {
    if (query(call, 'cursor') === '1') assert.equal(it.blacklist.check(token({ jti: 'a' })), 'stale')
    return query(call, 'cursor') === '2' ? raw(503, '') : undefined
  }
  await it.blacklist.poll()

  assert.equal(it.blacklist.loadedOnce, false)
  assert.deepEqual(it.counts, ['unavailable'])
  it.answer = undefined
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 3)
})

test('poll() applies changes only when the last of their pages is in', async () => {
  await using it = await loaded()
  it.revoke('c')
  it.revoke('d')
  it.feed.pageSize = 1
  it.answer = (call) => (query(call, 'cursor') === '3' ? raw(500, '') : undefined)
  await it.blacklist.poll()
  assert.equal(it.blacklist.check(token({ jti: 'c' })), undefined)

  it.answer = undefined
  await it.blacklist.poll()
  assert.deepEqual(it.blacklist.check(token({ jti: 'd' })), revoked)
})

const twists = [
  { attack: 'a rolled back cursor', twist: { cursor: '1' } },
  {
    attack: 'an old entry, played again',
    twist: { entries: [{ seq: 2, kind: 'jti', value: 'x', expires_at: t0 + 9 }], cursor: '2' },
  },
  {
    attack: 'entries out of order',
    twist: { entries: [4, 3].map((seq) => ({ seq, kind: 'jti', value: 'x', expires_at: t0 })), cursor: '4' },
  },
  {
    attack: 'a kind we cannot enforce',
    twist: { entries: [{ seq: 3, kind: 'ip', value: 'x', expires_at: t0 }], cursor: '3' },
  },
  { attack: 'a feed that always has more and does not move', twist: { more: true } },
  { attack: 'a total that is no number', twist: { total_live: '2' } },
  { attack: 'no entries', twist: { entries: undefined } },
] as const
for (const { attack, twist } of twists) {
  test(`poll() refuses ${attack}: the last good list stays, and ages`, async () => {
    await using it = await loaded()
    it.pass(299_000)
    it.feed.twist = twist
    await it.blacklist.poll()

    assert.deepEqual(it.counts, ['updated', 'refused'])
    assert.equal(it.calls.length, 2)
    assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
    assert.equal(it.blacklist.check(token({ jti: 'x' })), undefined)
    it.pass(1001)
    assert.equal(it.blacklist.check(token({ jti: 'x' })), 'stale')
    it.feed.twist = {}
    await it.blacklist.poll()
    assert.equal(it.blacklist.check(token({ jti: 'x' })), undefined)
  })
}

const honest = { epoch: 'e1', cursor: '2', more: false, server_time: t0, total_live: 2, reset: false, entries: [] }
const bodies = [
  { is: 'is HTML', result: 'refused', reply: raw(200, '<html>', { 'content-type': 'text/html' }) },
  { is: 'is JSON that says it is HTML', result: 'refused', reply: json(honest, { 'content-type': 'text/html' }) },
  { is: 'has no type', result: 'refused', reply: raw(200, JSON.stringify(honest)) },
  { is: 'is empty', result: 'refused', reply: json('') },
  { is: 'is cut off', result: 'refused', reply: json(JSON.stringify(honest).slice(0, -1)) },
  { is: 'has a name twice', result: 'refused', reply: json(JSON.stringify(honest).replace('{', '{"epoch":"e2",')) },
  { is: 'is over 8 MiB', result: 'refused', reply: json(JSON.stringify(honest) + ' '.repeat(8 * 1024 * 1024)) },
  { is: 'is 304 to an unconditional request', result: 'unavailable', reply: raw(304, '') },
  { is: 'is 204', result: 'unavailable', reply: raw(204, '') },
  { is: 'is 401', result: 'unavailable', reply: raw(401, '') },
  { is: 'is a redirect', result: 'unavailable', reply: raw(302, '', { location: 'https://evil.test/' }) },
  { is: 'is 500 with a good list', result: 'unavailable', reply: { ...json(honest), status: 500 } },
] as const
for (const { is, result, reply } of bodies) {
  test(`poll() is ${result} when the answer ${is}, and revives nothing`, async () => {
    await using it = await loaded()
    it.answer = () => reply
    await it.blacklist.poll()

    assert.deepEqual(it.counts, ['updated', result])
    assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
    assert.doesNotMatch(it.events.join(), /s3cret|Z2F0ZXdheTpzM2NyZXQ/)
  })
}

test('poll() is unavailable when the network fails or the secret cannot be read, and resolves', async () => {
  await using it = await loaded()
  it.answer = () => Promise.reject(new Error('connect ECONNREFUSED'))

  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'unavailable'])
})

test('poll() refuses an epoch that changes from page to page', async () => {
  await using it = setup()
  for (const value of ['a', 'b']) it.revoke(value)
  it.feed.pageSize = 1
  it.answer = (call) => {
    it.feed.epoch = query(call, 'cursor') === '0' ? 'e1' : 'e2'
    return undefined
  }
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['refused'])
  assert.equal(it.blacklist.loadedOnce, false)
})

test('poll() refuses a complete list of the same epoch with fewer live entries: entry removal', async () => {
  await using it = await loaded()
  // A count that does not add up makes us read the whole list again.
  it.feed.twist = { total_live: 5 }
  await it.blacklist.poll()
  it.feed.twist = {}
  it.feed.entries.shift()
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'refused'])
  assert.equal(query(it.calls.at(-1), 'cursor'), '0')
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
})

test('poll() takes a complete list of the same epoch with fewer entries once the others have expired', async () => {
  await using it = setup()
  it.revoke('a')
  it.revoke('old', { expires_at: t0 + 10 })
  await it.blacklist.poll()
  it.feed.twist = { total_live: 5 }
  await it.blacklist.poll()
  it.feed.twist = {}
  it.pass(71_000)
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'updated'])
  assert.equal(it.blacklist.state().entries, 1)
  assert.equal(it.blacklist.state().lookups, false)
  it.revoke('c')
  await it.blacklist.poll()
  assert.equal(query(it.calls.at(-1), 'cursor'), '2', 'the cursor does not go back to the last live entry')
})

test('poll() asks for tokens one by one when the issuer counts entries it never delivered, and reads all again', async () => {
  await using it = await loaded()
  it.revoke('lost')
  // A replica that had not seen seq 3 yet told us of seq 4 first.
  const lost = it.feed.entries.pop()
  it.revoke('d')
  await it.blacklist.poll()
  assert.ok(lost)
  it.feed.entries.splice(2, 0, lost)
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().lookups, true)
  assert.deepEqual(await it.blacklist.check(token({ jti: 'lost' })), { kind: 'jti', cause: 'admin' })
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().lookups, false)
  assert.deepEqual(it.blacklist.check(token({ jti: 'lost' })), revoked)
})

const restarts = [
  { is: 'a new epoch', change: { epoch: 'e2' } },
  { is: 'a new epoch that is behind', change: { epoch: 'e2', lastSeq: 1 } },
  { is: 'the same epoch that is behind (reset)', change: { lastSeq: 0 } },
] as const
for (const { is, change } of restarts) {
  test(`poll() keeps what it held beside a restored issuer's list: ${is}`, async () => {
    await using it = await loaded()
    it.feed.entries = []
    Object.assign(it.feed, change)
    it.revoke('c')
    await it.blacklist.poll()

    assert.equal(it.counts.at(-1), 'updated')
    assert.equal(query(it.calls.at(-1), 'cursor'), '0', 'the answer to an old cursor may be a part')
    for (const jti of ['a', 'b', 'c']) assert.deepEqual(it.blacklist.check(token({ jti })), revoked)
    assert.equal(it.blacklist.state().entries, 3)
  })
}

test('poll() goes on after a restored issuer with an empty list, and drops what it kept when that runs out', async () => {
  await using it = await loaded()
  Object.assign(it.feed, { epoch: 'e2', entries: [], lastSeq: 0 })
  await it.blacklist.poll()
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'unchanged'])
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  it.pass(3_660_000)
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 0)
})

test('poll() keeps the union over a second restore', async () => {
  await using it = await loaded()
  for (const epoch of ['e2', 'e3']) {
    Object.assign(it.feed, { epoch, entries: [], lastSeq: 0 })
    it.revoke(`only in ${epoch}`)
    await it.blacklist.poll()
  }

  for (const jti of ['a', 'only in e2', 'only in e3']) assert.deepEqual(it.blacklist.check(token({ jti })), revoked)
})

test('poll() swaps a new epoch in only when its last page is in', async () => {
  await using it = await loaded()
  Object.assign(it.feed, { epoch: 'e2', pageSize: 1 })
  it.revoke('c')
  it.answer = (call) => (query(call, 'cursor') === '1' ? raw(503, '') : undefined)
  await it.blacklist.poll()

  assert.equal(it.blacklist.check(token({ jti: 'c' })), undefined)
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  it.answer = undefined
  await it.blacklist.poll()
  assert.deepEqual(it.blacklist.check(token({ jti: 'c' })), revoked)
})

test('poll() forgets an entry at its expiry and purge delay: 6000 s and 1 min are 101 minutes', async () => {
  await using it = setup()
  it.revoke('a', { expires_at: t0 + 6000 })
  await it.blacklist.poll()
  it.pass(101 * 60_000 - 1)
  it.answer = () => raw(503, '')
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 1)
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)

  it.pass(1)
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().entries, 0)
})

test('poll() forgets nothing when the wall clock jumps: the issuer counts the time as well', async () => {
  await using it = await loaded()
  it.clock.wallMs += 365 * 86_400_000
  await it.blacklist.poll()
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)

  it.clock.wallMs = 0
  await it.blacklist.poll()
  it.pass(60_000)
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
})

test("poll() forgets nothing when the issuer's clock jumps: ours counts as well", async () => {
  await using it = await loaded()
  it.feed.twist = { server_time: t0 + 365 * 86_400 }
  await it.blacklist.poll()

  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  assert.equal(it.blacklist.state().skewSeconds, -365 * 86_400)
})

test('check() counts the age from the start of the last good poll, on the clock that does not jump', async () => {
  await using it = setup()
  it.revoke('a')
  it.answer = () => {
    it.pass(10_000)
    return undefined
  }
  await it.blacklist.poll()
  it.clock.wallMs += 86_400_000
  it.pass(290_000)
  assert.equal(it.blacklist.state().ageMs, 300_000)
  assert.equal(it.blacklist.check(token({ jti: 'c' })), undefined)

  it.pass(1)
  assert.equal(it.blacklist.check(token({ jti: 'c' })), 'stale')
  assert.equal(it.blacklist.state().stale, true)
  // Known to be revoked, whatever the operator lets pass on a stale list.
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
})

test('poll() measures the lag of new entries, and not of a first load', async () => {
  await using it = await loaded()
  assert.equal(it.blacklist.state().lagSeconds, 0)

  it.revoke('c')
  it.pass(7000)
  it.revoke('d')
  it.pass(2000)
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().lagSeconds, 9)
})

/** A gateway with room for two of three entries: `a` is not in memory. */
async function crowded(): Promise<Setup> {
  const it = setup({ cacheSize: 2 })
  for (const value of ['a', 'b', 'c']) it.revoke(value)
  await it.blacklist.poll()
  it.calls.length = 0
  return it
}

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
const foundByLookup = { kind: 'jti', cause: 'admin' }

test('check() asks for what a poll brought beyond cache_size at once', async () => {
  await using it = setup({ cacheSize: 2 })
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
  await using it = setup({ cacheSize: 3 })
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

test('check() neither joins nor keeps a look-up that a poll has overtaken', async () => {
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
  await using it = setup({ cacheSize: 500 })
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

test('poll() keeps the values of entries, not the pages they stood in', async () => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  await using it = setup()
  it.answer = (call) => {
    const seq = Number(query(call, 'cursor')) + 1
    const entry = {
      seq,
      kind: 'jti',
      value: `0f8fad5b-d9cb-469f-a165-${seq}`,
      expires_at: t0 + 60,
      note: 'x'.repeat(1e6),
    }
    return json({ ...honest, more: seq < 50, cursor: String(seq), entries: [entry] })
  }
  const used = () => {
    gc()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const before = used()
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().entries, 50)
  assert.ok(used() - before < 10_000_000)
})

test('close() ends a load between two pages', async () => {
  await using it = setup()
  for (const value of ['a', 'b', 'c']) it.revoke(value)
  it.feed.pageSize = 1
  it.answer = (call) => {
    if (query(call, 'cursor') === '1') it.blacklist.close()
    return undefined
  }
  await it.blacklist.poll()

  assert.equal(it.calls.length, 2)
  assert.equal(it.blacklist.loadedOnce, false)
})

test('poll() lets others run between pages of a hundred thousand entries', async () => {
  await using it = setup({ cacheSize: 200_000 })
  for (let at = 0; at < 100_000; at += 1) it.revoke(`t${at}`)
  const { entries } = it.feed
  // Cheap pages: what is timed is the reader.
  it.answer = (call) => {
    const from = Number(query(call, 'cursor'))
    const page = { ...honest, server_time: t0, total_live: 100_000, more: from + 1000 < 100_000 }
    return json({ ...page, cursor: String(from + 1000), entries: entries.slice(from, from + 1000) })
  }
  let turns = 0
  const turn = setInterval(() => {
    turns += 1
  }, 0)
  await it.blacklist.poll()
  clearInterval(turn)

  assert.equal(it.blacklist.state().entries, 100_000)
  assert.equal(it.calls.length, 100)
  assert.ok(turns > 50, `${turns}`)
})

test('nextPollAfterMs() is at most the interval: jitter only shortens, failures retry sooner', () => {
  const draw = (random: number) => () => random

  assert.equal(nextPollAfterMs(60_000, 0, draw(0)), 60_000)
  assert.equal(nextPollAfterMs(60_000, 0, draw(1)), 54_000)
  assert.deepEqual(
    [1, 2, 3, 7, 2000].map((failures) => nextPollAfterMs(60_000, failures, draw(0))),
    [1000, 2000, 4000, 60_000, 60_000],
  )
  assert.equal(nextPollAfterMs(100, 5, draw(0)), 100)
})

test('start() polls over sockets until closed, through failures, and a revocation holds within interval and fetch', async () => {
  let down = true
  const feed = setup().feed
  let polls = 0
  await using server = await startHttpServer(
    { host: '127.0.0.1', port: 0, maxBodyBytes: 1000 },
    {
      handle: ({ method, path, query, headers, body }) => {
        polls += 1
        if (down) return { status: 503 }
        const condition = headers.get('if-none-match')?.[0]
        const reply = answerOf(feed, {
          method: method === 'POST' ? 'POST' : 'GET',
          url: `${path}?${query}`,
          headers: condition === undefined ? {} : { 'if-none-match': condition },
          body: body.toString(),
        })
        const etag = reply.header('etag')
        return {
          status: reply.status,
          headers: { 'content-type': 'application/json', ...(etag && { etag }) },
          body: reply.body,
        }
      },
    },
  )
  const client = createHttpClient({})
  const blacklist = createBlacklist(
    {
      issuer: 'https://issuer.test',
      url: `http://127.0.0.1:${server.port}/blacklist`,
      clientId: 'gateway',
      pollIntervalMs: 100,
      cacheSize: 10,
      purgeDelayMs: 0,
      maxStalenessMs: 5000,
    },
    {
      clock: { wallMs: () => t0 * 1000, monotonicMs: () => performance.now() },
      random: () => 0.5,
      send: client.send,
      secret: () => 's3cret',
      log: () => {},
      count: () => {},
    },
  )
  blacklist.start()
  try {
    await until(() => polls >= 2)
    assert.equal(blacklist.check(token({ jti: 'a' })), 'stale')
    down = false
    await until(() => blacklist.loadedOnce)
    assert.equal(blacklist.check(token({ jti: 'a' })), undefined)

    feed.entries.push({ seq: 1, kind: 'jti', value: 'a', expires_at: t0 + 60, cause: 'replay' })
    feed.lastSeq = 1
    const revokedMs = performance.now()
    await until(() => blacklist.check(token({ jti: 'a' })) !== undefined)
    assert.ok(performance.now() - revokedMs < 100 + 250)
  } finally {
    blacklist.close()
    client.close()
  }
  await wait(50)
  const seen = polls
  await wait(250)
  assert.equal(polls, seen)
})

async function until(holds: () => boolean): Promise<void> {
  const endMs = performance.now() + 5000
  while (!holds()) {
    assert.ok(performance.now() < endMs, 'not within 5 s')
    await wait(5)
  }
}

test('parseBlacklistPage() never throws, and never takes a page with an entry it cannot enforce', () => {
  const entry = fc.record(
    {
      seq: fc.oneof(fc.nat(5), fc.jsonValue()),
      kind: fc.oneof(fc.constantFrom('jti', 'sub', 'issued_before'), fc.jsonValue()),
      value: fc.oneof(fc.constantFrom('x', '*', ''), fc.jsonValue()),
      issued_before: fc.oneof(fc.nat(), fc.jsonValue()),
      expires_at: fc.oneof(fc.nat(), fc.jsonValue()),
    },
    { requiredKeys: [] },
  )
  const page = fc.record(
    {
      epoch: fc.oneof(fc.constant('e'), fc.jsonValue()),
      cursor: fc.oneof(fc.constantFrom('0', '5', '-1', '1e3'), fc.jsonValue()),
      more: fc.oneof(fc.boolean(), fc.jsonValue()),
      server_time: fc.oneof(fc.nat(), fc.jsonValue()),
      total_live: fc.oneof(fc.nat(), fc.jsonValue()),
      entries: fc.oneof(fc.array(entry, { maxLength: 3 }), fc.jsonValue()),
    },
    { requiredKeys: ['epoch', 'cursor', 'more', 'server_time', 'total_live', 'entries'] },
  )
  fc.assert(
    fc.property(fc.oneof(page, fc.jsonValue()), (body) => {
      const read = parseBlacklistPage(body as Parameters<typeof parseBlacklistPage>[0])
      if (typeof read === 'string') return
      const sent = (body as { entries: unknown[] }).entries
      assert.equal(read.entries.length, sent.length)
      for (const { value, expires_at } of read.entries) assert.ok(value !== '' && Number.isFinite(expires_at))
    }),
    { numRuns: 500 },
  )
})

test('poll() with any bytes at all for an answer revives nothing and never rejects', async () => {
  await using it = await loaded()
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.json()), async (body) => {
      it.answer = () => raw(200, Buffer.from(body as string), { 'content-type': 'application/json' })
      await it.blacklist.poll()
      assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
    }),
  )
})

const suite = join(import.meta.dirname, '../../../shared/vectors/jsontestsuite/cases.json')
const absent = !existsSync(suite) && process.env['CI'] !== 'true' ? 'JSONTestSuite is not here' : false
test('poll() with any body of JSONTestSuite leaves what is held as it is', { skip: absent }, async () => {
  const { cases } = JSON.parse(readFileSync(suite, 'utf8')) as { cases: { name: string; b64: string }[] }
  assert.ok(cases.length > 300)
  await using it = await loaded()
  const { entries } = it.blacklist.state()
  for (const { name, b64 } of cases) {
    it.answer = () => raw(200, Buffer.from(b64, 'base64'), { 'content-type': 'application/json' })
    await it.blacklist.poll()
    assert.equal(it.counts.at(-1), 'refused', name)
    assert.equal(it.blacklist.state().entries, entries, name)
    assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked, name)
  }
})

test('blacklistOptions fills in its defaults, and refuses what is beyond a bound', () => {
  assert.deepEqual(blacklistOptions.parse({}), {
    poll_interval: 60_000,
    cache_size: 10_000,
    purge_delay: 60_000,
    max_staleness: 300_000,
    on_stale: 'deny',
  })
  assert.equal(blacklistOptions.parse({ cache_size: 5_000_000, poll_interval: '100ms' }).poll_interval, 100)
  for (const wrong of [
    { cache_size: 0 },
    { cache_size: 5_000_001 },
    { poll_interval: '99ms' },
    { poll_interval: '61m' },
    { max_staleness: '25h' },
    { purge_delay: '25h' },
    { on_stale: 'ignore' },
    { local: {} },
    { ttl: '1m' },
  ])
    assert.equal(blacklistOptions.safeParse(wrong).success, false, JSON.stringify(wrong))
})
