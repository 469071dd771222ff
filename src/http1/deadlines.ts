// One timer for every wait of every connection: a timer each would cost more than the request it guards.
import type { Bagged } from '../base/bag.ts'
import { createBag } from '../base/bag.ts'

/** Something that must have happened by a time. */
export type Deadline = Bagged & {
  /** As `Deadlines.nowMs` counts, no other clock; `Infinity` while nothing is waited for. Set by its owner, at any time. */
  atMs: number
  /**
   * Called when it has passed: never earlier, at most two intervals later, or a second more where thousands have passed;
   * and again at every look until its owner moves or unwatches it.
   */
  readonly expire: () => void
}

/** Watches deadlines. */
export type Deadlines = {
  /**
   * Monotonic milliseconds, as of the last look or `watch`: never more than one interval old while anything is watched.
   * The time in which the whole process stood still does not count, but for its first second: it heard nobody then.
   */
  readonly nowMs: () => number
  readonly watch: (deadline: Deadline) => void
  readonly unwatch: (deadline: Deadline) => void
}

// security.md §4.1 wants at most 2 s between looks.
const everyMs = 250
// Looks further apart than this mean that the process stood still.
const atOnceMs = 1000
// In one turn of the event loop that has nothing else to do: a millisecond of closing.
const fewAtOnce = 16
// More where turns are long: what falls due meanwhile waits for the next look, and is not to be 2 s late either.
const allWithinMs = 500

/** Makes the watch of one process; it keeps no process alive. */
export function createDeadlines(clock: { readonly monotonicMs: () => number }): Deadlines {
  const watched = createBag<Deadline>()
  let timer: NodeJS.Timeout | undefined
  let lookedMs = clock.monotonicMs()
  let stoodStillMs = 0
  let isExpiring = false
  return {
    nowMs: () => lookedMs,
    watch(deadline) {
      watched.add(deadline)
      tell()
      if (timer === undefined) {
        timer = setInterval(look, everyMs)
        timer.unref()
      }
    },
    unwatch(deadline) {
      watched.delete(deadline)
    },
  }

  function look(): void {
    tell()
    if (!isExpiring) {
      const due = watched.all().filter(hasPassed)
      const nowMs = clock.monotonicMs()
      expireSome(due, 0, nowMs, nowMs + allWithinMs)
    }
    if (watched.size() > 0 || timer === undefined) return
    clearInterval(timer)
    timer = undefined
  }

  /** Tells the time. What has come since the process stood still is still to be read. */
  function tell(): void {
    const nowMs = clock.monotonicMs() - stoodStillMs
    // Without a timer nobody looked.
    const notSeenMs = timer === undefined ? 0 : Math.max(0, nowMs - lookedMs - atOnceMs)
    stoodStillMs += notSeenMs
    lookedMs = nowMs - notSeenMs
  }

  /** Thousands of clients that came together are not ended together: the others would wait for it. */
  function expireSome(due: readonly Deadline[], from: number, beforeMs: number, untilMs: number): void {
    const nowMs = clock.monotonicMs()
    const left = due.length - from
    const share = nowMs < untilMs ? Math.ceil((left * (nowMs - beforeMs)) / (untilMs - nowMs)) : left
    const to = from + Math.min(left, Math.max(share, fewAtOnce))
    isExpiring = to < due.length
    if (isExpiring) setImmediate(expireSome, due, to, nowMs, untilMs)
    for (let at = from; at < to; at += 1) {
      const deadline = due[at]
      // Of those that had to wait, some may have got time, or have gone.
      if (deadline !== undefined && watched.has(deadline) && hasPassed(deadline)) deadline.expire()
    }
  }

  /** A deadline was set by a time as old as one interval: without that it would end what has time left. */
  function hasPassed({ atMs }: Deadline): boolean {
    return atMs <= lookedMs - everyMs
  }
}
