import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import type { Json, JsonObject } from '../../src/base/json.ts'
import { parseKeySet, vetJwk } from '../../src/spec/jwk.ts'
import { createSigner } from '../support/tokens.ts'

function rsa(): JsonObject {
  return generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' }) as JsonObject
}

const [one, other] = [rsa(), rsa()]
const ec = createSigner('k').jwk as JsonObject
const named = (jwk: JsonObject, alg?: string): JsonObject => ({
  ...jwk,
  kid: 'k',
  ...(alg === undefined ? {} : { alg }),
})

const listed: readonly { what: string; keys: readonly Json[]; algorithms: readonly string[] | undefined }[] = [
  { what: 'one key, for one algorithm', keys: [named(one, 'PS256')], algorithms: ['PS256'] },
  {
    what: 'one key once for each algorithm',
    keys: ['RS512', 'RS256', 'PS256'].map((alg) => named(one, alg)),
    algorithms: ['RS256', 'RS512', 'PS256'],
  },
  { what: 'one key twice, the same', keys: [named(one, 'RS256'), named(one, 'RS256')], algorithms: ['RS256'] },
  {
    what: 'one key with an alg and without',
    keys: [named(one, 'RS256'), named(one)],
    algorithms: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  },
  {
    what: 'one key beside an alg it cannot have',
    keys: [named(one, 'RS256'), named(one, 'ES256')],
    algorithms: ['RS256'],
  },
  {
    what: 'one key for signatures and for encryption',
    keys: [named(one, 'RS256'), { ...named(one, 'RSA-OAEP'), use: 'enc' }],
    algorithms: ['RS256'],
  },
  { what: 'two keys', keys: [named(one, 'RS256'), named(other, 'RS256')], algorithms: undefined },
  {
    what: 'two keys, for an algorithm each',
    keys: [named(one, 'RS256'), named(other, 'PS256')],
    algorithms: undefined,
  },
  { what: 'two keys of two types', keys: [named(one, 'RS256'), ec], algorithms: undefined },
  {
    what: 'one key twice, and another between',
    keys: [named(one, 'RS256'), named(other, 'RS256'), named(one, 'PS256')],
    algorithms: undefined,
  },
]
for (const { what, keys, algorithms } of listed) {
  test(`parseKeySet() reads one kid that means ${what}: ${algorithms?.join(' ') ?? 'dropped'}`, () => {
    const beside = createSigner('beside').jwk as JsonObject
    for (const members of [keys, keys.toReversed()]) {
      const set = parseKeySet({ keys: [...members, beside] })

      assert.deepEqual(set.byKid.get('k')?.algorithms.toSorted(), algorithms?.toSorted())
      assert.ok(set.byKid.has('beside'))
      const alarms = set.dropped.filter(({ why }) => why === 'its kid occurs more than once')
      assert.deepEqual(
        alarms.map(({ kid }) => kid),
        algorithms === undefined ? ['k'] : [],
      )
    }
  })
}

const useless: readonly { keys: readonly Json[]; says: string }[] = [
  { keys: [], says: ', it is empty' },
  { keys: [{ ...ec, use: 'enc' }], says: ' among 1: its use is not sig' },
  {
    keys: [{ ...ec, use: 'enc' }, 7, { ...ec, use: 'enc' }],
    says: ' among 3: its use is not sig (2), it is not an object',
  },
  {
    keys: [7, { ...ec, use: 'enc' }, { ...ec, d: 'AQAB' }, { ...ec, crv: 'P-257' }],
    says: ' among 4: it is not an object, its use is not sig, it holds private key material, and more',
  },
  { keys: [named(one), named(other)], says: ' among 2: its kid occurs more than once' },
]
for (const { keys, says } of useless) {
  test(`parseKeySet() says why a set has no usable key${says}`, () => {
    assert.throws(() => parseKeySet({ keys }), {
      code: 'ERR_KEY_SET_REFUSED',
      message: `Cannot read key set: it has no usable key${says}`,
    })
  })
}

test('parseKeySet() names what it drops by its kid, unless that is longer than one may be', () => {
  const [short, long] = ['k'.repeat(256), 'k'.repeat(257)]
  const { dropped } = parseKeySet({ keys: [named(one), { ...ec, kid: short, use: 'enc' }, { ...ec, kid: long }] })

  assert.deepEqual(
    dropped.map(({ kid }) => kid),
    [short, undefined],
  )
})

const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({ format: 'jwk' }) as JsonObject
const ed = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }) as JsonObject
/** A modulus of so many bytes, the first of them this. */
const modulus = (bytes: number, first: number) => Buffer.alloc(bytes, 0xb5).fill(first, 0, 1).toString('base64url')
// Every power of 65537 has the fingerprint.
const roca = Buffer.from((65537n ** 128n).toString(16).padStart(514, '0'), 'hex').toString('base64url')

