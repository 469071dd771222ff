// The introspection endpoint: RFC 7662.
import type { Json } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import { nowSeconds } from '../base/time.ts'
import type { HttpAnswer, HttpRequest } from '../io/http-server.ts'
import { json, oauthError, readForm } from './answers.ts'
import type { Blacklist } from './blacklist.ts'
import type { Authenticator } from './clients.ts'
import type { RealmOptions } from './options.ts'
import type { Tokens } from './tokens.ts'

/** Who may introspect, by its credentials, and the audience it stands for. */
export type ResourceServer = RealmOptions['resource_servers'][number]
/** What the introspection endpoint needs. */
export type IntrospectDeps = {
  readonly resourceServers: Authenticator<ResourceServer>
  readonly tokens: Tokens
  readonly blacklist: Blacklist
  readonly clock: Clock
}

/**
 * Makes the introspection endpoint of one realm. A token is active only to the resource server it is for: whoever else
 * asks learns exactly what he would of a token that never was.
 */
export function createIntrospection(deps: IntrospectDeps): (request: HttpRequest) => Promise<HttpAnswer> {
  const { resourceServers, tokens, blacklist, clock } = deps
  return async (request) => {
    const form = readForm(request)
    if (form.kind === 'refused') return form.answer
    const caller = await resourceServers.authenticate(request, form)
    if (caller.kind === 'refused') return caller.answer
    const token = form.get('token')
    if (token === undefined) return oauthError('invalid_request', 'token is missing')
    const claims = activeClaims(token, caller.party.audience)
    if (claims === undefined) return json(200, { active: false })
    // Ours come last: no claim of a token may speak for them.
    return json(200, { ...Object.fromEntries(claims), active: true, token_type: 'bearer', token_use: 'access' })
  }

  function activeClaims(token: string, audience: string): ReadonlyMap<string, Json> | undefined {
    const known = tokens.read(token)
    if (known === undefined || !known.isAccess) return undefined
    const now = nowSeconds(clock)
    const exp = known.claims.get('exp')
    if (typeof exp !== 'number' || exp <= now || blacklist.mayHaveForgotten(exp)) return undefined
    const nbf = known.claims.get('nbf')
    if (nbf !== undefined && !(typeof nbf === 'number' && nbf <= now)) return undefined
    const aud = known.claims.get('aud')
    if (aud !== audience && !(Array.isArray(aud) && aud.includes(audience))) return undefined
    return blacklist.covers(known.claims, known.kid) ? undefined : known.claims
  }
}
