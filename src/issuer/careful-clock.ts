import type { Clock } from '../base/time.ts'

/** Where a careful clock is, for the one that goes on from there after a restart. Milliseconds since 1970. */
export type CarefulState = {
  /** What it said last. */
  readonly atMs: number
  /** How far ahead of it the wall clock has been all the time since this began to count, at least. */
  readonly doubtMs: number
  /** When that is believed. */
  readonly believedAtMs: number
}

/** A clock that says where it is. */
export type CarefulClock = Clock & { readonly state: () => CarefulState }

/** What a careful clock needs. */
export type CarefulDeps = {
  readonly clock: Clock
  /** Where the one before the restart was; undefined: there is nothing from before. */
  readonly before: CarefulState | undefined
  /** When all that was ever issued will have run out; at a clock that is ahead, too. */
  readonly runOutMs: () => number
}

// A clock that was set wrong is noticed and set right within a day, we say.
const leastDoubtMs = 86_400_000
// Less than this is not worth beginning to count anew.
const leapMs = 1000

/**
 * The clock by which revocations run out: it goes on as time passes, and never ahead of the wall clock. What the wall
 * clock leaps ahead, a restart included, counts after a day and when all that had been issued until then has run out:
 * a clock that comes back again, the gateways' with it, would find the entries forgotten and their tokens alive.
 */
export function createCarefulClock({ clock, before, runOutMs }: CarefulDeps): CarefulClock {
  let lookedMs = clock.monotonicMs()
  let { atMs, doubtMs, believedAtMs } = before ?? { atMs: clock.wallMs(), doubtMs: 0, believedAtMs: 0 }
  return { wallMs, monotonicMs: clock.monotonicMs, state: () => ({ atMs, doubtMs, believedAtMs }) }

  function wallMs(): number {
    const [monotonicMs, nowMs] = [clock.monotonicMs(), clock.wallMs()]
    atMs = Math.min(atMs + monotonicMs - lookedMs, nowMs)
    lookedMs = monotonicMs
    // The least there was: whatever came on top of it later was not there all the time.
    doubtMs = Math.min(doubtMs, nowMs - atMs)
    const isBelieved = atMs >= believedAtMs
    if (isBelieved) atMs += doubtMs
    if (isBelieved || (doubtMs < leapMs && nowMs - atMs >= leapMs)) {
      doubtMs = nowMs - atMs
      believedAtMs = Math.max(atMs + leastDoubtMs, runOutMs())
    }
    return atMs
  }
}
