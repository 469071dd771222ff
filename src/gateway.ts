import type { Clock } from './base/time.ts'
import { authorize } from './decision/authorize.ts'
import type { SignedToken } from './decision/classify.ts'
import { classify } from './decision/classify.ts'
import { confirm } from './decision/confirm.ts'
import type { Allow, Decision, DecisionPath, Deny, Principal, Trail } from './decision/decision.ts'
import { deny } from './decision/decision.ts'
import { extractToken } from './decision/extract.ts'
import type { Lookups, Revocation } from './decision/lookups.ts'
import { checkRevocation, denyIntrospection, denyKey } from './decision/lookups.ts'
import type { Policy } from './decision/policy.ts'
import { checkIssuer, findIssuer } from './decision/policy.ts'
import type { AccessRequest } from './decision/request.ts'
import type { Rule } from './decision/rules.ts'
import { askedAfterMs, isFresh, isWrapper, reconcile } from './decision/unwrap.ts'
import type { TrustedIssuer } from './decision/verify.ts'
import { checkAudience, checkClaims, checkHeader, checkSignature, checkTimes } from './decision/verify.ts'

/** Decides requests. */
export type Gateway = {
  /** At once when the token's facts are known and fresh, else with a promise. */
  readonly decide: (request: AccessRequest, trail?: Trail) => Decision | Promise<Decision>
  /**
   * Whether what was allowed, perhaps under another configuration, may go on: the same facts, at this time, with the
   * keys and lists of now. Its issuer is not asked about the token again.
   */
  readonly recheck: (allow: Allow) => Deny | undefined | Promise<Deny | undefined>
}

/** One request with its token, and the rule that judges it. */
type Asked = {
  readonly token: string
  readonly request: AccessRequest
  readonly rule: Rule
  readonly trail?: Trail | undefined
}

