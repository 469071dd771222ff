// RFC 9112 §3 and §6, read strictly.
import { isContentLength, isHopeless, readFieldLines, readList } from './field-lines.ts'
import type { RequestLimits } from './limits.ts'

/** How a body is delimited: not there, in chunks, by the end of the connection (answers only), or so many bytes. */
export type Framing = 'none' | 'chunked' | 'close' | number

/**
 * The head of one request. Strings hold one character per byte (latin1).
 *
 * @example { kind: 'head', method: 'GET', target: '/a?b', version: '1.1', lines: ['Host', 'a.test'], host: ['a.test'],
 *   authorization: [], framing: 'none', expectsContinue: false, upgrade: undefined }
 */
export type RequestHead = {
  readonly kind: 'head'
  readonly method: string
  readonly target: string
  /** `2` where it did not come as HTTP/1.1 at all. */
  readonly version: '1.0' | '1.1' | '2'
  /** Names and values alternating, every line as received. */
  readonly lines: readonly string[]
  /** Every `Host` line. */
  readonly host: readonly string[]
  /** Every `Authorization` line. */
  readonly authorization: readonly string[]
  readonly framing: Framing
  /** Whether it waits for a 100 before it sends the body (RFC 9110 §10.1.1). */
  readonly expectsContinue: boolean
  /** The protocols it offers to switch to, lower-case; undefined where it offers none, or has a body. */
  readonly upgrade: string | undefined
  /** Names of fields that no compression is to remember (RFC 7541 §6.2.3), lower-case; HTTP/1.1 knows none. */
  readonly neverIndexed?: readonly string[] | undefined
}

/** The same as HTTP/1.1 has it, where it begins a part of a connection. */
export type Http1Head = RequestHead & {
  /** Whether the client wants to send another request after this one. */
  readonly keepAlive: boolean
  /** Bytes of the head, its empty line included. */
  readonly bytes: number
}

/** How many bytes a body has: 0 where there is none, `Infinity` where its beginning does not tell. */
export function bodyLength(framing: Framing): number {
  if (typeof framing === 'number') return framing
  return framing === 'none' ? 0 : Number.POSITIVE_INFINITY
}

/** Why something is no request we read: the grammar, or which limit. */
export type HeadProblem = { readonly kind: 'malformed' | 'target_too_large' | 'head_too_large' }

/** It breaks the grammar (RFC 9112 §3, RFC 9113 §8.3). */
export const malformed: HeadProblem = { kind: 'malformed' }
/** Its target is longer than `RequestLimits.target`. */
export const targetTooLarge: HeadProblem = { kind: 'target_too_large' }
/** Its fields are more, or longer, than `RequestLimits.fields` has it. */
export const headTooLarge: HeadProblem = { kind: 'head_too_large' }
const none: readonly string[] = []
const headEnd = Buffer.from('\r\n\r\n')
// A method, two spaces, the version and the line's end.
const aroundTarget = 64
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\n')
const method = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$/
const knownMethods: readonly string[] = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'PATCH', 'OPTIONS']
const outsideTarget = /[^!-~\x80-\xff]/

/**
 * Reads the head of a request at the beginning of what was received.
 *
 * @param bytes What was received and not yet consumed.
 * @param searched How many of these were looked at before, and held no whole head.
 * @returns The head; undefined while it is not whole; or what is wrong with it.
 * @see RFC 9112 §2.2: one empty line before a request line is skipped.
 */
export function readRequestHead(
  bytes: Buffer,
  searched: number,
  limits: RequestLimits,
): Http1Head | HeadProblem | undefined {
  const start = bytes[0] === 13 && bytes[1] === 10 ? 2 : 0
  // A head that comes byte by byte is not made a text for every one of them.
  if (searched > 0 && bytes.indexOf(headEnd, Math.max(start, searched - 3)) === -1) {
    // Of what was looked at before, only a CR may be the half of something.
    const from = Math.max(start, bytes[searched - 1] === 13 ? searched - 1 : searched)
    if (isHopeless(bytes.toString('latin1', from))) return malformed
    const lineEnd = bytes.indexOf('\r\n', start)
    return judgeLength(bytes.length - start, lineEnd === -1 ? undefined : lineEnd - start, limits)
  }
  // Nearly always all of it: one text, and one look for its end.
  const most = limits.target + aroundTarget + limits.fields.bytes + headEnd.length
  const text = bytes.toString('latin1', start, Math.min(bytes.length, start + most))
  const end = text.indexOf('\r\n\r\n')
  if (end !== -1) return parseHead(text, end + 2, bytes, start, limits)
  // What comes last may be the half of a line's end.
  if (isHopeless(text)) return malformed
  const lineEnd = text.indexOf('\r\n')
  return judgeLength(text.length, lineEnd === -1 ? undefined : lineEnd, limits)
}

