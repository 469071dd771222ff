// The table of key-set failures: each row is a behaviour over time, so each has a test named by its row.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { until } from '../support/until.ts'
import { jwkOf, keys } from './forge.ts'
import type { Setup, World } from './harness.ts'
import { allowed, checkChallenge, denied, openWorld } from './harness.ts'
import type { Reply } from './stub-issuer.ts'
import { openStubIssuer } from './stub-issuer.ts'
import { testVectors } from './vectors.ts'

/** A gateway whose cool-down is over at once: every unknown key is a fetch. */
const eager: Setup = { a: { jwks: { cool_down: '0ms' } } }

function script(world: World, reply: Reply | undefined): void {
  world.a.answer = ({ path }) => (path === '/jwks' ? reply : undefined)
}

/** Has the gateway look at the set anew: a token of an unknown key makes it. */
async function lookAgain(world: World): Promise<void> {
  const before = world.a.count('/jwks')
  const got = await world.ask({ token: world.mint({ kid: 'nobody', key: keys.attacker }) })
  assert.ok(got.status === 401 || got.status === 503)
  assert.ok(world.a.count('/jwks') > before, 'the set was fetched')
}

function lastSuccess(world: World): number {
  return world.count(`postern_jwks_last_success_timestamp_seconds{issuer="${world.a.url}"}`)
}

const rows = ['K002', 'K005', 'K008', 'K011', 'K014', 'K017', 'K020', 'K023', 'K026', 'K029', 'K032']

testVectors<{ cases: readonly { id: string }[] }>(
  'each row of the table of key sets has its test',
  'examples/jwks_cases.json',
  ({ cases }) => {
    assert.deepEqual(
      cases.map(({ id }) => id),
      rows,
    )
  },
)

const outages: readonly (readonly [string, Reply])[] = [
  ['K002 down', { raw: '' }],
  ['K002 500', { status: 500, json: {} }],
  ['K002 404', { status: 404, json: {} }],
  ['K002 204', { raw: 'HTTP/1.1 204 No Content\r\n\r\n' }],
  ['K011 truncated JSON', { body: '{"keys":[{"kty":"EC",' }],
  ['K011 truncated body', { raw: 'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"keys":[' }],
  ['an empty set', { json: { keys: [] } }],
  ['no keys', { json: {} }],
  ['keys of another type', { json: { keys: {} } }],
  ['an array', { json: [] }],
  ['HTML', { body: '<html>', headers: { 'Content-Type': 'text/html' } }],
  ['only unusable keys', { json: { keys: [{ kty: 'oct', k: 'AAAA', kid: 'k1' }, { kty: 'RSA' }, 1, null] } }],
  [
    'more than 100 keys',
    { json: { keys: Array.from({ length: 101 }, (_, at) => jwkOf(keys.good, { kid: `k${at}` })) } },
  ],
  ['a set over 256 KiB', { json: { keys: [jwkOf(keys.good, { kid: 'k1', x5c: ['A'.repeat(262_144)] })] } }],
  ['an encoded set', { body: 'x', headers: { 'Content-Encoding': 'gzip' } }],
  ['a repeated member', { body: '{"keys":[],"keys":[]}' }],
]

test('a set that cannot be had or used never replaces the good one (K002, K011)', async (t) => {
  await using world = await openWorld(eager)
  for (const [what, reply] of outages)
    await t.test(what, async () => {
      const since = lastSuccess(world)
      script(world, reply)
      await lookAgain(world)

      await allowed(world, { token: world.mint() })
      assert.equal(lastSuccess(world), since, 'the time of the last success stands still')
    })
})

