import { decodeBase64url } from '../base/base64url.ts'
import type { JsonObject } from '../base/json.ts'
import { isToken68 } from '../spec/authorization.ts'
import type { CompactJws } from '../spec/jws.ts'
import { decodeJoseHeader, decodeObject, readJoseHeader } from '../spec/jws.ts'
import type { Deny, Trail } from './decision.ts'
import { deny } from './decision.ts'

/** A signed token as its own text has it; nothing in it is verified. */
export type SignedToken = { readonly kind: 'jws'; readonly jws: CompactJws; readonly unverified: JsonObject }

/** What a credential is by its form alone. */
export type Classified = SignedToken | { readonly kind: 'opaque' }

const opaque = { kind: 'opaque' } as const
const maxOpaqueLength = 4096

/**
 * Tells what a token is without trusting anything in it (product.md §9). What looks like a JWT and is none is refused
 * here: as somebody's opaque token it would be sent to an issuer it may never have come from.
 *
 * @param mayContainDots The one issuer that would be asked about an opaque token says its tokens look like that.
 * @returns The form, or a denial: `token_malformed`, `jwt_malformed` or, for a JWE, `decryption_failed`.
 */
export function classify(token: string, mayContainDots: boolean, trail?: Trail): Classified | Deny {
  const found = read(token, mayContainDots)
  const is = found.kind === 'deny' ? found.reason : found.kind
  trail?.({ stage: 'classify', passed: found.kind !== 'deny', is, wanted: 'jws or opaque' })
  return found
}

function read(token: string, mayContainDots: boolean): Classified | Deny {
  if (!isToken68(token)) return deny('token_malformed')
  const segments = token.split('.', 6)
  const header = segments.length === 3 || segments.length === 5 ? decodeJoseHeader(segments[0] ?? '') : undefined
  if (segments.length === 3 && typeof header?.['alg'] === 'string') return readSigned(token, header, segments)
  // No decryption key can be configured in this build, so no JWE is ours to read.
  if (segments.length === 5 && header !== undefined && 'enc' in header) return deny('decryption_failed')
  if ((segments.length >= 3 || token.startsWith('eyJ')) && !mayContainDots) return deny('jwt_malformed')
  return token.length > maxOpaqueLength ? deny('token_malformed') : opaque
}

function readSigned(token: string, object: JsonObject, segments: readonly string[]): SignedToken | Deny {
  const [first = '', payload = '', signature = ''] = segments
  const header = readJoseHeader(object)
  const unverified = decodeObject(payload)
  if (typeof header === 'string' || unverified === undefined || decodeBase64url(signature) === undefined)
    return deny('jwt_malformed')
  const signingInput = token.slice(0, first.length + 1 + payload.length)
  return { kind: 'jws', jws: { header, payload, signingInput, signature }, unverified }
}
