/**
 * How many questions about tokens one issuer gets from us at a time, and how many more wait, for how long (security.md
 * §4.1). Introspection and look-ups have such a queue each, and keys and lists none: neither keeps another from leaving.
 */
export const issuerQueue = { maxInFlight: 64, maxQueued: 256, maxWaitMs: 500 } as const
