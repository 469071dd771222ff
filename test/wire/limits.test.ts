// Every limit of a client's connection (security.md §4.1), at the limit and one past it. Times are small, and asserted
// only on the side that matters: what is within its time is served, and what is past it ends.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { valuesOf } from '../support/strict-reader.ts'
import { until } from '../support/until.ts'
import type { Connection, Next } from './line.ts'
import { openConnection, reasonOf } from './line.ts'
import { openScripted, openWorldBefore } from './scripted-upstream.ts'
import type { WireWorld } from './world.ts'
import { openWireWorld } from './world.ts'

const openWith = (limits: Readonly<Record<string, unknown>>): Promise<WireWorld> => openWireWorld({ more: { limits } })
const get = (lines = '', target = '/open/a') => `GET ${target} HTTP/1.1\r\nHost: a.test\r\n${lines}\r\n`
const hostLine = 'Host: a.test\r\n'.length
const outcome = (next: Next) =>
  next.kind === 'answer'
    ? `${next.answer.status} ${reasonOf(next.answer)}`
    : `${next.kind} ${JSON.stringify(next.rest)}`

/** What becomes of one request on a connection of its own, sent whole and in two halves: the same. */
async function became({ port }: WireWorld, bytes: string): Promise<string> {
  const seen: string[] = []
  for (const cuts of [[], [Math.floor(bytes.length / 2)], [bytes.length - 1]]) {
    using connection = await openConnection(port)
    await connection.write(bytes, cuts)
    seen.push(outcome(await connection.next()))
  }
  assert.equal(new Set(seen).size, 1, `whole and in halves: ${seen.join(', ')}`)
  return seen[0] ?? ''
}

const heads: readonly {
  readonly name: string
  readonly limits: Readonly<Record<string, number>>
  /** A request that costs this much of what is limited. */
  readonly costing: (much: number) => string
  readonly most: number
  readonly refused: string
}[] = [
  {
    name: 'target',
    limits: { target: 200 },
    costing: (much) => get('', `/open/${'a'.repeat(much - 6)}`),
    most: 200,
    refused: '414 too_large',
  },
  {
    name: 'target, its query counted',
    limits: { target: 200 },
    costing: (much) => get('', `/open/a?${'q'.repeat(much - 8)}`),
    most: 200,
    refused: '414 too_large',
  },
  {
    name: 'target over its default',
    limits: { target: 20_000 },
    costing: (much) => get('', `/open/${'a'.repeat(much - 6)}`),
    most: 20_000,
    refused: '414 too_large',
  },
  {
    name: 'header_bytes',
    limits: { header_bytes: 500 },
    costing: (much) => get(`X-A: ${'a'.repeat(100)}\r\nX-B: ${'b'.repeat(much - hostLine - 107 - 7)}\r\n`),
    most: 500,
    refused: '431 too_large',
  },
  {
    name: 'header_bytes by default',
    limits: {},
    costing: (much) => get(`X-A: ${'a'.repeat(10_000)}\r\nX-B: ${'b'.repeat(much - hostLine - 10_007 - 7)}\r\n`),
    most: 16_384,
    refused: '431 too_large',
  },
  {
    name: 'headers',
    limits: { headers: 7 },
    costing: (much) => get('X-A: b\r\n'.repeat(much - 1)),
    most: 7,
    refused: '431 too_large',
  },
  {
    name: 'header',
    limits: { header: 60 },
    costing: (much) => get(`X-A: \t ${'a'.repeat(much - 3)} \r\n`),
    most: 60,
    refused: '431 too_large',
  },
  {
    name: 'header, by its name',
    limits: { header: 60 },
    costing: (much) => get(`${'X'.repeat(much - 1)}: a\r\n`),
    most: 60,
    refused: '431 too_large',
  },
]
for (const { name, limits, costing, most, refused } of heads)
  test(`limits.${name}: ${most} pass, one more is ${refused}, and much more too`, async () => {
    await using wire = await openWith(limits)

    assert.equal(await became(wire, costing(most)), '200 ok')
    assert.equal(await became(wire, costing(most + 1)), refused)
    assert.equal(await became(wire, costing(most * 40)), refused)
    wire.recorder.assertClean()
    assert.equal(wire.recorder.heads(), 3)
  })

test('a head over its limits is refused before its end, and what comes behind it is not read for ever', async () => {
  await using wire = await openWith({ target: 200, header_bytes: 500 })

  for (const [bytes, wanted] of [
    [`GET /open/${'a'.repeat(1000)}`, '414 too_large'],
    [`GET /open/a HTTP/1.1\r\nHost: a.test\r\nX-A: ${'a'.repeat(1000)}`, '431 too_large'],
  ] as const) {
    using connection = await openConnection(wire.port)
    await connection.write(bytes)
    assert.equal(outcome(await connection.next()), wanted)
    assert.equal((await connection.next()).kind, 'closed')
  }
})

