// A session with an upstream: many requests at a time, as many as the upstream allows.
import type { ClientHttp2Session, ClientHttp2Stream, ClientSessionOptions } from 'node:http2'
import type { Socket } from 'node:net'
import type { Deadline, Deadlines } from '../http1/deadlines.ts'
import { setDeadline } from '../http1/deadlines.ts'
import type { AnswerEvents, UpstreamExchange, UpstreamProblem, UpstreamRequest } from '../http1/exchange.ts'
import type { UpstreamLimits } from '../http1/limits.ts'
import type { LostRequest, OpenSocket } from '../http1/upstream-connection.ts'
import { http2Codes } from './codes.ts'
import { outliveStreamErrors } from './errors.ts'
import { sessionBounds, sessionWindow } from './session-limits.ts'
import { openExchange } from './upstream-exchange.ts'

/** What a session tells its pool. */
export type SessionEvents = {
  /** It takes requests, or takes more of them than a moment ago. */
  readonly room: () => void
  /** There is the head of an answer: it works. */
  readonly answered: () => void
  /** There was no head of an answer. */
  readonly failed: (problem: UpstreamProblem, lost: LostRequest) => void
  /** It is gone; the last that is told of it. What became of it before it was ready is for people. */
  readonly closed: (wasReady: boolean, why: string) => void
}

/** A session, given to many requests at a time. */
export type UpstreamSession = {
  /** @returns The exchange that is told as `opened`, maybe later. */
  readonly send: (request: UpstreamRequest, events: AnswerEvents) => UpstreamExchange
  /** Whether it will take requests, and does not yet. */
  readonly isConnecting: () => boolean
  /** Whether it takes another request. `evenSpent`: also where it should rest, because there is no other. */
  readonly hasRoom: (evenSpent: boolean) => boolean
  /** Whether the upstream takes no stream on it at all, for now. */
  readonly isShut: () => boolean
  /** Requests under way. */
  readonly streams: () => number
  /** Takes no request any more, and ends with the last one under way. */
  readonly retire: () => void
  readonly destroy: () => void
}

/** What was seen of the sessions of a place. */
export type SessionHabits = {
  /**
   * After so many requests they say goodbye (nginx: `keepalive_requests`), and what is on its way then is lost. Infinity
   * where they do not.
   */
  mostRequests: number
}

/** So many requests share a session at most: what waits behind a lost packet or a busy process, waits together. */
export const mostStreams = 100
// RFC 9113 §5.1.1: numbers of streams end at 2^31 - 1, and without a new session so would our requests. More than those
// under way may still take is left.
const lastStreamId = 2 ** 31 - 1000
// After so many streams that we reset a session is spent, be it that they were called off or that the answer was no good:
// upstreams count them, and close it to all who share it (nghttp2 from a thousand on, Envoy from five hundred), since to
// them it is one client that takes its requests back. So does our own nghttp2 with answers that are no good.
const mostReset = 200

