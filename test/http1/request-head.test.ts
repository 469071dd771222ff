import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { readAccessRequest } from '../../src/decision/request.ts'
import type { RequestLimits } from '../../src/http1/limits.ts'
import type { HeadProblem, Http1Head } from '../../src/http1/request-head.ts'
import { readRequestHead } from '../../src/http1/request-head.ts'
import { crumble, cuts, cutUp, readGrowing, spoilt } from './parts.ts'

const roomy: RequestLimits = { target: 8192, fields: { bytes: 16_384, count: 100, one: 12_288 } }

function read(text: string, limits = roomy): Http1Head | HeadProblem | undefined {
  return readRequestHead(Buffer.from(text, 'latin1'), 0, limits)
}

function readHead(text: string): Http1Head {
  const head = read(text)
  assert.equal(head?.kind, 'head', JSON.stringify(text))
  return head
}

function readParts(parts: readonly Buffer[], limits = roomy): Http1Head | HeadProblem | undefined {
  return readGrowing(parts, (bytes, searched) => readRequestHead(bytes, searched, limits))
}

const get = (lines: string) => `GET /a HTTP/1.1\r\nHost: a.test\r\n${lines}\r\n`

test('readRequestHead() reads everything of a head, and how many bytes it has', () => {
  const text = 'POST /a/b?c=d HTTP/1.1\r\nHost: a.test\r\naUTHORIZATION: Bearer x\r\nContent-Length: 5\r\n\r\n'

  assert.deepEqual(read(`${text}hello`), {
    kind: 'head',
    method: 'POST',
    target: '/a/b?c=d',
    version: '1.1',
    lines: ['Host', 'a.test', 'aUTHORIZATION', 'Bearer x', 'Content-Length', '5'],
    host: ['a.test'],
    authorization: ['Bearer x'],
    framing: 5,
    keepAlive: true,
    expectsContinue: false,
    upgrade: undefined,
    bytes: text.length,
  })
})

const lines = [
  { sent: 'GET /a HTTP/1.1', as: { method: 'GET', target: '/a', version: '1.1', keepAlive: true } },
  { sent: 'GET /a HTTP/1.0', as: { method: 'GET', target: '/a', version: '1.0', keepAlive: false } },
  { sent: 'get /a HTTP/1.1', as: { method: 'get', target: '/a' } }, // a method of its own (RFC 9110 §9.1)
  { sent: "!#$%&'*+-.^_`|~aZ9 / HTTP/1.1", as: { method: "!#$%&'*+-.^_`|~aZ9" } },
  { sent: `${'M'.repeat(32)} / HTTP/1.1`, as: { method: 'M'.repeat(32) } },
  { sent: 'GET http://b.test/a HTTP/1.1', as: { target: 'http://b.test/a' } }, // absolute form
  { sent: 'CONNECT a.test:443 HTTP/1.1', as: { target: 'a.test:443' } }, // authority form
  { sent: 'OPTIONS * HTTP/1.1', as: { target: '*' } }, // asterisk form
  { sent: 'GET /\xe9 HTTP/1.1', as: { target: '/\xe9' } }, // not the reader's to refuse: its own reason, path_rejected
] as const
for (const { sent, as } of lines) {
  test(`readRequestHead() takes the request line ${JSON.stringify(sent)}`, () => {
    assert.partialDeepStrictEqual(readHead(`${sent}\r\nHost: a.test\r\n\r\n`), as)
  })
}

