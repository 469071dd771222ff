import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { createBodyReader } from '../../src/http1/body.ts'
import { copiedBytes } from '../../src/http1/exchange.ts'
import { createLineFormatter } from '../../src/http1/field-lines.ts'
import { trailerLimits } from '../../src/http1/limits.ts'
import { createMessageWriter, formatAnswerHead } from '../../src/http1/message-writer.ts'
import type { Framing } from '../../src/http1/request-head.ts'
import { readRequestHead } from '../../src/http1/request-head.ts'
import { readResponseHead } from '../../src/http1/response-head.ts'
import { openPair } from './pair.ts'

const { format: formatLines } = createLineFormatter()
const fields = { bytes: 16_384, count: 100, one: 12_288 }

const turnsEnd = () => new Promise(setImmediate)

/** What arrives at a socket until it ends. */
async function readAll(socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
  })
  await once(socket, 'end')
  return text
}

/** Gives each message of a connection to whoever waits for one, once it is whole. */
function createReceiver(socket: Socket, readHead: (bytes: Buffer) => { framing: Framing; bytes: number } | undefined) {
  let held = Buffer.alloc(0)
  let waiting: ((message: { head: string; content: string; trailers: readonly string[] }) => void) | undefined
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk])
    const head = readHead(held)
    if (head === undefined) return
    let content = ''
    let trailers: readonly string[] = []
    const reader = createBodyReader(
      head.framing,
      {
        data: (part) => {
          content += part.toString('latin1')
        },
        end: (found) => {
          trailers = found
        },
      },
      trailerLimits,
    )
    const used = reader.feed(held.subarray(head.bytes))
    assert.notEqual(used, 'malformed', JSON.stringify(held.toString('latin1').slice(0, 200)))
    if (!reader.isDone()) return
    assert.equal(head.bytes + Number(used), held.length, 'nothing stands behind a message')
    const text = held.toString('latin1', 0, head.bytes)
    held = Buffer.alloc(0)
    waiting?.({ head: text, content, trailers })
  })
  return {
    next: () =>
      new Promise<{ head: string; content: string; trailers: readonly string[] }>((resolve) => {
        waiting = resolve
      }),
  }
}

test('createMessageWriter() sends a small message in one write, at the end of the turn', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)

  writer.begin('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n', false)
  writer.write(Buffer.from('he'))
  writer.write(Buffer.from('llo'))
  writer.end([])
  const before = pair.near.bytesWritten
  await turnsEnd()
  pair.near.end()

  assert.equal(before, 0)
  assert.equal(await readAll(pair.far), 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello')
})

test('createMessageWriter() sends the messages of one turn together, in their order', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const received = once(pair.far, 'data')

  writer.begin('ONE', false)
  writer.end([])
  writer.begin('TWO', true)
  writer.end([])
  writer.begin('THREE', false)
  writer.end([])

  assert.equal(pair.near.bytesWritten, 0)
  assert.equal(String((await received)[0]), 'ONETWO0\r\n\r\nTHREE')
})

test('createMessageWriter().close() sends what there is at once, and the end of the turn nothing of it again', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)

  writer.begin('ONE', false)
  writer.end([])
  writer.close()

  assert.equal(pair.near.bytesWritten, 3)
  assert.equal(await readAll(pair.far), 'ONE')
})

test('createMessageWriter().close() has the socket end behind what waits, and not before: it can still be reset', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  writer.begin('', false)
  let sent = 0
  while (writer.write(Buffer.alloc(60_000, 'x'))) sent += 60_000
  let hasEnded = false

  writer.close(() => {
    hasEnded = true
  })
  await turnsEnd()

  assert.equal(pair.near.writableEnded, false)
  assert.equal((await readAll(pair.far)).length, sent + 60_000)
  assert.ok(hasEnded)
})

test('createMessageWriter() holds so many heads of one turn, and then sends them', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const head = `${'x'.repeat(1000)}\r\n\r\n`

  let heads = 0
  while (pair.near.bytesWritten === 0 && heads < 200) {
    writer.begin(head, false)
    writer.end([])
    heads += 1
  }

  assert.ok(heads > 1 && heads * head.length <= 65_536 + head.length, `${heads} heads`)
})

