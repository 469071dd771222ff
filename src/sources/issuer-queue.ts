import type { QueueOptions } from '../io/resilience.ts'

/**
 * How many questions about tokens one issuer gets from us at a time, and how many more wait, for how long (security.md
 * §4.1). Introspection and look-ups have such a queue each, and keys and lists none: neither keeps another from leaving.
 */
export const issuerQueue = { maxInFlight: 64, maxQueued: 256, maxWaitMs: 500 } as const

/** The same with no more questions at a time than there are descriptors for. */
export function queueOf(maxInFlight: number = issuerQueue.maxInFlight): QueueOptions {
  return { ...issuerQueue, maxInFlight }
}
