import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  basic,
  epochStart,
  grant,
  introspect,
  mint,
  object,
  orders,
  other,
  postForm,
  ref,
  revoke,
  shell,
  startWorld,
  twoRealms,
  web,
} from './realms.ts'

const inactive = '{"active":false}'

for (const [form, client] of [
  ['jwt', web],
  ['opaque', ref],
  ['wrapped_opaque', shell],
] as const) {
  test(`introspection tells the resource server that a token is for all about it: ${form}`, async () => {
    await using world = await startWorld()

    const answer = await introspect(world.a, await grant(world.a, client))

    const { jti, sub, client_id, ...rest } = answer
    assert.equal(typeof jti, 'string')
    assert.equal(sub, client_id)
    assert.deepEqual(rest, {
      active: true,
      iss: world.a.issuer,
      aud: 'orders-api',
      exp: epochStart + 3600,
      iat: epochStart,
      scope: form === 'jwt' ? 'orders:read orders:write' : 'orders:read',
      token_type: 'bearer',
      token_use: 'access',
    })
  })

  test(`introspection is audience-bound: another resource server learns exactly {"active":false}: ${form}`, async () => {
    await using world = await startWorld()
    const token = await grant(world.a, client)

    const answer = await postForm(`${world.a.url}/introspect`, { token }, other)

    assert.equal(answer.status, 200)
    assert.equal(await answer.text(), inactive)
  })

  test(`introspection: two realms of one process do not see each other's tokens: ${form}`, async () => {
    await using world = await startWorld()

    const fromA = await grant(world.a, client)
    const fromB = await mint(world.b, { format: form })

    assert.equal((await introspect(world.a, fromA))['active'], true)
    assert.equal((await introspect(world.b, fromB))['active'], true)
    assert.deepEqual(await introspect(world.b, fromA), { active: false })
    assert.deepEqual(await introspect(world.a, fromB), { active: false })
    assert.equal(await revoke(world.b, fromA, client), 200)
    assert.equal((await introspect(world.a, fromA))['active'], true, "b's 200 revoked nothing of a's")
  })

  test(`introspection says inactive at exp, and of what was revoked: ${form}`, async () => {
    await using world = await startWorld()
    const revoked = await grant(world.a, client)
    const expiring = await grant(world.a, client)

    assert.equal(await revoke(world.a, revoked, client), 200)
    assert.deepEqual(await introspect(world.a, revoked), { active: false })
    world.time.now += 3599
    assert.equal((await introspect(world.a, expiring))['active'], true)
    world.time.now += 1
    assert.deepEqual(await introspect(world.a, expiring), { active: false })
  })
}

const inactiveOrders = [
  { what: 'an opaque refresh token', order: { format: 'opaque', token_use: 'refresh' } },
  { what: 'a wrapped refresh token', order: { format: 'wrapped_opaque', token_use: 'refresh' } },
  { what: 'an opaque nonce', order: { format: 'opaque', token_use: 'nonce' } },
  { what: 'a wrapped nonce', order: { format: 'wrapped_opaque', token_use: 'nonce' } },
  { what: 'an ID token', order: { format: 'jwt', token_use: 'id' } },
  { what: 'a JWT of another typ', order: { format: 'jwt', typ: 'logout+jwt' } },
  { what: 'a token born expired', order: { format: 'opaque', lifetime: -10 } },
  { what: 'a token not yet valid', order: { claims: { nbf: epochStart + 1 } } },
  { what: 'a token without exp', order: { claims: { exp: null } } },
  { what: 'a token without aud', order: { claims: { aud: null } } },
  { what: 'a token of another issuer', order: { claims: { iss: 'https://evil.test' } } },
  { what: 'a claim that says active', order: { lifetime: -1, claims: { active: true } } },
] as const
test('introspection answers exactly {"active":false}, 200, to a resource server', async (t) => {
  await using world = await startWorld()
  for (const { what, order } of inactiveOrders) {
    await t.test(`of ${what}`, async () => {
      const token = await mint(world.a, order)
      const answer = await postForm(`${world.a.url}/introspect`, { token }, orders)

      assert.equal(answer.status, 200)
      assert.equal(await answer.text(), inactive)
      assert.equal(answer.headers.get('cache-control'), 'no-store')
    })
  }
  const good = await grant(world.a)
  const [head = '', payload = '', signature = ''] = good.split('.')
  const forged = {
    'an unknown opaque token': 'A'.repeat(43),
    'a forged payload': `${head}.${Buffer.from('{"aud":"orders-api","exp":9999999999}').toString('base64url')}.${signature}`,
    'a broken signature': `${head}.${payload}.${'A'.repeat(86)}`,
    'no signature': `${head}.${payload}.`,
    'four segments': `${good}.x`,
    'alg none': `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url')}.${payload}.`,
    'a token of 8 KiB and more': 'a'.repeat(8193),
    'a kid that is a prototype member': `${Buffer.from('{"alg":"ES256","typ":"at+jwt","kid":"constructor"}').toString('base64url')}.${payload}.${signature}`,
  }
  for (const [what, token] of Object.entries(forged)) {
    await t.test(`of ${what}`, async () => {
      const answer = await postForm(`${world.a.url}/introspect`, { token }, orders)

      assert.equal(answer.status, 200)
      assert.equal(await answer.text(), inactive)
    })
  }
})

