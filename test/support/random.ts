/** Random numbers that a seed repeats. */
export type Random = {
  /** A whole number from 0 up to, and not, this one. */
  readonly below: (end: number) => number
  readonly pick: <T>(from: readonly T[]) => T
  /** True once in so many times. */
  readonly oneIn: (times: number) => boolean
}

/** Mulberry32: 32 bits of state are plenty for a test, and every run of a seed is the same run. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  return {
    below,
    pick: (from) => from[below(from.length)] as (typeof from)[number],
    oneIn: (times) => below(times) === 0,
  }

  function below(end: number): number {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * end)
  }
}

/** The seed of this run: `POSTERN_TEST_SEED` repeats one that failed. */
export function seedOfRun(): number {
  const wanted = Number(process.env['POSTERN_TEST_SEED'])
  return Number.isSafeInteger(wanted) && wanted > 0 ? wanted : Math.floor(Math.random() * 0xffff_ffff) + 1
}
