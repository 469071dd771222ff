// What an issuer's section says of its tokens: profile, kid, demonstration keys, identifier.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Members } from './forge.ts'
import { jwkOf, keys } from './forge.ts'
import { allowed, denied, openWorld } from './harness.ts'

const path = '/any/x'

for (const name of ['exp', 'sub', 'client_id', 'iat', 'jti', 'aud'])
  test(`rfc9068: a token without ${name} is claim_missing`, async () => {
    await using world = await openWorld()

    await denied(world, { path, token: world.mint({ claims: { [name]: undefined } }) }, 401, 'claim_missing')
    await allowed(world, { path, token: world.mint() })
  })

test('rfc9068: azp stands for client_id, and client_id goes before it', async () => {
  await using world = await openWorld()

  const alone = await allowed(world, { path, token: world.mint({ claims: { client_id: undefined, azp: 'app' } }) })
  const both = await allowed(world, { path, token: world.mint({ claims: { client_id: 'web', azp: 'app' } }) })

  assert.deepEqual([alone.all('x-auth-client'), both.all('x-auth-client')], [['app'], ['web']])
})

const lenient: readonly (readonly [string, string | null, Members, string])[] = [
  ['typ JWT', 'JWT', {}, 'ok'],
  ['no typ', null, {}, 'ok'],
  ['typ at+jwt', 'at+jwt', {}, 'ok'],
  ['only azp to mark it', 'JWT', { scope: undefined, client_id: undefined, azp: 'app' }, 'ok'],
  ['only scp to mark it', 'JWT', { scope: undefined, client_id: undefined, scp: ['read'] }, 'ok'],
  ['neither sub, iat nor jti', 'JWT', { sub: undefined, iat: undefined, jti: undefined }, 'ok'],
  ['typ Bearer among its claims', 'JWT', { typ: 'Bearer' }, 'ok'],
  ['token_use access', 'JWT', { token_use: 'access' }, 'ok'],
  ['token_type access', 'JWT', { token_type: 'access' }, 'ok'],
  ['typ id+jwt', 'id+jwt', {}, 'type_mismatch'],
  ['typ logout+jwt', 'logout+jwt', {}, 'type_mismatch'],
  ['a nonce', 'JWT', { nonce: 'n' }, 'type_mismatch'],
  ['at_hash', 'JWT', { at_hash: 'x' }, 'type_mismatch'],
  ['c_hash', 'JWT', { c_hash: 'x' }, 'type_mismatch'],
  ['s_hash', 'JWT', { s_hash: 'x' }, 'type_mismatch'],
  ['typ ID among its claims', 'JWT', { typ: 'ID' }, 'type_mismatch'],
  ['typ Refresh among its claims', 'JWT', { typ: 'Refresh' }, 'type_mismatch'],
  ['typ Offline among its claims', 'JWT', { typ: 'Offline' }, 'type_mismatch'],
  ['typ Nonce among its claims', 'JWT', { typ: 'Nonce' }, 'type_mismatch'],
  ['typ id_token among its claims', 'JWT', { typ: 'id_token' }, 'type_mismatch'],
  ['typ refresh_token among its claims', 'JWT', { typ: 'refresh_token' }, 'type_mismatch'],
  ['token_type sliding', 'JWT', { token_type: 'sliding' }, 'ok'],
  ['token_type of RFC 8693', 'JWT', { token_type: 'urn:ietf:params:oauth:token-type:access_token' }, 'ok'],
  ['token_use null', 'JWT', { token_use: null }, 'ok'],
  ['type refresh', 'JWT', { type: 'refresh' }, 'type_mismatch'],
  ['tokenName refresh_token', 'JWT', { tokenName: 'refresh_token' }, 'type_mismatch'],
  ['typ Serialized-ID among its claims', 'JWT', { typ: 'Serialized-ID' }, 'type_mismatch'],
  ['typ Logout among its claims', 'JWT', { typ: 'Logout' }, 'type_mismatch'],
  ['token_use id', 'JWT', { token_use: 'id' }, 'type_mismatch'],
  ['token_use refresh', 'JWT', { token_use: 'refresh' }, 'type_mismatch'],
  ['token_type refresh', 'JWT', { token_type: 'refresh' }, 'type_mismatch'],
  ['nothing that marks an access token', 'JWT', { scope: undefined, client_id: undefined }, 'type_mismatch'],
  ['no exp', 'JWT', { exp: undefined }, 'claim_missing'],
  ['no aud', 'JWT', { aud: undefined }, 'audience_mismatch'],
  ['cnf', 'JWT', { cnf: { jkt: 'x' } }, 'proof_missing'],
  ['token_type DPoP and no cnf', 'JWT', { token_type: 'DPoP' }, 'proof_missing'],
  ['tokenName id_token and scopes', 'JWT', { tokenName: 'id_token' }, 'type_mismatch'],
  // Curity's.
  ['purpose access_token', 'JWT', { purpose: 'access_token' }, 'ok'],
  ['purpose id', 'JWT', { purpose: 'id' }, 'type_mismatch'],
  ['purpose userinfo', 'JWT', { purpose: 'userinfo' }, 'type_mismatch'],
  ['purpose nonce', 'JWT', { purpose: 'nonce' }, 'type_mismatch'],
  ['purpose refresh_token', 'JWT', { purpose: 'refresh_token' }, 'type_mismatch'],
  ['a purpose that is no kind', 'JWT', { purpose: 'billing' }, 'ok'],
  // Keycloak's, where its mapper copies the nonce.
  ['typ Bearer and a nonce', 'JWT', { typ: 'Bearer', nonce: 'n' }, 'ok'],
  ['typ Bearer and at_hash', 'JWT', { typ: 'Bearer', at_hash: 'x' }, 'type_mismatch'],
  ['token_use access and typ ID', 'JWT', { token_use: 'access', typ: 'ID' }, 'type_mismatch'],
  ['typ DPoP among its claims and no cnf', 'JWT', { typ: 'DPoP' }, 'proof_missing'],
  // Entra's, of an application for itself.
  [
    'azp for its audience, and azpacr',
    'JWT',
    { scope: undefined, client_id: undefined, azp: 'api', aud: 'api', azpacr: '1' },
    'ok',
  ],
  // The form of an ID token: for the client it was made for (OpenID Connect Core §2).
  [
    'only azp to mark it, which is its audience',
    'JWT',
    { scope: undefined, client_id: undefined, azp: 'api', aud: ['api'] },
    'type_mismatch',
  ],
  [
    'only azp to mark it, which is one of its audiences',
    'JWT',
    { scope: undefined, client_id: undefined, azp: 'app', aud: ['app', 'api'] },
    'type_mismatch',
  ],
  [
    'azp for its audience, and typ Bearer',
    'JWT',
    { scope: undefined, client_id: undefined, azp: 'api', aud: ['api'], typ: 'Bearer' },
    'ok',
  ],
]

