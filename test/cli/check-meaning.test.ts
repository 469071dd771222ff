import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { lintIssuers, lintListeners, lintReach, meaning } from '../../src/cli/check-meaning.ts'
import { lintValues } from '../../src/cli/check-values.ts'
import { load } from '../../src/config/load.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'
import { lintPublic } from '../../src/decision/public-lint.ts'
import { lintRules } from '../../src/decision/rule-lint.ts'

const introspection = { client_id: 'gateway', client_secret: { env: 'SECRET' }, max_age: '30s' }
const feed = { blacklist: { url: 'https://issuer.test/blacklist' } }
const known = 'known ones after 30s (introspection.max_age)'

// What a gateway does whose issuer is down.
const outages = [
  { issuer: {}, lists: {}, said: 'JWTs refused with 503 after 1h (jwks.stale_max), no opaque tokens' },
  {
    issuer: { introspection },
    lists: {},
    said: `JWTs refused with 503 after 1h (jwks.stale_max), opaque tokens at once, ${known}`,
  },
  {
    issuer: { introspection, ...feed },
    lists: {},
    said: `JWTs refused with 503 after 5m (blacklist.max_staleness), opaque tokens at once, ${known}`,
  },
  {
    issuer: { introspection, ...feed },
    lists: { max_staleness: '10s', poll_interval: '5s' },
    said: 'JWTs refused with 503 after 10s (blacklist.max_staleness), opaque tokens at once, known ones after 10s (blacklist.max_staleness)',
  },
  {
    issuer: { introspection, revocation: 'introspect' },
    lists: {},
    said: `JWTs refused with 503 at once, ${known}, opaque tokens at once, ${known}`,
  },
  {
    issuer: { introspection: { ...introspection, max_age: '2h' }, access_token_form: 'wrapped' },
    lists: {},
    said: 'JWTs refused with 503 at once, known ones after 1h (jwks.stale_max), opaque tokens at once, known ones after 2h (introspection.max_age)',
  },
  {
    issuer: { introspection, ...feed },
    lists: { on_stale: 'introspect' },
    said: `JWTs refused with 503 after 5m (blacklist.max_staleness), opaque tokens at once, ${known}`,
  },
  {
    issuer: { introspection, ...feed },
    lists: { on_stale: 'allow' },
    said: `JWTs accepted unchecked after 5m (blacklist.max_staleness), refused with 503 after 1h (jwks.stale_max), opaque tokens at once, ${known}`,
  },
  {
    issuer: { introspection, ...feed },
    lists: { on_stale: 'allow', max_staleness: '2h' },
    said: `JWTs refused with 503 after 1h (jwks.stale_max), opaque tokens at once, ${known}`,
  },
  {
    issuer: { introspection, ...feed, jwks: { file: '/keys.json' } },
    lists: { on_stale: 'allow' },
    said: `JWTs accepted unchecked after 5m (blacklist.max_staleness), opaque tokens refused with 503 at once, ${known}`,
  },
  { issuer: { jwks: { file: '/keys.json' } }, lists: {}, said: 'JWTs accepted as before, no opaque tokens' },
]
for (const { issuer, lists, said } of outages) {
  test(`meaning() says of ${JSON.stringify({ ...issuer, ...lists })} without its issuer: ${said}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', ...issuer }],
      blacklist: lists,
      rules: [{ match: { path: '/a' } }],
    })

    const lines = meaning(options)

    assert.deepEqual(
      lines.filter((line) => line.includes('unreachable')),
      [`If https://issuer.test is unreachable: ${said}`],
    )
  })
}

test('meaning() tells times as people do, and says that nobody was asked', () => {
  const options = gatewayOptions.parse({
    version: 1,
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', introspection, ...feed }],
    rules: [{ match: { path: '/a' } }],
  })

  const lines = meaning(options)

  assert.ok(lines.includes('nothing was asked over the network: this is what the settings say'))
  assert.ok(lines.some((line) => line.endsWith('within 1m and one fetch; remembered for up to 24h1m')))
  assert.deepEqual(
    meaning({ ...options, issuers: [] }).filter((line) => line.includes('network')),
    [],
  )
})