test('keys work until stale_max after the last good fetch, then 503; and heal alone (K002)', async () => {
  await using world = await openWorld({ a: { jwks: { refresh: '200ms' } } })
  const token = world.mint({ claims: { exp: world.nowS() + 7200 } })
  await allowed(world, { token })
  script(world, { status: 500, json: {} })

  world.pass(3_590_000)
  await allowed(world, { token })
  await allowed(world, { token: world.mint() })
  world.pass(20_000)
  const cached = await denied(world, { token }, 503, 'keys_unavailable')
  assert.ok(Number(cached.retryAfter) >= 1)
  await denied(world, { token: world.mint() }, 503, 'keys_unavailable')

  const since = lastSuccess(world)
  script(world, undefined)
  await until(() => lastSuccess(world) > since, 'the next fetch of the schedule')
  await allowed(world, { token })
  await allowed(world, { token: world.mint() })
})

test('keys past stale_max are a warning in the log', async () => {
  await using world = await openWorld({ a: { jwks: { refresh: '100ms', stale_max: '100ms' } } })
  script(world, { status: 500, json: {} })
  world.pass(101)

  await until(() => world.logs().includes('jwks_stale'), 'the warning')
  assert.match(world.logs(), /"severity_text":"WARN","event\.name":"jwks_stale"/)
})

test('an endpoint that hangs costs an unknown key 2 s, a known one nothing (K005)', async () => {
  await using world = await openWorld(eager)
  const token = world.mint()
  await allowed(world, { token })
  script(world, { json: { keys: world.a.keys }, hang: 'body' })
  const started = performance.now()

  const unknown = world.ask({ token: world.mint({ kid: 'new', key: keys.second }) })
  await allowed(world, { token })
  await allowed(world, { token: world.mint() })
  assert.ok(performance.now() - started < 1000)
  const got = await unknown

  assert.deepEqual([got.status, got.reason], [503, 'keys_unavailable'])
  checkChallenge(got)
  assert.ok(performance.now() - started < 4500)
})

test('a redirect is not followed, to wherever it points (K008)', async () => {
  await using elsewhere = await openStubIssuer()
  elsewhere.keys = [jwkOf(keys.attacker, { kid: 'evil' })]
  await using world = await openWorld(eager)

  for (const location of [`${elsewhere.origin}/jwks`, 'file:///etc/passwd', '/other', `//127.0.0.1:1/`])
    for (const status of [301, 302, 303, 307, 308]) {
      script(world, { status, json: { keys: elsewhere.keys }, headers: { Location: location } })
      await lookAgain(world)
      const got = await world.ask({ token: world.mint({ kid: 'evil', key: keys.attacker }) })
      assert.deepEqual([got.status, got.reason], [503, 'keys_unavailable'])
    }

  assert.equal(elsewhere.connections(), 0)
  assert.equal(world.a.count('/other'), 0)
})

const smallRsa = generateKeyPairSync('rsa', { modulusLength: 1024 })
const garbage: readonly (readonly [string, unknown])[] = [
  ['null', null],
  ['a number', 1],
  ['a string', 'key'],
  ['an array', []],
  ['an empty object', {}],
  ['an unknown type', { kty: 'X', kid: 'bad' }],
  ['a symmetric key (K017)', { kty: 'oct', k: 'c2VjcmV0', kid: 'bad' }],
  ['a private key (K017)', { ...keys.second.privateKey.export({ format: 'jwk' }), kid: 'bad' }],
  ['a key for encryption', jwkOf(keys.second, { kid: 'bad', use: 'enc' })],
  ['key_ops without verify', jwkOf(keys.second, { kid: 'bad', key_ops: ['sign'] })],
  ['an alg that is none', jwkOf(keys.second, { kid: 'bad', alg: 'HS256' })],
  ['an alg that does not fit', jwkOf(keys.second, { kid: 'bad', alg: 'ES384' })],
  ['a point off its curve', { ...jwkOf(keys.second, { kid: 'bad' }), y: 'A'.repeat(43) }],
  ['a short coordinate', { ...jwkOf(keys.second, { kid: 'bad' }), x: 'AAAA' }],
  ['RSA of 1024 bits', { ...smallRsa.publicKey.export({ format: 'jwk' }), kid: 'bad' }],
  ['RSA with e = 1', { ...jwkOf(keys.rs, { kid: 'bad' }), e: 'AQ' }],
  ['RSA with e = 3', { ...jwkOf(keys.rs, { kid: 'bad' }), e: 'Aw' }],
  ['a kid that is a number', jwkOf(keys.second, { kid: 1 })],
  ['deep nesting', { kty: 'EC', kid: 'bad', x: [[[[[[[[1]]]]]]]] }],
]

