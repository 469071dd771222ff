// The form of a token: grammar, algorithm, key, typ, signature.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { encode, jwkOf, keys, malleate } from './forge.ts'
import { allowed, checkChallenge, denied, openWorld } from './harness.ts'
import { openTable, publicJwk, spki } from './jwt-world.ts'

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

test("a token of issuer A signed with a key of issuer B is not A's, whatever kid it names", async () => {
  await using world = await openWorld()

  await denied(world, { token: world.mint({ key: keys.b, kid: 'k1' }) }, 401, 'signature_invalid')
  await denied(world, { token: world.mint({ key: keys.b, kid: 'kb' }) }, 401, 'key_unknown')
  await denied(world, { token: world.mintB({ claims: { iss: world.a.url } }) }, 503, 'keys_unavailable')
  await allowed(world, { token: world.mintB() })
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
  await denied(world, { token: `${good}A` }, 401, 'signature_invalid')
  for (const name of ['crit', 'b64', 'zip'])
    for (const value of [null, [], ['exp'], 'exp', {}, true, false])
      await denied(world, { token: world.mint({ header: { [name]: value } }) }, 401, 'jwt_malformed', name)
  for (const zip of ['DEF', 'none'])
    await denied(world, { token: world.mint({ header: { zip } }) }, 401, 'jwt_malformed', zip)
  await allowed(world, { token: world.mint({ header: { zip: 'NONE' } }) })
  for (const payloadText of [
    'null',
    '[]',
    '"x"',
    '1',
    '',
    ' ',
    '{',
    '{}x',

    '{"a":1,"a":2}',
    '\ufeff{}',
  ])
    await denied(world, { token: world.mint({ payload: payloadText }) }, 401, 'jwt_malformed', payloadText)

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

test('no edit of one character of a good token is let through, and none is a bug of ours', async () => {
  await using world = await openTable()
  const good = world.mint()
  const edits = fc.record({
    at: fc.nat(good.length - 1),
    cut: fc.nat(2),
    put: fc.string({ unit: fc.constantFrom(...'AQg_-.=+/ez09"~ '), maxLength: 2 }),
  })
  await fc.assert(
    fc.asyncProperty(edits, async ({ at, cut, put }) => {
      const token = good.slice(0, at) + put + good.slice(at + cut)
      // Spaces at its ends are the header line's, not the token's.
      if (token.trim() === good) return
      const got = await world.ask({ path: '/read/x', token })
      assert.ok(
        got.status === 400 || got.status === 401 || got.reason === 'keys_unavailable',
        `${got.status} ${got.reason}`,
      )
    }),
    { numRuns: 500 },
  )
  assert.equal(world.seen.length, 0)
})

test('no text in place of a token is let through, and none is a bug of ours', async () => {
  await using world = await openTable()
  const text = fc.string({ unit: fc.constantFrom(...'eyJhbGciOiJub25lIn0.-_~+/=AZ09 '), minLength: 1, maxLength: 80 })
  await fc.assert(
    fc.asyncProperty(text, async (token) => {
      const got = await world.ask({ path: '/read/x', lines: [['Authorization', `Bearer ${token}`]] })
      assert.ok(got.status === 400 || got.status === 401, `${got.status} ${got.reason}`)
    }),
    { numRuns: 300 },
  )
  assert.equal(world.seen.length, 0)
})
