// RFC 7515 (JSON Web Signature), compact serialization only, with RFC 7518 §3 and RFC 8037 for the algorithms and
// RFC 8725 for what not to trust.
import type { KeyObject, VerifyKeyObjectInput } from 'node:crypto'
import { constants, verify } from 'node:crypto'
import { decodeBase64url } from '../base/base64url.ts'
import type { JsonObject } from '../base/json.ts'
import { JsonRefused, parseJsonObject } from '../base/json.ts'
import type { VerificationKey } from './jwk.ts'

type Algorithm = {
  readonly kty: 'RSA' | 'EC' | 'OKP'
  readonly crv?: string
  readonly hash: string | null
  /** Bytes of one coordinate (EC) or of the key (OKP); 0 for RSA. */
  readonly coordinateBytes: number
  /** Bytes of a signature; 0 for RSA, whose signatures are as long as the modulus. */
  readonly signatureBytes: number
  readonly options?: { readonly padding?: number; readonly saltLength?: number; readonly dsaEncoding?: 'ieee-p1363' }
}

const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
const pkcs1 = { padding: constants.RSA_PKCS1_PADDING }
// RFC 7518 §3.4: R‖S of fixed length; DER is refused.
const raw = { dsaEncoding: 'ieee-p1363' } as const

const algorithms = {
  RS256: { kty: 'RSA', hash: 'sha256', coordinateBytes: 0, signatureBytes: 0, options: pkcs1 },
  RS384: { kty: 'RSA', hash: 'sha384', coordinateBytes: 0, signatureBytes: 0, options: pkcs1 },
  RS512: { kty: 'RSA', hash: 'sha512', coordinateBytes: 0, signatureBytes: 0, options: pkcs1 },
  PS256: { kty: 'RSA', hash: 'sha256', coordinateBytes: 0, signatureBytes: 0, options: pss },
  PS384: { kty: 'RSA', hash: 'sha384', coordinateBytes: 0, signatureBytes: 0, options: pss },
  PS512: { kty: 'RSA', hash: 'sha512', coordinateBytes: 0, signatureBytes: 0, options: pss },
  ES256: { kty: 'EC', crv: 'P-256', hash: 'sha256', coordinateBytes: 32, signatureBytes: 64, options: raw },
  ES384: { kty: 'EC', crv: 'P-384', hash: 'sha384', coordinateBytes: 48, signatureBytes: 96, options: raw },
  ES512: { kty: 'EC', crv: 'P-521', hash: 'sha512', coordinateBytes: 66, signatureBytes: 132, options: raw },
  Ed25519: { kty: 'OKP', crv: 'Ed25519', hash: null, coordinateBytes: 32, signatureBytes: 64 },
} as const satisfies Record<string, Algorithm>

/** An algorithm this build verifies. There is no `none` and no HMAC: what is not here cannot be configured. */
export type SignatureAlgorithm = keyof typeof algorithms

/** The table of algorithms, and its names in order. */
export const signatureAlgorithms: {
  readonly names: readonly SignatureAlgorithm[]
  readonly of: Readonly<Record<SignatureAlgorithm, Algorithm>>
} = { names: Object.keys(algorithms) as SignatureAlgorithm[], of: algorithms } // the keys of the table are its names

/** The header and the parts of a compact JWS; nothing in it is verified. */
export type CompactJws = {
  readonly header: JoseHeader
  /** The claims segment, still encoded. */
  readonly payload: string
  /** What the signature covers: the first two segments with their dot (RFC 7515 §5.1). */
  readonly signingInput: string
  readonly signature: string
}

/** The header members we read (RFC 7515 §4.1). */
export type JoseHeader = {
  readonly alg: string
  readonly kid: string | undefined
  readonly typ: string | undefined
  /** A key or the address of one travels in the header (`jku`, `jwk`, `x5u`, `x5c`): never used, and refused by strict profiles. */
  readonly carriesKey: boolean
}

const maxHeaderBytes = 2048
/** Longest `kid`, in a header and in a key set. */
export const maxKidBytes = 256

/**
 * Reads the header of a JWS or JWE.
 *
 * @param segment The first segment of a token.
 * @returns The header object, or undefined when it is not base64url of a strict JSON object of at most 2 KiB.
 */
export function decodeJoseHeader(segment: string): JsonObject | undefined {
  if (segment.length > (maxHeaderBytes * 4) / 3 + 1) return undefined
  return decodeObject(segment)
}

/** A segment that is base64url of a strict JSON object, or undefined. */
export function decodeObject(segment: string): JsonObject | undefined {
  const bytes = decodeBase64url(segment)
  if (bytes === undefined) return undefined
  try {
    return parseJsonObject(bytes)
  } catch (error) {
    if (error instanceof JsonRefused) return undefined
    throw error
  }
}

/**
 * Reads the header members of a signed token.
 *
 * @returns The header, or the name of the member that makes the token one we refuse: `crit` and `b64` (RFC 7515
 *   §4.1.11, RFC 7797: nothing critical is understood here), `zip` unless it is `NONE` (ForgeRock says so), a nested
 *   `cty`, or a member of the wrong type.
 */
export function readJoseHeader(header: JsonObject): JoseHeader | string {
  const { alg, kid, typ, cty } = header
  if (typeof alg !== 'string') return 'alg'
  for (const name of ['crit', 'b64']) if (name in header) return name
  if ('zip' in header && header['zip'] !== 'NONE') return 'zip'
  if (kid !== undefined && (typeof kid !== 'string' || Buffer.byteLength(kid) > maxKidBytes)) return 'kid'
  if (typ !== undefined && typeof typ !== 'string') return 'typ'
  if (cty !== undefined && (typeof cty !== 'string' || /^(?:application\/)?jwt$/i.test(cty))) return 'cty'
  return { alg, kid, typ, carriesKey: 'jku' in header || 'jwk' in header || 'x5u' in header || 'x5c' in header }
}

/** The configured name of an `alg` value: `EdDSA` (RFC 8037) and `Ed25519` (RFC 9864) are one. */
export function algorithmOf(alg: string): SignatureAlgorithm | undefined {
  const name = alg === 'EdDSA' ? 'Ed25519' : alg
  return Object.hasOwn(algorithms, name) ? (name as SignatureAlgorithm) : undefined // own property of the table
}

/** Whether the signature of a compact JWS was made by `key` with `algorithm`. The caller has checked that they fit. */
export function verifySignature(jws: CompactJws, algorithm: SignatureAlgorithm, key: VerificationKey): boolean {
  const { hash, signatureBytes, options } = algorithms[algorithm] as Algorithm
  const signature = decodeBase64url(jws.signature)
  if (signature === undefined || signature.length !== (signatureBytes || key.modulusBytes)) return false
  const input: KeyObject | VerifyKeyObjectInput = options === undefined ? key.key : { key: key.key, ...options }
  return verify(hash, Buffer.from(jws.signingInput, 'latin1'), input, signature)
}
