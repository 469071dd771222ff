// One timer for every wait of every connection: a timer each would cost more than the request it guards.
import type { Bagged } from '../base/bag.ts'
import { createBag } from '../base/bag.ts'

/** Something that must have happened by a time. */
export type Deadline = Bagged & {
  /** Monotonic milliseconds; `Infinity` while nothing is waited for. Set by its owner, at any time. */
  atMs: number
  /** Called once it has passed: never earlier, and at most two intervals later. */
  readonly expire: () => void
}

/** Watches deadlines. */
export type Deadlines = {
  /** Monotonic milliseconds, as of the last look or `watch`: never more than one interval old while anything is watched. */
  readonly nowMs: () => number
  readonly watch: (deadline: Deadline) => void
  readonly unwatch: (deadline: Deadline) => void
}

// security.md §4.1 wants at most 2 s between looks.
const everyMs = 250
// In one turn of the event loop: a millisecond of closing.
const maxAtOnce = 16

/** Makes the watch of one process; it keeps no process alive. */
export function createDeadlines(clock: { readonly monotonicMs: () => number }): Deadlines {
  const watched = createBag<Deadline>()
  let timer: NodeJS.Timeout | undefined
  let lookedMs = clock.monotonicMs()
  return {
    nowMs: () => lookedMs,
    watch(deadline) {
      // The process may have stood still since the last look: what begins now must not be late at once.
      lookedMs = clock.monotonicMs()
      if (timer === undefined) {
        timer = setInterval(look, everyMs)
        timer.unref()
      }
      watched.add(deadline)
    },
    unwatch(deadline) {
      watched.delete(deadline)
    },
  }

  function look(): void {
    lookedMs = clock.monotonicMs()
    const due: Deadline[] = []
    for (const deadline of watched.all()) if (hasPassed(deadline)) due.push(deadline)
    expireSome(due, 0)
    if (watched.size() > 0 || timer === undefined) return
    clearInterval(timer)
    timer = undefined
  }

  /** Thousands of clients that came together are not ended together: the others would wait for it. */
  function expireSome(due: readonly Deadline[], from: number): void {
    const to = Math.min(due.length, from + maxAtOnce)
    for (let at = from; at < to; at += 1) {
      const deadline = due[at]
      // Of those that had to wait, some may have got time, or have gone.
      if (deadline !== undefined && watched.has(deadline) && hasPassed(deadline)) deadline.expire()
    }
    if (to < due.length) setImmediate(expireSome, due, to)
  }

  /** A deadline was set by a time as old as one interval: without that it would end what has time left. */
  function hasPassed({ atMs }: Deadline): boolean {
    return atMs <= lookedMs - everyMs
  }
}
