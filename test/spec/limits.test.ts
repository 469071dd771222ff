// The table of limits, security.md §4.1: what reads a token or a key set, at each limit and one past it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '../../src/base/json.ts'
import { JsonRefused, parseJson } from '../../src/base/json.ts'
import { classify } from '../../src/decision/classify.ts'
import { readKeySet } from '../../src/sources/held-keys.ts'
import { SourceFailed } from '../../src/sources/source-failed.ts'
import { parseBearer } from '../../src/spec/authorization.ts'
import { readClaims } from '../../src/spec/claims.ts'
import { KeySetRefused, parseKeySet, vetJwk } from '../../src/spec/jwk.ts'
import { decodeJoseHeader, readJoseHeader } from '../../src/spec/jws.ts'
import { encode } from '../acceptance/forge.ts'
import { createSigner } from '../support/tokens.ts'

const { jwk } = createSigner('k')

/** Whether it is taken; what it throws must be a refusal. */
function takes(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch (error) {
    assert.ok(
      error instanceof JsonRefused || error instanceof KeySetRefused || error instanceof SourceFailed,
      `${error}`,
    )
    return false
  }
}

/** A key whose modulus has so many bits, every one of them set; nobody has its factors, and nobody needs them. */
function rsaOf(bits: number): JsonObject {
  const n = Buffer.alloc(Math.ceil(bits / 8), 0xff)
  n[0] = 0xff >> (n.length * 8 - bits)
  return { kty: 'RSA', kid: 'k', n: encode(n), e: 'AQAB' }
}

const nest = (depth: number, inner: string) => `${'['.repeat(depth)}${inner}${']'.repeat(depth)}`
const members = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`m${at}`, at]))
const filled = (bytes: number) => JSON.stringify({ alg: 'ES256', x: 'a'.repeat(bytes - 22) })
const isHeader = (length: number) => decodeJoseHeader(encode(filled(length))) !== undefined
const claim = (name: string) => (length: number) =>
  typeof readClaims({ iss: 'https://issuer.test', exp: 2_000_000_000, [name]: 'a'.repeat(length) }) !== 'string'

const upTo: readonly (readonly [what: string, limit: number, isTaken: (size: number) => boolean])[] = [
  ['arrays in arrays', 16, (depth) => takes(() => parseJson(nest(depth, '1')))],
  ['arrays in arrays, the last of them empty', 16, (depth) => takes(() => parseJson(nest(depth, '')))],
  ['objects in arrays', 16, (depth) => takes(() => parseJson(nest(depth - 1, '{"a":1}')))],
  ['an empty object in arrays', 16, (depth) => takes(() => parseJson(nest(depth - 1, '{}')))],
  ['members of an object', 256, (count) => takes(() => parseJson(JSON.stringify(members(count))))],
  ['members of an array', 256, (count) => takes(() => parseJson(JSON.stringify(Array(count).fill(0))))],
  [
    'members of all objects and arrays',
    256,
    (count) => takes(() => parseJson(JSON.stringify({ a: members(100), b: Array(count - 102).fill(0) }))),
  ],
  ['bytes of a JOSE header', 2048, isHeader],
  [
    'bytes of a kid in a header',
    256,
    (bytes) => typeof readJoseHeader({ alg: 'a', kid: 'k'.repeat(bytes) }) === 'object',
  ],
  [
    'bytes of a kid in a key set',
    256,
    (bytes) => typeof vetJwk({ ...jwk, kid: 'k'.repeat(bytes) } as JsonObject) === 'object',
  ],
  ['bytes of an iss', 512, claim('iss')],
  ['bytes of a sub', 1024, claim('sub')],
  ['bytes of a jti', 256, claim('jti')],
  ['characters of a token', 8192, (length) => parseBearer([`Bearer ${'a'.repeat(length)}`]).kind === 'bearer'],
  ['characters of an opaque token', 4096, (length) => classify('a'.repeat(length), false).kind === 'opaque'],
  [
    'keys of a set',
    100,
    (count) =>
      takes(() =>
        parseKeySet({ keys: Array.from({ length: count }, (_, at) => ({ ...jwk, kid: `k${at}` })) } as JsonObject),
      ),
  ],
  [
    'bytes of a key set',
    262_144,
    (bytes) => takes(() => readKeySet(Buffer.from(JSON.stringify({ keys: [jwk] }).padEnd(bytes)))),
  ],
  ['bits of an RSA modulus', 8192, (bits) => typeof vetJwk(rsaOf(bits)) === 'object'],
]
for (const [what, limit, isTaken] of upTo)
  test(`${limit} ${what} are taken, and ${limit + 1} are not`, () => {
    assert.deepEqual([isTaken(limit), isTaken(limit + 1)], [true, false])
  })

test('2048 bits of an RSA modulus are taken, and 2047 are not', () => {
  assert.deepEqual(
    [typeof vetJwk(rsaOf(2048)), vetJwk(rsaOf(2047))],
    ['object', 'its modulus has 2047 bits, 2048 to 8192 wanted'],
  )
})
