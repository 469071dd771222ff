// A connection to an upstream: one request at a time, and discarded on any oddity, so that nobody gets another's answer.
import type { Socket } from 'node:net'
import type { Bagged } from '../base/bag.ts'
import type { BodyReader } from './body.ts'
import { createBodyReader } from './body.ts'
import type { Deadline, Deadlines } from './deadlines.ts'
import { setDeadline } from './deadlines.ts'
import type { AnswerEvents, UpstreamExchange, UpstreamProblem, UpstreamRequest } from './exchange.ts'
import { createLineFormatter } from './field-lines.ts'
import { giveBack, restOf } from './lent-reads.ts'
import type { UpstreamLimits } from './limits.ts'
import { maxInterim } from './limits.ts'
import { createMessageWriter } from './message-writer.ts'
import type { Framing } from './request-head.ts'
import { bodyLength } from './request-head.ts'
import { reset } from './reset.ts'
import type { ResponseHead } from './response-head.ts'
import { describeMalformed, readResponseHead } from './response-head.ts'
import { probeMs } from './tunnel.ts'

/** What a connection tells its pool. */
export type ConnectionEvents = {
  readonly connected: () => void
  /** The head of an answer is there. */
  readonly answered: () => void
  /** The exchange is over, and another may begin. Called before its `end` is told. */
  readonly idle: () => void
  /** There was no head of an answer; what there was instead is for people. */
  readonly failed: (problem: UpstreamProblem, lost: LostRequest, found: string) => void
  /** It is gone; the last that is told of it. What became of it before it was connected is for people. */
  readonly closed: (why: string) => void
}

/** A request that got no answer. */
export type LostRequest = {
  readonly request: UpstreamRequest
  readonly events: AnswerEvents
  /** Whether its connection had served another request, and closed before a byte of an answer (RFC 9112 §9.3.1). */
  readonly isUnlucky: boolean
  /** Whether no byte of it was written, and none of a body was taken for it. */
  readonly isUnsent: boolean
}

/** A connection, given to one request at a time. */
export type UpstreamConnection = Bagged & {
  readonly send: (request: UpstreamRequest, events: AnswerEvents) => void
  /** Whether it may be used, as far as one can tell without using it. */
  readonly isUsable: () => boolean
  readonly destroy: () => void
}

/** Opens the socket. Bytes that come are given to `received`, lent for the time of the call. */
export type OpenSocket = (received: (bytes: Buffer) => void) => {
  readonly socket: Socket
  readonly ready: 'connect' | 'secureConnect'
}

type State = 'connecting' | 'idle' | 'head' | 'body' | 'raw' | 'closed'

// Of a body, the most that an upstream has surely read by its answer. One that has refused more closes the connection, also
// where it does not say so, and takes the next request with it.
const surelyReadBytes = 16_384
const requestLines = createLineFormatter()
// Less than an upstream promises: its clock began before ours, and ours may be a little late (`Deadlines.nowMs`).
const keepAliveMarginMs = 1000

