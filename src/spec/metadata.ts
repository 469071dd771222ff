// RFC 8414 (Authorization Server Metadata) and OpenID Connect Discovery 1.0.
import type { JsonObject } from '../base/json.ts'

/** The endpoints we use of an issuer's metadata; absent where the document has none. */
export type IssuerMetadata = {
  readonly jwks_uri: string | undefined
  readonly introspection_endpoint: string | undefined
}

/**
 * Where an issuer's metadata may be, in the order to try (RFC 8414 §3 inserts the well-known part between host and
 * path, OpenID Connect Discovery §4 appends it).
 *
 * @param issuer The issuer identifier exactly as configured.
 */
export function metadataUrls(issuer: string): readonly string[] {
  const [, origin = '', path = ''] = /^(https?:\/\/[^/]+)(.*)$/.exec(issuer) ?? []
  const trimmed = path.endsWith('/') ? path.slice(0, -1) : path
  return [
    ...new Set([
      `${origin}${trimmed}/.well-known/openid-configuration`,
      `${origin}/.well-known/oauth-authorization-server${trimmed}`,
      `${origin}/.well-known/openid-configuration${trimmed}`,
    ]),
  ]
}

/**
 * Reads a metadata document.
 *
 * @returns The endpoints, or in one clause why the document is refused. The `issuer` in it must be the configured one,
 *   character for character (RFC 8414 §3.3): else one issuer could speak for another.
 */
export function parseMetadata(document: JsonObject, issuer: string): IssuerMetadata | string {
  const named = document['issuer']
  if (named !== issuer) {
    // The usual mistake is told. The name itself is not: it is a server's text.
    const isNear = typeof named === 'string' && withoutSlash(named) === withoutSlash(issuer)
    return isNear
      ? `its issuer is the configured ${issuer} but for a closing slash`
      : `its issuer is not the configured ${issuer}`
  }
  const { jwks_uri, introspection_endpoint } = document
  for (const url of [jwks_uri, introspection_endpoint]) {
    if (url !== undefined && !(typeof url === 'string' && /^https?:\/\/[^\s/?#@]+(?:[/?][^\s#]*)?$/.test(url)))
      return 'an endpoint in it is not a URL'
  }
  return {
    jwks_uri: jwks_uri as string | undefined, // both checked above
    introspection_endpoint: introspection_endpoint as string | undefined,
  }
}

function withoutSlash(url: string): string {
  return url.endsWith('/') ? url.slice(0, -1) : url
}
