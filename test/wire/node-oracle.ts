// Node's own parser (node:http on a socket), told the same bytes as the gateway: what it makes of them.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'

/** A request as node:http read it, body and all. */
export type NodeRequest = { readonly method: string; readonly url: string; readonly body: string }

/** What node:http made of one connection so far. */
export type NodeSaw = { readonly requests: NodeRequest[]; refused: string | undefined }

export type NodeOracle = Disposable & {
  readonly port: number
  /** What comes on the connection from a port of this machine; undefined until it is accepted. */
  readonly saw: (from: number) => NodeSaw | undefined
  /** Forgets it: the port will be used again. */
  readonly forget: (from: number) => void
}

/** Opens one. Its own limits are wide, so that only its grammar decides. */
export async function openNodeOracle(): Promise<NodeOracle> {
  const latest = new Map<number, NodeSaw>()
  const connections = new WeakMap<Duplex, NodeSaw>()
  const options = {
    maxHeaderSize: 262_144,
    requireHostHeader: false,
    noDelay: true,
    keepAliveTimeout: 600_000,
  } as const
  // Nothing is answered: that would be half of the work, and the next request is read all the same.
  const server = createServer(options, (request) => {
    const seen = connections.get(request.socket)
    let body = ''
    request.setEncoding('latin1')
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      seen?.requests.push({ method: request.method ?? '', url: request.url ?? '', body })
    })
    request.on('error', () => {})
  })
  server.on('checkExpectation', (request, response) => server.emit('request', request, response))
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const seen = connections.get(socket)
    if (seen !== undefined) seen.refused = error.code ?? error.message
    // Not at once: a request before it is still to end.
    setImmediate(() => socket.destroy())
  })
  server.on('connection', (socket) => {
    const seen = { requests: [], refused: undefined }
    connections.set(socket, seen)
    latest.set(socket.remotePort ?? 0, seen)
  })
  server.maxHeadersCount = 0
  server.maxRequestsPerSocket = 0
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port, // it listens on a port
    saw: (from) => latest.get(from),
    forget: (from) => void latest.delete(from),
    [Symbol.dispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}
