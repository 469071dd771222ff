import * as z from 'zod'
import { durationPattern, parseDuration } from './time.ts'

/** A duration in the configuration, such as `30s`; milliseconds once read. */
export const duration = z
  .string()
  .regex(durationPattern, { error: 'expected a duration like 30s' })
  .transform((text) => parseDuration(text) ?? 0) // the pattern above is parseDuration's own

/**
 * A duration with bounds, both of them good, each written as it is in a configuration. Node takes a timer of more than
 * 24 days for one that is due at once: what is waited for needs a bound below that.
 */
export function durationBetween(least: string, most: string) {
  const [leastMs = 0, mostMs = 0] = [parseDuration(least), parseDuration(most)]
  const error = `expected a duration from ${least} to ${most}`
  return duration.refine((ms) => ms >= leastMs && ms <= mostMs, { error })
}

/** Where a secret is read from; never the secret itself. */
export const secretSource = z.union([
  z.strictObject({ file: z.string().min(1).describe('Path of a file with the secret; re-read on change.') }),
  z.strictObject({ env: z.string().min(1).describe('Name of an environment variable with the secret.') }),
])
/** A secret's place as read: `{ file }` or `{ env }`. */
export type SecretSource = z.output<typeof secretSource>

/** An absolute URL with scheme http or https, without user and fragment. */
export const httpUrlPattern = /^https?:\/\/[^\s/?#@]+(?:[/?][^\s#]*)?$/

/** A URL as written; whether plain http is allowed depends on where it stands. */
export const httpUrl = z
  .string()
  .regex(httpUrlPattern, { error: 'expected an http or https URL without user and fragment' })
  .refine((text) => !httpUrlPattern.test(text) || URL.canParse(text), {
    error: 'expected a URL whose host and port can be',
  })

/** Whether a URL's host is this machine itself, so that plain http to it stays on the machine. */
export function isLoopbackUrl(url: string): boolean {
  return /^https?:\/\/(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?(?:[/?]|$)/.test(url)
}
