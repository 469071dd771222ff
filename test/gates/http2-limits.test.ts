// What a client of the HTTP/2 front door may cost: each limit at its edge, and past it.
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { connect as connectSession } from 'node:http2'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { sessionBytes } from '../../src/gates/http2.ts'
import { limitsOptions, serverLimits } from '../../src/gates/options.ts'
import { createUnreadBytes, leastUnreadBytes, unreadBytes } from '../../src/http1/unread-bytes.ts'
import type { Field, FrameClient } from '../support/h2-frames.ts'
import {
  codes,
  connectFrames,
  encodeFields,
  flags,
  frame,
  headers,
  isLast,
  outcomeOf,
  readAnswer,
  requestFields,
  reset,
  windowUpdate,
} from '../support/h2-frames.ts'
import { settle, until } from '../support/until.ts'
import { openDoor, openUpstream } from './door.ts'
import { endOf, openPair, plain, settled, slow } from './http2-pair.ts'

const fieldsOf = (count: number): readonly Field[] => Array.from({ length: count }, () => ['x-a', 'b'] as const)
// 16 KiB of fields as lines: each name and value, a colon, a space and a line's end.
const sized = (bytes: number): readonly Field[] => [
  ['x-a', 'a'.repeat(8192 - 7)],
  ['x-b', 'b'.repeat(bytes - 8192 - 7)],
]
const large = Array.from({ length: 8 }, (_, at) => [`x-${at}`, 'a'.repeat(8192)] as const)
const heads = [
  { what: 'a target of 8 KiB', fields: requestFields(`/${'a'.repeat(8191)}`), want: '200' },
  { what: 'a target of 8 KiB and 1', fields: requestFields(`/${'a'.repeat(8192)}`), want: '414 too_large' },
  { what: 'a target of 10,000', fields: requestFields(`/${'a'.repeat(9999)}`), target: 10_000, want: '200' },
  {
    what: 'a target of 10,000 and 1',
    fields: requestFields(`/${'a'.repeat(10_000)}`),
    target: 10_000,
    want: '414 too_large',
  },
  { what: 'a hundred fields', fields: requestFields('/a', fieldsOf(100)), want: '200' },
  { what: 'a hundred and one fields', fields: requestFields('/a', fieldsOf(101)), want: '431 too_large' },
  { what: 'fields of 16 KiB', fields: requestFields('/a', sized(16_384)), want: '200' },
  { what: 'fields of 16 KiB and 1', fields: requestFields('/a', sized(16_385)), want: '431 too_large' },
  { what: 'a field of 12 KiB', fields: requestFields('/a', [['x-a', 'a'.repeat(12_285)]]), want: '200' },
  {
    what: 'a field of 12 KiB and 1',
    fields: requestFields('/a', [['x-a', 'a'.repeat(12_286)]]),
    want: '431 too_large',
  },
  {
    what: 'crumbs of a cookie that are together over 12 KiB',
    fields: requestFields('/a', [
      ['cookie', 'a'.repeat(7000)],
      ['cookie', 'b'.repeat(7000)],
    ]),
    want: '431 too_large',
  },
  { what: 'fields of 64 KiB', fields: requestFields('/a', large), want: `reset ${codes.calm}` },
  { what: 'three hundred fields', fields: requestFields('/a', fieldsOf(300)), want: '431 too_large' },
  { what: 'two thousand fields', fields: requestFields('/a', fieldsOf(2000)), want: `reset ${codes.calm}` },
  {
    what: 'three hundred crumbs of a cookie',
    fields: requestFields(
      '/a',
      Array.from({ length: 300 }, (_, at) => ['cookie', `a${at}=b`] as const),
    ),
    want: '200',
  },
  {
    what: 'five hundred crumbs of a cookie',
    fields: requestFields(
      '/a',
      Array.from({ length: 500 }, () => ['cookie', 'a=b'] as const),
    ),
    want: `reset ${codes.calm}`,
  },
] as const
const { request: usual } = serverLimits(limitsOptions.parse({}))
for (const { what, fields, want, ...more } of heads) {
  test(`serveHttp2() answers ${want} to ${what}`, async () => {
    await using pair = await openPair({ request: { ...usual, ...more } })
    using client = connectFrames(pair.port)
    // Until our SETTINGS are acknowledged they do not hold.
    await settled(client)

    client.send(headers(1, fields))
    client.send(headers(3, plain))

    assert.equal(await outcomeOf(client, 1), want)
    assert.equal(await outcomeOf(client, 3), '200', 'the session goes on')
  })
}

