// The HTTP/2 front door, RFC 9113: sessions of clients on the same decision and the same canonicaliser.
import type { ServerHttp2Stream, ServerOptions } from 'node:http2'
import type { Socket } from 'node:net'
import { createBag } from '../base/bag.ts'
import type { Deadline } from '../http1/deadlines.ts'
import { setDeadline } from '../http1/deadlines.ts'
import type { ServerLimits } from '../http1/limits.ts'
import { probeMs } from '../http1/tunnel.ts'
import { http2Codes } from '../http2/codes.ts'
import { outliveStreamErrors } from '../http2/errors.ts'
import { neverIndexed, readRequestFields } from '../http2/fields.ts'
import { sessionBounds, sessionWindow } from '../http2/session-limits.ts'
import { serveStream } from '../http2/stream.ts'
import type { Peer } from './gate.ts'
import type { FrontDoorDeps, Handler, Served } from './handler.ts'
import { createHandler } from './handler.ts'

/** Who the client is, and what it may cost. */
export type Http2Options = {
  readonly limits: ServerLimits
  readonly peer: Peer
  /** Since when its time for a beginning runs, as `Deadlines.nowMs` counts; undefined: since now. */
  readonly acceptedMs: number | undefined
  /** No request has come in time; the session ends. */
  readonly late: () => void
}

const maxStreams = 100
// Requests that a client may take back, or break, in a second. More is no change of mind (CVE-2023-44487, CVE-2025-8671); less
// may be many clients', behind a load balancer. No share of what it asks: requests that are denied cost it nothing.
const maxSpoiledPerS = 300
// Messages that may be no good in a second, those included; of more the session takes leave, before nghttp2 ends it for all
// that share it: that bears 330 a second for long.
const maxWrongPerS = 300
// nghttp2 counts every stream that the client resets: also those whose answer is out, as who is refused while it uploads
// does, and ends the session with all that is under way. What is to be counted is counted here.
const resetsUncounted = 1_000_000
// Frames that may wait to be sent; 100 streams have a few each. Looked at with every 64th request: it is not for nothing.
const maxWaitingFrames = 500
const backlogEvery = 64
// Time for the last frames to leave, and for another request to come.
const lingerMs = 1000

/**
 * Serves one session. Nothing of it was read from the socket yet, or what was is put back (`unshift`).
 *
 * @param socket A plain one (prior knowledge), or one of TLS whose ALPN said `h2`.
 */
