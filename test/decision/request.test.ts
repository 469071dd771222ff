import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { RawRequest } from '../../src/decision/request.ts'
import { canonicalPath, encodedBits, judgeEncoded, readAccessRequest } from '../../src/decision/request.ts'
import { compileRules, rulesOptions } from '../../src/decision/rules.ts'

function read(raw: Partial<RawRequest>, hosts: readonly string[] = []) {
  const full = { method: 'GET', target: '/', host: ['api.test'], authorization: [], arrivedMs: 0, ...raw }
  return readAccessRequest(full, { hosts: new Set(hosts) })
}

function reasonOf(raw: Partial<RawRequest>, hosts?: readonly string[]): string {
  const request = read(raw, hosts)
  return request.kind === 'deny' ? request.reason : 'none'
}

test('readAccessRequest() gives method, host, path, segments and query apart, and passes the rest on', () => {
  const authorization = ['Bearer a']
  const request = read({
    method: 'PUT',
    target: '/a/%7eb/?x=/../%zz',
    host: ['API.test:8080'],
    authorization,
    arrivedMs: 5,
    certificate: 'thumbprint',
  })

  assert.deepEqual(request, {
    kind: 'request',
    method: 'PUT',
    host: 'api.test',
    authority: 'API.test:8080',
    path: '/a/~b/',
    segments: ['a', '~b', ''],
    query: '?x=/../%zz',
    encoded: 0,
    authorization,
    arrivedMs: 5,
    certificate: 'thumbprint',
  })
})

const spellings = [
  { target: '/', path: '/', segments: [''] },
  { target: '/a', path: '/a', segments: ['a'] },
  { target: '/a/', path: '/a/', segments: ['a', ''] },
  { target: "/-._~!$&'()*+,=:@", path: "/-._~!$&'()*+,=:@", segments: ["-._~!$&'()*+,=:@"] },
  { target: '/%41%7a%2D%5f%7E', path: '/Az-_~', segments: ['Az-_~'] },
  {
    target: '/%c3%a9%e2%82%ac%f0%9f%98%80',
    path: '/%C3%A9%E2%82%AC%F0%9F%98%80',
    segments: ['%C3%A9%E2%82%AC%F0%9F%98%80'],
  },
  { target: '/a%20b%5b%5D', path: '/a%20b%5B%5D', segments: ['a%20b%5B%5D'] },
  { target: '/.a/..a/a../...', path: '/.a/..a/a../...', segments: ['.a', '..a', 'a..', '...'] },
  { target: 'http://api.test', path: '/', segments: [''] },
  { target: 'http://api.test?q', path: '/', segments: [''] },
  { target: 'HTTP://API.TEST:80/a', path: '/a', segments: ['a'] },
  { target: 'https://api.test:443/a', path: '/a', segments: ['a'] },
] as const
for (const { target, path, segments } of spellings) {
  test(`readAccessRequest() reads ${target} as ${path}`, () => {
    const request = read({ target })

    assert.ok(request.kind === 'request')
    assert.deepEqual([request.path, request.segments, request.encoded], [path, segments, 0])
  })
}

