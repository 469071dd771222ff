// One timer for every wait of every connection: a timer each would cost more than the request it guards.

/** Something that must have happened by a time. */
export type Deadline = {
  /** As `Deadlines.nowMs` counts, no other clock; `Infinity` while nothing is waited for. Its owner sets it (`setDeadline`). */
  readonly atMs: number
  /**
   * Called when it has passed: never earlier, at most two intervals later, or a second more where thousands have passed;
   * and again at every look until its owner moves or unwatches it.
   */
  readonly expire: () => void
  /** Where it is watched, and as which one there. The watch's own. */
  watch?: Watch | undefined
  slot?: number | undefined
}

/**
 * What one watch looks at, again and again: times that stand beside each other. Those of the deadlines themselves are
 * memory that is not near: ten thousand took 20 ms of each quarter of a second.
 */
type Watch = { times: Float64Array }

/** Sets when something must have happened; at any time, watched or not. */
export function setDeadline(deadline: Deadline, atMs: number): void {
  const { watch, slot } = deadline
  const own: { atMs: number } = deadline
  own.atMs = atMs
  if (watch !== undefined && slot !== undefined) watch.times[slot] = atMs
}

/** Watches deadlines. */
export type Deadlines = {
  /**
   * Monotonic milliseconds, as of the last look or `watch`: never more than one interval old while anything is watched.
   * The time in which the whole process stood still does not count, but for its first second: it heard nobody then.
   */
  readonly nowMs: () => number
  /** Throws a TypeError for one that another watch has. */
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
  const watch: Watch = { times: new Float64Array(64) }
  const watched: Deadline[] = []
  let timer: NodeJS.Timeout | undefined
  let lookedMs = clock.monotonicMs()
  let stoodStillMs = 0
  let isExpiring = false
  return {
    nowMs: () => lookedMs,
    watch(deadline) {
      if (!isWatched(deadline)) add(deadline)
      tell()
      if (timer === undefined) {
        timer = setInterval(look, everyMs)
        timer.unref()
      }
    },
    unwatch(deadline) {
      if (isWatched(deadline)) remove(deadline)
    },
  }

  function isWatched(deadline: Deadline): boolean {
    return deadline.watch === watch
  }

  function add(deadline: Deadline): void {
    if (deadline.watch !== undefined) throw new TypeError('Cannot watch a deadline: another watch has it, wanted none')
    const { length } = watched
    if (length === watch.times.length) {
      const more = new Float64Array(length * 2)
      more.set(watch.times)
      watch.times = more
    }
    deadline.watch = watch
    deadline.slot = length
    watched.push(deadline)
    watch.times[length] = deadline.atMs
  }

  /** The last one takes its place. */
  function remove(deadline: Deadline): void {
    const { slot } = deadline
    const last = watched.pop()
    if (last !== undefined && slot !== undefined && last !== deadline) {
      watched[slot] = last
      last.slot = slot
      watch.times[slot] = last.atMs
    }
    deadline.watch = undefined
    deadline.slot = undefined
  }

  function look(): void {
    tell()
    if (!isExpiring) {
      const due: Deadline[] = []
      for (let slot = 0; slot < watched.length; slot += 1) {
        const deadline = hasPassed(watch.times[slot] ?? 0) ? watched[slot] : undefined
        if (deadline !== undefined) due.push(deadline)
      }
      const nowMs = clock.monotonicMs()
      expireSome(due, 0, nowMs, nowMs + allWithinMs)
    }
    if (watched.length > 0 || timer === undefined) return
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
      if (deadline !== undefined && isWatched(deadline) && hasPassed(deadline.atMs)) deadline.expire()
    }
  }

  /** A deadline was set by a time as old as one interval: without that it would end what has time left. */
  function hasPassed(atMs: number): boolean {
    return atMs <= lookedMs - everyMs
  }
}
