// What a realm publishes: RFC 8414 and OpenID Connect Discovery 1.0 metadata, RFC 7517 §5 keys.
import { createHash } from 'node:crypto'
import type { HttpAnswer, HttpRequest } from '../io/http-server.ts'
import { holds } from './answers.ts'
import type { KeyRing } from './keys.ts'
import type { RealmOptions } from './options.ts'

const authMethods = ['client_secret_basic', 'client_secret_post']

/** Writes a realm's metadata document. */
export function formatMetadata(issuer: string, realm: RealmOptions): string {
  const base = issuer.replace(/\/$/, '')
  return JSON.stringify({
    issuer,
    jwks_uri: `${base}/jwks`,
    token_endpoint: `${base}/token`,
    token_endpoint_auth_methods_supported: authMethods,
    grant_types_supported: ['client_credentials'],
    response_types_supported: [],
    scopes_supported: [...new Set(realm.clients.flatMap(({ scopes }) => scopes))],
    introspection_endpoint: `${base}/introspect`,
    introspection_endpoint_auth_methods_supported: authMethods,
    revocation_endpoint: `${base}/revoke`,
    revocation_endpoint_auth_methods_supported: authMethods,
    // Ours, in the manner of RFC 8414 §2: no registered name says where a list of revoked tokens is.
    blacklist_endpoint: `${base}/blacklist`,
  })
}

/** One realm's key set as served. */
export type JwksEndpoint = {
  readonly answer: (request: HttpRequest) => HttpAnswer
  /** How often it was asked for, answers of 304 included. */
  readonly fetches: () => number
}

/** Makes the endpoint of one realm's key set. */
export function createJwksEndpoint(keys: KeyRing): JwksEndpoint {
  let fetches = 0
  let served: { of: readonly object[]; body: string; etag: string } | undefined
  return {
    fetches: () => fetches,
    answer(request) {
      fetches += 1
      const published = keys.published()
      if (served?.of !== published) {
        const body = JSON.stringify({ keys: published })
        const hash = createHash('sha256').update(body).digest('base64url')
        served = { of: published, body, etag: `"${hash.slice(0, 22)}"` }
      }
      const { body, etag } = served
      // 60 s: a shared cache on the way must not hide a new key for longer than anybody's cool-down twice over.
      const headers = { 'Content-Type': 'application/jwk-set+json', ETag: etag, 'Cache-Control': 'public, max-age=60' }
      return holds(request, etag) ? { status: 304, headers } : { status: 200, headers, body }
    },
  }
}
