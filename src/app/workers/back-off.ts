import type { Clock } from '../../base/time.ts'

// A crash is made good at once, a worker that cannot live costs a start every five seconds.
const firstMs = 100
const mostMs = 5000
// As long as this, and what ended a worker before has nothing to do with what ends it now.
const healthyMs = 60_000

/** How long to wait before something that ended is started anew: 100 ms, doubled each time, up to 5 s. */
export function createBackOff({ clock }: { readonly clock: Clock }): {
  /** `sinceMs`: since when (monotonic) it had worked; a minute of that and the waits begin anew. Undefined: never. */
  readonly nextMs: (sinceMs: number | undefined) => number
} {
  let failures = 0
  return {
    nextMs(sinceMs) {
      if (sinceMs !== undefined && clock.monotonicMs() - sinceMs >= healthyMs) failures = 0
      const delayMs = Math.min(mostMs, firstMs * 2 ** Math.min(failures, 10))
      failures += 1
      return delayMs
    },
  }
}
