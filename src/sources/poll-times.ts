// When one list is polled next, and whether that poll asks to be held (README, decision 40). It has no timer: it is told
// how each poll goes, and says when the next one begins.
import type { Clock } from '../base/time.ts'
import type { FeedFailed } from './blacklist-pages.ts'
import { callMs } from './blacklist-pages.ts'

/** By what it goes, in milliseconds; `wait` is 0 where nothing is to be held. */
export type PollTimesOptions = { readonly wait: number; readonly poll_interval: number }

/** The times of one list's polls. Of each it is told `begin`, then `good` or `failed`. */
export type PollTimes = {
  /** A poll begins, that may ask to be held or may not; returns for how long (ms) it does. */
  readonly begin: (mayWait: boolean) => number
  /** The poll under way has found that the list begins anew: another epoch, or `reset`. */
  readonly beganAnew: () => void
  /** The poll under way was good, and brought something or did not. */
  readonly good: (hasNews: boolean) => void
  /** It failed; with which HTTP status, if that was it, and for how long (ms) it was asked to leave the issuer alone. */
  readonly failed: (why: Pick<FeedFailed, 'status' | 'retryAfterMs'>) => void
  /** When the next one begins (monotonic ms); that may have passed. */
  readonly nextMs: () => number
}

/** A list that changes all the time costs a poll this often (ms): half of the 2 s within which a revocation is to hold. */
export const leastGapMs = 1000

/** Makes the times of one list; the first poll may begin at once. */
export function createPollTimes(
  { wait, poll_interval }: PollTimesOptions,
  { clock, random }: { readonly clock: Clock; readonly random: () => number },
): PollTimes {
  let startedMs = clock.monotonicMs()
  let nextMs = startedMs
  // For how long the poll under way, or the last one, asks to be held.
  let waitMs = 0
  let isAnew = false
  let failures = 0
  // Whether the next poll is not to ask for it, since that may take too long to fail.
  let isPlain = false
  // Until then a poll a second is worth it: an interval from one that was held, or had news. Then, less and less often.
  let quickUntilMs = startedMs
  // When the last good one was answered.
  let goodMs = startedMs
  // When the last poll began that asked to be held.
  let triedMs = Number.NEGATIVE_INFINITY
  return {
    begin(mayWait) {
      startedMs = clock.monotonicMs()
      isAnew = false
      // Nor the poll after a failure: a proxy on the way that cuts what is held costs every other poll, and not the list.
      waitMs = mayWait && failures === 0 && !isPlain ? wait : 0
      if (waitMs > 0) triedMs = startedMs
      return waitMs
    },
    beganAnew() {
      isAnew = true
      // Whole lists are not read one after another, whatever was held before.
      quickUntilMs = Math.min(quickUntilMs, startedMs)
    },
    good(hasNews) {
      const nowMs = clock.monotonicMs()
      // One that is slow has not held it.
      const wasHeld = waitMs > 0 && !isAnew && (hasNews || nowMs - startedMs >= waitMs / 2)
      if (wasHeld) quickUntilMs = nowMs + poll_interval
      // It was away for so long that it is tried as if for the first time.
      else if (failures > 1 && nowMs - triedMs > poll_interval) quickUntilMs = nowMs
      failures = 0
      goodMs = nowMs
      const tryMs = nextTryMs()
      // If the try gets no answer, the poll after it, which is not held, is still to begin within the interval.
      isPlain = tryMs - nowMs > poll_interval - wait - callMs
      nextMs = wait === 0 || isPlain ? startedMs + nextPollAfterMs(poll_interval, 0, random) : tryMs
    },
    failed({ status, retryAfterMs = 0 }) {
      const nowMs = clock.monotonicMs()
      // An issuer that has held a poll lately may be back soon, and a revocation is to hold then. One that has too many
      // calls (RFC 6585 §4) is there.
      failures = status !== 429 && nowMs < quickUntilMs ? 1 : failures + 1
      const soonestMs = startedMs + nextPollAfterMs(poll_interval, failures, random)
      // Of one that was to be held the next is not, and is to begin within the interval even so: who refuses that alone, or
      // stands between, must not have the list grow old.
      const latestMs = waitMs > 0 ? Math.max(soonestMs, goodMs + poll_interval) : startedMs + poll_interval
      nextMs = Math.min(Math.max(soonestMs, nowMs + retryAfterMs), latestMs, startedMs + poll_interval)
    },
    nextMs: () => nextMs,
  }

  /** Tried in vain for so long, it is tried again after as long: 1 s, 2 s, 4 s … up to the interval. */
  function nextTryMs(): number {
    const gapMs = Math.min(Math.max(triedMs - quickUntilMs, leastGapMs), poll_interval)
    return Math.max(startedMs + leastGapMs, triedMs + shortened(gapMs, random))
  }
}

/** Milliseconds from the start of one poll to the next: the interval, or after failures 1 s, 2 s, 4 s … up to it. */
export function nextPollAfterMs(pollIntervalMs: number, failures: number, random: () => number): number {
  return shortened(failures === 0 ? pollIntervalMs : Math.min(pollIntervalMs, 1000 * 2 ** (failures - 1)), random)
}

/** Up to a tenth is taken off at random, so that a fleet does not poll in step; never added. */
function shortened(ms: number, random: () => number): number {
  return ms * (1 - 0.1 * random())
}

/** How often (ms) a list is polled that has news all the time: what it cannot name is asked for as often. */
export function leastPollMs({ wait, poll_interval }: PollTimesOptions): number {
  return wait > 0 ? leastGapMs : poll_interval
}
