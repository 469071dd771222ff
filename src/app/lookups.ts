import type { Clock } from '../base/time.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { Principal, Trail } from '../decision/decision.ts'
import type { Lookups, Revocation } from '../decision/lookups.ts'
import { keepMs } from '../decision/unwrap.ts'
import type { TrustedIssuer } from '../decision/verify.ts'
import type { BlacklistAnswer } from '../sources/held-list.ts'
import type { KnownTokens } from '../sources/known-tokens.ts'
import type { LocalList } from '../sources/local-list.ts'
import type { RevocableToken, RevocationHit } from '../spec/revocation.ts'
import type { IssuerSources } from './issuer-sources.ts'
import type { GatewayMetrics } from './metrics.ts'

/** What all configurations of one process share. */
export type LookupDeps = {
  readonly clock: Clock
  readonly known: KnownTokens<Principal>
  readonly localList: LocalList
  readonly counted: GatewayMetrics
}

/** What lists are asked about a token and about its wrapper; one of each, so that a list can note what it has seen. */
type Revocables = { readonly token: RevocableToken; readonly shell: RevocableToken | undefined }

/**
 * Gives the gateway of one configuration its facts.
 *
 * @param issuers Those of this configuration: facts learned under another one are not found through these look-ups.
 */
export function createLookups(
  issuers: readonly IssuerSources[],
  { on_stale: onStale, max_staleness: maxStalenessMs }: GatewayOptions['blacklist'],
  { clock, known, localList, counted }: LookupDeps,
): Lookups {
  const sources = new Map(issuers.map((each) => [each.trusted, each]))
  const revocables = new WeakMap<Principal, Revocables>()
  // Most requests are for tokens of the issuer that the one before was for, and each asks for its sources again and again.
  let last: IssuerSources | undefined
  return {
    known(token, opaqueIssuer, trail) {
      const found = known.find(token, opaqueIssuer?.issuer)
      const held = found !== undefined && (found.issuer === last?.trusted || sources.has(found.issuer))
      if (trail === undefined) counted.tokenCache(held)
      return held ? found : undefined
    },
    remember(token, principal) {
      known.remember(token, principal, keepMs(principal, clock.wallMs(), clock.monotonicMs()))
    },
    forget: (token, issuer) => known.forget(token, issuer.issuer),
    holdsKey: ({ issuer, key }) => key === undefined || sourcesOf(issuer).jwks.holds(key),
    keysAreStale: (issuer) => sourcesOf(issuer).jwks.state().stale,
    key: (issuer, wanted) => sourcesOf(issuer).jwks.key(wanted),
    introspect(issuer, token, afterMs) {
      const { introspection } = sourcesOf(issuer)
      // The gateway asks only issuers whose answers may be kept: those with introspection.
      if (introspection === undefined) throw new TypeError('Cannot introspect: the issuer has no introspection')
      return introspection.ask(token, afterMs)
    },
    revoked(principal, trail) {
      const { issuer } = principal
      const { blacklist } = sourcesOf(issuer)
      const { token, shell } = revocablesOf(principal)
      const local = localList.find(issuer.issuer, token) ?? (shell && localList.find(issuer.issuer, shell))
      if (local !== undefined) return hit(issuer, local, trail)
      if (blacklist === undefined) return 'clear'
      const answer = blacklist.check(token)
      if (shell === undefined && !(answer instanceof Promise)) return verdict(issuer, answer, trail)
      const second = shell && blacklist.check(shell)
      if (!(answer instanceof Promise || second instanceof Promise))
        return verdict(issuer, either(answer, second), trail)
      return Promise.all([answer, second]).then(([one, other]) => verdict(issuer, either(one, other), trail))
    },
  }

  function revocablesOf(principal: Principal): Revocables {
    const kept = revocables.get(principal)
    if (kept !== undefined) return kept
    const made = makeRevocables(principal)
    revocables.set(principal, made)
    return made
  }

  function sourcesOf(issuer: TrustedIssuer): IssuerSources {
    if (last?.trusted === issuer) return last
    const found = sources.get(issuer)
    if (found === undefined) throw new TypeError('Cannot look up: the issuer is of another configuration')
    last = found
    return found
  }

  function verdict(issuer: TrustedIssuer, answer: BlacklistAnswer, trail: Trail | undefined): Revocation {
    if (answer === undefined) return 'clear'
    if (answer !== 'stale') return hit(issuer, answer, trail)
    const state = sourcesOf(issuer).blacklist?.state()
    // product.md §6: only the operator's own word replaces a list that is too old, and only where there was one. A
    // look-up that failed is no old list.
    if (state?.loaded !== true || !state.stale || onStale === 'deny') return 'stale'
    return onStale === 'allow' ? 'clear' : clock.monotonicMs() - maxStalenessMs
  }

  function hit(issuer: TrustedIssuer, found: RevocationHit, trail: Trail | undefined): Revocation {
    if (trail === undefined) counted.revoked(issuer.issuer, found.cause)
    return found
  }
}

/**
 * A wrapped token was issued once, whichever of its two parts tells when, and the earlier time counts: an answer need
 * not say (RFC 7662 §2.2), and one that says less than was signed makes no old token a new one.
 */
function makeRevocables({ claims, wrapper, key }: Principal): Revocables {
  const kid = key?.kid
  if (wrapper === undefined) return { token: { claims, kid }, shell: undefined }
  if (claims.iat === wrapper.iat) return { token: { claims, kid }, shell: { claims: wrapper, kid } }
  const iat = Math.min(claims.iat ?? Number.POSITIVE_INFINITY, wrapper.iat ?? Number.POSITIVE_INFINITY)
  return { token: { claims: { ...claims, iat }, kid }, shell: { claims: { ...wrapper, iat }, kid } }
}

/** Either name of a wrapped token is enough to revoke it, and neither alone is enough to clear it. */
function either(one: BlacklistAnswer, other: BlacklistAnswer): BlacklistAnswer {
  return typeof one === 'object' ? one : typeof other === 'object' ? other : (one ?? other)
}
