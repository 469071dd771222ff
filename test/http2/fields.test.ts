// Read without a session: nghttp2 refuses much of this before we see it, and is not to be the only one that does.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AnswerHead } from '../../src/http1/exchange.ts'
import type { FieldLimits, RequestLimits } from '../../src/http1/limits.ts'
import type { HeadProblem, RequestHead } from '../../src/http1/request-head.ts'
import { readAnswerFields, readRequestFields, readTrailerFields, trailersOf } from '../../src/http2/fields.ts'

const roomy: FieldLimits = { bytes: 16_384, count: 100, one: 12_288 }
const tight: FieldLimits = { bytes: 60, count: 4, one: 30 }
const asked: RequestLimits = { target: 20, fields: tight }

type Pairs = readonly (readonly [string, string])[]

function readRequest(
  fields: Pairs,
  hasEnded = true,
  limits: RequestLimits = { target: 8192, fields: roomy },
): RequestHead | HeadProblem {
  return readRequestFields(fields.flat(), hasEnded, limits)
}

function readAnswer(fields: Pairs, hasEnded = false, method = 'GET', limits = roomy): AnswerHead | 'malformed' {
  return readAnswerFields(fields.flat(), hasEnded, method, limits)
}

const method = [':method', 'POST'] as const
const scheme = [':scheme', 'https'] as const
const authority = [':authority', 'a.test'] as const
const path = [':path', '/a?b'] as const
const plain = [method, scheme, authority, path]

test('readRequestFields() takes either scheme, and an :authority that is longer than a target', () => {
  const fields = [method, [':scheme', 'http'], [':authority', `${'a'.repeat(30)}.test`], [':path', '/']] as const

  assert.equal(readRequest(fields, true, asked).kind, 'head')
})

test('readRequestFields() reads everything of a head', () => {
  const lines = [
    ['authorization', 'Bearer x'],
    ['cookie', 'a=1'],
    ['expect', '100-Continue'],
    ['cookie', 'b=2'],
    ['te', 'trailers'],
    ['authorization', ''],
    ['content-length', '5'],
    ['cookie', 'c=3'],
  ] as const

  assert.deepEqual(readRequest([...plain, ...lines], false), {
    kind: 'head',
    method: 'POST',
    target: '/a?b',
    version: '2',
    lines: [
      ...['authorization', 'Bearer x', 'cookie', 'a=1; b=2; c=3', 'expect', '100-Continue', 'te', 'trailers'],
      ...['authorization', '', 'content-length', '5'],
    ],
    host: ['a.test'],
    authorization: ['Bearer x', ''],
    framing: 5,
    expectsContinue: true,
    upgrade: undefined,
  })
})

const hosts = [
  { fields: [authority, ['host', 'a.test']], host: ['a.test'], because: 'the same in both' },
  { fields: [['host', 'b.test:81']], host: ['b.test:81'], because: 'Host in place of :authority' },
  { fields: [], host: [], because: 'neither, which is judged with the request' },
] as const
for (const { fields, host, because } of hosts) {
  test(`readRequestFields() takes ${because}`, () => {
    const head = readRequest([method, scheme, path, ...fields])

    assert.partialDeepStrictEqual(head, { kind: 'head', host, authorization: [] })
  })
}

const framings = [
  { fields: [], hasEnded: true, framing: 'none' },
  { fields: [], hasEnded: false, framing: 'chunked' },
  { fields: [['content-length', '0']], hasEnded: true, framing: 0 },
  { fields: [['content-length', '0']], hasEnded: false, framing: 0 },
  { fields: [['content-length', '17']], hasEnded: false, framing: 17 },
] as const
for (const { fields, hasEnded, framing } of framings) {
  test(`readRequestFields() finds the framing ${framing} in ${JSON.stringify(fields)}, ${hasEnded ? 'ended' : 'not ended'}`, () => {
    const head = readRequest([...plain, ...fields], hasEnded)

    assert.equal('framing' in head && head.framing, framing)
  })
}

