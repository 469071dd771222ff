import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { metadataUrls, parseMetadata } from '../../src/spec/metadata.ts'
import type { World } from './realms.ts'
import {
  administrator,
  epochStart,
  grant,
  introspect,
  mint,
  object,
  page,
  postJson,
  segment,
  shell,
  startWorld,
  twoRealms,
} from './realms.ts'

type Jwk = Record<string, string>

async function jwks(realm: World['a']): Promise<Jwk[]> {
  return (await object(fetch(`${realm.url}/jwks`)))['keys'] as Jwk[] // what /jwks answers
}

async function rotate(realm: World['a'], query = ''): Promise<{ status: number; body: Record<string, unknown> }> {
  const answer = await fetch(`${realm.url}/admin/keys/rotate${query}`, {
    method: 'POST',
    headers: { authorization: administrator },
  })
  return { status: answer.status, body: await object(answer) }
}

async function listed(realm: World['a']): Promise<{ kid: string; state: string }[]> {
  const answer = await object(fetch(`${realm.url}/admin/keys`, { headers: { authorization: administrator } }))
  return answer['keys'] as { kid: string; state: string }[] // what /admin/keys answers
}

test('discovery: the OpenID Connect and both RFC 8414 forms answer one document, and its issuer is the one asked', async () => {
  await using world = await startWorld()
  for (const { issuer } of [world.a, world.b]) {
    const answers = await Promise.all(metadataUrls(issuer).map((url) => fetch(url)))
    const documents = await Promise.all(answers.map((answer) => object(answer)))

    assert.equal(answers.length, 3)
    for (const [at, document] of documents.entries()) {
      assert.equal(answers[at]?.status, 200)
      assert.match(answers[at]?.headers.get('content-type') ?? '', /^application\/json/)
      assert.deepEqual(document, documents[0])
      assert.deepEqual(parseMetadata(document as never, issuer), {
        jwks_uri: { url: `${issuer}/jwks` },
        introspection_endpoint: { url: `${issuer}/introspect` },
      })
      assert.equal(document['token_endpoint'], `${issuer}/token`)
      assert.equal(document['revocation_endpoint'], `${issuer}/revoke`)
      assert.deepEqual(document['scopes_supported'], ['orders:read', 'orders:write'])
    }
  }
})

test('discovery: an issuer without a path serves the root, and unknown paths are 404', async () => {
  const { name: _, ...realm } = twoRealms().realms[0] ?? { audience: '' }
  await using world = await startWorld(twoRealms({ realms: [{ ...realm, issuer: 'https://login.test/' }] }))

  const document = await object(fetch(`${world.a.url}/.well-known/openid-configuration`))

  assert.equal(document['issuer'], 'https://login.test/')
  assert.equal(document['jwks_uri'], 'https://login.test/jwks')
  for (const path of ['/', '/a/jwks', '/jwks/', '//jwks', '/JWKS', '/.well-known/oauth-authorization-server/'])
    assert.equal((await fetch(`${world.a.url}${path}`)).status, 404, path)
})

test('/jwks holds public members only, and is 304 to who holds its ETag, weakened or in a list', async () => {
  await using world = await startWorld()

  const answer = await fetch(`${world.a.url}/jwks`)
  const etag = answer.headers.get('etag') ?? ''
  const again = await Promise.all(
    [etag, `W/${etag}`, `"other", ${etag}`, '"other"'].map((held) =>
      fetch(`${world.a.url}/jwks`, { headers: { 'if-none-match': held } }),
    ),
  )

  const { keys } = (await answer.json()) as { keys: Jwk[] }
  assert.equal(answer.headers.get('content-type'), 'application/jwk-set+json')
  assert.match(answer.headers.get('cache-control') ?? '', /max-age=60/)
  assert.deepEqual(
    keys.map((key) => Object.keys(key).sort()),
    [['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']],
  )
  assert.deepEqual(
    (await jwks(world.b)).map((key) => Object.keys(key).sort()),
    [['alg', 'e', 'kid', 'kty', 'n', 'use']],
  )
  assert.deepEqual(
    again.map(({ status }) => status),
    [304, 304, 304, 200],
  )
  assert.equal(await again[0]?.text(), '')
})

