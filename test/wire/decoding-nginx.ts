// nginx as the upstream that gateways are fooled in front of: it decodes paths, merges slashes, takes `X_User` for `X-User`.
import type { Nginx } from '../support/nginx.ts'
import { startNginx } from '../support/nginx.ts'

/** What it answers for anything below /admin, in any spelling. */
export const secret = 'the secret below admin'

/** Starts one server that decodes once, and one behind it that decodes again. */
export function startDecodingNginx(): Promise<Nginx> {
  return startNginx({ connections: 256, format: (_, port, inner) => serversOf(port, inner) })
}

// What a lax service reads besides the path and the identity it is told.
const overrides = [
  'x_original_url',
  'x_rewrite_url',
  'x_original_uri',
  'x_original_method',
  'x_forwarded_uri',
  'x_forwarded_path',
  'x_forwarded_method',
  'x_forwarded_prefix',
  'x_envoy_original_path',
  'x_http_method_override',
  'x_method_override',
  'x_http_method',
]
const identity = ['x_user', 'x_scope', 'x_client_id', 'x_token_claims', 'x_gw_id']

function serversOf(port: number, inner: number): readonly string[] {
  const told = identity.map((name) => `$http_${name}`).join(',')
  const lax = [
    'underscores_in_headers on; ignore_invalid_headers off; merge_slashes on;',
    `location ~* ^/+admin { return 200 "${secret}"; }`,
  ]
  return [
    'large_client_header_buffers 4 32k;',
    `server { listen 127.0.0.1:${port}; ${lax.join('\n')}`,
    `location = /told { return 200 "${told};${overrides.map((name) => `$http_${name}`).join('')}"; }`,
    // With a variable the path goes on as it was decoded.
    `location / { proxy_pass http://127.0.0.1:${inner}$uri; } }`,
    `server { listen 127.0.0.1:${inner}; rewrite "^([^;]*);[^/]*(.*)$" $1$2; ${lax.join('\n')}`,
    'location / { return 200 "open $uri"; } }',
  ]
}