const ambiguous = [
  { attack: 'dot segments', targets: ['/.', '/..', '/a/../b', '/a/./b', '/a/..', '/..?x'] },
  { attack: 'encoded dots', targets: ['/%2e%2e/a', '/%2E', '/.%2e', '/a%2eb', '/%2e%2E/..'] },
  { attack: 'empty segments', targets: ['//', '//a', '/a//b', '/a//', '///'] },
  { attack: 'backslashes', targets: ['/a\\b', '/..\\a', '/%5c', '/a%5Cb'] },
  { attack: 'fragments', targets: ['/a#b', '/a?b#c', '/#', 'http://api.test#a'] },
  { attack: 'escaped controls', targets: ['/%00', '/%0a', '/%0D%0A', '/%1f', '/%7F', '/%7f'] },
  {
    attack: 'broken escapes',
    targets: ['/%', '/%4', '/%g0', '/a%%0000', '/%u002e', '/%4%31', '/%+1'],
  },
  { attack: 'overlong UTF-8', targets: ['/%c0%ae', '/%c0%af', '/%e0%80%af', '/%f0%80%80%af', '/%c1%9c'] },
  { attack: 'surrogates and beyond', targets: ['/%ed%a0%80', '/%f4%90%80%80', '/%f8%88%80%80%80', '/%ff', '/%fe'] },
  { attack: 'UTF-8 cut short', targets: ['/%c3', '/%e2%82', '/%a9', '/%c3/%a9', '/%c3a'] },
  {
    attack: 'raw bytes a path cannot have',
    targets: ['/a"b', '/<', '/>', '/^', '/`', '/{a}', '/|', '/[', '/]', '/\xc3\xa9', '/\xe9'],
  },
  { attack: 'raw bytes a query cannot have', targets: ['/?\xe9', '/a?\xff'] },
] as const
for (const { attack, targets } of ambiguous) {
  for (const target of targets) {
    test(`readAccessRequest() rejects ${attack}: ${JSON.stringify(target)}`, () => {
      assert.equal(reasonOf({ target }), 'path_rejected')
    })
  }
}

const notHttp = [
  { because: 'asterisk form', sent: { method: 'OPTIONS', target: '*' } },
  { because: 'authority form', sent: { target: '127.0.0.1:443' } },
  { because: 'no leading slash', sent: { target: 'public/a' } },
  { because: 'an empty target', sent: { target: '' } },
  { because: 'a space', sent: { target: '/a b' } },
  { because: 'a tab', sent: { target: '/\ta' } },
  { because: 'a newline', sent: { target: '/a\n/b' } },
  { because: 'DEL', sent: { target: '/a?\x7f' } },
  { because: 'NUL in the query', sent: { target: '/?\0' } },
  { because: 'another scheme', sent: { target: 'ftp://api.test/a' } },
  { because: 'a foreign authority', sent: { target: 'http://other.test/a' } },
  { because: 'an authority with another port', sent: { target: 'http://api.test:8080/a' } },
  { because: "the other scheme's default port", sent: { target: 'http://api.test:443/a' } },
  { because: 'an empty authority', sent: { target: 'http:///a' } },
  { because: 'a user in the authority', sent: { target: 'http://u@api.test/a' } },
  { because: 'a backslash after the authority', sent: { target: 'http://api.test\\@evil.test/a' } },
  { because: 'CONNECT', sent: { method: 'CONNECT', target: 'api.test:80' } },
  { because: 'TRACE', sent: { method: 'TRACE' } },
  { because: 'trace in lower case', sent: { method: 'trace' } },
  { because: 'an empty method', sent: { method: '' } },
  { because: 'a method that is no token', sent: { method: 'GET/' } },
  { because: 'a method of 33 letters', sent: { method: 'A'.repeat(33) } },
  { because: 'no Host', sent: { host: [] } },
  { because: 'two Hosts', sent: { host: ['api.test', 'api.test'] } },
] as const
for (const { because, sent } of notHttp) {
  test(`readAccessRequest() refuses ${because}`, () => {
    assert.equal(reasonOf(sent), 'request_malformed')
  })
}

const badHosts = [
  '',
  ' ',
  'a,b',
  'a b',
  'a/b',
  'u@a',
  'a.',
  '.a',
  'a..b',
  'a:',
  'a:0',
  'a:65536',
  'a:080',
  'a:x',
  'a:1:2',
  '%61',
  'a\\b',
  'a?b',
  'a#b',
  '[::1',
  '::1',
  '[]',
  '[:::]',
  '[1:2]',
  '[::g]',
  '[1::2::3]',
  '[1:2:3:4::5:6:7:8]',
  '[1:2:3:4:5:6:7:8::]',
  '[1:2:3:4:5:6:7:8:9]',
  '[::ffff:1.2.3]',
  'a\n',
  'é',
  `${'a'.repeat(262)}`,
]
for (const host of badHosts) {
  test(`readAccessRequest() refuses Host ${JSON.stringify(host.slice(0, 20))}`, () => {
    assert.equal(reasonOf({ host: [host] }), 'request_malformed')
  })
}