test('one garbage member is dropped, and the rest of the set used (K014, K017)', async (t) => {
  await using world = await openWorld(eager)
  const good = world.a.keys
  for (const [what, member] of garbage)
    await t.test(what, async () => {
      const key = keys.second
      world.a.keys = [member, ...good, jwkOf(key, { kid: `new ${what}` })]
      await lookAgain(world)

      await allowed(world, { token: world.mint() })
      await allowed(world, { token: world.mint({ key, kid: `new ${what}` }) })
      for (const forged of [keys.second, keys.attacker])
        await denied(world, { token: world.mint({ key: forged, kid: 'bad' }) }, 401, 'key_unknown')
      for (const hmac of ['secret', Buffer.from('secret')])
        await denied(world, { token: world.mint({ alg: 'HS256', hmac, kid: 'bad' }) }, 401, 'alg_not_allowed')
    })
  assert.match(world.logs(), /jwks_key_dropped/)
})

test('a kid that occurs twice is dropped, in either order, and the others stay', async () => {
  await using world = await openWorld(eager)
  const twice = [jwkOf(keys.second, { kid: 'twice' }), jwkOf(keys.attacker, { kid: 'twice' })]
  for (const members of [twice, twice.toReversed()]) {
    world.a.keys = [...members, jwkOf(keys.good, { kid: 'k1' })]
    await lookAgain(world)

    for (const key of [keys.second, keys.attacker])
      await denied(world, { token: world.mint({ key, kid: 'twice' }) }, 401, 'key_unknown')
    await allowed(world, { token: world.mint() })
  }
})

test('a rotated key is taken with its first token, and no request of before fails (K020)', async () => {
  await using world = await openWorld()
  const old = world.mint()
  await allowed(world, { token: old })
  world.a.keys = [...world.a.keys, jwkOf(keys.second, { kid: 'k2' })]
  const before = world.a.count('/jwks')

  const gots = await Promise.all([
    ...Array.from({ length: 20 }, () => world.ask({ token: world.mint({ key: keys.second, kid: 'k2' }) })),
    ...Array.from({ length: 20 }, () => world.ask({ token: old })),
  ])

  assert.ok(gots.every(({ status }) => status === 200))
  assert.equal(world.a.count('/jwks') - before, 1)
})

test('the same kid with a new key: facts verified with the old one are not used any more (K023)', async () => {
  await using world = await openWorld(eager)
  const old = world.mint()
  await allowed(world, { token: old })
  world.a.keys = [jwkOf(keys.second, { kid: 'k1' })]
  await lookAgain(world)

  await denied(world, { token: old }, 401, 'signature_invalid')
  await denied(world, { token: world.mint() }, 401, 'signature_invalid')
  await allowed(world, { token: world.mint({ key: keys.second, kid: 'k1' }) })
})

test('a key withdrawn: its cached facts are not used any more, 401 once the set was looked at, 503 before it can be', async () => {
  await using world = await openWorld(eager)
  const token = world.mint()
  await allowed(world, { token })
  world.a.keys = [jwkOf(keys.rs, { kid: 'rs1' })]
  await lookAgain(world)

  await denied(world, { token }, 401, 'key_unknown')
  world.reload((configuration) => {
    const [first] = configuration['issuers'] as { jwks: unknown }[] // the configuration of this test
    if (first !== undefined) first.jwks = { cool_down: '30s' }
  })
  await until(() => world.count(`postern_jwks_keys{issuer="${world.a.url}"}`) === 1, 'the new sources to load')
  await denied(world, { token }, 401, 'key_unknown')
  const got = await world.ask({ token })
  assert.deepEqual([got.status, got.reason], [503, 'keys_unavailable'])
  await allowed(world, { token: world.mint({ key: keys.rs }) })
})