const noRequestLine = [
  { sent: 'GET  HTTP/1.1', because: 'an empty target' },
  { sent: 'GET HTTP/1.1', because: 'no target' },
  { sent: 'GET /a', because: 'HTTP/0.9' },
  { sent: 'GET /a HTTP/0.9', because: 'HTTP/0.9 by name' },
  { sent: 'GET /a HTTP/2.0', because: 'HTTP/2.0' },
  { sent: 'PRI * HTTP/2.0', because: 'the preface of HTTP/2' },
  { sent: 'GET /a HTTP/1.2', because: 'HTTP/1.2' },
  { sent: 'GET /a HTTP/1.11', because: 'HTTP/1.11' },
  { sent: 'GET /a HTTP/11', because: 'a version without a point' },
  { sent: 'GET /a HTTP/1,1', because: 'a comma in the version' },
  { sent: 'GET /a http/1.1', because: 'a version in lower case' },
  { sent: 'GET /a HTTPS/1.1', because: 'another protocol' },
  { sent: 'GET /a HTTP/1.1 ', because: 'a space behind the version' },
  { sent: 'GET /a HTTP/1.1\r', because: 'a bare CR behind the version' },
  { sent: 'GET /a  HTTP/1.1', because: 'two spaces before the version' },
  { sent: 'GET  /a HTTP/1.1', because: 'two spaces before the target' },
  { sent: ' GET /a HTTP/1.1', because: 'a space before the method' },
  { sent: 'GET\t/a HTTP/1.1', because: 'a tab behind the method' },
  { sent: 'GET /a\tHTTP/1.1', because: 'a tab before the version' },
  { sent: 'GET /a\tb HTTP/1.1', because: 'a tab in the target' },
  { sent: 'GET /a b HTTP/1.1', because: 'a space in the target' },
  { sent: 'GET /a HTTP/1.1 HTTP/1.1', because: 'two versions' },
  { sent: 'GET /a\0 HTTP/1.1', because: 'NUL in the target' },
  { sent: 'GET /a\rb HTTP/1.1', because: 'a bare CR in the target' },
  { sent: 'GET /a\nb HTTP/1.1', because: 'a bare LF in the target' },
  { sent: 'GET /a\x7f HTTP/1.1', because: 'DEL in the target' },
  { sent: 'G\0T /a HTTP/1.1', because: 'NUL in the method' },
  { sent: 'G\xc9T /a HTTP/1.1', because: 'obs-text in the method' },
  { sent: 'GE(T /a HTTP/1.1', because: 'a delimiter in the method' },
  { sent: `${'M'.repeat(33)} /a HTTP/1.1`, because: 'a method beyond all methods' },
  { sent: '/a HTTP/1.1', because: 'no method' },
  { sent: 'HTTP/1.1 200 OK', because: 'an answer' },
  { sent: '\xff\xfe', because: 'no text' },
  { sent: '', because: 'an empty line, and then another' },
  { sent: '\r\n', because: 'two empty lines' },
] as const
for (const { sent, because } of noRequestLine) {
  test(`readRequestHead() refuses the request line ${JSON.stringify(sent)}: ${because}`, () => {
    for (const text of [`${sent}\r\nHost: a.test\r\n\r\n`, `\r\n${sent}\r\nHost: a.test\r\n\r\n`])
      if (sent !== '' || text.startsWith('\r\n\r\n')) assert.deepEqual(read(text), { kind: 'malformed' })
  })
}

test('readRequestHead() skips one empty line before a request, and counts it', () => {
  const text = get('')

  assert.deepEqual(readHead(`\r\n${text}`), { ...readHead(text), bytes: text.length + 2 })
})

const framings = [
  { sent: '', framing: 'none' },
  { sent: 'Content-Length: 0\r\n', framing: 0 },
  { sent: 'content-LENGTH:\t17 \r\n', framing: 17 },
  { sent: 'Content-Length: 999999999999999\r\n', framing: 999_999_999_999_999 },
  { sent: 'Transfer-Encoding: chunked\r\n', framing: 'chunked' },
  { sent: 'transfer-encoding: CHUNKED\r\n', framing: 'chunked' },
] as const
for (const { sent, framing } of framings) {
  test(`readRequestHead() finds the framing ${framing} in ${JSON.stringify(sent)}`, () => {
    assert.equal(readHead(get(sent)).framing, framing)
  })
}