const chunkedHead = 'POST /open/a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n'
const chunked = (line: string, trailers = '') => `${chunkedHead}${line}\r\nhello\r\n0\r\n${trailers}\r\n`
const fourThousand = `X-A: ${'a'.repeat(4000)}\r\n`
const malformed = '400 request_malformed'
const bodies = [
  { name: 'a chunk extension', at: chunked(`5;${'a'.repeat(252)}`), past: chunked(`5;${'a'.repeat(253)}`) },
  { name: 'the digits of a size', at: chunked('000000000005'), past: chunked('0000000000005') },
  {
    name: 'white space around an extension',
    at: chunked(`5 \t;${' '.repeat(250)}`),
    past: chunked(`5 \t;${' '.repeat(251)}`),
  },
  {
    name: 'the extension of the last chunk',
    at: `${chunkedHead}0;${'a'.repeat(252)}\r\n\r\n`,
    past: `${chunkedHead}0;${'a'.repeat(253)}\r\n\r\n`,
  },
  { name: 'trailers', at: chunked('5', 'X-A: b\r\n'.repeat(50)), past: chunked('5', 'X-A: b\r\n'.repeat(51)) },
  {
    name: 'a trailer',
    at: chunked('5', `X-A: ${'a'.repeat(4093)}\r\n`),
    past: chunked('5', `X-A: ${'a'.repeat(4094)}\r\n`),
  },
  {
    name: 'the bytes of trailers',
    at: chunked('5', `${fourThousand.repeat(2)}X-B: ${'b'.repeat(8192 - 8014 - 7)}\r\n`),
    past: chunked('5', `${fourThousand.repeat(2)}X-B: ${'b'.repeat(8192 - 8014 - 6)}\r\n`),
  },
] as const
for (const { name, at, past } of bodies)
  test(`${name} has a length: at it the body passes, one past it is 400 and never whole at the upstream`, async () => {
    await using wire = await openWith({})

    assert.equal(await became(wire, at), '200 ok')
    const before = wire.recorder.count()
    assert.equal(await became(wire, past), malformed)
    assert.equal(wire.recorder.count(), before)
    wire.recorder.assertClean()
  })

test('an unread body of 64 KiB is put up with after a denial, one of a byte more ends the connection', async () => {
  await using wire = await openWith({})
  const denied = (length: number) => `POST /orders/7 HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${length}\r\n\r\n`
  using stays = await openConnection(wire.port)
  using ends = await openConnection(wire.port)

  await stays.write(denied(65_536))
  await ends.write(denied(65_537))

  const [kept, last] = [await stays.next(), await ends.next()]
  assert.deepEqual([outcome(kept), outcome(last)], ['401 token_missing', '401 token_missing'])
  assert.deepEqual([kept, last].map(isLast), [false, true])
  await stays.write('x'.repeat(65_536) + get())
  assert.equal(outcome(await stays.next()), '200 ok')
  assert.equal((await ends.next()).kind, 'closed')
})

function isLast(next: Next): boolean {
  return next.kind === 'answer' && valuesOf(next.answer, 'connection').includes('close')
}

test('limits.requests_per_connection: the last answer says so, and what comes behind it is not served', async () => {
  await using wire = await openWith({ requests_per_connection: 3 })
  using connection = await openConnection(wire.port)

  await connection.write(get().repeat(4))

  const answers = [await connection.next(), await connection.next(), await connection.next()]
  assert.deepEqual(answers.map(isLast), [false, false, true])
  assert.equal(outcome(await connection.next()), 'closed ""')
  assert.equal(wire.recorder.count(), 3)
})

test('limits.connections: one too many is dropped without a byte, and takes no place', async () => {
  await using wire = await openWith({ connections: 3 })
  const held = await Promise.all([1, 2, 3].map(() => openConnection(wire.port)))
  for (const connection of held) assert.equal(await served(connection), '200 ok')

  for (let at = 0; at < 5; at += 1) {
    using more = await openConnection(wire.port)
    assert.equal((await more.next()).kind, 'closed')
  }

  assert.equal(wire.world.count('postern_connections_dropped_total{listener="proxy",cause="limit"}'), 5)
  for (const connection of held) assert.equal(await served(connection), '200 ok')
  held[0]?.socket.destroy()
  await until(() => wire.world.count('postern_connections{listener="proxy"}') === 2, 'a place to be free')
  using another = await openConnection(wire.port)
  assert.equal(await served(another), '200 ok')
  for (const connection of held) connection.socket.destroy()
})

async function served(connection: Connection): Promise<string> {
  await connection.write(get())
  return outcome(await connection.next())
}

