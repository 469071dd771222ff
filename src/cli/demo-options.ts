// What the demo's issuers and its gateway are told.
import type { IssuerOptions } from '../issuer/options.ts'
import { parseIssuerOptions } from '../issuer/options.ts'

/** How often the demo's gateway polls for revoked tokens, milliseconds; a minute is usual. */
export const pollMs = 300
/** What the service behind the gateway is called in a token's `aud`. */
export const audience = 'orders-api'

/** The demo's secrets, made anew at every start. */
export type DemoSecrets = { readonly client: string; readonly gateway: string; readonly admin: string }

/** Two issuers: `a` signs with ES256, `b` with RS256, both known under the port of a line that can be cut. */
export function issuersOf(linePort: number, { client, gateway, admin }: DemoSecrets): IssuerOptions {
  const common = {
    audience,
    clients: [{ client_id: 'web', client_secret: client, scopes: ['orders:read', 'orders:write'] }],
    resource_servers: [{ client_id: 'gateway', client_secret: gateway, audience }],
    admin: { token: admin },
  }
  const origin = `http://127.0.0.1:${linePort}`
  return parseIssuerOptions({
    version: 1,
    listen: '127.0.0.1:0',
    store: 'memory',
    realms: [
      { issuer: `${origin}/a`, ...common },
      { issuer: `${origin}/b`, preset: 'workforce', ...common },
    ],
  })
}

/** The name of the variable the gateway's secret is read from. */
export const secretVariable = 'POSTERN_DEMO_SECRET'

/** The gateway's configuration: read orders with one scope, write them with another, health for everybody. */
export function gatewayText(at: { readonly a: string; readonly b: string; readonly service: number }): string {
  const issuer = (url: string, more: string) => `
  - issuer: ${url}
    audience: ${audience}
    jwks: { cool_down: 1s }
    introspection: { client_id: gateway, client_secret: { env: ${secretVariable} } }
    blacklist: { url: ${url}/blacklist }${more}`
  return `version: 1
listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' }
upstream: { url: 'http://127.0.0.1:${at.service}' }
issuers:${issuer(at.a, '\n    opaque: true')}${issuer(at.b, '')}
blacklist: { poll_interval: ${pollMs}ms }
rules:
  - id: read-orders
    match: { methods: [GET], path: '/orders/{id}' }
    scopes: [orders:read]
  - id: write-orders
    match: { methods: [POST], path: '/orders/{id}' }
    scopes: [orders:write]
  - id: health
    match: { methods: [GET], path: /healthz }
    public: true
identity_headers: { x-auth-subject: sub, x-auth-client: client_id, x-auth-scope: scope }
`
}