test('serveHttp2() serves 100 streams at once', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  const told = await client.frame(({ type, flags: flag }) => type === 'settings' && flag === 0)
  await settled(client)

  for (let at = 0; at < 100; at += 1) client.send(headers(1 + at * 2, slow))
  await until(() => pair.waiting.length === 100, 'a hundred requests at the upstream')

  for (const response of pair.waiting) response.end('late')
  for (let at = 0; at < 100; at += 1) assert.equal(await outcomeOf(client, 1 + at * 2), '200')
  // RFC 9113 §6.5.2: SETTINGS_MAX_CONCURRENT_STREAMS is 3.
  assert.ok(told.payload.includes(Buffer.of(0, 3, 0, 0, 0, 100)))
})

test('serveHttp2() ends the session of whoever has been told that 100 streams are all, and begins another', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  await settled(client)

  for (let at = 0; at < 101; at += 1) client.send(headers(1 + at * 2, slow))

  assert.equal(await endOf(client), codes.protocol)
  assert.ok(pair.door.decisions.length <= 100)
})

test('serveHttp2() refuses a stream over 100 of a client that cannot know yet, which may send it again', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port, undefined, 'no acknowledgement')

  for (let at = 0; at < 101; at += 1) client.send(headers(1 + at * 2, slow))

  assert.equal(await outcomeOf(client, 201), `reset ${codes.refused}`)
  await until(() => pair.waiting.length === 100, 'a hundred requests at the upstream')
})

test('serveHttp2() resets a stream whose client makes no room for the answer, and keeps the others', async () => {
  await using pair = await openPair({ writeMs: 600 })
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 0.
  using client = connectFrames(pair.port, Buffer.of(0, 4, 0, 0, 0, 0))

  client.send(headers(1, plain))
  client.send(headers(3, requestFields('/big')))

  const small = await client.stream(1)
  const big = await client.stream(3)
  for (const frames of [small, big]) {
    assert.equal(frames.at(-1)?.type, 'rst_stream')
    assert.ok(!frames.some(({ type }) => type === 'data'))
  }
  client.send(headers(5, plain), windowUpdate(5, 1000))
  assert.equal(await outcomeOf(client, 5), '200')
})

test('serveHttp2() resets a stream whose client makes no room for the answer, though it ends its own body meanwhile', async () => {
  await using upstream = await openUpstream((_, response) => response.end(Buffer.alloc(1_000_000)))
  await using door = await openDoor(upstream.port, undefined, { limits: { writeMs: 600 } })
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 0.
  using client = connectFrames(door.door.port, Buffer.of(0, 4, 0, 0, 0, 0))
  client.send(headers(1, requestFields('/a', [], 'POST'), false), frame('data', 0, 1, 'x'))
  await client.frame(({ type, stream }) => type === 'headers' && stream === 1)
  await settle()

  client.send(frame('data', flags.endStream, 1, 'x'))

  assert.equal((await client.stream(1)).at(-1)?.type, 'rst_stream')
})

test('serveHttp2() resets the streams that have waited longest for room while all together have too much to send', async () => {
  await using upstream = await openUpstream((_, response) => response.end(Buffer.alloc(300_000)))
  await using door = await openDoor(upstream.port, undefined, { maxBytes: 1_000_000 })
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 0.
  using client = connectFrames(door.door.port, Buffer.of(0, 4, 0, 0, 0, 0))
  // A denial of which all is there, an answer that has more behind it, and one that has only an end to say.
  client.send(headers(1, requestFields('/a/../b')), headers(3, plain), headers(5, requestFields('/b', [], 'HEAD')))
  for (const id of [1, 3, 5]) await client.frame(({ type, stream }) => type === 'headers' && stream === id)
  await until(() => unreadBytes() > 2 * 16_384, 'what waits')
  const counted = unreadBytes()

  const other = createUnreadBytes(
    0,
    () => leastUnreadBytes,
    () => {},
  )
  other.add(leastUnreadBytes)

  for (const id of [1, 3]) assert.equal(readAnswer(await client.stream(id)).reset, codes.calm)
  assert.equal(readAnswer(await client.stream(5)).reset, undefined)
  assert.ok(counted < 300_000, String(counted))
  other.clear()
  await until(() => unreadBytes() === 0, 'nothing that is counted')
  client.send(headers(7, plain), windowUpdate(7, 1_000_000), windowUpdate(0, 1_000_000))
  assert.equal(await outcomeOf(client, 7), '200')
})

