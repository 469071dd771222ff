import type { Clock } from '../base/time.ts'

/** How far the wall clock has leapt, and when that was seen (monotonic). */
type Leap = { readonly byMs: number; readonly atMs: number }

// Clocks are slewed by at most a part in two thousand; what differs by more than this between two looks has leapt.
const slewMs = 1000
// A machine that pauses all the time: then the last two are one.
const maxLeaps = 1000

/**
 * The clock by which revocations run out: the wall clock, but where that leaps forward, only as far as time has passed.
 * A clock that comes back again, the gateways' with it, would find the entries forgotten and their tokens alive.
 *
 * It cannot know a clock that was ahead when the process began.
 *
 * @param longestLifeMs How long after a leap that is not believed: then no token is left from before.
 */
export function createCarefulClock(clock: Clock, longestLifeMs: number): Clock {
  // Not believed yet, the oldest first.
  const leaps: Leap[] = []
  let aheadMs = clock.wallMs() - clock.monotonicMs()
  return { wallMs, monotonicMs: clock.monotonicMs }

  function wallMs(): number {
    const atMs = clock.monotonicMs()
    const movedMs = clock.wallMs() - atMs - aheadMs - leaps.reduce((sum, { byMs }) => sum + byMs, 0)
    if (movedMs > slewMs) leapt({ byMs: movedMs, atMs })
    else aheadMs += movedMs < -slewMs ? takeBack(movedMs) : movedMs
    while (atMs - (leaps[0]?.atMs ?? atMs) >= longestLifeMs) aheadMs += leaps.shift()?.byMs ?? 0
    return atMs + aheadMs
  }

  function leapt(leap: Leap): void {
    const last = leaps.length < maxLeaps ? undefined : leaps.pop()
    leaps.push({ byMs: leap.byMs + (last?.byMs ?? 0), atMs: leap.atMs })
  }

  /** A clock that was set back takes back its last leaps first. @returns What there was no leap for: 0 or less. */
  function takeBack(movedMs: number): number {
    let leftMs = movedMs
    for (let last = leaps.pop(); last !== undefined; last = leaps.pop()) {
      leftMs += last.byMs
      if (leftMs <= 0) continue
      leaps.push({ byMs: leftMs, atMs: last.atMs })
      return 0
    }
    return leftMs
  }
}