for (const [wait, poll_interval, within] of [
  ['25s', '60s', '2s where it holds polls, else within 1m'],
  ['1s', '4s', '2s where it holds polls, else within 4s'],
  ['0s', '60s', '1m'],
] as const) {
  test(`meaning() says with a wait of ${wait} and an interval of ${poll_interval} that a revocation holds within ${within}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: [
        { issuer: 'https://issuer.test', audience: 'a', introspection, blacklist: { ...feed.blacklist, wait } },
      ],
      blacklist: { poll_interval },
      rules: [{ match: { path: '/a' } }],
    })

    assert.ok(meaning(options).some((line) => line.includes(`refused everywhere within ${within} and one fetch;`)))
  })
}

const revocations = [
  { issuer: {}, said: 'a JWT is accepted until it expires, up to 1d (max_token_lifetime)' },
  {
    issuer: { introspection: { ...introspection, max_age: '24h' } },
    said: 'an opaque one is accepted for up to 1d (introspection.max_age), a JWT until it expires, up to 1d (max_token_lifetime)',
  },
  {
    issuer: { introspection, revocation: 'introspect' },
    said: 'it is accepted for up to 30s (introspection.max_age)',
  },
  {
    issuer: { introspection, access_token_form: 'wrapped' },
    rule: { freshness: { max_age: '5s' } },
    said: 'it is accepted for up to 30s (introspection.max_age), or as the freshness of the rule says',
  },
  {
    issuer: { introspection, ...feed },
    said: 'refused everywhere within 1m and one fetch; remembered for up to 24h1m',
  },
]
for (const { issuer, rule, said } of revocations) {
  test(`meaning() says with ${JSON.stringify({ ...issuer, ...rule })} of a token that is revoked: ${said}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', ...issuer }],
      rules: [{ match: { path: '/a' }, ...rule }],
    })

    assert.deepEqual(
      meaning(options).filter((line) => line.includes('revokes')),
      [`If https://issuer.test revokes a token: ${said}`],
    )
  })
}

const widened = [
  { issuer: { leeway: '1h' }, more: {}, said: /^If a token of .* it is accepted for up to 1h more \(leeway\)$/ },
  {
    issuer: { jwks: { stale_max: '30d' } },
    more: {},
    said: /^If .* withdraws a key: .* 5m .* 30d \(jwks\.stale_max\)$/,
  },
  { issuer: {}, more: { stream_grace: '1d' }, said: /goes on for up to 1d \(stream_grace\)$/ },
  { issuer: { token_profile: 'lenient' }, more: {}, said: /other tokens of typ JWT: .* \(token_profile\)$/ },
  {
    issuer: { introspection, revocation: 'introspect' },
    more: {},
    said: /answers 400 .*: 503, since every JWT is intros/,
  },
]
for (const { issuer, more, said } of widened) {
  test(`meaning() has one line for ${JSON.stringify({ ...issuer, ...more })}, and no warning: it is what somebody wrote`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', ...issuer }],
      ...more,
      rules: [{ match: { path: '/a' } }],
    })

    assert.equal(meaning(options).filter((line) => said.test(line)).length, 1, meaning(options).join('\n'))
    assert.deepEqual(
      lintIssuers(options).filter(({ path }) => path.length > 2),
      [],
    )
  })
}

