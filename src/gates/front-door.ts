// The front door: sockets that clients connect to, each served as HTTP/1.1.
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import type { Deadlines } from '../http1/deadlines.ts'
import type { ServerLimits } from '../http1/limits.ts'
import type { ServerConnection } from '../http1/server-connection.ts'
import { createServerConnection } from '../http1/server-connection.ts'
import type { Handler, HandlerDeps } from './handler.ts'
import { createHandler } from './handler.ts'

/** Where the front door is, and what a client may cost. */
export type FrontDoorOptions = {
  readonly host: string
  readonly port: number
  readonly limits: ServerLimits
  /** Connections over it are dropped. */
  readonly maxConnections: number
}

/** What the front door needs. */
export type FrontDoorDeps = HandlerDeps & { readonly deadlines: Deadlines }

/** The front door, open until closed. */
export type FrontDoor = {
  readonly port: number
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

type Served = { readonly connection: ServerConnection; readonly handler: Handler }

/** Opens the front door. Rejects when the address cannot be listened on. */
export async function openFrontDoor(options: FrontDoorOptions, deps: FrontDoorDeps): Promise<FrontDoor> {
  const { deadlines, failed } = deps
  const served = new Map<Socket, Served>()
  let dropped = 0
  let isClosing = false
  // Half-open: a client that has said all it will may still want to hear.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, accept)
  server.maxConnections = options.maxConnections
  server.on('drop', () => {
    dropped += 1
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  server.on('error', failed)
  const { port } = server.address() as AddressInfo // it listens on a port, not a pipe
  return {
    port,
    inFlight: () => [...served.values()].filter(({ handler }) => handler.isBusy()).length,
    connections: () => served.size,
    dropped: () => dropped,
    announceClose() {
      isClosing = true
      for (const { connection } of served.values()) connection.announceClose()
    },
    drain,
    close,
  }

  function accept(socket: Socket): void {
    const peer = { address: socket.remoteAddress ?? '', proto: 'http' as const }
    let handler: Handler | undefined
    const connection = createServerConnection(socket, options.limits, deadlines, (made) => {
      handler = createHandler(made, peer, deps)
      return { request: handler.request, refused: handler.refused, ...handler.events }
    })
    if (isClosing) connection.announceClose()
    if (handler !== undefined) served.set(socket, { connection, handler })
    socket.on('close', () => served.delete(socket))
  }

  function drain(): Promise<void> {
    isClosing = true
    const { promise, resolve } = Promise.withResolvers<void>()
    server.close(() => resolve())
    for (const { connection } of served.values()) connection.closeIdle()
    return promise
  }

  function close(): void {
    server.close()
    for (const { connection } of served.values()) connection.destroy()
  }
}
