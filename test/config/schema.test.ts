import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type * as z from 'zod'
import { load } from '../../src/config/load.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'
import { readAccessRequest } from '../../src/decision/request.ts'
import { issuerOptions } from '../../src/issuer/options.ts'
import { localListOptions } from '../../src/sources/local-list.ts'

const broken = [
  {
    because: 'a rule that is refused counts where the others stand',
    rules: [
      { id: 'bad', match: { path: 'nope' } },
      { id: 'one', match: { path: '/x' } },
      { id: 'two', match: { path: '/x' } },
    ],
    crossed: ['rules.2.match.path: expected a pattern and method of its own, and rules.1 has the same'],
  },
  {
    because: 'a rule has its name by its place in the file',
    rules: [{ match: { path: 'nope' } }, { match: { path: '/x' } }, { id: 'rule-1', match: { path: '/y' } }],
    crossed: [],
  },
  {
    because: 'another rule has that name',
    rules: [{ match: { path: 'nope' } }, { match: { path: '/x' } }, { id: 'rule-2', match: { path: '/y' } }],
    crossed: ['rules.2.id: expected an id of its own, and rules.1 is rule-2 already'],
  },
  {
    because: 'what its methods are is not known',
    rules: [{ match: { path: '/x', methods: ['get'] } }, { match: { path: '/x', methods: ['PUT'] } }],
    crossed: [],
  },
  {
    because: 'what its id is is not known',
    rules: [
      { id: 'a b', match: { path: '/x' } },
      { id: 'rule-1', match: { path: '/y' } },
    ],
    crossed: [],
  },
  {
    because: 'what is wrong with it is no matter here',
    rules: [{ match: { path: '/x' }, scops: ['a'] }, { match: { path: '/x' } }],
    crossed: ['rules.1.match.path: expected a pattern and method of its own, and rules.0 has the same'],
  },
]
for (const { because, rules, crossed } of broken) {
  test(`findGatewayConflicts() finds ${crossed.length === 0 ? 'nothing' : 'one thing'} in rules beside a refused one: ${because}`, () => {
    const text = JSON.stringify({ version: 1, upstream: { url: 'http://127.0.0.1:9' }, rules })

    const loaded = load(gatewayOptions, { file: 'gateway.yaml', text }, { env: {} }, findGatewayConflicts)

    assert.ok(loaded.kind === 'refused')
    const said = loaded.problems.map(({ message }) => message)
    assert.equal(said.length, crossed.length + 1, said.join('\n'))
    assert.deepEqual(
      said.filter((message) => message.includes('of its own')),
      crossed.map((each) => `Cannot read ${each}`),
    )
  })
}

for (const { name, isOne } of [
  { name: 'a.test', isOne: true },
  { name: 'my_svc', isOne: true },
  { name: '[::1]', isOne: true },
  { name: 'A.test', isOne: false },
  { name: 'a.test:80', isOne: false },
  { name: 'a.test.', isOne: false },
  { name: 'a..test', isOne: false },
  { name: '*.a.test', isOne: false },
]) {
  test(`gatewayOptions ${isOne ? 'takes' : 'refuses'} ${name} in hosts, as requests ${isOne ? 'may' : 'cannot'} come for it`, () => {
    const options = {
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      hosts: [name],
      rules: [{ match: { path: '/a' } }],
    }
    const raw = { method: 'GET', target: '/', host: [name], authorization: [], arrivedMs: 0, certificate: undefined }

    assert.equal(gatewayOptions.safeParse(options).success, isOne)
    assert.equal(readAccessRequest(raw, { hosts: new Set([name]) }).kind === 'request', isOne)
  })
}

