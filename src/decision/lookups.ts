import type { AskedAnswer } from '../spec/introspection.ts'
import type { KeyAnswer, KeyWanted } from '../spec/jwk.ts'
import type { RevocationHit } from '../spec/revocation.ts'
import type { Deny, Principal, Trail } from './decision.ts'
import { deny } from './decision.ts'
import type { TrustedIssuer } from './verify.ts'

/**
 * Whether a token is on a list, and what it was found by; `stale`: nobody can tell. A number (`on_stale: introspect`):
 * the issuer itself has to have been asked after that time (monotonic ms).
 */
export type Revocation = 'clear' | RevocationHit | 'stale' | number

/**
 * What the gateway needs to know from elsewhere. Each is a function, so that the whole path runs without a socket. A
 * request with a trail is one that nobody sent: it is not counted.
 */
export type Lookups = {
  /** Facts kept about a token, found by issuer and every byte of it; an opaque token's issuer is the one given. */
  readonly known: (token: string, opaqueIssuer: TrustedIssuer | undefined, trail?: Trail) => Principal | undefined
  readonly remember: (token: string, principal: Principal) => void
  /** Lets go of facts that their issuer no longer stands by. */
  readonly forget: (token: string, issuer: TrustedIssuer) => void
  /** Whether the key that made a signature is still in its issuer's set, and the set is not too old. */
  readonly holdsKey: (principal: Principal) => boolean
  /** Whether an issuer has no set, or one too old to say which keys it has. */
  readonly keysAreStale: (issuer: TrustedIssuer) => boolean
  readonly key: (issuer: TrustedIssuer, wanted: KeyWanted) => KeyAnswer | Promise<KeyAnswer>
  /** An answer to a question sent after `afterMs` (monotonic). */
  readonly introspect: (issuer: TrustedIssuer, token: string, afterMs: number) => AskedAnswer | Promise<AskedAnswer>
  readonly revoked: (principal: Principal, trail?: Trail) => Revocation | Promise<Revocation>
}

/** What a key look-up without a key means for the request. */
export function denyKey(answer: Exclude<KeyAnswer, { kind: 'key' }>, trail?: Trail): Deny {
  const wanted = 'a usable key of this kid in the key set'
  trail?.({ stage: 'verify.key', passed: false, is: answer.kind, wanted })
  if (answer.kind === 'unknown') return deny('key_unknown')
  return { kind: 'deny', reason: 'keys_unavailable', retryAfterS: answer.retryAfterS }
}

/** What an introspection without a verdict means for the request; `impossible`: no issuer that could be asked. */
export function denyIntrospection(
  answer: Exclude<AskedAnswer, { kind: 'answer' }> | 'impossible',
  trail?: Trail,
): Deny {
  const is = answer === 'impossible' ? 'no issuer of this rule that can be asked' : answer.kind
  trail?.({ stage: 'introspect', passed: false, is, wanted: "the issuer's answer" })
  if (answer === 'impossible') return deny('issuer_unknown')
  return { kind: 'deny', reason: askedReasons[answer.kind], retryAfterS: answer.retryAfterS }
}

const askedReasons = {
  unavailable: 'introspection_unavailable',
  invalid: 'introspection_invalid',
  overloaded: 'overloaded',
} as const

/** What the lists say of a token; a list that is too old is made up for by an issuer that was asked since. */
export function checkRevocation(revocation: Revocation, trail?: Trail): Deny | undefined {
  const passed = revocation === 'clear' || typeof revocation === 'number'
  trail?.({ stage: 'revocation', passed, is: revocationSaid(revocation), wanted: 'clear' })
  if (passed) return undefined
  return deny(revocation === 'stale' ? 'blacklist_stale' : 'token_revoked')
}

function revocationSaid(revocation: Revocation): string {
  if (typeof revocation === 'string') return revocation
  if (typeof revocation === 'number') return 'list too old, issuer asked instead'
  const { kind, cause } = revocation
  return `revoked by its ${kind}, on ${cause === 'local' ? "the operator's own list" : `the issuer's list (cause ${cause})`}`
}
