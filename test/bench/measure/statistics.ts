/** The middle value, or the mean of the two middle ones; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = Math.floor(sorted.length / 2)
  const upper = sorted[half] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? Number.NaN) + upper) / 2
}

/**
 * The median of a quotient taken round by round: what the machine did in a round, it did to both.
 *
 * @param first Values by round, as many as of `second`; rounds that one of them lacks are left out.
 */
export function medianRatio(first: readonly number[], second: readonly number[]): number {
  return median(first.slice(0, second.length).map((value, round) => value / (second[round] ?? Number.NaN)))
}