// What no message may hold, whoever sends it.
const wrongFields = [
  ['X-A', '1'],
  ['', '1'],
  ['x a', '1'],
  ['x-a\r\nx-b', '1'],
  ['x-a:', '1'],
  ['x-a', 'b\r\nx-b: c'],
  ['x-a', 'b\nc'],
  ['x-a', 'b\0'],
  ['x-a', '\x7f'],
  ['x-a', ' b'],
  ['x-a', '\tb'],
  ['x-a', 'b '],
  ['x-a', 'b\t'],
  ['connection', 'close'],
  ['keep-alive', 'timeout=5'],
  ['proxy-connection', 'close'],
  ['transfer-encoding', 'chunked'],
  ['upgrade', 'h2c'],
  ['te', 'gzip'],
  ['te', 'trailers, gzip'],
  ['te', ''],
] as const
for (const field of wrongFields) {
  test(`readRequestFields(), readAnswerFields() and readTrailerFields() refuse ${JSON.stringify(field)}`, () => {
    assert.deepEqual(readRequest([...plain, field]), { kind: 'malformed' })
    assert.equal(readAnswer([[':status', '200'], field]), 'malformed')
    assert.equal(readTrailerFields(field, roomy), 'malformed')
  })
}

const wrongLengths = ['', '+5', '-5', '05', '5x', '5, 5', '0x5', '5.0', '9007199254740993'] as const
for (const length of wrongLengths) {
  test(`readRequestFields() and readAnswerFields() refuse the length ${JSON.stringify(length)}`, () => {
    assert.deepEqual(readRequest([...plain, ['content-length', length]], false), { kind: 'malformed' })
    assert.equal(
      readAnswer([
        [':status', '200'],
        ['content-length', length],
      ]),
      'malformed',
    )
  })
}

const refused: readonly { readonly because: string; readonly fields: Pairs; readonly hasEnded?: boolean }[] = [
  { because: 'no :method', fields: [scheme, authority, path] },
  { because: 'no :scheme', fields: [method, authority, path] },
  { because: 'no :path', fields: [method, scheme, authority] },
  { because: 'nothing', fields: [] },
  { because: 'two :method', fields: [...plain, method] },
  { because: 'two :scheme', fields: [...plain, scheme] },
  { because: 'two :authority', fields: [...plain, authority] },
  { because: 'two :path', fields: [...plain, [':path', '/b']] },
  { because: 'a pseudo-field behind a field', fields: [method, scheme, authority, ['x-a', '1'], path] },
  { because: 'a pseudo-field nobody knows', fields: [...plain, [':protocol', 'websocket']] },
  { because: ':status in a request', fields: [...plain, [':status', '200']] },
  { because: 'a pseudo-field in upper case', fields: [[':METHOD', 'GET'], ...plain] },
  { because: 'a line end in :authority', fields: [method, scheme, [':authority', 'a.test\r\nX: y'], path] },
  { because: 'NUL in :authority', fields: [method, scheme, [':authority', 'a.test\0'], path] },
  { because: 'a line end in :path', fields: [method, scheme, authority, [':path', '/a\r\nX: y']] },
  { because: 'a space in :path', fields: [method, scheme, authority, [':path', '/a HTTP/1.1']] },
  { because: 'a tab in :path', fields: [method, scheme, authority, [':path', '/a\tb']] },
  { because: 'an empty :path', fields: [method, scheme, authority, [':path', '']] },
  { because: 'a :path in absolute form', fields: [method, scheme, authority, [':path', 'https://b.test/a']] },
  { because: '*', fields: [[':method', 'OPTIONS'], scheme, authority, [':path', '*']] },
  { because: 'an empty :method', fields: [[':method', ''], scheme, authority, path] },
  { because: 'a :method with a space', fields: [[':method', 'GET /b'], scheme, authority, path] },
  { because: 'a :scheme nobody knows', fields: [method, [':scheme', 'ftp'], authority, path] },
  { because: 'a :scheme in upper case', fields: [method, [':scheme', 'HTTPS'], authority, path] },
  { because: 'another Host than :authority', fields: [...plain, ['host', 'b.test']] },
  { because: 'Host in another case', fields: [...plain, ['host', 'A.test']] },
  { because: 'two Host, the same', fields: [...plain, ['host', 'a.test'], ['host', 'a.test']] },
  {
    because: 'two Host without :authority',
    fields: [method, scheme, path, ['host', 'a.test'], ['host', 'a.test']],
  },
  { because: 'another expectation', fields: [...plain, ['expect', '200-ok']] },
  {
    because: 'a length twice',
    fields: [...plain, ['content-length', '5'], ['content-length', '5']],
    hasEnded: false,
  },
  { because: 'a length, and the end', fields: [...plain, ['content-length', '5']] },
]
for (const { because, fields, hasEnded = true } of refused) {
  test(`readRequestFields() refuses ${because}`, () => {
    assert.deepEqual(readRequest(fields, hasEnded), { kind: 'malformed' })
  })
}

