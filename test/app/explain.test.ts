import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import type { Explanation } from '../../src/app/explain/explain.ts'
import { keys } from '../acceptance/forge.ts'
import type { World } from '../acceptance/harness.ts'
import { openWorld } from '../acceptance/harness.ts'
import type { Reply, StubIssuer } from '../acceptance/stub-issuer.ts'
import { until } from '../support/until.ts'

/** What failed last, and its stage. */
function failedIn({ steps }: Explanation): { readonly stage: string; readonly is: string } | undefined {
  const found = steps.findLast(({ passed }) => !passed)
  return found && { stage: found.stage, is: found.is }
}

async function explained(world: World, token: string | undefined, url = '/a/1', method = 'GET'): Promise<Explanation> {
  return await world.app.explain({ method, url, token })
}

const requests = [
  { method: 'get', url: '/public', reason: 'request_malformed', stage: 'request.method', is: 'get' },
  { method: 'TRACE', url: '/public', reason: 'request_malformed', stage: 'request.method', is: 'TRACE' },
  { url: 'http://a..b/public', reason: 'request_malformed', stage: 'request.host', is: 'a..b' },
  { url: 'http://evil.test/public', reason: 'request_malformed', stage: 'request.host', is: 'evil.test' },
  { url: '/public/..', reason: 'path_rejected', stage: 'request.path', is: '/public/..' },
  {
    url: `/${'a'.repeat(9000)}`,
    reason: 'too_large',
    stage: 'request.target',
    is: '9001 bytes',
  },
  { url: '/public/%zz', reason: 'path_rejected', stage: 'request.path', is: '/public/%zz' },
] as const
for (const { url, reason, stage, is, ...asked } of requests) {
  const method = 'method' in asked ? asked.method : 'GET'
  test(`explain() says which part of a request is wrong: ${method} ${url.slice(0, 40)}`, async () => {
    await using world = await openWorld({ more: { hosts: ['api.test', 'b.test'] } })

    const explanation = await explained(world, undefined, url, method)

    assert.equal(explanation.reason, reason)
    assert.deepEqual(failedIn(explanation), { stage, is })
    assert.equal(explanation.hint?.includes('api.test, b.test'), is === 'evil.test')
  })
}

test('explain() takes a target as long as the front door does', async () => {
  await using world = await openWorld({ more: { limits: { target: 9000 } } })
  const statusOf = async (url: string) => (await explained(world, undefined, url)).status

  assert.equal(await statusOf(`/public/${'a'.repeat(9000 - 8)}`), null)
  assert.equal(await statusOf(`/public/${'a'.repeat(9000 - 7)}`), 414)
})

test('explain() takes every method that the front door takes, those without a name in Node too', async () => {
  await using world = await openWorld()

  assert.equal((await explained(world, world.mint(), '/any/1', 'BREW')).decision, 'allow')
})

const nearMisses = [
  { method: 'POST', url: '/orders/1', near: 'read-orders has this path, for GET.' },
  { method: 'GET', url: '/orders/1/', near: 'read-orders has /orders/1, another path than this.' },
  { method: 'GET', url: '/reports', near: 'reports has /reports/, another path than this.' },
  { method: 'GET', url: 'http://b.test/hosted', near: 'hosted has this path, for the host *.a.test.' },
  {
    method: 'GET',
    url: '/ORDERS/1',
    near: 'read-orders has /orders/{id}, and an upper-case letter is another than a lower-case one.',
  },
  {
    method: 'GET',
    url: '/caf%C3%A9',
    near: 'cased has /Caf%C3%A9, and an upper-case letter is another than a lower-case one.',
  },
  { method: 'GET', url: '/other', near: undefined },
]
for (const { method, url, near } of nearMisses) {
  test(`explain() says of ${method} ${url}, which no rule matches: ${near ?? 'nothing more'}`, async () => {
    await using world = await openWorld({
      b: null,
      rules: [
        { id: 'read-orders', match: { methods: ['GET'], path: '/orders/{id}' } },
        { id: 'reports', match: { path: '/reports/' } },
        { id: 'hosted', match: { path: '/hosted', host: '*.a.test' } },
        { id: 'cased', match: { path: '/Caf%C3%A9' } },
      ],
    })

    const { reason, hint } = await explained(world, undefined, url, method)

    assert.equal(reason, 'no_rule')
    assert.equal(hint?.split('Near: ')[1], near)
  })
}