test('rotate: the new key signs at once, both are published under another ETag, and old tokens verify', async () => {
  await using world = await startWorld()
  const before = await fetch(`${world.a.url}/jwks`)
  const old = await grant(world.a)

  const { status, body } = await rotate(world.a)
  const fresh = await grant(world.a)

  assert.equal(status, 200)
  assert.equal(body['revoked'], null)
  assert.equal(segment(fresh, 0)['kid'], body['kid'])
  assert.notEqual(segment(old, 0)['kid'], body['kid'])
  const after = await fetch(`${world.a.url}/jwks`, { headers: { 'if-none-match': before.headers.get('etag') ?? '' } })
  assert.equal(after.status, 200)
  assert.equal((await jwks(world.a)).length, 2)
  const keys = createRemoteJWKSet(new URL(`${world.a.url}/jwks`))
  for (const token of [old, fresh]) {
    await jwtVerify(token, keys, { currentDate: new Date(epochStart * 1000) })
    assert.equal((await introspect(world.a, token))['active'], true)
  }
  assert.equal((await page(world.a)).entries.length, 0)
})

test('rotate?revoke=true: the old key leaves the set, its kid is on the blacklist, its tokens are inactive', async () => {
  await using world = await startWorld()
  const old = await grant(world.a)
  const wrapped = await grant(world.a, shell)
  const { kid } = segment(old, 0)

  const { body } = await rotate(world.a, '?revoke=true')

  assert.equal(body['revoked'], kid)
  assert.deepEqual(
    (await jwks(world.a)).map((key) => key['kid']),
    [body['kid']],
  )
  const [entry, ...more] = (await page(world.a)).entries
  assert.deepEqual(more, [])
  assert.deepEqual(
    { ...entry, seq: 0 },
    { seq: 0, kind: 'kid', value: kid, revoked_at: epochStart, expires_at: epochStart + 3600, cause: 'admin' },
  )
  assert.deepEqual(await introspect(world.a, old), { active: false })
  assert.deepEqual(await introspect(world.a, wrapped), { active: false })
  assert.equal((await introspect(world.a, await grant(world.a)))['active'], true)
  assert.equal((await page(world.b)).entries.length, 0)
})

test('rotate?revoke=true lists the kid until the latest exp it signed, longer orders included', async () => {
  await using world = await startWorld()
  await mint(world.a, { lifetime: 86_400 })

  await rotate(world.a, '?revoke=true')

  assert.equal((await page(world.a)).entries[0]?.expires_at, epochStart + 86_400)
})

test('rotate?type= chooses the type of the new key, which sticks', async () => {
  await using world = await startWorld()

  const rsa = await rotate(world.a, '?type=rsa')
  const same = await rotate(world.a)
  const wrong = await rotate(world.a, '?type=oct')

  assert.deepEqual([rsa.body['alg'], same.body['alg'], wrong.status], ['RS256', 'RS256', 400])
  assert.equal(segment(await grant(world.a), 0)['alg'], 'RS256')
})

test('rotate: S0-14: at most 8 rotated and 16 revoked keys are kept; one still in use is dropped only by force', async () => {
  await using world = await startWorld()
  await grant(world.a)
  for (let count = 0; count < 8; count += 1) assert.equal((await rotate(world.a)).status, 200)

  const refused = await rotate(world.a)
  const before = await jwks(world.a)
  const forced = await rotate(world.a, '?force=true')

  assert.equal(refused.status, 409)
  assert.equal(before.length, 9, 'the refused rotation changed nothing')
  assert.equal(forced.status, 200)
  assert.deepEqual(forced.body['dropped'], [before[0]?.['kid']])
  assert.equal((await jwks(world.a)).length, 9)
  world.time.now += 3600
  for (let count = 0; count < 18; count += 1) assert.equal((await rotate(world.a, '?revoke=true')).status, 200)
  const states = Object.groupBy(await listed(world.a), ({ state }) => state)
  assert.deepEqual([states['rotated']?.length, states['revoked']?.length, states['current']?.length], [8, 16, 1])
})

test('announce_for: a new key is published before it signs', async () => {
  const [realm] = twoRealms().realms
  await using world = await startWorld(twoRealms({ realms: [{ ...(realm ?? { audience: '' }), announce_for: '60s' }] }))
  const first = segment(await grant(world.a), 0)['kid']

  const { body } = await rotate(world.a)

  assert.equal((await jwks(world.a)).length, 2)
  assert.equal(segment(await grant(world.a), 0)['kid'], first)
  world.time.now += 60
  assert.equal(segment(await grant(world.a), 0)['kid'], body['kid'])
  assert.deepEqual(
    (await listed(world.a)).map(({ state }) => state),
    ['rotated', 'current'],
  )
})