const smuggling = [
  { sent: 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', because: 'CL.TE' },
  { sent: 'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', because: 'TE.CL' },
  { sent: 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', because: 'TE.TE' },
  { sent: 'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n', because: 'TE.TE, one of them another' },
  { sent: 'Transfer-Encoding: identity\r\n', because: 'identity' },
  { sent: 'Transfer-Encoding: gzip, chunked\r\n', because: 'a coding more' },
  { sent: 'Transfer-Encoding: chunked, chunked\r\n', because: 'chunked twice' },
  { sent: 'Transfer-Encoding: chunked, identity\r\n', because: 'chunked, but not last' },
  { sent: 'Transfer-Encoding: ,chunked\r\n', because: 'an empty coding' },
  { sent: 'Transfer-Encoding: chunked,\r\n', because: 'an empty coding at the end' },
  { sent: 'Transfer-Encoding: xchunked\r\n', because: 'xchunked' },
  { sent: 'Transfer-Encoding: chunked;q=1\r\n', because: 'a parameter' },
  { sent: 'Transfer-Encoding: "chunked"\r\n', because: 'quotes' },
  { sent: 'Transfer-Encoding: \xa0chunked\r\n', because: 'a space that is none' },
  { sent: 'Transfer-Encoding: \x0bchunked\r\n', because: 'a vertical tab' },
  { sent: 'Transfer-Encoding:\r\n', because: 'an empty Transfer-Encoding' },
  { sent: 'Transfer-Encoding:\r\nContent-Length: 5\r\n', because: 'an empty Transfer-Encoding with a length' },
  { sent: 'Transfer-Encoding : chunked\r\n', because: 'a space before the colon' },
  { sent: 'Transfer-Encoding\r\n: chunked\r\n', because: 'a line end before the colon' },
  { sent: 'Transfer-Encoding:\r\n chunked\r\n', because: 'obs-fold' },
  { sent: 'X: y\nTransfer-Encoding: chunked\r\n', because: 'a bare LF before it' },
  { sent: 'X: y\rTransfer-Encoding: chunked\r\n', because: 'a bare CR before it' },
  { sent: 'Content-Length: 5\r\nContent-Length: 5\r\n', because: 'the same length twice' },
  { sent: 'Content-Length: 5\r\ncontent-length: 6\r\n', because: 'two lengths' },
  { sent: 'Content-Length: 5, 5\r\n', because: 'a list of one length' },
  { sent: 'Content-Length: 5,5\r\n', because: 'a list of one length, without a space' },
  { sent: 'Content-Length: +5\r\n', because: 'a sign' },
  { sent: 'Content-Length: -5\r\n', because: 'a negative length' },
  { sent: 'Content-Length: -0\r\n', because: 'a negative nothing' },
  { sent: 'Content-Length: 0x5\r\n', because: 'hexadecimal' },
  { sent: 'Content-Length: 005\r\n', because: 'leading zeros' },
  { sent: 'Content-Length: 00\r\n', because: 'two zeros' },
  { sent: 'Content-Length: 5.0\r\n', because: 'a fraction' },
  { sent: 'Content-Length: 5e1\r\n', because: 'an exponent' },
  { sent: 'Content-Length: 1_000\r\n', because: 'an underscore' },
  { sent: 'Content-Length: 5 5\r\n', because: 'a space within' },
  { sent: 'Content-Length: "5"\r\n', because: 'quotes' },
  { sent: 'Content-Length: 5;\r\n', because: 'a parameter' },
  { sent: 'Content-Length: \xb2\r\n', because: 'a digit of another script' },
  { sent: 'Content-Length:\r\n', because: 'an empty length' },
  { sent: 'Content-Length: 9007199254740993\r\n', because: 'a length that no number holds exactly' },
  { sent: 'Content-Length: 18446744073709551621\r\n', because: '5 modulo 2 to the 64th' },
  { sent: 'Content-Length: 5\0\r\n', because: 'NUL' },
  { sent: 'Expect: 200-ok\r\n', because: 'an unknown expectation' },
  { sent: 'Expect: 100-continue, x\r\n', because: 'an expectation more' },
  { sent: 'Expect:\r\n', because: 'an empty expectation' },
] as const
for (const { sent, because } of smuggling) {
  test(`readRequestHead() refuses ${JSON.stringify(sent)}: ${because}`, () => {
    assert.deepEqual(read(get(sent)), { kind: 'malformed' })
  })
}

test('readRequestHead() refuses chunks in HTTP/1.0, which knows none', () => {
  assert.deepEqual(read('POST /a HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n'), {
    kind: 'malformed',
  })
})

const hosts = [
  { sent: '', because: 'no Host' },
  { sent: 'Host: a.test\r\nHost: a.test\r\n', because: 'the same Host twice' },
  { sent: 'Host: a.test\r\nhOST: b.test\r\n', because: 'two Hosts' },
  { sent: 'Host:\r\n', because: 'an empty Host' },
  { sent: 'Host: a.test, b.test\r\n', because: 'a list' },
  { sent: 'Host: a.test/b\r\n', because: 'a path' },
  { sent: 'Host: u@a.test\r\n', because: 'a user' },
  { sent: 'Host: http://a.test\r\n', because: 'a scheme' },
  { sent: 'Host: a.test:\r\n', because: 'an empty port' },
  { sent: 'Host: a.test:x\r\n', because: 'a port that is no number' },
  { sent: 'Host: a..test\r\n', because: 'an empty label' },
  { sent: 'Host: a test\r\n', because: 'a space' },
  { sent: 'Host: a\xe9.test\r\n', because: 'a byte beyond ASCII' },
  { sent: 'Host: [::1\r\n', because: 'half a bracket' },
] as const
for (const { sent, because } of hosts) {
  for (const version of ['1.0', '1.1']) {
    test(`readRequestHead() hands over what readAccessRequest() refuses in HTTP/${version}: ${because}`, () => {
      const { method, target, host, authorization } = readHead(`GET / HTTP/${version}\r\n${sent}\r\n`)

      const judged = readAccessRequest({ method, target, host, authorization, arrivedMs: 0 }, { hosts: new Set() })

      assert.equal(judged.kind === 'deny' && judged.reason, 'request_malformed')
    })
  }
}

test('readRequestHead() hands over every Authorization line, in order', () => {
  assert.deepEqual(readHead(get('Authorization: a\r\nX: y\r\nauthorization: b\r\nAuthorization:\r\n')).authorization, [
    'a',
    'b',
    '',
  ])
})

const wishes = [
  { version: '1.1', sent: 'Connection: close\r\n', as: { keepAlive: false } },
  { version: '1.1', sent: 'Connection: x, CLOSE\r\n', as: { keepAlive: false } },
  { version: '1.1', sent: 'Connection: x\r\nConnection: close\r\nConnection: y\r\n', as: { keepAlive: false } },
  { version: '1.1', sent: 'Connection: closed\r\n', as: { keepAlive: true } },
  { version: '1.0', sent: 'Connection: keep-alive\r\n', as: { keepAlive: false } }, // we keep none of these open
  { version: '1.1', sent: 'Expect: 100-Continue\r\n', as: { expectsContinue: true } },
  { version: '1.0', sent: 'Expect: 100-continue\r\n', as: { expectsContinue: false } }, // RFC 9110 §10.1.1
  { version: '1.1', sent: 'Connection: Upgrade\r\nUpgrade: WebSocket\r\n', as: { upgrade: 'websocket' } },
  { version: '1.1', sent: 'Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b/1\r\n', as: { upgrade: 'a, b/1' } },
  { version: '1.1', sent: 'Upgrade: websocket\r\n', as: { upgrade: undefined } },
  { version: '1.1', sent: 'Connection: upgrade\r\n', as: { upgrade: undefined } },
  { version: '1.0', sent: 'Connection: upgrade\r\nUpgrade: websocket\r\n', as: { upgrade: undefined } }, // RFC 9110 §7.8
  {
    version: '1.1',
    sent: 'Content-Length: 0\r\nConnection: upgrade\r\nUpgrade: x\r\n',
    as: { upgrade: 'x', framing: 0 },
  },
  {
    version: '1.1',
    sent: 'Content-Length: 5\r\nConnection: upgrade\r\nUpgrade: x\r\n',
    as: { upgrade: undefined, framing: 5 },
  },
  {
    version: '1.1',
    sent: 'Transfer-Encoding: chunked\r\nConnection: upgrade\r\nUpgrade: x\r\n',
    as: { upgrade: undefined, framing: 'chunked' },
  },
] as const
for (const { version, sent, as } of wishes) {
  test(`readRequestHead() reads ${JSON.stringify(sent)} in HTTP/${version} as ${Object.entries(as).flat().join(' ')}`, () => {
    const head: Partial<Http1Head> = readHead(`GET / HTTP/${version}\r\nHost: a\r\n${sent}\r\n`)

    for (const [name, value] of Object.entries(as)) assert.equal(head[name as keyof Http1Head], value)
  })
}

const tight: RequestLimits = { target: 20, fields: { bytes: 60, count: 4, one: 30 } }
const sized = [
  { sent: `GET /${'a'.repeat(19)} HTTP/1.1\r\n\r\n`, kind: 'head', because: 'a target as long as allowed' },
  { sent: `GET /${'a'.repeat(20)} HTTP/1.1\r\n\r\n`, kind: 'target_too_large', because: 'a longer target' },
  { sent: `GET /${'a'.repeat(500)} HTTP/1.1\r\n\r\n`, kind: 'target_too_large', because: 'a far longer target' },
  { sent: `GET /${'a'.repeat(500)}`, kind: 'target_too_large', because: 'a far longer target without an end' },
  { sent: `GET / HTTP/1.1\r\nA: ${'v'.repeat(29)}\r\n\r\n`, kind: 'head', because: 'a field as long as allowed' },
  { sent: `GET / HTTP/1.1\r\nA: ${'v'.repeat(30)}\r\n\r\n`, kind: 'head_too_large', because: 'a longer field' },
  { sent: `GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(4)}\r\n`, kind: 'head', because: 'as many fields as allowed' },
  { sent: `GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(5)}\r\n`, kind: 'head_too_large', because: 'a field more' },
  {
    sent: `GET / HTTP/1.1\r\n${`A: ${'v'.repeat(25)}\r\n`.repeat(2)}\r\n`,
    kind: 'head',
    because: 'fields as large as allowed',
  },
  {
    sent: `GET / HTTP/1.1\r\nA: ${'v'.repeat(25)}\r\nA: ${'v'.repeat(26)}\r\n\r\n`,
    kind: 'head_too_large',
    because: 'fields larger by one',
  },
  { sent: `GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(100)}`, kind: 'head_too_large', because: 'fields without an end' },
  { sent: `GET / HTTP/1.1\r\nA: ${'b'.repeat(500)}`, kind: 'head_too_large', because: 'a field without an end' },
  {
    sent: `${'M'.repeat(32)} /${'a'.repeat(19)} HTTP/1.1\r\n${`A: ${'v'.repeat(25)}\r\n`.repeat(2)}\r\n`,
    kind: 'head',
    because: 'the largest head there is',
  },
] as const
for (const { sent, kind, because } of sized) {
  test(`readRequestHead() finds ${kind} in ${because}, come whole or byte by byte`, () => {
    const bytes = Buffer.from(sent, 'latin1')

    assert.equal(read(sent, tight)?.kind, kind)
    assert.equal(readParts(crumble(bytes), tight)?.kind, kind)
    for (let at = 1; at < bytes.length; at += 1)
      assert.equal(readParts([bytes.subarray(0, at), bytes.subarray(at)], tight)?.kind, kind, `cut at ${at}`)
  })
}

test('readRequestHead() waits for no end of what never ends, whatever it is', () => {
  for (const character of ['a', ' ', '\r\n', 'A: b\r\n']) {
    const endless = Array.from({ length: 300 }, () => Buffer.from(character))

    assert.notEqual(readParts(endless, tight), undefined, JSON.stringify(character))
  }
})

test('readRequestHead() gives up on what is too long with the same byte, whether it comes whole or in pieces', () => {
  const endless = [`GET /${'a'.repeat(500)}`, `GET / HTTP/1.1\r\nA: ${'b'.repeat(500)}`, `\r\n${'a'.repeat(500)}`]
  for (const text of [...sized.map(({ sent }) => sent), ...endless]) {
    const whole = Array.from(text, (_, at) => at + 1).find((length) => read(text.slice(0, length), tight) !== undefined)
    assert.ok(whole !== undefined)

    for (const size of [1, 7, 50]) {
      const cuts = Array.from({ length: Math.ceil(whole / size) }, (_, at) => text.slice(at * size, (at + 1) * size))
      const found = readParts(
        cuts.map((cut) => Buffer.from(cut, 'latin1')),
        tight,
      )

      assert.deepEqual(
        found,
        read(text.slice(0, Math.ceil(whole / size) * size), tight),
        `${text.slice(0, 30)}… by ${size}`,
      )
    }
  }
})

test('readRequestHead() takes a head that comes line by line', () => {
  const whole = get('X-A: b\r\nContent-Length: 3\r\n')
  const parts = whole.split(/(?<=\n)/).map((line) => Buffer.from(line))

  assert.ok(parts.length > 4)
  assert.deepEqual(readParts(parts), readHead(whole))
})

test('readRequestHead() gives up on what can be no head before it is whole', () => {
  for (const [first, second] of [
    ['GET / HTTP/1.1\n', 'Host: a\n'],
    ['GET / HTTP/1.1', '\nHost: a'],
    ['GET / HTTP/1.1\r', 'Host: a'],
    ['GET / HTTP/1.1\r\n', '\nHost: a'],
    ['GET / HTTP/1.1\r\nA', '\0'],
    ['\x16\x03\x01', '\x02'],
  ] as const)
    assert.deepEqual(readParts([Buffer.from(first), Buffer.from(second)]), { kind: 'malformed' }, JSON.stringify(first))
})

// An oracle that shares nothing with the reader: the grammar as expressions over whole lines, and what is asked beyond it.
const requestLine = /^[\w!#$%&'*+.^`|~-]{1,32} [\x21-\x7e\x80-\xff]+ HTTP\/1\.([01])$/
const fieldLine = /^([\w!#$%&'*+.^`|~-]+):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*$/

function fitsGrammar(text: string): boolean {
  const end = text.indexOf('\r\n\r\n', text.startsWith('\r\n') ? 2 : 0)
  if (end === -1) return false
  const [first = '', ...rest] = text.slice(text.startsWith('\r\n') ? 2 : 0, end).split('\r\n')
  const minor = requestLine.exec(first)?.[1]
  const fields = rest.map((line) => fieldLine.exec(line))
  if (minor === undefined || fields.includes(null)) return false
  const valuesOf = (wanted: string) =>
    fields.flatMap((field) => (field?.[1]?.toLowerCase() === wanted ? [field[2]?.toLowerCase() ?? ''] : []))
  const [lengths, codings] = [valuesOf('content-length'), valuesOf('transfer-encoding')]
  if (lengths.length + codings.length > 1 || !valuesOf('expect').every((value) => value === '100-continue'))
    return false
  if (codings.length === 1) return codings[0] === 'chunked' && minor === '1'
  return lengths.every((value) => String(Number(value)) === value && /^\d{1,15}$/.test(value))
}

const fields = fc.constantFrom(
  'Host: a.test',
  'Content-Length: 5',
  'content-length:7',
  'Transfer-Encoding: chunked',
  'Expect: 100-continue',
  'Connection: close',
  'X-Any: "b", c\t\x80',
  'X:',
)
const requests = fc
  .tuple(
    fc.constantFrom('', '\r\n'),
    fc.constantFrom('GET / HTTP/1.1', 'POST /a?b=c HTTP/1.1', 'OPTIONS * HTTP/1.0', 'm http://a/ HTTP/1.1'),
    fc.array(fields, { maxLength: 4 }),
    fc.constantFrom('', 'GET /next HTTP/1.1\r\n\r\n', 'hello'),
  )
  .map(([before, line, list, after]) => `${before}${[line, ...list].join('\r\n')}\r\n\r\n${after}`)
const anything = fc.oneof(
  { weight: 8, arbitrary: spoilt(requests) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1')) },
)

test('readRequestHead() takes whatever fits the grammar, nothing else, and throws at nothing', () => {
  let [fitting, other] = [0, 0]
  void fc.assert(
    fc.property(anything, (text) => {
      const fits = fitsGrammar(text)
      if (fits) fitting += 1
      else other += 1

      assert.equal(read(text)?.kind === 'head', fits)
    }),
    { numRuns: 10_000 },
  )
  assert.ok(fitting > 500 && other > 500, `${fitting} fit, ${other} do not`)
})

test('readRequestHead() finds the same however the bytes are cut', () => {
  void fc.assert(
    fc.property(anything, cuts, (text, shares) => {
      const bytes = Buffer.from(text, 'latin1')

      assert.deepEqual(readParts(cutUp(bytes, shares)), read(text))
      assert.deepEqual(readParts(crumble(bytes)), read(text))
    }),
    { numRuns: 3000 },
  )
})

test('readRequestHead() lets nothing past its limits by the way the bytes are cut', () => {
  void fc.assert(
    fc.property(anything, cuts, (text, shares) => {
      const whole = read(text, tight)
      const found = readParts(cutUp(Buffer.from(text, 'latin1'), shares), tight)

      // Which of two problems is met first depends on what has come; whether it is a request does not.
      if (whole?.kind === 'head') assert.deepEqual(found, whole)
      else assert.notEqual(found?.kind, 'head')
    }),
    { numRuns: 3000 },
  )
})

test('readRequestHead() gives nothing that has a line end or NUL in it, and only bytes that it was given', () => {
  void fc.assert(
    fc.property(anything, (text) => {
      const head = read(text)
      if (head?.kind !== 'head') return

      for (const part of [head.method, head.target, ...head.lines]) assert.doesNotMatch(part, /[\r\n\0]/)
      assert.ok(text.slice(0, head.bytes).endsWith('\r\n\r\n'))
    }),
    { numRuns: 3000 },
  )
})
