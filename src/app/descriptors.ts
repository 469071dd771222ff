// The descriptors this process may have open, and those its configuration may need.
import type { LimitsOptions, UpstreamOptions } from '../gates/options.ts'

// Listeners, pipes, files, and what Node has for itself.
const ownDescriptors = 64

/** What needs most of them. */
export type DescriptorNeeds = {
  readonly limits: Pick<LimitsOptions, 'connections'>
  readonly upstream: Pick<UpstreamOptions, 'max_connections'>
}

/** A limit of descriptors that is less than a configuration may need, such as 1024 where 10,320 are wanted. */
export type DescriptorShortage = { readonly limit: number; readonly wanted: number }

/**
 * Tells whether a process that serves has too few for `limits.connections` and `upstream.max_connections` together.
 *
 * @returns undefined where there are enough, or where the system does not say (`/proc/self/limits` is Linux's).
 */
export function findDescriptorShortage(
  { limits, upstream }: DescriptorNeeds,
  readFile: (path: string) => Buffer,
): DescriptorShortage | undefined {
  const wanted = limits.connections + upstream.max_connections + ownDescriptors
  const limit = readDescriptorLimit(readFile)
  return limit < wanted ? { limit, wanted } : undefined
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