test('createMessageWriter().flush() sends what there is, and nothing twice', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)

  writer.begin('HEAD\r\n\r\n', true)
  writer.flush()
  writer.flush()
  writer.write(Buffer.from('abc'))
  writer.flush()
  writer.end([])
  writer.flush()
  await turnsEnd()
  pair.near.end()

  assert.equal(await readAll(pair.far), 'HEAD\r\n\r\n3\r\nabc\r\n0\r\n\r\n')
})

test('createMessageWriter().write() makes no last chunk of an empty part', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)

  writer.begin('', true)
  writer.write(Buffer.alloc(0))
  writer.write(Buffer.from('abc'))
  writer.write(Buffer.alloc(0))
  writer.end([])
  await turnsEnd()
  pair.near.end()

  assert.equal(await readAll(pair.far), '3\r\nabc\r\n0\r\n\r\n')
})

test('createMessageWriter().end() sends trailers behind chunks, and nowhere else', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)

  writer.begin('', true)
  writer.end(['A', 'b', 'C', ''])
  writer.begin('NEXT', false)
  writer.end(['A', 'b'])
  writer.close()

  assert.equal(await readAll(pair.far), '0\r\nA: b\r\nC: \r\n\r\nNEXT')
})

test('createMessageWriter().write() copies what it is lent: the bytes may change at once', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const lent = Buffer.alloc(copiedBytes, 'a')

  writer.begin('', false)
  writer.write(lent)
  lent.fill('b')
  writer.write(lent)
  lent.fill('c')
  writer.end([])
  lent.fill('d')
  await turnsEnd()
  pair.near.end()

  assert.equal(await readAll(pair.far), 'a'.repeat(copiedBytes) + 'b'.repeat(copiedBytes))
})

test('createMessageWriter().write() keeps bytes as they are, all 256 of them, small and large', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const every = Buffer.from(Array.from({ length: 256 }, (_, at) => at))
  const large = Buffer.concat(Array.from({ length: 40 }, () => every))

  writer.begin('', false)
  writer.write(every)
  writer.write(large)
  writer.write(every)
  writer.end([])
  await turnsEnd()
  pair.near.end()

  const expected = Buffer.concat([every, large, every]).toString('latin1')
  assert.equal(await readAll(pair.far), expected)
})

test('createMessageWriter().write() joins small parts up to a bound, and then sends them', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const part = Buffer.alloc(4000, 'x')

  writer.begin('', false)
  let parts = 0
  while (pair.near.bytesWritten === 0 && parts < 100) {
    writer.write(part)
    parts += 1
  }

  assert.ok(parts > 1 && parts * 4000 <= 65_536 + 4000, `${parts} parts`)
})

test('createMessageWriter().write() says when the socket has enough, and drain comes when it has room', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const part = Buffer.alloc(100_000, 'x')
  writer.begin('', true)

  let parts = 0
  while (writer.write(part) && parts < 1000) parts += 1
  const drained = once(pair.near, 'drain')
  const isFull = writer.write(Buffer.alloc(0))
  pair.far.resume()
  await drained

  assert.ok(parts < 1000)
  assert.equal(isFull, false)
  assert.equal(writer.write(Buffer.alloc(0)), true)
})

