// RFC 7520 §4 and RFC 8037 Appendix A: other people's signatures verify.
import assert from 'node:assert/strict'
import type { Json } from '../../src/base/json.ts'
import { vetJwk } from '../../src/spec/jwk.ts'
import { algorithmOf, verifySignature } from '../../src/spec/jws.ts'
import { testVectors } from './vectors.ts'

type Example = {
  readonly input: { readonly key: Readonly<Record<string, Json>>; readonly alg: string }
  readonly output: { readonly compact: string }
}

const examples = [
  ['RFC 7520 §4.1', 'jws/4_1.rsa_v15_signature.json', 'RS256'],
  ['RFC 7520 §4.2', 'jws/4_2.rsa-pss_signature.json', 'PS384'],
  ['RFC 7520 §4.3', 'jws/4_3.ecdsa_signature.json', 'ES512'],
  ['RFC 8037 Appendix A', 'curve25519/jws.json', 'EdDSA'],
] as const
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi']

for (const [where, file, alg] of examples)
  testVectors<Example>(
    `verifySignature() verifies ${alg} of ${where}, and no changed byte of it`,
    `jose-cookbook/${file}`,
    ({ input, output }) => {
      const published = Object.fromEntries(Object.entries(input.key).filter(([name]) => !privateMembers.includes(name)))
      assert.equal(vetJwk(input.key), 'it holds private key material')
      const key = vetJwk(published)
      assert.ok(typeof key === 'object')
      const algorithm = algorithmOf(alg)
      assert.ok(algorithm !== undefined && input.alg === alg && key.algorithms.includes(algorithm))
      const [header = '', payload = '', signature = ''] = output.compact.split('.')
      const jws = {
        header: { alg, kid: undefined, typ: undefined, carriesKey: false },
        payload,
        signature,
        signingInput: `${header}.${payload}`,
      }

      assert.equal(verifySignature(jws, algorithm, key), true)
      assert.equal(verifySignature({ ...jws, signingInput: `${header}.${payload}A` }, algorithm, key), false)
      const bytes = Buffer.from(signature, 'base64url')
      for (const at of [0, 1, bytes.length >> 1, bytes.length - 1]) {
        const changed = Buffer.from(bytes)
        changed[at] = (changed[at] ?? 0) ^ 1
        assert.equal(verifySignature({ ...jws, signature: changed.toString('base64url') }, algorithm, key), false)
      }
      assert.equal(
        verifySignature({ ...jws, signature: bytes.subarray(1).toString('base64url') }, algorithm, key),
        false,
      )
    },
  )

testVectors<Example>(
  'vetJwk() takes no HMAC key (RFC 7520 §4.4)',
  'jose-cookbook/jws/4_4.hmac-sha2_integrity_protection.json',
  ({ input }) => {
    assert.equal(typeof vetJwk(input.key), 'string')
    assert.equal(algorithmOf(input.alg), undefined)
  },
)
