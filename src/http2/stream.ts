// One stream of a client: a request and its answer, every wait and buffer bounded. RFC 9113 §5 and §8.
import type { ServerHttp2Stream } from 'node:http2'
import { createBodyTime } from '../http1/body-time.ts'
import type { Deadline, Deadlines } from '../http1/deadlines.ts'
import { setDeadline } from '../http1/deadlines.ts'
import type { AnswerSink, RequestEvents } from '../http1/exchange.ts'
import { withoutLength } from '../http1/field-lines.ts'
import { keep } from '../http1/lent-reads.ts'
import type { ServerLimits } from '../http1/limits.ts'
import { lingerMs, maxUnreadBytes, trailerLimits } from '../http1/limits.ts'
import type { Framing } from '../http1/request-head.ts'
import { bodyLength } from '../http1/request-head.ts'
import { createUnreadBytes } from '../http1/unread-bytes.ts'
import { http2Codes } from './codes.ts'
import { closeNow } from './errors.ts'
import { markSecret, readTrailerFields, trailersOf } from './fields.ts'

/** What is known of a request when its stream begins to be served. */
export type StreamRequest = {
  /** `none`, a length, or `chunked` where the body ends with the stream. */
  readonly framing: Framing
  /** To HEAD there is no body in the answer, whatever is written. */
  readonly isHead: boolean
}

/** What a stream tells whoever serves its session. */
export type StreamEvents = RequestEvents & {
  /** It is over; the last that is told. `isSpoiled`: the client took it back, or broke it, before its answer was out. */
  readonly closed: (isSpoiled: boolean) => void
}

// What is small waits for company, up to here.
const maxHeldBytes = 65_536
// As maxUnreadBytes, once the whole answer has left: some clients (httpcore) look at an answer, and at a reset, only when
// they have sent everything, and wait for room until then. As much as a session may have under way.
const maxUnreadBehindAnswer = 1_048_576
// What a stream takes whose answer waits, beside the bytes of that, as measured: 9 KiB of V8's, 6 of node's and nghttp2's.
const streamBytes = 16_384

/**
 * Serves one stream as the client's half of an exchange. Nothing of a body is read until `resume`.
 *
 * @param listen Makes the listener; called at once, with the sink of the answer.
 */
