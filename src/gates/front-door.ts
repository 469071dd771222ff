// The front door: sockets that clients connect to, each brought to its first request and served in what it speaks.
import type { Socket } from 'node:net'
import { createServer } from 'node:net'
import type { Bagged } from '../base/bag.ts'
import { createBag } from '../base/bag.ts'
import { nextTurn } from '../base/time.ts'
import type { Deadline } from '../http1/deadlines.ts'
import { lastCall } from '../http1/last-call.ts'
import type { ServerLimits } from '../http1/limits.ts'
import type { ServerConnection } from '../http1/server-connection.ts'
import { createServerConnection } from '../http1/server-connection.ts'
import { boundUnread } from '../http1/unread-bytes.ts'
import type { ListenAddress } from '../io/listen.ts'
import { listenOn } from '../io/listen.ts'
import type { DropCause, Entered, EntranceOptions } from './entrance.ts'
import { createEntrance, dropCauses } from './entrance.ts'
import type { FrontDoorDeps, Handler, Served } from './handler.ts'
import { createHandler } from './handler.ts'
import { serveHttp2, sessionBytes } from './http2.ts'
import type { TlsMaterial } from './tls.ts'

/** What a client may cost. */
export type HallOptions = EntranceOptions & {
  readonly limits: ServerLimits
  /** Connections over it are dropped, as are those that would take more memory than `maxBytes` together. */
  readonly maxConnections: number
}

/** Where the front door is, and what a client may cost. */
export type FrontDoorOptions = HallOptions & { readonly address: ListenAddress }

/** What it needs. */
export type HallDeps = FrontDoorDeps & {
  /** Told of each connection that is closed before a request. */
  readonly dropped?: ((cause: DropCause) => void) | undefined
}

/** Clients that have come in, wherever they were let in: here, or at the door of another process. */
export type Hall = {
  /** Serves a connection of which nothing was read yet; `left` is told when it has closed. */
  readonly take: (socket: Socket, left?: () => void) => void
  readonly inFlight: () => number
  readonly connections: () => number
  /** Connections that were closed before a request, by why. */
  readonly dropped: () => ReadonlyMap<DropCause, number>
  /** Shows another certificate from the next connection on. */
  readonly useTls: (material: TlsMaterial) => void
  /** Every answer from now on says that it is the last on its connection. */
  readonly announceClose: () => void
  /** Takes no new connection; resolves when the last one has closed. */
  readonly drain: () => Promise<void>
  /** Ends what is left. */
  readonly close: () => void
}

/** The front door, open until closed. The port is 0 on a Unix socket. */
export type FrontDoor = Hall & { readonly port: number }

/** Somebody who was let in; who serves them is another once HTTP/2 is spoken without having been agreed on. */
type Client = Bagged & { readonly socket: Socket; served: Served }

// A quarter of a second each, or two: a second is long for the first words of a client that has connected.
const mostLooks = 3
// A millisecond of closing, about.
const portion = 32

// What a connection takes that has had a request and does nothing, as measured with thousands of them.
const plainBytes = 16_384
const tlsBytes = 67_584

/** Who serves a connection that is closed already. */
const nobody: Served = { announceClose() {}, closeIdle() {}, destroy() {}, inFlight: () => 0 }

