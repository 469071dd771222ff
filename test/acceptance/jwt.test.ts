// The table of forged tokens, and every class of it varied.
import assert from 'node:assert/strict'
import { createPublicKey, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Members, Recipe } from './forge.ts'
import { encode, forge, goodClaims, jwkOf, keys, malleate } from './forge.ts'
import type { World } from './harness.ts'
import { allowed, checkChallenge, denied, openWorld } from './harness.ts'
import { testVectors } from './vectors.ts'

type RowRecipe = {
  readonly alg?: string | null
  readonly key?: string
  readonly kid?: string
  readonly sig?: string
  readonly hmac_key?: string
  readonly header_jwk?: string
  readonly x5c?: string
  readonly jwks?: string
  readonly struct?: string
  readonly claims?: Readonly<Record<string, unknown>>
  readonly claims_raw?: string
  readonly jwe?: string
  readonly typ?: string
  readonly base: string
}
type Row = { readonly id: string; readonly name: string; readonly recipe: RowRecipe; readonly expect: number | string }

const spki = keys.good.publicKey.export({ format: 'pem', type: 'spki' }) as string // pem is text
const publicJwk = JSON.stringify(jwkOf(keys.good, { kid: 'k1' }))
const deep = `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`

/** Our word for every row; what is not here is a row this test does not know, and fails. */
const reasons: Readonly<Record<string, string>> = {
  J002: 'ok',
  J005: 'alg_not_allowed',
  J008: 'alg_not_allowed',
  J011: 'jwt_malformed',
  J014: 'alg_not_allowed',
  J017: 'alg_not_allowed',
  J020: 'alg_not_allowed',
  J023: 'alg_not_allowed',
  J026: 'jwt_malformed',
  J029: 'jwt_malformed',
  J032: 'key_unknown',
  J035: 'key_unknown',
  J038: 'key_unknown',
  J041: 'key_unknown',
  J044: 'jwt_malformed',
  J047: 'key_unknown',
  J050: 'alg_not_allowed',
  J053: 'key_unknown',
  J056: 'signature_invalid',
  J059: 'signature_invalid',
  J062: 'signature_invalid',
  J074: 'decryption_failed',
  J077: 'jwt_malformed',
  J080: 'jwt_malformed',
  J083: 'jwt_malformed',
  J086: 'jwt_malformed',
  J089: 'jwt_malformed',
  J092: 'jwt_malformed',
  J095: 'jwt_malformed',
  J098: 'jwt_malformed',
  J101: 'claim_missing',
  J104: 'jwt_malformed',
  J107: 'jwt_malformed',
  J110: 'token_not_yet_valid',
  J113: 'jwt_malformed',
  J116: 'audience_mismatch',
  J119: 'audience_mismatch',
  J122: 'audience_mismatch',
  J125: 'issuer_unknown',
  J128: 'issuer_unknown',
  J131: 'scope_missing',
  J134: 'scope_missing',
  J137: 'ok',
  J140: 'scope_missing',
  J143: 'ok',
  J146: 'ok',
  J149: 'proof_missing',
  J152: 'ok',
  // Longer than a head may be: refused before it is read as a token. What fits is tested beside it.
  J155: 'too_large',
  J158: 'decryption_failed',
  J161: 'decryption_failed',
  J164: 'issuer_unknown',
  J167: 'token_expired',
  J170: 'too_large',
  J173: 'token_inactive',
}
const statuses: Readonly<Record<string, number>> = { ok: 200, scope_missing: 403, too_large: 431 }

/** Keys under names of their own, so that each row finds the set it speaks of. */
const setsByRow: Readonly<Record<string, readonly unknown[]>> = {
  'use-enc': [jwkOf(keys.second, { kid: 'use-enc', use: 'enc' })],
  noalg: [jwkOf(keys.second, { kid: 'noalg' })],
  private: [{ ...keys.second.privateKey.export({ format: 'jwk' }), kid: 'private' }],
}

async function openTable(): Promise<World> {
  const rules = [{ id: 'read', match: { path: '/read/**' }, scopes: ['read'] }]
  return await openWorld({
    rules,
    before(a) {
      a.keys = [...a.keys, ...Object.values(setsByRow).flat()]
    },
  })
}