/** Opens a connection; `connected` or `closed` tells what became of it. */
export function createUpstreamConnection(
  open: OpenSocket,
  limits: UpstreamLimits,
  deadlines: Deadlines,
  pool: ConnectionEvents,
): UpstreamConnection {
  let state: State = 'connecting'
  let request: UpstreamRequest | undefined
  let events: AnswerEvents | undefined
  let body: BodyReader | undefined
  let framing: Framing = 'none'
  let isRefusal = false
  let trailers: readonly string[] | undefined
  // A head, or a beginning of one.
  let held: Buffer | undefined
  let searched = 0
  let interim = 0
  let served = 0
  let hasUploaded = true
  let uploaded = 0
  let hasDownloaded = false
  let hasAnswered = false
  let keepsAlive = true
  let keepAliveMs = limits.keepAliveMs
  let isPaused = false
  let isDeaf = false
  let why = 'closed'

  const deadline: Deadline = { atMs: Number.POSITIVE_INFINITY, expire }
  const { socket, ready } = open(receive)
  const writer = createMessageWriter(socket, cannotWrite)
  const exchange: UpstreamExchange = { write, end, flush: writer.flush, abort: destroy, pause, resume }
  const bodySink = {
    data(chunk: Buffer) {
      events?.data(chunk)
    },
    end(found: readonly string[]) {
      trailers = found
    },
  }
  deadlines.watch(deadline)
  setDeadline(deadline, deadlines.nowMs() + limits.connectMs)
  socket.once(ready, () => {
    if (state !== 'connecting') return
    state = 'idle'
    setDeadline(deadline, deadlines.nowMs() + keepAliveMs)
    pool.connected()
  })
  socket.on('drain', drained)
  socket.on('end', ended)
  // Told by the closing.
  socket.on('error', (error) => {
    why = error.message
  })
  socket.on('close', () => lose('reset'))
  return { send, isUsable, destroy }

  function isUsable(): boolean {
    return state === 'idle' && !socket.destroyed && deadline.atMs > deadlines.nowMs()
  }

  function send(given: UpstreamRequest, listener: AnswerEvents): void {
    state = 'head'
    request = given
    events = listener
    interim = 0
    hasAnswered = false
    isPaused = false
    const { method, target, own, lines, identity, framing, upgrade } = given
    hasUploaded = bodyLength(given.framing) === 0
    uploaded = 0
    let head = `${method} ${target} HTTP/1.1\r\n${own.text}`
    if (lines.length > 0) head += requestLines.format(lines)
    if (identity !== undefined) head += identity.text
    if (framing === 'chunked') head += 'Transfer-Encoding: chunked\r\n'
    else if (framing !== 'none') head += `Content-Length: ${framing}\r\n`
    if (upgrade !== undefined) head += `Connection: upgrade\r\nUpgrade: ${upgrade}\r\n`
    writer.begin(`${head}\r\n`, framing === 'chunked')
    setDeadline(deadline, deadlines.nowMs() + limits.headMs)
    if (hasUploaded) writer.flush()
    listener.opened(exchange)
  }

  function write(chunk: Buffer): boolean {
    waitForMore()
    uploaded += chunk.length
    const hasRoom = writer.write(chunk)
    if (!hasRoom && state === 'raw') setDeadline(deadline, deadlines.nowMs() + limits.bodyMs)
    return hasRoom
  }

  function end(last: readonly string[]): void {
    hasUploaded = true
    waitForMore()
    writer.end(last)
    if (state !== 'raw') return
    writer.close()
    if (hasDownloaded) bothEnded()
  }

  function drained(): void {
    waitForMore()
    if (state === 'raw' && events !== undefined) setDeadline(deadline, Number.POSITIVE_INFINITY)
    events?.drained()
  }

  /**
   * It reads no more. One that did not want all of a body may have said so, and what it said may be here already, unread
   * (RFC 9112 §9.5); if it is not, reading on tells that it is gone, or time does. To what it got nothing of, and to a
   * request that ends with its head, it has no such answer.
   */
  function cannotWrite(error: Error): void {
    isDeaf = true
    if (request === undefined || bodyLength(request.framing) === 0 || !writer.hasBegun()) socket.destroy(error)
    else why = error.message
  }

  /** An upstream that still reads the request is at work, whether it has begun to answer or not. */
  function waitForMore(): void {
    if (isDeaf) return
    if (state === 'head') setDeadline(deadline, deadlines.nowMs() + limits.headMs)
    else if (state === 'body') setDeadline(deadline, deadlines.nowMs() + limits.bodyMs)
  }

  function receive(bytes: Buffer): void {
    if (state === 'head' && writer.hasBegun()) readHeads(bytes)
    else if (state === 'body') readBody(bytes)
    else if (state === 'raw') events?.data(bytes)
    // Bytes that nobody asked for: whoever sent them may mean them for the next request, even if that is here already.
    else lose('reset', 'bytes came before the request was sent')
    events?.flush()
  }

  function readHeads(bytes: Buffer): void {
    hasAnswered = true
    let rest = held === undefined ? bytes : Buffer.concat([held, bytes])
    held = undefined
    while (state === 'head' && request !== undefined) {
      const head = readResponseHead(rest, searched, request.method, limits.response)
      if (head === undefined) {
        searched = rest.length
        // Lent: what is kept is copied.
        if (rest.length > 0) held = Buffer.from(rest)
        return
      }
      searched = 0
      if (head === 'malformed') {
        lose('reset', describeMalformed(rest))
        return
      }
      giveBack(rest, head.bytes)
      rest = restOf(rest, head.bytes)
      if (head.status >= 200) {
        beginAnswer(head, rest)
        return
      }
      interim += 1
      if (head.status === 101) {
        switchTo(head, rest)
        return
      }
      // Interim answers end here.
      if (interim > maxInterim) {
        lose('reset', 'too many interim answers came')
        return
      }
    }
  }

  function beginAnswer(head: ResponseHead, rest: Buffer): void {
    state = 'body'
    keepsAlive = head.keepAlive
    isRefusal = head.status >= 400
    if (head.keepAliveMs === 0) keepsAlive = false
    else if (head.keepAliveMs !== undefined)
      keepAliveMs = Math.max(0, Math.min(limits.keepAliveMs, head.keepAliveMs - keepAliveMarginMs))
    setDeadline(deadline, deadlines.nowMs() + limits.bodyMs)
    framing = head.framing
    pool.answered()
    const listener = events
    listener?.head(head)
    if (events !== listener) return
    const length = head.framing
    if (bodyLength(length) === 0) {
      if (rest.length > 0) keepsAlive = false
      finish([])
    } else if (typeof length === 'number' && rest.length >= length) {
      // All of it came with the head, as most do.
      if (rest.length > length) keepsAlive = false
      listener?.data(rest.length > length ? rest.subarray(0, length) : rest)
      if (events === listener) finish([])
    } else {
      trailers = undefined
      body = createBodyReader(length, bodySink, limits.response.fields)
      if (rest.length > 0) readBody(rest)
    }
  }

  function readBody(bytes: Buffer): void {
    if (!isPaused) setDeadline(deadline, deadlines.nowMs() + limits.bodyMs)
    const listener = events
    const used = body?.feed(bytes) ?? 0
    if (events !== listener) return
    if (used === 'malformed') {
      lose('reset')
      return
    }
    if (trailers === undefined) return
    // What stands behind an answer belongs to nobody.
    if (used < bytes.length) keepsAlive = false
    finish(trailers)
  }

  function finish(found: readonly string[]): void {
    const listener = events
    served += 1
    events = undefined
    request = undefined
    body = undefined
    const mayBeUnread = uploaded > surelyReadBytes
    const isRefused = isRefusal && mayBeUnread
    // An answer before the end of the request: what is left of that would be read as another.
    if (!keepsAlive || !hasUploaded || isDeaf || isRefused) {
      // By a reset where nothing can be lost to it, as behind every HEAD: ended by us it would hold its port for a minute.
      leave(isRefused || (framing === 'none' && hasUploaded && !mayBeUnread))
    } else {
      resume()
      state = 'idle'
      setDeadline(deadline, deadlines.nowMs() + keepAliveMs)
      pool.idle()
    }
    listener?.end(found)
  }

  function switchTo(head: ResponseHead, rest: Buffer): void {
    if (request?.upgrade === undefined) {
      lose('reset', 'it switches protocols unasked (101)')
      return
    }
    state = 'raw'
    hasUploaded = false
    socket.allowHalfOpen = true
    socket.setKeepAlive(true, probeMs)
    setDeadline(deadline, Number.POSITIVE_INFINITY)
    writer.begin('', false)
    pool.answered()
    const listener = events
    listener?.switched(head.lines)
    if (rest.length > 0 && events === listener) listener?.data(rest)
  }

  function ended(): void {
    // The end of the connection is the end of such a body (RFC 9112 §6.3), unless it broke: the write that failed was told
    // of that, and then reading is not.
    if (state === 'body' && framing === 'close' && !isDeaf) finish([])
    else if (state === 'raw') {
      hasDownloaded = true
      const listener = events
      if (hasUploaded) bothEnded()
      listener?.end([])
    } else lose('reset')
  }

  /** Nothing more is told; what is on its way to the upstream has some time to get there. */
  function bothEnded(): void {
    events = undefined
    setDeadline(deadline, deadlines.nowMs() + limits.bodyMs)
  }

  function expire(): void {
    const isAnswering = state === 'head' || state === 'body'
    if (state === 'body' && isPaused) setDeadline(deadline, deadlines.nowMs() + limits.bodyMs)
    // The client is the one who is late, and has times of its own.
    else if (isAnswering && !hasUploaded && !isDeaf && !writer.isWaiting()) waitForMore()
    else if (state === 'connecting') {
      why = `not within ${limits.connectMs} ms`
      lose('connect')
    } else lose('timeout')
  }

  /** It is of no use any more, and whoever waits for an answer gets none, or no end of it. */
  function lose(problem: UpstreamProblem, found = foundInstead()): void {
    if (state === 'closed') return
    const [lostRequest, listener] = [request, events]
    const hadHead = state === 'body' || state === 'raw'
    leave(state === 'raw')
    if (listener === undefined || lostRequest === undefined) return
    if (hadHead) listener.failed(problem)
    else {
      const isUnlucky = served > 0 && !hasAnswered && problem === 'reset'
      const isUnsent = !writer.hasBegun() && bodyLength(lostRequest.framing) === 0
      pool.failed(problem, { request: lostRequest, events: listener, isUnlucky, isUnsent }, found)
    }
  }

  function foundInstead(): string {
    if (hasAnswered) return `the head of the answer broke off (${why})`
    // OpenSSL knows a GET where a handshake should be, and leaves without a word.
    const hint = ready === 'connect' && served === 0 ? ', as of a service that wants TLS' : ''
    return `no byte of an answer came (${why})${hint}`
  }

  /** Nobody waits for anything here any more. */
  function destroy(): void {
    if (state === 'closed') return
    leave(state === 'raw')
  }

  /** What was switched to may have no other end than that of the connection: cut off, it is to be known for that. */
  function leave(byReset: boolean): void {
    state = 'closed'
    events = undefined
    deadlines.unwatch(deadline)
    held = undefined
    if (byReset) reset(socket)
    else socket.destroy()
    pool.closed(why)
  }

  function pause(): void {
    isPaused = true
    socket.pause()
  }

  function resume(): void {
    if (!isPaused) return
    isPaused = false
    if (state !== 'raw') setDeadline(deadline, deadlines.nowMs() + limits.bodyMs)
    socket.resume()
  }
}
