import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { createBodyReader as createReader } from '../../src/http1/body.ts'
import { trailerLimits } from '../../src/http1/limits.ts'
import type { Framing } from '../../src/http1/request-head.ts'
import { crumble, cuts, cutUp, spoilt } from './parts.ts'

/** What a reader made of a body: where it ended, and what it told. */
type Reading = {
  readonly used: number | 'malformed'
  readonly content: string
  readonly trailers: readonly string[] | undefined
  readonly isDone: boolean
}

const createBodyReader = (framing: Framing, sink: Parameters<typeof createReader>[1]) =>
  createReader(framing, sink, trailerLimits)

/** Feeds a reader as a connection does: nothing once it has ended, nothing once it is broken. */
function read(framing: Framing, parts: readonly Buffer[]): Reading {
  let content = ''
  let ends = 0
  let trailers: readonly string[] | undefined
  const reader = createBodyReader(framing, {
    data(chunk) {
      assert.equal(ends, 0, 'no data behind the end')
      assert.ok(chunk.length > 0, 'no empty data')
      content += chunk.toString('latin1')
    },
    end(found) {
      ends += 1
      trailers = found
    },
  })
  let used = 0
  for (const part of parts) {
    if (reader.isDone()) break
    const taken = reader.feed(part)
    if (taken === 'malformed') return { used: 'malformed', content, trailers, isDone: reader.isDone() }
    assert.ok(taken === part.length || reader.isDone(), 'all of it is taken, but behind the end')
    used += taken
  }
  assert.ok(ends <= 1)
  return { used, content, trailers, isDone: reader.isDone() }
}

const whole = (text: string) => [Buffer.from(text, 'latin1')]

test('createBodyReader() has ended before it begins where there is no body, and tells no end', () => {
  for (const framing of ['none', 0] as const) {
    const reader = createBodyReader(framing, { data: () => assert.fail(), end: () => assert.fail() })

    assert.equal(reader.isDone(), true)
    assert.equal(reader.remaining(), 0)
    assert.equal(reader.feed(Buffer.from('GET')), 0)
  }
})

test('createBodyReader() takes so many bytes, however they are cut, and leaves what is behind them', () => {
  const sent = Buffer.from('hello, worldGET / HTTP/1.1')
  void fc.assert(
    fc.property(cuts, (shares) => {
      assert.deepEqual(read(12, cutUp(sent, shares)), {
        used: 12,
        content: 'hello, world',
        trailers: [],
        isDone: true,
      })
    }),
  )
})

test('createBodyReader().remaining() counts down a length, and knows no other end', () => {
  const sink = { data: () => {}, end: () => {} }
  const counted = createBodyReader(10, sink)
  const chunked = createBodyReader('chunked', sink)

  counted.feed(Buffer.from('abc'))
  chunked.feed(Buffer.from('5\r\nabc'))

  assert.equal(counted.remaining(), 7)
  assert.equal(chunked.remaining(), Number.POSITIVE_INFINITY)
  assert.equal(createBodyReader('close', sink).remaining(), Number.POSITIVE_INFINITY)
  chunked.feed(Buffer.from('de\r\n0\r\n\r\n'))
  assert.equal(chunked.remaining(), 0)
})

test('createBodyReader() never ends a body that the end of the connection ends', () => {
  const found = read('close', [...whole('0\r\n\r\n'), ...whole('more')])

  assert.deepEqual(found, { used: 9, content: '0\r\n\r\nmore', trailers: undefined, isDone: false })
})

test('createBodyReader() hands on views of what it was fed, and copies nothing', () => {
  const bytes = Buffer.from('5\r\nhello\r\n0\r\n\r\n')
  const seen: Buffer[] = []

  createBodyReader('chunked', { data: (chunk) => void seen.push(chunk), end: () => {} }).feed(bytes)

  assert.equal(seen.length, 1)
  assert.equal(seen[0]?.buffer, bytes.buffer)
  assert.equal(seen[0]?.byteOffset, bytes.byteOffset + 3)
})

const chunked = [
  { sent: '0\r\n\r\n', content: '', because: 'nothing' },
  { sent: '5\r\nhello\r\n0\r\n\r\n', content: 'hello', because: 'a chunk' },
  { sent: '5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n', content: 'hello, world', because: 'two chunks' },
  { sent: '00005\r\nhello\r\n000\r\n\r\n', content: 'hello', because: 'zeros before a size' },
  { sent: 'a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n', content: '01234567890123456789', because: 'either case' },
  { sent: '4\r\n\r\n\r\n\r\n0\r\n\r\n', content: '\r\n\r\n', because: 'line ends as content' },
  { sent: '5;a=b\r\nhello\r\n0;c\r\n\r\n', content: 'hello', because: 'extensions' },
  { sent: '5 \t; a="b c"\r\nhello\r\n0\r\n\r\n', content: 'hello', because: 'white space before an extension' },
  { sent: `5;${'x'.repeat(252)}\r\nhello\r\n0\r\n\r\n`, content: 'hello', because: 'a size line of 256 bytes' },
] as const
for (const { sent, content, because } of chunked) {
  test(`createBodyReader() takes ${because} in ${JSON.stringify(sent.slice(0, 40))}`, () => {
    const expected = { used: sent.length, content, trailers: [], isDone: true }

    assert.deepEqual(read('chunked', whole(`${sent}GET / HTTP/1.1\r\n\r\n`)), expected)
    assert.deepEqual(read('chunked', crumble(Buffer.from(`${sent}GET`))), expected)
  })
}

