// Tokens whose entries may be outside memory are asked for one by one (product specification §6).
import { createBoundedCache, createSingleFlight } from '../base/lookup-cache.ts'
import type { Clock } from '../base/time.ts'
import { createBoundedQueue, QueueFull } from '../io/resilience.ts'
import { FeedFailed } from './blacklist-pages.ts'
import { queueOf } from './issuer-queue.ts'

/** Whether a token is revoked; `stale`: it could not be asked. */
export type LookupAnswer = boolean | 'stale'

/** Look-ups of one feed: one at a time per token, as many as the issuer gets at all. Answers are kept until forgotten. */
export type BlacklistLookups = {
  /** Synchronous when the answer is kept. */
  readonly ask: (jti: string) => boolean | Promise<LookupAnswer>
  /** Drops the answers; those on their way still reach who asked, and are not kept. */
  readonly forget: () => void
  /** Why a token could not be asked for, the first time since the answers were last forgotten. */
  readonly failure: () => string | undefined
}

/** What asking about single tokens needs. */
export type BlacklistLookupsDeps = {
  readonly clock: Clock
  /** Rejects with FeedFailed. */
  readonly lookup: (jti: string) => Promise<boolean>
  /** Told of the first failure since the answers were last forgotten. */
  readonly onFailure: (why: string) => void
}

const answerBounds = { maxEntries: 50_000, maxBytes: 16 * 1024 * 1024 }

/**
 * Makes the way to ask about single tokens; nothing is sent before the first.
 *
 * @param options `maxInFlight`: look-ups at a time, where there may be fewer than usual.
 */
export function createBlacklistLookups(
  { maxInFlight }: { readonly maxInFlight?: number | undefined },
  { clock, lookup, onFailure }: BlacklistLookupsDeps,
): BlacklistLookups {
  const answers = createBoundedCache<boolean>(answerBounds)
  const flights = createSingleFlight<LookupAnswer>(clock.monotonicMs)
  const queue = createBoundedQueue(queueOf(maxInFlight), { clock })
  let generation = 0
  let generationMs = 0
  let failure: string | undefined
  return { ask, forget, failure: () => failure }

  function ask(jti: string): boolean | Promise<LookupAnswer> {
    return (
      answers.get(jti, 0) ??
      flights.run(
        jti,
        (startedMs) => startedMs >= generationMs,
        () => run(jti),
      )
    )
  }

  async function run(jti: string): Promise<LookupAnswer> {
    const asked = generation
    try {
      const revoked = await queue.run(() => lookup(jti))
      if (asked === generation) answers.set(jti, revoked, Number.POSITIVE_INFINITY, 8)
      return revoked
    } catch (error) {
      if (!(error instanceof FeedFailed || error instanceof QueueFull)) throw error
      // Once: while the issuer is down there is one of these for every request.
      if (failure === undefined) onFailure(error.message)
      failure ??= error.message
      return 'stale'
    }
  }

  function forget(): void {
    answers.clear()
    generation += 1
    generationMs = clock.monotonicMs()
    failure = undefined
  }
}
