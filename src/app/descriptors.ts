// The descriptors this process may have open, and who gets them.
import type { LimitsOptions, UpstreamOptions } from '../gates/options.ts'
import { issuerQueue } from '../sources/issuer-queue.ts'

// Listeners, pipes, files, and what Node has for itself; where there are few, not more than half of them.
const ownDescriptors = 64
// Of the health and of the admin listener each; where there are few, a sixteenth.
const sideConnections = 256
// A worker's pipes, of which both ends are open while it is forked.
const workerDescriptors = 8
// Of an issuer: for its keys, its metadata and its feed, and one that is about to close.
const sourceConnections = 4

/** What needs most of them. */
export type DescriptorNeeds = {
  readonly limits: Pick<LimitsOptions, 'connections'>
  readonly upstream: Pick<UpstreamOptions, 'max_connections'>
  readonly issuers: readonly { readonly introspection?: unknown; readonly blacklist?: unknown }[]
}

/** A limit of descriptors that is less than a configuration may need, such as 1024 where 10,832 are wanted. */
export type DescriptorShortage = { readonly limit: number; readonly wanted: number }

/** How many connections there may be, so that nobody takes the last descriptor of somebody else. */
export type DescriptorShares = {
  /** Of clients: `limits.connections`, or less. */
  readonly clients: number
  /** To the upstream: `max_connections`, or less. */
  readonly upstream: number
  /** Of the health and of the admin listener each. */
  readonly side: number
  /** To each issuer for introspection, and as many for look-ups: as its queues have, or less. */
  readonly maxInFlight: number
  /** Of clients, in the primary of so many workers, that none of these has taken yet. */
  readonly untaken: (workers: number) => number
  /** Undefined where there are enough, or where the system does not say (`/proc/self/limits` is Linux's). */
  readonly shortage: DescriptorShortage | undefined
}

/**
 * Shares the descriptors out. What is over a share is closed and counted; without shares one client with many idle
 * connections would take those of the probes, of other clients, and of the files that are read again.
 */
export function shareDescriptors(
  { limits, upstream, issuers }: DescriptorNeeds,
  readFile: (path: string) => Buffer,
): DescriptorShares {
  const { maxInFlight: most } = issuerQueue
  const sources = issuers.length * sourceConnections
  const queues = issuers.flatMap((each) => [each.introspection, each.blacklist]).filter((each) => each !== undefined)
  const toIssuers = sources + queues.length * most
  const wanted = limits.connections + upstream.max_connections + toIssuers + ownDescriptors + 2 * sideConnections
  const limit = readDescriptorLimit(readFile)
  const side = Math.max(1, Math.min(sideConnections, Math.floor(limit / 16)))
  const ours = Math.max(2, limit - Math.min(ownDescriptors, Math.floor(limit / 2)) - 2 * side)
  // Of too few all issuers together get no more than a third.
  const asked = Math.min(toIssuers, Math.floor(ours / 3))
  // Where there are enough, a reload may bring more questions than there are now.
  const fitting = Math.floor((asked - sources) / Math.max(1, queues.length))
  const maxInFlight = asked === toIssuers ? most : Math.max(1, fitting)
  const left = ours - asked
  // Of too few the upstream gets no more than half: each of its connections is for a client's.
  const clients = Math.min(limits.connections, Math.max(left - upstream.max_connections, Math.floor(left / 2)))
  return {
    clients,
    upstream: Math.min(upstream.max_connections, left - clients),
    side,
    maxInFlight,
    untaken: (workers) => Math.max(1, ours - workers * workerDescriptors),
    shortage: limit < wanted ? { limit, wanted } : undefined,
  }
}

/** Node raises the soft limit to the hard one as it starts, and workers inherit it. */
function readDescriptorLimit(readFile: (path: string) => Buffer): number {
  let text: string
  try {
    text = readFile('/proc/self/limits').toString('latin1')
  } catch {
    return Number.POSITIVE_INFINITY
  }
  const soft = /^Max open files +(\d+) /m.exec(text)?.[1]
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft)
}