test('administration: every endpoint needs the token of its realm', async () => {
  const [a, b] = twoRealms().realms
  await using world = await startWorld(
    twoRealms({ realms: [a ?? { audience: '' }, { ...(b ?? { audience: '' }), admin: { token: 'another' } }] }),
  )
  const endpoints = [
    ['GET', 'keys'],
    ['POST', 'keys/rotate'],
    ['POST', 'revoke'],
    ['POST', 'mint'],
  ] as const
  const wrong = [
    undefined,
    '',
    'Bearer',
    'Bearer wrong',
    'Bearer another',
    'Basic admin-token-66',
    'Bearer admin-token-66x',
  ]

  for (const [method, endpoint] of endpoints) {
    for (const authorization of wrong) {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
      const answer = await fetch(`${world.a.url}/admin/${endpoint}`, { method, headers })

      assert.equal(answer.status, 401, `${endpoint} with ${authorization}`)
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer /)
    }
  }
  assert.equal((await jwks(world.a)).length, 1, 'nothing was rotated')
})

test('administration: absent from the configuration, it is not there', async () => {
  const { admin: _, ...realm } = twoRealms().realms[0] ?? { audience: '' }
  await using world = await startWorld(twoRealms({ realms: [realm] }))

  assert.equal((await rotate(world.a)).status, 404)
})

test('mint: any claim, typ and lifetime, negative too, in all three forms', async () => {
  await using world = await startWorld()

  const jwt = await mint(world.a, {
    format: 'jwt',
    sub: 'alice',
    scope: 's1 s2',
    audience: ['x', 'y'],
    lifetime: -5,
    typ: 'JWT',
    claims: { azp: 'z', nested: { deep: [1] }, jti: null, iss: 'https://other.test' },
  })
  const wrapped = await mint(world.a, { format: 'wrapped_opaque', claims: { iss: 'https://nobody.test' } })
  const opaque = await mint(world.a, { format: 'opaque', sub: 'alice', claims: { groups: ['g'] } })
  const odd = await mint(world.a, { format: 'wrapped_opaque', typ: 'JWT' })

  assert.equal(segment(jwt, 0)['typ'], 'JWT')
  assert.deepEqual(segment(jwt, 1), {
    iss: 'https://other.test',
    sub: 'alice',
    client_id: 'web',
    aud: ['x', 'y'],
    exp: epochStart - 5,
    iat: epochStart,
    scope: 's1 s2',
    azp: 'z',
    nested: { deep: [1] },
  })
  assert.equal(segment(wrapped, 0)['typ'], 'wo+jwt')
  assert.equal(segment(wrapped, 1)['iss'], 'https://nobody.test')
  assert.deepEqual((await introspect(world.a, opaque))['groups'], ['g'])
  assert.equal((await introspect(world.a, odd))['active'], true)
})

const badOrders: readonly unknown[] = [
  null,
  [],
  'x',
  {},
  { client_id: '' },
  { client_id: 1 },
  { client_id: 'c', sub: 1 },
  { client_id: 'c', scope: [] },
  { client_id: 'c', audience: 1 },
  { client_id: 'c', audience: [1] },
  { client_id: 'c', format: 'jwe' },
  { client_id: 'c', lifetime: 1.5 },
  { client_id: 'c', lifetime: '1' },
  { client_id: 'c', lifetime: 1e10 },
  { client_id: 'c', claims: [] },
  { client_id: 'c', typ: 1 },
  { client_id: 'c', token_use: 'any' },
]
test('mint refuses what is no order', async () => {
  await using world = await startWorld()
  for (const order of badOrders)
    assert.equal((await postJson(`${world.a.url}/admin/mint`, order)).status, 400, JSON.stringify(order))
})

test('mint: a date past the year 9999 is not what the store breaks on', async () => {
  await using world = await startWorld()

  const answer = await postJson(`${world.a.url}/admin/mint`, {
    client_id: 'c',
    format: 'opaque',
    claims: { exp: 1e300 },
  })

  assert.equal(answer.status, 200)
})