test('POST /explain refuses a question with a key it does not know: a token under it would not be read', async () => {
  await using world = await openWorld()
  const question = { method: 'GET', url: '/any/1', Token: world.mint() }
  const url = `http://127.0.0.1:${world.app.ports.admin}/explain`

  const answer = await fetch(url, { method: 'POST', body: JSON.stringify(question) })

  assert.equal(answer.status, 400)
  assert.match(await answer.text(), /a key beside method, url, token and certificate/)
})

const asSent: readonly {
  what: string
  more?: Record<string, unknown>
  url?: string
  sent: string
  stage: string
  is: RegExp
}[] = [
  {
    what: 'a token longer than limits.header',
    more: { limits: { header: 400 } },
    sent: `Bearer ${'a'.repeat(400 - 'authorizationBearer '.length + 1)}`,
    stage: 'request.authorization',
    is: /401 bytes/,
  },
  {
    what: 'one that just fits',
    more: { limits: { header: 400 } },
    sent: `Bearer ${'a.'.repeat((400 - 'authorizationBearer '.length) / 2)}`,
    stage: 'classify',
    is: /./,
  },
  {
    what: 'one longer than any',
    sent: `Bearer ${'a'.repeat(13_000)}`,
    stage: 'request.authorization',
    is: /13020 bytes/,
  },
  {
    what: 'a head longer than limits.header_bytes',
    more: { limits: { header_bytes: 200 } },
    sent: `Bearer ${'a'.repeat(200)}`,
    stage: 'request.headers',
    is: /\d bytes/,
  },
  { what: 'another scheme', sent: 'Basic YTpi', stage: 'extract', is: /missing/ },
  {
    what: 'a path, where nobody comes by https',
    more: { require_https: true },
    sent: 'Bearer a',
    stage: 'transport',
    is: /plain HTTP/,
  },
  { what: 'a query beyond ASCII', url: '/a/1?q=\u00e4', sent: 'Bearer a', stage: 'request.query', is: /beyond ASCII/ },
  { what: 'a fragment', url: '/a/1?q=a#b', sent: 'Bearer a', stage: 'request.query', is: /with a #/ },
  { what: 'a control in the query', url: '/a/1?q=a\x7fb', sent: 'Bearer a', stage: 'request.query', is: /control/ },
  {
    what: 'a path beyond ASCII',
    url: '/a/\u20ac?q=\u00e4',
    sent: 'Bearer a',
    stage: 'request.path',
    is: /^\/a\/\u20ac$/,
  },
]
for (const { what, more = {}, url = '/a/1', sent, stage, is } of asSent) {
  test(`explain() answers as the front door does, and names the part: ${what}`, async () => {
    await using world = await openWorld({ more })

    const got = await world.ask({ path: url, lines: [['Authorization', sent]] })
    const explanation = await explained(world, sent, url)

    assert.deepEqual([explanation.reason, explanation.status], [got.reason, got.status])
    assert.equal(failedIn(explanation)?.stage, stage)
    assert.match(failedIn(explanation)?.is ?? '', is)
  })
}

test('explain() says of a path alone that it is taken for https, where it may be, and refuses what is http', async () => {
  await using world = await openWorld({ more: { require_https: true, trusted_proxies: ['10.0.0.0/8'] } })
  const transport = async (url: string) => {
    const { steps, reason } = await explained(world, undefined, url)
    const step = steps.find(({ stage }) => stage === 'transport')
    return [reason, step?.passed, step?.is]
  }

  assert.deepEqual(await transport('/public/1'), [
    'public',
    true,
    'not said by a path alone, taken for https; by http it is transport_insecure',
  ])
  assert.deepEqual(await transport('https://a.test/public/1'), ['public', true, 'https'])
  assert.deepEqual(await transport('http://a.test/public/1'), ['transport_insecure', false, 'plain HTTP'])
})

test('explain() guesses which issuer was meant by one that is unknown, a closing slash away', async () => {
  await using world = await openWorld({ b: null })

  const near = await explained(world, world.mint({ claims: { iss: `${world.a.url}/` } }))
  const far = await explained(world, world.mint({ claims: { iss: 'https://elsewhere.example' } }))

  assert.equal(near.reason, 'issuer_unknown')
  assert.ok(near.hint?.includes(`wanted one of ${world.a.url}; perhaps ${world.a.url}.`), near.hint ?? '')
  assert.equal(far.hint?.includes('perhaps'), false)
})

const lookalikes = [
  { rule: { claims: { admin: 'true' } }, claims: { admin: true }, said: 'is true; wanted one of "true"' },
  {
    rule: { claims: { client: 'web, mobile' } },
    claims: { client: 'web' },
    said: 'is "web"; wanted one of "web, mobile"',
  },
  { rule: { claims: { level: [3, '4'] } }, claims: { level: 4 }, said: 'is 4; wanted one of 3, "4"' },
  {
    rule: { audience: 'api, other' },
    claims: { aud: ['api', 'other'] },
    said: 'is "api", "other"; wanted one of "api, other"',
  },
  { rule: { audience: 'api' }, claims: { aud: 'none' }, said: 'is "none"; wanted one of "api"' },
]
for (const { rule, claims, said } of lookalikes) {
  test(`explain() tells a value from what looks like it: ${said}`, async () => {
    await using world = await openWorld({ b: null, rules: [{ match: { path: '/a/**' }, ...rule }] })

    const { hint } = await explained(world, world.mint({ claims }))

    assert.ok(hint?.includes(said), hint ?? '')
  })
}

test("explain() says that a JWT's issuer was not asked, so that a logout is not seen; where it was, it says nothing", async () => {
  await using world = await openWorld({ b: { revocation: 'introspect' } })
  const token = world.mintB()
  world.b.tokens.set(token, { active: true })
  const asked = async (token: string) =>
    (await explained(world, token, '/any/1')).steps.filter(({ stage }) => stage === 'introspect').length

  assert.equal(await asked(world.mint()), 1)
  assert.equal(await asked(token), 0)
})

test('explain() says by what, and on whose list, a token is revoked', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-'))
  const file = path.join(folder, 'denied.yaml')
  writeFileSync(file, JSON.stringify({ version: 1, entries: [{ kind: 'sub', value: 'mallory' }] }))
  try {
    await using world = await openWorld({
      a: { blacklist: { url: 'ISS_A/blacklist' } },
      more: { blacklist: { local: { file } } },
      before: (a) => a.revoked.push({ kind: 'jti', value: 'one' }),
    })
    const own = await explained(world, world.mint({ claims: { sub: 'mallory' } }))
    const fed = await explained(world, world.mint({ claims: { jti: 'one' } }))

    assert.deepEqual(failedIn(own), { stage: 'revocation', is: "revoked by its sub, on the operator's own list" })
    assert.deepEqual(failedIn(fed), {
      stage: 'revocation',
      is: "revoked by its jti, on the issuer's list (cause owner)",
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

const answers = [
  { what: 'a status', reply: { status: 401, json: {} }, reason: 'introspection_invalid', says: 'status is 401' },
  {
    what: 'HTML',
    reply: { headers: { 'Content-Type': 'text/html' }, body: '<p>' },
    reason: 'introspection_invalid',
    says: 'media type',
  },
  { what: 'a breakdown', reply: { status: 500, json: {} }, reason: 'introspection_unavailable', says: 'status is 500' },
  { what: 'no aud', reply: { json: { active: true } }, reason: 'audience_mismatch', says: '`require_aud: false`' },
  { what: 'inactive', reply: { json: { active: false } }, reason: 'token_inactive', says: 'introspection.client_id' },
] as const
for (const { what, reply, reason, says } of answers) {
  test(`explain() says what an introspection came to that lets nobody in: ${what}`, async () => {
    await using world = await openWorld({ before: (a) => scripted(a, '/introspect', reply) })

    const explanation = await explained(world, 'an-opaque-token')

    assert.equal(explanation.reason, reason)
    assert.ok(explanation.hint?.includes(says), explanation.hint ?? '')
  })
}

test('explain() names the issuers that answer 400 about their own JWTs, for a JWT alone', async () => {
  await using world = await openWorld({
    a: { revocation: 'introspect' },
    before: (a) => scripted(a, '/introspect', { status: 400, json: {} }),
  })
  const hints = [await explained(world, world.mint()), await explained(world, 'an-opaque-token')].map(
    ({ hint }) => hint,
  )

  assert.deepEqual(
    hints.map((hint) => [hint?.includes('status is 400'), hint?.includes('node-oidc-provider')]),
    [
      [true, true],
      [true, false],
    ],
  )
})

test('explain() takes a 400 of the metadata for none about a JWT: giving up revocation would mend no wrong address', async () => {
  await using world = await openWorld({
    a: { revocation: 'introspect', jwks_uri: 'ISS_A/jwks', metadata_url: 'ISS_A/nowhere' },
    before: (a) => scripted(a, '/nowhere', { status: 400, json: {} }),
  })

  const { reason, hint } = await explained(world, world.mint())

  assert.equal(reason, 'introspection_unavailable')
  assert.match(hint ?? '', /Its last failure: Cannot load metadata from \S+: status is 400, wanted 200\./)
  assert.doesNotMatch(hint ?? '', /revocation: blacklist/)
})

test('explain() says of keys whether they are missing, too old, or perhaps older than the one wanted, as readyz does', async () => {
  await using world = await openWorld({ a: { jwks: { cool_down: '1h' } } })
  const other = () => world.mint({ key: keys.attacker, kid: 'other' })
  // The one look that the cool-down allows.
  await explained(world, other())
  const newer = await explained(world, other())
  world.pass(3_600_001)
  const old = await explained(world, world.mint())
  await using never = await openWorld({
    ready: false,
    before: (a) => scripted(a, '/jwks', { status: 502, json: {} }),
  })
  await until(() => never.logs().includes('jwks_failed'), 'the fetch')
  const missing = await explained(never, never.mint())

  for (const { reason } of [newer, old, missing]) assert.equal(reason, 'keys_unavailable')
  assert.match(
    newer.hint ?? '',
    /3 keys; tokens of a key that may be newer get 503 keys_unavailable until jwks\.cool_down is over\./,
  )
  assert.match(
    old.hint ?? '',
    /Keys: too old, last good fetch 20\S+Z \(jwks\.stale_max 1h\): its JWTs get 503 keys_unavailable\./,
  )
  assert.match(
    missing.hint ?? '',
    /Keys: not loaded yet: its JWTs get 503 keys_unavailable; Cannot load keys from http:\S+\/jwks: status is 502, wanted 200/,
  )
})

test('explain() tells a list that is missing from one too old, and from a token that could not be asked for', async () => {
  const feed = { url: 'ISS_A/blacklist' }
  await using never = await openWorld({
    a: { blacklist: feed },
    ready: false,
    before: (a) => scripted(a, '/blacklist', { status: 401, json: {} }),
  })
  await until(() => never.logs().includes('poll_failed'), 'the poll')
  await until(() => never.count(`postern_jwks_keys{issuer="${never.a.url}"}`) > 0, 'the keys')
  await using crowded = await openWorld({
    a: { blacklist: feed },
    more: { blacklist: { cache_size: 1 } },
    before(a) {
      for (const value of ['one', 'two']) a.revoked.push({ kind: 'jti', value })
      scripted(a, '/blacklist/lookup', { status: 500, json: {} })
    },
  })
  const missing = await explained(never, never.mint())
  const unasked = await explained(crowded, crowded.mint())
  crowded.pass(300_001)
  const old = await explained(crowded, crowded.mint())

  for (const { reason } of [missing, unasked, old]) assert.equal(reason, 'blacklist_stale')
  assert.match(
    missing.hint ?? '',
    /Blacklist: not loaded yet: its tokens get 503 blacklist_stale; Cannot read the blacklist at http:\S+\/blacklist: status is 401/,
  )
  assert.match(
    unasked.hint ?? '',
    /1 entries; tokens that it has to be asked about get 503 blacklist_stale; Cannot read the blacklist at http:\S+\/blacklist\/lookup: status is 500/,
  )
  assert.match(
    old.hint ?? '',
    /Blacklist: too old, last good poll 20\S+Z \(5m(?:\ds)? ago, max_staleness 5m\): its tokens get 503 blacklist_stale[.;]/,
  )
})

/** Has an issuer answer one of its paths like this. */
function scripted(issuer: StubIssuer, at: string, reply: Reply): void {
  issuer.answer = ({ path }) => (path === at ? reply : undefined)
}

test('explain() counts nothing of what requests are counted by: nobody sent this one', async () => {
  await using world = await openWorld({ a: { blacklist: { url: 'ISS_A/blacklist' } } })
  world.a.revoked.push({ kind: 'sub', value: 'eve' })
  world.reload((configuration) => {
    configuration['blacklist'] = { poll_interval: '100ms' }
  })
  const question = { method: 'GET', url: '/any/1', token: world.mint({ claims: { sub: 'eve' } }) }
  while ((await world.app.explain(question)).reason !== 'token_revoked')
    await new Promise((resolve) => setTimeout(resolve, 20))

  const counted = [...world.app.counters()].filter(
    ([series, count]) => /hits_total|token_cache_r|decisions/.test(series) && count > 0,
  )

  assert.deepEqual(counted, [])
})