test('lenient: an access token needs a mark of one, and must have none of an ID or refresh token', async (t) => {
  await using world = await openWorld({ a: { token_profile: 'lenient' } })
  for (const [what, typ, claims, reason] of lenient)
    await t.test(`a token with ${what} is ${reason}`, async () => {
      const token = world.mint({ typ, claims })
      if (reason === 'ok') await allowed(world, { path, token })
      else await denied(world, { path, token }, 401, reason)
    })
})

test('lenient: a token without iat is measured from now on: no life beyond the cap', async () => {
  await using world = await openWorld({ a: { token_profile: 'lenient', max_token_lifetime: '10m' } })
  const now = world.nowS()

  await allowed(world, { path, token: world.mint({ claims: { iat: undefined, exp: now + 500 } }) })
  await denied(
    world,
    { path, token: world.mint({ claims: { iat: undefined, exp: now + 700 } }) },
    401,
    'token_lifetime',
  )
})

test('require_kid false: a token without kid is verified with any fitting key of the set, and by no other', async () => {
  await using world = await openWorld({
    a: { require_kid: false, jwks: { cool_down: '0ms' } },
    before(a) {
      a.keys = [...a.keys, jwkOf(keys.second)]
    },
  })

  for (const key of [keys.good, keys.rs, keys.ed, keys.second])
    await allowed(world, { path, token: world.mint({ key, kid: null }) })
  for (const key of [keys.attacker, keys.b, keys.p384]) {
    const got = await world.ask({ path, token: world.mint({ key, kid: null }) })
    assert.ok(['key_unknown', 'alg_not_allowed'].includes(got.reason), got.reason)
  }
  await denied(world, { path, token: world.mint({ kid: '' }) }, 401, 'key_unknown')
  await denied(world, { path, token: world.mint({ key: keys.rs, kid: 'k1' }) }, 401, 'alg_not_allowed')
})

