import type { Deny, Principal, Trail } from './decision.ts'
import { deny } from './decision.ts'

/**
 * Demands the proof of possession that a bound token needs (RFC 7800 `cnf`). No method of proof is checked in this
 * build, so a bound token is never accepted: as a bearer token it would be worth what a stolen one is (RFC 9449 §7.2).
 *
 * @returns A denial `proof_missing`, or undefined for a token that is bound to nothing.
 */
export function confirm({ claims, wrapper }: Principal, trail?: Trail): Deny | undefined {
  const bound = claims.bound || wrapper?.bound === true
  trail?.({
    stage: 'confirm',
    passed: !bound,
    is: bound ? 'bound to a key (cnf)' : 'a bearer token',
    wanted: 'a bearer token',
  })
  return bound ? deny('proof_missing') : undefined
}
