import { test } from 'node:test'
import type { Members, Recipe } from './forge.ts'
import { allowed, denied } from './harness.ts'
import { openTable, payloadOf } from './jwt-world.ts'

test('nesting, members and length of claims and header are bounded: what fits into a head is 401', async () => {
  await using world = await openTable()
  const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`m${at}`, 1]))
  const refused: readonly (readonly [string, Recipe])[] = [
    ['objects 17 deep', { payload: `{"x":${nested(16)}}` }],
    ['objects 900 deep', { payload: nested(900) }],
    ['arrays 2000 deep', { payload: `{"a":${'['.repeat(2000)}${']'.repeat(2000)}}` }],
    ['257 members', { claims: many(257) }],
    ['a deep header', { header: { x: JSON.parse(nested(20)) } }],
    ['a header over 2 KiB', { header: { x: 'a'.repeat(2048) } }],
    ['kid of 257 bytes', { kid: 'k'.repeat(257) }],
    ['jti of 257 bytes', { claims: { jti: 'j'.repeat(257) } }],
    ['sub of 1025 bytes', { claims: { sub: 's'.repeat(1025) } }],
    ['__proto__ among the claims', { payload: '{"__proto__":{"scope":"read"}}' }],
    ['__proto__ in the header', { headerText: '{"alg":"ES256","kid":"k1","typ":"at+jwt","__proto__":{}}' }],
  ]

  for (const [what, recipe] of refused) await denied(world, { token: world.mint(recipe) }, 401, 'jwt_malformed', what)

  await allowed(world, { token: world.mint({ claims: { x: JSON.parse(nested(14)) } }) })
  await allowed(world, { token: world.mint({ claims: { jti: 'j'.repeat(256), sub: 's'.repeat(1024) } }) })
})

const timeTypes = [
  'null',
  '"x"',
  '"9999999999"',
  'true',
  '[9999999999]',
  '{}',
  '-1.5',
  '1e999',
  '253402300800',
  '1e300',
  '-1e999',
  '01',
  'NaN',
  'Infinity',
  '0x7fffffff',
  '""',
]

test('a time of the wrong type or out of range is jwt_malformed, as exp, nbf and iat', async () => {
  await using world = await openTable()

  for (const name of ['exp', 'nbf', 'iat'])
    for (const value of timeTypes) {
      const token = world.mint({ payload: payloadOf(world, { [name]: value }) })
      await denied(world, { token }, 401, 'jwt_malformed', `${name} ${value}`)
    }
  // Milliseconds instead of seconds: far more than 24 h of life.
  const token = world.mint({ claims: { exp: world.nowS() * 1000 } })
  await denied(world, { token }, 401, 'jwt_malformed')
})

test('exp, nbf, iat and the lifetime are held to the second, leeway included', async () => {
  await using world = await openTable()
  const now = world.nowS()
  const refused: readonly (readonly [Members, string])[] = [
    [{ exp: now - 31, iat: now - 60 }, 'token_expired'],
    [{ exp: 0, iat: 0 }, 'token_expired'],
    [{ nbf: now + 40 }, 'token_not_yet_valid'],
    [{ iat: now + 40 }, 'token_not_yet_valid'],
    [{ exp: now + 86_400, iat: now - 10 }, 'token_lifetime'],
    [{ exp: now + 10 * 365 * 86_400 }, 'token_lifetime'],
  ]
  const accepted: readonly Members[] = [
    { exp: now - 20, iat: now - 60 },
    { nbf: now + 20 },
    { iat: now + 20 },
    { exp: now + 86_300, iat: now - 10 },
    { exp: now + 299.5, iat: now - 0.5 },
  ]

  for (const [claims, reason] of refused)
    await denied(world, { token: world.mint({ claims }) }, 401, reason, JSON.stringify(claims))
  for (const claims of accepted) await allowed(world, { token: world.mint({ claims }) }, JSON.stringify(claims))
})

