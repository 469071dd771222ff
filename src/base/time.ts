/** The two times of a process: what the world calls now, and what only ever moves forward. */
export type Clock = {
  /** Milliseconds since 1970, as the world tells them; may jump. For `exp`, `nbf`, `iat` and log lines. */
  readonly wallMs: () => number
  /**
   * Milliseconds since some fixed point, the same for a primary and its workers; never jumps. For ages, cool-downs,
   * breakers and polls.
   */
  readonly monotonicMs: () => number
}

/** Seconds since 1970, possibly fractional (RFC 7519 §2, NumericDate). */
export type NumericDate = number

/** The latest one that is taken, of the year 9999: what is larger is milliseconds, or nonsense, and would never expire. */
export const maxNumericDate: NumericDate = 253_402_300_799

/** The second it is. */
export function nowSeconds(clock: Clock): NumericDate {
  return Math.floor(clock.wallMs() / 1000)
}

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** The form of a duration in the configuration: a whole number and a unit, such as `250ms`, `30s`, `5m`, `1h`, `2d`. */
export const durationPattern = /^(\d{1,9})(ms|s|m|h|d)$/

/**
 * Reads a duration such as `30s`.
 *
 * @returns Milliseconds, or undefined when the text is no duration.
 */
export function parseDuration(text: string): number | undefined {
  const match = durationPattern.exec(text)
  if (match === null) return undefined
  const [, count = '', unit = 's'] = match
  return Number(count) * unitMs[unit as keyof typeof unitMs]
}

/** Milliseconds as the shortest exact duration: `90000` is `90s`, `300000` is `5m`. */
export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    if (ms !== 0 && ms % unitMs[unit] === 0) return `${ms / unitMs[unit]}${unit}`
  }
  return `${ms}ms`
}

/** Milliseconds for people, exact, in as many units as that takes: `86460000` is `24h1m`, `183000` is `3m3s`. */
export function formatSpan(ms: number): string {
  let rest = ms
  const parts: string[] = []
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    // A time of a day and a bit is told in hours.
    if (unit === 'd' && ms < 2 * unitMs.d && ms % unitMs.d !== 0) continue
    const count = Math.floor(rest / unitMs[unit])
    if (count > 0) parts.push(`${count}${unit}`)
    rest -= count * unitMs[unit]
  }
  if (rest > 0 || parts.length === 0) parts.push(`${rest}ms`)
  return parts.join('')
}

/** Waits so long; a process that has nothing else to do ends meanwhile. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms).unref())
}

/** Lets everything run that waits: timers, and what has come in on sockets. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve))
}
