// Wrapped opaque tokens: a signed shell that says whom to ask, and nothing else.
import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { test } from 'node:test'
import type { Members, Recipe } from './forge.ts'
import { encode, keys, malleate } from './forge.ts'
import type { World } from './harness.ts'
import { allowed, denied, openWorld } from './harness.ts'

const typ = 'wo+jwt'

/** A wrapper of issuer A, and what A says of it. */
function wrap(world: World, recipe: Recipe = {}, answer: Members = {}): string {
  const claims = { sub: undefined, scope: undefined, client_id: undefined, aud: undefined, ...recipe.claims }
  const token = world.mint({ typ, ...recipe, claims })
  const exp = world.nowS() + 300
  world.a.tokens.set(token, {
    active: true,
    iss: world.a.url,
    aud: 'api',
    sub: 'alice',
    scope: 'read',
    client_id: 'web',
    exp,
    ...answer,
  })
  return token
}

test("a wrapper is verified, then asked about at the issuer it names, with that issuer's credentials", async () => {
  await using world = await openWorld()
  const claims = { sub: undefined, scope: undefined, client_id: undefined }
  const ofB = world.mintB({ typ, claims })
  world.b.tokens.set(ofB, { active: true, aud: 'api', sub: 'bob', scope: 'read' })

  const seen = await allowed(world, { token: wrap(world) })
  assert.deepEqual(seen.all('x-auth-subject'), ['alice'])
  const fromB = await allowed(world, { token: ofB })
  assert.deepEqual(fromB.all('x-auth-subject'), ['bob'])

  assert.deepEqual([world.a.count('/introspect'), world.b.count('/introspect')], [1, 1])
  assert.match(
    world.b.asked.at(-1)?.authorization ?? '',
    new RegExp(Buffer.from('gateway-B:').toString('base64').slice(0, 10)),
  )
})

const broken: readonly (readonly [string, Recipe, string])[] = [
  ['expired', { claims: { exp: 1000, iat: 900 } }, 'token_expired'],
  ['of tomorrow', { claims: { iat: 32_503_680_000, exp: 32_503_680_100 } }, 'token_not_yet_valid'],
  ['without exp', { claims: { exp: undefined } }, 'wrapper_invalid'],
  ['too long', { claims: { exp: 32_503_680_000 } }, 'token_lifetime'],
  ['signed by another', { key: keys.attacker }, 'signature_invalid'],
  ['with a broken signature', { signature: () => Buffer.alloc(64) }, 'signature_invalid'],
  ['without a signature', { alg: 'none', signature: () => Buffer.alloc(0) }, 'alg_not_allowed'],
  ['by HMAC', { alg: 'HS256', hmac: 'x' }, 'alg_not_allowed'],
  ['with a key in it', { header: { jwk: {} } }, 'jwt_malformed'],
  ['with claims of wrong types', { claims: { exp: 'x' } }, 'jwt_malformed'],
]

for (const [what, recipe, reason] of broken)
  test(`a wrapper ${what} is ${reason}, and nobody is asked about it`, async () => {
    await using world = await openWorld()

    await denied(world, { token: wrap(world, recipe) }, 401, reason)

    assert.equal(world.a.count('/introspect'), 0)
  })

const contradictions: readonly (readonly [Members, Members])[] = [
  [{ sub: 'alice' }, { sub: 'mallory' }],
  [{ client_id: 'web' }, { client_id: 'other' }],
  [{ azp: 'web' }, { client_id: 'other' }],
  [{ jti: 'one' }, { jti: 'two' }],
  [{ sid: 'one' }, { sid: 'two' }],
  [{}, { iss: 'https://other.example' }],
  [{ aud: 'api' }, { aud: 'other' }],
  [{ aud: ['api', 'x'] }, { aud: ['y'] }],
]

for (const [claims, answer] of contradictions)
  test(`an answer ${JSON.stringify(answer)} to a wrapper ${JSON.stringify(claims)} is wrapper_invalid`, async () => {
    await using world = await openWorld()
    const token = wrap(world, { claims }, answer)

    await denied(world, { token }, 401, 'wrapper_invalid')
    await allowed(world, { token: wrap(world, { claims: { sub: 'alice', aud: ['api'], client_id: 'web' } }) })
  })

test('what a wrapper claims itself never widens access', async () => {
  await using world = await openWorld()

  await denied(
    world,
    { path: '/write/1', token: wrap(world, { claims: { scope: 'read write' } }) },
    403,
    'scope_missing',
  )
  await denied(world, { token: wrap(world, { claims: { scope: 'read' } }, { scope: '' }) }, 403, 'scope_missing')
  await denied(world, { token: wrap(world, { claims: { aud: 'api' } }, { aud: undefined }) }, 401, 'audience_mismatch')
  await denied(world, { token: wrap(world, {}, { active: false }) }, 401, 'token_inactive')
  await denied(world, { token: wrap(world, { claims: { cnf: { jkt: 'x' } } }) }, 401, 'proof_missing')
  await denied(world, { token: wrap(world, {}, { exp: 1000 }) }, 401, 'token_expired')
  const seen = await allowed(world, { token: wrap(world, { claims: { scope: 'admin', client_id: 'web' } }) })
  assert.deepEqual(seen.all('x-auth-scope'), ['read'])
})