const windowless = [
  { what: 'the denial of an upload that it has sent', method: 'POST', path: '/a/../b', window: 0 },
  { what: 'the end of an answer without a body, which comes later', method: 'GET', path: '/later', window: 0 },
  { what: 'the trailers behind a body that it has taken', method: 'GET', path: '/trailers', window: 100 },
] as const
for (const { what, method, path, window } of windowless) {
  test(`serveHttp2() resets a stream whose client makes no room for ${what}`, async () => {
    await using upstream = await openUpstream((request, response) => {
      response.setHeader('trailer', 'x-a').flushHeaders()
      if (request.url === '/trailers') response.write(Buffer.alloc(100))
      response.addTrailers({ 'x-a': 'b' })
      setTimeout(() => response.end(), 50)
    })
    await using door = await openDoor(upstream.port, undefined, { limits: { writeMs: 600 } })
    // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
    using client = connectFrames(door.door.port, Buffer.of(0, 4, 0, 0, 0, window))

    client.send(headers(1, requestFields(path, [], method), method === 'GET'))
    if (method === 'POST') client.send(frame('data', flags.endStream, 1, '0123456789'))

    const last = await client.frame(({ type, stream }) => type === 'rst_stream' && stream === 1)
    assert.equal(last.payload.readUInt32BE(), codes.cancel)
    assert.equal(client.frames.filter(({ type }) => type === 'data').length, window === 0 ? 0 : 1)
  })
}

test('serveHttp2() does not take a client for gone that answers no PING because it takes its answer slowly', async () => {
  await using upstream = await openUpstream((_, response) => response.end(Buffer.alloc(30_000_000)))
  await using door = await openDoor(upstream.port, undefined, { limits: { idleMs: 1000 } })
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
  using client = connectFrames(door.door.port, Buffer.of(0, 4, 0x7f, 0xff, 0xff, 0xff))
  await settled(client)
  client.send(windowUpdate(0, 2 ** 30), headers(1, plain))
  client.socket.pause()

  for (let at = 1; at <= 35; at += 1) {
    await sleep(100)
    client.socket.resume()
    await until(() => client.socket.bytesRead >= at * 300_000 || client.socket.destroyed, 'some of the answer')
    client.socket.pause()
  }

  assert.equal(door.door.connections(), 1)
})

test('serveHttp2() waits for a client that takes its answer slowly, but takes it', async () => {
  await using pair = await openPair({ writeMs: 600 })
  using client = connectFrames(pair.port, Buffer.of(0, 4, 0, 0, 0, 0))

  client.send(headers(1, plain))
  await sleep(300)
  client.send(windowUpdate(1, 1))
  await sleep(100)
  client.send(windowUpdate(1, 1))

  assert.equal(await outcomeOf(client, 1), '200')
})

test('serveHttp2() gives a body that comes too slowly up, and waits for one that keeps the rate', async () => {
  await using pair = await openPair({ requestMs: 500, minBodyRate: 100 })
  using client = connectFrames(pair.port)
  const post = requestFields('/a', [], 'POST')

  client.send(headers(1, post, false), headers(3, post, false))
  let isSlowOver = false
  void client.stream(1).then(() => {
    isSlowOver = true
  })
  for (let at = 0; at < 20; at += 1) {
    // 500 bytes a second, and 5.
    client.send(frame('data', 0, 3, 'x'.repeat(50)))
    if (!isSlowOver) client.send(frame('data', 0, 1, at % 10 === 0 ? 'x' : ''))
    await sleep(100)
  }
  client.send(frame('data', flags.endStream, 3, 'x'))

  assert.equal(await outcomeOf(client, 3), '200')
  assert.match(await outcomeOf(client, 1), /^reset/)
})

test('serveHttp2() gives a body up that stops, however much of it has come', async () => {
  await using pair = await openPair({ requestMs: 300, minBodyRate: 100 })
  using client = connectFrames(pair.port)
  // Good for a minute and more at that rate.
  client.send(headers(1, requestFields('/a', [], 'POST'), false), frame('data', 0, 1, 'x'.repeat(10_000)))

  assert.match(await outcomeOf(client, 1), /^reset|^408/)
})

test('serveHttp2() closes a session that is idle, not one that is at work', async () => {
  await using pair = await openPair({ idleMs: 500 })
  using idle = connectFrames(pair.port)
  using busy = connectFrames(pair.port)
  busy.send(headers(1, slow))

  idle.send(headers(1, plain))
  assert.equal(await outcomeOf(idle, 1), '200')
  const pings = setInterval(() => idle.send(frame('ping', 0, 0, 'x'.repeat(8))), 100)
  assert.equal(await endOf(idle), codes.noError)
  clearInterval(pings)

  for (const response of pair.waiting) response.end('late')
  assert.equal(await outcomeOf(busy, 1), '200')
  assert.equal(await endOf(busy), codes.noError)
})