test('every algorithm that is configured verifies with its own key', async () => {
  const rsa = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
  await using world = await openWorld({
    a: { algorithms: [...rsa, 'ES256', 'ES384', 'ES512', 'Ed25519'] },
    before(a) {
      a.keys = [...a.keys, jwkOf(keys.p384, { kid: 'p384' }), jwkOf(keys.p521, { kid: 'p521' })]
    },
  })

  for (const alg of rsa) await allowed(world, { path, token: world.mint({ key: keys.rs, alg }) }, alg)
  await allowed(world, { path, token: world.mint({ key: keys.p384, kid: 'p384' }) })
  await allowed(world, { path, token: world.mint({ key: keys.p521, kid: 'p521' }) })
  await denied(
    world,
    { path, token: world.mint({ key: keys.rs, alg: 'RS256', header: { alg: 'PS256' } }) },
    401,
    'signature_invalid',
  )
})

test('a demonstration key is taken from an issuer on this machine, and from no other', async () => {
  const elsewhere = 'https://login.example.com'
  await using world = await openWorld({
    a: { issuer: elsewhere, jwks_uri: 'ISS_A/jwks', introspection: undefined, opaque: undefined },
    before(a, b) {
      a.keys = [jwkOf(keys.good, { kid: 'demo-1' }), jwkOf(keys.second, { kid: 'k1' })]
      b.keys = [jwkOf(keys.b, { kid: 'demo-1' })]
    },
    rules: [{ match: { path: '/any/**' } }],
  })

  await allowed(world, { path, token: world.mintB({ kid: 'demo-1' }) })
  await allowed(world, { path, token: world.mint({ key: keys.second, claims: { iss: elsewhere } }) })
  for (const kid of ['demo-1', 'demo-', 'demo-other'])
    await denied(world, { path, token: world.mint({ kid, claims: { iss: elsewhere } }) }, 401, 'demo_key')
})

test('a demonstration key is refused also where the token names no kid', async () => {
  const elsewhere = 'https://login.example.com'
  await using world = await openWorld({
    a: { issuer: elsewhere, jwks_uri: 'ISS_A/jwks', introspection: undefined, opaque: undefined, require_kid: false },
    before(a) {
      a.keys = [jwkOf(keys.good, { kid: 'demo-1' }), jwkOf(keys.second, { kid: 'k1' })]
    },
    rules: [{ match: { path: '/any/**' } }],
  })

  await allowed(world, { path, token: world.mint({ key: keys.second, kid: null, claims: { iss: elsewhere } }) })
  await denied(world, { path, token: world.mint({ kid: null, claims: { iss: elsewhere } }) }, 401, 'demo_key')
})

for (const [pathA, wellKnown] of [
  ['/', '/.well-known/openid-configuration'],
  ['/realms/main', '/realms/main/.well-known/openid-configuration'],
  ['/realms/main/', '/realms/main/.well-known/openid-configuration'],
] as const)
  test(`an issuer called ${pathA} is found by discovery, and is the one with exactly these characters`, async () => {
    await using world = await openWorld({ pathA })
    assert.equal(world.a.asked[0]?.path, wellKnown)

    await allowed(world, { path, token: world.mint() })
    const other = pathA.endsWith('/') ? world.a.url.slice(0, -1) : `${world.a.url}/`
    await denied(world, { path, token: world.mint({ claims: { iss: other } }) }, 401, 'issuer_unknown')
  })

test('an issuer with metadata in the RFC 8414 place only is found', async () => {
  await using world = await openWorld({
    pathA: '/tenant',
    before(a) {
      a.answer = (asked) => (asked.path.startsWith('/tenant') ? { status: 404, json: {} } : undefined)
    },
  })

  assert.equal(world.a.count('/.well-known/oauth-authorization-server/tenant'), 1)
  await allowed(world, { path, token: world.mint() })
})

test('lenient: a key or an address in the header is never used, and nobody connects to it', async () => {
  await using world = await openWorld({ a: { token_profile: 'lenient' } })
  const before = world.b.connections()

  for (const header of [
    { jwk: jwkOf(keys.attacker) },
    { jku: `${world.b.origin}/jwks` },
    { x5u: `${world.b.origin}/x` },
    { x5c: ['MIIB'] },
  ]) {
    const got = await denied(
      world,
      { path, token: world.mint({ key: keys.attacker, header }) },
      401,
      'signature_invalid',
    )
    assert.equal(got.status, 401)
  }

  assert.equal(world.b.connections(), before)
})