/** Opens a session; `room` or `closed` tells what became of it. */
export function createUpstreamSession(
  open: OpenSocket,
  limits: UpstreamLimits,
  deadlines: Deadlines,
  habits: SessionHabits,
  pool: SessionEvents,
): UpstreamSession {
  const deadline: Deadline = { atMs: Number.POSITIVE_INFINITY, expire }
  // For a sign of life, once an answer was too late.
  const signOfLife: Deadline = { atMs: Number.POSITIVE_INFINITY, expire }
  const { socket, ready } = open(() => {})
  const scheme = ready === 'connect' ? 'http' : 'https'
  let session: ClientHttp2Session | undefined
  let outlive = (_: ClientHttp2Stream) => {}
  let isReady = false
  let isLeaving = false
  let isSpent = false
  let hasSaidGoodbye = false
  let isClosed = false
  let resets = 0
  let streams = 0
  let requests = 0
  let allowed = 0
  let why = 'closed'

  deadlines.watch(deadline)
  deadlines.watch(signOfLife)
  setDeadline(deadline, deadlines.nowMs() + limits.connectMs)
  socket.once(ready, begin)
  socket.on('error', (error: Error) => {
    why = error.message
  })
  socket.on('close', closed)
  return {
    send,
    isConnecting: () => !isReady && !isLeaving && !isClosed,
    hasRoom,
    isShut: () => isReady && !isLeaving && !isClosed && allowed === 0,
    streams: () => streams,
    retire,
    destroy: () => socket.destroy(),
  }

  function hasRoom(evenSpent: boolean): boolean {
    if (isSpent && !evenSpent) return false
    // One that broke is closed or destroyed before its socket is, and loses whatever it is still given.
    const isBroken = session?.closed === true || session?.destroyed === true || socket.destroyed
    return isReady && !isLeaving && !isClosed && !isBroken && streams < allowed
  }

  function begin(): void {
    if (scheme === 'https' && !isHttp2(socket)) {
      why = 'it speaks no HTTP/2: ALPN did not say h2'
      socket.destroy()
      return
    }
    // First needed here: most upstreams speak HTTP/1.1.
    const { connect } = process.getBuiltinModule('node:http2')
    const opened = connect(`${scheme}://upstream`, { ...sessionOptions(limits), createConnection: () => socket })
    session = opened
    opened.once('connect', () => opened.setLocalWindowSize(sessionWindow))
    outlive = outliveStreamErrors(opened, socket)
    opened.on('remoteSettings', ({ maxConcurrentStreams }) => {
      allowed = Math.min(maxConcurrentStreams ?? mostStreams, mostStreams)
      if (!isReady) rest()
      isReady = true
      pool.room()
    })
    // RFC 9113 §6.8: what it has begun it ends, and what it has not is lost without having been read.
    opened.on('goaway', (code, lastStream) => {
      isLeaving = true
      hasSaidGoodbye = true
      // Ours have the odd numbers.
      const taken = Math.max(1, (lastStream + 1) / 2)
      if (code === http2Codes.NO_ERROR && requests > taken) habits.mostRequests = taken
    })
    opened.on('error', (error: Error) => {
      why = error.message
    })
    opened.on('close', () => socket.destroy())
  }

  function send(request: UpstreamRequest, events: AnswerEvents): UpstreamExchange {
    if (session === undefined) throw new TypeError('Cannot send: the session is not ready')
    const isReused = requests > 0
    requests += 1
    if (requests >= habits.mostRequests) isSpent = true
    streams += 1
    setDeadline(deadline, Number.POSITIVE_INFINITY)
    return openExchange(session, scheme, request, events, limits, deadlines, {
      begun: outlive,
      answered: pool.answered,
      failed(problem, { hasHeard, isRefused, isUnsent }) {
        if (problem === 'timeout') doubt()
        const isLost = isRefused || session?.destroyed === true || socket.destroyed
        const isUnlucky = isReused && !hasHeard && isLost && problem === 'reset'
        pool.failed(problem, { request, events, isUnlucky, isUnsent })
      },
      // Some upstreams never give back the room that bodies took which they did not want (Undertow): then there is none for
      // anybody's.
      stuck() {
        isSpent = true
      },
      closed(id, code) {
        streams -= 1
        if (code === http2Codes.CANCEL || code === http2Codes.PROTOCOL_ERROR) resets += 1
        if (resets >= mostReset || code === http2Codes.ENHANCE_YOUR_CALM) isSpent = true
        if (id > lastStreamId) isLeaving = true
        rest()
        // Later: behind the end of a stream there may be a GOAWAY in what is being read.
        setImmediate(() => {
          if (!isClosed) pool.room()
        })
      },
    })
  }

  /** Whether anybody is there: one that is gone without a word would swallow whatever it is still given. */
  function doubt(): void {
    if (signOfLife.atMs !== Number.POSITIVE_INFINITY || session === undefined || session.destroyed) return
    setDeadline(signOfLife, deadlines.nowMs() + limits.connectMs)
    session.ping(() => {
      setDeadline(signOfLife, Number.POSITIVE_INFINITY)
    })
  }

  /** Nothing is under way: it is kept for a time, in case. */
  function rest(): void {
    if (streams > 0) return
    // It takes nothing in the moment before it is closed.
    if (isSpent) isLeaving = true
    // Later: node may be in the middle of reading.
    if (isLeaving) setImmediate(() => socket.destroy())
    else setDeadline(deadline, deadlines.nowMs() + limits.keepAliveMs)
  }

  function retire(): void {
    isLeaving = true
    if (streams === 0) socket.destroy()
  }

  function expire(): void {
    if (!isReady) why = 'timed out'
    setDeadline(deadline, Number.POSITIVE_INFINITY)
    // Told of, where there is somebody to tell.
    if (session !== undefined && !session.destroyed) session.destroy()
    socket.destroy()
  }

  function closed(): void {
    if (isClosed) return
    isClosed = true
    deadlines.unwatch(deadline)
    deadlines.unwatch(signOfLife)
    // It was a rotation that we saw, and not a habit.
    if (requests >= habits.mostRequests && !hasSaidGoodbye) habits.mostRequests = Number.POSITIVE_INFINITY
    pool.closed(isReady, session === undefined ? why : `no HTTP/2 settings came: ${why}`)
  }
}

function isHttp2(socket: Socket): boolean {
  return 'alpnProtocol' in socket && socket.alpnProtocol === 'h2'
}

function sessionOptions({ response }: UpstreamLimits): ClientSessionOptions {
  const { bytes, count } = response.fields
  return {
    ...sessionBounds,
    settings: { enablePush: false, maxHeaderListSize: bytes + 32 * count },
    maxHeaderListPairs: count + 1,
  }
}