const head = 'version: 1\nupstream: { url: http://127.0.0.1:9 }\nrules: [{ match: { path: /a } }]\n'
const issuer = 'issuer: https://a.test, audience: a, introspection: { client_id: a, client_secret: { env: S } }'
const crossed = [
  {
    text: `issuers: [{ ${issuer}, leeway: 5m }]`,
    at: 'Cannot read issuers.0.leeway: expected at most the blacklist.purge_delay of 1m',
    points: '5m',
  },
  {
    text: `issuers: [{ ${issuer}, leeway: 5m }]\nblacklist: { purge_delay: 2m }`,
    at: 'Cannot read blacklist.purge_delay: expected at least the leeway of 5m (of https://a.test)',
    points: '2m',
  },
  {
    text: `issuers: [{ ${issuer}, jwks: { refresh: 2h } }]`,
    at: 'Cannot read issuers.0.jwks.refresh: expected at most the stale_max of 1h',
    points: '2h',
  },
  {
    text: `issuers: [{ ${issuer}, blacklist: { url: https://a.test/b } }]\nblacklist: { poll_interval: 6m }`,
    at: 'Cannot read blacklist.poll_interval: expected at most the max_staleness of 5m',
    points: '6m',
  },
  {
    text: `issuers: [{ ${issuer}, blacklist: { url: https://a.test/b, wait: 25s } }]\nblacklist: { max_staleness: 88s }`,
    at: 'Cannot read blacklist.max_staleness: expected at least 1m29s: the poll_interval of 1m, a wait of 25s and 4s',
    points: '88s',
  },
  {
    text: `issuers: [{ ${issuer}, blacklist: { url: https://a.test/b, wait: 25s } }]\nblacklist: { poll_interval: 5m }`,
    at: 'Cannot read issuers.0.blacklist.wait: expected a blacklist.max_staleness of at least 5m29s: the poll_interval of 5m, a wait of 25s and 4s',
    points: '25s',
  },
  {
    text: `issuers: [{ ${issuer}, blacklist: { url: https://a.test/b, wait: 25s } }]\nblacklist: { poll_interval: 5900ms, max_staleness: 6s }`,
    at: 'Cannot read issuers.0.blacklist.wait: expected at most 2s beside a blacklist.poll_interval of 5900ms, or a poll_interval of at least 28s: a held poll is to be over, 2s for the call included, 1s before the next is due',
    points: '25s',
  },
  {
    text: `issuers: [{ ${issuer}, blacklist: { url: https://a.test/b, wait: 1s } }]\nblacklist: { poll_interval: 3900ms }`,
    at: 'Cannot read issuers.0.blacklist.wait: expected none beside a blacklist.poll_interval of 3900ms, or a poll_interval of at least 4s: a held poll is to be over, 2s for the call included, 1s before the next is due',
    points: '1s',
  },
  {
    text: `issuers: [{ ${issuer}, blacklist: { url: https://a.test/b, wait: 26s } }]`,
    at: 'Cannot read issuers.0.blacklist.wait: expected a duration from 0s to 25s, got "26s"',
    points: '26s',
  },
  {
    text: `issuers: [{ ${issuer}, blacklist: { url: https://a.test/b, wait: 500ms } }]`,
    at: 'Cannot read issuers.0.blacklist.wait: expected whole seconds, got "500ms"',
    points: '500ms',
  },
  {
    // An entry that is refused before it moves the places of those behind it.
    text: `issuers: [{ issuer: b }, { ${issuer}, leeway: 5m }]`,
    at: 'Cannot read issuers.1.leeway: expected at most the blacklist.purge_delay of 1m',
    points: '5m',
  },
]
for (const { text, at, points } of crossed) {
  test(`findGatewayConflicts() points at what was written, not at a default: ${at}`, () => {
    const loaded = load(gatewayOptions, { file: 'f', text: head + text }, { env: {} }, findGatewayConflicts)

    assert.ok(loaded.kind === 'refused')
    const found = loaded.problems.find(({ message }) => message === at)
    assert.ok(found !== undefined, JSON.stringify(loaded.problems))
    assert.equal(found.excerpt.slice(found.column - 1, found.column - 1 + found.caretLength), points)
  })
}

