import type { BearerCredential } from '../spec/authorization.ts'
import { parseBearer } from '../spec/authorization.ts'
import type { Deny, Trail } from './decision.ts'
import { deny } from './decision.ts'

/** The one access token of a request; its alphabet is not yet judged. */
export type Credential = Extract<BearerCredential, { kind: 'bearer' }>

const denied = {
  missing: deny('token_missing'),
  repeated: deny('token_repeated'),
  malformed: deny('token_malformed'),
} as const

/**
 * Finds the one access token a request carries. Only the Authorization header is looked at: never the query, a cookie
 * or a body.
 *
 * @param authorization Every `Authorization` field line received, in order: repeats matter.
 * @returns The credential, or a denial: `token_missing`, `token_repeated` or `token_malformed`.
 * @see RFC 6750 §2.1 and §3.1
 */
export function extractToken(authorization: readonly string[], trail?: Trail): Credential | Deny {
  const bearer = parseBearer(authorization)
  trail?.({ stage: 'extract', passed: bearer.kind === 'bearer', is: bearer.kind, wanted: 'one Bearer credential' })
  return bearer.kind === 'bearer' ? bearer : denied[bearer.kind]
}
