// RFC 9113 §8.2 and §8.3, read strictly: fields as HTTP/2 has them, in the words the rest of the house has for them.
import type { AnswerHead } from '../http1/exchange.ts'
import { isContentLength, isFieldValue, readMediaType, readName } from '../http1/field-lines.ts'
import type { FieldLimits, RequestLimits } from '../http1/limits.ts'
import type { Framing, HeadProblem, RequestHead } from '../http1/request-head.ts'
import { headTooLarge, isMethod, isTarget, malformed, targetTooLarge } from '../http1/request-head.ts'

const whiteAround = /^[\t ]|[\t ]$/
// RFC 9110 §15; those below 200 are heads apart, which Node tells apart.
const status = /^[2-5]\d\d$/
const pseudoNames: ReadonlySet<string> = new Set([':method', ':scheme', ':authority', ':path'])
// §8.2.2. What speaks of the connection means nothing here, and much to whatever reads on behind us.
const connectionNames: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])
// A colon, a space and a line's end: so much a field costs as a line.
const aroundField = 4

/** The pseudo-fields of a request, and its fields as lines. */
type Sorted = {
  readonly method: string | undefined
  readonly scheme: string | undefined
  readonly authority: string | undefined
  readonly path: string | undefined
  readonly lines: readonly string[]
}

/**
 * Reads the head of a request.
 *
 * @param fields Names and values alternating, as received.
 * @param hasEnded Whether the stream ended with it: there is no body.
 * @returns The head, whose `host` is `:authority`; or what is wrong with it.
 */
export function readRequestFields(
  fields: readonly string[],
  hasEnded: boolean,
  limits: RequestLimits,
): RequestHead | HeadProblem {
  const sorted = sort(fields, limits)
  if ('kind' in sorted) return sorted
  const { method: name, scheme, path, lines } = sorted
  if (name === undefined || !isMethod(name)) return malformed
  if (scheme !== 'http' && scheme !== 'https') return malformed
  // No absolute form: it would name an authority of its own.
  if (path?.startsWith('/') !== true || !isTarget(path)) return malformed
  return understand(name, path, sorted.authority, lines, hasEnded)
}

/** Tells pseudo-fields and fields apart, and finds what neither may hold. */
function sort(fields: readonly string[], limits: RequestLimits): Sorted | HeadProblem {
  const pseudo = new Map<string, string>()
  const lines: string[] = []
  let bytes = 0
  let cookieAt = -1
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] ?? ''
    const value = fields[at + 1] ?? ''
    if (name.startsWith(':')) {
      // One that we do not know may change what the others mean, as `:protocol` does.
      if (!pseudoNames.has(name) || pseudo.has(name) || lines.length > 0 || !isFieldValue(value)) return malformed
      if (name === ':path' && value.length > limits.target) return targetTooLarge
      pseudo.set(name, value)
      continue
    }
    if (!isField(name, value)) return malformed
    bytes += name.length + value.length + aroundField
    if (bytes > limits.fields.bytes || name.length + value.length > limits.fields.one) return headTooLarge
    if (name === 'cookie' && cookieAt !== -1) {
      // §8.2.3: sent in crumbs to be packed better, and one line to everybody else.
      lines[cookieAt] += `; ${value}`
      continue
    }
    if (name === 'cookie') cookieAt = lines.length + 1
    lines.push(name, value)
  }
  if (lines.length > limits.fields.count * 2) return headTooLarge
  if (cookieAt !== -1 && 'cookie'.length + (lines[cookieAt]?.length ?? 0) > limits.fields.one) return headTooLarge
  return {
    method: pseudo.get(':method'),
    scheme: pseudo.get(':scheme'),
    authority: pseudo.get(':authority'),
    path: pseudo.get(':path'),
    lines,
  }
}