const feed = 'blacklist: { url: https://a.test/b'
for (const { text, says } of [
  {
    text: `issuers: [{ ${issuer}, ${feed} } }]\nblacklist: { poll_interval: 1ms, max_staleness: 10s }`,
    says: 'blacklist.poll_interval: expected a duration from 100ms to 1h, got "1ms"',
  },
  {
    text: `issuers: [{ ${issuer}, ${feed}, wait: 25s } }]\nblacklist: { poll_interval: 1ms, max_staleness: 70s }`,
    says: 'blacklist.poll_interval: expected a duration from 100ms to 1h, got "1ms"',
  },
  {
    text: `issuers: [{ ${issuer}, leeway: 5 s }]\nblacklist: { purge_delay: 10s }`,
    says: 'issuers.0.leeway: expected a duration like 30s, got "5 s"',
  },
  {
    text: `issuers: [{ issuer: https://a.test, audience: a, introspection: true, ${feed}, client_id: a, client_secret: { env: S } } }]\nblacklist: { on_stale: introspect }`,
    says: 'issuers.0.introspection: expected a map',
  },
]) {
  test(`findGatewayConflicts() compares nothing with a default that stands in for ${says}`, () => {
    const loaded = load(gatewayOptions, { file: 'f', text: head + text }, { env: {} }, findGatewayConflicts)

    assert.ok(loaded.kind === 'refused')
    for (const { message } of loaded.problems) assert.ok(message.startsWith(`Cannot read ${says}`), message)
  })
}

for (const { at, change } of [
  // Each at its bound, where both still go together.
  { at: 'stale_max', change: `issuers: [{ ${issuer}, jwks: { refresh: 5m, stale_max: 5m } }]` },
  { at: 'purge_delay', change: `issuers: [{ ${issuer}, leeway: 20s }]\nblacklist: { purge_delay: 20s }` },
]) {
  test(`findGatewayConflicts() takes a ${at} that is just enough, and no millisecond less`, () => {
    const read = (text: string) => load(gatewayOptions, { file: 'f', text }, { env: {} }, findGatewayConflicts)

    assert.equal(read(head + change).kind, 'loaded')
    const less = read(
      head +
        change.replace(
          /(stale_max|purge_delay): \d+[ms]+/,
          (_, key) => `${key}: ${key === 'stale_max' ? 299_999 : 19_999}ms`,
        ),
    )
    assert.ok(less.kind === 'refused')
    assert.match(less.problems[0]?.message ?? '', new RegExp(`${at}: expected at least the`))
  })
}

test('findGatewayConflicts() asks for one issuer with opaque: true among those of each rule, but of no public one', () => {
  const issuers = `issuers: [{ ${issuer}, opaque: true }, { ${issuer.replace('a.test', 'b.test')}, opaque: true }]`
  const read = (rule: string) => {
    const text = `version: 1\nupstream: { url: http://127.0.0.1:9 }\nrules: [{ match: { path: /a }${rule} }]\n${issuers}`
    return load(gatewayOptions, { file: 'f', text }, { env: {} }, findGatewayConflicts)
  }

  assert.equal(read(', public: true').kind, 'loaded')
  assert.equal(read(', issuers: [https://a.test]').kind, 'loaded')
  const both = read('')
  assert.deepEqual(both.kind === 'refused' && both.problems.map(({ message }) => message), [
    'Cannot read rules.0: expected one issuer with opaque: true among those it accepts',
  ])
})

for (const [wait, lists] of [
  ['25s', 'max_staleness: 89s'],
  ['25s', 'poll_interval: 28s, max_staleness: 57s'],
  ['1s', 'poll_interval: 4s, max_staleness: 9s'],
  ['0s', 'poll_interval: 100ms, max_staleness: 100ms'],
])
  test(`findGatewayConflicts() takes a wait of ${wait} beside ${lists}`, () => {
    const text = `${head}issuers: [{ ${issuer}, blacklist: { url: https://a.test/b, wait: ${wait} } }]\nblacklist: { ${lists} }`

    assert.equal(load(gatewayOptions, { file: 'f', text }, { env: {} }, findGatewayConflicts).kind, 'loaded')
  })

