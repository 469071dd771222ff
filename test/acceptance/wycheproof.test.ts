// Project Wycheproof's JOSE vectors through the gateway's own classify, vetJwk, checkHeader and checkSignature.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Json, JsonObject } from '../../src/base/json.ts'
import { isJsonObject, parseJson } from '../../src/base/json.ts'
import { classify } from '../../src/decision/classify.ts'
import { checkHeader, checkSignature, trustIssuer, trustOptions } from '../../src/decision/verify.ts'
import type { VerificationKey } from '../../src/spec/jwk.ts'
import { KeySetRefused, parseKeySet, vetJwk } from '../../src/spec/jwk.ts'
import { signatureAlgorithms } from '../../src/spec/jws.ts'
import { encode } from './forge.ts'
import { testVectors } from './vectors.ts'

type Vector = { tcId: number; comment: string; jws?: unknown; jwe?: unknown; result: string; flags: readonly string[] }
type Group = {
  readonly comment: string
  readonly private?: JsonObject
  readonly public?: JsonObject
  readonly tests: readonly Vector[]
}
type File = { readonly testGroups: readonly Group[] }

/** Everything that may be configured is: the widest gateway there can be. */
const issuer = trustIssuer(
  trustOptions.parse({
    issuer: 'https://issuer.test',
    audience: 'api',
    algorithms: signatureAlgorithms.names,
    token_profile: 'lenient',
    require_kid: false,
  }),
  { answersMaxAgeMs: undefined, pollIntervalMs: undefined },
)

/** The gateway's word on a signed text under one document of keys; `accepted` is what its signature check comes to. */
function judge(text: string, document: Json): string {
  const vetted = keysOf(document)
  if (vetted.length === 0) return 'no usable key'
  // The vectors sign words, not claims: put in an object's place, they would be refused before their signature is seen.
  const classified = classify(withClaims(text), false)
  if (classified.kind === 'deny') return classified.reason
  if (classified.kind === 'opaque') return 'opaque'
  const [, payload = ''] = text.split('.')
  const { header, signature } = classified.jws
  const signed = {
    ...classified,
    jws: { header, payload, signature, signingInput: text.slice(0, text.lastIndexOf('.')) },
  }
  const checked = checkHeader(signed, 'jwt', issuer)
  if (checked.kind === 'deny') return checked.reason
  const { kid, algorithm } = checked.wanted
  const key = vetted.find((each) => kid === undefined || each.kid === undefined || each.kid === kid)
  if (key === undefined) return 'key_unknown'
  return checkSignature(signed, algorithm, key)?.reason ?? 'accepted'
}

/** The same text with `{}` where its payload is; a payload that is not base64url stays, and is refused. */
function withClaims(text: string): string {
  const [header = '', payload = '', ...rest] = text.split('.')
  return [header, /^[\w-]*$/.test(payload) && payload.length % 4 !== 1 ? encode('{}') : payload, ...rest].join('.')
}

function keysOf(document: Json): readonly VerificationKey[] {
  if (isJsonObject(document) && 'keys' in document) {
    try {
      const set = parseKeySet(document)
      return [...set.byKid.values(), ...set.withoutKid]
    } catch (error) {
      assert.ok(error instanceof KeySetRefused)
      return []
    }
  }
  const key = vetJwk(document)
  return typeof key === 'string' ? [] : [key]
}

/** Groups publish their private keys: of a key pair the public members are what an issuer would publish. */
function publishedKeys(group: Group): Json {
  return parseJson(JSON.stringify(group.public ?? publicPart(group.private ?? {})), { maxMembers: 4096 })
}

function publicPart(document: JsonObject): unknown {
  if (Array.isArray(document['keys'])) return { keys: (document['keys'] as JsonObject[]).map(publicPart) }
  if (document['kty'] === 'oct') return document
  return Object.fromEntries(
    Object.entries(document).filter(([name]) => !['d', 'p', 'q', 'dp', 'dq', 'qi'].includes(name)),
  )
}

/** Why a vector that Wycheproof calls valid is refused here, by the words of the vectors' own list. */
function exceptionOf(group: Group, { jws, comment }: Vector): string | undefined {
  const key = group.public ?? group.private
  if (key?.['kty'] === 'oct') return hmacGroup
  const header = typeof jws === 'string' ? headerOf(jws) : undefined
  if (header === undefined) return 'junk characters in the header'
  const alg = key?.['alg']
  // `ES521` is no name of RFC 7518: the key is dropped.
  if (alg !== undefined && alg !== header['alg']) return otherAlg
  if (Array.isArray(key?.['keys']) && String(header['alg']).startsWith('HS')) return hmacGroup
  return /junk|non.?base64|whitespace|space|illegal/i.test(comment) ? 'junk characters' : undefined
}

function headerOf(text: string): JsonObject | undefined {
  const [header = ''] = text.split('.')
  if (!/^[\w-]+$/.test(header)) return undefined
  try {
    return JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as JsonObject // the vectors' own headers
  } catch {
    return undefined
  }
}

function textOf({ jws, jwe }: Vector): string {
  const value = jws ?? jwe
  return typeof value === 'string' ? value : JSON.stringify(value)
}

async function runFile({ testGroups }: File, t: TestContext): Promise<Record<string, number>> {
  const exceptions: Record<string, number> = {}
  for (const group of testGroups)
    await t.test(`${group.comment}: no invalid vector is accepted, every valid one is or is named`, () => {
      for (const vector of group.tests) {
        const said = judge(textOf(vector), publishedKeys(group))
        const which = `tcId ${vector.tcId} ${vector.comment}: ${said}`
        if (vector.result !== 'valid') {
          assert.notEqual(said, 'accepted', which)
        } else if (said !== 'accepted') {
          const exception = exceptionOf(group, vector)
          assert.ok(exception !== undefined, which)
          exceptions[exception] = (exceptions[exception] ?? 0) + 1
        }
      }
    })
  return exceptions
}

const hmacGroup = 'an HMAC group: no symmetric algorithm exists in the gateway'
const otherAlg = "the JWK's alg differs from the header's"

testVectors<File>('Wycheproof json_web_signature', 'wycheproof/json_web_signature_test.json', async (file, t) => {
  const exceptions = await runFile(file, t)
  assert.deepEqual(Object.keys(exceptions).sort(), [hmacGroup, otherAlg].sort())
})

testVectors<File>('Wycheproof json_web_key', 'wycheproof/json_web_key_test.json', async (file, t) => {
  const exceptions = await runFile(file, t)
  assert.deepEqual(Object.keys(exceptions), [hmacGroup])
})

for (const name of ['json_web_crypto', 'json_web_encryption'])
  testVectors<File>(
    `Wycheproof ${name}: nothing invalid or encrypted is accepted`,
    `wycheproof/${name}_test.json`,
    ({ testGroups }) => {
      let judged = 0
      for (const group of testGroups)
        for (const vector of group.tests) {
          judged += 1
          const said = judge(textOf(vector), publishedKeys(group))
          if (vector.result !== 'valid' || vector.jwe !== undefined)
            assert.notEqual(said, 'accepted', `tcId ${vector.tcId} ${vector.comment}`)
        }
      assert.ok(judged > 0)
    },
  )
