import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { HttpCallFailed } from '../../src/io/http-client.ts'
import { parseBlacklistPage } from '../../src/spec/blacklist-feed.ts'
import { crowded, json, loaded, query, raw, revoked, setup, t0, token } from './feed-server.ts'

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
  {
    attack: 'a feed that always has more, moves, and lists nothing',
    twist: { more: true, cursor: '9', entries: [] },
  },
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

test('poll() refuses a first page with an entry at its own cursor: it would be asked for again and again', async () => {
  await using it = setup()
  it.feed.twist = { more: true, entries: [{ seq: 0, kind: 'jti', value: 'x', expires_at: t0 }] }

  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['refused'])
  assert.equal(it.calls.length, 1)
  const why = 'Cannot use the blacklist: an entry in it has the seq 0, wanted 1 or more'
  assert.equal(it.blacklist.state().failure, why)
})

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

const mebibyte = 1024 * 1024
test('poll() takes a page of 8 MiB, and refuses one of a byte more', async () => {
  await using it = await loaded()
  const page = JSON.stringify(honest)
  for (const bytes of [8 * mebibyte, 8 * mebibyte + 1]) {
    it.answer = () => json(page.padEnd(bytes))
    await it.blacklist.poll()
  }

  assert.deepEqual(it.counts, ['updated', 'updated', 'refused'])
})

test('poll() gives a page 8 MiB and two seconds, and check() a look-up 64 KiB and as long', async () => {
  await using it = await crowded()
  await it.blacklist.check(token({ jti: 'a' }))

  assert.deepEqual(it.limits, [
    { maxBodyBytes: 8 * mebibyte, deadlineMs: 2000 },
    { maxBodyBytes: 65_536, deadlineMs: 2000 },
  ])
})

test('poll() is unavailable when the network fails or the secret cannot be read, and resolves', async () => {
  await using it = await loaded()
  it.answer = () => Promise.reject(new Error('connect ECONNREFUSED'))
  await it.blacklist.poll()
  it.answer = undefined
  it.secret = () => {
    throw new Error('ENOENT')
  }
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'unavailable', 'unavailable'])
  assert.equal(it.calls.length, 2)
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
  assert.equal(it.blacklist.state().loaded, false)
})

test('poll() refuses a reset on a later page', async () => {
  await using it = await loaded()
  it.revoke('c')
  it.revoke('d')
  it.feed.pageSize = 1
  it.answer = (call) => {
    it.feed.twist = query(call, 'cursor') === '3' ? { reset: true } : {}
    return undefined
  }
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'refused'])
  assert.equal(it.blacklist.check(token({ jti: 'c' })), undefined)
})

test('poll() makes the first page alone conditional: of another the ETag says nothing', async () => {
  await using it = await loaded()
  await it.blacklist.poll()
  it.revoke('c')
  it.revoke('d')
  it.feed.pageSize = 1
  it.calls.length = 0
  await it.blacklist.poll()

  assert.deepEqual(
    it.calls.map((call) => [query(call, 'cursor'), call.headers?.['if-none-match']]),
    [
      ['2', 'W/"e1.2.2.2"'],
      ['3', undefined],
    ],
  )
})

const etags = [
  { etag: '"a"', sent: true },
  { etag: 'W/"a"', sent: true },
  { etag: '""', sent: true },
  { etag: `"${'a'.repeat(1022)}"`, sent: true },
  { etag: `"${'a'.repeat(1023)}"`, sent: false },
  { etag: 'a', sent: false },
  { etag: '"a', sent: false },
  { etag: 'w/"a"', sent: false },
  { etag: '"a b"', sent: false },
  { etag: '"a"b"', sent: false },
  { etag: '"é"', sent: false },
] as const
for (const { etag, sent } of etags) {
  test(`poll() sends ${sent ? '' : 'no '}ETag back that is ${etag.slice(0, 20)} of ${etag.length}`, async () => {
    await using it = await loaded()
    it.answer = () => json(honest, { etag })
    await it.blacklist.poll()
    await it.blacklist.poll()

    assert.deepEqual(it.counts, ['updated', 'updated', 'updated'])
    assert.equal(it.calls.at(-1)?.headers?.['if-none-match'], sent ? etag : undefined)
  })
}

const calls = [
  { kind: 'too_large', result: 'refused' },
  { kind: 'encoded', result: 'refused' },
  { kind: 'timeout', result: 'unavailable' },
  { kind: 'protocol', result: 'unavailable' },
] as const
for (const { kind, result } of calls) {
  test(`poll() is ${result} when the call fails as ${kind}`, async () => {
    await using it = await loaded()
    it.answer = () => Promise.reject(new HttpCallFailed(kind, `Cannot GET https://issuer.test: ${kind}`))
    await it.blacklist.poll()

    assert.deepEqual(it.counts, ['updated', result])
    assert.equal(it.blacklist.state().failure, `Cannot GET https://issuer.test: ${kind}`)
  })
}

test('poll() counts no entry that has run out for one that was taken off a whole list', async () => {
  await using it = await loaded()
  it.reload({ poll_interval: 1000 })
  it.feed.entries.length = 1
  it.revoke('over', { expires_at: t0 })
  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated', 'refused'])
  assert.deepEqual(it.blacklist.check(token({ jti: 'b' })), revoked)
})

/** Bytes in use, after a collection. */
function used(): number {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void // the flag makes it one
  gc()
  // Of what is outside of the heap the rest of the collection before.
  gc()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

test('poll() keeps nothing of what has no room while it reads on', async () => {
  await using it = setup({ cache_size: 10 })
  let heldAtEnd = 0
  it.answer = (call) => {
    const from = Number(query(call, 'cursor'))
    if (from === 20_000) heldAtEnd = used()
    const entries = Array.from({ length: 500 }, (_, at) => {
      const seq = from + at + 1
      return { seq, kind: 'jti', value: `${seq}`.padEnd(1000, 'x'), expires_at: t0 + 60 }
    })
    return json({ ...honest, more: from < 20_000, cursor: String(from + 500), entries })
  }
  const before = used()

  await it.blacklist.poll()

  assert.deepEqual(it.counts, ['updated'])
  assert.ok(heldAtEnd - before < 10_000_000, `${heldAtEnd - before}`)
})

test('poll() enforces at once what has run out by the clock of an issuer that is ahead', async () => {
  await using it = setup()
  it.revoke('a')
  it.feed.keptFor = 86_400
  it.feed.twist = { server_time: t0 + 7200 }

  await it.blacklist.poll()

  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
})

test('poll() keeps the values of entries, not the pages they stood in', async () => {
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
  const before = used()
  await it.blacklist.poll()

  assert.equal(it.blacklist.state().entries, 50)
  assert.ok(used() - before < 10_000_000)
})

test('poll() lets others run between pages of a hundred thousand entries', async () => {
  await using it = setup({ cache_size: 200_000 })
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
