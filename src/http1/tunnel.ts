// A client's connection once it has switched protocols (RFC 9110 §7.8): bytes, until both sides have ended.
import type { Socket } from 'node:net'
import type { Deadline, Deadlines } from './deadlines.ts'
import { setDeadline } from './deadlines.ts'
import type { AnswerSink, RequestEvents } from './exchange.ts'
import { createLineFormatter } from './field-lines.ts'
import type { ServerLimits } from './limits.ts'
import { createMessageWriter } from './message-writer.ts'
import { reset } from './reset.ts'

/** The client's half of it. */
export type Tunnel = Pick<AnswerSink, 'write' | 'end' | 'flush' | 'pause' | 'resume'>

/** What was there before. */
export type TunnelStart = {
  /** Of the 101. */
  readonly lines: readonly string[]
  /** What the client sent before it. */
  readonly early: Buffer | undefined
  readonly hasPeerEnded: boolean
}

/** After so much silence a peer of a tunnel is probed: that one is gone without a word nothing else would ever tell. */
export const probeMs = 60_000
const answerLines = createLineFormatter()

/** Takes over a socket that nobody listens to any more. Nothing is told before `resume`. */
export function openTunnel(
  socket: Socket,
  start: TunnelStart,
  limits: Pick<ServerLimits, 'writeMs' | 'idleMs'>,
  deadlines: Deadlines,
  events: RequestEvents,
): Tunnel {
  let { early, hasPeerEnded } = start
  let hasEnded = false
  let hasToldEnd = false
  let isOver = false
  const writer = createMessageWriter(socket, undefined, leave)
  const deadline: Deadline = { atMs: Number.POSITIVE_INFINITY, expire: leave }
  deadlines.watch(deadline)
  socket.setKeepAlive(true, probeMs)
  socket.on('data', (chunk: Buffer) => {
    touch()
    events.data(chunk)
  })
  socket.on('drain', () => {
    touch()
    events.drained()
  })
  socket.on('end', () => {
    hasPeerEnded = true
    tellEnd()
  })
  socket.on('close', leave)
  writer.begin(`HTTP/1.1 101 Switching Protocols\r\n${answerLines.format(start.lines)}\r\n`, false)
  writer.flush()
  return { write, end, flush: writer.flush, pause: () => void socket.pause(), resume }

  function resume(): void {
    const first = early
    early = undefined
    if (first !== undefined) events.data(first)
    if (hasPeerEnded) tellEnd()
    else socket.resume()
  }

  function tellEnd(): void {
    if (hasToldEnd) return
    hasToldEnd = true
    touch()
    events.end([])
  }

  function write(chunk: Buffer): boolean {
    const hasRoom = writer.write(chunk)
    if (!hasRoom) setDeadline(deadline, deadlines.nowMs() + limits.writeMs)
    else if (hasToldEnd) touch()
    return hasRoom
  }

  function end(): void {
    hasEnded = true
    touch()
    writer.close()
  }

  function leave(): void {
    if (isOver) return
    isOver = true
    deadlines.unwatch(deadline)
    reset(socket)
    if (!(hasEnded && hasToldEnd)) events.gone()
  }

  /** One that is open may be silent; one that has ended on one side has an end. */
  function touch(): void {
    if (!writer.hasRoom()) return
    setDeadline(deadline, hasEnded || hasToldEnd ? deadlines.nowMs() + limits.idleMs : Number.POSITIVE_INFINITY)
  }
}