testVectors<{ cases: readonly Row[] }>(
  'each token of the table is judged as it says',
  'examples/jwt_cases.json',
  async ({ cases }, t) => {
    await using world = await openTable()
    assert.ok(cases.length > 0)
    for (const { id, name, recipe, expect } of cases) {
      await t.test(`${id} ${name}`, async () => {
        const reason = reasons[id]
        assert.ok(reason !== undefined, `Cannot judge ${id}: the test has no reason for it`)
        const status = statuses[reason] ?? 401
        if (reason !== 'too_large' && expect !== 'revocation follows inner token' && id !== 'J152')
          assert.match(String(expect), new RegExp(`^${status}`), 'the row and the reason agree')
        // Past the cool-down, so that an unknown key is a verdict.
        world.pass(31_000)
        const tokens = recipe.base === 'wrapped' ? wrapped(world, name) : build(world, recipe)
        for (const token of tokens) {
          if (reason === 'ok') await allowed(world, { token })
          else await denied(world, { token }, status, reason)
        }
      })
    }
  },
)

/** The tokens a recipe stands for. */
function build(world: World, row: RowRecipe): readonly string[] {
  const { struct, jwe, kid, jwks } = row
  if (struct !== undefined) return structures(world, struct)
  if (jwe !== undefined)
    return [jweOf(jwe === 'pbes2' ? { alg: 'PBES2-HS256+A128KW', p2c: 1e9, p2s: 'AAAA' } : { alg: 'RSA1_5' })]
  if (kid === 'types')
    return [1, ['k1'], { kid: 'k1' }, null, true].map((value) => world.mint({ header: { kid: value } }))
  const key = { rs: keys.rs, attacker: keys.attacker, good: keys.good }[row.key ?? 'good'] ?? keys.good
  const recipe: Recipe = {
    key: jwks === undefined ? key : keys.second,
    kid: kid ?? jwks ?? (row.key === 'rs' ? 'rs1' : 'k1'),
    header: {
      ...(row.header_jwk === undefined ? {} : { jwk: jwkOf(keys.attacker) }),
      ...(row.x5c === undefined ? {} : { x5c: ['MIIB'] }),
    },
    ...(row.alg === undefined ? {} : { alg: row.alg }),
    ...(row.typ === undefined ? {} : { typ: row.typ }),
    ...(row.hmac_key === undefined ? {} : { hmac: hmacKeys[row.hmac_key] ?? 'x' }),
    ...(row.sig === undefined ? {} : { signature: signatures[row.sig] ?? assert.fail(row.sig) }),
    ...(row.claims_raw === undefined ? {} : { payload: deep }),
    ...(row.claims === undefined ? {} : { payload: payloadOf(world, row.claims) }),
  }
  return [world.mint(recipe)]
}

const hmacKeys: Readonly<Record<string, string>> = {
  'PEM SPKI': spki,
  'JWK JSON text': publicJwk,
  'PEM with leading space': ` ${spki}`,
}
const signatures: Readonly<Record<string, (signature: Buffer) => Buffer>> = {
  empty: () => Buffer.alloc(0),
  'r=0,s=0': () => Buffer.alloc(64),
  'r only': (signature) => signature.subarray(0, 32),
  'length 65': (signature) => Buffer.concat([signature, Buffer.alloc(1)]),
}

/** Claims as the table writes them: null removes one, of a time `+300` is from now and the rest its own JSON. */
function payloadOf(world: World, patch: Readonly<Record<string, unknown>>): string {
  const claims: Record<string, unknown> = goodClaims({
    iss: world.a.url,
    key: keys.good,
    kid: 'k1',
    nowS: world.nowS(),
  })
  const raw: string[] = []
  if ('scp' in patch) delete claims['scope']
  for (const [name, value] of Object.entries(patch)) {
    delete claims[name]
    if (value === null) continue
    if (!['exp', 'nbf', 'iat'].includes(name))
      claims[name] =
        typeof value === 'string' ? value.replace('ISS_A', world.a.url).replace('ISS_А', `${world.a.url}А`) : value
    else if (/^[+-]\d+$/.test(String(value))) claims[name] = world.nowS() + Number(value)
    else raw.push(`"${name}":${String(value)}`)
  }
  return [JSON.stringify(claims).slice(0, -1), ...raw].join(',').concat('}')
}