const v = (length: number) => 'v'.repeat(length)
const usual = [[':method', 'GET'], scheme, authority, [':path', '/']] as const
const sized: readonly { readonly what: string; readonly fields: Pairs; readonly kind: string }[] = [
  {
    what: 'a target as long as allowed',
    fields: [method, scheme, authority, [':path', `/${v(19)}`]],
    kind: 'head',
  },
  { what: 'a longer target', fields: [method, scheme, authority, [':path', `/${v(20)}`]], kind: 'target_too_large' },
  { what: 'a field as long as allowed', fields: [...usual, ['a', v(29)]], kind: 'head' },
  { what: 'a longer field', fields: [...usual, ['a', v(30)]], kind: 'head_too_large' },
  { what: 'as many fields as allowed', fields: [...usual, ...Array(4).fill(['a', 'b'])], kind: 'head' },
  { what: 'a field more', fields: [...usual, ...Array(5).fill(['a', 'b'])], kind: 'head_too_large' },
  { what: 'fields as large as allowed', fields: [...usual, ['a', v(25)], ['a', v(25)]], kind: 'head' },
  { what: 'fields larger by one', fields: [...usual, ['a', v(25)], ['a', v(26)]], kind: 'head_too_large' },
  { what: 'a cookie as long as allowed', fields: [...usual, ['cookie', v(11)], ['cookie', v(11)]], kind: 'head' },
  { what: 'a longer cookie', fields: [...usual, ['cookie', v(11)], ['cookie', v(12)]], kind: 'head_too_large' },
]
for (const { what, fields, kind } of sized) {
  test(`readRequestFields() finds ${kind} in ${what}`, () => {
    assert.equal(readRequest(fields, true, asked).kind, kind)
  })
}

test('readAnswerFields() reads everything of a head', () => {
  const fields = [
    [':status', '404'],
    ['content-type', 'Text/HTML; charset=utf-8'],
    ['content-length', '5'],
    ['set-cookie', 'a=1'],
    ['set-cookie', 'b=2'],
  ] as const

  assert.deepEqual(readAnswer(fields), {
    status: 404,
    reason: '',
    lines: fields.slice(1).flat(),
    framing: 5,
    mediaType: 'text/html',
    isKnown: false,
  })
})

