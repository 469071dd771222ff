// Two sides that have switched protocols, and how we end what they have begun.
import type { AnswerSink, UpstreamExchange } from '../http1/exchange.ts'
import type { FrameTracker } from '../spec/websocket.ts'
import { createFrameTracker, formatCloseFrame } from '../spec/websocket.ts'

/** What passes between the two sides. */
export type Switched = {
  readonly fromClient: (chunk: Buffer) => void
  readonly fromUpstream: (chunk: Buffer) => void
  /** One side has said all it will; the other may go on. @returns Whether both have. */
  readonly clientEnded: () => boolean
  readonly upstreamEnded: () => boolean
  /** Closes a WebSocket, each way as soon as the frame under way has passed. Undefined: there are no words for it. */
  readonly close: ((code: number) => void) | undefined
}

/** Joins both sides for a protocol, lower-case. */
export function joinSides(protocol: string, sink: AnswerSink, exchange: UpstreamExchange): Switched {
  const down: Direction = {
    ...directionOf(protocol),
    send: sink.write,
    full: exchange.pause,
    drop: exchange.resume,
    end: () => sink.end([]),
    from: 'server',
  }
  const up: Direction = {
    ...directionOf(protocol),
    send(bytes) {
      const hasRoom = exchange.write(bytes)
      exchange.flush()
      return hasRoom
    },
    full: sink.pause,
    drop: sink.resume,
    end: () => exchange.end([]),
    from: 'client',
  }
  let code = 0
  return {
    fromClient: (chunk) => pass(up, chunk),
    fromUpstream: (chunk) => pass(down, chunk),
    clientEnded: () => ended(up, down),
    upstreamEnded: () => ended(down, up),
    close:
      down.frames === undefined
        ? undefined
        : (given) => {
            code = given
            for (const each of [down, up]) if (each.frames?.isBetween() === true) finish(each)
          },
  }

  function pass(way: Direction, chunk: Buffer): void {
    if (way.isOver) return
    if (code === 0 || way.frames === undefined) {
      way.frames?.pass(chunk)
      if (!way.send(chunk)) way.full()
      return
    }
    const rest = way.frames.passFrame(chunk)
    const hasRoom = way.send(chunk.subarray(0, rest))
    if (way.frames.isBetween()) finish(way)
    else if (!hasRoom) way.full()
  }

  function finish(way: Direction): void {
    if (way.isOver) return
    way.isOver = true
    if (way.frames?.hasClosed() === false) way.send(formatCloseFrame(code, way.from))
    way.end()
    // What still comes is dropped: whoever sends it must be able to, to read that it is over.
    way.drop()
  }

  function ended(way: Direction, other: Direction): boolean {
    way.hasEnded = true
    if (!way.isOver) {
      way.isOver = true
      way.end()
    }
    return other.hasEnded
  }
}

/** One direction: to the client, or to the upstream. */
type Direction = {
  readonly frames: FrameTracker | undefined
  /** Returns whether there is room for more. */
  readonly send: (bytes: Buffer) => boolean
  /** Stops, and goes on, reading what is to be sent. */
  readonly full: () => void
  readonly drop: () => void
  readonly end: () => void
  readonly from: 'client' | 'server'
  /** Whether nothing more is sent. */
  isOver: boolean
  /** Whether nothing more comes. */
  hasEnded: boolean
}

function directionOf(protocol: string): Pick<Direction, 'frames' | 'isOver' | 'hasEnded'> {
  return { frames: protocol === 'websocket' ? createFrameTracker() : undefined, isOver: false, hasEnded: false }
}
