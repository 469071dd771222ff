// From `upstream:` of the configuration to connections.
import type { GatewayOptions } from '../config/schema.ts'
import type { Deadlines } from '../http1/deadlines.ts'
import type { Upstream } from '../http1/exchange.ts'
import type { Endpoint } from '../http1/upstream-pool.ts'
import { createUpstreamPool } from '../http1/upstream-pool.ts'
import { createSocketOpener } from '../http1/upstream-socket.ts'

// security.md §4.1.
const limits = {
  response: { fields: { bytes: 65_536, count: 200, one: 32_768 } },
  connectMs: 2000,
  headMs: 30_000,
  bodyMs: 60_000,
  keepAliveMs: 4000,
  connections: 256,
  queued: 1024,
  queuedMs: 2000,
} as const

/** Makes the way to the upstream of one configuration. */
export function createUpstream(options: GatewayOptions['upstream'], deadlines: Deadlines): Upstream {
  const endpoints = [options.url].map(endpointOf)
  return createUpstreamPool({ list: () => endpoints }, limits, deadlines)
}

function endpointOf(url: string): Endpoint {
  const { hostname, port } = new URL(url)
  const address = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port === '' ? 80 : port) }
  return { name: url, open: createSocketOpener(address, undefined) }
}