/** Finds what the fields say about the message itself. */
function understand(
  name: string,
  target: string,
  authority: string | undefined,
  lines: readonly string[],
  hasEnded: boolean,
): RequestHead | HeadProblem {
  const host = authority === undefined ? [] : [authority]
  const authorization: string[] = []
  let hosts = 0
  let length: string | undefined
  let expectsContinue = false
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const value = lines[at + 1] ?? ''
    switch (lines[at]) {
      case 'host':
        // §8.3.1, and narrower: the same bytes, or somebody would answer for the one what was asked of the other.
        if ((authority !== undefined && value !== authority) || hosts > 0) return malformed
        if (authority === undefined) host.push(value)
        hosts += 1
        break
      case 'authorization':
        authorization.push(value)
        break
      case 'content-length':
        if (length !== undefined || !isContentLength(value)) return malformed
        length = value
        break
      case 'expect':
        if (value.toLowerCase() !== '100-continue') return malformed
        expectsContinue = true
        break
      default:
    }
  }
  if (hasEnded && length !== undefined && length !== '0') return malformed
  return {
    kind: 'head',
    method: name,
    target,
    version: '2',
    lines,
    host,
    authorization,
    framing: length === undefined ? (hasEnded ? 'none' : 'chunked') : Number(length),
    expectsContinue,
    upgrade: undefined,
  }
}

/**
 * Reads the head of an upstream's answer.
 *
 * @param fields Names and values alternating, as received.
 * @param hasEnded Whether the stream ended with it.
 * @param asked The method of the request: an answer to HEAD has no body whatever its head says.
 * @returns The head; `malformed` for what is none.
 */
export function readAnswerFields(
  fields: readonly string[],
  hasEnded: boolean,
  asked: string,
  limits: FieldLimits,
): AnswerHead | 'malformed' {
  const lines: string[] = []
  let bytes = 0
  let code = ''
  let length: string | undefined
  let mediaType = ''
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] ?? ''
    const value = fields[at + 1] ?? ''
    if (name === ':status') {
      if (code !== '' || !status.test(value)) return 'malformed'
      code = value
      continue
    }
    bytes += name.length + value.length + aroundField
    if (!isField(name, value) || name.length + value.length > limits.one) return 'malformed'
    if (name === 'content-length') {
      if (length !== undefined || !isContentLength(value)) return 'malformed'
      length = value
    }
    if (name === 'content-type') mediaType = readMediaType(value)
    lines.push(name, value)
  }
  if (code === '' || bytes > limits.bytes || lines.length > limits.count * 2) return 'malformed'
  const isBodiless = asked === 'HEAD' || code === '204' || code === '304'
  if (hasEnded && !isBodiless && length !== undefined && length !== '0') return 'malformed'
  // One that has ended and tells no length: whoever is told in chunks learns that there are none.
  const framing: Framing = isBodiless ? 'none' : length === undefined ? 'chunked' : Number(length)
  return { status: Number(code), reason: '', lines, framing, mediaType, isKnown: false }
}

/** The trailers as lines; `malformed` for what may not stand there, or too much of it. */
export function readTrailerFields(fields: readonly string[], limits: FieldLimits): readonly string[] | 'malformed' {
  let bytes = 0
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] ?? ''
    const value = fields[at + 1] ?? ''
    if (!isField(name, value) || name.length + value.length > limits.one) return 'malformed'
    bytes += name.length + value.length + aroundField
  }
  return bytes > limits.bytes || fields.length > limits.count * 2 ? 'malformed' : fields
}

// Looked up with the first session: most processes never load node:http2.
let mark: symbol | undefined

function secretMark(): symbol {
  mark ??= process.getBuiltinModule('node:http2').sensitiveHeaders
  return mark
}

/** Names of the fields that were marked as never to be indexed (RFC 7541 §6.2.3); undefined where none was. */
export function neverIndexed(headers: object): readonly string[] | undefined {
  const names: readonly string[] | undefined = Reflect.get(headers, secretMark())
  return names?.length === 0 ? undefined : names
}

/** Has node mark those fields so: one table of compression is for all who share a session. */
export function markSecret<T extends readonly string[]>(fields: T, names: readonly string[] | undefined): T {
  if (names === undefined) return fields
  return Object.assign(fields, { [secretMark()]: names })
}

/** Lines as trailers go on the wire: by name, lower-case. */
export function trailersOf(lines: readonly string[]): Record<string, string[]> {
  const trailers: Record<string, string[]> = Object.create(null) // a name may be any token, `__proto__` too
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const name = (lines[at] ?? '').toLowerCase()
    const values = trailers[name] ?? []
    values.push(lines[at + 1] ?? '')
    trailers[name] = values
  }
  return trailers
}

/** Whether a field may travel in HTTP/2 (§8.2.1, §8.2.2). */
function isField(name: string, value: string): boolean {
  // Its lower-case form is the only one there is.
  if (readName(name) !== name || !isFieldValue(value)) return false
  if (connectionNames.has(name) || (name === 'te' && value !== 'trailers')) return false
  return !whiteAround.test(value)
}
