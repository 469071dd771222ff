import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import type { AnswerEvents } from '../../src/http1/exchange.ts'
import { giveBack, lendReads } from '../../src/http1/lent-reads.ts'
import { createMessageWriter } from '../../src/http1/message-writer.ts'
import { createUpstreamConnection } from '../../src/http1/upstream-connection.ts'
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

for (const { keeps, back } of [
  { keeps: false, back: 'the same buffer' },
  { keeps: true, back: 'another' },
])
  test(`createUpstreamConnection() reads an answer into ${back} when its listener ${keeps ? 'keeps' : 'gives back'} the body`, async () => {
    await using pair = await openPair()
    let reader: ReturnType<typeof createReader> | undefined
    const nothing = () => {}
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

    const into = ['a', 'b', 'c'].map((letter) => {
      connection.send(plain, events)
      return reader?.read(Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n${letter.repeat(60_000)}`))
    })

    assert.equal(into[2] === into[1], !keeps)
    if (keeps) assert.equal(kept.map(String).join(''), ['a', 'b', 'c'].map((letter) => letter.repeat(60_000)).join(''))
    connection.destroy()
  })