function structures(world: World, struct: string): readonly string[] {
  const good = world.mint()
  const [header = '', payload = '', signature = ''] = good.split('.')
  const text = JSON.stringify({ alg: 'ES256', kid: 'k1', typ: 'at+jwt' })
  switch (struct) {
    case '5 parts (JWE) when JWE disabled':
      return [jweOf({ alg: 'dir' }), jweOf({ alg: 'none' })]
    case 'leading dot':
      return [`.${good}`]
    case 'BOM before header JSON':
      return [world.mint({ headerText: `\ufeff${text}` })]
    case 'duplicate kid members':
      return [world.mint({ headerText: '{"alg":"ES256","kid":"k1","kid":"k1","typ":"at+jwt"}' })]
    case 'payload invalid UTF-8':
      return [world.mint({ payload: Buffer.concat([Buffer.from('{"sub":"'), Buffer.from([0xff]), Buffer.from('"}')]) })]
    case 'payload string':
      return [world.mint({ payload: '"payload"' })]
    case 'b64=false + crit':
      return [world.mint({ header: { b64: false, crit: ['b64'] } })]
    case 'crit not array':
      return [world.mint({ header: { crit: 'exp' } })]
    case 'cty=JWT nested JWT':
      return [world.mint({ header: { cty: 'JWT' }, payload: good }), world.mint({ header: { cty: 'JWT' } })]
    default:
      assert.fail(`Cannot build ${struct}: ${header} ${payload} ${signature}`)
  }
}

function jweOf(header: Members): string {
  return [JSON.stringify({ enc: 'A128CBC-HS256', kid: 'k1', ...header }), 'key', 'iv', 'text', 'tag']
    .map(encode)
    .join('.')
}

function wrapped(world: World, name: string): readonly string[] {
  const typ = 'wo+jwt'
  if (name.includes('169.254')) return [world.mint({ typ, claims: { iss: 'http://169.254.169.254/' } })]
  if (name.includes('expired')) {
    const token = world.mint({ typ, claims: { exp: world.nowS() - 60, iat: world.nowS() - 120 } })
    world.a.tokens.set(token, { active: true, scope: 'read', aud: 'api' })
    return [token]
  }
  if (name.includes('100 KiB')) return [world.mint({ typ, claims: { inner: 'a'.repeat(102_400) } })]
  const token = world.mint({ typ, claims: { jti: 'inner' } })
  const [head = '', claims = '', signature = ''] = token.split('.')
  return [token, [head, claims, encode(malleate(Buffer.from(signature, 'base64url')))].join('.')]
}

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

test('no spelling of an algorithm outside the allow-list is taken, whatever key it is keyed with', async () => {
  await using world = await openTable()
  const names = [
    'none',
    'None',
    'NONE',
    'nOnE',
    'none ',
    ' none',
    'HS256',
    'HS384',
    'HS512',
    'hs256',
    'es256',
    'ES256 ',
    'ES256\u0000',
    'ES256K',
    'ES384',
    'ES512',
    'RS384',
    'PS256',
    'rs256',
    'RS256\n',
    'SHA256withECDSA',
    'ECDSA',
    '__proto__',
    'constructor',
    'toString',
    'A256GCM',
    'dir',
    '',
  ]

  for (const alg of names) {
    await denied(world, { token: world.mint({ alg }) }, 401, 'alg_not_allowed', JSON.stringify(alg))
    for (const hmac of [
      spki,
      spki.trim(),
      ` ${spki}`,
      publicJwk,
      'secret',
      keys.good.publicKey.export({ format: 'der', type: 'spki' }),
    ])
      await denied(world, { token: world.mint({ alg, hmac }) }, 401, 'alg_not_allowed', JSON.stringify(alg))
    await denied(world, { token: world.mint({ alg, signature: () => Buffer.alloc(0) }) }, 401, 'alg_not_allowed')
  }
  for (const alg of [null, 0, ['ES256'], { name: 'ES256' }, true])
    await denied(world, { token: world.mint({ header: { alg } }) }, 401, 'jwt_malformed', JSON.stringify(alg))
})

