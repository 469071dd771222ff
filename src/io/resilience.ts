import type { Clock } from '../base/time.ts'

/** When to stop calling, and for how long. */
export type BreakerOptions = {
  /** Failures in a row that open it. */
  readonly failures: number
  /** Milliseconds it stays open before one call may try again. */
  readonly openMs: number
}

/** What a breaker does at the moment; the value of a metric. */
export type BreakerState = 'closed' | 'open' | 'half_open'

/**
 * Keeps calls away from a target that fails. Every call asks `admit()` first and, when admitted, reports exactly one
 * of `succeeded()`, `failed()` or `released()`.
 */
export type Breaker = {
  /** Undefined: go ahead. Otherwise how long to leave the target alone (ms). While it is half open, one call at a time goes. */
  readonly admit: () => undefined | { readonly retryAfterMs: number }
  /** The target answered. */
  readonly succeeded: () => void
  /** The target did not answer, or answered that it cannot. */
  readonly failed: () => void
  /** The call ended without saying anything about the target: the next one may try at once. */
  readonly released: () => void
  /** `half_open`: a call that tries again is under way, or the next one will be it. */
  readonly state: () => BreakerState
}

/**
 * A circuit breaker on the monotonic clock. A trying call that never reports holds it for no longer than `openMs`.
 *
 * `openMs` should be longer than a call's deadline: an answer to a call from before it opened counts as the try's.
 */
export function createBreaker({ failures, openMs }: BreakerOptions, { clock }: { readonly clock: Clock }): Breaker {
  let inARow = 0
  let trying = false
  let openUntilMs = 0
  return {
    admit() {
      if (inARow < failures) return undefined
      const nowMs = clock.monotonicMs()
      if (nowMs < openUntilMs) return { retryAfterMs: openUntilMs - nowMs }
      trying = true
      openUntilMs = nowMs + openMs
      return undefined
    },
    succeeded() {
      // Open, and not from the try: an answer to a call from before. What comes later failed more lately.
      if (inARow >= failures && !trying) return
      inARow = 0
      trying = false
    },
    failed() {
      if (inARow >= failures && !trying) return
      inARow = Math.min(inARow + 1, failures)
      trying = false
      if (inARow >= failures) openUntilMs = clock.monotonicMs() + openMs
    },
    released() {
      if (!trying) return
      trying = false
      openUntilMs = clock.monotonicMs()
    },
    state() {
      if (inARow < failures) return 'closed'
      return trying || clock.monotonicMs() >= openUntilMs ? 'half_open' : 'open'
    },
  }
}

/** Bounds of a queue. */
export type QueueOptions = {
  /** Pieces of work at a time. */
  readonly maxInFlight: number
  /** Pieces of work waiting. */
  readonly maxQueued: number
  /** Longest wait in milliseconds. */
  readonly maxWaitMs: number
}

/** Runs a bounded number of pieces of work at a time, in the order asked for. */
export type BoundedQueue = {
  /**
   * Runs the work now, or as soon as there is room.
   *
   * @throws (rejects) QueueFull without having begun; otherwise what the work rejects with.
   */
  readonly run: <T>(work: () => Promise<T>) => Promise<T>
  readonly inFlight: () => number
  readonly queued: () => number
}

/** There was no room, or none in time. The work was not begun. */
export class QueueFull extends Error {
  override readonly name = 'QueueFull'
  readonly code = 'ERR_QUEUE_FULL'
}

type Waiter = { readonly sinceMs: number; readonly begin: () => void; readonly refuse: () => void }

/** A bounded queue: under overload it refuses early instead of letting everybody wait for too long. */
export function createBoundedQueue(options: QueueOptions, { clock }: { readonly clock: Clock }): BoundedQueue {
  const { maxInFlight, maxQueued, maxWaitMs } = options
  // A set keeps the order of arrival and forgets any member at once.
  const waiting = new Set<Waiter>()
  let inFlight = 0
  return { run, inFlight: () => inFlight, queued: () => waiting.size }

  async function run<T>(work: () => Promise<T>): Promise<T> {
    if (inFlight < maxInFlight) inFlight += 1
    else await room()
    try {
      return await work()
    } finally {
      passOn()
    }
  }

  /** Resolves once a place in flight is the caller's. */
  function room(): Promise<void> {
    if (waiting.size >= maxQueued) {
      return Promise.reject(
        new QueueFull(`Cannot queue the work: ${waiting.size} are waiting, wanted fewer than ${maxQueued}`),
      )
    }
    return new Promise((resolve, reject) => {
      const refuse = () => {
        leave()
        reject(new QueueFull(`Cannot begin the work: no room within ${maxWaitMs} ms`))
      }
      const timer = setTimeout(refuse, maxWaitMs)
      const waiter: Waiter = { sinceMs: clock.monotonicMs(), begin, refuse }
      waiting.add(waiter)

      function begin(): void {
        leave()
        resolve()
      }

      function leave(): void {
        clearTimeout(timer)
        waiting.delete(waiter)
      }
    })
  }

  /** Hands the place of finished work to the next in line, or gives it up. */
  function passOn(): void {
    const nowMs = clock.monotonicMs()
    for (const waiter of waiting) {
      // A stalled process runs its timers late: who has waited too long by the clock is refused all the same.
      if (nowMs - waiter.sinceMs < maxWaitMs) {
        waiter.begin()
        return
      }
      waiter.refuse()
    }
    inFlight -= 1
  }
}
