// A client's connection, RFC 9112 §9: requests one after another, answers in their order, every wait and buffer bounded.
import type { Socket } from 'node:net'
import type { BodyReader } from './body.ts'
import { createBodyReader } from './body.ts'
import type { Deadline, Deadlines } from './deadlines.ts'
import type { AnswerSink, RequestEvents } from './exchange.ts'
import type { ServerLimits } from './limits.ts'
import { createMessageWriter, formatFieldLines } from './message-writer.ts'
import type { Framing, HeadProblem, RequestHead } from './request-head.ts'
import { readRequestHead } from './request-head.ts'

/** What a connection tells whoever serves it. */
export type ServerEvents = RequestEvents & {
  /** A whole head, the answer before it being out. Its body is read once `resume` is called. */
  readonly request: (head: RequestHead) => void
  /** Something that is no request we read; the answer to it is the last one. */
  readonly refused: (problem: HeadProblem) => void
  /** The connection begins as HTTP/2 does (RFC 9113 §3.4); `bytes` are what came. Left out: that is malformed. */
  readonly preface?: ((bytes: Buffer) => void) | undefined
}

/** A client's connection, served until it closes. */
export type ServerConnection = AnswerSink & {
  /** From now on every answer says that it is the last. */
  readonly announceClose: () => void
  /** Ends it as soon as nothing is under way. */
  readonly closeIdle: () => void
  readonly destroy: () => void
}

type Phase = 'head' | 'busy' | 'flushing' | 'closing' | 'raw' | 'closed'

const maxPendingBytes = 65_536
// Time enough to read a refusal, and what is read meanwhile of what nobody wants.
const lingerMs = 1000
const maxUnreadBytes = 65_536
// A client that has closed its side may still read; one that is gone must not hold an upstream.
const halfClosedMs = 500
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\n')
const continueText = 'HTTP/1.1 100 Continue\r\n\r\n'

/**
 * Serves one connection.
 *
 * @param listen Makes the listener; called at once, with the connection.
 */
