import type { Clock } from '../../src/base/time.ts'

/** The second at which every injected clock begins. */
export const startS = 1_767_225_600

/** A clock that stands still until it is moved. */
export type TestClock = Clock & {
  /** Moves both of its hands. */
  readonly pass: (ms: number) => void
}

/** Makes a clock; its monotonic hand begins away from zero, where mistakes would hide. */
export function createTestClock(): TestClock {
  let elapsedMs = 0
  return {
    wallMs: () => startS * 1000 + elapsedMs,
    monotonicMs: () => 50_000 + elapsedMs,
    pass(ms) {
      elapsedMs += ms
    },
  }
}
