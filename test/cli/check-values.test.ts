// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the configuration writes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lintValues } from '../../src/cli/check-values.ts'
import { runCommand } from '../../src/cli/program.ts'
import { gatewayOptions } from '../../src/config/schema.ts'
import { directory, fakeShell } from './process.ts'

function warned(rule: object, audience: string | string[] = 'api'): [string, string][] {
  const options = gatewayOptions.parse({
    version: 1,
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: [{ issuer: 'https://issuer.test', audience }],
    rules: [{ match: { path: '/a' }, ...rule }],
  })
  return lintValues(options).map(({ path, message }) => [path.join('.'), message])
}

const odd: [object, string, RegExp][] = [
  [{ claims: { client_id: 4711 } }, 'claims.client_id', /no token has this: client_id is text, so quote it/],
  [{ claims: { sub: ['a', 12345] } }, 'claims.sub.1', /sub is text/],
  [{ claims: { scope: true } }, 'claims.scope', /scope is text/],
  [{ claims: { client_id: 'web, mobile' } }, 'claims.client_id', /this is one value, .* several are written/],
  [{ claims: { roles: ['admin,editor'] } }, 'claims.roles.0', /is one value/],
  [{ claims: { client_id: ['web mobile'] } }, 'claims.client_id.0', /is one value, with a space or comma/],
  [{ claims: { azp: 'web-*' } }, 'claims.azp', /these very characters/],
  [{ audience: 'orders-api, other' }, 'audience', /is one value, with a space or comma/],
  [{ audience: ['orders-api', 'other\u00a0api'] }, 'audience.1', /is one value, with a space or comma/],
  [{ audience: '*' }, 'audience', /this matches only these very characters/],
  [{ audience: '\u201corders\u201d' }, 'audience', /typographic quotes/],
  [{ scopes: ['a,b'] }, 'scopes.0', /is one value/],
  [{ scopes: { all: ['a'], any: ['b', 'orders:*'] } }, 'scopes.any.1', /these very characters/],
  [{ scopes: { any: [] }, claims: { tenant: 7 } }, 'scopes', /no scope is asked for/],
  [{ claims: { 'realm_access.roles': 'admin' } }, 'claims.realm_access.roles', /this is one name/],
  [
    { claims: { 'resource_access.orders-api.roles': 'admin' } },
    'claims.resource_access.orders-api.roles',
    /is one name: no claim within another/,
  ],
  [{ audience: '$AUDIENCE' }, 'audience', /this is taken as it stands; an environment variable is written \$\{NAME\}/],
  [{ claims: { tenant: 'a-$(TENANT)' } }, 'claims.tenant', /this is taken as it stands/],
  [{ audience: ['%AUDIENCE%'] }, 'audience.0', /this is taken as it stands/],
  [{ claims: { scope: ['orders:read'] } }, 'claims.scope.0', /only where they have no other; list it in scopes/],
  [{ claims: { scp: 'orders:read' } }, 'claims.scp', /list it in scopes/],
  [{ claims: { exp: [1] } }, 'claims.exp', /each token has a time of its own in exp/],
  [{ claims: { auth_time: 1 } }, 'claims.auth_time', /each token has a time of its own/],
  [{ claims: { role: '*' } }, 'claims.role', /^\* means nothing here: a claim is compared as it stands/],
  [{ claims: { email: ['a@b.test', '*@example.test'] } }, 'claims.email.1', /^\* means nothing here/],
  [{ claims: { level: '>=3' } }, 'claims.level', /^>= means nothing here/],
  [{ claims: { level: ['< 3'] } }, 'claims.level.0', /^< means/],
  [{ claims: { role: '!=guest' } }, 'claims.role', /^!= means/],
  [{ claims: { role: '!guest' } }, 'claims.role', /^! means/],
  [{ claims: { sub: '^admin' } }, 'claims.sub', /^\^ means/],
]
for (const [rule, at, says] of odd) {
  test(`lintValues() warns of ${JSON.stringify(rule)}`, () => {
    const [[path, message] = ['', ''], ...more] = warned(rule)

    assert.equal(path, `rules.0.${at}`)
    assert.match(message, says)
    assert.deepEqual(more, [])
  })
}

test("lintValues() warns of an issuer's audience as of a rule's", () => {
  assert.equal(warned({}, ['a', 'b c'])[0]?.[0], 'issuers.0.audience.1')
})

const usual = [
  { claims: { client_id: ['web', 'mobile'], tenant: 7, email_verified: true, level: [1, 2] } },
  { claims: { department: 'Human Resources', org: 'ACME, Inc.', name: 'Smith, John' } },
  { claims: { groups: ['CN=admins,OU=groups,DC=corp', '/staff/*'], scope: 'openid profile', place: '48.1,11.5' } },
  { claims: { sub: '4711' }, audience: ['https://api.test/v1', 'urn:orders', 'api://0-0'] },
  {
    match: { path: '/$metadata/$BATCH/%C3%A4%C3%9F/{id}' },
    scopes: { any: ['a'] },
    claims: { cost: '$5', of: '100%' },
  },
  { claims: { 'https://api.test/roles': 'admin', 'urn:zitadel:iam': 'a' }, audience: 'US$' },
  { claims: { groups: ['a>b'], sub: 'auth0|5f' } },
  { claims: { scope_of: 'a', key: 'AA==', iss: 'https://issuer.test' } },
  { claims: { 'com.example.role': 'admin', 'custom.tenant': 'a', address: 'a' } },
  { scopes: ['https://www.test/auth/orders.read', 'orders:read', 'user_impersonation', '.default'] },
]
for (const rule of usual) {
  test(`lintValues() says nothing of ${JSON.stringify(rule)}`, () => assert.deepEqual(warned(rule), []))
}