test('an algorithm of the allow-list that does not fit the named key is alg_not_allowed', async () => {
  await using world = await openTable()
  const pairs = [
    ['k1', 'RS256'],
    ['rs1', 'ES256'],
    ['k1', 'EdDSA'],
    ['ed1', 'ES256'],
    ['ed1', 'RS256'],
    ['rs1', 'Ed25519'],
  ] as const

  for (const [kid, alg] of pairs)
    for (const key of [keys.good, keys.rs, keys.ed])
      await denied(world, { token: world.mint({ key, kid, alg }) }, 401, 'alg_not_allowed', `${kid} ${alg}`)
  await allowed(world, { token: world.mint({ key: keys.ed, kid: 'ed1', alg: 'EdDSA' }) })
  await allowed(world, { token: world.mint({ key: keys.ed, kid: 'ed1', alg: 'Ed25519' }) })
})

test('keys and addresses in the header are refused and nobody connects to them', async () => {
  await using world = await openWorld()
  const at = `${world.b.origin}/keys`
  const before = world.b.connections()

  for (const header of [
    { jku: at },
    { x5u: at },
    { jwk: jwkOf(keys.attacker) },
    { x5c: ['MIIB'] },
    { jwk: null },
    { jku: 1 },
  ])
    for (const key of [keys.attacker, keys.good])
      await denied(world, { token: world.mint({ header, key }) }, 401, 'jwt_malformed', JSON.stringify(header))

  assert.equal(world.b.connections(), before)
})

const strangeKids = [
  '/dev/null',
  '../../etc/passwd',
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'K1',
  'k1 ',
  ' k1',
  'k1\u0000',
  "k1' OR '1'='1",
  '$(id)',
  '| id',
  'http://127.0.0.1/k1',
  'ｋ1',
  'kb',
  'k'.repeat(256),
]

test('a kid is a name and nothing else: no other spelling finds a key, each is 401 after one fetch and 503 in the cool-down', async () => {
  await using world = await openWorld()

  for (const kid of strangeKids) {
    world.pass(31_000)
    for (const key of [keys.attacker, keys.good]) {
      const before = world.a.count('/jwks')
      const first = await world.ask({ token: world.mint({ kid, key }) })
      if (key === keys.attacker) assert.deepEqual([first.status, first.reason], [401, 'key_unknown'], kid)
      else assert.deepEqual([first.status, first.reason], [503, 'keys_unavailable'], kid)
      checkChallenge(first)
      assert.equal(world.a.count('/jwks') - before, key === keys.attacker ? 1 : 0)
    }
  }
  assert.equal(world.seen.length, 0)
})

test('a missing kid, an empty one and that of a dropped key are key_unknown at once, without a fetch', async () => {
  await using world = await openTable()
  const before = world.a.count('/jwks')

  for (const kid of [null, '', 'use-enc', 'private'])
    for (const key of [keys.good, keys.second, keys.attacker])
      await denied(world, { token: world.mint({ kid, key }) }, 401, 'key_unknown', JSON.stringify(kid))

  assert.equal(world.a.count('/jwks'), before)
})