test('serveHttp2() closes a session at work whose client is not there any more', async () => {
  await using pair = await openPair({ idleMs: 500 })
  using dead = connectFrames(pair.port, undefined, 'no acknowledgement')
  using alive = connectFrames(pair.port)

  dead.send(headers(1, slow))
  alive.send(headers(1, slow))
  await dead.closed

  await until(() => pair.aborted() === 1, 'the abort')
  assert.equal(pair.door.door.connections(), 1)
})

test('serveHttp2() closes a session that says nothing after its beginning', async () => {
  await using pair = await openPair({ headMs: 500 })
  using client = connectFrames(pair.port, Buffer.alloc(0), 'no settings')

  await client.closed
})

test('serveHttp2() closes a session that has sent half the head of its first request, in the time of a head', async () => {
  await using pair = await openPair({ headMs: 500, idleMs: 60_000 })
  using client = connectFrames(pair.port)
  await settled(client)
  const sentMs = performance.now()

  client.send(frame('headers', flags.endStream, 1, encodeFields(plain).subarray(0, 20)))

  await client.closed
  assert.ok(performance.now() - sentMs < 5000)
  assert.equal(pair.door.door.dropped().get('timeout'), 1)
})

test('sessionBytes() grows with what a head may take: 133 KiB with the limits there are without a configuration', () => {
  const { target, fields } = usual
  const request = { target: target + 1, fields: { ...fields, bytes: fields.bytes + 1, count: fields.count + 1 } }
  const defaults = serverLimits(limitsOptions.parse({}))

  assert.equal(sessionBytes(defaults), 136_320)
  assert.equal(sessionBytes({ ...defaults, request }), 136_320 + 2 + 2 + 32 + 4 * 128)
})

test('serveHttp2() tells the upstream of a client that leaves', async () => {
  await using pair = await openPair()
  const client = connectFrames(pair.port)
  client.send(headers(1, slow), headers(3, slow))
  await until(() => pair.waiting.length === 2, 'the requests')

  client.send(reset(1, codes.noError))
  await until(() => pair.aborted() === 1, 'the first to be aborted')
  assert.equal(pair.door.door.inFlight(), 1)
  client[Symbol.dispose]()

  await until(() => pair.aborted() === 2, 'the second to be aborted')
  await until(() => pair.door.door.connections() === 0, 'the connection to be gone')
  assert.deepEqual(
    pair.door.exchanges.map(({ status }) => status),
    [0, 0],
  )
})

test('serveHttp2() reads no more of a body than the upstream takes', async () => {
  await using upstream = await openUpstream((request) => void request.on('error', () => {}))
  await using door = await openDoor(upstream.port)
  const session = connectSession(`http://127.0.0.1:${door.door.port}`)
  session.on('error', () => {})
  const stream = session.request({ ':path': '/a', ':method': 'POST' })
  stream.on('error', () => {})

  let sent = 0
  const chunk = Buffer.alloc(65_536)
  const pump = () => {
    for (;;) {
      sent += chunk.length
      if (!stream.write(chunk) || sent > 64e6) return
    }
  }
  stream.on('drain', pump)
  pump()
  await sleep(500)

  assert.ok(sent < 16e6, `${sent} bytes were taken`)
  session.destroy()
})

test('serveHttp2() reads little of a body behind an answer that its client makes no room for', async () => {
  await using pair = await openPair()
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 0.
  using client = connectFrames(pair.port, Buffer.of(0, 4, 0, 0, 0, 0))
  client.send(headers(1, requestFields('/a/../b', [], 'POST'), false))
  await client.frame(({ type, stream }) => type === 'headers' && stream === 1)

  let sent = 0
  // 16 KiB at a time, as long as there is room: a mebibyte, if it were all read.
  for (let round = 0; round < 64; round += 1) {
    const part = Math.min(65_535 + grantedOn(client, 1) - sent, 16_384)
    if (part > 0) client.send(frame('data', 0, 1, Buffer.alloc(part)))
    sent += part
    await settled(client)
  }

  assert.ok(sent < 300_000, `${sent} bytes were taken`)
  assert.ok(!client.frames.some(({ type }) => type === 'rst_stream'))
})

for (const declared of [true, false]) {
  test(`serveHttp2() takes a refused body of a megabyte${declared ? '' : ' without a length'} from a client that reads no answer before it has sent all`, async () => {
    await using pair = await openPair()
    using client = connectFrames(pair.port)
    const length = declared ? [['content-length', '1000000'] as const] : []
    client.send(headers(1, requestFields('/a/../b', length, 'POST'), false))

    let left = 1_000_000
    while (left > 0 && !client.frames.some(({ type }) => type === 'rst_stream')) {
      const part = Math.min(65_535 + grantedOn(client, 1) - (1_000_000 - left), 16_384, left)
      left -= part
      if (part > 0) client.send(frame('data', left === 0 ? flags.endStream : 0, 1, Buffer.alloc(part)))
      else await settled(client)
    }
    await settled(client)

    assert.ok(client.frames.some((each) => each.stream === 1 && isLast(each)))
    assert.ok(!client.frames.some(({ type }) => type === 'rst_stream'))
  })
}

