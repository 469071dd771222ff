// One request to an upstream on a stream of its session, RFC 9113 §8: an answer we are not sure of is no answer.
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2'
import type { Deadline, Deadlines } from '../http1/deadlines.ts'
import { setDeadline } from '../http1/deadlines.ts'
import type { AnswerEvents, UpstreamExchange, UpstreamProblem, UpstreamRequest } from '../http1/exchange.ts'
import { keep } from '../http1/lent-reads.ts'
import type { UpstreamLimits } from '../http1/limits.ts'
import { maxInterim } from '../http1/limits.ts'
import type { Framing } from '../http1/request-head.ts'
import { bodyLength } from '../http1/request-head.ts'
import { http2Codes } from './codes.ts'
import { closeNow } from './errors.ts'
import { markSecret, neverIndexed, readAnswerFields, readTrailerFields, trailersOf } from './fields.ts'

/** What a stream tells its session. */
export type ExchangeEvents = {
  /** There is a stream. */
  readonly begun: (stream: ClientHttp2Stream) => void
  /** The head of the answer is there. */
  readonly answered: () => void
  /** There was no head. */
  readonly failed: (problem: UpstreamProblem, how: LostStream) => void
  /** It is given up with some of its body still here, for which the session has no room. */
  readonly stuck: () => void
  /** The stream of this number is over, and makes room for another. `code`: what it was reset with (RFC 9113 §7), or 0. */
  readonly closed: (id: number, code: number) => void
}

/** How a request got no answer. */
export type LostStream = {
  /** Something of an answer was there. */
  readonly hasHeard: boolean
  /** The upstream had not begun (RFC 9113 §8.7). */
  readonly isRefused: boolean
  /** No byte of it was sent, and none of a body was taken for it. */
  readonly isUnsent: boolean
}

// RFC 9113 §6.1, §6.2.
const endStream = 1
const headersFrame = 1