/** Whether what has come of a head is too long, whatever comes. */
function judgeLength(length: number, lineEnd: number | undefined, limits: RequestLimits): HeadProblem | undefined {
  if ((lineEnd ?? length) > limits.target + aroundTarget) return targetTooLarge
  // The half of the empty line may be among them.
  return lineEnd !== undefined && length - lineEnd - 3 > limits.fields.bytes ? headTooLarge : undefined
}

/**
 * @param end Where in the text the empty line begins.
 * @param start Where in the bytes the text begins.
 */
function parseHead(
  text: string,
  end: number,
  bytes: Buffer,
  start: number,
  limits: RequestLimits,
): Http1Head | HeadProblem {
  const lineEnd = text.indexOf('\r\n')
  const space = text.indexOf(' ')
  const target = lineEnd - 9 // ` HTTP/1.1`
  if (lineEnd > limits.target + aroundTarget) return targetTooLarge
  if (space < 1 || space + 1 >= target) return malformed
  // Our own text of it, where we have one: that is found at once wherever it is looked up.
  const known = knownMethod(text, space)
  const name = known ?? text.slice(0, space)
  if (known === undefined && !isMethod(name)) return malformed
  const version = text.charCodeAt(lineEnd - 1)
  if (!text.startsWith(' HTTP/1.', target) || (version !== 49 && version !== 48)) return malformed
  const written = text.slice(space + 1, target)
  if (written.length > limits.target) return targetTooLarge
  if (!isTarget(written)) return malformed
  const lines: string[] = []
  const names: string[] = []
  const problem = readFieldLines('request', text, lineEnd + 2, end, limits.fields, lines, names, bytes, start)
  if (problem !== undefined) return problem === 'malformed' ? malformed : headTooLarge
  return understand(name, written, version === 49 ? '1.1' : '1.0', lines, names, start + end + 2)
}

function knownMethod(text: string, length: number): string | undefined {
  for (const method of knownMethods) if (method.length === length && text.startsWith(method)) return method
  return undefined
}

/** Finds what the lines say about the message itself. */
function understand(
  name: string,
  target: string,
  version: '1.0' | '1.1',
  lines: readonly string[],
  names: readonly string[],
  bytes: number,
): Http1Head | HeadProblem {
  let host = none
  let authorization = none
  let encoding: string | undefined
  let length: string | undefined
  let options: readonly string[] = none
  let upgrade: string | undefined
  let expectsContinue = false
  for (let at = 0; at < names.length; at += 1) {
    const value = lines[at * 2 + 1] ?? ''
    switch (names[at]) {
      case 'host':
        host = host === none ? [value] : [...host, value]
        break
      case 'authorization':
        authorization = authorization === none ? [value] : [...authorization, value]
        break
      case 'connection':
        options = options === none ? readList(value) : [...options, ...readList(value)]
        break
      case 'expect':
        // RFC 9110 §10.1.1 knows one expectation.
        if (value.toLowerCase() !== '100-continue') return malformed
        expectsContinue = version === '1.1'
        break
      case 'upgrade':
        upgrade = upgrade === undefined ? value : `${upgrade}, ${value}`
        break
      case 'content-length':
        if (length !== undefined || !isContentLength(value)) return malformed
        length = value
        break
      case 'transfer-encoding':
        if (encoding !== undefined || value.toLowerCase() !== 'chunked') return malformed
        encoding = value
        break
      default:
    }
  }
  // RFC 9112 §6.1: both together are what smuggling is made of, and HTTP/1.0 knows no chunks.
  if (encoding !== undefined && (length !== undefined || version === '1.0')) return malformed
  const framing = encoding !== undefined ? 'chunked' : length === undefined ? 'none' : Number(length)
  // RFC 9110 §7.8: HTTP/1.0 switches to nothing; and nobody can tell the bytes of a body from those behind the switch.
  const mayUpgrade = version === '1.1' && bodyLength(framing) === 0
  return {
    kind: 'head',
    method: name,
    target,
    version,
    lines,
    host,
    authorization,
    framing,
    keepAlive: version === '1.1' && !options.includes('close'),
    expectsContinue,
    upgrade: mayUpgrade && options.includes('upgrade') ? upgrade?.toLowerCase() : undefined,
    bytes,
  }
}

/** Whether bytes begin as HTTP/2 does (RFC 9113 §3.4). */
export function isPreface(bytes: Buffer): boolean {
  return bytes.subarray(0, preface.length).equals(preface)
}

/** Whether a word can be a method (RFC 9110 §9.1). */
export function isMethod(word: string): boolean {
  return method.test(word)
}

/** Whether a target holds nothing but visible characters, and bytes beyond ASCII, which are judged with the path. */
export function isTarget(text: string): boolean {
  return !outsideTarget.test(text)
}
