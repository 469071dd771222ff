// The front door: sockets that clients connect to, each served as HTTP/1.1.
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import type { Deadlines } from '../http1/deadlines.ts'
import { lastCall, nextTurn } from '../http1/last-call.ts'
import { adoptSocket } from '../http1/lent-reads.ts'
import type { ServerLimits } from '../http1/limits.ts'
import type { ServerConnection } from '../http1/server-connection.ts'
import { createServerConnection } from '../http1/server-connection.ts'
import type { Handler, HandlerDeps } from './handler.ts'
import { createHandler } from './handler.ts'

/** What a client may cost. */
export type HallOptions = {
  readonly limits: ServerLimits
  /** Connections over it are dropped. */
  readonly maxConnections: number
}

/** Where the front door is, and what a client may cost. */
export type FrontDoorOptions = HallOptions & { readonly host: string; readonly port: number }

/** What the front door needs. */
export type FrontDoorDeps = HandlerDeps & { readonly deadlines: Deadlines }

/** Clients that have come in, wherever they were let in: here, or at the door of another process. */
export type Hall = {
  /** Serves a connection of which nothing was read yet; `left` is told when it has closed. */
  readonly take: (socket: Socket, left?: () => void) => void
  readonly inFlight: () => number
  readonly connections: () => number
  /** Connections that were one too many. */
  readonly dropped: () => number
  /** Every answer from now on says that it is the last on its connection. */
  readonly announceClose: () => void
  /** Takes no new connection; resolves when the last one has closed. */
  readonly drain: () => Promise<void>
  /** Ends what is left. */
  readonly close: () => void
}

/** The front door, open until closed. */
export type FrontDoor = Hall & { readonly port: number }

/** A connection, whatever it speaks. */
type Served = Pick<ServerConnection, 'announceClose' | 'closeIdle' | 'destroy'> & {
  /** Requests under way. */
  readonly inFlight: () => number
}

/** Makes a hall with nobody in it. */
export function createHall(options: HallOptions, deps: FrontDoorDeps): Hall {
  const { deadlines } = deps
  const served = new Map<Socket, Served>()
  let dropped = 0
  let isClosing = false
  let emptied: (() => void) | undefined
  return {
    take,
    inFlight: () => [...served.values()].reduce((sum, each) => sum + each.inFlight(), 0),
    connections: () => served.size,
    dropped: () => dropped,
    announceClose,
    drain,
    close,
  }

  function take(accepted: Socket, left?: () => void): void {
    if (served.size >= options.maxConnections) {
      dropped += 1
      accepted.destroy()
      return
    }
    const socket = adoptSocket(accepted)
    const peer = { address: socket.remoteAddress ?? '', proto: 'http' as const }
    let handler: Handler | undefined
    const connection = createServerConnection(socket, options.limits, deadlines, (made) => {
      handler = createHandler(made, peer, deps)
      return { request: handler.request, refused: handler.refused, ...handler.events }
    })
    serve(socket, { ...connection, inFlight: () => (handler?.isBusy() === true ? 1 : 0) })
    socket.on('close', () => {
      served.delete(socket)
      if (served.size === 0) emptied?.()
      left?.()
    })
  }

  function serve(socket: Socket, connection: Served): void {
    if (isClosing) connection.announceClose()
    served.set(socket, connection)
  }

  function announceClose(): void {
    isClosing = true
    for (const connection of served.values()) connection.announceClose()
  }

  async function drain(): Promise<void> {
    announceClose()
    // A request that is here already, and was not read yet, would find its connection closed.
    await nextTurn()
    await nextTurn()
    for (const connection of served.values()) connection.closeIdle()
    await new Promise<void>((resolve) => {
      if (served.size === 0) resolve()
      else emptied = resolve
    })
  }

  function close(): void {
    for (const connection of served.values()) connection.destroy()
  }
}

/** Opens the front door. Rejects when the address cannot be listened on. */
export async function openFrontDoor(options: FrontDoorOptions, deps: FrontDoorDeps): Promise<FrontDoor> {
  const hall = createHall(options, deps)
  // Half-open: a client that has said all it will may still want to hear.
  let accepted = 0
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    accepted += 1
    hall.take(socket)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  server.on('error', deps.failed)
  const { port } = server.address() as AddressInfo // it listens on a port, not a pipe
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