const upload = requestFields('/a', [['content-length', '2000000']], 'POST')

/** Holds that a stream was answered whole, and reset then, without an error. */
function assertStopped({ frames }: FrameClient, stream: number): void {
  const own = frames.filter((each) => each.stream === stream)
  const data = own.filter(({ type }) => type === 'data')
  assert.equal(Buffer.concat(data.map(({ payload }) => payload)).length, 50_000)
  assert.ok(data.some(isLast), 'it was reset before its answer ended')
  assert.equal(own.find(({ type }) => type === 'rst_stream')?.payload.readUInt32BE(), codes.noError)
}

test('serveHttp2() has an upload that is answered early stopped, without an error and behind the end of its answer', async () => {
  await using upstream = await openUpstream((_, response) => {
    response.writeHead(413).write(Buffer.alloc(50_000))
    setTimeout(() => response.end(), 20)
  })
  await using door = await openDoor(upstream.port)
  using client = connectFrames(door.door.port)

  client.send(headers(1, upload, false))
  await client.frame(({ type }) => type === 'rst_stream')

  assertStopped(client, 1)
})

test('serveHttp2() lets a client read the refusal of an upload of two megabytes before it stops that', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)

  client.send(headers(1, requestFields('/a/../b', [['content-length', '2000000']], 'POST'), false))
  client.send(frame('data', 0, 1, Buffer.alloc(16_384)))
  await client.frame((each) => each.stream === 1 && isLast(each))
  await settled(client)

  assert.ok(!client.frames.some(({ type }) => type === 'rst_stream'), 'the reset came with the answer')
  const { payload } = await client.frame(({ type }) => type === 'rst_stream')
  assert.equal(payload.readUInt32BE(), codes.noError)
})

/** A client whose upload is answered early: of the answer only the end is left, and that behind what the client does not read. */
async function openStuck(fields: readonly Field[]) {
  const answers: ServerResponse[] = []
  const upstream = await openUpstream((request, response) => {
    if (request.method === 'POST') answers.push(response)
    response.write(Buffer.alloc(request.method === 'POST' ? 50_000 : 16_000_000))
  })
  const { door, ...rest } = await openDoor(upstream.port)
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 16 MiB.
  const client = connectFrames(door.port, Buffer.of(0, 4, 1, 0, 0, 0))
  client.send(windowUpdate(0, 33_554_432), headers(1, fields, false))
  await client.frame(({ type }) => type === 'data')
  client.send(headers(3, requestFields('/a')))
  await client.frame(({ type, stream }) => type === 'headers' && stream === 3)
  client.socket.pause()
  await sleep(200)
  for (const answer of answers) answer.end()
  return {
    client,
    door,
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]()
      await rest[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

test('serveHttp2() has an upload stopped behind the end of its answer, though that waits for others to be read', async () => {
  await using stuck = await openStuck(upload)
  // Longer than it is read for after its answer.
  await sleep(1800)

  stuck.client.socket.resume()
  await stuck.client.frame(({ type }) => type === 'rst_stream')

  assertStopped(stuck.client, 1)
})

test('serveHttp2() lets go of an upload that ends by itself while the end of its answer waits', async () => {
  await using stuck = await openStuck(requestFields('/a', [], 'POST'))
  // Longer than it is read for after its answer.
  await sleep(1800)
  stuck.client.send(frame('data', flags.endStream, 1, Buffer.alloc(10_000)))
  await settle()

  stuck.client.socket.resume()
  await stuck.client.frame((each) => each.stream === 1 && isLast(each))
  stuck.client.send(reset(3, codes.cancel), frame('goaway', 0, 0, Buffer.alloc(8)))
  // It may have closed before it could answer.
  await settled(stuck.client).catch(() => {})
  stuck.client.socket.end()

  await until(() => stuck.door.connections() === 0, 'the connection to be gone')
})

/** How much more a client may send on a stream than it may from the beginning. */
function grantedOn({ frames }: FrameClient, stream: number): number {
  return frames
    .filter((each) => each.type === 'window_update' && each.stream === stream)
    .reduce((sum, { payload }) => sum + payload.readUInt32BE(), 0)
}
