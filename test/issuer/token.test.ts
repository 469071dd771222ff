import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import {
  basic,
  epochStart,
  grant,
  introspect,
  object,
  postForm,
  postJson,
  ref,
  segment,
  shell,
  startWorld,
  twoRealms,
  web,
} from './realms.ts'

const cc = { grant_type: 'client_credentials' }

/** Posts as `fetch` cannot: the answer's header lines as they came. */
function rawHeaders(
  url: string,
  body: string,
  authorization: string,
): Promise<{ status: number; headers: Record<string, string> }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      { method: 'POST', headers: { authorization, 'content-type': 'application/x-www-form-urlencoded' } },
      (answer) => {
        const headers: Record<string, string> = {}
        for (let at = 0; at < answer.rawHeaders.length; at += 2)
          headers[answer.rawHeaders[at] ?? ''] = answer.rawHeaders[at + 1] ?? ''
        answer.resume().on('end', () => resolve({ status: answer.statusCode ?? 0, headers }))
      },
    )
    sent.on('error', reject).end(body)
  })
}

test('token endpoint: S2-11: a token comes with exactly these headers and members', async () => {
  await using world = await startWorld()

  const { status, headers } = await rawHeaders(`${world.a.url}/token`, 'grant_type=client_credentials', web)
  const answer = await object(postForm(`${world.a.url}/token`, cc, web))

  assert.equal(status, 200)
  const { Date: date, Connection, 'Keep-Alive': keepAlive, 'content-length': length, ...ours } = headers
  assert.ok(date !== undefined && Connection !== undefined && keepAlive !== undefined && length !== undefined)
  assert.deepEqual(ours, {
    'Content-Type': 'application/json;charset=UTF-8',
    'Cache-Control': 'no-store',
    Pragma: 'no-cache',
  })
  assert.deepEqual(
    { ...answer, access_token: typeof answer['access_token'] },
    { access_token: 'string', token_type: 'bearer', expires_in: 3600, scope: 'orders:read orders:write' },
  )
})

test('token endpoint: S2-11: errors carry the same three headers, and a 401 the challenge', async () => {
  await using world = await startWorld()

  const bad = await rawHeaders(`${world.a.url}/token`, 'grant_type=password', web)
  const denied = await rawHeaders(`${world.a.url}/token`, 'grant_type=client_credentials', basic('web', 'wrong'))

  for (const [{ headers, status }, wanted] of [
    [bad, 400],
    [denied, 401],
  ] as const) {
    assert.equal(status, wanted)
    assert.equal(headers['Content-Type'], 'application/json;charset=UTF-8')
    assert.equal(headers['Cache-Control'], 'no-store')
    assert.equal(headers['Pragma'], 'no-cache')
  }
  assert.match(denied.headers['WWW-Authenticate'] ?? '', /^Basic realm=/)
  assert.equal(bad.headers['WWW-Authenticate'], undefined)
})

test('token endpoint: a JWT is what RFC 9068 says and verifies against /jwks, ES256 and RS256', async () => {
  await using world = await startWorld()
  for (const [realm, alg] of [
    [world.a, 'ES256'],
    [world.b, 'RS256'],
  ] as const) {
    const token = await (realm === world.a
      ? grant(realm)
      : object(
          fetch(`${realm.url}/admin/mint`, {
            method: 'POST',
            headers: { authorization: 'Bearer admin-token-66' },
            body: JSON.stringify({ client_id: 'web', format: 'jwt', scope: 'orders:read orders:write' }),
          }),
        ).then((answer) => String(answer['access_token'])))

    const { payload, protectedHeader } = await jwtVerify(token, createRemoteJWKSet(new URL(`${realm.url}/jwks`)), {
      issuer: realm.issuer,
      audience: 'orders-api',
      typ: 'at+jwt',
      algorithms: [alg],
      requiredClaims: ['sub', 'client_id', 'iat', 'jti', 'exp'],
      currentDate: new Date(epochStart * 1000),
    })

    assert.match(protectedHeader.kid ?? '', /^demo-/)
    assert.equal(payload['client_id'], 'web')
    assert.equal(payload['scope'], 'orders:read orders:write')
    assert.equal(payload.exp, epochStart + 3600)
    assert.ok(Buffer.from(payload.jti ?? '', 'base64url').length >= 16, 'jti has 128 bits')
  }
})

