// RFC 9112 §4 and §6.3, read strictly: an answer we are not sure of is no answer.
import { isHopeless, readFieldLines, readList } from './field-lines.ts'
import type { ResponseLimits } from './limits.ts'
import type { Framing } from './request-head.ts'

/** The head of one answer. Strings hold one character per byte (latin1). */
export type ResponseHead = {
  readonly kind: 'head'
  readonly status: number
  readonly reason: string
  /** Names and values alternating, every line as received. */
  readonly lines: readonly string[]
  readonly framing: Framing
  /** Whether the connection may carry another request. */
  readonly keepAlive: boolean
  /** What `Keep-Alive: timeout` says, milliseconds; undefined where it says nothing. */
  readonly keepAliveMs: number | undefined
  /** `text/event-stream` and the like: the media type, lower-case, without parameters; empty where there is none. */
  readonly mediaType: string
  /** Bytes of the head, its empty line included. */
  readonly bytes: number
}

const maxStatusLine = 1024
const statusLine = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t -~\x80-\xff]*))?$/
const decimal = /^(?:0|[1-9]\d{0,15})$/

/**
 * Reads the head of an answer at the beginning of what was received.
 *
 * @param method Of the request: an answer to HEAD has no body whatever its head says (RFC 9112 §6.3).
 * @param searched How many of the bytes were looked at before, and held no whole head.
 * @returns The head; undefined while it is not whole; `malformed` for what is none, or is over its limit.
 */
export function readResponseHead(
  bytes: Buffer,
  searched: number,
  method: string,
  limits: ResponseLimits,
): ResponseHead | 'malformed' | undefined {
  const end = bytes.indexOf('\r\n\r\n', Math.max(0, searched - 3), 'latin1')
  const most = limits.fields.bytes + maxStatusLine
  if (end === -1) {
    if (bytes.length > most) return 'malformed'
    const text = bytes.toString('latin1', 0, bytes.length)
    return isHopeless(text) || !'HTTP/1.'.startsWith(text.slice(0, 7)) ? 'malformed' : undefined
  }
  if (end > most) return 'malformed'
  return parseHead(bytes.toString('latin1', 0, end + 2), end + 4, method, limits)
}

function parseHead(text: string, bytes: number, method: string, limits: ResponseLimits): ResponseHead | 'malformed' {
  const lineEnd = text.indexOf('\r\n')
  const first = statusLine.exec(text.slice(0, lineEnd))
  if (first === null) return 'malformed'
  const [, minor = '', code = '', reason = ''] = first
  const status = Number(code)
  const lines: string[] = []
  if (readFieldLines(text, lineEnd + 2, text.length, limits.fields, lines) !== undefined) return 'malformed'
  let encoding: string | undefined
  let length: string | undefined
  let options: readonly string[] = []
  let keepAliveMs: number | undefined
  let mediaType = ''
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const value = lines[at + 1] ?? ''
    switch (lines[at]?.length) {
      case 10:
        if (is(lines[at], 'connection')) options = [...options, ...readList(value)]
        else if (is(lines[at], 'keep-alive')) keepAliveMs = readKeepAlive(value)
        break
      case 12:
        if (is(lines[at], 'content-type')) mediaType = value.split(';', 1)[0]?.trim().toLowerCase() ?? ''
        break
      case 14:
        if (!is(lines[at], 'content-length')) break
        if (length !== undefined || !decimal.test(value)) return 'malformed'
        length = value
        break
      case 17:
        if (!is(lines[at], 'transfer-encoding')) break
        if (encoding !== undefined || value.toLowerCase() !== 'chunked') return 'malformed'
        encoding = value
        break
      default:
    }
  }
  // Two framings are two answers (RFC 9112 §6.1), and HTTP/1.0 knows no chunks.
  if (encoding !== undefined && (length !== undefined || minor === '0')) return 'malformed'
  const closes = options.includes('close') || (minor === '0' && !options.includes('keep-alive'))
  const framing = framingOf(status, method, encoding, length)
  return {
    kind: 'head',
    status,
    reason,
    lines,
    framing,
    keepAlive: !closes && framing !== 'close',
    keepAliveMs,
    mediaType,
    bytes,
  }
}

/** RFC 9112 §6.3. */
function framingOf(status: number, method: string, encoding: string | undefined, length: string | undefined): Framing {
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') return 'none'
  if (encoding !== undefined) return 'chunked'
  return length === undefined ? 'close' : Number(length)
}

function readKeepAlive(value: string): number | undefined {
  const seconds = /(?:^|[\s,])timeout=(\d{1,6})(?:$|[\s,;])/i.exec(value)?.[1]
  return seconds === undefined ? undefined : Number(seconds) * 1000
}

function is(name: string | undefined, lower: string): boolean {
  return name === lower || name?.toLowerCase() === lower
}