const broken = [
  { sent: '\r\n', because: 'an empty size' },
  { sent: 'g\r\n', because: 'no digit' },
  { sent: '-5\r\nhello\r\n', because: 'a negative size' },
  { sent: '+5\r\nhello\r\n', because: 'a sign' },
  { sent: '0x5\r\nhello\r\n', because: '0x' },
  { sent: '5h\r\nhello\r\n', because: 'a letter behind the size' },
  { sent: ' 5\r\nhello\r\n', because: 'a space before the size' },
  { sent: '5 \r\nhello\r\n', because: 'a space behind the size' },
  { sent: '5,5\r\nhello\r\n', because: 'a list' },
  { sent: '1_0\r\n', because: 'an underscore' },
  { sent: '\xb2\r\nab\r\n', because: 'a digit of another script' },
  { sent: '5\nhello\n0\n\n', because: 'bare LFs' },
  { sent: '5\nhello\r\n', because: 'a bare LF behind the size' },
  { sent: '5\rhello\r\n', because: 'a bare CR behind the size' },
  { sent: '5\r\r\nhello\r\n', because: 'a CR more' },
  { sent: '5\rx', because: 'a bare CR, before there is a line' },
  { sent: '5;\0', because: 'NUL, before there is a line' },
  { sent: '5\r\nhello!!', because: 'two bytes more than the size says, before there is a line' },
  { sent: '0\r\nA: \x7f', because: 'DEL in a trailer, before there is a line' },
  { sent: '0\r\nA: \x7f\r\n', because: 'DEL in a trailer, before the last one' },
  { sent: '0\r\n\r\r\r\n', because: 'bare CRs in a trailer, before the last one' },
  { sent: '5;a=b\nhello\r\n', because: 'a bare LF behind an extension' },
  { sent: '5;a\rb\r\nhello\r\n', because: 'a bare CR in an extension' },
  { sent: '5;\0\r\nhello\r\n', because: 'NUL in an extension' },
  { sent: '5\r\nhello0\r\n\r\n', because: 'no line end behind a chunk' },
  { sent: '5\r\nhello\n0\r\n\r\n', because: 'a bare LF behind a chunk' },
  { sent: '5\r\nhello!\r\n0\r\n\r\n', because: 'a byte more than the size says' },
  { sent: '5\r\nhell\r\n0\r\n\r\n', because: 'a byte less than the size says' },
  { sent: 'ffffffffffffffff\r\n', because: 'a size of 64 bits' },
  { sent: '10000000000000005\r\nhello\r\n', because: '5 modulo 2 to the 64th' },
  { sent: '100000005\r\nhello\r\n0\r\n\r\n'.replace('1', '100000'), because: '5 modulo 2 to the 32nd, in 14 digits' },
  { sent: `${'0'.repeat(12)}5\r\nhello\r\n`, because: 'thirteen digits' },
  { sent: `5;${'x'.repeat(253)}\r\nhello\r\n`, because: 'a size line of 257 bytes' },
  { sent: `5;${'x'.repeat(300)}`, because: 'an extension without an end' },
  { sent: '0'.repeat(300), because: 'a size without an end' },
  { sent: '0\r\nA : b\r\n\r\n', because: 'a space before the colon of a trailer' },
  { sent: '0\r\n A: b\r\n\r\n', because: 'a space before a trailer' },
  { sent: '0\r\nA: b\r\n c\r\n\r\n', because: 'a folded trailer' },
  { sent: '0\r\nA\r\n\r\n', because: 'a trailer without a colon' },
  { sent: '0\r\n: b\r\n\r\n', because: 'a trailer without a name' },
  { sent: '0\r\nA: b\n\r\n', because: 'a bare LF behind a trailer' },
  { sent: '0\r\nA: b\rc\r\n\r\n', because: 'a bare CR in a trailer' },
  { sent: '0\r\nA: \0\r\n\r\n', because: 'NUL in a trailer' },
  { sent: '0\r\n\n', because: 'a bare LF for the last line' },
  { sent: `0\r\n${'A: b\r\n'.repeat(51)}\r\n`, because: 'too many trailers' },
  { sent: `0\r\nA: ${'b'.repeat(4096)}\r\n\r\n`, because: 'a trailer too long' },
  { sent: `0\r\n${`A: ${'b'.repeat(4000)}\r\n`.repeat(3)}\r\n`, because: 'trailers too large' },
  { sent: `0\r\nA: ${'b'.repeat(9000)}`, because: 'a trailer without an end' },
  { sent: `0\r\n${'A: b\r\n'.repeat(2000)}`, because: 'trailers without an end' },
] as const
for (const { sent, because } of broken) {
  test(`createBodyReader() refuses ${JSON.stringify(sent.slice(0, 40))}: ${because}`, () => {
    for (const found of [read('chunked', whole(sent)), read('chunked', crumble(Buffer.from(sent, 'latin1')))]) {
      assert.equal(found.used, 'malformed')
      assert.equal(found.trailers, undefined)
      assert.equal(found.isDone, false)
    }
  })
}