test('token endpoint: an opaque token is 256 random bits inside the Bearer alphabet, without a dot', async () => {
  await using world = await startWorld()

  const tokens = await Promise.all(Array.from({ length: 20 }, () => grant(world.b)))

  for (const token of tokens) assert.match(token, /^[A-Za-z0-9_-]{43}$/)
  assert.equal(new Set(tokens).size, 20)
})

test('token endpoint: a wrapped opaque token is a signed shell with metadata only; its data comes by introspection', async () => {
  await using world = await startWorld()

  const token = await grant(world.a, shell)

  const { protectedHeader, payload } = await jwtVerify(token, createRemoteJWKSet(new URL(`${world.a.url}/jwks`)), {
    currentDate: new Date(epochStart * 1000),
  })
  assert.equal(protectedHeader.typ, 'wo+jwt')
  assert.deepEqual(Object.keys(payload).sort(), ['azp', 'exp', 'iat', 'iss', 'jti'])
  const answer = await introspect(world.a, token)
  assert.equal(answer['active'], true)
  assert.equal(answer['scope'], 'orders:read')
  assert.equal(answer['jti'], payload.jti)
})

test("token endpoint: the format is the client's, else the realm's", async () => {
  await using world = await startWorld()

  assert.equal((await grant(world.a, ref)).split('.').length, 1)
  assert.equal((await grant(world.b, shell)).split('.').length, 3)
  assert.equal((await grant(world.b, web)).split('.').length, 1)
})

const refusals = [
  { sent: 'no credentials', form: cc, authorization: undefined, status: 401, error: 'invalid_client' },
  { sent: 'a wrong secret', form: cc, authorization: basic('web', 'x'), status: 401, error: 'invalid_client' },
  { sent: 'an unknown client', form: cc, authorization: basic('nobody', 'x'), status: 401, error: 'invalid_client' },
  { sent: 'a Bearer token', form: cc, authorization: 'Bearer x', status: 401, error: 'invalid_client' },
  {
    sent: 'a resource server',
    form: cc,
    authorization: basic('orders', 'rs-secret-4444'),
    status: 401,
    error: 'invalid_client',
  },
  {
    sent: 'two methods',
    form: { ...cc, client_id: 'web', client_secret: 'web-secret-1' },
    authorization: web,
    status: 400,
    error: 'invalid_request',
  },
  { sent: 'two clients', form: { ...cc, client_id: 'ref' }, authorization: web, status: 400, error: 'invalid_request' },
  { sent: 'no grant_type', form: {}, authorization: web, status: 400, error: 'invalid_request' },
  { sent: 'an empty grant_type', form: { grant_type: '' }, authorization: web, status: 400, error: 'invalid_request' },
  {
    sent: 'another grant',
    form: { grant_type: 'password' },
    authorization: web,
    status: 400,
    error: 'unsupported_grant_type',
  },
  {
    sent: 'a scope of others',
    form: { ...cc, scope: 'root' },
    authorization: web,
    status: 400,
    error: 'invalid_scope',
  },
  {
    sent: 'a foreign audience',
    form: { ...cc, audience: 'bank' },
    authorization: web,
    status: 400,
    error: 'invalid_target',
  },
  {
    sent: 'a foreign resource',
    form: { ...cc, resource: 'bank' },
    authorization: web,
    status: 400,
    error: 'invalid_target',
  },
] as const
test('token endpoint refuses in the words of RFC 6749 §5.2', async (t) => {
  await using world = await startWorld()
  for (const { sent, form, authorization, status, error } of refusals) {
    await t.test(`${sent}: ${status} ${error}`, async () => {
      const answer = await postForm(`${world.a.url}/token`, form, authorization)

      assert.equal(answer.status, status)
      const body = await object(answer)
      assert.equal(body['error'], error)
      assert.equal(body['access_token'], undefined)
    })
  }
})