export function createServerConnection(
  socket: Socket,
  limits: ServerLimits,
  deadlines: Deadlines,
  listen: (connection: ServerConnection) => ServerEvents,
): ServerConnection {
  let phase: Phase = 'head'
  let pending: Buffer | undefined
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
  let bodyBytes = 0
  let begunMs = 0
  let keepsAlive = true
  let isVersion11 = true
  let isHead = false
  // Of its answer.
  let hasSwitched = false
  let hasEnded = false
  let writtenBefore = 0
  let discarded = 0

  const writer = createMessageWriter(socket)
  const deadline: Deadline = { atMs: deadlines.nowMs() + limits.headMs, expire }
  const connection: ServerConnection = {
    sendContinue: () => void socket.write(continueText, 'latin1'),
    begin,
    write,
    end,
    flush,
    abort: destroy,
    closeAfter() {
      keepsAlive = false
    },
    pause() {
      bodyIsPaused = true
      adjustReading()
    },
    resume,
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
      bodyBytes += chunk.length
      if (!hasEnded) events.data(chunk)
    },
    end(trailers: readonly string[]) {
      deadline.atMs = Number.POSITIVE_INFINITY
      if (!hasEnded) events.end(trailers)
    },
  }
  deadlines.watch(deadline)
  deadline.atMs = deadlines.nowMs() + limits.headMs
  socket.on('data', receive)
  socket.on('drain', drained)
  socket.on('end', peerEnded)
  socket.on('error', () => {}) // told by its closing
  socket.on('close', closed)
  return connection

  function receive(chunk: Buffer): void {
    if (phase === 'closing') {
      discarded += chunk.length
      if (discarded > maxUnreadBytes) socket.pause()
      return
    }
    if (phase === 'busy' && body !== undefined && bodyIsWanted && pending === undefined && !body.isDone()) {
      feed(chunk)
      return
    }
    if (phase === 'head' && pending === undefined && deadline.atMs !== Number.POSITIVE_INFINITY && requests > 0)
      deadline.atMs = deadlines.nowMs() + limits.headMs
    pending = pending === undefined ? chunk : Buffer.concat([pending, chunk])
    if (phase === 'head') readHeads()
    else adjustReading()
  }

  /** Reads heads for as long as they are whole and answered at once. */
  function readHeads(): void {
    if (isReadingHeads) return
    isReadingHeads = true
    while (phase === 'head' && pending !== undefined) {
      const head = readRequestHead(pending, searched, limits.request)
      if (head === undefined) {
        searched = pending.length
        break
      }
      searched = 0
      if (head.kind === 'head') {
        pending = pending.length === head.bytes ? undefined : pending.subarray(head.bytes)
        start(head)
      } else refuse(head, pending)
    }
    isReadingHeads = false
    adjustReading()
  }

  function start(head: RequestHead): void {
    phase = 'busy'
    requests += 1
    hasEnded = false
    isVersion11 = head.version === '1.1'
    isHead = head.method === 'HEAD'
    keepsAlive = head.keepAlive && requests < limits.requestsPerConnection
    const { framing } = head
    if (framing === 'none' || framing === 0) {
      body = undefined
      deadline.atMs = Number.POSITIVE_INFINITY
    } else {
      body = createBodyReader(framing, bodySink)
      bodyIsWanted = false
      bodyIsPaused = false
      bodyBytes = 0
      begunMs = deadlines.nowMs()
      deadline.atMs = begunMs + limits.requestMs
    }
    events.request(head)
  }

  function refuse(problem: HeadProblem, received: Buffer): void {
    if (requests === 0 && events.preface !== undefined && received.subarray(0, preface.length).equals(preface)) {
      release()
      events.preface(received)
      return
    }
    phase = 'busy'
    pending = undefined
    body = undefined
    hasEnded = false
    keepsAlive = false
    isVersion11 = true
    isHead = false
    deadline.atMs = Number.POSITIVE_INFINITY
    events.refused(problem)
  }

  function feed(chunk: Buffer): void {
    const used = body?.feed(chunk) ?? 0
    if (used === 'malformed') {
      body = undefined
      keepsAlive = false
      if (hasEnded) close()
      else events.broken('malformed')
      return
    }
    if (used < chunk.length && phase === 'busy') pending = chunk.subarray(used)
    if (hasEnded && body?.isDone() === true) complete()
    else adjustReading()
  }

  function resume(): void {
    bodyIsPaused = false
    bodyIsWanted = true
    if (pending !== undefined && body !== undefined && !body.isDone()) {
      const chunk = pending
      pending = undefined
      feed(chunk)
    } else adjustReading()
  }

  function begin(status: number, reason: string, lines: readonly string[], framing: Framing): void {
    // What nobody wants to read is not read to its end: a little is, then the connection closes.
    const isUnread = body !== undefined && !body.isDone() && !(body.remaining() <= maxUnreadBytes)
    if (announcesClose || isUnread) keepsAlive = false
    const isChunked = (framing === 'chunked' || framing === 'close') && isVersion11
    let head = `HTTP/1.1 ${status} ${reason}\r\n${formatFieldLines(lines)}`
    if (isChunked) head += 'Transfer-Encoding: chunked\r\n'
    writer.begin(`${head}${keepsAlive ? '' : 'Connection: close\r\n'}\r\n`, isChunked)
  }

  function write(chunk: Buffer): boolean {
    // After the head of an answer to HEAD comes the next answer, whatever somebody gives us.
    if (phase !== 'busy' || isHead) return true
    writer.write(chunk)
    return hasRoom()
  }

  function end(trailers: readonly string[]): void {
    if (phase !== 'busy') return
    writer.end(trailers)
    hasRoom()
    hasEnded = true
    if (body === undefined || body.isDone() || !keepsAlive) complete()
    else resume()
  }

  function flush(): void {
    if (phase !== 'busy') return
    writer.flush()
    hasRoom()
  }

  function hasRoom(): boolean {
    if (!socket.writableNeedDrain) return true
    deadline.atMs = deadlines.nowMs() + limits.writeMs
    return false
  }

  /** The exchange is over: the next request may be read once the answer has left. */
  function complete(): void {
    if (phase !== 'busy' && phase !== 'flushing') return
    if (socket.writableNeedDrain && keepsAlive) {
      phase = 'flushing'
      return
    }
    if (!keepsAlive || ((closesIdle || hasPeerEnded) && pending === undefined)) {
      close()
      return
    }
    phase = 'head'
    body = undefined
    deadline.atMs = deadlines.nowMs() + (pending === undefined ? limits.idleMs : limits.headMs)
    if (pending !== undefined) readHeads()
    else adjustReading()
  }

  function drained(): void {
    if (phase === 'flushing') complete()
    else if (phase === 'busy') {
      deadline.atMs = bodyDeadlineMs()
      events.drained()
    }
  }

  /** Reads while there is use for what comes, or room to keep it; also to learn that the client has left. */
  function adjustReading(): void {
    const holds = pending !== undefined && pending.length >= maxPendingBytes
    const wants = phase !== 'busy' || body === undefined || body.isDone() || !bodyIsWanted || !bodyIsPaused
    const reads = wants && !(holds && phase !== 'head')
    if (reads === isReading) return
    isReading = reads
    if (reads) socket.resume()
    else socket.pause()
  }

  function bodyDeadlineMs(): number {
    if (body === undefined || body.isDone() || hasSwitched) return Number.POSITIVE_INFINITY
    return begunMs + limits.requestMs + (bodyBytes / limits.minBodyRate) * 1000
  }

  function expire(): void {
    // One that closed its side is there if it takes what is sent.
    const isGone = hasPeerEnded && socket.bytesWritten === writtenBefore
    if (phase !== 'busy' || socket.writableNeedDrain || isGone) {
      destroy()
      return
    }
    if (hasPeerEnded) {
      writtenBefore = socket.bytesWritten
      deadline.atMs = deadlines.nowMs() + halfClosedMs
      return
    }
    if (body === undefined || body.isDone() || hasSwitched) {
      deadline.atMs = Number.POSITIVE_INFINITY
      return
    }
    // While we do not read, it is not the client that is slow.
    if (!bodyIsWanted || bodyIsPaused) begunMs = deadlines.nowMs() - limits.requestMs + halfClosedMs
    deadline.atMs = bodyDeadlineMs()
    if (deadline.atMs > deadlines.nowMs()) return
    body = undefined
    keepsAlive = false
    if (hasEnded) close()
    else events.broken('timeout')
  }

  function peerEnded(): void {
    hasPeerEnded = true
    if (phase === 'head') {
      close()
      return
    }
    if (phase !== 'busy') return
    if (hasSwitched) {
      events.end([])
      return
    }
    if (body !== undefined && !body.isDone()) {
      destroy()
      return
    }
    writtenBefore = socket.bytesWritten
    deadline.atMs = Math.min(deadline.atMs, deadlines.nowMs() + halfClosedMs)
  }

  function close(): void {
    phase = 'closing'
    pending = undefined
    body = undefined
    discarded = 0
    deadline.atMs = deadlines.nowMs() + limits.writeMs
    socket.end(() => {
      deadline.atMs = deadlines.nowMs() + lingerMs
    })
    if (hasPeerEnded) return
    isReading = true
    socket.resume()
  }

  function closeIdle(): void {
    announcesClose = true
    closesIdle = true
    if (phase === 'head' && pending === undefined) close()
  }

  function destroy(): void {
    socket.destroy()
    closed()
  }

  function closed(): void {
    if (phase === 'closed' || phase === 'raw') return
    const isServed = phase === 'busy' && !hasEnded
    phase = 'closed'
    deadlines.unwatch(deadline)
    if (isServed) events.gone()
  }

  function switchProtocols(lines: readonly string[]): void {
    keepsAlive = false
    hasSwitched = true
    body = createBodyReader('close', bodySink)
    writer.begin(`HTTP/1.1 101 Switching Protocols\r\n${formatFieldLines(lines)}\r\n`, false)
    writer.flush()
    deadline.atMs = Number.POSITIVE_INFINITY
    resume()
  }

  /** Lets go of the socket: from now on somebody else listens to it. */
  function release(): void {
    phase = 'raw'
    pending = undefined
    deadlines.unwatch(deadline)
    socket.pause()
    socket.off('data', receive)
    socket.off('drain', drained)
    socket.off('end', peerEnded)
    socket.off('close', closed)
  }
}
