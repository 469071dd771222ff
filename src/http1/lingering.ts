// RFC 9112 §9.6: behind the last answer what still comes is read for a while, and thrown away. Closed on before that, a
// client that sends would be answered by a reset, which takes what is still on its way to it.
import type { Socket } from 'node:net'
import type { Deadline, Deadlines } from './deadlines.ts'
import { setDeadline } from './deadlines.ts'
import { giveBack } from './lent-reads.ts'
import { lingerMs, maxLingerBytes } from './limits.ts'

/** The end of one connection. */
export type Lingering = {
  /** Something came that nobody wants. */
  readonly took: (chunk: Buffer) => void
  /** The last answer has left: a second of silence, or so many milliseconds, are the end. */
  readonly begin: (forMs: number) => void
  /** A second is the end, whatever comes. */
  readonly hasten: () => void
}

/** Makes the end of one connection, whose deadline is moved. */
export function createLingering(socket: Socket, deadline: Deadline, deadlines: Deadlines): Lingering {
  let discarded = 0
  // 0 while the last answer has not left.
  let untilMs = 0
  return {
    took(chunk) {
      giveBack(chunk, chunk.length)
      discarded += chunk.length
      if (discarded > maxLingerBytes) socket.pause()
      else if (untilMs > 0) setDeadline(deadline, Math.min(deadlines.nowMs() + lingerMs, untilMs))
    },
    begin(forMs) {
      setDeadline(deadline, deadlines.nowMs() + lingerMs)
      untilMs = deadlines.nowMs() + forMs
    },
    hasten() {
      untilMs = Math.min(untilMs, deadlines.nowMs() + lingerMs)
    },
  }
}