test('token endpoint refuses a parameter sent twice, JSON, and two Authorization lines', async () => {
  await using world = await startWorld()
  const url = `${world.a.url}/token`
  const form = 'application/x-www-form-urlencoded'

  const twice = await fetch(url, {
    method: 'POST',
    headers: { authorization: web, 'content-type': form },
    body: 'grant_type=client_credentials&scope=a&scope=b',
  })
  const json = await fetch(url, {
    method: 'POST',
    headers: { authorization: web, 'content-type': 'application/json' },
    body: JSON.stringify(cc),
  })
  const lines = await fetch(url, {
    method: 'POST',
    headers: [
      ['authorization', web],
      ['authorization', web],
      ['content-type', form],
    ],
    body: 'grant_type=client_credentials',
  })

  for (const answer of [twice, json]) {
    assert.equal(answer.status, 400)
    assert.equal((await object(answer))['error'], 'invalid_request')
  }
  assert.ok(lines.status === 400 || lines.status === 401) // fetch joins the lines with a comma, which is no Basic either
})

test('token endpoint takes client_secret_post, and form-encoded halves in client_secret_basic', async () => {
  const [realm] = twoRealms().realms
  const odd = { client_id: 'odd id', client_secret: 'p%:+ä', scopes: ['x'] }
  await using world = await startWorld(twoRealms({ realms: [{ ...(realm ?? { audience: '' }), clients: [odd] }] }))
  const url = `${world.a.url}/token`

  const post = await postForm(url, { ...cc, client_id: odd.client_id, client_secret: odd.client_secret })
  const encoded = await postForm(url, cc, basic('odd+id', encodeURIComponent(odd.client_secret)))
  const raw = await postForm(url, cc, basic(odd.client_id, odd.client_secret))

  assert.deepEqual([post.status, encoded.status, raw.status], [200, 200, 401])
})

const missing = [
  { on_missing_scope: 'all', scope: 'one two' },
  { on_missing_scope: 'none', scope: '' },
  { on_missing_scope: 'default_set', scope: 'two' },
] as const
for (const { on_missing_scope, scope } of missing) {
  test(`token endpoint: S2-8: on_missing_scope ${on_missing_scope} grants '${scope}' and says so`, async () => {
    const [realm] = twoRealms().realms
    const client = { client_id: 'c', client_secret: 's', scopes: ['one', 'two'], default_scopes: ['two', 'three'] }
    await using world = await startWorld(
      twoRealms({ realms: [{ ...(realm ?? { audience: '' }), on_missing_scope, clients: [client] }] }),
    )

    const answer = await object(postForm(`${world.a.url}/token`, cc, basic('c', 's')))

    assert.equal(answer['scope'], scope)
    assert.equal(segment(String(answer['access_token']), 1)['scope'], scope)
  })
}

test('token endpoint: S2-7: a request is narrowed to what the client may have', async () => {
  await using world = await startWorld()

  const answer = await object(postForm(`${world.a.url}/token`, { ...cc, scope: 'orders:write root' }, web))

  assert.equal(answer['scope'], 'orders:write')
})

test('token endpoint answers 405 to GET and never reads credentials from the query', async () => {
  await using world = await startWorld()

  const get = await fetch(`${world.a.url}/token?grant_type=client_credentials`, { headers: { authorization: web } })
  const query = await postForm(`${world.a.url}/token?client_id=web&client_secret=web-secret-1`, cc)

  assert.equal(get.status, 405)
  assert.equal(get.headers.get('allow'), 'POST')
  assert.equal(query.status, 401)
})

test('token endpoint refuses a client whose tokens are revoked one that would be good once that has run out', async () => {
  for (const entry of [
    { kind: 'client', value: 'web' },
    { kind: 'sub', value: 'web' },
    { kind: 'issued_before', issued_before: epochStart + 86_400 },
  ]) {
    await using world = await startWorld()
    assert.equal((await postJson(`${world.a.url}/admin/revoke`, entry)).status, 200)
    const dead = await grant(world.a)
    world.time.now += 60

    const refused = await postForm(`${world.a.url}/token`, { grant_type: 'client_credentials' }, web)

    assert.deepEqual([refused.status, (await object(refused))['error']], [400, 'unauthorized_client'])
    for (const passed of [0, 1800, 1739]) {
      world.time.now += passed
      assert.deepEqual(await introspect(world.a, dead), { active: false })
    }
    // The purge delay is over, too.
    world.time.now += 61
    assert.equal((await introspect(world.a, await grant(world.a)))['active'], true)
  }
})