export function serveStream(
  stream: ServerHttp2Stream,
  { framing, isHead }: StreamRequest,
  limits: ServerLimits,
  deadlines: Deadlines,
  listen: (sink: AnswerSink) => StreamEvents,
): void {
  // Of the request.
  const length = bodyLength(framing)
  let bodyBytes = 0
  let bodyIsDone = length === 0
  let bodyIsPaused = true
  let bodyIsWanted = false
  let hasRead = false
  const bodyTime = createBodyTime(limits, deadlines)
  let inTrailers: readonly string[] | 'malformed' = []
  // Of its answer.
  let head: readonly string[] | undefined
  let held: Buffer[] = []
  let heldBytes = 0
  let outTrailers: readonly string[] = []
  let hasResponded = false
  let hasEnded = false
  let hasFinished = false
  let giveUpMs = Number.POSITIVE_INFINITY
  let isOver = false
  let isCut = false
  let isBroken = false
  let isReset = false
  let takesNoBody = isHead
  let discarded = 0
  const waiting = () => (isLive() && !isReset ? stream.writableLength : undefined)
  const unread = createUnreadBytes(streamBytes, waiting, () => {
    // It was not the client.
    isCut = true
    reset(http2Codes.ENHANCE_YOUR_CALM)
  })

  const events = listen({
    sendContinue() {
      if (isLive() && !hasResponded) stream.additionalHeaders({ ':status': 100 })
    },
    begin(status, _reason, lines, _framing, neverIndexed) {
      // RFC 9113 §8.1.1 lets 304 keep the length of what it does not hold; Go's client waits for it.
      const passed = status === 205 || status === 304 ? withoutLength(lines) : lines
      head = markSecret([':status', String(status), ...passed], neverIndexed)
      // Node sends none with these.
      if (status === 204 || status === 205 || status === 304) takesNoBody = true
    },
    write,
    end,
    flush() {
      if (head === undefined || takesNoBody || hasEnded || !isLive()) return
      send()
      hasRoom()
    },
    abort,
    takeBack() {
      if (hasResponded || !isLive()) return false
      head = undefined
      held = []
      heldBytes = 0
      takesNoBody = isHead
      return true
    },
    // The frames around a bad request are sound: the next request is not misread for it.
    closeAfter() {},
    pause() {
      bodyIsPaused = true
      stream.pause()
    },
    resume() {
      bodyIsPaused = false
      bodyTime.resumed()
      bodyIsWanted = true
      // Its end was kept back.
      if (hasRead && !bodyIsDone) ended()
      else stream.resume()
    },
    switchProtocols: () => abort(),
  })
  const deadline: Deadline = { atMs: bodyDeadlineMs(), expire }
  deadlines.watch(deadline)
  stream.pause()
  stream.on('data', receive)
  stream.on('trailers', (_trailers, _flags, fields) => {
    inTrailers = readTrailerFields(fields, trailerLimits)
  })
  stream.on('end', ended)
  stream.on('drain', () => {
    if (hasEnded || !isLive()) return
    unread.clear()
    setDeadline(deadline, bodyDeadlineMs())
    events.drained()
  })
  stream.on('wantTrailers', sendTrailers)
  stream.on('finish', finished)
  stream.on('aborted', leave)
  stream.on('close', closed)
  // Of one without a body only the end is to be read.
  if (bodyIsDone) stream.resume()

  function isLive(): boolean {
    return !isOver && !stream.closed && !stream.destroyed
  }

  function receive(chunk: Buffer): void {
    if (!isLive()) return
    if (hasEnded) {
      discarded += chunk.length
      if (discarded > (hasFinished ? maxUnreadBehindAnswer : maxUnreadBytes)) stopReading()
      return
    }
    bodyBytes += chunk.length
    bodyTime.took(chunk.length)
    if (bodyIsDone || bodyBytes > length) breakBody('malformed')
    else events.data(chunk)
  }

  function ended(): void {
    hasRead = true
    // Node tells the end of an empty one before anybody reads, and who is to hear of it may not be there yet.
    if (!bodyIsWanted && !bodyIsDone) {
      if (!hasEnded && !stream.writableNeedDrain) setDeadline(deadline, Number.POSITIVE_INFINITY)
      return
    }
    // One that was reset ends, too, and its body is not whole.
    if (hasEnded || bodyIsDone || !isLive()) return
    if (inTrailers === 'malformed' || (framing !== 'chunked' && bodyBytes < length)) {
      breakBody('malformed')
      return
    }
    bodyIsDone = true
    // Unless it is the client that is waited for, to take its answer.
    if (!stream.writableNeedDrain) setDeadline(deadline, Number.POSITIVE_INFINITY)
    events.end(inTrailers)
  }

  function breakBody(why: 'malformed' | 'timeout'): void {
    bodyIsDone = true
    isBroken = true
    stream.pause()
    events.broken(why)
  }

  function write(chunk: Buffer): boolean {
    if (takesNoBody || chunk.length === 0 || !isLive()) return true
    held.push(keep(chunk))
    heldBytes += chunk.length
    if (heldBytes >= maxHeldBytes) send()
    return hasRoom()
  }

  function end(trailers: readonly string[]): void {
    hasEnded = true
    if (!isLive()) return
    setDeadline(deadline, deadlines.nowMs() + limits.writeMs)
    const bytes = heldBytes
    if (hasResponded || (trailers.length > 0 && !takesNoBody)) {
      outTrailers = trailers
      sendHeld()
      stream.end()
    } else if (heldBytes === 0) respond({ endStream: true })
    else {
      // All of it is here, as it is of most: one frame says both the rest and the end.
      respond({})
      stream.end(takeHeld())
    }
    // Until it is closed: also what says its end may wait, for the socket.
    unread.add(bytes)
    // A little of what is not wanted is read, so that a client that has sent it all hears nothing of a reset.
    if (!hasRead) stream.resume()
    // To HEAD there was nothing to write from the beginning.
    if (stream.writableFinished) finished()
  }

  /** Sends what is held. Who waits for trailers is not told the end by accident, whatever comes. */
  function send(): void {
    const bytes = heldBytes
    if (!sendHeld()) unread.add(bytes)
  }

  /** @returns Whether there is room for more. */
  function sendHeld(): boolean {
    if (!hasResponded) respond({ waitForTrailers: true })
    return heldBytes === 0 || stream.write(takeHeld())
  }

  function takeHeld(): Buffer {
    const [first] = held
    const bytes = held.length === 1 && first !== undefined ? first : Buffer.concat(held)
    held = []
    heldBytes = 0
    return bytes
  }

  function respond(options: { readonly endStream?: boolean; readonly waitForTrailers?: boolean }): void {
    hasResponded = true
    // The upstream's date, or none, as in HTTP/1.1.
    const exactly = { ...options, sendDate: false }
    try {
      stream.respond(head, exactly)
    } catch {
      // Fields that HTTP/2 does not have: nothing of this answer can be sent.
      reset(http2Codes.INTERNAL_ERROR)
    }
  }

  function sendTrailers(): void {
    try {
      stream.sendTrailers(trailersOf(outTrailers))
    } catch {
      reset(http2Codes.INTERNAL_ERROR)
    }
    // They leave in an immediate of node's own.
    setImmediate(finished)
  }

  /** The whole answer has left. */
  function finished(): void {
    if (!hasEnded || hasFinished) return
    hasFinished = true
    giveUpMs = deadlines.nowMs() + limits.writeMs
    if (isReset) return
    // What says its end may still wait for room: it counts as written all the same.
    setDeadline(deadline, deadlines.nowMs() + (hasRead ? limits.writeMs : lingerMs))
    // Also of one that says it is longer: some clients (curl) that find a reset beside their answer tell of the reset alone.
    if (!hasRead) stream.resume()
  }

  /** The client is to send no more (RFC 9113 §8.1), as soon as it has its answer: a reset would overtake the end of it. */
  function stopReading(): void {
    if (isReset) return
    const endHasLeft = stream.state.localClose !== 0
    // It has ended meanwhile, and is over once what came is read.
    if (!isLive()) stream.resume()
    else if (!hasFinished) stream.pause()
    else if (endHasLeft) reset(http2Codes.NO_ERROR)
    else if (deadlines.nowMs() >= giveUpMs) reset(http2Codes.CANCEL)
    else {
      // The end waits for the socket, of which nothing is told: it is looked for again.
      stream.pause()
      setDeadline(deadline, deadlines.nowMs())
    }
  }

  function abort(last?: readonly string[]): void {
    if (!isLive() || hasEnded) return
    if (last !== undefined && !takesNoBody) {
      end(last)
      return
    }
    isCut = true
    isOver = true
    reset(http2Codes.INTERNAL_ERROR)
  }

  function reset(code: number): void {
    isReset = true
    setDeadline(deadline, deadlines.nowMs() + limits.writeMs)
    // It closes only once what has come is read.
    stream.resume()
    // Later: while node reads or writes it keeps a reset back, and may have freed the stream by then, and aborts.
    setImmediate(() => closeNow(stream, code))
  }

  function hasRoom(): boolean {
    if (!stream.writableNeedDrain) return true
    setDeadline(deadline, deadlines.nowMs() + limits.writeMs)
    return false
  }

  function bodyDeadlineMs(): number {
    return bodyIsDone ? Number.POSITIVE_INFINITY : bodyTime.dueMs()
  }

  function expire(): void {
    setDeadline(deadline, Number.POSITIVE_INFINITY)
    // Not even a reset gets out: there is nobody.
    if (isReset) {
      stream.session?.destroy()
      return
    }
    if (hasFinished) {
      stopReading()
      return
    }
    if (hasEnded || stream.writableNeedDrain) {
      reset(http2Codes.CANCEL)
      return
    }
    if (bodyIsDone) return
    if (bodyTime.look(!bodyIsPaused)) breakBody('timeout')
    else setDeadline(deadline, bodyDeadlineMs())
  }

  /** There is nobody to answer any more. */
  function leave(): void {
    if (isOver) return
    isOver = true
    held = []
    stream.resume()
    if (!hasEnded) events.gone()
  }

  function closed(): void {
    leave()
    unread.clear()
    deadlines.unwatch(deadline)
    // One that closes well may do so before node tells that all was written.
    const isWhole = hasEnded && (hasFinished || stream.rstCode === http2Codes.NO_ERROR)
    events.closed(isBroken || (!isWhole && !isCut))
  }
}