const unfit: readonly { readonly what: string; readonly jwk: Json; readonly why: RegExp }[] = [
  ...['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'].map((name) => {
    return { what: `with ${name}`, jwk: { ...one, [name]: 'AQAB' }, why: /private key material/ }
  }),
  { what: 'with an empty kid', jwk: { ...one, kid: '' }, why: /kid/ },
  { what: 'with a kid that is no text', jwk: { ...one, kid: 7 }, why: /kid/ },
  { what: 'with a kid of 257 bytes', jwk: { ...one, kid: 'k'.repeat(257) }, why: /kid/ },
  { what: 'for encryption', jwk: { ...one, use: 'enc' }, why: /use/ },
  { what: 'for both', jwk: { ...one, use: 'sig enc' }, why: /use/ },
  { what: 'whose use is no text', jwk: { ...one, use: ['sig'] }, why: /use/ },
  { what: 'whose use is null', jwk: { ...one, use: null }, why: /use/ },
  { what: 'that may only sign', jwk: { ...one, key_ops: ['sign'] }, why: /key_ops/ },
  { what: 'whose key_ops are a text', jwk: { ...one, key_ops: 'verify' }, why: /key_ops/ },
  { what: 'with an alg of another type', jwk: { ...ec, alg: 'RS256' }, why: /alg/ },
  { what: 'with an alg of another curve', jwk: { ...p384, alg: 'ES256' }, why: /alg/ },
  { what: 'with a symmetric alg', jwk: { ...one, alg: 'HS256' }, why: /alg/ },
  { what: 'of a curve of another type', jwk: { ...ed, kty: 'EC' }, why: /./ },
  { what: 'with an x that is too short', jwk: { ...p384, x: 'AQAB' }, why: /its x/ },
  { what: 'without y', jwk: { ...p384, y: undefined as never }, why: /its y/ },
  { what: 'with a y that is too short', jwk: { ...p384, y: 'AQAB' }, why: /its y/ },
  { what: 'off its curve', jwk: { ...p384, y: p384['x'] as Json }, why: /not a valid public key/ },
  { what: 'without n', jwk: { kty: 'RSA', e: 'AQAB' }, why: /n or e/ },
  { what: 'without e', jwk: { kty: 'RSA', n: modulus(256, 0x80) }, why: /n or e/ },
  { what: 'with an n that is no base64url', jwk: { ...one, n: `${one['n']}=` }, why: /n or e/ },
  { what: 'with a zero before n', jwk: { ...one, n: modulus(257, 0) }, why: /leading zero/ },
  { what: 'with a zero before e', jwk: { ...one, e: 'AAEAAQ' }, why: /leading zero/ },
  { what: 'of 2047 bits', jwk: { ...one, n: modulus(256, 0x7f) }, why: /2047 bits/ },
  { what: 'of 8193 bits', jwk: { ...one, n: modulus(1025, 1) }, why: /8193 bits/ },
  { what: 'with e = 1, by which a message signs itself', jwk: { ...one, e: 'AQ' }, why: /exponent/ },
  { what: 'with e = 3', jwk: { ...one, e: 'Aw' }, why: /exponent/ },
  { what: 'with e = 65535', jwk: { ...one, e: '__8' }, why: /exponent/ },
  { what: 'with an even e', jwk: { ...one, e: 'AQAC' }, why: /exponent/ },
  { what: 'with an e of five bytes', jwk: { ...one, e: 'AQAAAAE' }, why: /exponent/ },
  { what: 'of a broken generator', jwk: { ...one, n: roca }, why: /CVE-2017-15361/ },
]
for (const { what, jwk, why } of unfit) {
  test(`vetJwk() refuses a key ${what}`, () => {
    const vetted = vetJwk(JSON.parse(JSON.stringify(jwk)))

    assert.ok(typeof vetted === 'string')
    assert.match(vetted, why)
  })
}

const fit: readonly { readonly what: string; readonly jwk: Json; readonly algorithms: readonly string[] }[] = [
  { what: 'of 2048 bits', jwk: { ...one, alg: 'RS256', n: modulus(256, 0x80) }, algorithms: ['RS256'] },
  { what: 'of 8192 bits', jwk: { ...one, alg: 'RS256', n: modulus(1024, 0xff) }, algorithms: ['RS256'] },
  { what: 'with an e of four bytes', jwk: { ...one, alg: 'RS256', e: 'gAAAAQ' }, algorithms: ['RS256'] },
  { what: 'with a kid of 256 bytes', jwk: { ...ec, kid: 'k'.repeat(256) }, algorithms: ['ES256'] },
  { what: 'for signatures that may verify', jwk: { ...ec, use: 'sig', key_ops: ['verify'] }, algorithms: ['ES256'] },
  { what: 'of P-384', jwk: p384, algorithms: ['ES384'] },
  { what: 'of Ed25519, which EdDSA means', jwk: { ...ed, alg: 'EdDSA' }, algorithms: ['Ed25519'] },
]
for (const { what, jwk, algorithms } of fit) {
  test(`vetJwk() takes a key ${what} for ${algorithms.join()}`, () => {
    const vetted = vetJwk(jwk)

    assert.ok(typeof vetted !== 'string', String(vetted))
    assert.deepEqual(vetted.algorithms, algorithms)
  })
}

test('parseKeySet() takes a hundred keys, and refuses one more, or what is no array of them', () => {
  const keys = Array.from({ length: 100 }, (_, at) => ({ ...ec, kid: `k${at}` }))

  assert.equal(parseKeySet({ keys }).byKid.size, 100)
  for (const more of [[...keys, ec], {}, 'keys', undefined as never])
    assert.throws(() => parseKeySet({ keys: more }), { code: 'ERR_KEY_SET_REFUSED' })
})

test('parseKeySet() keeps a key without kid apart, and a set of such keys is one', () => {
  const set = parseKeySet({ keys: [one] })

  assert.deepEqual([set.byKid.size, set.withoutKid.length], [0, 1])
})