const timeTypes = [
  'null',
  '"x"',
  '"9999999999"',
  'true',
  '[9999999999]',
  '{}',
  '-1',
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

test("a token of issuer A signed with a key of issuer B is not A's, whatever kid it names", async () => {
  await using world = await openWorld()

  await denied(world, { token: world.mint({ key: keys.b, kid: 'k1' }) }, 401, 'signature_invalid')
  await denied(world, { token: world.mint({ key: keys.b, kid: 'kb' }) }, 401, 'key_unknown')
  await denied(world, { token: world.mintB({ claims: { iss: world.a.url } }) }, 503, 'keys_unavailable')
  await allowed(world, { token: world.mintB() })
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

test('only the typ of an access token is taken, in any case and with application/', async () => {
  await using world = await openTable()

  for (const typ of ['at+jwt', 'AT+JWT', 'At+Jwt', 'application/at+jwt', 'APPLICATION/AT+JWT'])
    await allowed(world, { token: world.mint({ typ }) }, typ)
  for (const typ of [
    null,
    'JWT',
    'jwt',
    'id+jwt',
    'logout+jwt',
    'dpop+jwt',
    'at+jwt ',
    'at jwt',
    'at+jwtx',
    'application/application/at+jwt',
    'at',
    '',
    'token-introspection+jwt',
  ])
    await denied(world, { token: world.mint({ typ }) }, 401, 'type_mismatch', String(typ))
  for (const typ of [1, null, ['at+jwt'], {}])
    await denied(world, { token: world.mint({ header: { typ } }) }, 401, 'jwt_malformed')
})

test('what looks like a JWT and is none is jwt_malformed, and nobody is asked about it', async () => {
  await using world = await openTable()
  const good = world.mint()
  const [header = '', payload = '', signature = ''] = good.split('.')
  const five = [header, payload, signature, 'AA', 'AA'].join('.')
  const pad = (text: string) => text + '='.repeat((4 - (text.length % 4)) % 4)
  const tokens = [
    `${header}.${payload}`,
    `${header}`,
    `${good}.`,
    `.${good}`,
    `${good}.AA`,
    `${header}..${signature}`,
    `.${payload}.${signature}`,
    '..',
    '...',
    '.....',
    'a.b.c',
    'a.b.c.d',
    'a.b.c.d.e',
    five,
    `${five}.AA`,
    '.'.repeat(8000),
    `eyJ`,
    'eyJhbGciOiJFUzI1NiJ9',
    `${header}.${payload}.${signature}=`,
    `${header}.${payload}.${signature}==`,
    `${good}A`,
    `${header}.${payload}.${nonCanonical(signature)}`,
    `${nonCanonical(header)}.${payload}.${signature}`,
    `${header}A.${payload}.${signature}`,
    `${header}.${payload}A.${signature}`,
    `${encode('null')}.${payload}.${signature}`,
    `${encode('[]')}.${payload}.${signature}`,
    `${encode('{"alg":"ES256"}{}')}.${payload}.${signature}`,
    `${encode('{"alg":"ES256",}')}.${payload}.${signature}`,
    `${encode("{'alg':'ES256'}")}.${payload}.${signature}`,
    `${encode('{"alg":"ES256"}\u0000')}.${payload}.${signature}`,
  ]
  const before = world.a.count('/introspect')

  for (const token of tokens) await denied(world, { token }, 401, 'jwt_malformed', token.slice(0, 60))
  for (const token of [`${pad(header)}.${payload}.${signature}`, `${header}.${pad(payload)}x.${signature}`].filter(
    (each) => /=./.test(each),
  ))
    await denied(world, { token }, 400, 'token_malformed', token)
  for (const name of ['crit', 'b64', 'zip'])
    for (const value of [null, [], ['exp'], 'exp', {}, true, false])
      await denied(world, { token: world.mint({ header: { [name]: value } }) }, 401, 'jwt_malformed', name)
  for (const payloadText of [
    'null',
    '[]',
    '"x"',
    '1',
    '',
    ' ',
    '{',
    '{}x',
    '{"sub":"\ud800"}',
    '{"a":1,"a":2}',
    '\ufeff{}',
  ])
    await denied(
      world,
      { token: world.mint({ payload: payloadText }) },
      401,
      payloadText === '{"sub":"\ud800"}' ? 'issuer_unknown' : 'jwt_malformed',
      payloadText,
    )

  assert.equal(world.a.count('/introspect'), before)
})

/** The same bytes in another spelling: the last character's unused bits set. */
function nonCanonical(text: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  if (text.length % 4 === 0) return `${text}A`
  return text.slice(0, -1) + alphabet.charAt(alphabet.indexOf(text.slice(-1)) + 1)
}

test('whitespace, quotes and base64 in place of base64url make no second name for a token', async () => {
  await using world = await openTable()
  const good = world.mint()
  for (const token of [
    `${good}%20`,
    `"${good}"`,
    `${good};`,
    `${good},`,
    good.replace('.', ' .'),
    `<${good}>`,
    `${good}\u00a0`,
    `${good}é`,
  ])
    await denied(world, { token }, 400, 'token_malformed', token.slice(-10))
  for (let tried = 0; tried < 40; tried += 1) {
    const token = world.mint()
    const standard = token.replaceAll('-', '+').replaceAll('_', '/')
    if (standard !== token) await denied(world, { token: standard }, 401, 'jwt_malformed')
  }
})

test("an ES256 signature of zeros, ones, the order, a wrong length, DER, or another token's is refused", async () => {
  await using world = await openTable()
  const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
  const zero = Buffer.alloc(32)
  const one = Buffer.concat([Buffer.alloc(31), Buffer.from([1])])
  const halves = [zero, one, order, Buffer.alloc(32, 0xff)]
  const other = Buffer.from(world.mint().split('.')[2] ?? '', 'base64url')
  const changes: ((signature: Buffer) => Buffer)[] = [
    () => Buffer.alloc(0),
    () => Buffer.alloc(63),
    (s) => s.subarray(0, 32),
    (s) => s.subarray(0, 63),
    () => other,
    (s) => Buffer.concat([s, Buffer.alloc(1)]),
    (s) => Buffer.concat([Buffer.alloc(1), s]),
    (s) => Buffer.concat([s, s]),
    (s) => Buffer.concat([s.subarray(32), s.subarray(0, 32)]),
    derOf,
    ...halves.flatMap((r) => halves.map((s) => () => Buffer.concat([r, s]))),
    ...halves.map((r) => (s: Buffer) => Buffer.concat([r, s.subarray(32)])),
    ...Array.from(
      { length: 64 },
      (_, at) => (s: Buffer) => s.map((byte, each) => (each === at ? byte ^ 1 : byte)) as Buffer,
    ),
  ]

  for (const [at, signature] of changes.entries())
    await denied(world, { token: world.mint({ signature }) }, 401, 'signature_invalid', `change ${at}`)
})

function derOf(signature: Buffer): Buffer {
  const integer = (half: Buffer) => Buffer.concat([Buffer.from([2, 33, 0]), half])
  const body = Buffer.concat([integer(signature.subarray(0, 32)), integer(signature.subarray(32))])
  return Buffer.concat([Buffer.from([0x30, body.length]), body])
}

test('the second valid signature of an ES256 token is another token of the same jti: revoked with it', async () => {
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { poll_interval: '100ms' } },
  })
  const jti = randomUUID()
  const token = world.mint({ claims: { jti } })
  const [header = '', payload = '', signature = ''] = token.split('.')
  const second = [header, payload, encode(malleate(Buffer.from(signature, 'base64url')))].join('.')
  assert.notEqual(second, token)
  await allowed(world, { token })
  await allowed(world, { token: second })

  world.a.revoked.push({ kind: 'jti', value: jti })
  const polls = world.a.count('/blacklist')
  while (world.a.count('/blacklist') < polls + 2) await new Promise((resolve) => setTimeout(resolve, 10))

  await denied(world, { token }, 401, 'token_revoked')
  await denied(world, { token: second }, 401, 'token_revoked')
})

test('a bound token is proof_missing, with whatever it is bound to', async () => {
  await using world = await openTable()

  for (const cnf of [{ jkt: 'x' }, { 'x5t#S256': 'x' }, { jwk: {} }, { kid: 'x' }, {}])
    await denied(world, { token: world.mint({ claims: { cnf } }) }, 401, 'proof_missing', JSON.stringify(cnf))
})

test('forge() makes what node verifies: the public key signs nothing', () => {
  assert.equal(createPublicKey(spki).asymmetricKeyType, 'ec')
  assert.equal(forge({ iss: 'i', key: keys.good, kid: 'k', nowS: 0 }).split('.').length, 3)
})