/** The path of one request, top to bottom. A stage returns its product or a denial; none of them logs or counts. */
export function createGateway(policy: Policy, lookups: Lookups, clock: Clock): Gateway {
  return { decide, recheck }

  function decide(request: AccessRequest, trail?: Trail): Decision | Promise<Decision> {
    const rule = policy.rules.match(request, trail)
    if (rule.kind === 'deny') return rule
    if (rule.public) return { kind: 'allow', reason: 'public', rule, principal: null, path: 'none' }
    const credential = extractToken(request.authorization, trail)
    if (credential.kind === 'deny') return { ...credential, rule }
    const asked = { token: credential.token, request, rule, trail }
    const known = lookups.known(asked.token, policy.opaqueIssuer(rule), trail)
    if (known === undefined || !isFresh(known, rule, request.arrivedMs) || !lookups.holdsKey(known))
      return identify(asked).then((found) => settle(found, asked))
    return judge(known, known.askedMs === undefined ? 'jwt_cached' : 'introspect_cached', asked)
  }

  /** Finds the facts about a token that was not seen before, or not lately enough for the rule. */
  async function identify(asked: Asked): Promise<Principal | Deny> {
    const { token, rule, trail } = asked
    const opaqueIssuer = policy.opaqueIssuer(rule)
    const classified = classify(token, opaqueIssuer?.opaqueMayContainDots === true, trail)
    if (classified.kind === 'deny') return classified
    if (classified.kind === 'opaque') return await introspect(opaqueIssuer, undefined, asked)
    const issuer = findIssuer(policy, rule, classified.unverified['iss'], trail)
    if (issuer.kind === 'deny') return issuer
    const form = isWrapper(classified, issuer) ? 'wrapped' : 'jwt'
    const verified = await verify(classified, form, issuer, asked)
    if (verified.kind === 'deny') return { ...verified, issuer, form, path: 'jwt_verified' }
    if (form === 'wrapped' || issuer.revocation === 'introspect') return await introspect(issuer, verified, asked)
    return verified
  }

  /** Header, key, signature, claims: nothing in a token is believed before its signature. */
  async function verify(
    signed: SignedToken,
    form: 'jwt' | 'wrapped',
    issuer: TrustedIssuer,
    asked: Asked,
  ): Promise<Principal | Deny> {
    const { request, trail } = asked
    const header = checkHeader(signed, form, issuer, trail)
    if (header.kind === 'deny') return header
    const found = await lookups.key(issuer, { ...header.wanted, arrivedMs: request.arrivedMs })
    if (found.kind !== 'key') return denyKey(found, trail)
    const forged = checkSignature(signed, header.wanted.algorithm, found.key, trail)
    return forged ?? checkClaims(signed, form, issuer, found.key, clock.wallMs(), trail)
  }

  /** Asks a token's issuer about it (RFC 7662) and makes one set of facts of the answer and what was verified before. */
  async function introspect(
    issuer: TrustedIssuer | undefined,
    verified: Principal | undefined,
    asked: Asked,
  ): Promise<Principal | Deny> {
    const { token, request, rule, trail } = asked
    const form = verified?.form ?? 'opaque'
    if (issuer?.answersMaxAgeMs === undefined) return { ...denyIntrospection('impossible', trail), issuer, form }
    const found = await lookups.introspect(issuer, token, askedAfterMs(rule, request.arrivedMs))
    if (found.kind !== 'answer') return { ...denyIntrospection(found, trail), issuer, form, path: 'introspect_remote' }
    const made = reconcile(issuer, verified, found.answer, found.askedMs, trail)
    if (made.kind === 'principal') return made
    // Whatever the answer says against it, what an older one said for it holds no more.
    lookups.forget(token, issuer)
    return { ...made, issuer, form, path: 'introspect_remote' }
  }

  function settle(found: Principal | Deny, asked: Asked): Decision | Promise<Decision> {
    if (found.kind === 'deny') return { ...found, rule: asked.rule }
    lookups.remember(asked.token, found)
    return judge(found, found.askedMs === undefined ? 'jwt_verified' : 'introspect_remote', asked)
  }

  /** Judges facts for this request, whether they were known or not: issuer, times, audience, proof, revocation, scope. */
  function judge(principal: Principal, path: DecisionPath, asked: Asked): Decision | Promise<Decision> {
    const { rule, trail } = asked
    const refused =
      checkIssuer(rule, principal, trail) ??
      checkTimes(principal, clock.wallMs(), trail) ??
      checkAudience(rule, principal, trail) ??
      confirm(principal, asked.request.certificate, trail)
    if (refused !== undefined) return { ...refused, rule, issuer: principal.issuer, form: principal.form, path }
    const revocation = lookups.revoked(principal, trail)
    if (!(revocation instanceof Promise)) return conclude(revocation, principal, path, asked)
    return revocation.then((answer) => conclude(answer, principal, path, asked))
  }

  function conclude(
    revocation: Revocation,
    principal: Principal,
    path: DecisionPath,
    asked: Asked,
  ): Decision | Promise<Decision> {
    const { rule, request, trail } = asked
    // Asked since this request came: there is no newer answer to be had for it, however long the issuer takes.
    const isAnswered = principal.askedMs !== undefined && principal.askedMs >= request.arrivedMs
    if (isTooOld(revocation, principal) && !isAnswered)
      return askAgain(principal, asked).then((found) => settle(found, asked))
    const refused = checkRevocation(revocation, trail) ?? authorize(rule, principal, trail)
    if (refused !== undefined) return { ...refused, rule, issuer: principal.issuer, form: principal.form, path }
    return { kind: 'allow', reason: 'ok', rule, principal, path }
  }

  /** Facts that an answer is in do not tell what the token says by itself, which the next answer is held against. */
  function askAgain(principal: Principal, asked: Asked): Promise<Principal | Deny> {
    return principal.askedMs === undefined ? introspect(principal.issuer, principal, asked) : identify(asked)
  }

  function recheck({ rule, principal: known }: Allow): Deny | undefined | Promise<Deny | undefined> {
    if (known === null) return undefined
    const issuer = policy.issuers.get(known.issuer.issuer)
    if (issuer === undefined) return deny('issuer_unknown')
    const principal = issuer === known.issuer ? known : { ...known, issuer }
    const refused = checkTimes(principal, clock.wallMs()) ?? checkAudience(rule, principal)
    if (refused !== undefined) return refused
    if (!lookups.holdsKey(principal)) return deny(lookups.keysAreStale(issuer) ? 'keys_unavailable' : 'key_unknown')
    const revocation = lookups.revoked(principal)
    if (revocation instanceof Promise) return revocation.then((answer) => checkStream(answer, principal))
    return checkStream(revocation, principal)
  }

  /** There will be no other answer. */
  function checkStream(revocation: Revocation, principal: Principal): Deny | undefined {
    return checkRevocation(isTooOld(revocation, principal) ? 'stale' : revocation)
  }
}

/** Whether a list is too old to speak, and no answer of the issuer that came since makes up for it. */
function isTooOld(revocation: Revocation, { askedMs }: Principal): boolean {
  return typeof revocation === 'number' && !(askedMs !== undefined && askedMs > revocation)
}