export function serveHttp2(
  socket: Socket,
  { limits, peer, acceptedMs, late }: Http2Options,
  deps: FrontDoorDeps,
): Served {
  const { clock, deadlines } = deps
  // First needed here: most sidecars never load it.
  const { performServerHandshake } = process.getBuiltinModule('node:http2')
  // In HTTP/2 nobody closes one side to go on listening.
  socket.allowHalfOpen = false
  const session = performServerHandshake(socket, sessionOptions(limits))
  session.setLocalWindowSize(sessionWindow)
  const outlive = outliveStreamErrors(session, socket)
  const handlers = createBag<Handler>()
  const deadline: Deadline = { atMs: Number.POSITIVE_INFINITY, expire }
  let requests = 0
  // In the second that began then.
  let spoiled = 0
  let wrong = 0
  let sinceMs = 0
  let lastId = -1
  let isToLeave = false
  let isLeaving = false
  let hasGreeted = false
  let isAsked = false
  let writtenBefore = 0
  let isDoomed = false

  deadlines.watch(deadline)
  setDeadline(deadline, (acceptedMs ?? deadlines.nowMs()) + limits.headMs)
  session.on('stream', (stream, headers, _flags, fields) => begin(stream, fields, neverIndexed(headers)))
  session.once('remoteSettings', () => {
    hasGreeted = true
    // Until its first request its time is that of a head: half of one is in memory, and nobody hears of it.
    if (requests > 0 || isToLeave) rest()
  })
  session.on('error', () => {}) // told by its closing
  session.on('close', () => deadlines.unwatch(deadline))
  return {
    // Node cannot say that the next answers are the last ones: what comes after its GOAWAY is not served any more.
    announceClose() {},
    closeIdle,
    destroy() {
      // At once: what the upstream is closed for next would be told as an answer that nobody gets.
      for (const { events } of handlers.all()) events.gone()
      socket.destroy()
    },
    inFlight: () => handlers.all().filter((handler) => handler.isBusy()).length,
  }

  function begin(stream: ServerHttp2Stream, fields: readonly string[], secret?: readonly string[]): void {
    stream.on('error', () => {}) // told by its closing
    outlive(stream)
    if (isDoomed) return
    const { id = lastId } = stream
    // A head that nghttp2 found malformed has a number, and nobody is told of it.
    if (id > lastId + 2) mark((id - lastId) / 2 - 1)
    lastId = id
    if (stream.closed || stream.destroyed) {
      // Taken back before it was read.
      spoil()
      return
    }
    requests += 1
    if (requests % backlogEvery === 0 && hasBacklog()) {
      isDoomed = true
      // It would hear no word of it. Later: as in `spoil`.
      setImmediate(() => socket.destroy())
      return
    }
    if (handlers.size() === 0 && !isToLeave) setDeadline(deadline, deadlines.nowMs() + limits.idleMs)
    // Once all that has come with it is here, and before its answer: who waits for that sends nothing we would refuse.
    if (isToLeave || requests >= limits.requestsPerConnection) setImmediate(leave)
    const head = readRequestFields(fields, stream.endAfterHeaders, limits.request)
    const isHead = head.kind === 'head' && head.method === 'HEAD'
    const unread = stream.endAfterHeaders ? 'none' : 'chunked'
    const framing = head.kind === 'head' ? head.framing : unread
    let handler: Handler | undefined
    serveStream(stream, { framing, isHead }, limits, deadlines, (sink) => {
      const made = createHandler(sink, peer, deps)
      handler = made
      handlers.add(made)
      return { ...made.events, closed: (isSpoiled) => over(made, isSpoiled, stream.rstCode) }
    })
    if (head.kind === 'head') handler?.request(secret === undefined ? head : { ...head, neverIndexed: secret })
    else handler?.refused(head, fields)
  }

  /** What was said on streams that are gone, and waits for a client that reads nothing, ends with no stream's time. */
  function hasBacklog(): boolean {
    return (session.state.outboundQueueSize ?? 0) > maxWaitingFrames
  }

  function over(handler: Handler, isSpoiled: boolean, code: number): void {
    handlers.delete(handler)
    if (isSpoiled) spoil()
    // It had its answer before.
    else if (code === http2Codes.PROTOCOL_ERROR) mark(1)
    rest()
  }

  /** So many messages were no good. */
  function mark(count: number): void {
    const nowMs = clock.monotonicMs()
    if (nowMs - sinceMs >= 1000) {
      sinceMs = nowMs
      spoiled = 0
      wrong = 0
    }
    wrong += count
    if (wrong > maxWrongPerS) setImmediate(leave)
  }

  function spoil(): void {
    mark(1)
    spoiled += 1
    if (spoiled <= maxSpoiledPerS || isDoomed) return
    isDoomed = true
    // Later: node may be in the middle of reading, and would go on with a session that is freed.
    setImmediate(() => {
      session.destroy(new RangeError('Cannot go on: the client takes its requests back'), http2Codes.ENHANCE_YOUR_CALM)
    })
  }

  /** Nothing is under way: it may wait for the next request, for a time. */
  function rest(): void {
    if (handlers.size() > 0 || !hasGreeted) return
    // One that node has destroyed still has a socket, which waits for the client to read.
    const ends = isToLeave || isLeaving || session.destroyed
    setDeadline(deadline, deadlines.nowMs() + (ends ? lingerMs : limits.idleMs))
  }

  /** Has the session say goodbye behind the next request, or in a second. */
  function closeIdle(): void {
    isToLeave = true
    setDeadline(deadline, deadlines.nowMs() + lingerMs)
  }

  /**
   * Says that nothing more is served than what has come (RFC 9113 §6.8); the client knows what it may send elsewhere.
   * Never by a write of our own: the socket is the session's, and node ends the process where a write that was not the
   * session's has to wait.
   */
  function leave(): void {
    if (isLeaving || isDoomed || session.destroyed) return
    isLeaving = true
    setDeadline(deadline, handlers.size() === 0 ? deadlines.nowMs() + lingerMs : Number.POSITIVE_INFINITY)
    // Closing, node asks no more whether anybody is there: the system does.
    socket.setKeepAlive(true, probeMs)
    session.close()
  }

  function expire(): void {
    if (handlers.size() > 0) {
      if (!isToLeave) ask()
      else if (isLeaving) setDeadline(deadline, Number.POSITIVE_INFINITY)
      else leave()
      return
    }
    if (requests === 0 && !isToLeave && !isLeaving) late()
    if (isLeaving || !hasGreeted || session.destroyed) socket.destroy()
    else leave()
  }

  /** Whether anybody is there, who waits so long: node may have stopped reading, and hear of no end. */
  function ask(): void {
    setDeadline(deadline, deadlines.nowMs() + limits.idleMs)
    const { bytesWritten } = socket
    // One that takes its answers slowly hears of the question behind them.
    const isGone = session.destroyed || (isAsked && bytesWritten === writtenBefore)
    writtenBefore = bytesWritten
    if (isAsked && !isGone) return
    isAsked = true
    if (isGone || !session.ping(answered)) socket.destroy()
  }

  function answered(): void {
    isAsked = false
  }
}

/**
 * What a session may take that asks nothing, bytes, beside its connection: as measured with thousands of them, and half a
 * head, of which node keeps every field by itself.
 */
export function sessionBytes(limits: ServerLimits): number {
  const { listBytes, pairs } = headBounds(limits)
  return 32_768 + listBytes + 128 * pairs
}

function headBounds({ request: { target, fields } }: ServerLimits): { listBytes: number; pairs: number } {
  return {
    // Twice our limits, and what it counts besides: a little over them is answered, a lot more is reset.
    listBytes: 2 * (target + fields.bytes) + 32 * fields.count,
    // Each crumb of a cookie counts as one here: browsers send fewer than two hundred.
    pairs: 4 * fields.count,
  }
}

function sessionOptions(limits: ServerLimits): ServerOptions {
  const { listBytes, pairs } = headBounds(limits)
  return {
    ...sessionBounds,
    settings: { maxConcurrentStreams: maxStreams, maxHeaderListSize: listBytes },
    maxHeaderListPairs: pairs,
    maxSessionRejectedStreams: maxStreams,
    streamResetBurst: resetsUncounted,
    streamResetRate: resetsUncounted,
  }
}
