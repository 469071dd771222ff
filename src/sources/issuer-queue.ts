/** How many questions about tokens one issuer gets from us at a time, and how many more wait, for how long (security.md §4.1). */
export const issuerQueue = { maxInFlight: 64, maxQueued: 256, maxWaitMs: 500 } as const
