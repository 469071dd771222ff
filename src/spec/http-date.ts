// Times in the fields of an HTTP message: RFC 9110 §5.6.7, and §10.2.3 for `Retry-After`.

/** Reads a date in the form that all are sent in, `Sun, 06 Nov 1994 08:49:37 GMT`; milliseconds since 1970. */
export function parseHttpDate(value: string | undefined): number | undefined {
  if (value === undefined || !/^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(value))
    return undefined
  const ms = Date.parse(value)
  return Number.isFinite(ms) ? ms : undefined
}

/**
 * For how long (ms) a message asks to be left alone by `Retry-After`, seconds or a date; undefined where it does not say.
 *
 * @param wallMs The time by our clock, for a date of a message that has no `Date` of its own to measure it by.
 */
export function parseRetryAfter(header: (name: string) => string | undefined, wallMs: number): number | undefined {
  const value = header('retry-after') ?? ''
  if (/^\d+$/.test(value)) return Number(value) * 1000
  const untilMs = parseHttpDate(value)
  return untilMs === undefined ? undefined : Math.max(0, untilMs - (parseHttpDate(header('date')) ?? wallMs))
}
