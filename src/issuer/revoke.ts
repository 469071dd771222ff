// The revocation endpoint: RFC 7009.
import type { HttpAnswer, HttpRequest } from '../io/http-server.ts'
import type { Log } from '../io/log.ts'
import { json, oauthError, readForm } from './answers.ts'
import type { Blacklist } from './blacklist.ts'
import type { Authenticator } from './clients.ts'
import type { ClientOptions } from './options.ts'
import type { Tokens } from './tokens.ts'

/** What the revocation endpoint needs. */
export type RevocationDeps = {
  readonly clients: Authenticator<ClientOptions>
  readonly tokens: Tokens
  readonly blacklist: Blacklist
  readonly log: Pick<Log, 'info'>
}

/**
 * Makes the revocation endpoint of one realm. A 200 is sent when the entry is on disk, or when there is nothing to
 * revoke; a storage that fails is the caller's 503.
 */
export function createRevocation(deps: RevocationDeps): (request: HttpRequest) => Promise<HttpAnswer> {
  const { clients, tokens, blacklist, log } = deps
  return async (request) => {
    const form = readForm(request)
    if (form.kind === 'refused') return form.answer
    const caller = await clients.authenticate(request, form)
    if (caller.kind === 'refused') return caller.answer
    const token = form.get('token')
    if (token === undefined) return oauthError('invalid_request', 'token is missing')
    const claims = tokens.read(token)?.claims
    const exp = claims?.get('exp')
    // RFC 7009 §2.2: a token that is unknown, or no longer good anyway, is as good as revoked.
    if (claims === undefined || typeof exp !== 'number' || blacklist.isForgotten(exp)) return json(200, {})
    // RFC 7009 §2.1: not his to revoke, and it must not look as if he had.
    if ((claims.get('client_id') ?? claims.get('azp')) !== caller.party.client_id)
      return oauthError('invalid_grant', 'The token was issued to another client')
    const jti = claims.get('jti')
    if (typeof jti !== 'string') return oauthError('unsupported_token_type', 'A token without jti cannot be revoked')
    const seq = await blacklist.add({
      kind: 'jti',
      value: jti,
      issued_before: null,
      expires_at: Math.ceil(exp),
      cause: 'client',
    })
    log.info('issuer_revoked', { kind: 'jti', cause: 'client', seq })
    return json(200, {})
  }
}
