import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import type { Json, JsonObject } from '../../src/base/json.ts'
import { parseKeySet } from '../../src/spec/jwk.ts'
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
