// RFC 7517 (JSON Web Key), RFC 7518 §6 (key types), RFC 8037 (Ed25519): public keys for signatures, vetted on import.
import type { KeyObject } from 'node:crypto'
import { createHash, createPublicKey } from 'node:crypto'
import { decodeBase64url, encodeBase64url } from '../base/base64url.ts'
import type { Json, JsonObject } from '../base/json.ts'
import { isJsonObject } from '../base/json.ts'
import type { SignatureAlgorithm } from './jws.ts'
import { algorithmOf, maxKidBytes, signatureAlgorithms } from './jws.ts'

/** A public key fit to verify signatures, and the algorithms it may verify. */
export type VerificationKey = {
  readonly kid: string | undefined
  /** Every algorithm the key's type, curve and `alg` allow; the issuer's allow-list narrows it further. */
  readonly algorithms: readonly SignatureAlgorithm[]
  readonly key: KeyObject
  /** RFC 7638 thumbprint: two documents with the same thumbprint hold the same key. */
  readonly thumbprint: string
  /** Length of an RSA signature, bytes; 0 for other types. */
  readonly modulusBytes: number
}

/** A JSON Web Key Set (RFC 7517 §5) as far as it is usable. */
export type KeySet = {
  readonly byKid: ReadonlyMap<string, VerificationKey>
  /** Keys without `kid`; tried only where an issuer does not require one. */
  readonly withoutKid: readonly VerificationKey[]
  /** Members that were left out, each with the reason; `kid` where it had one. */
  readonly dropped: readonly { readonly kid: string | undefined; readonly why: string }[]
}

// These two stand here, and not with the decisions, because the sources answer in them.
/** A key that a token needs, and what decides whether a missing one may be new (product.md §1, "unknown key"). */
export type KeyWanted = {
  readonly kid: string | undefined
  readonly algorithm: SignatureAlgorithm
  /** The token's unverified `iat`. */
  readonly iat: Json | undefined
  /** When the request arrived (monotonic). */
  readonly arrivedMs: number
  /** Whether a key made the signature; only asked for a token without `kid`. */
  readonly verifies: (key: VerificationKey) => boolean
}

/** A key, a verdict that there is none, or no verdict. */
export type KeyAnswer =
  | { readonly kind: 'key'; readonly key: VerificationKey }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'unavailable'; readonly retryAfterS: number }

/** Most members a set may have. */
export const maxKeys = 100
// Of a set without a usable key.
const maxReasons = 3

/** Why a set as a whole is refused; its text never holds key material. */
export class KeySetRefused extends Error {
  override readonly name = 'KeySetRefused'
  readonly code = 'ERR_KEY_SET_REFUSED'
}

/**
 * Reads a key set. One bad member, or a kid that means two keys, never sinks the set: it is dropped and named.
 *
 * @throws KeySetRefused when there is no `keys` array, it is too long, or nothing in it is usable.
 */
export function parseKeySet(document: JsonObject): KeySet {
  const members = document['keys']
  if (!Array.isArray(members)) throw new KeySetRefused('Cannot read key set: it has no keys array')
  if (members.length > maxKeys)
    throw new KeySetRefused(`Cannot read key set: it has ${members.length} keys, at most ${maxKeys} wanted`)
  const byKid = new Map<string, VerificationKey>()
  const withoutKid: VerificationKey[] = []
  const dropped: { kid: string | undefined; why: string }[] = []
  const twice = new Set<string>()
  for (const member of members as readonly Json[]) {
    const key = vetJwk(member)
    if (typeof key === 'string') {
      dropped.push({ kid: kidOf(member), why: key })
    } else if (key.kid === undefined) {
      withoutKid.push(key)
    } else {
      const before = byKid.get(key.kid)
      // Which of two keys is meant would depend on the order of the document: neither is used.
      if (before !== undefined && before.thumbprint !== key.thumbprint) twice.add(key.kid)
      else byKid.set(key.kid, before === undefined ? key : withAlgorithmsOf(before, key))
    }
  }
  for (const kid of twice) {
    byKid.delete(kid)
    dropped.push({ kid, why: 'its kid occurs more than once' })
  }
  if (byKid.size === 0 && withoutKid.length === 0)
    throw new KeySetRefused(`Cannot read key set: it has no usable key${amongWhich(members.length, dropped)}`)
  return { byKid, withoutKid, dropped }
}

/** One key that is listed once for each algorithm, as some issuers do: the same material is not two keys. */
function withAlgorithmsOf(key: VerificationKey, other: VerificationKey): VerificationKey {
  const either = [...key.algorithms, ...other.algorithms]
  return { ...key, algorithms: signatureAlgorithms.names.filter((name) => either.includes(name)) }
}

function amongWhich(count: number, dropped: KeySet['dropped']): string {
  if (count === 0) return ', it is empty'
  const reasons = [...Map.groupBy(dropped, ({ why }) => why)].map(([why, all]) =>
    all.length === 1 ? why : `${why} (${all.length})`,
  )
  return ` among ${count}: ${reasons.slice(0, maxReasons).join(', ')}${reasons.length > maxReasons ? ', and more' : ''}`
}