test('meaning() says nothing of a leeway, a grace and keys that there are not', () => {
  const options = gatewayOptions.parse({
    version: 1,
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', leeway: '0s', jwks: { file: '/keys.json' } }],
    rules: [{ match: { path: '/a' } }],
  })

  assert.doesNotMatch(meaning(options).join('\n'), /leeway|grace|withdraws|\(token_profile|\(revocation/)
})

test('check has no warning of the configuration that has every section', () => {
  const text = readFileSync('config/full.yaml', 'utf8')
  const loaded = load(gatewayOptions, { file: 'full.yaml', text }, { env: {} }, findGatewayConflicts)

  assert.ok(loaded.kind === 'loaded')
  const { value } = loaded
  const rules = [lintRules, lintPublic].flatMap((lint) => lint(value.rules, undefined, value.hosts))
  const all = [lintListeners, lintReach, lintIssuers, lintValues].flatMap((lint) => lint(value))
  assert.deepEqual([...loaded.warnings, ...rules, ...all], [])
})

for (const [audience, isWarned] of [
  ['account', true],
  [['orders-api', 'account'], true],
  [['orders-api', 'accounts'], false],
] as const) {
  test(`lintIssuers() ${isWarned ? 'warns' : 'says nothing'} of the audience ${audience}, an issuer's or a rule's`, () => {
    const read = (issuer: object, rule: object) =>
      gatewayOptions.parse({
        version: 1,
        upstream: { url: 'http://127.0.0.1:9' },
        issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', ...issuer }],
        rules: [{ match: { path: '/a' }, ...rule }],
      })
    const warned = [read({ audience }, {}), read({}, { audience })].map((options) =>
      lintIssuers(options)
        .map(({ path }) => path.join('.'))
        .filter((path) => path.endsWith('audience')),
    )

    assert.deepEqual(warned, isWarned ? [['issuers.0.audience'], ['rules.0.audience']] : [[], []])
  })
}

test("lintIssuers() says once, and of how many rules, that opaque tokens are nobody's", () => {
  const options = gatewayOptions.parse({
    version: 1,
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: ['a', 'b'].map((name) => ({ issuer: `https://${name}.test`, audience: 'api', introspection })),
    rules: [
      { match: { path: '/open' }, public: true },
      { match: { path: '/one' }, issuers: ['https://a.test'] },
      ...Array.from({ length: 301 }, (_, at) => ({ match: { path: `/p${at}` } })),
    ],
  })

  const found = lintIssuers(options).filter(({ message }) => message.startsWith('opaque'))

  assert.deepEqual(
    found.map(({ path, message }) => [path.join('.'), message.replace(/^.*opaque: true/, '')]),
    [['rules.2', '; so it is with 300 more of the rules']],
  )
})

for (const [members, isWarned] of [
  [{ introspection, require_aud: false }, true],
  [{ introspection }, false],
  [{ require_aud: false }, false],
] as const) {
  test(`lintIssuers() ${isWarned ? 'warns' : 'says nothing'} of the audience for ${JSON.stringify(members)}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', ...members }],
      rules: [{ match: { path: '/a' } }],
    })

    const paths = lintIssuers(options).map(({ path }) => path.join('.'))

    assert.equal(paths.includes('issuers.0.require_aud'), isWarned)
  })
}

const scopes = ['orders:read']
const issuers = [{ issuer: 'https://issuer.test', audience: 'orders-api' }]
const unreachable = [
  { of: 'a rule for tokens where there is no issuer', issuers: [], rule: { scopes }, at: ['issuers'] },
  { of: 'a public rule where there is no issuer', issuers: [], rule: { public: true }, at: [] },
  { of: 'a rule for tokens of an issuer', issuers, rule: { scopes }, at: [] },
  { of: 'a host where any may come', issuers, rule: { scopes }, host: 'b.test', at: [] },
  { of: 'a host that is none of hosts', hosts: ['a.test'], host: 'b.test', at: ['rules.0.match.host'] },
  { of: 'a host that is one of hosts', hosts: ['a.test', 'b.test'], host: 'b.test', at: [] },
  {
    of: 'hosts none of which has one label more',
    hosts: ['a.test', 'x.y.a.test'],
    host: '*.a.test',
    at: ['rules.0.match.host'],
  },
  { of: 'hosts one of which has one label more', hosts: ['x.a.test'], host: '*.a.test', at: [] },
  { of: 'no host where only some may come', hosts: ['a.test'], host: undefined, at: [] },
]
for (const { of, hosts, host, rule, at, ...rest } of unreachable) {
  test(`lintReach() warns of ${at.length === 0 ? 'nothing' : at} for ${of}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: rest.issuers ?? issuers,
      hosts,
      rules: [{ match: { path: '/a', host }, ...(rule ?? { scopes }) }],
    })

    const warnings = lintReach(options)

    assert.deepEqual(
      warnings.map(({ path }) => path.join('.')),
      at,
    )
  })
}