/** Sends a request; its answer is told to `listener`. @returns The exchange that is told as `opened`, maybe later. */
export function openExchange(
  session: ClientHttp2Session,
  scheme: 'http' | 'https',
  request: UpstreamRequest,
  listener: AnswerEvents,
  limits: UpstreamLimits,
  deadlines: Deadlines,
  told: ExchangeEvents,
): UpstreamExchange {
  const { framing: sent, method } = request
  let hasUploaded = bodyLength(sent) === 0
  let uploaded = 0
  let outTrailers: readonly string[] = []
  let framing: Framing | undefined
  let interim = 0
  let received = 0
  let inTrailers: readonly string[] | 'malformed' = []
  let isPaused = false
  let isOver = false
  let isWhole = false
  let isOpened = false
  let isUnsent = false

  const stream = begin()
  told.begun(stream)
  // What ends because its stream was closed had no end of its own (RST_STREAM without an error): node does not tell, but
  // closes the stream first.
  const push = stream.push.bind(stream)
  // Named first: a function written where it is assigned is put among what lives long (V8), with all that it can reach.
  const noticeEnd: typeof push = (chunk, encoding) => {
    isWhole ||= chunk === null && !stream.closed
    return push(chunk, encoding)
  }
  stream.push = noticeEnd
  const deadline: Deadline = { atMs: Number.POSITIVE_INFINITY, expire }
  const exchange: UpstreamExchange = { write, end, flush() {}, abort, pause, resume }
  deadlines.watch(deadline)
  setDeadline(deadline, deadlines.nowMs() + limits.headMs)
  stream.on('headers', () => {
    // Interim answers end here.
    interim += 1
    if (interim > maxInterim) lose('reset')
  })
  stream.on('response', (headers, flags, fields) =>
    beginAnswer(fields, (flags & endStream) !== 0, neverIndexed(headers)),
  )
  stream.on('data', receive)
  stream.on('trailers', (_headers, _flags, fields) => {
    inTrailers = readTrailerFields(fields, limits.response.fields)
  })
  stream.on('end', ended)
  stream.on('drain', () => {
    if (isOver) return
    waitForMore()
    listener.drained()
  })
  stream.on('wantTrailers', () => stream.sendTrailers(trailersOf(outTrailers)))
  // Where the upstream said GOAWAY meanwhile, node sends it no more.
  stream.on('frameError', (type, code) => {
    if (type === headersFrame && !isOpened && code !== http2Codes.FRAME_SIZE_ERROR) isUnsent = true
  })
  stream.on('error', () => {}) // told by its closing
  stream.on('close', () => {
    lose('reset')
    told.closed(stream.id ?? 0, stream.rstCode ?? 0)
  })
  // A body is asked for only once the head is out: what has not been taken can still go elsewhere.
  if (hasUploaded) listener.opened(exchange)
  else setImmediate(opened)
  return exchange

  function opened(): void {
    if (isOpened || isOver) return
    isOpened = true
    listener.opened(exchange)
  }

  function begin(): ClientHttp2Stream {
    const { target, authority, own, lines, identity } = request
    const fields = [':method', method, ':scheme', scheme, ':authority', authority, ':path', target]
    // The first line is Host, which is :authority here.
    fields.push(...own.lines.slice(2), ...lines, ...(identity?.lines ?? []), 'te', 'trailers')
    if (typeof sent === 'number') fields.push('content-length', String(sent))
    return session.request(markSecret(fields, request.neverIndexed), {
      endStream: hasUploaded,
      waitForTrailers: !hasUploaded && sent === 'chunked',
    })
  }

  function beginAnswer(fields: readonly string[], hasEnded: boolean, secret: readonly string[] | undefined): void {
    if (isOver) return
    const head = readAnswerFields(fields, hasEnded, method, limits.response.fields)
    if (head === 'malformed') {
      interim += 1
      lose('reset')
      return
    }
    framing = head.framing
    waitForMore()
    if (!hasUploaded) opened()
    if (isOver) return
    told.answered()
    listener.head(secret === undefined ? head : { ...head, neverIndexed: secret })
  }

  function receive(chunk: Buffer): void {
    if (isOver) return
    received += chunk.length
    if (received > bodyLength(framing ?? 'close')) {
      lose('reset')
      return
    }
    waitForMore()
    listener.data(chunk)
    listener.flush()
  }

  function ended(): void {
    // One that was reset, or has no head, ends too: its closing tells.
    if (isOver || framing === undefined || stream.rstCode !== 0) return
    // Its length tells, too.
    const isComplete = typeof framing === 'number' ? received === framing : isWhole
    if (!isComplete || inTrailers === 'malformed') {
      lose('reset')
      return
    }
    leave()
    listener.end(inTrailers)
  }

  function write(chunk: Buffer): boolean {
    // An upstream that has answered, and wants no more (RFC 9113 §8.1). To write then would cost what is still to be read.
    if (isOver || stream.closed) return true
    waitForMore()
    uploaded += chunk.length
    if (uploaded !== sent) return stream.write(keep(chunk))
    // With its last byte, though trailers could follow: who counts answers by then, and some proxies take an answer before
    // the end of its request for an error.
    hasUploaded = true
    stream.end(keep(chunk))
    return true
  }

  function end(trailers: readonly string[]): void {
    if (isOver || hasUploaded) return
    hasUploaded = true
    outTrailers = trailers
    waitForMore()
    stream.end()
  }

  function abort(): void {
    if (!isOver) leave()
  }

  function pause(): void {
    isPaused = true
    stream.pause()
  }

  function resume(): void {
    if (!isPaused) return
    isPaused = false
    waitForMore()
    stream.resume()
  }

  function waitForMore(): void {
    setDeadline(deadline, deadlines.nowMs() + (framing === undefined ? limits.headMs : limits.bodyMs))
  }

  function expire(): void {
    // While we do not read it is not the upstream that is slow, nor while the client sends nothing, which has times of its
    // own.
    const isClients = !hasUploaded && !stream.closed && stream.writableLength === 0
    if (isPaused || isClients) waitForMore()
    else lose('timeout')
  }

  /** Whoever waits for an answer gets none, or no end of it. */
  function lose(problem: UpstreamProblem): void {
    if (isOver) return
    const isRefused = stream.rstCode === http2Codes.REFUSED_STREAM
    leave()
    // What has no body is whole with its head: some upstreams send one to HEAD.
    if (framing === 'none' && problem === 'reset') listener.end([])
    else if (framing !== undefined) listener.failed(problem)
    else told.failed(problem, { hasHeard: interim > 0, isRefused, isUnsent })
  }

  /** Nobody is interested in the stream any more: what is left of it is called off, whichever way it goes. */
  function leave(): void {
    isOver = true
    deadlines.unwatch(deadline)
    if (stream.writableLength > 0 && session.state.remoteWindowSize === 0) told.stuck()
    // It closes only once what has come is read.
    stream.resume()
    // Later: while node reads or writes it keeps a reset back, and may have freed the stream by then, and aborts.
    setImmediate(() => closeNow(stream, http2Codes.CANCEL))
  }
}