for (const [headers, at] of [
  [{ sub: 'x-auth-subject' }, 'identity_headers.sub'],
  [{ 'x-auth-subject': 'sub', scope: 'X-Scope' }, 'identity_headers.scope'],
  [{ 'x-hasura-role': 'x-hasura-role', 'remote-user': 'sub', tenant: 'tenant' }, undefined],
] as const) {
  test(`lintValues() ${at === undefined ? 'says nothing' : 'warns'} of ${JSON.stringify(headers)}`, () => {
    const options = gatewayOptions.parse({
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      identity_headers: headers,
      rules: [{ match: { path: '/a' } }],
    })

    const found = lintValues(options)

    assert.deepEqual(
      found.map(({ path }) => path.join('.')),
      at === undefined ? [] : [at],
    )
  })
}

const hidden = [
  'audience: orders-api, client_secret=hunter2',
  'audience: orders-api client_secret hunter2',
  'audience: Bearer hunter2',
  'audience: "https://u:hunter2@h, b"',
  'claims: { client_id: "web client_secret=hunter2" }',
  'claims: { api_key: "abc, xhunter2" }',
  'audience: "${REF}"',
  "audience: '\u201c${SEC}\u201d'",
  'claims: { sub: ${NUMBER} }',
  'identity_headers: { sub: "${SEC}" }',
]
for (const written of hidden) {
  test(`check() warns of ${written}, and tells no value of it`, async () => {
    using files = directory()
    const [members, top] = written.startsWith('identity') ? ['scopes: [a]', written] : [written, '']
    const env = { SEC: 'X-Hunter2', REF: 'a$(HUNTER2)', NUMBER: '84712093' }
    const file = files.write(
      'gateway.yaml',
      `version: 1\nupstream: { url: http://127.0.0.1:9 }\nissuers: [{ issuer: https://a.test, audience: a }]\n${top}
rules:\n  - match: { path: /a }\n    ${members}\n`,
    )
    const said = { plain: fakeShell(env), json: fakeShell(env) }

    await runCommand(['check', file], said.plain)
    await runCommand(['check', '--json', file], said.json)

    assert.match(said.plain.told.out, /: warning: (?:this|the claim|no token) /)
    assert.doesNotMatch(said.plain.told.out + said.json.told.out, /hunter2|84712093/i)
  })
}

test('check() tells 200 warnings, and last that there are more', async () => {
  using files = directory()
  const told = [199, 200].map(async (count) => {
    const shell = fakeShell()
    const audience = Array.from({ length: count }, (_, at) => `"a ${at}"`)
    const issuer = `{ issuer: https://a.test, audience: [${audience.join()}] }`
    const rules = 'rules: [{ match: { path: /a }, scopes: [a] }]'
    const text = `version: 1\nupstream: { url: http://127.0.0.1:9 }\nissuers: [${issuer}]\n${rules}\n`

    await runCommand(['check', files.write(`${count}.yaml`, text)], shell)

    return [...shell.told.out.matchAll(/: warning: (.*)/g)].map(([, message]) => message)
  })
  const [within = [], over = []] = await Promise.all(told)

  assert.deepEqual([within.length, over.length], [200, 201])
  assert.match(within.at(-1) ?? '', /^a revoked JWT/)
  assert.equal(over.at(-1), 'there is more to warn of than is told here')
})

test('check() tells how rules and issuers are opened, however many braces want quotes', async () => {
  using files = directory()
  const shell = fakeShell()
  const many = Array.from({ length: 300 }, (_, at) => `  - { match: { path: /a${at}/{id} }, scopes: [a] }`).join('\n')
  const open = `  - { match: { path: "/b/{id}" }, public: true }\n  - { match: { path: /b/** }, scopes: [a] }`
  const issuers = 'issuers: [{ issuer: https://a.test, audience: api }]'
  const text = `version: 1\nupstream: { url: http://127.0.0.1:9 }\n${issuers}\nrules:\n${many}\n${open}\n`

  await runCommand(['check', files.write('gateway.yaml', text)], shell)

  const told = [...shell.told.out.matchAll(/: warning: (.*)/g)].map(([, message]) => message ?? '')
  assert.equal(told.length, 201)
  assert.match(told[0] ?? '', /^quote it: /)
  assert.match(told.at(-3) ?? '', /needs no token/)
  assert.match(told.at(-2) ?? '', /^a revoked JWT/)
  assert.equal(told.at(-1), 'there is more to warn of than is told here')
})