for (const [key, value] of [
  ['revocation', 'introspect'],
  ['opaque', 'true'],
  ['access_token_form', 'wrapped'],
]) {
  test(`findGatewayConflicts() refuses ${key}: ${value} without introspection: nobody could be asked`, () => {
    const read = (introspection: string) => {
      const text = `${head}issuers: [{ issuer: https://a.test, audience: a, ${key}: ${value}${introspection} }]`
      return load(gatewayOptions, { file: 'f', text }, { env: {} }, findGatewayConflicts)
    }

    const alone = read('')

    assert.ok(alone.kind === 'refused')
    assert.deepEqual(
      alone.problems.map(({ path }) => path),
      [`issuers.0.${key}`],
    )
    assert.match(alone.problems[0]?.message ?? '', /: expected introspection to be configured for /)
    assert.equal(read(', introspection: { client_id: a, client_secret: { env: S } }').kind, 'loaded')
  })
}

for (const url of ['https://login:99999', 'https://[/x', 'https://%/x', 'https://a b', 'ftp://a'])
  test(`gatewayOptions refuses ${url} once, wherever it stands: it is no URL`, () => {
    const options = (issuer: object) => ({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: [{ issuer: 'https://issuer.test', audience: 'a', ...issuer }],
      rules: [{ match: { path: '/a' } }],
    })

    for (const issuer of [{ issuer: url }, { jwks_uri: url }, { http: { proxy: url } }])
      assert.equal(gatewayOptions.safeParse(options(issuer)).error?.issues.length, 1, JSON.stringify(issuer))
  })

for (const { listen, at } of [
  { listen: { proxy: '300.0.0.1:80' }, at: ['listen.proxy'] },
  { listen: { health: '...:80' }, at: ['listen.health'] },
  { listen: { health: '[:::]:80' }, at: ['listen.health'] },
  { listen: { proxy: '0.0.0.0:9000', health: '127.0.0.1:9000' }, at: ['listen.health'] },
  { listen: { health: '[::]:9465' }, at: ['listen.admin'] },
  { listen: { proxy: '127.0.0.1:9000', health: '0.0.0.0:9000' }, at: ['listen.health'] },
  { listen: { proxy: '192.0.2.1:9000', health: '[::]:9000' }, at: ['listen.health'] },
  { listen: { admin: '0.0.0.0:9465' }, at: ['listen.admin'] },
  { listen: { admin: '192.0.2.1:9465' }, at: ['listen.admin'] },
  { listen: { admin: 'admin.internal:9465' }, at: ['listen.admin'] },
  { listen: { admin: 'localhost:9465' }, at: [] },
  { listen: { proxy: 'unix:/run/a.sock', health: 'gateway.internal:80' }, at: [] },
  { listen: { proxy: 'unix:/run/a:9464' }, at: [] },
  { listen: { proxy: 'unix:/run/a:1.sock' }, at: [] },
  { listen: { proxy: '127.0.0.2:9000', health: '127.0.0.1:9000', admin: '[::1]:9465' }, at: [] },
  { listen: { proxy: '0.0.0.0:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' }, at: [] },
]) {
  test(`findGatewayConflicts() ${at.length === 0 ? 'takes' : 'refuses'} ${JSON.stringify(listen)}: what cannot be listened on has a line`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      listen,
      upstream: { url: 'http://127.0.0.1:9' },
      rules: [{ match: { path: '/a' }, scopes: ['a'] }],
    })

    assert.deepEqual(
      findGatewayConflicts(options).map(({ path }) => path.join('.')),
      at,
    )
  })
}

test('load() says of a key that stands beside its section with the name of that, what is meant', () => {
  const text = `version: 1
upstream: { url: http://a }
issuers: [{ issuer: https://a, audience: a, jwks: { url: https://a/jwks } }]
rules: [{ match: { path: /a }, public: true }]
`
  const loaded = load(gatewayOptions, { file: 'f', text }, { env: {} })

  assert.deepEqual(loaded.kind === 'refused' && loaded.problems.map(({ message }) => message), [
    'Cannot read issuers.0.jwks.url: no such key, did you mean "jwks_uri", beside jwks?',
  ])
})

