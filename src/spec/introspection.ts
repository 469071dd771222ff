// RFC 7662 (Token Introspection).
import type { Json } from '../base/json.ts'
import { isJsonObject } from '../base/json.ts'
import { formEncode } from './authorization.ts'
import type { Claims } from './claims.ts'
import { readClaims } from './claims.ts'

/** What an introspection endpoint said of one token. */
export type IntrospectionAnswer = { readonly active: false } | { readonly active: true; readonly claims: Claims }

/** An issuer's word on a token, or why there is none: what the decisions are told, and the sources tell them. `askedMs` is monotonic. */
export type AskedAnswer =
  | { readonly kind: 'answer'; readonly answer: IntrospectionAnswer; readonly askedMs: number }
  | { readonly kind: 'unavailable' | 'invalid' | 'overloaded'; readonly retryAfterS: number }

/** The body of an introspection request (RFC 7662 §2.1), form-encoded. */
export function formatIntrospectionRequest(token: string): string {
  return `token=${formEncode(token)}&token_type_hint=access_token`
}

/**
 * Reads an introspection answer (RFC 7662 §2.2).
 *
 * @returns The answer, or in one clause why it is no verdict: an answer we cannot read must not become a "no", and
 *   still less a "yes".
 */
export function parseIntrospectionAnswer(body: Json): IntrospectionAnswer | string {
  if (!isJsonObject(body)) return 'it is not an object'
  const { active } = body
  if (active === false) return { active: false }
  // Only the boolean is a yes: the string "false" is truthy, and so is {}.
  if (active !== true) return 'active is not a boolean'
  const claims = readClaims(body)
  if (typeof claims === 'string') return `${claims} is of the wrong type, size or range`
  return { active: true, claims }
}