const goodHosts = [
  { sent: 'API.Test', host: 'api.test' },
  { sent: '127.0.0.1:65535', host: '127.0.0.1' },
  { sent: 'a_b', host: 'a_b' },
  { sent: '[::1]:80', host: '[::1]' },
  { sent: '[2001:DB8::ffff:1.2.3.4]', host: '[2001:db8::ffff:1.2.3.4]' },
  { sent: '[1:2:3:4:5:6:7::]', host: '[1:2:3:4:5:6:7::]' },
  { sent: '[1:2:3::5:6:7:8]', host: '[1:2:3::5:6:7:8]' },
  { sent: 'a'.repeat(261), host: 'a'.repeat(261) },
  { sent: '[1:2:3:4:5:6:7:8]', host: '[1:2:3:4:5:6:7:8]' },
]
for (const { sent, host } of goodHosts) {
  test(`readAccessRequest() reads Host ${sent} as ${host}`, () => {
    const request = read({ host: [sent] })

    assert.ok(request.kind === 'request')
    assert.deepEqual([request.host, request.authority], [host, sent])
  })
}

test('readAccessRequest() answers for the names in hosts only, whatever their case and port', () => {
  assert.equal(reasonOf({ host: ['API.test:81'] }, ['api.test']), 'none')
  assert.equal(reasonOf({ host: ['evil.test'] }, ['api.test']), 'request_malformed')
})

test('readAccessRequest() takes methods that only some services know, and neither CONNECT, TRACE nor what no method is', () => {
  for (const method of ['PURGE', 'PROPFIND', 'M-SEARCH', 'A'.repeat(32)]) assert.equal(reasonOf({ method }), 'none')
  for (const method of ['CONNECT', 'TRACE', 'post', '1A', 'A B', '', 'A'.repeat(33)])
    assert.equal(reasonOf({ method }), 'request_malformed', method)
})

test('readAccessRequest() leaves the length of a target to whoever reads it off the wire', () => {
  assert.equal(reasonOf({ target: `/${'a'.repeat(65_535)}` }), 'none')
})

test('readAccessRequest() takes 256 segments, and rejects one more', () => {
  assert.equal(reasonOf({ target: '/a'.repeat(256) }), 'none')
  assert.equal(reasonOf({ target: '/a'.repeat(257) }), 'path_rejected')
})

const masks = [
  { target: '/a%2fb', names: ['slash'] },
  { target: '/a;b', names: ['semicolon'] },
  { target: '/a%3bb', names: ['semicolon'] },
  { target: '/a%25b', names: ['percent'] },
  { target: '/a%3Fb', names: ['question'] },
  { target: '/a%23b', names: ['hash'] },
  { target: '/%2F;%25%3f%23', names: ['slash', 'semicolon', 'percent', 'question', 'hash'] },
] as const
for (const { target, names } of masks) {
  test(`readAccessRequest() leaves ${target} to a rule that allows ${names.join(', ')}`, () => {
    const request = read({ target })
    const mask = names.reduce((sum, name) => sum | encodedBits[name], 0)

    assert.ok(request.kind === 'request')
    assert.equal(request.encoded, mask)
    assert.equal(judgeEncoded(request, 31 & ~mask), false)
    if (names.length === 1) assert.equal(judgeEncoded(request, mask), true)
  })
}

