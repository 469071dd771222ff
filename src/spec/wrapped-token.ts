// Wrapped opaque tokens: product specification §9. A signed shell with metadata only; the data is at the issuer.
import type { Json, JsonObject } from '../base/json.ts'
import type { JoseHeader } from './jws.ts'

/** How one issuer marks its wrapped tokens; every member given must match. */
export type WrappedMark = {
  readonly typ?: readonly string[] | undefined
  readonly kid?: readonly string[] | undefined
  /** A claim that must be there. */
  readonly claim_present?: string | undefined
  /** A claim that must not be there. */
  readonly claim_absent?: string | undefined
}

/** Whether a signed token is a wrapper by the issuer's mark. Media types compare without case and `application/`. */
export function isWrapped(mark: WrappedMark, header: JoseHeader, claims: JsonObject): boolean {
  const { typ, kid, claim_present: present, claim_absent: absent } = mark
  if (typ !== undefined && !typ.some((name) => header.typ !== undefined && mediaType(name) === mediaType(header.typ)))
    return false
  if (kid !== undefined && !(header.kid !== undefined && kid.includes(header.kid))) return false
  if (present !== undefined && !has(claims, present)) return false
  return absent === undefined || !has(claims, absent)
}

/** A `typ` in the form it compares in: lower-case, without `application/` (RFC 7515 §4.1.9). */
export function mediaType(typ: string): string {
  const lower = typ.toLowerCase()
  return lower.startsWith('application/') ? lower.slice(12) : lower
}

function has(claims: JsonObject, name: string): boolean {
  const value: Json | undefined = claims[name]
  return value !== undefined && value !== null
}