test('a storm of unknown kids causes one fetch per cool-down, and never calls a genuine new key false (K026)', async () => {
  await using world = await openWorld()
  const before = world.a.count('/jwks')
  const storm = async (count: number) => {
    for (let at = 0; at < count; at += 1) {
      const got = await world.ask({ token: world.mint({ kid: `x${at}-${Math.random()}`, key: keys.attacker }) })
      assert.ok(['key_unknown', 'keys_unavailable'].includes(got.reason), got.reason)
    }
  }
  await Promise.all(Array.from({ length: 10 }, () => storm(30)))
  assert.equal(world.a.count('/jwks') - before, 1)

  world.a.keys = [...world.a.keys, jwkOf(keys.second, { kid: 'k2' })]
  const genuine = () => world.ask({ token: world.mint({ key: keys.second, kid: 'k2' }) })
  const within = await genuine()
  assert.deepEqual([within.status, within.reason], [503, 'keys_unavailable'])
  assert.ok(Number(within.retryAfter) >= 1 && Number(within.retryAfter) <= 30)
  world.pass(30_001)
  const [got] = await Promise.all([genuine(), storm(20)])
  assert.equal(got.status, 200)
  assert.equal(world.a.count('/jwks') - before, 2)
})

test('a failing endpoint is asked once per cool-down as well: attempts count, whatever comes back', async () => {
  await using world = await openWorld()
  script(world, { status: 500, json: {} })
  const before = world.a.count('/jwks')

  for (let at = 0; at < 50; at += 1) {
    const token = world.mint({ kid: `x${at}`, key: keys.attacker })
    await denied(world, { token }, 503, 'keys_unavailable')
  }

  assert.equal(world.a.count('/jwks') - before, 1)
})

test('an old token of an unknown kid is key_unknown without a fetch: a newer key did not sign it', async () => {
  await using world = await openWorld()
  const before = world.a.count('/jwks')
  const claims = { iat: world.nowS() - 60, exp: world.nowS() + 60 }

  for (const kid of ['a', 'b', 'c'])
    await denied(world, { token: world.mint({ kid, key: keys.attacker, claims }) }, 401, 'key_unknown')

  assert.equal(world.a.count('/jwks'), before)
})

for (const [what, control] of [
  ['0', 'no-store, max-age=0'],
  ['10 years', 'public, max-age=315360000, immutable'],
] as const)
  test(`a max-age of ${what} moves no fetch: the configured refresh decides (K029)`, async () => {
    const headers = { 'Cache-Control': control, Expires: 'Thu, 01 Jan 1970 00:00:00 GMT', Age: '1' }
    await using world = await openWorld({
      a: { jwks: { refresh: '200ms' } },
      before(a) {
        a.answer = ({ path }) => (path === '/jwks' ? { json: { keys: a.keys }, headers } : undefined)
      },
    })
    const before = world.a.count('/jwks')
    for (let at = 0; at < 20; at += 1) await allowed(world, { token: world.mint() })
    assert.ok(world.a.count('/jwks') - before <= 2, 'not with every request')
    const since = world.a.count('/jwks')

    await until(() => world.a.count('/jwks') >= since + 2, 'two refreshes')
  })

const metadata: readonly (readonly [string, (url: string) => unknown])[] = [
  ['another issuer', (url) => ({ issuer: `${url}/other`, jwks_uri: `${url}/jwks` })],
  ['a trailing slash', (url) => ({ issuer: `${url}/`, jwks_uri: `${url}/jwks` })],
  ['no issuer', (url) => ({ jwks_uri: `${url}/jwks` })],
  ['an array of issuers', (url) => ({ issuer: [url], jwks_uri: `${url}/jwks` })],
  ['a jwks_uri that is none', (url) => ({ issuer: url, jwks_uri: 'file:///etc/passwd' })],
  ['a jwks_uri of plain http elsewhere', (url) => ({ issuer: url, jwks_uri: 'http://192.0.2.1/jwks' })],
  ['no jwks_uri', (url) => ({ issuer: url })],
  ['an array', (url) => [{ issuer: url, jwks_uri: `${url}/jwks` }]],
]

