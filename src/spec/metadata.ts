// RFC 8414 (Authorization Server Metadata) and OpenID Connect Discovery 1.0.
import type { JsonObject } from '../base/json.ts'
import { httpUrlPattern } from '../base/options.ts'

/** The endpoints we use of an issuer's metadata. */
export type EndpointName = 'jwks_uri' | 'introspection_endpoint'

/** Each endpoint's address, or in one clause why there is none: one that cannot be used says nothing of the others. */
export type IssuerMetadata = Readonly<Record<EndpointName, { readonly url: string } | { readonly why: string }>>

const maxUrlLength = 2048

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
    // A server's text: only what can be an issuer is repeated.
    if (typeof named !== 'string' || !/^https?:[!-~]{1,256}$/.test(named))
      return `its issuer is no URL, wanted ${issuer}`
    const hint = withoutSlash(named) === withoutSlash(issuer) ? ' (they differ by a closing slash)' : ''
    return `its issuer is ${named}, wanted ${issuer}${hint}`
  }
  return {
    jwks_uri: readEndpoint('jwks_uri', document),
    introspection_endpoint: readEndpoint('introspection_endpoint', document),
  }
}

function readEndpoint(name: EndpointName, document: JsonObject): IssuerMetadata[EndpointName] {
  const url = document[name]
  if (url === undefined) return { why: `it has no ${name}` }
  const isUrl = typeof url === 'string' && url.length <= maxUrlLength && httpUrlPattern.test(url)
  return isUrl ? { url } : { why: `its ${name} is not a URL` }
}

function withoutSlash(url: string): string {
  return url.endsWith('/') ? url.slice(0, -1) : url
}
