// What must become of bytes a client sends, by product.md §1 and §10 and security.md §4.1: the oracle of the tests here.
import { METHODS } from 'node:http'
import type { Head, Line, Message } from '../support/strict-reader.ts'
import { readRequest, valuesOf } from '../support/strict-reader.ts'

/** What must become of one request. */
export type Expected =
  /** Forwarded as it is and answered by the upstream. */
  | { readonly kind: 'forward'; readonly request: Message }
  /** Read whole, and refused for want of a token. */
  | { readonly kind: 'deny'; readonly request: Message }
  /** HTTP, and refused or forwarded by rules that are not those of its grammar. */
  | { readonly kind: 'either'; readonly request: Message }
  /** HTTP, and refused for what it asks for, or for its size; whether that ends its connection is open. */
  | { readonly kind: 'reject'; readonly why: string; readonly request: Message }
  /** Answered 4xx, never forwarded whole, and the end of its connection. */
  | { readonly kind: 'refuse'; readonly why: string }
  /** Refused, or waited for: more bytes could not make it good, or could, and there are none. */
  | { readonly kind: 'unfinished' }

/** What must become of all of them; nothing behind the last is read. */
export type Expectation = {
  readonly each: readonly Expected[]
  /** Whether the gateway closes the connection after the last. */
  readonly closes: boolean
  /** Whether every byte was a part of one of them. */
  readonly whole: boolean
}

// Within a margin both are right: where the count begins is nobody's business.
const limits = {
  fields: [15_800, 16_900],
  /** Without an end in sight: a target, the fields, and what else a start line has. */
  unended: 27_000,
  line: [12_200, 12_400],
  lines: [100, 100],
  target: [8192, 8192],
  extension: [250, 262],
  trailers: [7900, 8500],
} as const
const authority = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*(?::([1-9]\d{0,4}))?$/
const plainTarget = /^\/(open|orders)\/[A-Za-z0-9_~-]*(?:\?[!"$-~]*)?$/

/** Judges everything a client sends on one connection. */
export function judge(text: string): Expectation {
  const each: Expected[] = []
  for (let at = 0; at < text.length; ) {
    const from = skipEmptyLine(text, at)
    if (from === text.length && each.length > 0) return { each, closes: false, whole: false }
    const read = readRequest(text, from)
    const bytes = text.length - from
    if (read.kind === 'unfinished' && read.head === undefined)
      return {
        each: [...each, bytes > limits.unended ? refuse('the size of a head') : { kind: 'unfinished' }],
        closes: true,
        whole: false,
      }
    if (read.kind === 'broken') return { each: [...each, refuse(read.why)], closes: true, whole: false }
    if (read.kind === 'unfinished') return { each: [...each, { kind: 'unfinished' }], closes: true, whole: false }
    const why = refusedBody(read)
    if (why !== undefined) return { each: [...each, refuse(why)], closes: true, whole: false }
    each.push(judgeWhole(read))
    if (closesAfter(read)) return { each, closes: true, whole: false }
    at = read.end
  }
  return { each, closes: false, whole: true }
}

/** RFC 9112 §2.2: one empty line before a request is nobody's fault. */
export function skipEmptyLine(text: string, at: number): number {
  return text.startsWith('\r\n', at) ? at + 2 : at
}

/** Whether a request is the last of its connection. */
export function closesAfter(request: Head): boolean {
  const options = valuesOf(request, 'connection').flatMap((value) => value.toLowerCase().split(','))
  return request.version === '1.0' || options.some((option) => option.trim() === 'close')
}

function refuse(why: string): Expected {
  return { kind: 'refuse', why }
}

function refusedHead(head: Head): string | undefined {
  const { method, target, version } = head
  const hosts = valuesOf(head, 'host')
  if (/^(?:connect|trace)$/i.test(method)) return 'the method'
  if (hosts.length > 1 || (hosts.length === 0 && version === '1.1')) return 'the number of Host lines'
  if (hosts.some((host) => !host.includes('[') && !isAuthority(host))) return 'the Host'
  if (!/^(?:\/|https?:\/\/)/i.test(target) && !(target === '*' && method === 'OPTIONS')) return 'the form of the target'
  if (/[#\x80-\xff]/.test(target)) return 'a byte of the target'
  if (valuesOf(head, 'expect').some((value) => value.toLowerCase() !== '100-continue')) return 'the expectation'
  return undefined
}

function tooLarge({ lines, target }: Head): string | undefined {
  if (bytesOf(lines) > limits.fields[1]) return 'the size of a head'
  if (lines.length > limits.lines[1]) return 'the number of lines'
  if (target.length > limits.target[1]) return 'the size of a target'
  const longest = Math.max(0, ...lines.map(([name, value]) => name.length + value.length))
  return longest > limits.line[1] ? 'the size of a line' : undefined
}

function bytesOf(lines: readonly Line[]): number {
  return lines.reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0)
}

function refusedBody({ extensionBytes, trailerBytes }: Message): string | undefined {
  if (extensionBytes > limits.extension[1]) return 'the size of a chunk extension'
  return trailerBytes > limits.trailers[1] ? 'the size of trailers' : undefined
}

function judgeWhole(request: Message): Expected {
  const why = refusedHead(request) ?? tooLarge(request)
  if (why !== undefined) return { kind: 'reject', why, request }
  const { method, target, lines, extensionBytes, trailerBytes, trailers } = request
  const longest = Math.max(0, ...lines.map(([name, value]) => name.length + value.length))
  const near =
    bytesOf(lines) > limits.fields[0] ||
    longest > limits.line[0] ||
    extensionBytes > limits.extension[0] ||
    trailerBytes > limits.trailers[0]
  const [, where] = plainTarget.exec(target) ?? []
  const named = valuesOf(request, 'host').some((host) => isAuthority(host))
  if (near || !named || where === undefined || !METHODS.includes(method)) return { kind: 'either', request }
  // Read or refused: it is dropped either way, and nobody behind us can read it otherwise.
  if (request.hasOddExtension) return { kind: 'either', request }
  // What a proxy makes of these is its own choice.
  if (trailers.some(([name]) => !/^x-/i.test(name))) return { kind: 'either', request }
  if (where === 'open') return { kind: 'forward', request }
  return valuesOf(request, 'authorization').length > 0 ? { kind: 'either', request } : { kind: 'deny', request }
}

function isAuthority(text: string): boolean {
  const [, port = '0'] = authority.exec(text) ?? [undefined, '65536']
  return Number(port) <= 65_535
}