for (const [what, document] of metadata)
  test(`a discovery document with ${what} is refused: no key is had of it, and the pod is not ready (K032)`, async () => {
    await using world = await openWorld({
      ready: false,
      before(a) {
        a.answer = ({ path }) => (path.includes('.well-known') ? { json: document(a.url) } : undefined)
      },
    })
    await until(() => /jwks_failed/.test(world.logs()), 'the first fetch to fail')

    await denied(world, { token: world.mint() }, 503, 'keys_unavailable')
    assert.equal(world.app.isReady(), false)
    assert.equal(world.a.count('/jwks'), 0)
  })

/** Has the issuer publish itself at other places from now on. Where its keys were they stay, as they were. */
function move(world: World): { readonly documents: () => number; readonly moving: () => string } {
  const moved = { issuer: world.a.url, jwks_uri: `${world.a.url}/keys`, introspection_endpoint: `${world.a.url}/ask` }
  const active = { active: true, scope: 'read', sub: 'bob', iss: world.a.url, aud: 'api', client_id: 'c' }
  world.a.answer = ({ path }) => {
    if (path.includes('.well-known')) return { json: moved }
    if (path === '/keys') return { json: { keys: [jwkOf(keys.second, { kid: 'k2' })] } }
    if (path === '/ask') return { json: { ...active, exp: world.nowS() + 300 } }
    return path === '/introspect' ? { status: 404, json: {} } : undefined
  }
  const documents = () => world.a.asked.filter(({ path }) => path.includes('.well-known')).length
  const before = documents()
  return { documents: () => documents() - before, moving: () => world.mint({ key: keys.second, kid: 'k2' }) }
}

test('a jwks_uri that moves while the old one still answers is found by the first token that asks for it, and outside the cool-down', async () => {
  await using world = await openWorld()
  const { documents, moving } = move(world)
  const before = world.a.count('/jwks')

  await denied(world, { token: moving() }, 401, 'key_unknown')
  await until(() => world.a.count('/keys') === 1, 'the keys to be fetched')
  await allowed(world, { token: moving() })
  assert.deepEqual([world.a.count('/jwks') - before, world.a.count('/keys'), documents()], [1, 1, 1])
})

test('an introspection endpoint that moves is found by the first question that is not answered', async () => {
  await using world = await openWorld()
  const { documents } = move(world)

  await denied(world, { token: 'opaque-1' }, 503, 'introspection_invalid')
  await until(() => documents() === 1, 'the metadata to be fetched')
  await allowed(world, { token: 'opaque-1' })
  assert.equal(documents(), 1)
})

test('an endpoint that is configured is doubted by nobody', async () => {
  await using asks = await openWorld({ a: { introspection_endpoint: 'ISS_A/introspect' } })
  const { documents: ofAsks } = move(asks)
  for (const token of ['opaque-1', 'opaque-2']) await denied(asks, { token }, 503, 'introspection_invalid')
  assert.equal(ofAsks(), 0)

  await using looks = await openWorld({ a: { jwks_uri: 'ISS_A/jwks', jwks: { cool_down: '0s' } } })
  await denied(looks, { token: 'opaque-1' }, 401, 'token_inactive')
  const { documents: ofLooks, moving } = move(looks)
  for (let at = 0; at < 2; at += 1) await denied(looks, { token: moving() }, 401, 'key_unknown')
  assert.equal(ofLooks(), 0)
})

test('the gateway starts while its issuer is down, answers 503, and heals alone', async () => {
  await using world = await openWorld({
    ready: false,
    before(a) {
      a.answer = () => ({ status: 503, json: {} })
    },
  })
  await denied(world, { token: world.mint() }, 503, 'keys_unavailable')
  assert.equal(world.app.isReady(), false)

  world.a.answer = () => undefined

  await until(() => world.app.isReady(), 'the issuer to be found')
  await allowed(world, { token: world.mint() })
})
