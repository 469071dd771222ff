import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { ResponseLimits } from '../../src/http1/limits.ts'
import type { ResponseHead } from '../../src/http1/response-head.ts'
import { readResponseHead } from '../../src/http1/response-head.ts'
import { crumble, cuts, cutUp, readGrowing, spoilt } from './parts.ts'

const roomy: ResponseLimits = { fields: { bytes: 16_384, count: 100, one: 12_288 } }

function read(text: string, method = 'GET', limits = roomy): ResponseHead | 'malformed' | undefined {
  return readResponseHead(Buffer.from(text, 'latin1'), 0, method, limits)
}

function readHead(text: string, method = 'GET'): ResponseHead {
  const head = read(text, method)
  assert.ok(typeof head === 'object', `${head} for ${JSON.stringify(text)}`)
  return head
}

function readParts(parts: readonly Buffer[], limits = roomy): ResponseHead | 'malformed' | undefined {
  return readGrowing(parts, (bytes, searched) => readResponseHead(bytes, searched, 'GET', limits))
}

/** Read letter by letter: what does not begin at a word of memory is not compared with what was read before. */
function readAnew(text: string, method: string, limits: ResponseLimits): ResponseHead | 'malformed' | undefined {
  const bytes = Buffer.from(new ArrayBuffer(text.length + 1), 1)
  bytes.write(text, 'latin1')
  return readResponseHead(bytes, 0, method, limits)
}

/** Without the mark of one that was read before. */
function unmarked(found: ReturnType<typeof read>): ReturnType<typeof read> {
  return typeof found === 'object' ? { ...found, isKnown: false } : found
}

/** Each text in memory of its own, beginning at a word. */
function readAligned(text: string, method = 'GET', limits = roomy): ResponseHead | 'malformed' | undefined {
  const bytes = Buffer.allocUnsafeSlow(text.length)
  bytes.write(text, 'latin1')
  return readResponseHead(bytes, 0, method, limits)
}

const ok = (lines: string) => `HTTP/1.1 200 OK\r\n${lines}\r\n`

test('readResponseHead() reads everything of a head, and how many bytes it has', () => {
  const text = 'HTTP/1.1 200 All is well\r\ncontent-TYPE: Text/Event-Stream ;charset=utf-8\r\nContent-Length: 5\r\n\r\n'

  assert.deepEqual(read(`${text}hello`), {
    status: 200,
    reason: 'All is well',
    lines: ['content-TYPE', 'Text/Event-Stream ;charset=utf-8', 'Content-Length', '5'],
    framing: 5,
    keepAlive: true,
    keepAliveMs: undefined,
    mediaType: 'text/event-stream',
    isKnown: false,
    bytes: text.length,
  })
})

const statusLines = [
  { sent: 'HTTP/1.1 200 ', as: { status: 200, reason: '' } },
  { sent: 'HTTP/1.1 200', as: { status: 200, reason: '' } }, // the space is often left out
  { sent: 'HTTP/1.1 404 Not\tFound \xe9', as: { status: 404, reason: 'Not\tFound \xe9' } },
  { sent: 'HTTP/1.1 599  two spaces', as: { status: 599, reason: ' two spaces' } },
  { sent: `HTTP/1.1 200 ${'r'.repeat(1011)}`, as: { reason: 'r'.repeat(1011) } },
] as const
for (const { sent, as } of statusLines) {
  test(`readResponseHead() takes the status line ${JSON.stringify(sent.slice(0, 40))}`, () => {
    assert.partialDeepStrictEqual(readHead(`${sent}\r\n\r\n`), as)
  })
}

