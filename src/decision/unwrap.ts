import type { Json, JsonObject } from '../base/json.ts'
import { sameJson } from '../base/json.ts'
import type { Claims } from '../spec/claims.ts'
import { readClaims } from '../spec/claims.ts'
import type { IntrospectionAnswer } from '../spec/introspection.ts'
import { otherKindAnswered } from '../spec/token-kind.ts'
import { isWrapped } from '../spec/wrapped-token.ts'
import type { SignedToken } from './classify.ts'
import type { Deny, Principal, Trail } from './decision.ts'
import { deny } from './decision.ts'
import type { Rule } from './rules.ts'
import type { TrustedIssuer } from './verify.ts'

/** Whether a signed token of this issuer is a wrapped opaque one (product.md §9). Unverified claims are enough: both mistakes are safe. */
export function isWrapper({ jws, unverified }: SignedToken, issuer: TrustedIssuer): boolean {
  return issuer.wrapped === null || isWrapped(issuer.wrapped, jws.header, unverified)
}

/** Whether facts are fresh enough for a rule. Those of a JWT that nobody was asked about do not age. */
export function isFresh({ askedMs }: Principal, rule: Rule, arrivedMs: number): boolean {
  return askedMs === undefined || askedMs > askedAfterMs(rule, arrivedMs)
}

/** The time (monotonic) after which an issuer must have been asked for its answer to be fresh enough for a rule. */
export function askedAfterMs({ freshness }: Rule, arrivedMs: number): number {
  switch (freshness.kind) {
    case 'always':
      return arrivedMs
    case 'max_age':
      return arrivedMs - freshness.maxAgeMs
    default:
      return Number.NEGATIVE_INFINITY
  }
}

/**
 * Makes one set of facts out of an issuer's answer and what was verified before it was asked.
 *
 * @param verified Undefined for an opaque token.
 * @param askedMs When the question was sent (monotonic).
 * @returns The facts, or a denial: `token_inactive`, `issuer_unknown`, `type_mismatch`, and `wrapper_invalid` for an
 *   answer that contradicts the wrapper.
 * @see RFC 7662 §2.2 and §4
 */
export function reconcile(
  issuer: TrustedIssuer,
  verified: Principal | undefined,
  answer: IntrospectionAnswer,
  askedMs: number,
  trail?: Trail,
): Principal | Deny {
  trail?.({ stage: 'introspect.active', passed: answer.active, is: String(answer.active), wanted: 'true' })
  if (!answer.active) return deny('token_inactive')
  const { claims } = answer
  const contradiction = contradicts(issuer, verified, claims)
  trail?.({
    stage: 'introspect.agrees',
    passed: contradiction === undefined,
    is: contradiction === undefined ? 'no contradiction' : `${contradiction} differs`,
    wanted: verified === undefined ? 'the issuer that was asked' : 'what the signed token says',
  })
  if (contradiction !== undefined) {
    if (verified === undefined) return deny('issuer_unknown')
    return deny(verified.form === 'wrapped' ? 'wrapper_invalid' : 'token_inactive')
  }
  const other = otherKindAnswered(claims)
  if (other !== undefined) {
    trail?.({ stage: 'introspect.use', passed: false, is: `another kind, by ${other}`, wanted: 'an access token' })
    return deny('type_mismatch')
  }
  const known = { kind: 'principal', issuer, askedMs } as const
  if (verified === undefined) return { ...known, form: 'opaque', claims, wrapper: undefined, key: undefined }
  const { form, key } = verified
  if (form === 'wrapped') {
    const exp = Math.min(verified.claims.exp ?? 0, claims.exp ?? Number.POSITIVE_INFINITY) // a wrapper has an exp: checkClaims
    const all = Object.assign(copyOf(claims.all), { exp })
    return { ...known, form, claims: { ...claims, exp, all }, wrapper: verified.claims, key }
  }
  const completed = complete(verified.claims, claims)
  // By a type alone, which the token says otherwise, an answer still demands a proof.
  const binding = completed.binding ?? claims.binding
  return { ...known, form, claims: { ...completed, binding }, wrapper: undefined, key }
}

