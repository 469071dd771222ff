import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { JsonObject } from '../../src/base/json.ts'
import { parseJson } from '../../src/base/json.ts'
import type { ForwardContext, Forwarding } from '../../src/decision/headers.ts'
import { createHeaderFilter, identityHeadersOptions, keepHeadersOptions } from '../../src/decision/headers.ts'
import { compileRules, rulesOptions } from '../../src/decision/rules.ts'
import { readClaims } from '../../src/spec/claims.ts'

function permit(claims: object, written: object = {}): ForwardContext['allow'] {
  const [rule] = compileRules(rulesOptions.parse([{ match: { path: '/**' }, ...written }])).rules
  // an object in, an object out
  const read = readClaims(parseJson(JSON.stringify(claims)) as JsonObject)
  assert.ok(rule !== undefined && typeof read !== 'string')
  return { rule, principal: rule.public ? null : { claims: read } }
}

const alice = { sub: 'alice', client_id: 'web', scope: 'read write' }
const identity = { 'x-user': 'sub', 'x-client': 'client_id', 'x-scope': 'scope' }

type Sent = {
  readonly identity?: Readonly<Record<string, string>>
  readonly keep?: readonly string[]
  readonly claims?: object
  readonly rule?: object
  readonly peer?: string
  readonly proto?: 'http' | 'https'
  readonly trustsUnix?: boolean
}

/** All that an upstream is told, the client's lines between Host and ours; the texts must say what their lines do. */
function told({ own, lines, identity }: Forwarding): readonly string[] {
  for (const ready of [own, identity])
    assert.equal(
      ready.text,
      pairs(ready.lines)
        .map((line) => `${line}\r\n`)
        .join(''),
    )
  assert.equal(own.lines[0], 'Host')
  return [...own.lines.slice(0, 2), ...lines, ...own.lines.slice(2), ...identity.lines]
}

/** What the upstream gets for these lines, as `name: value`; peers in 10.* are trusted proxies. */
function forwarded(lines: readonly string[], sent: Sent = {}): readonly string[] {
  const filter = createHeaderFilter(
    { identityHeaders: new Map(Object.entries(sent.identity ?? identity)), keepHeaders: sent.keep ?? [] },
    { isTrustedProxy: (ip) => ip.startsWith('10.') || (ip === 'unix:' && sent.trustsUnix === true) },
  )
  const allow = permit(sent.claims ?? alice, sent.rule)
  const request = { authority: 'api.test:8080' }
  const context = { peer: sent.peer ?? '192.0.2.1', proto: sent.proto ?? 'http', request, allow }
  const out = pairs(told(filter.forward(lines, context)))
  assert.deepEqual(pairs(told(filter.forward(lines, context))), out, 'the second time differs')
  return out
}