const { slash, semicolon, percent, question, hash } = encodedBits
const judged = [
  { target: '/a%2Fb', allowed: slash, passes: true },
  { target: '/a%2F', allowed: slash, passes: true },
  { target: '/..%2fadmin', allowed: slash, passes: false },
  { target: '/a%2f..', allowed: slash, passes: false },
  { target: '/a%2f.%2fb', allowed: slash, passes: false },
  { target: '/%2fevil', allowed: slash, passes: false },
  { target: '/a%2F%2Fb', allowed: slash, passes: false },
  { target: '/a%2F/b', allowed: slash, passes: false },
  { target: '/a/%2F', allowed: slash, passes: false },
  { target: '/a;v=1/b', allowed: semicolon, passes: true },
  { target: '/..;/admin', allowed: semicolon, passes: false },
  { target: '/..;a=b/admin', allowed: semicolon, passes: false },
  { target: '/.;/admin', allowed: semicolon, passes: false },
  { target: '/a/;x/b', allowed: semicolon, passes: false },
  { target: '/items/;x', allowed: semicolon, passes: false },
  { target: '/..%3b/admin', allowed: semicolon, passes: false },
  { target: '/a;%2F../b', allowed: slash | semicolon, passes: false },
  { target: '/a;b%2Fc;d', allowed: slash | semicolon, passes: true },
  { target: '/a%3Fb', allowed: question, passes: true },
  { target: '/..%3F', allowed: question, passes: false },
  { target: '/items/%3F', allowed: question, passes: false },
  { target: '/..%23', allowed: hash, passes: false },
  { target: '/100%25', allowed: percent, passes: true },
  { target: '/100%25%20off', allowed: percent, passes: true },
  { target: '/a%253Ab', allowed: percent, passes: true },
  { target: '/%25C3%25A9', allowed: percent, passes: true },
  { target: '/a%252520b', allowed: percent, passes: true },
  { target: '/%252e%252e/admin', allowed: percent, passes: false },
  { target: '/%252E', allowed: percent, passes: false },
  { target: '/%25252e%25252e/admin', allowed: percent, passes: false },
  { target: '/a%255cb', allowed: percent, passes: false },
  { target: '/%2500', allowed: percent, passes: false },
  { target: '/%250d%250a', allowed: percent, passes: false },
  { target: '/%25c0%25ae', allowed: percent, passes: false },
  { target: '/a%252Fb', allowed: percent, passes: false },
  { target: '/a%252Fb', allowed: percent | slash, passes: true },
  { target: '/..%252Fb', allowed: percent | slash, passes: false },
  { target: '/a%25252F..', allowed: percent | slash, passes: false },
  { target: '/..%253Bb', allowed: percent | semicolon, passes: false },
  { target: '/%2561dmin', allowed: percent, passes: false },
  { target: '/%252561dmin', allowed: percent, passes: false },
  { target: `/%${'25'.repeat(40)}`, allowed: percent, passes: false },
] as const
for (const { target, allowed, passes } of judged) {
  test(`judgeEncoded() ${passes ? 'passes' : 'refuses'} ${target} where ${allowed} is allowed`, () => {
    const request = read({ target })

    assert.ok(request.kind === 'request')
    assert.equal(judgeEncoded(request, allowed), passes)
  })
}

const pieces = [
  '/',
  '/',
  'a',
  'admin',
  '.',
  '..',
  '%2e',
  '%2F',
  '%5c',
  '\\',
  ';',
  '%3B',
  '%25',
  '2e',
  '2F',
  '25',
  '5c',
  '%61',
  '%7E',
  '%c3%a9',
  '%20',
  '%3F',
  '%23',
  '%00',
  '%',
  '*',
  '{',
  'é',
  '?',
  '#',
]
const targets = fc.array(fc.constantFrom(...pieces), { maxLength: 12 }).map((parts) => `/${parts.join('')}`)

