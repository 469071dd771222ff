// A client's connection, RFC 9112 §9: requests one after another, answers in their order, every wait and buffer bounded.
import type { Socket } from 'node:net'
import type { BodyReader } from './body.ts'
import { createBodyReader } from './body.ts'
import { createBodyTime } from './body-time.ts'
import type { Deadline, Deadlines } from './deadlines.ts'
import { setDeadline } from './deadlines.ts'
import type { AnswerSink, ServerEvents } from './exchange.ts'
import { createHeldBytes } from './held-bytes.ts'
import type { ServerLimits } from './limits.ts'
import { halfClosedMs, lingerMs, maxLingerMs, maxUnreadBytes, requestsPerTurn, trailerLimits } from './limits.ts'
import { createLingering } from './lingering.ts'
import { createMessageWriter, formatAnswerHead } from './message-writer.ts'
import type { Framing, HeadProblem, Http1Head } from './request-head.ts'
import { bodyLength, isPreface, readRequestHead } from './request-head.ts'
import { reset } from './reset.ts'
import { openTunnel } from './tunnel.ts'

/** A client's connection, served until it closes. */
export type ServerConnection = AnswerSink & {
  /** From now on every answer says that it is the last. */
  readonly announceClose: () => void
  /** Ends it as soon as nothing is under way. */
  readonly closeIdle: () => void
  readonly destroy: () => void
}

type Phase = 'head' | 'busy' | 'flushing' | 'closing' | 'raw' | 'closed'

