// RFC 9112 §6 and §7.1: where a body ends. Checked as it passes, and never gathered.
import { isHopeless, readFieldLines } from './field-lines.ts'
import { giveBack } from './lent-reads.ts'
import type { FieldLimits } from './limits.ts'
import type { Framing } from './request-head.ts'
import { bodyLength } from './request-head.ts'

/** Receives a body as it is read. */
export type BodySink = {
  /** A part of the content, as it came: a view of the bytes that were fed. */
  readonly data: (chunk: Buffer) => void
  /** The last of it is read. `trailers`: names and values alternating. */
  readonly end: (trailers: readonly string[]) => void
}

/** Reads one body. */
export type BodyReader = {
  /**
   * Takes bytes, and tells the sink what is in them.
   *
   * @returns How many of them belonged to the body: fewer than were given once it has ended. `malformed` for what is no
   *   body by the grammar; nothing may be fed after that.
   */
  readonly feed: (bytes: Buffer) => number | 'malformed'
  readonly isDone: () => boolean
  /** Bytes still to come where that is known; `Infinity` where it is not. */
  readonly remaining: () => number
}

// Nobody has a use for chunk extensions (§7.1.1); a few bytes are put up with.
const maxSizeLine = 256
const sizeLine = /^([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t -~\x80-\xff]*)?$/
const noTrailers: readonly string[] = []

/**
 * Makes the reader of one body. One of the length 0 and one that is not there have ended before they begin, without
 * `end` being called.
 *
 * @param limits What its trailers may hold.
 */
export function createBodyReader(framing: Framing, sink: BodySink, limits: FieldLimits): BodyReader {
  if (framing === 'chunked') return createChunkedReader(sink, limits)
  let left = bodyLength(framing)
  return {
    feed(bytes) {
      if (left === 0) return 0
      const taken = Math.min(left, bytes.length)
      left -= taken
      sink.data(taken === bytes.length ? bytes : bytes.subarray(0, taken))
      if (left === 0) sink.end(noTrailers)
      return taken
    },
    isDone: () => left === 0,
    remaining: () => left,
  }
}

type ChunkState = 'size' | 'data' | 'data-end' | 'trailers' | 'done'

function createChunkedReader(sink: BodySink, limits: FieldLimits): BodyReader {
  // Of a line, its end included; the trailers count as one.
  const mostBytes = { size: maxSizeLine, data: 0, 'data-end': 2, trailers: limits.bytes + 2, done: 0 }
  let state: ChunkState = 'size'
  let left = 0
  // The line that is not whole yet: a size, the end after a chunk, or the trailers.
  let held = ''
  return { feed, isDone: () => state === 'done', remaining: () => (state === 'done' ? 0 : Number.POSITIVE_INFINITY) }

  function feed(bytes: Buffer): number | 'malformed' {
    let at = 0
    while (at < bytes.length && state !== 'done') {
      const isData = state === 'data'
      const used = isData ? takeData(bytes, at) : takeLine(bytes, at)
      if (used === 'malformed') return 'malformed'
      if (!isData) giveBack(bytes, used)
      at += used
    }
    return at
  }

  function takeData(bytes: Buffer, at: number): number {
    const taken = Math.min(left, bytes.length - at)
    left -= taken
    if (left === 0) state = 'data-end'
    sink.data(bytes.subarray(at, at + taken))
    return taken
  }

  /** Takes up to the next line feed: a line ends in exactly CR LF. */
  function takeLine(bytes: Buffer, at: number): number | 'malformed' {
    const feedAt = bytes.indexOf(10, at)
    const to = feedAt === -1 ? bytes.length : feedAt + 1
    if (held.length + to - at > mostBytes[state]) return 'malformed'
    held += bytes.toString('latin1', at, to)
    if (state === 'data-end' && !'\r\n'.startsWith(held)) return 'malformed'
    if (feedAt === -1) return isHopeless(held) ? 'malformed' : to - at
    if (!held.endsWith('\r\n')) return 'malformed'
    return endLine() ? to - at : 'malformed'
  }

  function endLine(): boolean {
    switch (state) {
      case 'data-end':
        state = 'size'
        return take() === '\r\n'
      case 'size': {
        const size = sizeLine.exec(take().slice(0, -2))?.[1]
        if (size === undefined) return false
        left = Number.parseInt(size, 16)
        state = left === 0 ? 'trailers' : 'data'
        return true
      }
      default: {
        // The empty line ends them all.
        if (held !== '\r\n' && !held.endsWith('\r\n\r\n')) return !isHopeless(held)
        const text = take()
        const trailers: string[] = []
        const wrong = readFieldLines('trailers', text, 0, text.length - 2, limits, trailers, [])
        if (wrong !== undefined) return false
        state = 'done'
        sink.end(trailers)
        return true
      }
    }
  }

  function take(): string {
    const text = held
    held = ''
    return text
  }
}