test('readAccessRequest() never throws, and never passes bytes that are no path', () => {
  void fc.assert(
    fc.property(fc.oneof(targets, fc.string({ unit: 'binary', maxLength: 40 })), fc.string(), (target, host) => {
      read({ target, host: [host] })
      const request = read({ target })
      if (request.kind === 'request') assert.match(request.path, /^\/(?:[\w\-.~!$&'()*+,;=:@/]|%[0-9A-F]{2})*$/)
    }),
  )
})

test('canonicalPath() of a canonical path is that path', () => {
  void fc.assert(
    fc.property(targets, (target) => {
      const once = canonicalPath(target)
      if (once !== undefined) assert.deepEqual(canonicalPath(once.path), once)
    }),
  )
})

/** What an upstream or a proxy before it may do to a path. */
const normalisers: readonly ((path: string) => string)[] = [
  (path) => decodeURIComponent(path.replace(/%(?![0-9A-Fa-f]{2})/g, '%25')),
  (path) => path.replaceAll('\\', '/'),
  (path) => path.replace(/;[^/]*/g, ''),
  (path) => path.replace(/\/{2,}/g, '/'),
  (path) => {
    const kept: string[] = []
    for (const segment of path.slice(1).split('/')) {
      if (segment === '..') kept.pop()
      else if (segment !== '.') kept.push(segment)
    }
    return `/${kept.join('/')}`
  },
]

test('readAccessRequest() passes no path that some upstream would read as another', () => {
  void fc.assert(
    fc.property(targets, fc.array(fc.constantFrom(...normalisers), { maxLength: 6 }), (target, steps) => {
      const request = read({ target })
      if (request.kind === 'deny' || request.encoded !== 0) return
      const seen = steps.reduce((path, normalise) => normalise(path), request.path)
      assert.ok(seen === request.path || seen === decodeURIComponent(request.path), seen)
    }),
    { numRuns: 2000 },
  )
})

test('judgeEncoded() passes no path that, decoded however often, climbs out of its first segment', () => {
  void fc.assert(
    fc.property(
      targets,
      fc.integer({ min: 0, max: 31 }),
      fc.array(fc.constantFrom(...normalisers), { maxLength: 8 }),
      (target, allowed, steps) => {
        const request = read({ target: `/public${target}` })
        if (request.kind === 'deny' || !judgeEncoded(request, allowed)) return
        try {
          const seen = steps.reduce((path, normalise) => normalise(path), request.path)
          assert.match(seen, /^\/public(?:[/;?#]|$)/)
        } catch (error) {
          if (!(error instanceof URIError)) throw error
        }
      },
    ),
    { numRuns: 5000 },
  )
})

const vectors = join(import.meta.dirname, '../../../shared/vectors/examples/path_cases.json')
type PathCase = {
  readonly id: string
  readonly raw: string
  readonly cls: string
  readonly tolerated: readonly string[]
}
const cases: readonly PathCase[] = existsSync(vectors) ? JSON.parse(readFileSync(vectors, 'utf8')).cases : []
// What is over `limits.target` is refused on the wire: test/acceptance has those.
const rows = cases.filter(({ raw }) => raw.length <= 8192)
const table = compileRules(
  rulesOptions.parse([
    { match: { path: '/public/**', methods: ['GET'] }, public: true },
    { match: { path: '/health' }, public: true },
    { match: { path: '/admin/**' }, scopes: ['admin'] },
    { match: { path: '/api/v1/items/{id}' }, scopes: ['read'] },
  ]),
)
if (rows.length === 0) {
  test('readAccessRequest() on the path vectors', (t) => {
    assert.notEqual(process.env['CI'], 'true', 'CI needs ../shared/vectors')
    t.skip('../shared/vectors is absent')
  })
}
for (const { id, raw, cls, tolerated } of rows) {
  test(`readAccessRequest() and match() on path vector ${id} (${cls})`, () => {
    const request = read({ target: Buffer.from(raw).toString('latin1') })
    const rule = request.kind === 'deny' ? request : table.match(request)
    let seen = '401'
    if (rule.kind === 'deny') seen = rule.reason === 'no_rule' ? '403' : '400'
    else if (rule.public && request.kind === 'request') seen = `forward ${request.path}${request.query}`

    assert.ok(tolerated.includes(seen), seen)
  })
}
