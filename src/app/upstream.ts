// From `upstream:` of the configuration to connections.
import type { UpstreamOptions } from '../gates/options.ts'
import { poolLimits } from '../gates/options.ts'
import type { Deadlines } from '../http1/deadlines.ts'
import type { Upstream } from '../http1/exchange.ts'
import type { Endpoint } from '../http1/upstream-pool.ts'
import { createUpstreamPool } from '../http1/upstream-pool.ts'
import { createSocketOpener } from '../http1/upstream-socket.ts'

/** Makes the way to the upstream of one configuration. */
export function createUpstream(options: UpstreamOptions, deadlines: Deadlines): Upstream {
  const endpoints = placesOf(options).map(endpointOf)
  return createUpstreamPool({ list: () => endpoints }, poolLimits(options), deadlines)
}

/** The origins of an upstream, as written, without a closing slash. */
export function placesOf({ url, urls = [] }: UpstreamOptions): readonly string[] {
  return [...urls, ...(url === undefined ? [] : [url])].map((each) => each.replace(/\/$/, ''))
}

function endpointOf(place: string): Endpoint {
  const url = URL.parse(place)
  if (url === null) throw new RangeError('Cannot reach the upstream: its url is none')
  const { hostname, port } = url
  const address = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port === '' ? 80 : port) }
  return { name: place, open: createSocketOpener(address, undefined) }
}
