// A stream without a session: nghttp2 counts bodies, too, and is not to be the only one that does.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import { limitsOptions, serverLimits } from '../../src/gates/options.ts'
import type { AnswerSink } from '../../src/http1/exchange.ts'
import type { Framing } from '../../src/http1/request-head.ts'
import { serveStream } from '../../src/http2/stream.ts'
import type { TestDeadlines } from '../support/deadlines.ts'
import { createTestDeadlines } from '../support/deadlines.ts'

type FakeStream = Duplex & { readonly rstCode: number; readonly interim: unknown[]; readonly spoiled: boolean[] }

/** What `serveStream` tells of a body in these pieces, where this comes between them and its end. */
async function toldOf(
  framing: Framing,
  pieces: readonly string[],
  meanwhile: (stream: FakeStream, sink: AnswerSink, deadlines: TestDeadlines) => void = () => {},
): Promise<string[]> {
  const told: string[] = []
  const interim: unknown[] = []
  const spoiled: boolean[] = []
  const deadlines = createTestDeadlines()
  let sink: AnswerSink | undefined
  const stream = Object.assign(new Duplex({ read() {} }), {
    ...{ rstCode: 0, interim, spoiled, respond() {} },
    additionalHeaders: (fields: unknown) => void interim.push(fields),
  })
  serveStream(
    stream as unknown as ServerHttp2Stream, // as much of one as a body needs
    { framing, isHead: false },
    serverLimits(limitsOptions.parse({})),
    deadlines,
    (made) => {
      sink = made
      setImmediate(made.resume)
      return {
        data: (chunk) => void told.push(`data ${chunk}`),
        end: (lines) => void told.push(`end ${lines}`),
        broken: (why) => void told.push(`broken ${why}`),
        closed: (isSpoiled) => void spoiled.push(isSpoiled),
        ...{ drained() {}, gone() {} },
      }
    },
  )
  await new Promise((resolve) => setImmediate(resolve))
  for (const piece of pieces) {
    stream.push(piece)
    await new Promise((resolve) => setImmediate(resolve))
  }
  if (sink !== undefined) meanwhile(stream, sink, deadlines)
  stream.push(null)
  await new Promise((resolve) => setImmediate(resolve))
  const made = [...told]
  stream.destroy()
  await once(stream, 'close')
  assert.equal(deadlines.watched(), 0, 'what is closed waits for nothing')
  return made
}

const bodies = [
  { what: 'as long as it says', framing: 5, pieces: ['abc', 'de'], told: ['data abc', 'data de', 'end '] },
  { what: 'longer than it says', framing: 5, pieces: ['abcdef'], told: ['broken malformed'] },
  { what: 'longer with its last piece', framing: 5, pieces: ['abc', 'def'], told: ['data abc', 'broken malformed'] },
  { what: 'that goes on once it is broken', framing: 2, pieces: ['abc', 'd'], told: ['broken malformed'] },
  { what: 'shorter than it says', framing: 5, pieces: ['abcd'], told: ['data abcd', 'broken malformed'] },
  { what: 'where one is announced that is not there', framing: 5, pieces: [], told: ['broken malformed'] },
  { what: 'where none is announced', framing: 0, pieces: ['a'], told: ['broken malformed'] },
  { what: 'behind a head that has ended', framing: 'none', pieces: ['a'], told: ['broken malformed'] },
  { what: 'that is not there', framing: 'none', pieces: [], told: [] },
  { what: 'of no length', framing: 'chunked', pieces: ['a'], told: ['data a', 'end '] },
  { what: 'of no length that is empty', framing: 'chunked', pieces: [], told: ['end '] },
  { what: 'with a trailer', framing: 1, pieces: ['a'], trailers: ['x-a', 'b'], told: ['data a', 'end x-a,b'] },
  {
    what: 'with a pseudo-field behind it',
    framing: 1,
    pieces: ['a'],
    trailers: [':path', '/b'],
    told: ['data a', 'broken malformed'],
  },
  {
    what: 'of no length with Connection behind it',
    framing: 'chunked',
    pieces: ['a'],
    trailers: ['connection', 'close'],
    told: ['data a', 'broken malformed'],
  },
] as const
for (const { what, framing, pieces, told, ...more } of bodies) {
  test(`serveStream() tells ${told.join(', ') || 'nothing'} of a body ${what}`, async () => {
    const trailers = 'trailers' in more ? more.trailers : []

    assert.deepEqual(await toldOf(framing, pieces, (stream) => stream.emit('trailers', {}, 0, trailers)), told)
  })
}

const isReset = (stream: FakeStream) => void Object.defineProperty(stream, 'closed', { value: true })
const isAnswered = (_: FakeStream, sink: AnswerSink) => {
  sink.begin(204, '', [], 'none')
  sink.end([])
}

test('serveStream() tells no end of a body that ends because its stream was reset, nor of one behind the answer', async () => {
  assert.deepEqual(await toldOf('chunked', ['half'], isReset), ['data half'])
  assert.deepEqual(await toldOf('chunked', ['half'], isAnswered), ['data half'])
})

test('serveStream() tells a client that waits to send its body, but none that has gone, or has its answer', async () => {
  const seen: unknown[][] = []
  const asks = (before: (stream: FakeStream, sink: AnswerSink) => void) => (stream: FakeStream, sink: AnswerSink) => {
    before(stream, sink)
    sink.sendContinue()
    seen.push(stream.interim)
  }

  await toldOf(
    'chunked',
    [],
    asks(() => {}),
  )
  await toldOf('chunked', [], asks(isReset))
  await toldOf('chunked', [], asks(isAnswered))

  assert.deepEqual(seen, [[{ ':status': 100 }], [], []])
})

const ends = [
  { what: 'whose answer is whole', length: 4, meanwhile: isAnswered, isSpoiled: false },
  { what: 'that has no answer', length: 4, meanwhile: () => {}, isSpoiled: true },
  { what: 'whose body was broken, though it is answered', length: 3, meanwhile: isAnswered, isSpoiled: true },
] as const
for (const { what, length, meanwhile, isSpoiled } of ends) {
  test(`serveStream() calls a stream ${what} ${isSpoiled ? 'spoiled' : 'not spoiled'}`, async () => {
    let spoiled: readonly boolean[] | undefined

    await toldOf(length, ['body'], (stream, sink) => {
      spoiled = stream.spoiled
      meanwhile(stream, sink)
    })

    assert.deepEqual(spoiled, [isSpoiled])
  })
}

test('serveStream() gives a body up that stands still for an hour, but not while it is we who do not read', async () => {
  const isSlow = (_stream: FakeStream, _sink: AnswerSink, deadlines: TestDeadlines) => deadlines.pass(3_600_000)
  const isPaused = (stream: FakeStream, sink: AnswerSink, deadlines: TestDeadlines) => {
    sink.pause()
    isSlow(stream, sink, deadlines)
    sink.resume()
  }

  assert.deepEqual(await toldOf('chunked', ['half'], isSlow), ['data half', 'broken timeout'])
  assert.deepEqual(await toldOf('chunked', ['half'], isPaused), ['data half', 'end '])
})
