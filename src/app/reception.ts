// Where clients of a gateway with workers connect. The primary accepts, and hands each connection to the worker that has
// the fewest: 64 kept connections are 32 and 32. What was weighed against it, each measured on two workers with 64:
// SO_REUSEPORT (`listen({ reusePort })`) lets the kernel draw lots, so two in five times the shares are more than a tenth
// apart, and what waits in a dead worker's queue is reset; a shared handle (SCHED_NONE) gives whoever wakes first up to
// all of them; SCHED_RR gives the next to whoever answers first, up to 35 and 29, closes the port when no worker is
// left, and never closes a connection whose worker died as it was handed over. A hand-over costs the primary a tenth of a
// millisecond for each connection, as with SCHED_RR, and nothing for a request.
import type { Socket } from 'node:net'
import { createServer } from 'node:net'
import { lastCall } from '../http1/last-call.ts'
import type { ListenAddress } from '../io/listen.ts'
import { listenOn } from '../io/listen.ts'

/** A worker that takes connections. */
export type Desk = {
  /** Hands one over; the worker acknowledges it. */
  readonly hand: (socket: Socket) => void
  /** Whether it has said anything lately. One that has not is handed nothing while another has. */
  readonly answers: () => boolean
}

/** The primary's door. */
export type Reception = {
  /** 0 on a Unix socket. */
  readonly port: number
  /** Hands connections to this worker, too; those first that waited. */
  readonly open: (desk: Desk) => void
  /** What a worker says: how many it has taken since it started, and how many it has open. */
  readonly told: (desk: Desk, taken: number, open: number) => void
  /** The worker is gone: what it was handed and has not taken is lost with it. */
  readonly leave: (desk: Desk) => void
  /** Connections that were one too many. */
  readonly dropped: () => number
  /** Takes no new connection; resolves when all that had come are handed over, where there is anybody to take them. */
  readonly drain: () => Promise<void>
  /** Takes no new connection. What waits for a worker is closed. */
  readonly close: () => void
}

type Book = { taken: number; open: number; readonly handed: Socket[] }

// While no worker is there, or all are far behind: a moment's connections, in place of the kernel's own queue.
const maxWaiting = 1024
// A worker that is stuck is found out after this many; a burst of connections is still shared evenly.
const maxHanded = 64

/** Opens the door. Rejects when the address cannot be listened on. */
export async function openReception(
  address: ListenAddress,
  { failed }: { readonly failed: (error: unknown) => void },
): Promise<Reception> {
  const desks = new Map<Desk, Book>()
  const waiting: Socket[] = []
  let dropped = 0
  let accepted = 0
  // Paused: not a byte is read here, or it would be missing there.
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, receive)
  const port = (await listenOn(server, address)) ?? 0
  server.on('error', failed)
  return {
    port,
    open(desk) {
      desks.set(desk, { taken: 0, open: 0, handed: [] })
      handWaiting()
    },
    told,
    leave(desk) {
      for (const socket of desks.get(desk)?.handed ?? []) socket.destroy()
      desks.delete(desk)
    },
    dropped: () => dropped,
    async drain() {
      await lastCall(() => accepted)
      server.close()
      handWaiting(Number.POSITIVE_INFINITY)
    },
    close() {
      server.close()
      for (const socket of waiting.splice(0)) socket.destroy()
    },
  }

  function receive(socket: Socket): void {
    socket.on('error', () => {}) // told by its closing
    accepted += 1
    if (waiting.length >= maxWaiting) {
      dropped += 1
      socket.destroy()
      return
    }
    waiting.push(socket)
    handWaiting()
  }

  function handWaiting(most = maxHanded): void {
    for (;;) {
      const [socket] = waiting
      const found = socket === undefined ? undefined : leastBusy(most)
      if (socket === undefined || found === undefined) return
      waiting.shift()
      const [desk, book] = found
      // To the end: of those with as many, the next is the one that waits longest.
      desks.delete(desk)
      desks.set(desk, book)
      book.handed.push(socket)
      desk.hand(socket)
    }
  }

  function leastBusy(most: number): readonly [Desk, Book] | undefined {
    const all = [...desks]
    const answering = all.filter(([desk]) => desk.answers())
    let least: readonly [Desk, Book] | undefined
    for (const each of answering.length > 0 ? answering : all) {
      if (each[1].handed.length >= most) continue
      if (least === undefined || countOf(each[1]) < countOf(least[1])) least = each
    }
    return least
  }

  function told(desk: Desk, taken: number, open: number): void {
    const book = desks.get(desk)
    if (book === undefined) return
    // Ours is a second handle on the same connection, which the worker now has: closing it closes nothing.
    for (const socket of book.handed.splice(0, taken - book.taken)) socket.destroy()
    book.taken = Math.max(book.taken, taken)
    book.open = open
    handWaiting()
  }
}

/** What a worker has, and will have once it has taken what it was handed. */
function countOf({ open, handed }: Book): number {
  return open + handed.length
}