test('createBodyReader() hands over trailers as they came, up to their limits', () => {
  const many = Array.from({ length: 50 }, (_, at) => [`X-${at}`, `v ${at}`]).flat()
  const lines = many.map((each, at) => (at % 2 === 0 ? `${each}:` : `\t${each} \r\n`)).join('')

  assert.deepEqual(read('chunked', whole(`0\r\n${lines}\r\n`)).trailers, many)
  assert.deepEqual(read('chunked', whole(`0\r\nA:${'b'.repeat(4095)}\r\n\r\n`)).trailers, ['A', 'b'.repeat(4095)])
})

test('createBodyReader() puts up with extensions, and keeps nothing of them', () => {
  const flood = `1;${'x'.repeat(250)}\r\na\r\n`.repeat(2000)

  const found = read('chunked', whole(`${flood}0\r\n\r\n`))

  assert.equal(found.content, 'a'.repeat(2000))
  assert.equal(found.isDone, true)
})

// An oracle that shares nothing with the reader: one expression a chunk, over the whole text.
function decode(text: string): { content: string; used: number } | undefined {
  const size = /([0-9a-f]{1,12})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n/iy
  const trailers = /(?:[\w!#$%&'*+.^`|~-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n/y
  let content = ''
  for (let at = 0; ; ) {
    size.lastIndex = at
    const found = size.exec(text)
    if (found === null || found[0].length > 256) return undefined
    const length = Number(`0x${found[1]}`)
    at += found[0].length
    if (length === 0) {
      trailers.lastIndex = at
      const end = trailers.exec(text)
      return end === null ? undefined : { content, used: at + end[0].length }
    }
    if (text.slice(at + length, at + length + 2) !== '\r\n') return undefined
    content += text.slice(at, at + length)
    at += length + 2
  }
}

const chunk = fc
  .tuple(fc.string({ minLength: 1, maxLength: 20 }), fc.constantFrom('', ';', ';a=b', ' ; c="d"'), fc.boolean())
  .map(([content, extension, isUpper]) => {
    const size = content.length.toString(16)
    return `${isUpper ? size.toUpperCase() : size}${extension}\r\n${content}\r\n`
  })
const bodies = fc
  .tuple(
    fc.array(chunk, { maxLength: 4 }),
    fc.constantFrom('0', '000', '0;x'),
    fc.array(fc.constantFrom('A: b\r\n', 'x-y:\r\n', 'A:\tc d \r\n'), { maxLength: 3 }),
    fc.constantFrom('', 'GET / HTTP/1.1\r\n\r\n', '\r\n'),
  )
  .map(([chunks, last, trailers, after]) => `${chunks.join('')}${last}\r\n${trailers.join('')}\r\n${after}`)

test('createBodyReader() decodes whatever fits the grammar, nothing else, and throws at nothing', () => {
  let [fitting, other] = [0, 0]
  void fc.assert(
    fc.property(spoilt(bodies), (text) => {
      const expected = decode(text)
      const found = read('chunked', whole(text))
      if (expected === undefined) other += 1
      else fitting += 1

      assert.equal(found.isDone, expected !== undefined)
      if (expected === undefined) assert.equal(found.trailers, undefined)
      else assert.deepEqual([found.used, found.content], [expected.used, expected.content])
    }),
    { numRuns: 10_000 },
  )
  assert.ok(fitting > 500 && other > 500, `${fitting} fit, ${other} do not`)
})

test('createBodyReader() finds the same however the bytes are cut', () => {
  void fc.assert(
    fc.property(spoilt(bodies), cuts, (text, shares) => {
      const bytes = Buffer.from(text, 'latin1')

      assert.deepEqual(read('chunked', cutUp(bytes, shares)), read('chunked', whole(text)))
      assert.deepEqual(read('chunked', crumble(bytes)), read('chunked', whole(text)))
    }),
    { numRuns: 3000 },
  )
})

test('createBodyReader() throws at no bytes', () => {
  void fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), cuts, (bytes, shares) => {
      read('chunked', cutUp(Buffer.from(bytes), shares))
    }),
    { numRuns: 2000 },
  )
})
