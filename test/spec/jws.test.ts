import assert from 'node:assert/strict'
import { constants, generateKeyPairSync, sign } from 'node:crypto'
import { test } from 'node:test'
import type { Json, JsonObject } from '../../src/base/json.ts'
import type { VerificationKey } from '../../src/spec/jwk.ts'
import { vetJwk } from '../../src/spec/jwk.ts'
import { algorithmOf, decodeJoseHeader, readJoseHeader, verifySignature } from '../../src/spec/jws.ts'
import { segment } from '../support/tokens.ts'

const refused: readonly { readonly header: JsonObject; readonly by: string }[] = [
  { header: {}, by: 'alg' },
  { header: { alg: null }, by: 'alg' },
  { header: { alg: ['ES256'] }, by: 'alg' },
  { header: { alg: 'ES256', crit: [] }, by: 'crit' },
  { header: { alg: 'ES256', crit: null }, by: 'crit' },
  { header: { alg: 'ES256', b64: false }, by: 'b64' },
  { header: { alg: 'ES256', b64: true }, by: 'b64' },
  { header: { alg: 'ES256', zip: 'DEF' }, by: 'zip' },
  { header: { alg: 'ES256', zip: 'none' }, by: 'zip' },
  { header: { alg: 'ES256', zip: null }, by: 'zip' },
  { header: { alg: 'ES256', kid: 1 }, by: 'kid' },
  { header: { alg: 'ES256', kid: null }, by: 'kid' },
  { header: { alg: 'ES256', kid: 'k'.repeat(257) }, by: 'kid' },
  { header: { alg: 'ES256', kid: 'é'.repeat(129) }, by: 'kid' },
  { header: { alg: 'ES256', typ: null }, by: 'typ' },
  { header: { alg: 'ES256', typ: ['at+jwt'] }, by: 'typ' },
  { header: { alg: 'ES256', cty: 'JWT' }, by: 'cty' },
  { header: { alg: 'ES256', cty: 'application/jwt' }, by: 'cty' },
  { header: { alg: 'ES256', cty: 1 }, by: 'cty' },
  { header: { alg: 'ES256', cty: null }, by: 'cty' },
]
for (const { header, by } of refused) {
  test(`readJoseHeader() refuses ${JSON.stringify(header).slice(0, 60)} by its ${by}`, () => {
    assert.equal(readJoseHeader(header), by)
  })
}

const read: readonly JsonObject[] = [
  {},
  { zip: 'NONE' },
  { kid: 'k'.repeat(256), typ: 'at+jwt' },
  { kid: 'é'.repeat(128) },
  { cty: 'json' },
  { cty: 'jwt+x' },
]
for (const more of read) {
  test(`readJoseHeader() reads ${JSON.stringify(more).slice(0, 60)} beside alg`, () => {
    const { kid, typ } = more

    assert.deepEqual(readJoseHeader({ alg: 'ES256', ...more }), { alg: 'ES256', kid, typ, carriesKey: false })
  })
}

test('readJoseHeader() says that a key travels in the header by each of the four names for that, alone', () => {
  for (const name of ['jku', 'jwk', 'x5u', 'x5c'])
    for (const value of ['x', null, {}]) {
      const header = readJoseHeader({ alg: 'ES256', [name]: value })
      assert.ok(typeof header !== 'string' && header.carriesKey, name)
    }
})

test('decodeJoseHeader() reads a header of 2 KiB, and none that is a byte longer', () => {
  const empty = JSON.stringify({ x: '' }).length

  assert.ok(decodeJoseHeader(segment({ x: 'a'.repeat(2048 - empty) })))
  assert.equal(decodeJoseHeader(segment({ x: 'a'.repeat(2049 - empty) })), undefined)
})

test('algorithmOf() knows ten names and EdDSA, and no other spelling of them', () => {
  for (const name of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'Ed25519'])
    assert.equal(algorithmOf(name), name)
  assert.equal(algorithmOf('EdDSA'), 'Ed25519')
  for (const name of ['', 'none', 'HS256', 'es256', 'ES256 ', 'ES256K', 'ed25519', 'Ed448', 'toString', '__proto__'])
    assert.equal(algorithmOf(name), undefined, name)
})

const input = 'a.b'
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })

function keyOf(jwk: object): VerificationKey {
  const key = vetJwk(jwk as Json) // what node:crypto exported
  assert.ok(typeof key !== 'string', String(key))
  return key
}

function isBy(key: VerificationKey, alg: 'RS256' | 'PS256' | 'PS384', signature: Buffer): boolean {
  const header = { alg, kid: 'k', typ: undefined, carriesKey: false }
  return verifySignature(
    { header, payload: 'b', signingInput: input, signature: signature.toString('base64url') },
    alg,
    key,
  )
}

// RFC 7518 §3.5: as long as the hash, and MGF1 with the same.
const salts = [
  { saltLength: 32, good: true },
  { saltLength: 0, good: false },
  { saltLength: 31, good: false },
  { saltLength: 222, good: false },
] as const
for (const { saltLength, good } of salts) {
  test(`verifySignature() takes ${good ? 'a' : 'no'} PS256 signature with a salt of ${saltLength} bytes`, () => {
    const key = keyOf({ ...rsa.publicKey.export({ format: 'jwk' }), kid: 'k' })
    const padding = constants.RSA_PKCS1_PSS_PADDING
    const signature = sign('sha256', Buffer.from(input), { key: rsa.privateKey, padding, saltLength })

    assert.equal(isBy(key, 'PS256', signature), good)
    for (const other of ['RS256', 'PS384'] as const) assert.equal(isBy(key, other, signature), false, other)
  })
}

// RFC 8017 §8.1.2 and §8.2.2, step 1. OpenSSL itself takes a PSS signature without its leading zeros: one token, two texts.
test('verifySignature() takes no PS256 signature without its leading zero, and none with one more', () => {
  const key = keyOf({ ...rsa.publicKey.export({ format: 'jwk' }), kid: 'k' })
  const padding = constants.RSA_PKCS1_PSS_PADDING
  // Each salt makes another, and one of two hundred begins with a zero.
  let signature: Buffer
  do signature = sign('sha256', Buffer.from(input), { key: rsa.privateKey, padding, saltLength: 32 })
  while (signature[0] !== 0)

  assert.equal(isBy(key, 'PS256', signature), true)
  assert.equal(isBy(key, 'PS256', signature.subarray(1)), false)
  assert.equal(isBy(key, 'PS256', Buffer.concat([Buffer.alloc(1), signature])), false)
})
