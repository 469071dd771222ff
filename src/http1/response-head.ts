// RFC 9112 §4 and §6.3, read strictly: an answer we are not sure of is no answer.

import { copyOf } from '../base/copy-of.ts'
import type { AnswerHead } from './exchange.ts'
import {
  isContentLength,
  isHopeless,
  mayBeRemembered,
  readFieldLines,
  readList,
  readMediaType,
  stands,
} from './field-lines.ts'
import type { ResponseLimits } from './limits.ts'
import type { Beginning } from './plain-bytes.ts'
import { beginWith, copyBeginning } from './plain-bytes.ts'
import type { Framing } from './request-head.ts'

/** The head of one answer. Strings hold one character per byte (latin1). */
export type ResponseHead = AnswerHead & {
  /** Whether the connection may carry another request. */
  readonly keepAlive: boolean
  /** What `Keep-Alive: timeout` says, milliseconds; undefined where it says nothing. */
  readonly keepAliveMs: number | undefined
  /** Bytes of the head, its empty line included. */
  readonly bytes: number
}

const maxStatusLine = 1024
const none: readonly string[] = []
// Enough for nearly every head, and little to make a text of where a body follows.
const firstLook = 2048
const headEnd = Buffer.from('\r\n\r\n')
// RFC 9110 §15: 100 to 599. Of what is beyond, each reader behind us would make something else.
const statusCode = /^[1-5]\d\d$/
const outsideReason = /[^\t -~\x80-\xff]/
const version = 'HTTP/1.'

// A whole head, where all of it may be remembered: what an upstream says in one second is often the same, byte for byte.
type KnownHead = {
  readonly written: Beginning
  readonly isHead: boolean
  readonly limits: ResponseLimits
  readonly head: ResponseHead
}
let known: KnownHead | undefined
let misses = 0
// Upstreams that take turns, or say something new each time, cost little.
const maxMisses = 8
const maxKnownBytes = 1024

/** A status line, its CR LF included. */
type StatusLine = {
  readonly written: string
  readonly status: number
  readonly reason: string
  readonly isVersion10: boolean
}
// The one read last, which is nearly always the next one, too.
let lastStatusLine: StatusLine = { written: 'HTTP/1.1 200 OK\r\n', status: 200, reason: 'OK', isVersion10: false }

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
  if (searched === 0 && known?.limits === limits && known.isHead === (method === 'HEAD'))
    if (beginWith(bytes, known.written)) return known.head
  const most = limits.fields.bytes + maxStatusLine + headEnd.length
  if (searched > 0 && bytes.indexOf(headEnd, Math.max(0, searched - 3)) === -1)
    return judgeBeginning(bytes, searched, most)
  // A small answer comes whole: of a large one only what may be its head is made a text.
  const text = bytes.toString('latin1', 0, Math.min(bytes.length, searched > 0 ? most : firstLook))
  const end = text.indexOf('\r\n\r\n')
  if (end !== -1) return parseHead(text, end + 2, method, limits)
  // What comes behind a large head may be more than any head.
  if (searched === 0 && text.length < bytes.length) return readResponseHead(bytes, 1, method, limits)
  return judgeBeginning(bytes, searched, most)
}

/** What people are told of bytes that are no head, or a beginning of one: none of them. */
export function describeMalformed(bytes: Buffer): string {
  const [first, second] = bytes
  // RFC 8446 §5.1: an alert or a handshake, and 3 for every version.
  if ((first === 0x15 || first === 0x16) && second === 3) return 'the answer is no HTTP; it looks like TLS'
  // RFC 9113 §3.4 and §4.1: its first frame is SETTINGS (4), and that is short.
  if (first === 0 && second === 0 && bytes[3] === 4) return 'the answer is no HTTP/1.1; it looks like HTTP/2'
  if (bytes.toString('latin1', 0, version.length) !== version) return 'the answer is no HTTP'
  return 'the head of the answer is malformed, or over its limit'
}