/** Vets one JWK. Returns the key, or in one clause why it is not fit to verify signatures. */
export function vetJwk(jwk: Json): VerificationKey | string {
  if (!isJsonObject(jwk)) return 'it is not an object'
  const { use, key_ops: operations, alg, kid } = jwk
  if (kid !== undefined && (typeof kid !== 'string' || kid === '' || Buffer.byteLength(kid) > maxKidBytes))
    return 'its kid is not a string of 1 to 256 bytes'
  // A private or symmetric member in a published set means the key is everybody's.
  for (const name of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'])
    if (name in jwk) return 'it holds private key material'
  if (use !== undefined && use !== 'sig') return 'its use is not sig'
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify')))
    return 'its key_ops lack verify'
  const fitting = fittingAlgorithms(jwk)
  if (typeof fitting === 'string') return fitting
  let algorithms = fitting.algorithms
  if (alg !== undefined) {
    const named = typeof alg === 'string' ? algorithmOf(alg) : undefined
    algorithms = algorithms.filter((name) => name === named)
    if (algorithms.length === 0) return 'its alg does not fit its key type'
  }
  let key: KeyObject
  try {
    key = createPublicKey({ key: fitting.members, format: 'jwk' })
  } catch {
    return 'it is not a valid public key'
  }
  return {
    kid: kid as string | undefined, // checked above
    algorithms,
    key,
    thumbprint: fitting.thumbprint,
    modulusBytes: fitting.modulusBytes,
  }
}

type Fitting = {
  readonly algorithms: readonly SignatureAlgorithm[]
  readonly members: Readonly<Record<string, string>>
  readonly thumbprint: string
  readonly modulusBytes: number
}

function fittingAlgorithms(jwk: JsonObject): Fitting | string {
  if (jwk['kty'] === 'RSA') return fittingRsa(jwk)
  const { kty, crv, x, y } = jwk
  const algorithms = signatureAlgorithms.names.filter(
    (name) => signatureAlgorithms.of[name].kty === kty && signatureAlgorithms.of[name].crv === crv,
  )
  const [first] = algorithms
  if (first === undefined || typeof crv !== 'string' || typeof kty !== 'string')
    return 'its key type or curve is not supported'
  const size = signatureAlgorithms.of[first].coordinateBytes
  if (typeof x !== 'string' || decodeBase64url(x)?.length !== size) return 'its x is not a coordinate of its curve'
  if (kty === 'EC' && (typeof y !== 'string' || decodeBase64url(y)?.length !== size))
    return 'its y is not a coordinate of its curve'
  const members: Record<string, string> = kty === 'EC' ? { crv, kty, x, y: y as string } : { crv, kty, x } // y: checked above
  return { algorithms, members, thumbprint: thumbprintOf(members), modulusBytes: 0 }
}

function fittingRsa(jwk: JsonObject): Fitting | string {
  const { n, e } = jwk
  const modulus = typeof n === 'string' ? decodeBase64url(n) : undefined
  const exponent = typeof e === 'string' ? decodeBase64url(e) : undefined
  if (modulus === undefined || exponent === undefined || typeof n !== 'string' || typeof e !== 'string')
    return 'its n or e is not base64url'
  if (modulus[0] === 0 || exponent[0] === 0) return 'its n or e has leading zero bytes'
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24
  if (bits < 2048 || bits > 8192) return `its modulus has ${bits} bits, 2048 to 8192 wanted`
  // RFC 7518 asks only for a key; e = 1 makes every message its own signature, even e has no inverse.
  const exponentValue = exponent.length > 4 ? 0 : exponent.reduce((sum, byte) => sum * 256 + byte, 0)
  if (exponentValue < 65537 || exponentValue % 2 === 0) return 'its exponent is not odd and from 65537 to 2^32'
  if (hasRocaFingerprint(BigInt(`0x${modulus.toString('hex')}`)))
    return 'its modulus has the fingerprint of a broken generator (CVE-2017-15361)'
  const members = { e, kty: 'RSA', n }
  const algorithms = signatureAlgorithms.names.filter((name) => signatureAlgorithms.of[name].kty === 'RSA')
  return { algorithms, members, thumbprint: thumbprintOf(members), modulusBytes: modulus.length }
}

function thumbprintOf(members: Readonly<Record<string, string>>): string {
  return encodeBase64url(
    createHash('sha256')
      .update(JSON.stringify(members, Object.keys(members).sort()))
      .digest(),
  )
}

// CVE-2017-15361: primes of the broken generator are powers of 65537 modulo every one of these.
const rocaPrimes = [
  3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113,
  127, 131, 137, 139, 149, 151, 157, 163, 167,
] as const

function hasRocaFingerprint(modulus: bigint): boolean {
  return rocaPrimes.every((prime) => {
    const rest = Number(modulus % BigInt(prime))
    let power = 1
    do {
      if (power === rest) return true
      power = (power * 65537) % prime
    } while (power !== 1)
    return false
  })
}

function kidOf(member: Json): string | undefined {
  const kid = isJsonObject(member) ? member['kid'] : undefined
  return typeof kid === 'string' && kid.length <= maxKidBytes ? kid : undefined
}
