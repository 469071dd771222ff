// From `upstream:` of the configuration to connections.
import { isIP } from 'node:net'
import type { Reminder } from '../../base/reminder.ts'
import { createReminder } from '../../base/reminder.ts'
import type { Clock } from '../../base/time.ts'
import { unixAddress } from '../../base/unix-address.ts'
import type { UpstreamOptions } from '../../gates/options.ts'
import { poolLimits } from '../../gates/options.ts'
import type { Deadlines } from '../../http1/deadlines.ts'
import type { Upstream } from '../../http1/exchange.ts'
import type { Endpoint, Endpoints } from '../../http1/places.ts'
import { createUpstreamPool } from '../../http1/upstream-pool.ts'
import { createSocketOpener } from '../../http1/upstream-socket.ts'
import { createHttp2Upstream } from '../../http2/upstream-pool.ts'
import type { Log } from '../../io/log.ts'
import type { ResolveName } from './addresses.ts'
import { createAddresses } from './addresses.ts'
import type { UpstreamFiles } from './upstream-files.ts'
import { createUpstreamFiles } from './upstream-files.ts'

/** What the way to an upstream needs from the process. */
export type UpstreamDeps = {
  readonly clock: Clock
  readonly deadlines: Deadlines
  readonly readFile: (path: string) => Buffer
  readonly resolve: ResolveName
  readonly log: Log
}

/** One place as configured, and where that is. */
type Target = {
  /** Undefined while its name is looked up for the first time. */
  readonly endpoints: () => readonly Endpoint[] | undefined
  /** There was no connection: the name may stand for other addresses by now. */
  readonly doubt: () => void
  readonly close: () => void
}

// Often enough to know that it is so, and why; the metrics count.
const toldEveryMs = 30_000

/**
 * Makes the way to the upstream of one configuration.
 *
 * @throws MaterialRefused, and what a file that cannot be read throws.
 */
export function createUpstream(options: UpstreamOptions, deps: UpstreamDeps): Upstream {
  const isSecure = placesOf(options).some((place) => place.startsWith('https:'))
  const files = isSecure ? createUpstreamFiles(options.tls ?? {}, deps) : undefined
  const endpoints = createEndpoints(options, files, deps)
  const createPool = options.protocol === 'h2' ? createHttp2Upstream : createUpstreamPool
  const pool = createPool(endpoints, poolLimits(options), deps.deadlines)
  return {
    ...pool,
    close() {
      files?.close()
      endpoints.close()
      pool.close()
    },
  }
}

/** The places of an upstream, as written, without a closing slash. */
export function placesOf({ url, urls = [] }: UpstreamOptions): readonly string[] {
  return [...urls, ...(url === undefined ? [] : [url])].map((each) =>
    each.startsWith(unixAddress) ? each : each.replace(/\/$/, ''),
  )
}

/** What a request of our own says in `Host`. */
export function authorityOf(place: string): string {
  return place.startsWith(unixAddress) ? 'localhost' : place.slice(place.indexOf('//') + 2)
}

function createEndpoints(
  options: UpstreamOptions,
  files: UpstreamFiles | undefined,
  deps: UpstreamDeps,
): Endpoints & { readonly close: () => void } {
  const { clock, log } = deps
  const told = {
    upstream_unreachable: new WeakMap<Endpoint, Reminder>(),
    upstream_reset: new WeakMap<Endpoint, Reminder>(),
  }
  let changed = () => {}
  const targets = placesOf(options).map((place) => createTarget(place, options, files, deps, rearrange))
  let listed = list()
  return {
    list: () => listed,
    watch(tell) {
      changed = tell
    },
    failed(endpoint, why) {
      for (const target of targets) if (target.endpoints()?.includes(endpoint) === true) target.doubt()
      warn('upstream_unreachable', endpoint, why)
    },
    broke: (endpoint, found) => warn('upstream_reset', endpoint, found),
    close() {
      for (const target of targets) target.close()
    },
  }

  function warn(event: keyof typeof told, endpoint: Endpoint, error: string): void {
    const isDue = told[event].get(endpoint) ?? createReminder(toldEveryMs, { clock })
    told[event].set(endpoint, isDue)
    if (isDue()) log.warn(event, { upstream: endpoint.name, error })
  }

  function rearrange(): void {
    listed = list()
    changed()
  }

  /** Undefined while there is none, and names are still looked up. */
  function list(): readonly Endpoint[] | undefined {
    const all = targets.flatMap(({ endpoints }) => endpoints() ?? [])
    return all.length === 0 && targets.some(({ endpoints }) => endpoints() === undefined) ? undefined : all
  }
}

function createTarget(
  place: string,
  { protocol, tls: tlsOptions }: UpstreamOptions,
  files: UpstreamFiles | undefined,
  { deadlines, resolve, log }: UpstreamDeps,
  changed: () => void,
): Target {
  if (place.startsWith(unixAddress)) {
    const path = place.slice(unixAddress.length)
    return fixed({ name: place, open: createSocketOpener({ path }, undefined, protocol) })
  }
  const url = URL.parse(place)
  if (url === null) throw new RangeError('Cannot reach the upstream: its url is none')
  const isSecure = url.protocol === 'https:'
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const port = url.port === '' ? (isSecure ? 443 : 80) : Number(url.port)
  const tls =
    isSecure && files !== undefined
      ? { context: files.context, name: tlsOptions?.server_name ?? host.replace(/\.$/, '') }
      : undefined
  if (isIP(host) !== 0) return fixed({ name: place, open: createSocketOpener({ host, port }, tls, protocol) })
  let held: readonly (Endpoint & { readonly address: string })[] | undefined
  const addresses = createAddresses(host, {
    ...{ resolve, deadlines, log },
    changed() {
      const before = held ?? []
      held = addresses.list().map((address) => {
        const known = before.find((each) => each.address === address)
        if (known !== undefined) return known
        return {
          name: `${place} (${address})`,
          address,
          open: createSocketOpener({ host: address, port }, tls, protocol),
        }
      })
      changed()
    },
  })
  return { endpoints: () => held, doubt: addresses.doubt, close: addresses.close }
}

function fixed(endpoint: Endpoint): Target {
  const endpoints = [endpoint]
  return { endpoints: () => endpoints, doubt() {}, close() {} }
}
