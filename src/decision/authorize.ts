import type { Json } from '../base/json.ts'
import type { Claims } from '../spec/claims.ts'
import type { Deny, Principal, Trail } from './decision.ts'
import { deny, quoted } from './decision.ts'
import type { Rule } from './rules.ts'

/**
 * Judges the scopes and claim conditions of a rule.
 *
 * @returns A denial `scope_missing` or `claim_mismatch`, or undefined when the rule is content.
 */
export function authorize(rule: Rule, { claims }: Principal, trail?: Trail): Deny | undefined {
  const scoped = hasScopes(rule, claims)
  trail?.({ stage: 'authorize.scope', passed: scoped, is: list(claims.scopes), wanted: wantedScopes(rule) })
  if (!scoped) return deny('scope_missing')
  for (const condition of rule.claims) {
    const held = claimOf(claims, condition.name)
    const met = meets(held, condition.oneOf)
    trail?.({
      stage: `authorize.claims.${condition.name}`,
      passed: met,
      is: JSON.stringify(held) ?? 'absent',
      wanted: `one of ${quoted(condition.oneOf)}`,
    })
    if (!met) return deny('claim_mismatch')
  }
  return undefined
}

/** Every scope a rule speaks of, for the challenge (RFC 6750 §3: what is needed for access). */
export function scopesOf(rule: Rule): readonly string[] {
  return rule.scopes.any.length === 0 ? rule.scopes.all : [...rule.scopes.all, ...rule.scopes.any]
}

/** A claim's value as rules and headers see it: `client_id` is `client_id`, else `azp`. */
export function claimOf(claims: Claims, name: string): Json | undefined {
  if (name === 'client_id') return claims.client_id
  return claims.all[name]
}

function hasScopes({ scopes: { all, any } }: Rule, { scopes }: Claims): boolean {
  for (const scope of all) if (!scopes.has(scope)) return false
  return any.length === 0 || any.some((scope) => scopes.has(scope))
}

/** The value, or one member of its array, equals a listed value; a claim that is absent meets nothing. */
function meets(held: Json | undefined, oneOf: Rule['claims'][number]['oneOf']): boolean {
  const equal = (value: Json) => oneOf.some((listed) => listed === value)
  if (held === undefined) return false
  return Array.isArray(held) ? (held as readonly Json[]).some(equal) : equal(held)
}

function wantedScopes({ scopes: { all, any } }: Rule): string {
  const parts = [all.length > 0 ? `all of ${all.join(' ')}` : '', any.length > 0 ? `one of ${any.join(' ')}` : '']
  return parts.filter((part) => part !== '').join(' and ') || 'any'
}

function list(scopes: ReadonlySet<string>): string {
  // One with a space is one, and not two.
  return [...scopes].map((each) => (each.includes(' ') ? JSON.stringify(each) : each)).join(' ') || 'none'
}
