// What `explain` says beyond the comparison that failed: how the issuer's sources are, and the traps of real issuers.
import type { GatewayOptions } from '../../config/schema.ts'
import type { Decision, Deny, TrailStep } from '../../decision/decision.ts'
import type { IssuerSources } from '../issuer-sources.ts'
import { readiness } from '../probes.ts'

/**
 * Why a denial is one, as far as its issuer's sources or habits are the cause: sentences, or nothing.
 *
 * @param failed The comparison that failed.
 * @param sources Those of the issuer that the token is of; undefined where that is not known.
 * @param section The `blacklist:` section.
 */
export function whyDenied(
  { reason, form }: Deny,
  failed: TrailStep | undefined,
  sources: IssuerSources | undefined,
  section: GatewayOptions['blacklist'],
): readonly string[] {
  if (sources === undefined) return []
  switch (reason) {
    case 'keys_unavailable':
      return [keysSaid(sources, section)]
    case 'introspection_unavailable':
    case 'introspection_invalid': {
      const { failure, status } = sources.introspection?.state() ?? {}
      if (failure === undefined) return []
      const said = `Its last failure: ${failure}.`
      return form === 'jwt' && status === 400 ? [said, refusesJwts] : [said]
    }
    case 'blacklist_stale':
      return [listSaid(sources, section)]
    case 'token_inactive':
      return failed?.stage === 'introspect.active' ? [inactive] : []
    case 'audience_mismatch':
      return form !== 'jwt' && failed?.is === 'none' ? [unnamed] : []
    default:
      return []
  }
}

const refusesJwts =
  'Some issuers answer 400 about their own JWTs (node-oidc-provider): `revocation: blacklist` does not ask them.'
const inactive =
  'Some issuers (Keycloak) say so of every token whose aud does not name introspection.client_id; and logout and not-before are seen by the issuer only.'
const unnamed =
  "Some issuers' answers name no audience at all: `require_aud: false` takes those, and with them whatever token of that issuer it calls active: a refresh token, too, where its answers do not say of which kind it is."

/** What an allow says nothing of: a step for a JWT whose issuer was not asked; undefined for any other decision. */
export function unseenStep(decision: Decision): TrailStep | undefined {
  if (decision.kind === 'deny' || decision.principal?.form !== 'jwt' || decision.principal.askedMs !== undefined)
    return undefined
  const is = 'not asked (revocation: blacklist), so logout and not-before at the issuer are not seen'
  return { stage: 'introspect', passed: true, is, wanted: 'nothing' }
}

function keysSaid(sources: IssuerSources, section: GatewayOptions['blacklist']): string {
  const { said } = readiness(sources, section).keys
  const { loaded, stale, failure, suppressed } = sources.jwks.state()
  const isGood = loaded && !stale && failure === undefined && !suppressed
  return `Keys: ${said}${isGood ? ', and the one of this token may be newer (jwks.cool_down)' : ''}.`
}

function listSaid(sources: IssuerSources, section: GatewayOptions['blacklist']): string {
  const { list } = readiness(sources, section)
  return `Blacklist: ${list?.said ?? 'none'}.`
}