test('introspection: no claim of a token speaks for the answer', async () => {
  await using world = await startWorld()

  const token = await mint(world.a, {
    format: 'opaque',
    claims: { active: false, token_use: 'refresh', token_type: 'x' },
  })

  const { active, token_use, token_type } = await introspect(world.a, token)
  assert.deepEqual({ active, token_use, token_type }, { active: true, token_use: 'access', token_type: 'bearer' })
})

test('introspection reads back the largest order the administration takes', async () => {
  await using world = await startWorld()
  const claims = Object.fromEntries(Array.from({ length: 250 }, (_, at) => [`c${at}`, at]))

  const answer = await introspect(world.a, await mint(world.a, { format: 'opaque', claims }))

  assert.equal(answer['active'], true)
  assert.equal(answer['c249'], 249)
})

test('introspection needs a resource server, and a token', async () => {
  await using world = await startWorld()
  const url = `${world.a.url}/introspect`
  const token = await grant(world.a)

  const cases: readonly (readonly [Response, number, string])[] = [
    [await postForm(url, { token }), 401, 'invalid_client'],
    [await postForm(url, { token }, basic('orders', 'wrong')), 401, 'invalid_client'],
    [await postForm(url, { token }, web), 401, 'invalid_client'],
    [await postForm(url, {}, orders), 400, 'invalid_request'],
  ]

  for (const [answer, status, error] of cases) {
    assert.equal(answer.status, status)
    assert.equal((await object(answer))['error'], error)
  }
  assert.equal((await postForm(url, { token, client_id: 'orders', client_secret: 'rs-secret-4444' })).status, 200)
})

test('realm.introspections() and realm.jwksFetches() count per realm', async () => {
  await using world = await startWorld()
  const token = await grant(world.a)

  await introspect(world.a, token)
  await introspect(world.a, token, 'Basic nonsense')
  await fetch(`${world.b.url}/jwks`)

  assert.deepEqual([world.a.introspections(), world.b.introspections()], [2, 0])
  assert.deepEqual([world.a.jwksFetches(), world.b.jwksFetches()], [0, 1])
})

test('authentication: guesses beyond the bound are 503, and a client that has proved itself is not held up by them', async () => {
  await using world = await startWorld()
  const url = `${world.a.url}/introspect`
  await introspect(world.a, 'x')

  const guesses = Array.from({ length: 60 }, (_, at) => postForm(url, { token: 'x' }, basic('orders', `guess${at}`)))
  const honest = await postForm(url, { token: 'x' }, orders)
  const statuses = (await Promise.all(guesses)).map(({ status }) => status)

  assert.equal(honest.status, 200)
  assert.ok(statuses.every((status) => status === 401 || status === 503))
  assert.ok(statuses.includes(503), 'some were not even computed')
})

test('authentication: a burst of first requests by one client is one computation, and none is refused', async () => {
  await using world = await startWorld()

  const burst = await Promise.all(
    Array.from({ length: 64 }, () => postForm(`${world.a.url}/introspect`, { token: 'x' }, orders)),
  )

  assert.deepEqual([...new Set(burst.map(({ status }) => status))], [200])
})

test('twoRealms() is what a demonstration starts from', async () => {
  await using world = await startWorld(twoRealms())

  assert.equal(world.a.issuer, `http://127.0.0.1:${world.issuer.port}/a`)
  assert.equal(world.b.url, `http://127.0.0.1:${world.issuer.port}/b`)
})
