import { decodeBase64url } from '../base/base64url.ts'
import type { JsonObject } from '../base/json.ts'
import { isToken68 } from '../spec/authorization.ts'
import type { CompactJws } from '../spec/jws.ts'
import { decodeJoseHeader, decodeObject, readJoseHeader } from '../spec/jws.ts'
import type { Deny, DenyReason, Trail } from './decision.ts'
import { deny } from './decision.ts'

/** A signed token as its own text has it; nothing in it is verified. */
export type SignedToken = { readonly kind: 'jws'; readonly jws: CompactJws; readonly unverified: JsonObject }

/** What a credential is by its form alone. */
export type Classified = SignedToken | { readonly kind: 'opaque' }

const opaque = { kind: 'opaque' } as const
const wanted = 'jws or opaque'
const maxOpaqueLength = 4096

/**
 * Tells what a token is without trusting anything in it (product.md §9). What looks like a JWT and is none is refused
 * here: as somebody's opaque token it would be sent to an issuer it may never have come from.
 *
 * @param mayContainDots The one issuer that would be asked about an opaque token says its tokens look like that.
 * @returns The form, or a denial: `token_malformed`, `jwt_malformed` or, for a JWE, `decryption_failed`.
 */
export function classify(token: string, mayContainDots: boolean, trail?: Trail): Classified | Deny {
  const found = read(token, mayContainDots, trail)
  if (found.kind !== 'deny') trail?.({ stage: 'classify', passed: true, is: found.kind, wanted })
  return found
}

function read(token: string, mayContainDots: boolean, trail: Trail | undefined): Classified | Deny {
  if (!isToken68(token)) return refuse('token_malformed', 'not token68', trail)
  const segments = token.split('.', 6)
  const header = segments.length === 3 || segments.length === 5 ? decodeJoseHeader(segments[0] ?? '') : undefined
  if (segments.length === 3 && typeof header?.['alg'] === 'string') return readSigned(token, header, segments, trail)
  // No decryption key can be configured in this build, so no JWE is ours to read.
  if (segments.length === 5 && header !== undefined && 'enc' in header)
    return refuse('decryption_failed', 'a JWE', trail)
  if ((segments.length >= 3 || token.startsWith('eyJ')) && !mayContainDots)
    return refuse('jwt_malformed', 'like a JWT, without the header of one', trail)
  return token.length > maxOpaqueLength ? refuse('token_malformed', 'too long for an opaque token', trail) : opaque
}

function readSigned(
  token: string,
  object: JsonObject,
  segments: readonly string[],
  trail: Trail | undefined,
): SignedToken | Deny {
  const [first = '', payload = '', signature = ''] = segments
  const header = readJoseHeader(object)
  if (typeof header === 'string') return refuse('jwt_malformed', `a JWS whose header has a ${header} we refuse`, trail)
  const unverified = decodeObject(payload)
  if (unverified === undefined) return refuse('jwt_malformed', 'claims that are no strict JSON object', trail)
  if (decodeBase64url(signature) === undefined)
    return refuse('jwt_malformed', 'a signature that is not base64url', trail)
  const signingInput = token.slice(0, first.length + 1 + payload.length)
  return { kind: 'jws', jws: { header, payload, signingInput, signature }, unverified }
}

function refuse(reason: DenyReason, is: string, trail: Trail | undefined): Deny {
  trail?.({ stage: 'classify', passed: false, is, wanted })
  return deny(reason)
}
