import type { Clock } from '../base/time.ts'

// Clocks are slewed by at most a part in two thousand; what differs by more than this between two looks has leapt.
const slewMs = 1000

/**
 * The clock by which revocations run out: the wall clock, but where that leaps forward, only as far as time has passed.
 * A clock that comes back again, the gateways' with it, would find the entries forgotten and their tokens alive.
 *
 * It cannot know a clock that was ahead when the process began.
 *
 * @param longestLifeMs How long after a leap it is not believed: then no token is left from before.
 */
export function createCarefulClock(clock: Clock, longestLifeMs: number): Clock {
  let believed = { wallMs: clock.wallMs(), atMs: clock.monotonicMs() }
  let leaptAtMs: number | undefined
  return { wallMs, monotonicMs: clock.monotonicMs }

  function wallMs(): number {
    const now = { wallMs: clock.wallMs(), atMs: clock.monotonicMs() }
    const passed = believed.wallMs + (now.atMs - believed.atMs)
    if (now.wallMs > passed + slewMs) {
      leaptAtMs ??= now.atMs
      if (now.atMs - leaptAtMs < longestLifeMs) return passed
    }
    leaptAtMs = undefined
    believed = now
    return now.wallMs
  }
}
