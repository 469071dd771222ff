// RFC 6750 (Bearer token usage) and RFC 9110 §11 (HTTP authentication).

/** The Bearer credential of a request, or how it is missing or wrong. */
export type BearerCredential =
  | { readonly kind: 'bearer'; readonly token: string }
  | { readonly kind: 'missing' | 'repeated' | 'malformed' }

/** Longest token accepted, in characters; its own characters are ASCII. */
export const maxTokenLength = 8192

const missing = { kind: 'missing' } as const
const repeated = { kind: 'repeated' } as const
const malformed = { kind: 'malformed' } as const

/**
 * Reads the Authorization lines of a request (RFC 6750 §2.1; the scheme's case does not matter).
 * The token's own alphabet is judged by `isToken68`, so that a token already known need not be read again.
 *
 * @param lines Every `Authorization` field line, in order.
 */
export function parseBearer(lines: readonly string[]): BearerCredential {
  // RFC 6750 §2: one method, one token. Two lines are two answers to one question.
  if (lines.length > 1) return repeated
  const line = lines[0]
  if (line === undefined || line.length < 6) return missing
  if (!isBearerScheme(line)) return missing
  if (line.length === 6) return missing
  const separator = line.charCodeAt(6)
  if (separator !== 32) return separator === 9 ? malformed : missing // `Bearerx` is another scheme
  let start = 7
  while (line.charCodeAt(start) === 32) start += 1
  if (start === line.length) return missing
  if (line.length - start > maxTokenLength) return malformed
  return { kind: 'bearer', token: line.slice(start) }
}

function isBearerScheme(line: string): boolean {
  const start = line.slice(0, 6)
  return start === 'Bearer' || start.toLowerCase() === 'bearer'
}

/** Whether a credential is `token68` (RFC 9110 §11.2; RFC 6750 §2.1 calls it b64token). */
export function isToken68(text: string): boolean {
  return /^[A-Za-z0-9\-._~+/]+=*$/.test(text)
}

/** The parameters of a Bearer challenge (RFC 6750 §3), in the order they are written. */
export type ChallengeParameters = {
  readonly realm: string
  readonly error?: string
  readonly error_description?: string
  readonly scope?: string
}

/**
 * Writes a Bearer challenge. Characters the grammar forbids are dropped: `"` and `\` and everything outside visible
 * ASCII and space.
 */
export function formatBearerChallenge(parameters: ChallengeParameters): string {
  const { realm, error, error_description: description, scope } = parameters
  const parts = [`realm="${quotable(realm)}"`]
  if (error !== undefined) parts.push(`error="${quotable(error)}"`)
  if (description !== undefined) parts.push(`error_description="${quotable(description)}"`)
  if (scope !== undefined && scope !== '') parts.push(`scope="${quotable(scope)}"`)
  return `Bearer ${parts.join(', ')}`
}

function quotable(text: string): string {
  return text.replace(/[^ !#-[\]-~]/g, '')
}

/** Writes Basic credentials for a client (RFC 6749 §2.3.1: each part form-encoded first). */
export function formatBasic(clientId: string, clientSecret: string): string {
  return `Basic ${Buffer.from(`${formEncode(clientId)}:${formEncode(clientSecret)}`).toString('base64')}`
}

/** Encodes one value as application/x-www-form-urlencoded does (RFC 6749 Appendix B). */
export function formEncode(text: string): string {
  return new URLSearchParams([['', text]]).toString().slice(1)
}