const wrongTypes: readonly Members[] = [
  { iss: 1 },
  { iss: null },
  { iss: ['ISS'] },
  { iss: {} },
  { aud: 1 },
  { aud: null },
  { aud: {} },
  { aud: [1] },
  { aud: ['api', 1] },
  { aud: [['api']] },
  { scope: {} },
  { scope: 1 },
  { scope: null },
  { scope: ['read', 1] },
  { sub: 1 },
  { sub: null },
  { sub: ['alice'] },
  { jti: 1 },
  { jti: {} },
  { client_id: ['web'] },
  { client_id: 7 },
  { azp: 1 },
  { sid: 1 },
  { cnf: 'x' },
  { cnf: null },
  { cnf: [] },
]

test('a claim of the wrong type is jwt_malformed', async () => {
  await using world = await openTable()

  for (const claims of wrongTypes)
    await denied(world, { token: world.mint({ claims }) }, 401, 'jwt_malformed', JSON.stringify(claims))
})

test('issuer and audience are compared byte for byte', async () => {
  await using world = await openTable()
  const { url } = world.a
  const issuers = [
    `${url}/`,
    url.toUpperCase(),
    `${url} `,
    ` ${url}`,
    `${url}#`,
    `${url}?`,
    url.replace('http:', 'https:'),
    url.replace('127.0.0.1', 'localhost'),
    `${url}\u0000`,
    `${url}А`,
    '',
    'null',
    '__proto__',
    `${world.b.url}`,
  ]
  const audiences = [
    'other',
    'API',
    'api2',
    'ap',
    ' api',
    'api ',
    '',
    'api\u0000',
    'аpi',
    'api,other',
    'api other',
    [],
    ['other'],
    [''],
  ]

  for (const iss of issuers.slice(0, -1))
    await denied(world, { token: world.mint({ claims: { iss } }) }, 401, 'issuer_unknown', iss)
  await denied(world, { token: world.mint({ claims: { iss: undefined } }) }, 401, 'issuer_unknown')
  for (const aud of audiences) {
    const reason = Array.isArray(aud) && aud.length === 0 ? 'claim_missing' : 'audience_mismatch'
    await denied(world, { token: world.mint({ claims: { aud } }) }, 401, reason, JSON.stringify(aud))
  }
  for (const aud of ['api', ['api'], ['other', 'api']]) await allowed(world, { token: world.mint({ claims: { aud } }) })
})

const scopes: readonly (readonly [unknown, string])[] = [
  ['readx', 'scope_missing'],
  ['READ', 'scope_missing'],
  ['read,write', 'scope_missing'],
  ['read\twrite', 'scope_missing'],
  ['read\nwrite', 'scope_missing'],
  ['"read"', 'scope_missing'],
  ['', 'scope_missing'],
  [' ', 'scope_missing'],
  [[], 'scope_missing'],
  [['read write'], 'scope_missing'],
  [[''], 'scope_missing'],
  ['rеad', 'scope_missing'],
  ['a  read', 'ok'],
  [' read ', 'ok'],
  [['read'], 'ok'],
  [['a', 'read'], 'ok'],
]

test('scopes are whole words between spaces, of scope before scp', async () => {
  await using world = await openTable()

  for (const [scope, reason] of scopes)
    for (const name of ['scope', 'scp']) {
      const token = world.mint({ claims: { scope: undefined, [name]: scope } })
      if (reason === 'ok') await allowed(world, { token }, JSON.stringify(scope))
      else await denied(world, { token }, 403, reason, JSON.stringify(scope))
    }
  await denied(world, { token: world.mint({ claims: { scope: '', scp: ['read'] } }) }, 403, 'scope_missing')
})

test('a bound token is proof_missing, with whatever it is bound to', async () => {
  await using world = await openTable()

  for (const cnf of [{ jkt: 'x' }, { 'x5t#S256': 'x' }, { jwk: {} }, { kid: 'x' }, {}])
    await denied(world, { token: world.mint({ claims: { cnf } }) }, 401, 'proof_missing', JSON.stringify(cnf))
})
