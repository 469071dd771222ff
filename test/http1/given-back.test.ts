import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import type { AnswerEvents } from '../../src/http1/exchange.ts'
import { copiedBytes } from '../../src/http1/exchange.ts'
import { giveBack, lendReads } from '../../src/http1/lent-reads.ts'
import { createMessageWriter } from '../../src/http1/message-writer.ts'
import { createServerConnection } from '../../src/http1/server-connection.ts'
import { createUpstreamConnection } from '../../src/http1/upstream-connection.ts'
import { until } from '../support/until.ts'
import { openPair } from './pair.ts'
import { limits, serve } from './served.ts'
import { plain } from './upstream-peer.ts'

const pieceBytes = 65_536
const piece = (letter: string) => Buffer.alloc(pieceBytes, letter)
const all = (bytes: Buffer) => giveBack(bytes, bytes.length)

/** Reads as a socket does with an `onread`. */
function createReader(received: (bytes: Buffer) => void) {
  const reads = lendReads(received)
  const give = reads.buffer as () => Buffer | undefined // what we make is a function
  let current = give() ?? Buffer.alloc(0)
  return {
    /** Returns what was read into. */
    read(bytes: Buffer) {
      const into = current
      bytes.copy(into)
      reads.callback(bytes.length, into)
      current = give() ?? current
      return into.buffer
    },
  }
}

test('createMessageWriter() gives back what has left of an answer, and keeps what has to wait, until that has left', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const reader = createReader((bytes) => void writer.write(bytes))
  const other = createReader(all)
  writer.begin('head,', false)
  const sent = ['head,']
  const into: ArrayBufferLike[] = []
  const pass = () => {
    const bytes = piece(String.fromCharCode(97 + (sent.length % 26)))
    sent.push(bytes.toString('latin1'))
    into.push(reader.read(bytes))
  }

  while (writer.hasRoom() && sent.length < 1000) pass()
  assert.equal(writer.hasRoom(), false)
  assert.equal(writer.isWaiting(), true)
  // One more is on its way while nobody knows yet.
  pass()
  for (let count = 0; count < 20; count += 1) other.read(piece('!'))
  pass()

  assert.equal(into[2], into[1])
  const received: Buffer[] = []
  const drained = once(pair.near, 'drain')
  pair.far.on('data', (bytes: Buffer) => received.push(bytes))
  await drained
  assert.equal(writer.hasRoom(), true)
  pair.near.end()
  await once(pair.far, 'end')
  assert.ok(Buffer.concat(received).toString('latin1') === sent.join(''))
})

test('createMessageWriter() says when what alone had to wait has left', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  while (writer.hasRoom()) writer.write(piece('a'))
  assert.equal(pair.near.writableNeedDrain, false)

  const drained = once(pair.near, 'drain')
  pair.far.resume()
  await drained

  assert.equal(writer.hasRoom(), true)
  assert.equal(writer.isWaiting(), false)
})

