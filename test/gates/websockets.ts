// Real WebSocket peers on both sides of a whole gateway, and a stub issuer whose list names tokens.
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { WebSocket, WebSocketServer } from 'ws'

/** A service with WebSockets at every path but `/plain`; it echoes, and is told what else it is sent. */
export type EchoService = AsyncDisposable & {
  readonly port: number
  /** Heads of the requests to switch. */
  readonly asked: IncomingMessage[]
  readonly sockets: WebSocket[]
  /** Close codes that clients sent. */
  readonly closed: number[]
}

export async function openEchoService(perMessageDeflate: boolean): Promise<EchoService> {
  const asked: IncomingMessage[] = []
  const sockets: WebSocket[] = []
  const closed: number[] = []
  const raw = new Set<Socket>()
  const server = createServer((_request, response) => void response.end('plain'))
  const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate, maxPayload: 16 * 1024 * 1024 })
  server.on('connection', (socket) => {
    raw.add(socket)
    socket.on('close', () => raw.delete(socket))
  })
  server.on('upgrade', (request, socket, head) => {
    asked.push(request)
    webSockets.handleUpgrade(request, socket, head, (opened) => {
      sockets.push(opened)
      opened.on('error', () => {})
      opened.on('close', (code) => closed.push(code))
      opened.on('message', (data, isBinary) => opened.send(data, { binary: isBinary }))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // listening on a port
  return {
    port,
    asked,
    sockets,
    closed,
    async [Symbol.asyncDispose]() {
      server.close()
      webSockets.close()
      for (const socket of raw) socket.destroy()
    },
  }
}

/** Connects, with a token where one is given; `opened` rejects with the status when the answer is no 101. */
export function connectWebSocket(
  port: number,
  path: string,
  token?: string,
  options: { readonly perMessageDeflate?: boolean; readonly protocols?: readonly string[] } = {},
): { readonly socket: WebSocket; readonly opened: Promise<void>; readonly closed: Promise<number> } {
  const { perMessageDeflate = false, protocols = [] } = options
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, [...protocols], { headers, perMessageDeflate })
  const opened = Promise.withResolvers<void>()
  const closed = Promise.withResolvers<number>()
  socket.on('open', opened.resolve)
  socket.on('unexpected-response', (_request, response) => {
    opened.reject(new Error(`answered with ${response.statusCode}`))
    socket.terminate()
  })
  socket.on('error', opened.reject)
  socket.on('close', (code) => closed.resolve(code))
  return { socket, opened: opened.promise, closed: closed.promise }
}

/** The next message. */
export async function nextMessage(socket: WebSocket): Promise<Buffer> {
  const [data] = (await once(socket, 'message')) as [Buffer] // binaryType is nodebuffer
  return data
}