function pairs(raw: readonly string[]): readonly string[] {
  return raw.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${raw[at + 1]}`] : []))
}

const ours = [
  'X-Forwarded-For: 192.0.2.1',
  'X-Forwarded-Proto: http',
  'X-Forwarded-Host: api.test:8080',
  'x-user: alice',
  'x-client: web',
  'x-scope: read write',
]

test('forward() passes end-to-end headers in order and spelling, repeats too, beside Host and ours', () => {
  const sent = ['Accept', '*/*', 'host', 'API.test', 'COOKIE', 'a=1', 'x-y', '1', 'X-Y', '2']

  assert.deepEqual(forwarded(sent), ['Host: api.test:8080', 'Accept: */*', 'COOKIE: a=1', 'x-y: 1', 'X-Y: 2', ...ours])
})

const removed = [
  { attack: 'identity set by the client', names: ['x-user', 'X-User', 'X-CLIENT', 'x-scope'] },
  {
    attack: 'identity under an alias (oauth2-proxy CVE-2025-64484, Caddy GHSA-f59h)',
    names: ['X_USER', 'x.user', 'x~user', 'X_Client', "x'scope"],
  },
  { attack: 'a name that is no token', names: ['X-User ', 'x user', 'x:user', '', 'é'] },
  {
    attack: 'another path or method than the one judged (oauth2-proxy GHSA-7x63, Envoy CVE-2023-27487)',
    names: [
      'X-Original-URL',
      'X-Rewrite-URL',
      'X-Original-URI',
      'X-Original-Method',
      'X-Forwarded-Uri',
      'X-Forwarded-Path',
      'X-Forwarded-Method',
      'X-Forwarded-Prefix',
      'X-Envoy-Original-Path',
      'X-HTTP-Method-Override',
      'X-Method-Override',
      'X-HTTP-Method',
    ],
  },
  { attack: 'the same under an alias', names: ['x_original_url', 'X_Rewrite.Url', 'x-http_method-override'] },
  {
    attack: 'a client that says where it comes from',
    names: [
      'X-Forwarded-For',
      'X-Forwarded-Proto',
      'X-Forwarded-Host',
      'X-Forwarded-Port',
      'Forwarded',
      'Via',
      'X-Real-IP',
      'x_forwarded_for',
      'X-Real_IP',
    ],
  },
  {
    attack: 'framing and the connection of the client',
    names: [
      'Content-Length',
      'Transfer-Encoding',
      'Expect',
      'TE',
      'Trailer',
      'Upgrade',
      'Keep-Alive',
      'Proxy-Connection',
      'Proxy-Authorization',
      'Proxy-Authenticate',
      'Proxy-Authentication-Info',
      'Connection',
      'HTTP2-Settings',
      'Host',
    ],
  },
  { attack: 'framing under an alias', names: ['Content_Length', 'transfer.encoding', 'Proxy_Authorization'] },
  { attack: 'the token, where the rule does not ask to forward it', names: ['Authorization', 'authorization'] },
] as const
for (const { attack, names } of removed) {
  for (const name of names) {
    test(`forward() removes ${JSON.stringify(name)}: ${attack}`, () => {
      assert.deepEqual(forwarded([name, 'attacker', 'X-Any', '1']), ['Host: api.test:8080', 'X-Any: 1', ...ours])
    })
  }
}

test('forward() removes identity headers when the token has no such claim (Caddy GHSA-7r4p), and on public rules', () => {
  const sent = ['x-user', 'attacker', 'X_Client', 'attacker', 'x-scope', 'admin']
  const bare = ['Host: api.test:8080', ...ours.slice(0, 3)]

  assert.deepEqual(forwarded(sent, { claims: {} }), bare)
  assert.deepEqual(forwarded(sent, { rule: { public: true } }), bare)
})

test('forward() does hop-by-hop headers first: Connection removes what it names, and nothing of ours (Traefik CVE-2024-45410)', () => {
  const sent = [
    'Connection',
    'X-User, x-forwarded-for ,, X-Forwarded-Host',
    'Connection',
    'Host, X-Hop',
    'X-Hop',
    '1',
    'X-User',
    'a',
  ]

  assert.deepEqual(forwarded(sent), ['Host: api.test:8080', ...ours])
})

test('forward() removes each of several headers that Connection lines name', () => {
  const sent = ['Connection', 'x-a, X-B', 'connection', 'x-c', 'X-A', '1', 'X-B', '2', 'X-C', '3', 'X-D', '4']

  assert.deepEqual(forwarded(sent), ['Host: api.test:8080', 'X-D: 4', ...ours])
})

test('forward() takes only the values of Connection for names of headers to remove', () => {
  const sent = ['X-A', 'connection', 'X-B', 'x-c', 'User-Agent', 'x-c', 'X-Of-Ten-10', 'x-c', 'X-C', '1']

  assert.deepEqual(forwarded(sent), ['Host: api.test:8080', ...pairs(sent), ...ours])
})

test('forward() ignores a Connection that names credentials, cookies, framing or Host', () => {
  const sent = ['Connection', 'Authorization, Cookie, Host, Content-Length', 'Cookie', 'a', 'Authorization', 'Bearer x']
  const seen = forwarded(sent, { rule: { forward_authorization: true } })

  assert.deepEqual(seen, ['Host: api.test:8080', 'Cookie: a', 'Authorization: Bearer x', ...ours])
})

test('forward() leaves Authorization untouched on a public rule, however often it comes', () => {
  const sent = ['Authorization', 'Basic a', 'authorization', 'Bearer b']

  assert.deepEqual(forwarded(sent, { rule: { public: true } }).slice(1, 3), [
    'Authorization: Basic a',
    'authorization: Bearer b',
  ])
})

test('forward() makes no address up for a client on a Unix socket, and leaves the list as it was', () => {
  const names = (lines: readonly string[]) => lines.filter((line) => /^x-forwarded-for/i.test(line))
  const sent = ['X-Forwarded-For', '203.0.113.7', 'X-Forwarded-For', '203.0.113.8']

  assert.deepEqual(names(forwarded(sent, { peer: 'unix:' })), [])
  assert.deepEqual(names(forwarded([], { peer: 'unix:' })), [])
  assert.deepEqual(names(forwarded(sent, { peer: 'unix:', trustsUnix: true })), [
    'X-Forwarded-For: 203.0.113.7, 203.0.113.8',
  ])
})

test('forward() lets a word about a certificate pass from a trusted proxy only', () => {
  const sent = ['Client-Cert', ':a:', 'client-cert-chain', ':b:', 'Client_Cert', ':c:', 'X-Forwarded-Client-Cert', 'd']
  const told = (peer: string) => forwarded(sent, { peer }).filter((line) => /cert/i.test(line))

  assert.deepEqual(told('192.0.2.1'), [])
  assert.deepEqual(told('10.0.0.1'), ['Client-Cert: :a:', 'client-cert-chain: :b:', 'X-Forwarded-Client-Cert: d'])
})

const ways = [
  { by: 'https', sent: [], proto: 'https', peer: '192.0.2.1', secure: true },
  { by: 'http', sent: [], proto: 'http', peer: '192.0.2.1', secure: false },
  { by: 'http, and says https', sent: ['https'], proto: 'http', peer: '192.0.2.1', secure: false },
  { by: 'https, and says http', sent: ['http'], proto: 'https', peer: '192.0.2.1', secure: true },
  { by: 'a proxy that says https', sent: ['https'], proto: 'http', peer: '10.0.0.1', secure: true },
  { by: 'a proxy that says HTTPS', sent: [' HTTPS '], proto: 'http', peer: '::ffff:10.0.0.1', secure: true },
  { by: 'a proxy that says http', sent: ['http'], proto: 'http', peer: '10.0.0.1', secure: false },
  { by: 'a proxy over https that says http', sent: ['http'], proto: 'https', peer: '10.0.0.1', secure: false },
  { by: 'a proxy that says nothing', sent: [], proto: 'http', peer: '10.0.0.1', secure: false },
  { by: 'a proxy over https that says nothing', sent: [], proto: 'https', peer: '10.0.0.1', secure: true },
  { by: 'two proxies, one by http', sent: ['https, http'], proto: 'http', peer: '10.0.0.1', secure: false },
  { by: 'two lines, one http', sent: ['https', 'http'], proto: 'http', peer: '10.0.0.1', secure: false },
  { by: 'two lines, the first http', sent: ['http', 'https'], proto: 'http', peer: '10.0.0.1', secure: false },
  {
    by: 'a proxy that passes on a value which is a name',
    sent: [],
    proto: 'http',
    peer: '10.0.0.1',
    secure: false,
    more: ['X-A', 'X-Forwarded-Proto', 'https', 'x'],
  },
  { by: 'two proxies by https', sent: ['https, https'], proto: 'http', peer: '10.0.0.1', secure: true },
  { by: 'a proxy that says an empty word', sent: [''], proto: 'https', peer: '10.0.0.1', secure: false },
  { by: 'a proxy that says wss', sent: ['wss'], proto: 'http', peer: '10.0.0.1', secure: false },
  {
    by: 'a proxy that says https, for one connection only',
    sent: ['https'],
    proto: 'http',
    peer: '10.0.0.1',
    secure: false,
    more: ['Connection', 'close, x-forwarded-proto'],
  },
] as const
for (const { by, sent, proto, peer, secure, ...rest } of ways) {
  test(`cameByHttps() is ${secure} for a client by ${by}`, () => {
    const filter = createHeaderFilter(
      { identityHeaders: new Map(), keepHeaders: [] },
      { isTrustedProxy: (ip) => ip.startsWith('10.') },
    )
    // Under another name it is another header.
    const aliases = ['X_Forwarded_Proto', 'https', 'Forwarded', 'proto=https']
    const lines = [
      ...aliases,
      ...sent.flatMap((value) => ['X-Forwarded-PROTO', value]),
      ...('more' in rest ? rest.more : []),
    ]

    assert.equal(filter.cameByHttps(lines, { peer, proto }), secure)
  })
}

test('forward() believes a trusted proxy: appends to X-Forwarded-For, keeps the rest, but no alias', () => {
  const sent = [
    'X-Forwarded-For',
    '203.0.113.7',
    'x-forwarded-for',
    '203.0.113.8',
    'X-Forwarded-Proto',
    'https',
    'Via',
    '1.1 lb',
    'Forwarded',
    'for=x',
    'X-Real-IP',
    '203.0.113.7',
    'X_Forwarded_For',
    'y',
    'X-Forwarded_Proto',
    'z',
    'X-User',
    'a',
    'X-Forwarded-Uri',
    '/a',
  ]

  assert.deepEqual(forwarded(sent, { peer: '10.0.0.1' }), [
    'Host: api.test:8080',
    'X-Forwarded-Proto: https',
    'Via: 1.1 lb',
    'Forwarded: for=x',
    'X-Real-IP: 203.0.113.7',
    'X-Forwarded-For: 203.0.113.7, 203.0.113.8, 10.0.0.1',
    'X-Forwarded-Host: api.test:8080',
    ...ours.slice(3),
  ])
})

const proxySays = [
  { says: ['X-Forwarded-Proto', 'https'], proto: ['https'], host: ['api.test:8080'] },
  { says: ['X-Forwarded-Host', 'shop.test'], proto: ['http'], host: ['shop.test'] },
  { says: ['X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'shop.test'], proto: ['https'], host: ['shop.test'] },
  { says: ['X-Forwarded-Host', 'shop.test', 'X-Forwarded-Proto', 'https'], proto: ['https'], host: ['shop.test'] },
  { says: ['X-Forwarded-Proto', 'https', 'Via', '1.1 lb'], proto: ['https'], host: ['api.test:8080'] },
  { says: ['X-Forwarded-Host', 'shop.test', 'Via', '1.1 lb'], proto: ['http'], host: ['shop.test'] },
  { says: ['X-Forwarded-Port', '443'], proto: ['http'], host: ['api.test:8080'] },
] as const
for (const { says, proto, host } of proxySays) {
  test(`forward() says each of protocol and host once behind a trusted proxy that says ${says.join(' ')}`, () => {
    const lines = forwarded(says, { peer: '10.0.0.1' })
    const said = (name: string) => lines.filter((line) => line.startsWith(name)).map((line) => line.slice(name.length))

    assert.deepEqual([said('X-Forwarded-Proto: '), said('X-Forwarded-Host: ')], [proto, host])
  })
}

test('forward() takes an empty X-Forwarded-For of a trusted proxy for none', () => {
  const lines = forwarded(['X-Forwarded-For', '', 'X-Forwarded-For', '203.0.113.7'], { peer: '10.0.0.1' })

  assert.ok(lines.includes('X-Forwarded-For: 203.0.113.7, 10.0.0.1'))
})

const trailing = [
  'X-Sum: 1',
  'X-User: mallory',
  'x_user: mallory',
  'X-HTTP-Method-Override: DELETE',
  'X-Forwarded-For: 203.0.113.7',
  'X-Forwarded-Host: evil.test',
  'Forwarded: for=x',
  'Client-Cert: :a:',
  'Authorization: Bearer a',
  'Cookie: a=b',
  'Content-Length: 3',
  'Transfer-Encoding: chunked',
  'Connection: close',
  'Host: evil.test',
  'If-Match: a',
  'Set-Cookie: a=b',
  'Cache-Control: public',
  'Server-Timing: a',
].flatMap((line) => line.split(': '))

function createFilter() {
  const options = { identityHeaders: new Map(Object.entries(identity)), keepHeaders: [] }
  return createHeaderFilter(options, { isTrustedProxy: () => true })
}

test('forwardTrailers() lets nothing pass behind a body that would not pass before it, nor what changes the message', () => {
  assert.deepEqual(pairs(createFilter().forwardTrailers(trailing)), ['X-Sum: 1', 'Server-Timing: a'])
})

test("backwardTrailers() lets an upstream's own names pass, and nothing that changes the message", () => {
  assert.deepEqual(pairs(createFilter().backwardTrailers(trailing)), [
    'X-Sum: 1',
    'X-User: mallory',
    'x_user: mallory',
    'X-HTTP-Method-Override: DELETE',
    'X-Forwarded-For: 203.0.113.7',
    'X-Forwarded-Host: evil.test',
    'Forwarded: for=x',
    'Client-Cert: :a:',
    'Server-Timing: a',
  ])
})

test('forward() sees through an IPv4 address in an IPv6 socket', () => {
  const sent = ['X-Forwarded-For', '203.0.113.7']

  assert.ok(forwarded(sent, { peer: '::ffff:10.0.0.1' }).includes('X-Forwarded-For: 203.0.113.7, 10.0.0.1'))
  assert.ok(forwarded(sent, { peer: '::ffff:192.0.2.1', proto: 'https' }).includes('X-Forwarded-For: 192.0.2.1'))
  assert.ok(forwarded([], { peer: '2001:db8::1', proto: 'https' }).includes('X-Forwarded-Proto: https'))
})

test('forward() passes an override header that keep_headers names, in its own spelling only, unless it is identity', () => {
  const sent = ['X-HTTP-Method', 'PUT', 'x_http_method', 'PUT', 'X-Method-Override', 'PUT']
  const kept = forwarded(sent, { keep: ['x-http-method'] })
  const claimed = forwarded(sent, { keep: ['x-http-method'], identity: { 'x-http-method': 'sub' } })

  assert.deepEqual(kept.slice(0, -ours.length), ['Host: api.test:8080', 'X-HTTP-Method: PUT'])
  assert.deepEqual(
    claimed.filter((line) => /method/i.test(line)),
    ['x-http-method: alice'],
  )
})

const values = [
  { claims: { sub: 'a b' }, is: 'a b' },
  { claims: { n: 7.5 }, name: 'n', is: '7.5' },
  { claims: { n: false }, name: 'n', is: 'false' },
  { claims: { n: ['a', 'b'] }, name: 'n', is: 'a,b' },
  { claims: { n: ['a', 'b,admin'] }, name: 'n', is: undefined },
  { claims: { n: ['a', ' admin'] }, name: 'n', is: undefined },
  { claims: { n: ['admin ', 'a'] }, name: 'n', is: undefined },
  { claims: { n: 2 ** 53 - 1 }, name: 'n', is: '9007199254740991' },
  { claims: { n: 2 ** 53 }, name: 'n', is: undefined },
  { claims: { n: -(2 ** 53) }, name: 'n', is: undefined },
  { claims: { n: ['a', ''] }, name: 'n', is: undefined },
  { claims: { n: ['a', 'of b'] }, name: 'n', is: 'a,of b' },
  { claims: { n: ['a', 1] }, name: 'n', is: undefined },
  { claims: { n: [] }, name: 'n', is: undefined },
  { claims: { n: { a: 1 } }, name: 'n', is: undefined },
  { claims: { n: null }, name: 'n', is: undefined },
  { claims: { sub: 'a\r\nx-admin: 1' }, is: undefined },
  { claims: { sub: 'a\tb' }, is: undefined },
  { claims: { sub: 'zoë' }, is: undefined },
  { claims: { sub: ' a' }, is: undefined },
  { claims: { sub: 'a ' }, is: undefined },
  { claims: { sub: '' }, is: undefined },
  { claims: { azp: 'web' }, name: 'client_id', is: 'web' },
  { claims: { scp: ['a', 'b'] }, name: 'scope', is: 'a b' },
  { claims: { scp: ['a', 'b admin'] }, name: 'scope', is: 'a' },
  { claims: { scope: '' }, name: 'scope', is: undefined },
  { claims: {}, name: 'constructor', is: undefined },
]
for (const { claims, name = 'sub', is } of values) {
  test(`forward() sends ${name} of ${JSON.stringify(claims)} as ${is === undefined ? 'no header' : JSON.stringify(is)}`, () => {
    const lines = forwarded([], { claims, identity: { 'x-claim': name } })

    assert.deepEqual(
      lines.filter((line) => line.startsWith('x-claim')),
      is === undefined ? [] : [`x-claim: ${is}`],
    )
  })
}

test('forward() says of each request where it is from, whatever it said of the ones before', (t) => {
  const make = () =>
    createHeaderFilter({ identityHeaders: new Map(), keepHeaders: [] }, { isTrustedProxy: (ip) => ip === '10.0.0.1' })
  const some = fc.record({
    peer: fc.oneof(fc.constantFrom('192.0.2.1', '::ffff:192.0.2.1', '10.0.0.1', 'unix:', '::1'), fc.ipV4()),
    proto: fc.constantFrom('http' as const, 'https' as const),
    authority: fc.constantFrom('a.test', 'b.test:8080'),
    sent: fc.constantFrom([], ['X-Forwarded-For', '198.51.100.7'], ['X-Forwarded-Proto', 'https'], ['X-A', '1']),
  })
  void fc.assert(
    fc.property(fc.array(some, { minLength: 2, maxLength: 40 }), (all) => {
      const filter = make()
      for (const { peer, proto, authority, sent } of all) {
        const context = { peer, proto, request: { authority }, allow: permit(alice) }
        assert.deepEqual(told(filter.forward(sent, context)), told(make().forward(sent, context)))
      }
    }),
  )
  const filter = make()
  const clear = t.mock.method(Map.prototype, 'clear')
  for (const round of [1, 2])
    for (let at = 0; at < 1500; at += 1) {
      const peer = `192.0.${2 + (at >> 8)}.${at & 255}`
      const context = { peer, proto: 'http' as const, request: { authority: 'a.test' }, allow: permit(alice) }
      assert.equal(told(filter.forward([], context))[3], peer, `in round ${round}`)
    }
  clear.mock.restore()
  assert.equal(clear.mock.callCount(), 2, 'addresses are remembered without bound')
})

test('forward() gives each principal its own identity', () => {
  const filter = createHeaderFilter(
    { identityHeaders: new Map([['x-user', 'sub']]), keepHeaders: [] },
    { isTrustedProxy: () => false },
  )
  const seen = ['alice', 'bob', 'alice'].map((sub) => {
    const context = { peer: '192.0.2.1', proto: 'http', request: { authority: 'a' }, allow: permit({ sub }) } as const
    return told(filter.forward([], context)).at(-1)
  })

  assert.deepEqual(seen, ['alice', 'bob', 'alice'])
})

test('forward() judges names alike after a thousand others, and those that every object has', (t) => {
  const filter = createHeaderFilter(
    { identityHeaders: new Map([['x-user', 'sub']]), keepHeaders: [] },
    { isTrustedProxy: () => false },
  )
  const context = { peer: '192.0.2.1', proto: 'http', request: { authority: 'a' }, allow: permit({}) } as const
  const noise = Array.from({ length: 2500 }, (_, at) => [`x-${at}`, '1']).flat()
  const sent = [
    '__proto__',
    '1',
    'constructor',
    '2',
    'prototype',
    '3',
    'X_User',
    'attacker',
    `X-${'a'.repeat(100)}`,
    '4',
  ]

  const before = told(filter.forward(sent, context))
  const clear = t.mock.method(Map.prototype, 'clear')
  const during = told(filter.forward(noise, context))
  clear.mock.restore()

  assert.deepEqual(pairs(before).slice(1, 5), [
    '__proto__: 1',
    'constructor: 2',
    'prototype: 3',
    `X-${'a'.repeat(100)}: 4`,
  ])
  assert.deepEqual(told(filter.forward(sent, context)), before)
  assert.equal(during.length, noise.length + 8)
  assert.equal(clear.mock.callCount(), 2, 'names are remembered without bound')
})

test('forward() never throws, and never lets through a name that folds to one of ours', () => {
  const name = fc.oneof(
    fc.constantFrom('x-user', 'X_User', 'x.USER', 'connection', 'Via'),
    fc.string({ maxLength: 12 }),
  )
  const line = fc.tuple(name, fc.string({ maxLength: 30 }))
  void fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      const folded = forwarded(lines.flat()).map((each) =>
        each
          .toLowerCase()
          .replace(/:.*$/s, '')
          .replace(/[^a-z0-9]/g, '-'),
      )
      for (const once of [
        'host',
        'x-user',
        'x-client',
        'x-scope',
        'x-forwarded-for',
        'x-forwarded-proto',
        'x-forwarded-host',
      ])
        assert.equal(folded.filter((each) => each === once).length, 1, once)
    }),
  )
})

test("backward() removes the headers of the upstream's connection, and keeps its length and its own names", () => {
  const filter = createHeaderFilter(
    { identityHeaders: new Map(Object.entries(identity)), keepHeaders: [] },
    { isTrustedProxy: () => false },
  )
  const sent = [
    'Connection',
    'close, X-Hop, Content-Length',
    'Keep-Alive',
    'timeout=5',
    'Transfer-Encoding',
    'chunked',
    'Upgrade',
    'h2c',
    'Proxy-Authenticate',
    'Basic',
    'Proxy-Authentication-Info',
    'nextnonce="a"',
    'Trailer',
    'x',
    'X-Hop',
    '1',
    'Content-Length',
    '5',
    'Set-Cookie',
    'a',
    'set-cookie',
    'b',
    'Via',
    '1.1 x',
    'X-User',
    'u',
  ]

  assert.deepEqual(pairs(filter.backward(sent)), [
    'Trailer: x',
    'Content-Length: 5',
    'Set-Cookie: a',
    'set-cookie: b',
    'Via: 1.1 x',
    'X-User: u',
  ])
})

const fragments = [
  {
    fragment: identityHeadersOptions,
    good: [{ 'x-forwarded-user': 'sub' }, {}],
    bad: [
      { host: 'sub' },
      { authorization: 'sub' },
      { 'content-length': 'sub' },
      { 'transfer-encoding': 'sub' },
      { connection: 'sub' },
      { 'x-forwarded-for': 'sub' },
      { 'x-original-url': 'sub' },
      { 'X-User': 'sub' },
      { x_user: 'sub' },
      { 'x.user': 'sub' },
      { 'x user': 'sub' },
      { 'x-user': '' },
      { 'x-user': 1 },
    ],
  },
  {
    fragment: keepHeadersOptions,
    good: [['x-http-method-override'], []],
    bad: [['authorization'], ['x-user'], ['x-forwarded-for'], ['X-Original-URL']],
  },
] as const
for (const { fragment, good, bad } of fragments) {
  for (const value of good) test(`the header options accept ${JSON.stringify(value)}`, () => void fragment.parse(value))
  for (const value of bad) {
    test(`the header options refuse ${JSON.stringify(value)}`, () =>
      assert.equal(fragment.safeParse(value).success, false))
  }
}

const vectors = join(import.meta.dirname, '../../../shared/vectors/examples/header_cases.json')
type HeaderCase = {
  readonly id: string
  readonly send: readonly (readonly [string, string])[]
  readonly expect: string
}
const rows: readonly HeaderCase[] = existsSync(vectors) ? JSON.parse(readFileSync(vectors, 'utf8')).cases : []
if (rows.length === 0) {
  test('forward() on the header vectors', (t) => {
    assert.notEqual(process.env['CI'], 'true', 'CI needs ../shared/vectors')
    t.skip('../shared/vectors is absent')
  })
}
// The other rows are about the token, the rule or the bytes on the wire.
const removing =
  /^upstream sees identity only|stripped toward upstream|^replaced, not appended|^hop-by-hop removal|^dropped/
for (const { id, send, expect } of rows.filter((row) => removing.test(row.expect))) {
  test(`forward() on header vector ${id} (${JSON.stringify(send)}): ${expect.slice(0, 40)}`, () => {
    const named = { 'x-user': 'sub', 'x-scope': 'scope', 'x-client-id': 'client_id', 'x-gw-id': 'sub' }
    const clean = forwarded([], { identity: named })

    assert.deepEqual(forwarded(send.flat(), { identity: named }), clean)
  })
}
