import { LRUCache } from 'lru-cache'

/** Bounds of a cache: what goes in pushes out the least recently used once either is reached. */
export type CacheBounds = {
  readonly maxEntries: number
  readonly maxBytes: number
}

/** Values by key, bounded by count and by bytes, each with its own end of life. */
export type BoundedCache<V> = {
  /** The value, while its life lasts. */
  readonly get: (key: string, nowMs: number) => V | undefined
  /** Keeps a value until `untilMs` on the caller's monotonic clock; `bytes` is the value's own size. */
  readonly set: (key: string, value: V, untilMs: number, bytes: number) => void
  readonly delete: (key: string) => void
  readonly clear: () => void
  readonly size: () => number
}

// What an entry costs beside its key and value: map slot, list links, the record that holds it.
const entryOverheadBytes = 200

/** A least-recently-used cache on the caller's clock: time is an argument, so no test has to wait for it. */
export function createBoundedCache<V>(bounds: CacheBounds): BoundedCache<V> {
  // Made with the first entry: the library sets aside room for all of them, 2 MiB for 50,000.
  let held: LRUCache<number, { key: string; value: V; untilMs: number }> | undefined
  return {
    get(key, nowMs) {
      const print = printOf(key)
      const entry = held?.get(print)
      if (entry === undefined || entry.key !== key) return undefined
      if (nowMs < entry.untilMs) return entry.value
      held?.delete(print)
      return undefined
    },
    set(key, value, untilMs, bytes) {
      held ??= new LRUCache({ max: bounds.maxEntries, maxSize: bounds.maxBytes })
      held.set(printOf(key), { key, value, untilMs }, { size: entryOverheadBytes + key.length + bytes })
    },
    delete(key) {
      const print = printOf(key)
      if (held?.peek(print)?.key === key) held.delete(print)
    },
    clear: () => held?.clear(),
    size: () => held?.size ?? 0,
  }
}

// Of a long key, so many characters at its end are looked at, and as many spread over the rest.
const wholeLength = 64
const endLength = 16
const spread = 8

/**
 * 32 bits of a key. A text that just came from the wire is interned before it is looked up, which costs most of a look-up
 * of a token; a number is not, and one of 32 bits stands in the map itself. Two keys with one print push each other out,
 * as one of a hundred thousand may have to where 50,000 are held, and neither is ever taken for the other.
 */
function printOf(key: string): number {
  const whole = key.length > wholeLength ? key.length - endLength : 0
  const step = Math.max(1, Math.floor(whole / spread))
  let high = key.length
  let low = 0x9e3779b9
  let at = 0
  while (at < key.length) {
    const code = key.charCodeAt(at)
    high = Math.imul(high ^ code, 0x01000193)
    low = Math.imul(low ^ code, 0x85ebca6b) ^ (low >>> 15)
    at = at < whole ? Math.min(at + step, whole) : at + 1
  }
  return high ^ Math.imul(low ^ (low >>> 15), 0x9e3779b1)
}

/** Runs at most one piece of work per key at a time; who asks while it runs shares its outcome. */
export type SingleFlight<V> = {
  /**
   * Joins the running flight of this key if `mayJoin` accepts the time it started (monotonic), else starts one.
   * A later flight replaces an earlier one as the one to join.
   */
  readonly run: (key: string, mayJoin: (startedMs: number) => boolean, work: () => Promise<V>) => Promise<V>
}

/** Makes flights on the caller's monotonic clock. */
export function createSingleFlight<V>(monotonicMs: () => number): SingleFlight<V> {
  const flights = new Map<string, { startedMs: number; outcome: Promise<V> }>()
  return {
    run(key, mayJoin, work) {
      const running = flights.get(key)
      if (running !== undefined && mayJoin(running.startedMs)) return running.outcome
      const flight = { startedMs: monotonicMs(), outcome: work() }
      flights.set(key, flight)
      const land = () => {
        if (flights.get(key) === flight) flights.delete(key)
      }
      flight.outcome.then(land, land)
      return flight.outcome
    },
  }
}