const length5 = [['content-length', '5']] as const
const answers = [
  { status: '200', method: 'GET', fields: [], hasEnded: false, framing: 'chunked' },
  { status: '200', method: 'GET', fields: [], hasEnded: true, framing: 'chunked' },
  { status: '200', method: 'GET', fields: length5, hasEnded: false, framing: 5 },
  { status: '200', method: 'GET', fields: [['content-length', '0']], hasEnded: true, framing: 0 },
  { status: '200', method: 'HEAD', fields: length5, hasEnded: true, framing: 'none' },
  { status: '200', method: 'HEAD', fields: [], hasEnded: true, framing: 'none' },
  { status: '204', method: 'GET', fields: [], hasEnded: true, framing: 'none' },
  { status: '304', method: 'GET', fields: length5, hasEnded: true, framing: 'none' },
  { status: '205', method: 'GET', fields: length5, hasEnded: false, framing: 5 },
  { status: '200', method: 'head', fields: length5, hasEnded: false, framing: 5 },
] as const
for (const { status, method: to, fields, hasEnded, framing } of answers) {
  test(`readAnswerFields() finds the framing ${framing} of ${status} to ${to} with ${JSON.stringify(fields)}, ${hasEnded ? 'ended' : 'not ended'}`, () => {
    const head = readAnswer([[':status', status], ...fields], hasEnded, to)

    assert.equal(head !== 'malformed' && head.framing, framing)
  })
}

const noAnswer: readonly { readonly because: string; readonly fields: Pairs; readonly hasEnded?: boolean }[] = [
  { because: 'no :status', fields: [['x-a', 'b']] },
  {
    because: 'two :status',
    fields: [
      [':status', '200'],
      [':status', '200'],
    ],
  },
  ...['', '20', '2000', '099', '101', '199', '600', '+20', '2 0', '200 OK'].map((status) => ({
    because: `the status ${JSON.stringify(status)}`,
    fields: [[':status', status]] as const,
  })),
  {
    because: 'another pseudo-field',
    fields: [
      [':status', '200'],
      [':path', '/'],
    ],
  },
  { because: 'a length twice', fields: [[':status', '200'], ...length5, ...length5] },
  { because: 'a length, and the end', fields: [[':status', '200'], ...length5], hasEnded: true },
]
for (const { because, fields, hasEnded = false } of noAnswer) {
  test(`readAnswerFields() refuses ${because}`, () => {
    assert.equal(readAnswer(fields, hasEnded), 'malformed')
  })
}

const within: readonly { readonly what: string; readonly fields: Pairs; readonly kept: boolean }[] = [
  { what: 'a field as long as allowed', fields: [['a', v(29)]], kept: true },
  { what: 'a longer field', fields: [['a', v(30)]], kept: false },
  { what: 'as many fields as allowed', fields: Array(4).fill(['a', 'b']), kept: true },
  { what: 'a field more', fields: Array(5).fill(['a', 'b']), kept: false },
  {
    what: 'fields as large as allowed',
    fields: [
      ['a', v(25)],
      ['a', v(25)],
    ],
    kept: true,
  },
  {
    what: 'fields larger by one',
    fields: [
      ['a', v(25)],
      ['a', v(26)],
    ],
    kept: false,
  },
]
for (const { what, fields, kept } of within) {
  test(`readAnswerFields() and readTrailerFields() ${kept ? 'take' : 'refuse'} ${what}`, () => {
    assert.equal(typeof readAnswer([[':status', '200'], ...fields], false, 'GET', tight), kept ? 'object' : 'string')
    assert.deepEqual(readTrailerFields(fields.flat(), tight), kept ? fields.flat() : 'malformed')
  })
}

for (const name of [':status', ':path', ':x']) {
  test(`readTrailerFields() refuses ${name}`, () => {
    assert.equal(readTrailerFields(['x-a', 'b', name, '200'], roomy), 'malformed')
  })
}

test('trailersOf() has each name once, in lower case, with all of its values, whatever it is', () => {
  const trailers = trailersOf(['X-A', '1', '__proto__', '2', 'x-b', '', 'x-a', '3'])

  assert.deepEqual(Object.entries(trailers), [
    ['x-a', ['1', '3']],
    ['__proto__', ['2']],
    ['x-b', ['']],
  ])
})
