import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { createHttpClient, HttpCallFailed } from '../../src/io/http-client.ts'
import { startHttpServer } from '../../src/io/http-server.ts'
import { blacklistOptions, createBlacklist } from '../../src/sources/blacklist.ts'
import { createTestLog } from '../support/log.ts'
import { until } from '../support/until.ts'
import { answerOf, loaded, query, raw, revoked, setup, t0, token } from './feed-server.ts'

test('check() is stale before the first load, and says what is revoked after it', async () => {
  await using it = setup()
  it.revoke('a')

  assert.equal(it.blacklist.state().loaded, false)
  assert.equal(it.blacklist.check(token({ jti: 'a' })), 'stale')
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().loaded, true)
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  assert.equal(it.blacklist.check(token({ jti: 'c' })), undefined)
})

test('poll() authenticates, asks from its cursor on, and enforces what is new', async () => {
  await using it = await loaded({ client_id: 'gate way' })
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
  await using it = setup({ url: 'https://issuer.test/list?realm=x', cache_size: 1 })
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

for (const values of [[], ['a']])
  test(`poll() asks for no condition after a failure, with ${values.length} entries: a 304 with a body would fail each time`, async () => {
    await using it = setup()
    for (const value of values) it.revoke(value)
    await it.blacklist.poll()
    await it.blacklist.poll()
    it.answer = (call) => {
      if (call.headers?.['if-none-match'] === undefined) return undefined
      throw new HttpCallFailed('protocol', 'Cannot GET it: HPE_INVALID_CONSTANT')
    }

    for (let at = 0; at < 3; at += 1) await it.blacklist.poll()

    assert.deepEqual(it.counts.slice(-3), ['unavailable', 'updated', 'unavailable'])
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

  assert.equal(it.blacklist.state().loaded, false)
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

const told: readonly { headers: Record<string, string>; skew: number; because: string }[] = [
  { headers: { date: 'Thu, 01 Jan 2026 00:00:00 GMT' }, skew: 90, because: 'it says its time' },
  { headers: {}, skew: 7, because: 'it says none, and an earlier one did' },
  { headers: { date: 'now' }, skew: 7, because: 'it says none that can be read' },
  { headers: { date: 'Thu, 99 Jan 2026 00:00:00 GMT' }, skew: 7, because: 'there is no such day' },
  { headers: { date: 'Thu, 01 Jan 2026 00:00:00 GMT', age: '90' }, skew: 7, because: 'a cache answers, of earlier' },
]
for (const { headers, skew, because } of told) {
  test(`blacklist.state() has a skew of ${skew} s after a 304 with ${JSON.stringify(headers)}: ${because}`, async () => {
    await using it = setup()
    it.clock.wallMs += 7000
    await it.blacklist.poll()
    assert.equal(it.blacklist.state().skewSeconds, 7)
    it.clock.wallMs += 83_000
    it.answer = () => raw(304, '', headers)
    await it.blacklist.poll()

    assert.deepEqual(it.counts, ['updated', 'unchanged'])
    assert.equal(it.blacklist.state().skewSeconds, skew)
  })
}

for (const status of [200, 304])
  for (const [age, ageS, because] of [
    ['0', 0, 'a cache has asked the issuer'],
    ['120', 120, 'it is as old as that'],
    ['250', 200, 'what was known before is younger'],
    ['soon', 0, 'it is no age'],
  ] as const)
    test(`blacklist.state() has an age of ${ageS} s after a ${status} with Age: ${age}, and 200 s after the poll before: ${because}`, async () => {
      await using it = await loaded()
      await it.blacklist.poll()
      it.pass(200_000)
      it.revoke('c')
      it.answer = (call) => {
        const { body } = answerOf(it.feed, call)
        return raw(status, status === 304 ? '' : body, { 'content-type': 'application/json', age })
      }
      await it.blacklist.poll()

      assert.deepEqual(it.counts, ['updated', 'updated', status === 304 ? 'unchanged' : 'updated'])
      assert.equal(it.blacklist.state().ageMs, ageS * 1000)
      assert.equal(it.blacklist.state().lastSuccessWallMs, it.clock.wallMs - ageS * 1000)
      if (status === 200) assert.equal(it.blacklist.state().skewSeconds, -Number.parseInt(age, 10) || 0)
    })

test('blacklist.state() has the age of the oldest page', async () => {
  await using it = setup()
  for (const value of ['a', 'b', 'c']) it.revoke(value)
  it.feed.pageSize = 1
  it.answer = (call) => {
    const { body } = answerOf(it.feed, call)
    const age: Record<string, string> = it.calls.length === 2 ? { age: '30' } : {}
    return raw(200, body, { 'content-type': 'application/json', ...age })
  }
  await it.blacklist.poll()

  assert.equal(it.calls.length, 3)
  assert.equal(it.blacklist.state().ageMs, 30_000)
})

test('blacklist.poll() refuses what a cache has held for longer than max_staleness, and asks caches for nothing', async () => {
  await using it = await loaded({ max_staleness: 300_000 })
  it.answer = (call) => {
    const { body } = answerOf(it.feed, call)
    return raw(200, body, { 'content-type': 'application/json', age: it.calls.length === 2 ? '300' : '301' })
  }
  for (let at = 0; at < 2; at += 1) await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'updated', 'refused'])
  assert.equal(
    it.blacklist.state().failure,
    'Cannot use the blacklist: a cache has held it for 301 s, wanted at most 300 s',
  )
  assert.ok(it.calls.every(({ headers }) => headers?.['cache-control'] === 'no-cache'))
})

test('blacklist.poll() says of a refusal what it says, however long a cache has held it', async () => {
  await using it = setup({ max_staleness: 300_000 })
  it.answer = () => raw(503, '', { age: '301' })

  await it.blacklist.poll()

  const why = 'Cannot read the blacklist at https://issuer.test/blacklist: status is 503, wanted 200'
  assert.deepEqual([it.counts, it.blacklist.state().failure], [['unavailable'], why])
})

test('blacklist.state() has its skew from Date after a 200, too: an issuer may forget by a clock that is behind', async () => {
  await using it = await loaded()
  it.feed.twist = { server_time: t0 - 3600 }
  it.answer = (call) => {
    const { status, body } = answerOf(it.feed, call)
    return raw(status, body, { 'content-type': 'application/json', date: 'Thu, 01 Jan 2026 00:00:00 GMT' })
  }

  it.revoke('b')
  await it.blacklist.poll()

  assert.deepEqual(it.blacklist.check(token({ jti: 'b' })), revoked)
  assert.equal(it.blacklist.state().skewSeconds, 0)
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

test('poll() measures no lag of entries that it loads with a whole list, of an issuer that begins anew, too', async () => {
  await using it = setup()
  it.revoke('a', { revoked_at: t0 - 500 })
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().lagSeconds, 0)
  assert.equal(it.blacklist.state().totalLive, 1)

  it.feed.epoch = 'e2'
  it.reload({ poll_interval: 1000 })
  await it.blacklist.poll()
  assert.equal(it.blacklist.state().lagSeconds, 0)
})

test('poll() measures the lag of the first entries of a list that was empty', async () => {
  await using it = setup()
  await it.blacklist.poll()

  it.revoke('c')
  it.pass(5000)
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().lagSeconds, 5)
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
  assert.equal(it.blacklist.state().loaded, false)
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
      client_id: 'gateway',
      wait: 0,
      poll_interval: 100,
      cache_size: 10,
      purge_delay: 0,
      max_staleness: 5000,
    },
    {
      clock: { wallMs: () => t0 * 1000, monotonicMs: () => performance.now() },
      random: () => 0.5,
      send: client.send,
      secret: () => 's3cret',
      log: createTestLog(),
      count: () => {},
    },
  )
  blacklist.start()
  try {
    await until(() => polls >= 2, 'two polls')
    assert.equal(blacklist.check(token({ jti: 'a' })), 'stale')
    down = false
    await until(() => blacklist.state().loaded, 'the list to load')
    assert.equal(blacklist.check(token({ jti: 'a' })), undefined)

    feed.entries.push({ seq: 1, kind: 'jti', value: 'a', expires_at: t0 + 60, cause: 'replay' })
    feed.lastSeq = 1
    const revokedMs = performance.now()
    const pollsBefore = polls
    await until(() => blacklist.check(token({ jti: 'a' })) !== undefined, 'the revocation to hold')
    // One may have been under way. The interval is 100 ms; the rest is the machine's.
    assert.ok(polls <= pollsBefore + 2)
    assert.ok(performance.now() - revokedMs < 2000)
  } finally {
    blacklist.close()
    client.close()
  }
  await wait(50)
  const seen = polls
  await wait(250)
  assert.equal(polls, seen)
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