const kinds = [
  { schema: gatewayOptions, text: readFileSync('config/full.yaml', 'utf8'), is: 'a configuration of the gateway' },
  {
    schema: issuerOptions,
    text: readFileSync('config/issuer.yaml', 'utf8'),
    is: 'a configuration of `postern issuer`',
  },
  { schema: localListOptions, text: 'version: 1\nentries: []\n', is: 'a list of revoked tokens' },
]
for (const wanted of kinds)
  for (const given of kinds.filter((each) => each !== wanted)) {
    test(`load() says in one line of ${given.is} that it is none, where ${wanted.is} is wanted`, () => {
      const loaded = load<z.ZodType>(wanted.schema, { file: 'f', text: given.text }, { env: {} })

      assert.ok(loaded.kind === 'refused')
      const kind = /^(rules|realms|entries):/m.exec(given.text)?.[1]
      assert.deepEqual(
        loaded.problems.map(({ message }) => message),
        [`Cannot read the document: it is ${given.is} (${kind}), wanted ${wanted.is}`],
      )
    })
  }

const inBraces = 'expected in {} at most 64 letters, digits, hyphens and underscores, and no digit or hyphen first'
const places = [
  { written: 'listen: { health: localhost }', says: 'listen.health: expected an address like 127.0.0.1:8080' },
  { written: 'listen: { admin: "unix:/a" }', says: 'listen.admin: expected an address like 127.0.0.1:8080' },
  { written: 'listen: { admin: "127.0.0.1:65536" }', says: 'listen.admin: expected a port up to 65535' },
  { path: '/ä b/{id}/**', says: 'rules.0.match.path: expected "/%C3%A4%20b/{id}/**", escaped as in a request' },
  { path: '/a%2eb', says: 'rules.0.match.path: expected dots as they are, not escaped' },
  { path: '/{order.id}', says: `rules.0.match.path: ${inBraces}` },
  { path: '/{1}', says: `rules.0.match.path: ${inBraces}` },
  { path: '/{a}b', says: 'rules.0.match.path: expected {name} for one segment, or a closing ** for any number' },
  {
    path: '/a//b',
    says: 'rules.0.match.path: expected a path without dot segments, empty segments, query, or characters that need an escape',
  },
]
for (const { written = '', path = '/a', says } of places) {
  test(`load() says once what is wrong with ${written}${path}`, () => {
    const text = `version: 1
upstream: { url: http://a }
rules: [{ match: { path: "${path}" }, public: true }]
${written}`
    const loaded = load(gatewayOptions, { file: 'f', text }, { env: {} })

    assert.deepEqual(
      loaded.kind === 'refused' && loaded.problems.map(({ message }) => message.replace(/, got .*/, '')),
      [`Cannot read ${says}`],
    )
  })
}

for (const { proxy, health, found } of [
  { proxy: 'localhost:26010', health: '127.0.0.1:26010', found: 1 },
  { proxy: '[::1]:26010', health: '[0:0:0:0:0:0:0:1]:26010', found: 1 },
  { proxy: 'Sidecar.test.:2601', health: 'sidecar.test:02601', found: 1 },
  { proxy: '[::1]:26010', health: '127.0.0.1:26010', found: 0 },
  { proxy: 'localhost:26010', health: '127.0.0.1:26011', found: 0 },
]) {
  test(`findGatewayConflicts() finds ${found === 0 ? 'nothing' : 'one address'} in listeners at ${proxy} and ${health}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      listen: { proxy, health },
      rules: [{ match: { path: '/a' } }],
    })

    const paths = findGatewayConflicts(options).map(({ path }) => path.join('.'))

    assert.deepEqual(paths, found === 0 ? [] : ['listen.health'])
  })
}