test('createServerConnection() gives a client time to take the last piece of an answer, not to ask again', async () => {
  const asked = Promise.withResolvers<void>()
  await using it = await serve(
    (connection) => {
      connection.begin(200, 'Said', [], 'chunked')
      while (connection.write(piece('a')));
      connection.end([])
      asked.resolve()
    },
    { reads: false },
  )
  it.send('GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await asked.promise

  assert.equal(it.deadlines.nextMs(), limits.writeMs)
})

const heads = {
  'content-length': (body: string) => `Content-Length: ${body.length}\r\n\r\n${body}`,
  chunked: (body: string) =>
    `Transfer-Encoding: chunked\r\n\r\n6000\r\n${body.slice(0, 0x6000)}\r\n${(body.length - 0x6000).toString(16)};a=b\r\n${body.slice(0x6000)}\r\n0\r\nA: b\r\n\r\n`,
} as const
const bodies = ['a', 'b', 'c'].map((letter) => letter.repeat(60_000))
const nothing = () => {}
const rows = Object.values(heads).flatMap((format, at) =>
  [true, false].map((keeps) => ({ format, framing: Object.keys(heads)[at] ?? '', keeps })),
)

for (const { format, framing, keeps } of rows)
  test(`createUpstreamConnection() reads an answer (${framing}) into ${keeps ? 'the buffer of all' : 'one of its own'} when its listener ${keeps ? 'keeps' : 'gives back'} the body`, async () => {
    await using pair = await openPair()
    let reader: ReturnType<typeof createReader> | undefined
    const connection = createUpstreamConnection(
      (received) => {
        reader = createReader(received)
        return { socket: pair.near, ready: 'connect' }
      },
      poolLimits(upstreamOptions.parse({})),
      { nowMs: () => 0, watch: nothing, unwatch: nothing },
      { connected: nothing, answered: nothing, idle: nothing, failed: assert.fail, closed: nothing },
    )
    pair.near.emit('connect')
    const kept: Buffer[] = []
    const events: AnswerEvents = {
      opened: nothing,
      head: nothing,
      data: (bytes) => (keeps ? void kept.push(bytes) : all(bytes)),
      end: nothing,
      flush: nothing,
      drained: nothing,
      failed: assert.fail,
      switched: nothing,
    }

    const into: (ArrayBufferLike | undefined)[] = []
    for (const body of bodies) {
      connection.send(plain, events)
      await new Promise(setImmediate)
      into.push(reader?.read(Buffer.from(`HTTP/1.1 200 OK\r\n${format(body)}`)))
    }

    assert.deepEqual([into[1] === into[0], into[2] === into[1]], [keeps, true])
    if (keeps) assert.equal(kept.map(String).join(''), bodies.join(''))
    connection.destroy()
  })

for (const { format, framing, keeps } of rows)
  test(`createServerConnection() reads a request (${framing}) into ${keeps ? 'the buffer of all' : 'one of its own'} when its listener ${keeps ? 'keeps' : 'gives back'} the body`, async () => {
    await using pair = await openPair()
    const kept: Buffer[] = []
    const deadlines = { nowMs: () => 0, watch: nothing, unwatch: nothing }
    createServerConnection(pair.near, limits, deadlines, (connection) => ({
      request: () => connection.resume(),
      refused: ({ kind }) => assert.fail(kind),
      data: (bytes) => (keeps ? void kept.push(bytes) : all(bytes)),
      end() {
        connection.begin(204, 'No Content', [], 'none')
        connection.end([])
      },
      broken: assert.fail,
      drained: nothing,
      gone: nothing,
    }))
    const reader = createReader((bytes) => void pair.near.emit('data', bytes))

    const into = bodies.map((body) => reader.read(Buffer.from(`POST / HTTP/1.1\r\nHost: a.test\r\n${format(body)}`)))

    assert.deepEqual([into[1] === into[0], into[2] === into[1]], [keeps, true])
    if (keeps) assert.equal(kept.map(String).join(''), bodies.join(''))
  })

test('createServerConnection() reads what comes behind its last answer into the same buffer again', async () => {
  await using pair = await openPair()
  const deadlines = { nowMs: () => 0, watch: nothing, unwatch: nothing }
  createServerConnection(pair.near, limits, deadlines, (connection) => ({
    request() {
      connection.begin(403, 'Forbidden', [], 'none')
      connection.end([])
    },
    refused: ({ kind }) => assert.fail(kind),
    data: nothing,
    end: nothing,
    broken: assert.fail,
    drained: nothing,
    gone: nothing,
  }))
  const reader = createReader((bytes) => void pair.near.emit('data', bytes))
  reader.read(Buffer.from('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n'))

  const into = ['a', 'b', 'c'].map((letter) => reader.read(piece(letter)))

  // All of the first piece was given back, so it became the socket's own.
  assert.deepEqual([into[1] === into[0], into[2] === into[1]], [false, true])
})

test('createServerConnection() copies what it keeps of a piece that is small beside its buffer, and gives the rest back', async () => {
  await using pair = await openPair()
  const heard: string[] = []
  const deadlines = { nowMs: () => 0, watch: nothing, unwatch: nothing }
  createServerConnection(pair.near, limits, deadlines, (connection) => ({
    request({ target }) {
      heard.push(target)
      connection.begin(204, 'No Content', [], 'none')
      connection.end([])
    },
    refused: ({ kind }) => assert.fail(kind),
    data: nothing,
    end: nothing,
    broken: assert.fail,
    drained: nothing,
    gone: nothing,
  }))
  const reader = createReader((bytes) => void pair.near.emit('data', bytes))
  const head = (letter: string) => `GET /${letter.repeat(6000)} HTTP/1.1\r\nHost: a.test\r\n\r\n`
  // Six heads, and half of one.
  const first = Buffer.from('abcdefg'.split('').map(head).join('').slice(0, 40_000))

  const into = [reader.read(first), reader.read(Buffer.from(head('g').slice(40_000 - 6 * head('a').length)))]

  // All of the first piece was given back, so it became the socket's own.
  assert.notEqual(into[1], into[0])
  assert.deepEqual(
    heard,
    'abcdefg'.split('').map((letter) => `/${letter.repeat(6000)}`),
  )
})

test('createMessageWriter() gives back the small parts of a large piece, which it has copied', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const reader = createReader((bytes) => {
    for (let at = 0; at < bytes.length; at += copiedBytes) writer.write(bytes.subarray(at, at + copiedBytes))
  })
  pair.far.resume()
  writer.begin('', true)

  const into = [reader.read(piece('a')), reader.read(piece('b'))]

  assert.notEqual(into[1], into[0])
})