const issued: readonly (readonly [string, number, number | undefined, string])[] = [
  ['issued since, of which the answer does not say when', 0, undefined, 'ok'],
  ['issued since', 0, 0, 'ok'],
  ['issued before, of which the answer does not say when', -200, undefined, 'token_revoked'],
  ['issued before, of which the answer says since', -200, 0, 'token_revoked'],
]
for (const [what, signedS, saidS, reason] of issued)
  test(`where all tokens of a user until a time are revoked, a wrapped one ${what}, is ${reason}`, async () => {
    await using world = await openWorld({
      a: { blacklist: { url: 'ISS_A/blacklist' } },
      more: { blacklist: { poll_interval: '1h', max_staleness: '2h' } },
      before: (a) => void a.revoked.push({ kind: 'sub', value: 'alice', issued_before: a.nowS() - 100 }),
    })
    const iat = world.nowS() + signedS
    const answered = saidS === undefined ? {} : { iat: world.nowS() + saidS }
    const token = wrap(world, { claims: { iat, exp: iat + 600 } }, answered)

    if (reason === 'ok') await allowed(world, { token })
    else await denied(world, { token }, 401, reason)
  })

test('a time that only the answer knows ages the names that only the wrapper has', async () => {
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { poll_interval: '1h', max_staleness: '2h' } },
    before: (a) => void a.revoked.push({ kind: 'sid', value: 's1', issued_before: a.nowS() - 100 }),
  })
  const token = (iat: number) => wrap(world, { claims: { iat: undefined, sid: 's1' } }, { sid: undefined, iat })

  await allowed(world, { token: token(world.nowS()) })
  await denied(world, { token: token(world.nowS() - 200) }, 401, 'token_revoked')
})

test('a wrapper for another audience is refused, also where its issuer names none', async () => {
  await using world = await openWorld({ a: { require_aud: false, audience: ['api', 'second'] } })

  await denied(
    world,
    { token: wrap(world, { claims: { aud: 'other' } }, { aud: undefined }) },
    401,
    'audience_mismatch',
  )
  for (const aud of [undefined, 'api', 'second', ['other', 'second']])
    await allowed(world, { token: wrap(world, { claims: { aud } }, { aud: undefined }) })
  await allowed(world, { token: wrap(world, {}, { aud: 'second' }) })
})

test('a wrapper that names an unknown issuer causes no connection at all', async () => {
  await using world = await openWorld()
  let connections = 0
  const elsewhere = createServer((socket) => {
    connections += 1
    socket.destroy()
  })
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve))
  const { port } = elsewhere.address() as AddressInfo // it listens on a port
  const before = [world.a.connections(), world.b.connections()]

  for (const iss of [
    `http://127.0.0.1:${port}`,
    `http://127.0.0.1:${port}/`,
    'http://169.254.169.254/',
    `${world.a.url}@127.0.0.1:${port}`,
    `${world.a.url}/../`,
    'file:///etc/passwd',
    '//evil',
    '',
  ])
    await denied(world, { token: world.mint({ typ, claims: { iss } }) }, 401, 'issuer_unknown', iss)

  assert.equal(connections, 0)
  assert.deepEqual([world.a.connections(), world.b.connections()], before)
  elsewhere.close()
})

test('a wrapper is kept for at most half of its life', async () => {
  await using world = await openWorld()
  const token = wrap(world, { claims: { iat: world.nowS(), exp: world.nowS() + 20 } })
  await allowed(world, { token })
  world.pass(9000)
  await allowed(world, { token })
  assert.equal(world.a.count('/introspect'), 1)
  world.pass(1500)
  await allowed(world, { token })
  assert.equal(world.a.count('/introspect'), 2)
  world.pass(45_000)
  await denied(world, { token }, 401, 'token_expired')
})

test("a malleated wrapper is another string for the same token: the list refuses both by the inner jti or the wrapper's", async () => {
  for (const listed of ['inner', 'outer']) {
    await using world = await openWorld({
      a: { blacklist: { url: 'ISS_A/blacklist' } },
      more: { blacklist: { poll_interval: '100ms' } },
      before: (a) => void a.revoked.push({ kind: 'jti', value: listed }),
    })
    const inner = listed === 'inner' ? 'inner' : undefined
    const token = wrap(world, { claims: { jti: inner ?? 'outer' } }, { jti: inner })
    const [header = '', payload = '', signature = ''] = token.split('.')
    const second = [header, payload, encode(malleate(Buffer.from(signature, 'base64url')))].join('.')
    world.a.tokens.set(second, world.a.tokens.get(token) ?? {})

    await denied(world, { token }, 401, 'token_revoked')
    await denied(world, { token: second }, 401, 'token_revoked')
  }
})

test('the marks of an issuer tell wrappers from JWTs, and both mistakes are safe', async () => {
  await using world = await openWorld({
    a: { wrapped: { claim_absent: 'scope', kid: ['k1'] }, token_profile: 'lenient' },
  })
  const wrapper = world.mint({ claims: { scope: undefined } })
  world.a.tokens.set(wrapper, { active: true, aud: 'api', scope: 'read' })

  await allowed(world, { token: world.mint() })
  assert.equal(world.a.count('/introspect'), 0)
  await allowed(world, { token: wrapper })
  assert.equal(world.a.count('/introspect'), 1)
  // By rs1 it is no wrapper: a JWT without scopes.
  await denied(world, { token: world.mint({ key: keys.rs, claims: { scope: undefined } }) }, 403, 'scope_missing')
  assert.equal(world.a.count('/introspect'), 1)
})

test('access_token_form: wrapped has every signed token asked about', async () => {
  await using world = await openWorld({ a: { access_token_form: 'wrapped' } })

  await denied(world, { token: world.mint() }, 401, 'token_inactive')
  await allowed(world, { token: wrap(world, { typ: 'JWT' }) })
})