const identity = ['iss', 'sub', 'client_id', 'jti', 'sid'] as const
// Judged each in its own way, or about the answer rather than the token.
const judged: ReadonlySet<string> = new Set([
  'active',
  'token_type',
  'token_use',
  // What is left of its life, in an answer (ForgeRock).
  'expires_in',
  'username',
  'aud',
  'exp',
  'nbf',
  'scope',
  'scp',
])

/** The first fact in which an answer differs from the token it is about. */
function contradicts(issuer: TrustedIssuer, verified: Principal | undefined, answer: Claims): string | undefined {
  if (answer.iss !== undefined && answer.iss !== issuer.issuer) return 'iss'
  if (verified === undefined) return undefined
  const { claims: token, form } = verified
  for (const name of identity)
    if (token[name] !== undefined && answer[name] !== undefined && token[name] !== answer[name]) return name
  if (token.aud.length > 0 && answer.aud.length > 0 && !answer.aud.some((name) => token.aud.includes(name)))
    return 'aud'
  // A wrapper is metadata; a JWT says the same things the answer does, and which of two is true is not ours to choose.
  if (form === 'wrapped') return undefined
  return Object.keys(answer.all).find(
    (name) => name in token.all && !judged.has(name) && !sameJson(answer.all[name], token.all[name]),
  )
}

/**
 * A JWT's claims, and of the answer's only those that the JWT lacks: an answer completes, and never widens. What the
 * issuer has taken back since it signed is in none of them, also not for headers and conditions.
 */
function complete(token: Claims, answer: Claims): Claims {
  const scoped = 'scope' in token.all || 'scp' in token.all
  const all = copyOf(token.all)
  for (const [name, value] of Object.entries(answer.all)) {
    if (name in all || (scoped && (name === 'scope' || name === 'scp'))) continue
    all[name] = value
  }
  all['exp'] = Math.min(token.exp ?? 0, answer.exp ?? Number.POSITIVE_INFINITY)
  if (token.nbf !== undefined) all['nbf'] = Math.max(token.nbf, answer.nbf ?? 0)
  // One audience, as a text, is in the answer, or it would contradict.
  if (token.aud.length > 0 && Array.isArray(all['aud']) && answer.aud.length > 0)
    all['aud'] = token.aud.filter((name) => answer.aud.includes(name))
  if (scoped && ('scope' in answer.all || 'scp' in answer.all))
    for (const name of ['scope', 'scp']) narrow(all, name, (scope) => answer.scopes.has(scope))
  const read = readClaims(all)
  // Each member was read before, in one of the two.
  if (typeof read === 'string') throw new TypeError(`Cannot complete claims: ${read} became unreadable`)
  return read
}

/** Keeps of a claim that lists scopes, as an array or with spaces between them, those that are still good. */
function narrow(all: Record<string, Json>, name: string, isGood: (scope: string) => boolean): void {
  const value = all[name]
  if (typeof value === 'string') all[name] = value.split(' ').filter(isGood).join(' ')
  else if (Array.isArray(value)) all[name] = value.filter((member) => typeof member === 'string' && isGood(member))
}

/** Without a prototype, as what is copied: a claim may have any name, and none that is absent is to be found. */
function copyOf(all: JsonObject): Record<string, Json> {
  return Object.assign(Object.create(null) as Record<string, Json>, all)
}

/**
 * How long facts may be kept before the issuer is asked, or the signature verified, again.
 *
 * @returns Milliseconds; 0 or less: not at all.
 */
export function keepMs({ issuer, claims, wrapper, askedMs }: Principal, wallMs: number, monotonicMs: number): number {
  const left = claims.exp === undefined ? Number.POSITIVE_INFINITY : claims.exp * 1000 - wallMs
  if (askedMs === undefined) return left + issuer.leewayS * 1000
  // An answer is as old as its question.
  let most = issuer.answersMaxAgeMs ?? 0
  // HEART OAuth profile §3.2.2: at most half of the token's life.
  if (wrapper !== undefined) most = Math.min(most, (((wrapper.exp ?? 0) - (wrapper.iat ?? wallMs / 1000)) * 1000) / 2)
  // What no feed entry can name is at least asked for as often as the feed is.
  if (issuer.pollIntervalMs !== undefined && claims.jti === undefined && wrapper?.jti === undefined)
    most = Math.min(most, issuer.pollIntervalMs)
  return Math.min(most - (monotonicMs - askedMs), left)
}