/** Makes a hall with nobody in it. */
export function createHall(options: HallOptions, deps: HallDeps): Hall {
  const { deadlines } = deps
  const clients = createBag<Client>()
  const dropped = new Map(dropCauses.map((cause) => [cause, 0]))
  const entrance = createEntrance(options, options.limits.headMs, { deadlines, drop })
  boundUnread(options.maxBytes / 2)
  const ownBytes = options.tls === undefined ? plainBytes : tlsBytes
  const http2Bytes = sessionBytes(options.limits)
  let takenBytes = 0
  let isClosing = false
  let isDraining = false
  let emptied: (() => void) | undefined
  return {
    take,
    inFlight: () => clients.all().reduce((sum, { served }) => sum + served.inFlight(), 0),
    connections: () => clients.size() + entrance.waiting(),
    dropped: () => dropped,
    useTls: entrance.useTls,
    announceClose,
    drain,
    close,
  }

  function take(socket: Socket, left: () => void = () => {}): void {
    const isOver = clients.size() + entrance.waiting() >= options.maxConnections
    if (isOver || takenBytes + ownBytes > options.maxBytes) {
      drop(isOver ? 'limit' : 'memory')
      socket.destroy()
      return
    }
    takenBytes += ownBytes
    const gone = () => {
      takenBytes -= ownBytes
      settle()
      left()
    }
    entrance.enter(socket, { entered: (entered) => welcome(entered, gone), gone })
  }

  function drop(cause: DropCause): void {
    dropped.set(cause, (dropped.get(cause) ?? 0) + 1)
    deps.dropped?.(cause)
  }

  function welcome({ socket, peer, protocol, acceptedMs }: Entered, gone: () => void): void {
    // Who has agreed on it has agreed on nothing else.
    const client: Client = { socket, served: announced(protocol === 'h2' ? overHttp2() : overHttp1()) }
    clients.add(client)
    socket.on('close', () => {
      clients.delete(client)
      gone()
    })

    function overHttp1(): Served {
      let handler: Handler | undefined
      const listen = (made: ServerConnection) => {
        handler = createHandler(made, peer, deps)
        const events = { request: handler.request, refused: handler.refused, late: drop, ...handler.events }
        return options.http2 && protocol === undefined ? { ...events, preface } : events
      }
      const connection = createServerConnection(socket, options.limits, deadlines, listen, acceptedMs)
      return { ...connection, inFlight: () => (handler?.isBusy() === true ? 1 : 0) }
    }

    /** What came is the beginning of an HTTP/2 session, and is read again as that. */
    function preface(bytes: Buffer): void {
      socket.unshift(bytes)
      client.served = announced(overHttp2())
    }

    function overHttp2(): Served {
      if (takenBytes + http2Bytes > options.maxBytes) {
        drop('memory')
        socket.destroy()
        return nobody
      }
      takenBytes += http2Bytes
      socket.on('close', () => {
        takenBytes -= http2Bytes
      })
      const late = () => drop('timeout')
      const session = serveHttp2(socket, { limits: options.limits, peer, acceptedMs, late }, deps)
      // Its answers cannot say that they are the last ones.
      if (isDraining) session.closeIdle()
      return session
    }
  }

  /** Who comes while we are closing is told so with the first answer. */
  function announced(served: Served): Served {
    if (isClosing) served.announceClose()
    return served
  }

  function settle(): void {
    if (clients.size() + entrance.waiting() === 0) emptied?.()
  }

  function announceClose(): void {
    isClosing = true
    for (const { served } of clients.all()) served.announceClose()
  }

  async function drain(): Promise<void> {
    announceClose()
    // A request that is here already, and was not read yet, would find its connection closed.
    await nextTurn()
    await nextTurn()
    // Who has just connected may be about to speak, and could not know.
    for (let looks = 0; looks < mostLooks && hasSilent(); looks += 1) await nextLook()
    isDraining = true
    entrance.closeIdle()
    await inPortions((served) => served.closeIdle())
    await new Promise<void>((resolve) => {
      emptied = resolve
      settle()
    })
  }

  /** Thousands are not told in one turn: who has a request under way would wait for it. */
  async function inPortions(tell: (served: Served) => void): Promise<void> {
    const all = clients.all()
    for (let at = 0; at < all.length; at += portion) {
      for (const client of all.slice(at, at + portion)) if (clients.has(client)) tell(client.served)
      await nextTurn()
    }
  }

  function hasSilent(): boolean {
    return entrance.hasSilent() || clients.all().some(({ socket }) => socket.bytesRead === 0)
  }

  function nextLook(): Promise<void> {
    return new Promise((resolve) => {
      const look: Deadline = {
        atMs: deadlines.nowMs(),
        expire() {
          deadlines.unwatch(look)
          resolve()
        },
      }
      deadlines.watch(look)
    })
  }

  function close(): void {
    entrance.close()
    for (const { served } of clients.all()) served.destroy()
  }
}

/** Opens the front door. Rejects when the address cannot be listened on. */
export async function openFrontDoor(options: FrontDoorOptions, deps: HallDeps): Promise<FrontDoor> {
  const hall = createHall(options, deps)
  let accepted = 0
  // Half-open: a client that has said all it will may still want to hear.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    accepted += 1
    hall.take(socket)
  })
  const port = (await listenOn(server, options.address)) ?? 0
  server.on('error', deps.failed)
  return {
    ...hall,
    port,
    async drain() {
      await lastCall(() => accepted)
      server.close()
      await hall.drain()
    },
    close() {
      server.close()
      hall.close()
    },
  }
}
