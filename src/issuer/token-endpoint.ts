// The token endpoint: RFC 6749 §3.2, §4.4 (client credentials), RFC 8707 (resource indicators).
import type { Json } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import { nowSeconds } from '../base/time.ts'
import type { HttpAnswer, HttpRequest } from '../io/http-server.ts'
import type { Form, Refused } from './answers.ts'
import { json, oauthError, readForm, refuse } from './answers.ts'
import type { Blacklist } from './blacklist.ts'
import type { Authenticator } from './clients.ts'
import type { ClientOptions, RealmOptions, TokenFormat } from './options.ts'
import type { Tokens } from './tokens.ts'

/** What the token endpoint needs. */
export type TokenEndpointDeps = {
  readonly clients: Authenticator<ClientOptions>
  readonly tokens: Tokens
  readonly blacklist: Blacklist
  readonly clock: Clock
}

type Client = Omit<ClientOptions, 'client_secret'>

const formats = { jwt: 'jwt', reference: 'opaque', wrapped: 'wrapped_opaque' } as const satisfies Record<
  string,
  TokenFormat
>

/** Makes the token endpoint of one realm. */
export function createTokenEndpoint(
  realm: RealmOptions,
  { clients, tokens, blacklist, clock }: TokenEndpointDeps,
): (request: HttpRequest) => Promise<HttpAnswer> {
  return async (request) => {
    const form = readForm(request)
    if (form.kind === 'refused') return form.answer
    const caller = await clients.authenticate(request, form)
    if (caller.kind === 'refused') return caller.answer
    const client = caller.party
    const grantType = form.get('grant_type')
    if (grantType === undefined) return oauthError('invalid_request', 'grant_type is missing')
    if (grantType !== 'client_credentials') return oauthError('unsupported_grant_type', 'Only client_credentials is')
    if (!client.grant_types.includes(grantType)) return oauthError('unauthorized_client', 'Not a grant of this client')
    const scope = grantScope(client, form.get('scope'))
    if (scope.kind === 'refused') return scope.answer
    const audience = grantAudience(client, form)
    if (audience.kind === 'refused') return audience.answer

    const lifetime = Math.floor(realm.access_token.lifetime / 1000)
    const { client_id } = client
    // RFC 9068 §2.2: where no resource owner takes part, the client is the subject.
    const subject = client_id
    const iat = nowSeconds(clock)
    // Refused at first, it would be good as soon as the revocation has run out.
    if (blacklist.outlives(new Map<string, Json>(Object.entries({ client_id, sub: subject, iat })), iat + lifetime))
      return oauthError('unauthorized_client', 'The tokens of this client are revoked')
    const token = await tokens.issue({
      clientId: client_id,
      subject,
      scope: scope.scope,
      audience: audience.audience,
      format: client.access_token_type === undefined ? realm.access_token.format : formats[client.access_token_type],
      lifetime,
    })
    return json(200, { access_token: token, token_type: 'bearer', expires_in: lifetime, scope: scope.scope })
  }

  function grantScope(
    client: Client,
    asked: string | undefined,
  ): { readonly kind: 'scope'; readonly scope: string } | Refused {
    if (asked === undefined) return { kind: 'scope', scope: unasked(client).join(' ') }
    const granted = [...new Set(asked.split(' '))].filter((name) => client.scopes.includes(name))
    // RFC 6749 §3.3: less than asked for may be granted, and is told; nothing at all is an error.
    if (granted.length === 0) return refuse('invalid_scope', 'None of the scopes is allowed to this client')
    return { kind: 'scope', scope: granted.join(' ') }
  }

  function unasked(client: Client): readonly string[] {
    switch (realm.on_missing_scope) {
      case 'all':
        return client.scopes
      case 'none':
        return []
      default:
        return (client.default_scopes ?? []).filter((name) => client.scopes.includes(name))
    }
  }

  function grantAudience(
    client: Client,
    form: Form,
  ): { readonly kind: 'audience'; readonly audience: readonly string[] } | Refused {
    const allowed = client.audience ?? [realm.audience]
    const asked = [form.get('resource'), form.get('audience')].filter((name) => name !== undefined)
    if (asked.length === 0) return { kind: 'audience', audience: allowed }
    if (asked.some((name) => !allowed.includes(name)))
      return refuse('invalid_target', 'A resource that is not one of this client')
    return { kind: 'audience', audience: [...new Set(asked)] }
  }
}