test('createMessageWriter() gives back what the stream has to write, once that has left', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const into: ArrayBufferLike[] = []
  const reader = createReader((bytes) => {
    into.push(bytes.buffer)
    writer.write(bytes)
  })
  writer.begin('', false)
  while (writer.hasRoom()) reader.read(piece('a'))
  // Nobody knows yet that there is no room: the first is held, the second left to the stream.
  reader.read(piece('b'))
  const [held, left] = into.slice(-2)
  assert.ok(pair.near.writableLength > 0)
  const sent = into.length * pieceBytes

  let received = 0
  pair.far.on('data', (bytes: Buffer) => {
    received += bytes.length
  })
  await until(
    () => received === sent && pair.near.writableLength === 0,
    () => `${sent} bytes`,
  )
  const next: ArrayBufferLike[] = []
  for (let count = 0; count < 16; count += 1) createReader(({ buffer }) => void next.push(buffer)).read(piece('c'))

  assert.deepEqual(
    [held, left].map((buffer) => buffer !== undefined && next.includes(buffer)),
    [true, true],
  )
})

test('createMessageWriter() leaves copies to the stream of what is small beside its buffer', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const told: ArrayBufferLike[] = []
  const reader = createReader((bytes) => {
    told.push(bytes.buffer)
    writer.write(bytes)
  })
  writer.begin('', false)
  while (writer.hasRoom()) writer.write(Buffer.alloc(pieceBytes, 'a'))

  for (const letter of ['b', 'c', 'd']) reader.read(Buffer.alloc(10_000, letter))

  assert.equal(new Set(told).size, 1)
  assert.equal(pair.near.writableLength, 30_000)
  let received = ''
  pair.far.on('data', (bytes: Buffer) => {
    received = (received + bytes.toString('latin1')).slice(-30_001)
  })
  await until(
    () => received.endsWith('d'),
    () => 'the last',
  )
  assert.ok(received === `a${['b', 'c', 'd'].map((letter) => letter.repeat(10_000)).join('')}`)
})