const noStatusLine = [
  { sent: 'HTTP/1.1 20', because: 'two digits' },
  { sent: 'HTTP/1.1 2000', because: 'four digits' },
  { sent: 'HTTP/1.1 099 x', because: 'a status below 100' },
  { sent: 'HTTP/1.1 600 x', because: 'a status above 599' },
  { sent: 'HTTP/1.1 999 x', because: 'a status far above 599' },
  { sent: 'HTTP/1.1 +20 x', because: 'a sign' },
  { sent: 'HTTP/1.1 2 0 x', because: 'a space in the status' },
  { sent: 'HTTP/1.1 0x5 x', because: 'hexadecimal' },
  { sent: 'HTTP/1.1 OK', because: 'no status' },
  { sent: 'HTTP/1.1', because: 'nothing behind the version' },
  { sent: 'HTTP/1.1  200 OK', because: 'two spaces before the status' },
  { sent: 'HTTP/1.1\t200 OK', because: 'a tab before the status' },
  { sent: 'HTTP/1.1 200\tOK', because: 'a tab behind the status' },
  { sent: 'HTTP/1.1 200OK', because: 'no space behind the status' },
  { sent: ' HTTP/1.1 200 OK', because: 'a space before the version' },
  { sent: 'HTTP/1.2 200 OK', because: 'HTTP/1.2' },
  { sent: 'HTTP/2.0 200 OK', because: 'HTTP/2.0' },
  { sent: 'HTTP/2 200', because: 'HTTP/2' },
  { sent: 'HTTP/0.9 200 OK', because: 'HTTP/0.9 by name' },
  { sent: 'http/1.1 200 OK', because: 'a version in lower case' },
  { sent: 'ICY 200 OK', because: 'another protocol' },
  { sent: '<html>', because: 'HTTP/0.9' },
  { sent: '', because: 'an empty line first' },
  { sent: 'GET / HTTP/1.1', because: 'a request' },
  { sent: 'HTTP/1.1 200 O\0K', because: 'NUL in the reason' },
  { sent: 'HTTP/1.1 200 O\rK', because: 'a bare CR in the reason' },
  { sent: 'HTTP/1.1 200 O\nK', because: 'a bare LF in the reason' },
  { sent: 'HTTP/1.1 200 \x7f', because: 'DEL in the reason' },
  { sent: `HTTP/1.1 200 ${'r'.repeat(1012)}`, because: 'a status line beyond all of them' },
] as const
for (const { sent, because } of noStatusLine) {
  test(`readResponseHead() refuses the status line ${JSON.stringify(sent.slice(0, 40))}: ${because}`, () => {
    assert.equal(read(`${sent}\r\nContent-Length: 0\r\n\r\n`), 'malformed')
  })
}

const framings = [
  { status: 200, method: 'GET', sent: '', framing: 'close' },
  { status: 200, method: 'GET', sent: 'Content-Length: 5\r\n', framing: 5 },
  { status: 200, method: 'GET', sent: 'Content-Length: 0\r\n', framing: 0 },
  { status: 200, method: 'GET', sent: 'Transfer-Encoding: Chunked\r\n', framing: 'chunked' },
  { status: 500, method: 'POST', sent: '', framing: 'close' },
  { status: 100, method: 'POST', sent: '', framing: 'none' },
  { status: 103, method: 'GET', sent: 'Link: </a>\r\n', framing: 'none' },
  { status: 101, method: 'GET', sent: 'Upgrade: x\r\n', framing: 'none' },
  { status: 204, method: 'GET', sent: '', framing: 'none' },
  { status: 204, method: 'GET', sent: 'Content-Length: 5\r\n', framing: 'none', mayBeTrailed: true },
  { status: 204, method: 'GET', sent: 'Transfer-Encoding: chunked\r\n', framing: 'none', mayBeTrailed: true },
  { status: 304, method: 'GET', sent: 'Content-Length: 5\r\n', framing: 'none', mayBeTrailed: true },
  { status: 304, method: 'GET', sent: 'Transfer-Encoding: chunked\r\n', framing: 'none', mayBeTrailed: true },
  { status: 304, method: 'GET', sent: '', framing: 'none' },
  { status: 304, method: 'HEAD', sent: '', framing: 'none', mayBeTrailed: true },
  { status: 205, method: 'GET', sent: 'Content-Length: 0\r\n', framing: 0 },
  { status: 200, method: 'HEAD', sent: 'Content-Length: 5\r\n', framing: 'none', mayBeTrailed: true },
  { status: 200, method: 'HEAD', sent: 'Transfer-Encoding: chunked\r\n', framing: 'none', mayBeTrailed: true },
  { status: 200, method: 'HEAD', sent: '', framing: 'none', mayBeTrailed: true },
  { status: 204, method: 'GET', sent: 'Content-Length: 0\r\n', framing: 'none' },
  { status: 200, method: 'HEAD', sent: 'Content-Length: 0\r\n', framing: 'none' },
  { status: 200, method: 'head', sent: 'Content-Length: 5\r\n', framing: 5 },
] as const
for (const each of framings) {
  const { status, method, sent, framing } = each
  test(`readResponseHead() finds the framing ${framing} of ${status} to ${method} with ${JSON.stringify(sent)}`, () => {
    const head = readHead(`HTTP/1.1 ${status} x\r\n${sent}\r\n`, method)

    assert.equal(head.framing, framing)
    assert.equal(head.keepAlive, framing !== 'close' && !('mayBeTrailed' in each))
  })
}