test('formatAnswerHead() says of each answer what it is, whatever was said of the ones before', () => {
  // Frozen, as those are that may be remembered: of others no head is kept.
  const lists = [['Server', 'a'], ['Server', 'b', 'Date', 'c'], ['Set-Cookie', 'a=b'], []].map((list) =>
    Object.freeze(list),
  )
  const some = fc.record({
    status: fc.constantFrom(200, 201, 404),
    reason: fc.constantFrom('OK', '', 'Not Found'),
    lines: fc.constantFrom(...lists),
    ours: fc.constantFrom('', 'Connection: close\r\n', 'Transfer-Encoding: chunked\r\n'),
    times: fc.nat(8),
  })
  void fc.assert(
    fc.property(fc.array(some, { maxLength: 10 }), (heads) => {
      for (const { status, reason, lines, ours, times } of heads) {
        const passed = lines.map((text, at) => (at % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join('')
        for (let count = 0; count <= times; count += 1)
          assert.equal(
            formatAnswerHead(status, reason, lines, ours),
            `HTTP/1.1 ${status} ${reason}\r\n${passed}${ours}\r\n`,
          )
      }
    }),
  )
})

const name = fc.string({ unit: fc.constantFrom(..."aZ9!#$%&'*+-.^_`|~"), minLength: 1, maxLength: 12 })
const value = fc
  .string({ unit: fc.constantFrom(...'aZ9 \t:;,"\x80\xff'), maxLength: 12 })
  .map((text) => text.replace(/^[ \t]+|[ \t]+$/g, ''))
const lines = fc.array(fc.tuple(name, value), { maxLength: 5 }).map((pairs) =>
  // What frames a message is the test's own.
  pairs.filter(([each]) => !/^(?:content-length|transfer-encoding|expect)$/i.test(each)).flat(),
)
const part = fc.oneof(
  fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(copiedBytes - 1, copiedBytes, copiedBytes + 1, 70_000).map((size) => Buffer.alloc(size, 'ab\r\n0')),
)
const messages = fc.record({
  lines,
  parts: fc.array(part, { maxLength: 6 }),
  trailers: lines,
  isChunked: fc.boolean(),
  flushes: fc.boolean(),
})

test('createMessageWriter() writes requests that readRequestHead() and createBodyReader() read back', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const limits = { target: 8192, fields }
  const receiver = createReceiver(pair.far, (bytes) => {
    const head = readRequestHead(bytes, 0, limits)
    if (head === undefined || head.kind === 'head') return head
    return assert.fail(head.kind)
  })

  await fc.assert(
    fc.asyncProperty(messages, async ({ lines: sent, parts, trailers, isChunked, flushes }) => {
      const content = Buffer.concat(parts)
      const framing = isChunked ? 'Transfer-Encoding: chunked\r\n' : `Content-Length: ${content.length}\r\n`
      const head = `PUT /a HTTP/1.1\r\n${formatLines(sent)}${framing}\r\n`
      const received = receiver.next()

      writer.begin(head, isChunked)
      for (const each of parts) {
        writer.write(each)
        if (flushes) writer.flush()
      }
      writer.end(trailers)

      const message = await received
      assert.deepEqual(message, { head, content: content.toString('latin1'), trailers: isChunked ? trailers : [] })
      const read = readRequestHead(Buffer.from(head, 'latin1'), 0, limits)
      assert.ok(read?.kind === 'head')
      assert.deepEqual(read.lines.slice(0, -2), sent)
    }),
    { numRuns: 200 },
  )
})

test('createMessageWriter() writes answers that readResponseHead() and createBodyReader() read back', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const limits = { fields }
  const receiver = createReceiver(pair.far, (bytes) => {
    const head = readResponseHead(bytes, 0, 'GET', limits)
    return head === 'malformed' ? assert.fail(head) : head
  })

  await fc.assert(
    fc.asyncProperty(messages, async ({ lines: sent, parts, trailers, isChunked, flushes }) => {
      const content = Buffer.concat(parts)
      const framing = isChunked ? 'Transfer-Encoding: chunked\r\n' : `Content-Length: ${content.length}\r\n`
      const head = `HTTP/1.1 200 OK\r\n${formatLines(sent)}${framing}\r\n`
      const received = receiver.next()

      writer.begin(head, isChunked)
      for (const each of parts) {
        writer.write(each)
        if (flushes) writer.flush()
      }
      writer.end(trailers)

      const message = await received
      assert.deepEqual(message, { head, content: content.toString('latin1'), trailers: isChunked ? trailers : [] })
    }),
    { numRuns: 200 },
  )
})

test('createMessageWriter().takeBack() forgets a message of which nothing has left, and nothing of the one before', async () => {
  await using pair = await openPair()
  const writer = createMessageWriter(pair.near)
  const answers = [formatAnswerHead(200, 'OK', [], ''), formatAnswerHead(502, 'Bad Gateway', [], '')]
  const text = readAll(pair.far)

  writer.begin('first', false)
  writer.end([])
  writer.begin(answers[0] ?? '', true)
  writer.write(Buffer.from('half'))
  const isTaken = writer.takeBack()
  writer.begin(answers[1] ?? '', false)
  writer.end([])
  await turnsEnd()
  const isTakenOnceSent = writer.takeBack()
  writer.begin('third', true)
  writer.write(Buffer.alloc(copiedBytes + 1))
  const isTakenOnceWritten = writer.takeBack()
  pair.near.end()

  assert.deepEqual([isTaken, isTakenOnceSent, isTakenOnceWritten], [true, false, false])
  assert.match(await text, /^firstHTTP\/1\.1 502 Bad Gateway\r\n\r\nthird/)
})