for (const { listen, upstream, at } of [
  { listen: undefined, upstream: { url: 'http://127.0.0.1:8080' }, at: ['upstream.url'] },
  { listen: '[::]:8080', upstream: { url: 'http://localhost:8080' }, at: ['upstream.url'] },
  { listen: '[0:0:0:0:0:0:0:1]:8080', upstream: { url: 'http://[::1]:8080' }, at: ['upstream.url'] },
  { listen: '127.0.0.1:80', upstream: { urls: ['http://b.test', 'http://localhost'] }, at: ['upstream.urls.1'] },
  { listen: 'unix:/run/a.sock', upstream: { url: 'unix:/run/a.sock' }, at: ['upstream.url'] },
  { listen: undefined, upstream: { url: 'http://127.0.0.1:9464' }, at: ['upstream.url'] },
  { listen: undefined, upstream: { url: 'http://localhost:9465' }, at: ['upstream.url'] },
  { listen: undefined, upstream: { url: 'http://127.0.0.1:3000' }, at: [] },
  { listen: undefined, upstream: { url: 'http://app.test:8080' }, at: [] },
  { listen: '127.0.0.2:8080', upstream: { url: 'http://127.0.0.1:8080' }, at: [] },
  { listen: 'unix:/run/a.sock', upstream: { url: 'http://127.0.0.1:8080' }, at: [] },
]) {
  test(`lintListeners() warns of ${at[0] ?? 'nothing'} for ${JSON.stringify(upstream)} behind ${listen ?? 'the usual listener'}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      listen: listen === undefined ? {} : { proxy: listen },
      upstream,
      rules: [{ match: { path: '/a' } }],
    })

    assert.deepEqual(
      lintListeners(options).map(({ path }) => path.join('.')),
      at,
    )
  })
}

for (const { issuer, rule, at } of [
  { issuer: { issuer: 'https://a.test/.well-known/openid-configuration' }, at: 'issuers.0.issuer' },
  { issuer: { max_token_lifetime: '0s' }, at: 'issuers.0.max_token_lifetime' },
  { rule: { freshness: { max_age: '5s' } }, at: 'rules.0.freshness' },
  { rule: { freshness: 'always' }, at: 'rules.0.freshness' },
  { rule: { freshness: { max_age: '5s' } }, issuer: { introspection, revocation: 'introspect' }, at: undefined },
] as const) {
  test(`lintIssuers() warns of ${at ?? 'nothing more'} for ${JSON.stringify({ ...issuer, ...rule })}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      issuers: [{ issuer: 'https://issuer.test', audience: 'orders-api', ...issuer }],
      rules: [{ match: { path: '/a' }, ...rule }],
    })

    const paths = lintIssuers(options).map(({ path }) => path.join('.'))

    // Said of every issuer that is not asked about its JWTs.
    assert.deepEqual(
      paths.filter((path) => path !== 'issuers.0'),
      at === undefined ? [] : [at],
    )
  })
}

test('lintIssuers() says of each issuer once that freshness does nothing for its JWTs', () => {
  const fresh = { freshness: { max_age: '5s' } }
  const options = gatewayOptions.parse({
    version: 1,
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: [
      { issuer: 'https://a.test', audience: 'api' },
      { issuer: 'https://b.test', audience: 'api' },
      { issuer: 'https://c.test', audience: 'api', introspection, revocation: 'introspect' },
    ],
    rules: [
      { match: { path: '/a' } },
      { match: { path: '/b' }, ...fresh, issuers: ['https://c.test'] },
      { match: { path: '/c' }, ...fresh, issuers: ['https://a.test'] },
      { match: { path: '/d' }, ...fresh },
      { match: { path: '/e' }, freshness: 'always' },
    ],
  })

  const found = lintIssuers(options).filter(({ path }) => path.includes('freshness'))

  assert.deepEqual(
    found.map(({ path, message }) => [
      path.join('.'),
      message.replace(/^this does nothing for JWTs of ([^ ]+): .* introspect/, '$1'),
    ]),
    [
      ['rules.2.freshness', 'https://a.test; so it is with 2 more of the rules'],
      ['rules.3.freshness', 'https://b.test; so it is with 1 more of the rules'],
    ],
  )
})

test('lintIssuers() says nothing of freshness and of revoked JWTs where every JWT is introspected, as with wrapped ones', () => {
  const options = gatewayOptions.parse({
    version: 1,
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: [{ issuer: 'https://a.test', audience: 'api', introspection, access_token_form: 'wrapped' }],
    rules: [{ match: { path: '/a' }, scopes: ['read'], freshness: 'always' }],
  })

  assert.deepEqual(lintIssuers(options), [])
})
