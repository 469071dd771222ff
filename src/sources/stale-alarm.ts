import type { Clock } from '../base/time.ts'

/** Says that what a source holds cannot be used any more: when that begins, and about once a minute while it lasts. */
export type StaleAlarm = {
  /** Waits anew: the source begins, or what it holds has become younger. Returns whether the alarm had been given. */
  readonly set: () => boolean
  readonly close: () => void
}

/** What the alarm of one source needs. */
export type StaleAlarmDeps = {
  readonly clock: Clock
  /** How long (monotonic) what is held may be used; undefined while nothing is. */
  readonly usableUntilMs: () => number | undefined
  readonly tell: () => void
}

const repeatMs = 60_000
// Where the limit is hardly longer than the time between two looks, it comes and goes all the time.
const leastMs = repeatMs / 2
// A timer of Node's holds 24.8 days, and one that is longer fires at once.
const maxTimerMs = 86_400_000

/** Makes the alarm of one source; it waits for nothing before `set`. */
export function createStaleAlarm({ clock, usableUntilMs, tell }: StaleAlarmDeps): StaleAlarm {
  let timer: NodeJS.Timeout | undefined
  let isGiven = false
  let toldMs = Number.NEGATIVE_INFINITY
  let closed = false
  return {
    set() {
      const wasGiven = isGiven
      isGiven = false
      wait()
      return wasGiven
    },
    close() {
      closed = true
      clearTimeout(timer)
    },
  }

  function wait(): void {
    clearTimeout(timer)
    if (closed) return
    const nowMs = clock.monotonicMs()
    const leftMs = (usableUntilMs() ?? Number.NEGATIVE_INFINITY) - nowMs
    const restMs = toldMs + (isGiven ? repeatMs : leastMs) - nowMs
    // One that has never held anything gets a minute to begin with.
    const staleMs = restMs > 0 ? restMs : repeatMs
    // 1 ms: at the moment itself it may still be used.
    timer = setTimeout(look, leftMs < 0 ? staleMs : Math.min(leftMs + 1, maxTimerMs)).unref()
  }

  function look(): void {
    const [nowMs, untilMs] = [clock.monotonicMs(), usableUntilMs()]
    const isStale = untilMs === undefined || nowMs > untilMs
    if (isStale && nowMs - toldMs >= leastMs) {
      isGiven = true
      toldMs = nowMs
      tell()
    }
    wait()
  }
}
