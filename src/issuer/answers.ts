// What the issuer's endpoints read and write: forms, JSON, and RFC 6749 §5.2 errors.
import type { Json, JsonObject } from '../base/json.ts'
import { JsonRefused, parseJsonObject } from '../base/json.ts'
import type { HttpAnswer, HttpRequest } from '../io/http-server.ts'

/** The headers of every answer that holds a token, or speaks of one (RFC 6749 §5.1). */
const tokenHeaders = {
  'Content-Type': 'application/json;charset=UTF-8',
  'Cache-Control': 'no-store',
  Pragma: 'no-cache',
} as const

/** A JSON answer that no cache keeps. */
export function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): HttpAnswer {
  return { status, headers: { ...tokenHeaders, ...headers }, body: JSON.stringify(body) }
}

/** The error codes of RFC 6749 §5.2, RFC 7009 §2.2.1 and RFC 8707 §2, and how each is answered. */
const oauthErrors = {
  invalid_request: 400,
  invalid_client: 401,
  invalid_grant: 400,
  unauthorized_client: 400,
  unsupported_grant_type: 400,
  unsupported_token_type: 400,
  invalid_scope: 400,
  invalid_target: 400,
  temporarily_unavailable: 503,
} as const

/** An OAuth error; the description never holds what the client sent. */
export function oauthError(error: keyof typeof oauthErrors, description: string): HttpAnswer {
  const status = oauthErrors[error]
  // RFC 9110 §11.6.1: a 401 names a scheme. 503: RFC 7009 §2.2.1, the client tries again.
  const challenge: Record<string, string> =
    status === 401
      ? { 'WWW-Authenticate': 'Basic realm="issuer", charset="UTF-8"' }
      : status === 503
        ? { 'Retry-After': '1' }
        : {}
  return json(status, { error, error_description: description }, challenge)
}

/** What an endpoint gives when it cannot go on: the answer to send. */
export type Refused = { readonly kind: 'refused'; readonly answer: HttpAnswer }

/** Stops a request with an OAuth error. */
export function refuse(error: keyof typeof oauthErrors, description: string): Refused {
  return { kind: 'refused', answer: oauthError(error, description) }
}

/** The parameters of a form; those without a value are as if not sent (RFC 6749 §3.1). */
export type Form = { readonly kind: 'form'; readonly get: (name: string) => string | undefined }

/** Reads a form-encoded body. A parameter sent twice is refused: it would have two meanings (RFC 6749 §3.2). */
export function readForm(request: HttpRequest): Form | Refused {
  const types = request.headers.get('content-type') ?? []
  if (types.length !== 1 || !/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(types[0] ?? ''))
    return refuse('invalid_request', 'The body is not application/x-www-form-urlencoded')
  const values = new Map<string, string>()
  for (const [name, value] of new URLSearchParams(request.body.toString('utf8'))) {
    if (values.has(name)) return refuse('invalid_request', 'A parameter is repeated')
    values.set(name, value)
  }
  return { kind: 'form', get: (name) => values.get(name) || undefined }
}

/** The entity tags the sender holds, without the mark of weak ones: a proxy may weaken them (RFC 9110 §13.1.2). */
export function heldTags(request: HttpRequest): readonly string[] {
  const lines = request.headers.get('if-none-match') ?? []
  return lines.flatMap((line) => line.split(',')).map((tag) => tag.trim().replace(/^W\//, ''))
}

/** Whether the sender already holds what this entity tag names (compared weakly). */
export function holds(request: HttpRequest, etag: string): boolean {
  return heldTags(request).includes(etag.replace(/^W\//, ''))
}

/** Reads a JSON object from a body; undefined when it is none. */
export function readJson(request: HttpRequest): JsonObject | undefined {
  try {
    return parseJsonObject(request.body)
  } catch (error) {
    if (error instanceof JsonRefused) return undefined
    throw error
  }
}

/** A member that is a non-empty string, undefined when absent; anything else is `'wrong'`. */
export function stringMember(value: Json | undefined): { readonly value: string | undefined } | 'wrong' {
  if (value === undefined || value === null) return { value: undefined }
  return typeof value === 'string' && value !== '' && value.length <= 1024 ? { value } : 'wrong'
}