const ambiguous = [
  { sent: 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', because: 'a length and chunks' },
  { sent: 'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', because: 'chunks and a length' },
  { sent: 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', because: 'chunks twice' },
  { sent: 'Transfer-Encoding: gzip, chunked\r\n', because: 'a coding more' },
  { sent: 'Transfer-Encoding: identity\r\n', because: 'identity' },
  { sent: 'Transfer-Encoding: xchunked\r\n', because: 'xchunked' },
  { sent: 'Transfer-Encoding: \x0bchunked\r\n', because: 'a vertical tab' },
  { sent: 'Transfer-Encoding:\r\n', because: 'an empty Transfer-Encoding' },
  { sent: 'Transfer-Encoding:\r\n chunked\r\n', because: 'obs-fold' },
  { sent: 'Content-Length: 5\r\nContent-Length: 5\r\n', because: 'a length twice' },
  { sent: 'Content-Length: 5, 5\r\n', because: 'a list of lengths' },
  { sent: 'Content-Length: +5\r\n', because: 'a sign' },
  { sent: 'Content-Length: 0x5\r\n', because: 'hexadecimal' },
  { sent: 'Content-Length: 05\r\n', because: 'a leading zero' },
  { sent: 'Content-Length:\r\n', because: 'an empty length' },
  { sent: 'Content-Length: 9007199254740993\r\n', because: 'a length that no number holds exactly' },
  { sent: 'Content-Length : 5\r\n', because: 'a space before the colon' },
  { sent: 'A: b\nContent-Length: 5\r\n', because: 'a bare LF' },
  { sent: 'A: b\rContent-Length: 5\r\n', because: 'a bare CR' },
  { sent: 'A: \0\r\n', because: 'NUL' },
] as const
for (const { sent, because } of ambiguous) {
  test(`readResponseHead() refuses ${JSON.stringify(sent)}: ${because}`, () => {
    assert.equal(read(ok(sent)), 'malformed')
    assert.equal(read(ok(sent), 'HEAD'), 'malformed')
  })
}

test('readResponseHead() refuses chunks in HTTP/1.0, which knows none', () => {
  assert.equal(read('HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'), 'malformed')
})

const wishes = [
  { version: '1.1', sent: '', keepAlive: true, keepAliveMs: undefined },
  { version: '1.1', sent: 'Connection: close\r\n', keepAlive: false, keepAliveMs: undefined },
  { version: '1.1', sent: 'Connection: x\r\nConnection: Close, y\r\n', keepAlive: false, keepAliveMs: undefined },
  { version: '1.1', sent: 'Connection: close\r\nConnection: x\r\n', keepAlive: false, keepAliveMs: undefined },
  { version: '1.0', sent: '', keepAlive: false, keepAliveMs: undefined },
  { version: '1.0', sent: 'Connection: Keep-Alive\r\n', keepAlive: true, keepAliveMs: undefined },
  { version: '1.0', sent: 'Connection: keep-alive, close\r\n', keepAlive: false, keepAliveMs: undefined },
  { version: '1.1', sent: 'Keep-Alive: timeout=5, max=100\r\n', keepAlive: true, keepAliveMs: 5000 },
  { version: '1.1', sent: 'Keep-Alive: max=3,Timeout=0\r\n', keepAlive: true, keepAliveMs: 0 },
  { version: '1.1', sent: 'Keep-Alive: timeout=x\r\n', keepAlive: true, keepAliveMs: undefined },
  { version: '1.1', sent: 'Keep-Alive: timeout=-1\r\n', keepAlive: true, keepAliveMs: undefined },
  { version: '1.1', sent: 'Keep-Alive: mytimeout=5\r\n', keepAlive: true, keepAliveMs: undefined },
  { version: '1.1', sent: 'Keep-Alive: timeout=12345678\r\n', keepAlive: true, keepAliveMs: undefined },
] as const
for (const { version, sent, keepAlive, keepAliveMs } of wishes) {
  test(`readResponseHead() ${keepAlive ? 'keeps' : 'closes'} after HTTP/${version} with ${JSON.stringify(sent)}, ${keepAliveMs} ms`, () => {
    const head = readHead(`HTTP/${version} 200 OK\r\nContent-Length: 0\r\n${sent}\r\n`)

    assert.deepEqual([head.keepAlive, head.keepAliveMs], [keepAlive, keepAliveMs])
  })
}

const mediaTypes = [
  ['text/event-stream', 'text/event-stream'],
  ['Text/Event-Stream ;charset=utf-8', 'text/event-stream'],
  ['text/plain', 'text/plain'],
  ['', ''],
  [';', ''],
] as const

test('readResponseHead() reads the media type of each answer, not of one before', () => {
  const order = [0, 0, 1, 0, 2, 1, 3, 0, 4, 2, 2, 0]

  for (const [value, type] of order.map((at) => mediaTypes[at] ?? ['', '']))
    assert.equal(readHead(ok(`Content-Type: ${value}\r\n`)).mediaType, type)
  assert.equal(readHead(ok('')).mediaType, '')
})

const tight: ResponseLimits = { fields: { bytes: 60, count: 4, one: 30 } }
const statusLine = 'HTTP/1.1 200 OK\r\n'
const longLine = `HTTP/1.1 200 ${'r'.repeat(1011)}\r\n`
const sized = [
  { sent: `${statusLine}A: ${'v'.repeat(29)}\r\n\r\n`, kept: true, because: 'a field as long as allowed' },
  { sent: `${statusLine}A: ${'v'.repeat(30)}\r\n\r\n`, kept: false, because: 'a longer field' },
  { sent: `${statusLine}${'A: b\r\n'.repeat(4)}\r\n`, kept: true, because: 'as many fields as allowed' },
  { sent: `${statusLine}${'A: b\r\n'.repeat(5)}\r\n`, kept: false, because: 'a field more' },
  {
    sent: `${statusLine}${`A: ${'v'.repeat(25)}\r\n`.repeat(2)}\r\n`,
    kept: true,
    because: 'fields as large as allowed',
  },
  {
    sent: `${statusLine}A: ${'v'.repeat(25)}\r\nA: ${'v'.repeat(26)}\r\n\r\n`,
    kept: false,
    because: 'fields larger by one',
  },
  { sent: `${longLine}${`A: ${'v'.repeat(25)}\r\n`.repeat(2)}\r\n`, kept: true, because: 'the largest head there is' },
  { sent: `${statusLine}A: ${'v'.repeat(5000)}`, kept: false, because: 'a field without an end' },
] as const
for (const { sent, kept, because } of sized) {
  test(`readResponseHead() ${kept ? 'takes' : 'refuses'} ${because}, come whole or byte by byte`, () => {
    const bytes = Buffer.from(sent, 'latin1')

    assert.equal(typeof read(sent, 'GET', tight), kept ? 'object' : 'string')
    assert.equal(typeof readParts(crumble(bytes), tight), kept ? 'object' : 'string')
  })
}

test('readResponseHead() finds the end of a head that is larger than its first look, whatever follows', () => {
  for (const size of [2000, 2040, 2047, 2048, 2049, 4000, 12_000]) {
    const text = ok(`X: ${'v'.repeat(size)}\r\nContent-Length: 5\r\n`)

    for (const behind of ['', 'hello\r\n\r\nHTTP/1.1 200', 'x'.repeat(65_536)]) {
      const head = readHead(text + behind)

      assert.deepEqual([head.bytes, head.framing], [text.length, 5])
    }
  }
})

test('readResponseHead() gives up on what can be no head before it is whole', () => {
  for (const [first, second] of [
    ['HTTP/1.1 200 OK\n', 'A: b\n'],
    ['HTTP/1.1 200 OK\r', 'A: b'],
    ['HTTP/1.1 200 OK\r\n', '\nA: b'],
    ['HTTP/1.1 200 OK\r\nA', '\0'],
    ['<!doctype html>', '<html>'],
    ['HTTP/2', '.0 200'],
  ] as const)
    assert.equal(readParts([Buffer.from(first), Buffer.from(second)]), 'malformed', JSON.stringify(first))
})

// An oracle that shares nothing with the reader.
const statusLineOf = /^HTTP\/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?$/
const fieldLine = /^([\w!#$%&'*+.^`|~-]+):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*$/

function fitsGrammar(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return false
  const [first = '', ...rest] = text.slice(0, end).split('\r\n')
  const minor = statusLineOf.exec(first)?.[1]
  const fields = rest.map((line) => fieldLine.exec(line))
  if (minor === undefined || fields.includes(null)) return false
  const valuesOf = (wanted: string) =>
    fields.flatMap((field) => (field?.[1]?.toLowerCase() === wanted ? [field[2]?.toLowerCase() ?? ''] : []))
  const [lengths, codings] = [valuesOf('content-length'), valuesOf('transfer-encoding')]
  if (lengths.length + codings.length > 1) return false
  if (codings.length === 1) return codings[0] === 'chunked' && minor === '1'
  return lengths.every((value) => String(Number(value)) === value && /^\d{1,15}$/.test(value))
}

const answers = fc
  .tuple(
    fc.constantFrom('HTTP/1.1 200 OK', 'HTTP/1.0 404 Not Found', 'HTTP/1.1 103', 'HTTP/1.1 204 '),
    fc.array(
      fc.constantFrom(
        'Content-Length: 5',
        'content-length:0',
        'Transfer-Encoding: chunked',
        'Connection: close',
        'Content-Type: text/plain; a="b"',
        'Keep-Alive: timeout=5',
        'X:',
      ),
      { maxLength: 4 },
    ),
    fc.constantFrom('', 'HTTP/1.1 200 OK\r\n\r\n', 'hello'),
  )
  .map(([line, list, after]) => `${[line, ...list].join('\r\n')}\r\n\r\n${after}`)
const anything = fc.oneof(
  { weight: 8, arbitrary: spoilt(answers) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1')) },
)

test('readResponseHead() takes whatever fits the grammar, nothing else, and throws at nothing', () => {
  let [fitting, other] = [0, 0]
  void fc.assert(
    fc.property(anything, (text) => {
      const fits = fitsGrammar(text)
      if (fits) fitting += 1
      else other += 1

      assert.equal(typeof read(text) === 'object', fits)
    }),
    { numRuns: 10_000 },
  )
  assert.ok(fitting > 500 && other > 500, `${fitting} fit, ${other} do not`)
})

test('readResponseHead() finds the same however the bytes are cut', () => {
  void fc.assert(
    fc.property(anything, cuts, (text, shares) => {
      const bytes = Buffer.from(text, 'latin1')

      const whole = unmarked(read(text))
      assert.deepEqual(unmarked(readParts(cutUp(bytes, shares))), whole)
      assert.deepEqual(unmarked(readParts(crumble(bytes))), whole)
    }),
    { numRuns: 3000 },
  )
})

const often = 'HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n'

test('readResponseHead() gives the same object for a head that came again and again, and reads on behind it', () => {
  for (let count = 0; count < 20; count += 1) readAligned(`${often}hello`)

  const [one, other] = [readAligned(`${often}hello`), readAligned(`${often}world, and more`)]

  assert.ok(typeof one === 'object' && one === other && one.isKnown)
  assert.deepEqual(unmarked(one), readAnew(often, 'GET', roomy))
})

const secrets = [
  { line: 'Set-Cookie: session=secret', because: 'a cookie' },
  { line: 'Location: https://a.test/?code=secret', because: 'a code in a location' },
  { line: 'X-Anything: secret', because: 'a line of unknown meaning' },
  { line: `Server: ${'x'.repeat(250)}\r\nVary: ${'y'.repeat(250)}\r\nPragma: ${'z'.repeat(530)}`, because: 'length' },
]
for (const { line, because } of secrets) {
  test(`readResponseHead() never keeps a head because of ${because}`, () => {
    for (let count = 0; count < 100; count += 1) {
      const head = readAligned(`HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${line}\r\n\r\n`)
      assert.ok(typeof head === 'object' && !head.isKnown)
    }
  })
}

test('readResponseHead() takes no head for the one before because of one byte, its length, its method or its limits', () => {
  const learn = () => {
    for (let count = 0; count < 20; count += 1) readAligned(often)
    assert.equal((readAligned(often) as ResponseHead).isKnown, true) // taken under these limits all along
  }
  const tight: ResponseLimits = { fields: { bytes: 59, count: 100, one: 12_288 } }
  const like = [
    ...Array.from(often, (_, at) => often.slice(0, at)),
    ...Array.from(
      often,
      (letter, at) => often.slice(0, at) + String.fromCharCode(letter.charCodeAt(0) ^ 1) + often.slice(at + 1),
    ),
    `${often.slice(0, -2)}Set-Cookie: a=b\r\n\r\n`,
    often.replace('5', '55'),
  ]

  for (const text of like) {
    learn()
    assert.deepEqual(unmarked(readAligned(text)), readAnew(text, 'GET', roomy), text)
  }
  learn()
  assert.deepEqual(unmarked(readAligned(often, 'HEAD')), readAnew(often, 'HEAD', roomy))
  learn()
  assert.equal(readAligned(often, 'GET', tight), 'malformed')
})

test('readResponseHead() finds in a head what is in it, whatever was read before, and how often', () => {
  const lines = fc.constantFrom(
    'Server: a\r\n',
    'Server: b\r\n',
    'Date: Sat, 28 Nov 2026 13:05:45 GMT\r\n',
    'Date: Sat, 28 Nov 2026 13:05:46 GMT\r\n',
    'Content-Length: 5\r\n',
    'Content-Length: 50\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Connection: close\r\n',
    'Set-Cookie: a=b\r\n',
    'Bad Name: x\r\n',
  )
  const status = fc.constantFrom('HTTP/1.1 200 OK', 'HTTP/1.0 200 OK', 'HTTP/1.1 204 No Content', 'HTTP/1.1 200 Ok')
  const message = fc.record({
    text: fc
      .tuple(status, fc.array(lines, { maxLength: 3 }))
      .map(([first, rest]) => `${first}\r\n${rest.join('')}\r\n`),
    method: fc.constantFrom('GET', 'HEAD'),
    times: fc.nat(20),
  })
  let known = 0
  void fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 8 }), (messages) => {
      for (const { text, method, times } of messages) {
        for (let count = 0; count < times; count += 1) readAligned(text, method)
        const found = readAligned(text, method)
        if (typeof found === 'object' && found.isKnown) known += 1

        assert.deepEqual(unmarked(found), readAnew(text, method, roomy))
      }
    }),
    { numRuns: 1000 },
  )
  assert.ok(known > 300, `${known} were known`)
})
