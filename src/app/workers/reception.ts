// Where clients of a gateway with workers connect. The primary accepts, and hands each connection to the worker that has
// the fewest: 64 kept connections are 32 and 32. What was weighed against it, each measured on two workers with 64:
// SO_REUSEPORT (`listen({ reusePort })`) lets the kernel draw lots, so two in five times the shares are more than a tenth
// apart, and what waits in a dead worker's queue is reset; a shared handle (SCHED_NONE) gives whoever wakes first up to
// all of them; SCHED_RR gives the next to whoever answers first, up to 35 and 29, closes the port when no worker is
// left, and never closes a connection whose worker died as it was handed over. A hand-over costs the primary a tenth of a
// millisecond for each connection, as with SCHED_RR, and nothing for a request.
// A hand-over can be lost: of a worker without a free descriptor the kernel drops what it is passed, Node answers with a
// NODE_HANDLE_NACK of its own, and neither end of ours is told. So they are numbered. Node passes one at a time and keeps
// everything in order: what a worker that has got to a number has not taken will never come.
import type { Socket } from 'node:net'
import { createServer } from 'node:net'
import type { DropCause } from '../../gates/entrance.ts'
import { dropCauses } from '../../gates/entrance.ts'
import { lastCall } from '../../http1/last-call.ts'
import type { ListenAddress } from '../../io/listen.ts'
import { listenOn } from '../../io/listen.ts'
import type { DropAlarm } from '../drop-alarm.ts'

/** A worker that takes connections. */
export type Desk = {
  /** Hands one over, by its number: 1, and one more each time. The worker acknowledges it. */
  readonly hand: (socket: Socket, number: number) => void
  /** Has the worker tell how far it is, once it has got to this number, whether what was handed has come or not. */
  readonly ask: (through: number) => void
  /** Whether it has said anything lately. One that has not is handed nothing while another has. */
  readonly answers: () => boolean
}

/** What a worker says of the connections it was handed. */
export type Told = {
  /** The number it has got to: what was handed up to there has come, or is lost. */
  readonly through: number
  /** The numbers, of those that were not told before, that have not come and never will. */
  readonly lost: readonly number[]
  /** How many it has open. */
  readonly open: number
}

/** The primary's door. */
export type Reception = {
  /** 0 on a Unix socket. */
  readonly port: number
  /** Hands connections to this worker, too; those first that waited. */
  readonly open: (desk: Desk) => void
  readonly told: (desk: Desk, told: Told) => void
  /** Every second: asks the desks that have not acknowledged all, and lets go of who has waited too long. */
  readonly turn: () => void
  /** The worker is gone: what it was handed and has not taken is lost with it. */
  readonly leave: (desk: Desk) => void
  /** Connections that were closed here: `limit`, one more than may wait, or than there are descriptors for; `no_worker`, none has taken it. */
  readonly dropped: () => ReadonlyMap<DropCause, number>
  /** Takes no new connection; resolves when all that had come are handed over, where there is anybody to take them. */
  readonly drain: () => Promise<void>
  /** Takes no new connection. What waits for a worker is closed. */
  readonly close: () => void
}

type Book = { through: number; open: number; lostTurn: number; readonly handed: Socket[] }
type Waiting = { readonly socket: Socket; readonly sinceTurn: number }

// While no worker is there, or all are far behind: a moment's connections, in place of the kernel's own queue.
const maxWaiting = 1024
// A worker that is stuck is found out after this many; a burst of connections is still shared evenly.
const maxHanded = 64
// Seconds in which a worker that could not take a connection is handed none while another has room: it has few open, and
// would be the next to be handed one, and lose that, too.
const restTurns = 10
// Seconds. A worker that hangs is replaced sooner; and of a client that waits and leaves we hear nothing, as nothing is
// read here, so that whoever has left would keep a descriptor for as long as nobody takes it.
const maxWaitedTurns = 15

/** What the door needs. */
export type ReceptionOptions = {
  readonly address: ListenAddress
  /**
   * Connections that no worker has taken yet, waiting and handed together, for which there are descriptors: without the
   * last ones no worker could be started, and all that wait would wait for ever.
   */
  readonly maxUntaken: number
}

