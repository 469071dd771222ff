import type { Json } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import type { Deny, Principal, Trail } from './decision.ts'
import { deny } from './decision.ts'
import type { Rule, RuleTable } from './rules.ts'
import type { TrustedIssuer } from './verify.ts'

/** What a configuration decides with: one object, swapped as one. */
export type Policy = {
  readonly rules: RuleTable
  /** By issuer identifier. */
  readonly issuers: ReadonlyMap<string, TrustedIssuer>
  /** The issuer that is asked about a rule's opaque tokens (product.md §2). */
  readonly opaqueIssuer: (rule: Rule) => TrustedIssuer | undefined
}

/** Puts rules and issuers together. */
export function createPolicy(rules: RuleTable, issuers: readonly TrustedIssuer[]): Policy {
  const opaque = new Map(rules.rules.map((rule) => [rule.issuers, findOpaqueIssuer(rule.issuers, issuers)]))
  return {
    rules,
    issuers: new Map(issuers.map((issuer) => [issuer.issuer, issuer])),
    opaqueIssuer: (rule) => opaque.get(rule.issuers),
  }
}

/**
 * The issuer that a rule's opaque tokens belong to: the one it accepts that can be introspected; of several, the one
 * marked.
 *
 * @param accepted Issuer identifiers the rule names; undefined: all.
 */
function findOpaqueIssuer(
  accepted: ReadonlySet<string> | undefined,
  issuers: readonly TrustedIssuer[],
): TrustedIssuer | undefined {
  const asked = issuers.filter(
    ({ issuer, answersMaxAgeMs }) => answersMaxAgeMs !== undefined && (accepted === undefined || accepted.has(issuer)),
  )
  return asked.length === 1 ? asked[0] : asked.find(({ opaque }) => opaque)
}

/** The configured issuer a signed token names, if the rule accepts it; else a denial `issuer_unknown` or `jwt_malformed`. */
export function findIssuer(policy: Policy, rule: Rule, iss: Json | undefined, trail?: Trail): TrustedIssuer | Deny {
  const issuer = typeof iss === 'string' ? policy.issuers.get(iss) : undefined
  const found = issuer !== undefined && accepts(rule, issuer)
  trail?.({
    stage: 'verify.iss',
    passed: found,
    is: JSON.stringify(iss) ?? 'absent',
    wanted: wanted(rule, policy, iss),
  })
  if (iss !== undefined && typeof iss !== 'string') return deny('jwt_malformed')
  return found ? issuer : deny('issuer_unknown')
}

/** Whether a rule takes tokens of the issuer that known facts are from; if not, a denial `issuer_unknown`. */
export function checkIssuer(rule: Rule, { issuer }: Principal, trail?: Trail): Deny | undefined {
  const passed = accepts(rule, issuer)
  trail?.({ stage: 'judge.issuer', passed, is: issuer.issuer, wanted: 'an issuer the rule accepts' })
  return passed ? undefined : deny('issuer_unknown')
}

function accepts(rule: Rule, issuer: TrustedIssuer): boolean {
  return rule.issuers === undefined || rule.issuers.has(issuer.issuer)
}

function wanted(rule: Rule, policy: Policy, iss: Json | undefined): string {
  const names = [...(rule.issuers ?? policy.issuers.keys())]
  // One that is configured was meant, and is not for this rule.
  const guess = typeof iss === 'string' && !policy.issuers.has(iss) ? nearest(iss, names) : undefined
  return `one of ${names.join(', ')}${guess === undefined ? '' : `; perhaps ${guess}`}`
}