/** How long it takes until a connection ends; nothing may come on it meanwhile. */
async function endsAfter(connection: Connection, sinceMs: number): Promise<number> {
  assert.equal(outcome(await connection.next()), 'closed ""')
  return performance.now() - sinceMs
}

// Timers are looked at now and then (at most 2 s, security.md §4.1), and this machine may be busy.
const lateMs = 2500
const soon = 600

function assertAfter(tookMs: number, leastMs: number, what: string): void {
  assert.ok(tookMs >= leastMs - 20 && tookMs < leastMs + lateMs, `${what} ended after ${tookMs} ms`)
}

test('limits.head_timeout ends a connection that says nothing, half a head, or one byte now and then', async () => {
  await using wire = await openWith({ head_timeout: `${soon}ms` })
  using silent = await openConnection(wire.port)
  using half = await openConnection(wire.port)
  using drips = await openConnection(wire.port)
  using inTime = await openConnection(wire.port)
  const sinceMs = performance.now()
  await half.write('GET /open/a HT')
  await inTime.write('GET /open/a HT')
  let at = 0
  const drip = setInterval(() => {
    void drips.write(get()[at] ?? '')
    at += 1
  }, 150)
  drip.unref()

  await wait(soon / 2)
  await inTime.write(get().slice('GET /open/a HT'.length))
  const took = await Promise.all([silent, half, drips].map((each) => endsAfter(each, sinceMs)))

  clearInterval(drip)
  assert.equal(outcome(await inTime.next()), '200 ok')
  for (const [index, ms] of took.entries()) assertAfter(ms, soon, ['silent', 'half', 'drips'][index] ?? '')
  assert.equal(wire.recorder.count(), 1)
})

test('limits.head_timeout holds for the second head, too, from its first byte', async () => {
  await using wire = await openWith({ head_timeout: `${soon}ms`, idle_timeout: '30s' })
  using connection = await openConnection(wire.port)
  await served(connection)
  await wait(soon * 2)

  const sinceMs = performance.now()
  await connection.write('GET /op')

  assertAfter(await endsAfter(connection, sinceMs), soon, 'the second')
})

test('limits.idle_timeout ends a connection between two requests, and not while one is asked in time', async () => {
  await using wire = await openWith({ idle_timeout: `${soon}ms`, head_timeout: '30s' })
  using idle = await openConnection(wire.port)
  using busy = await openConnection(wire.port)
  await served(idle)
  const sinceMs = performance.now()

  for (let at = 0; at < 4; at += 1) {
    assert.equal(await served(busy), '200 ok')
    await wait(soon / 2)
  }

  assertAfter(await endsAfter(idle, sinceMs), soon, 'the idle one')
})

test('limits.request_timeout cuts off a body below min_body_rate, and no faster one however long it takes', async () => {
  await using wire = await openWith({ request_timeout: `${soon}ms`, min_body_rate: 1000 })
  using slow = await openConnection(wire.port)
  using fast = await openConnection(wire.port)
  const rounds = 40
  const head = (each: number) => `POST /open/a HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${each * rounds}\r\n\r\n`
  const sinceMs = performance.now()
  await slow.write(head(5))
  await fast.write(head(200))
  const slowEnds = endsAfter(slow, sinceMs)

  // 2,500 to 3,300 bytes a second against fewer than a hundred; a busy machine slows both.
  for (let at = 0; at < rounds; at += 1) {
    await wait(60)
    await fast.write('x'.repeat(200))
    if (slow.isOpen()) await slow.write('x'.repeat(5))
  }

  assert.equal(outcome(await fast.next('POST')), '200 ok')
  assert.ok(performance.now() - sinceMs > soon * 2)
  assertAfter(await slowEnds, soon, 'the slow one')
  assert.equal(wire.recorder.count(), 1)
})

test('limits.write_timeout cuts off a client that takes nothing of its answer, and lets the upstream go', async () => {
  const part = Buffer.alloc(65_536, 'x')
  await using upstream = await openScripted((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${part.length * 4096}\r\n\r\n`)
    const more = () => {
      while (!socket.destroyed && socket.write(part));
      socket.once('drain', more)
    }
    more()
  })
  await using world = await openWorldBefore(upstream, {}, [{ match: { path: '/open/**' }, public: true }], {
    limits: { write_timeout: `${soon}ms` },
  })
  using connection = await openConnection(world.app.ports.proxy)
  await connection.write(get('', '/open/much'))
  await until(() => upstream.connections().now === 1, 'the upstream to be asked')
  const sinceMs = performance.now()

  connection.socket.pause()
  await until(() => upstream.connections().now === 0, 'the upstream to be let go')

  assertAfter(performance.now() - sinceMs, soon, 'the one that does not read')
  await until(() => world.count('postern_connections{listener="proxy"}') === 0, 'the client to be let go')
})