/** Serves one connection, accepted at `acceptedMs`; absent: now. `listen` makes the listener, and is called at once. */
export function createServerConnection(
  socket: Socket,
  limits: ServerLimits,
  deadlines: Deadlines,
  listen: (connection: ServerConnection) => ServerEvents,
  acceptedMs?: number | undefined,
): ServerConnection {
  let phase: Phase = 'head'
  let searched = 0
  let isReadingHeads = false
  let isReading = true
  let hasPeerEnded = false
  let announcesClose = false
  let closesIdle = false
  let requests = 0
  // Of the request under way.
  let body: BodyReader | undefined
  let bodyIsWanted = false
  let bodyIsPaused = false
  let keepsAlive = true
  let isVersion11 = true
  let isHead = false
  let awaitsContinue = false
  // Of its answer.
  let answer: 'none' | 'begun' | 'ended' = 'none'
  let writtenBefore = 0

  const isBusy = () => phase !== 'head'
  const held = createHeldBytes(isBusy, () => abandon('crowded'))
  const bodyTime = createBodyTime(limits, deadlines)
  const writer = createMessageWriter(socket, undefined, () => reset(socket)) // or the system keeps what waits for long
  let way: ReturnType<typeof openTunnel> = { write, end, flush, pause, resume } // another once protocols are switched
  const deadline: Deadline = { atMs: Number.POSITIVE_INFINITY, expire }
  const lingering = createLingering(socket, deadline, deadlines)
  const connection: ServerConnection = {
    sendContinue: () => say('HTTP/1.1 100 Continue\r\n\r\n'),
    begin,
    write: (chunk) => way.write(chunk),
    end: (trailers) => way.end(trailers),
    flush: () => way.flush(),
    abort: destroy,
    takeBack: () => phase === 'busy' && writer.takeBack(),
    closeAfter() {
      keepsAlive = false
    },
    pause: () => way.pause(),
    resume: () => way.resume(),
    switchProtocols,
    announceClose() {
      announcesClose = true
    },
    closeIdle,
    destroy,
  }
  const events = listen(connection)
  const bodySink = {
    data(chunk: Buffer) {
      bodyTime.took(chunk.length)
      if (answer !== 'ended') events.data(chunk)
    },
    end(trailers: readonly string[]) {
      // Unless it is the answer that is waited for, or a client that closed its side.
      if (writer.hasRoom() && !hasPeerEnded) setDeadline(deadline, Number.POSITIVE_INFINITY)
      if (answer !== 'ended') events.end(trailers)
    },
  }
  deadlines.watch(deadline)
  setDeadline(deadline, (acceptedMs ?? deadlines.nowMs()) + limits.headMs)
  socket.on('data', receive)
  socket.on('drain', drained)
  socket.on('end', peerEnded)
  socket.on('error', () => {}) // told by its closing
  socket.on('close', closed)
  return connection

  function receive(chunk: Buffer): void {
    take(chunk)
    held.settle()
  }

  function take(chunk: Buffer): void {
    if (phase === 'closing') {
      lingering.took(chunk)
      return
    }
    if (phase === 'busy' && body !== undefined && bodyIsWanted && held.bytes === undefined && !body.isDone()) {
      feed(chunk)
      return
    }
    if (phase === 'head' && held.bytes === undefined && deadline.atMs !== Number.POSITIVE_INFINITY && requests > 0)
      setDeadline(deadline, deadlines.nowMs() + limits.headMs)
    held.add(chunk)
    if (phase === 'head') readHeads()
    else adjustReading()
  }

  /** Reads heads for as long as they are whole and answered at once. */
  function readHeads(): void {
    if (isReadingHeads) return
    isReadingHeads = true
    while (phase === 'head' && held.bytes !== undefined) {
      const head = readRequestHead(held.bytes, searched, limits.request)
      if (head === undefined) {
        searched = held.bytes.length
        if (hasPeerEnded) close()
        break
      }
      searched = 0
      if (head.kind === 'head') {
        held.drop(head.bytes)
        start(head)
      } else refuse(head, held.bytes)
    }
    isReadingHeads = false
    adjustReading()
  }

  function start(head: Http1Head): void {
    requests += 1
    occupy()
    isVersion11 = head.version === '1.1'
    isHead = head.method === 'HEAD'
    keepsAlive = head.keepAlive && requests < limits.requestsPerConnection
    if (bodyLength(head.framing) > 0) {
      body = createBodyReader(head.framing, bodySink, trailerLimits)
      awaitsContinue = head.expectsContinue
      bodyIsWanted = false
      bodyIsPaused = false
      bodyTime.begin()
      setDeadline(deadline, bodyTime.dueMs())
    }
    if (hasPeerEnded) watchHalfClosed()
    events.request(head)
  }

  function refuse(problem: HeadProblem, received: Buffer): void {
    if (requests === 0 && events.preface !== undefined && isPreface(received)) {
      release()
      events.preface(Buffer.from(received))
      return
    }
    occupy()
    held.clear()
    keepsAlive = false
    isHead = false
    events.refused(problem)
  }

  function occupy(): void {
    phase = 'busy'
    body = undefined
    answer = 'none'
    setDeadline(deadline, Number.POSITIVE_INFINITY)
  }

  function feed(chunk: Buffer): void {
    const used = body?.feed(chunk) ?? 0
    if (typeof used === 'number' && used < chunk.length) held.bytes = chunk.subarray(used)
    if (used === 'malformed') breakOff(used)
    else if (hasPeerEnded && body?.isDone() === false) cutShort()
    else if (answer === 'ended' && body?.isDone() === true) complete()
    else if (phase === 'head') readHeads()
    else adjustReading()
  }

  function pause(): void {
    bodyIsPaused = true
    adjustReading()
  }

  function resume(): void {
    bodyIsPaused = false
    bodyTime.resumed()
    bodyIsWanted = true
    const { bytes } = held
    if (bytes !== undefined && body !== undefined && !body.isDone()) {
      held.bytes = undefined
      feed(bytes)
      held.settle()
    } else if (hasPeerEnded && body?.isDone() === false) cutShort()
    else adjustReading()
  }

  function begin(status: number, reason: string, lines: readonly string[], framing: Framing): void {
    // What nobody wants to read is not read to its end: a little is, then the connection closes.
    // And who was not told to send a body may send the next request instead of it.
    const isUnread = body?.isDone() === false && (awaitsContinue || !(body.remaining() <= maxUnreadBytes))
    if (announcesClose || isUnread) keepsAlive = false
    const isChunked = (framing === 'chunked' || framing === 'close') && isVersion11 && !isHead
    const ours = (isChunked ? 'Transfer-Encoding: chunked\r\n' : '') + (keepsAlive ? '' : 'Connection: close\r\n')
    answer = 'begun'
    writer.begin(formatAnswerHead(status, reason, lines, ours), isChunked)
  }

  function say(head: string): void {
    awaitsContinue = false
    writer.begin(head, false)
    writer.flush()
  }

  function write(chunk: Buffer): boolean {
    if (phase !== 'busy' || isHead) return true
    writer.write(chunk)
    return hasRoom()
  }

  function end(trailers: readonly string[]): void {
    if (phase !== 'busy') return
    writer.end(trailers)
    hasRoom()
    answer = 'ended'
    if (body === undefined || body.isDone() || !keepsAlive) complete()
    else resume()
  }

  function flush(): void {
    if (phase !== 'busy') return
    writer.flush()
    hasRoom()
  }

  function hasRoom(): boolean {
    if (writer.hasRoom()) return true
    setDeadline(deadline, deadlines.nowMs() + limits.writeMs)
    return false
  }

  /** The exchange is over: the next request may be read once the answer has left. */
  function complete(): void {
    if (phase !== 'busy' && phase !== 'flushing') return
    // The others have their turn, too.
    const isTurnOver = phase === 'busy' && requests % requestsPerTurn === 0 && held.bytes !== undefined
    if (keepsAlive && (isTurnOver || !writer.hasRoom())) {
      phase = 'flushing'
      if (isTurnOver) setImmediate(drained)
      return
    }
    if (!keepsAlive || ((closesIdle || hasPeerEnded) && held.bytes === undefined)) {
      close()
      return
    }
    phase = 'head'
    body = undefined
    setDeadline(deadline, deadlines.nowMs() + (held.bytes === undefined ? limits.idleMs : limits.headMs))
    readHeads()
  }

  function drained(): void {
    if (phase === 'flushing') {
      complete()
      held.settle()
    } else if (phase === 'busy' && writer.hasRoom()) {
      if (hasPeerEnded) watchHalfClosed()
      else setDeadline(deadline, bodyDeadlineMs())
      if (answer !== 'ended') events.drained()
    }
  }

  /** Reads while there is use for what comes, or room to keep it; also to learn that the client has left. */
  function adjustReading(): void {
    const wants = phase !== 'busy' || body === undefined || body.isDone() || !bodyIsWanted || !bodyIsPaused
    const reads = wants && (phase === 'head' || !held.isEnough())
    if (reads === isReading) return
    isReading = reads
    socket[reads ? 'resume' : 'pause']()
  }

  function bodyDeadlineMs(): number {
    return body === undefined || body.isDone() ? Number.POSITIVE_INFINITY : bodyTime.dueMs()
  }

  function expire(): void {
    // One that closed its side is there if it takes what is sent.
    const isGone = hasPeerEnded && socket.bytesWritten === writtenBefore
    if (phase !== 'busy' || !writer.hasRoom() || isGone) abandon('timeout')
    else if (hasPeerEnded) watchHalfClosed()
    else {
      const isTooSlow = bodyTime.look(bodyIsWanted && !bodyIsPaused)
      setDeadline(deadline, bodyDeadlineMs())
      if (isTooSlow && deadline.atMs !== Number.POSITIVE_INFINITY) breakOff('timeout')
    }
  }

  function abandon(why: 'timeout' | 'crowded'): void {
    if (phase === 'head' && requests === 0) events.late?.(why)
    destroy()
  }

  function breakOff(why: 'malformed' | 'timeout'): void {
    body = undefined
    keepsAlive = false
    if (answer === 'ended') close()
    else events.broken(why)
  }

  function peerEnded(): void {
    hasPeerEnded = true
    if (phase === 'head') close()
    if (phase !== 'busy') return
    // What is held may be all of a body.
    if (body?.isDone() === false && held.bytes === undefined) cutShort()
    else if (writer.hasRoom()) watchHalfClosed()
  }

  function watchHalfClosed(): void {
    writtenBefore = socket.bytesWritten
    setDeadline(deadline, deadlines.nowMs() + halfClosedMs)
  }

  function cutShort(): void {
    if (answer === 'begun') destroy()
    else close() // what was answered before still leaves
    if (answer === 'none') events.gone()
  }

  function close(): void {
    phase = 'closing'
    held.close()
    body = undefined
    setDeadline(deadline, deadlines.nowMs() + limits.writeMs)
    writer.close(() => lingering.begin(closesIdle ? lingerMs : maxLingerMs))
    if (!hasPeerEnded) adjustReading()
  }

  function closeIdle(): void {
    announcesClose = true
    closesIdle = true
    // Nobody who leaves waits long for who only sends what is thrown away.
    lingering.hasten()
    if (phase === 'head' && held.bytes === undefined) close()
  }

  function destroy(): void {
    // To HTTP/1.0, and to what was switched to, the end of the connection may be that of what was said.
    if (phase === 'raw' || (!isVersion11 && (phase === 'busy' || writer.isWaiting()))) reset(socket)
    else socket.destroy()
    closed()
  }

  function closed(): void {
    if (phase === 'closed' || phase === 'raw') return
    const isServed = phase === 'busy' && answer !== 'ended'
    phase = 'closed'
    held.close()
    answer = 'ended'
    deadlines.unwatch(deadline)
    if (isServed) events.gone()
  }

  function switchProtocols(lines: readonly string[]): void {
    const start = { lines, early: held.bytes, hasPeerEnded }
    release()
    way = openTunnel(socket, start, limits, deadlines, events)
    way.resume()
  }

  /** Lets go of the socket: from now on somebody else listens to it. */
  function release(): void {
    phase = 'raw'
    held.close()
    deadlines.unwatch(deadline)
    socket.pause()
    socket.off('data', receive)
    socket.off('drain', drained)
    socket.off('end', peerEnded)
    socket.off('close', closed)
  }
}