/** Opens the door. Rejects when the address cannot be listened on. */
export async function openReception(
  { address, maxUntaken }: ReceptionOptions,
  { failed, dropped: tell }: { readonly failed: (error: unknown) => void; readonly dropped: DropAlarm['dropped'] },
): Promise<Reception> {
  const desks = new Map<Desk, Book>()
  const waiting: Waiting[] = []
  const dropped = new Map<DropCause, number>(dropCauses.map((cause) => [cause, 0]))
  let turns = 0
  let accepted = 0
  // Paused: not a byte is read here, or it would be missing there.
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, receive)
  const port = (await listenOn(server, address)) ?? 0
  server.on('error', failed)
  return {
    port,
    open(desk) {
      desks.set(desk, { through: 0, open: 0, lostTurn: Number.NEGATIVE_INFINITY, handed: [] })
      handWaiting()
    },
    told,
    leave(desk) {
      for (const socket of desks.get(desk)?.handed ?? []) drop(socket, 'no_worker')
      desks.delete(desk)
    },
    turn() {
      turns += 1
      askAll()
      for (;;) {
        const [first] = waiting
        if (first === undefined || turns - first.sinceTurn <= maxWaitedTurns) return
        waiting.shift()
        drop(first.socket, 'no_worker')
      }
    },
    dropped: () => dropped,
    async drain() {
      await lastCall(() => accepted)
      server.close()
      handWaiting(Number.POSITIVE_INFINITY)
      askAll()
    },
    close() {
      server.close()
      for (const { socket } of waiting.splice(0)) socket.destroy()
    },
  }

  function receive(socket: Socket): void {
    socket.on('error', () => {}) // told by its closing
    accepted += 1
    if (waiting.length >= maxWaiting || countUntaken() >= maxUntaken) {
      drop(socket, 'limit')
      return
    }
    waiting.push({ socket, sinceTurn: turns })
    handWaiting()
  }

  function countUntaken(): number {
    let count = waiting.length
    for (const { handed } of desks.values()) count += handed.length
    return count
  }

  function handWaiting(most = maxHanded): void {
    for (;;) {
      const [first] = waiting
      const found = first === undefined ? undefined : leastBusy(most)
      if (first === undefined || found === undefined) return
      waiting.shift()
      const [desk, book] = found
      // To the end: of those with as many, the next is the one that waits longest.
      desks.delete(desk)
      desks.set(desk, book)
      book.handed.push(first.socket)
      desk.hand(first.socket, lastOf(book))
      // Where all of them are lost, nothing else would tell so before the next second.
      if (book.handed.length === maxHanded) desk.ask(lastOf(book))
    }
  }

  function askAll(): void {
    for (const [desk, book] of desks) if (book.handed.length > 0) desk.ask(lastOf(book))
  }

  function leastBusy(most: number): readonly [Desk, Book] | undefined {
    const answering = [...desks].filter(([desk]) => desk.answers())
    const able = answering.filter(([, book]) => hasRoom(book))
    let least: readonly [Desk, Book] | undefined
    for (const each of able.length > 0 ? able : answering.length > 0 ? answering : desks) {
      if (each[1].handed.length >= most) continue
      if (least === undefined || countOf(each[1]) < countOf(least[1])) least = each
    }
    return least
  }

  function hasRoom({ lostTurn }: Book): boolean {
    return turns - lostTurn > restTurns
  }

  function told(desk: Desk, { through, lost, open }: Told): void {
    const book = desks.get(desk)
    if (book === undefined) return
    if (lost.length > 0) book.lostTurn = turns
    const isToTryAgain = [...desks].some(([each, other]) => each.answers() && hasRoom(other))
    const settled = book.handed.splice(0, Math.max(0, through - book.through))
    for (const [at, socket] of settled.entries()) {
      // Of what was taken ours is a second handle, and closing it closes nothing. Of what is lost it is the only one.
      if (!lost.includes(book.through + 1 + at)) socket.destroy()
      else if (isToTryAgain) waiting.push({ socket, sinceTurn: turns })
      else drop(socket, 'no_worker')
    }
    book.through += settled.length
    book.open = open
    handWaiting()
  }

  function drop(socket: Socket, cause: 'limit' | 'no_worker'): void {
    dropped.set(cause, (dropped.get(cause) ?? 0) + 1)
    tell(cause)
    socket.destroy()
  }
}

/** The number of what was handed over last. */
function lastOf({ through, handed }: Book): number {
  return through + handed.length
}

/** What a worker has, and will have once it has taken what it was handed. */
function countOf({ open, handed }: Book): number {
  return open + handed.length
}