function judgeBeginning(bytes: Buffer, searched: number, most: number): 'malformed' | undefined {
  if (bytes.length > most) return 'malformed'
  if (searched < version.length && !version.startsWith(bytes.toString('latin1', 0, version.length))) return 'malformed'
  // Of what was looked at before, only a CR may be the half of something.
  const from = bytes[searched - 1] === 13 ? searched - 1 : searched
  return isHopeless(bytes.toString('latin1', from)) ? 'malformed' : undefined
}

/** @param end Where in the text the empty line begins. */
function parseHead(text: string, end: number, method: string, limits: ResponseLimits): ResponseHead | 'malformed' {
  const statusLine = stands(lastStatusLine.written, text, 0) ? lastStatusLine : readStatusLine(text)
  if (statusLine === undefined) return 'malformed'
  const { status, reason, isVersion10 } = statusLine
  const lines: string[] = []
  const names: string[] = []
  if (readFieldLines('response', text, statusLine.written.length, end, limits.fields, lines, names) !== undefined)
    return 'malformed'
  let encoding: string | undefined
  let length: string | undefined
  let options = none
  let keepAliveMs: number | undefined
  let mediaType = ''
  for (let at = 0; at < names.length; at += 1) {
    const value = lines[at * 2 + 1] ?? ''
    switch (names[at]) {
      case 'connection':
        options = options === none ? readList(value) : [...options, ...readList(value)]
        break
      case 'keep-alive':
        keepAliveMs = readKeepAlive(value)
        break
      case 'content-type':
        mediaType = readMediaType(value)
        break
      case 'content-length':
        if (length !== undefined || !isContentLength(value)) return 'malformed'
        length = value
        break
      case 'transfer-encoding':
        if (encoding !== undefined || value.toLowerCase() !== 'chunked') return 'malformed'
        encoding = value
        break
      default:
    }
  }
  // Two framings are two answers (RFC 9112 §6.1), and HTTP/1.0 knows no chunks.
  if (encoding !== undefined && (length !== undefined || isVersion10)) return 'malformed'
  const closes = options.includes('close') || (isVersion10 && !options.includes('keep-alive'))
  const framing = framingOf(status, method, encoding, length)
  // Some send a body with what has none, where their head declares one (uvicorn with 304), and to HEAD where it does not
  // (aiohttp): late, it would be taken for the next answer. 204 and 304 are to declare none (RFC 9110 §8.6).
  const saysEmpty = encoding === undefined && (length === '0' || (length === undefined && method !== 'HEAD'))
  const mayBeTrailed = framing === 'none' && !saysEmpty
  const head: ResponseHead = {
    status,
    reason,
    lines,
    framing,
    keepAlive: !closes && framing !== 'close' && !mayBeTrailed,
    keepAliveMs,
    mediaType,
    isKnown: false,
    bytes: end + 2,
  }
  learnHead(text, head, names, method, limits)
  return head
}

function learnHead(
  text: string,
  head: ResponseHead,
  names: readonly string[],
  method: string,
  limits: ResponseLimits,
): void {
  misses += 1
  if (misses <= maxMisses) return
  misses = 0
  if (head.bytes > maxKnownBytes || !mayBeRemembered(names)) return
  const written = copyBeginning(text.slice(0, head.bytes))
  // Copied: a slice would keep all that came with the head, the beginning of a body too.
  const lines = Object.freeze(head.lines.map(copyOf))
  known = { written, isHead: method === 'HEAD', limits, head: { ...head, lines, isKnown: true } }
}

/** RFC 9112 §4. The space before a reason that is not there is often left out, and nothing is lost. */
function readStatusLine(text: string): StatusLine | undefined {
  const lineEnd = text.indexOf('\r\n')
  const minor = text.charCodeAt(7)
  const code = text.slice(9, 12)
  if (!text.startsWith(version) || (minor !== 49 && minor !== 48) || text.charCodeAt(8) !== 32) return undefined
  if (!statusCode.test(code) || lineEnd < 12 || lineEnd > maxStatusLine) return undefined
  if (lineEnd > 12 && text.charCodeAt(12) !== 32) return undefined
  const written = copyOf(text.slice(0, lineEnd + 2))
  const reason = written.slice(13, lineEnd)
  if (outsideReason.test(reason)) return undefined
  lastStatusLine = { written, status: Number(code), reason, isVersion10: minor === 48 }
  return lastStatusLine
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
