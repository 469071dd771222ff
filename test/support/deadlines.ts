import type { Deadline, Deadlines } from '../../src/http1/deadlines.ts'

/** Deadlines whose time stands still until it is moved. */
export type TestDeadlines = Deadlines & {
  /** Moves the time, and looks at every deadline once. */
  readonly pass: (ms: number) => void
  /** Moves the time, and looks at nothing: as between two looks. */
  readonly slip: (ms: number) => void
  /** How many are watched. */
  readonly watched: () => number
}

/** Makes them; the time begins away from zero, where mistakes would hide. */
export function createTestDeadlines(): TestDeadlines {
  const all = new Set<Deadline>()
  let nowMs = 50_000
  return {
    nowMs: () => nowMs,
    watch: (deadline) => void all.add(deadline),
    unwatch: (deadline) => void all.delete(deadline),
    watched: () => all.size,
    slip(ms) {
      nowMs += ms
    },
    pass(ms) {
      nowMs += ms
      for (const deadline of all) if (deadline.atMs <= nowMs) deadline.expire()
    },
  }
}
