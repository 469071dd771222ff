// A small server for health, admin, issuer and demo. The data plane has its own (http1/).
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** One request, read whole. */
export type HttpRequest = {
  readonly method: string
  /** As received, undecoded, without the query. */
  readonly path: string
  /** Without the `?`; empty where there is none. */
  readonly query: string
  /** Every line of every header, by lower-case name. A map: a header may be called `__proto__`. */
  readonly headers: ReadonlyMap<string, readonly string[]>
  readonly body: Buffer
  /** Aborted when the client's connection has ended: nobody waits for an answer any more. */
  readonly left: AbortSignal
}

/** What to send back; the length is added. */
export type HttpAnswer = {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** Answers requests. */
export type HttpHandler = (request: HttpRequest) => HttpAnswer | Promise<HttpAnswer>

/** Where to listen, and how much to take. */
export type HttpServerOptions = {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Longest request body; what is longer is 413 and never reaches the handler. */
  readonly maxBodyBytes: number
  /**
   * Connections at once; a new one over it takes the place of the one that has waited longest without a whole request.
   * Default: as many as there are descriptors.
   */
  readonly maxConnections?: number
}

/** Who answers, and who is told what went wrong. */
export type HttpServerDeps = {
  readonly handle: HttpHandler
  /** Told what the handler threw, and what goes wrong with the listening socket. */
  readonly onError?: (error: unknown) => void
  /** Told of each connection that had to make room for a new one. */
  readonly onCrowded?: () => void
}

/** A server that listens, until closed. */
export type HttpServer = AsyncDisposable & {
  /** The port it has, where 0 was asked for. */
  readonly port: number
  /** Stops accepting, ends idle connections, waits a second for the answers under way. */
  readonly close: () => Promise<void>
}

// security.md §4.1: the whole head, and the time it may take; a body gets 30 s in all.
const maxHeadBytes = 16_384
const headMs = 10_000
const requestMs = 30_000
const keepAliveMs = 5000
// Node looks for what is over its time every 30 s if it is not asked to look more often.
const lookMs = 1000
// Whoever reads nothing of an answer would keep it, and his place among the connections, for good.
const takeMs = 10_000
// Requests that one client may have under way: whoever waits for its answers has one.
const maxUnderWay = 4
// How long we read what a refused client still sends: closing at once would reset the connection before it reads why.
const lingerMs = 1000

type Client = {
  underWay: number
  /** Those of them that were read to their end. */
  whole: number
  hasAsked: boolean
  readonly left: AbortController
}

/**
 * Starts a server. Whatever a client sends or a handler throws becomes an answer; nothing is thrown later.
 *
 * @throws (rejects) when the address cannot be listened on.
 */
export function startHttpServer(options: HttpServerOptions, deps: HttpServerDeps): Promise<HttpServer> {
  // Not `import 'node:http'`: the ESM import reads every export, lazy getters too, which loads undici (README, Decision 5).
  const http = process.getBuiltinModule('node:http')
  // Whoever has waited longest for a request of his is first.
  const clients = new Map<Socket, Client>()
  let closing: Promise<void> | undefined
  const server = http.createServer(
    {
      maxHeaderSize: maxHeadBytes,
      headersTimeout: headMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: lookMs,
      keepAliveTimeout: keepAliveMs,
    },
    (request, response) => {
      const { socket } = request
      const client = clients.get(socket)
      // Every answer is made at once, and kept, for whoever asks on without reading.
      if (client === undefined || client.underWay === maxUnderWay) {
        socket.destroy()
        return
      }
      client.underWay += 1
      client.hasAsked = true
      serve(request, response, client).catch(report)
    },
  )
  // The bytes of a head are bounded above; a bound on their number would drop the rest without a word.
  server.maxHeadersCount = 0
  server.on('connection', (socket) => {
    // Not the new one: somebody who fills the server would keep everybody else out.
    if (clients.size >= (options.maxConnections ?? Number.POSITIVE_INFINITY)) makeRoom()
    const left = new AbortController()
    clients.set(socket, { underWay: 0, whole: 0, hasAsked: false, left })
    socket.on('close', () => {
      clients.delete(socket)
      left.abort()
    })
  })
  server.on('clientError', refuseConnection)

  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, () => {
      server.off('error', reject)
      server.on('error', report)
      const { port } = server.address() as AddressInfo // not a pipe: it was given a host and a port
      resolve({ port, close, [Symbol.asyncDispose]: close })
    })
  })

  function close(): Promise<void> {
    closing ??= new Promise((resolve) => {
      // Of a server that is closed node watches no time any more: a client may never send the rest of its request.
      const late = setTimeout(() => {
        for (const socket of clients.keys()) socket.destroy()
      }, lingerMs)
      server.close(() => {
        clearTimeout(late)
        resolve()
      })
      // Node's own notion of idle leaves out a connection that has not sent a byte yet.
      for (const [socket, { underWay }] of clients) if (underWay === 0) socket.destroy()
    })
    return closing
  }

  /** Closes one that is idle between its requests, else one that has sent no whole request, else one that is answered. */
  function makeRoom(): void {
    let chosen: Socket | undefined
    let chosenWorth = Number.POSITIVE_INFINITY
    for (const [socket, { underWay, whole, hasAsked }] of clients) {
      const worth = whole > 0 ? 2 : underWay === 0 && hasAsked ? 0 : 1
      if (worth >= chosenWorth) continue
      chosen = socket
      chosenWorth = worth
    }
    if (chosen === undefined) return
    clients.delete(chosen)
    chosen.destroy()
    deps.onCrowded?.()
  }

  function report(error: unknown): void {
    try {
      deps.onError?.(error)
    } catch {
      // A reporter that throws has nobody left to tell.
    }
  }

  async function serve(request: IncomingMessage, response: ServerResponse, client: Client): Promise<void> {
    const { socket } = request
    let isWhole = false
    let late: NodeJS.Timeout | undefined
    response.on('error', () => {}) // the client left
    response.on('close', () => {
      clearTimeout(late)
      client.underWay -= 1
      if (isWhole) client.whole -= 1
      // It waits from now on.
      if (clients.delete(socket)) clients.set(socket, client)
      if (closing !== undefined && client.underWay === 0) socket.destroySoon()
    })
    const target = request.url ?? ''
    if (!target.startsWith('/')) return refuse(request, response, problem(400, 'Bad request'))
    const body = await readBody(request, options.maxBodyBytes)
    if (body === 'aborted') return
    if (body === 'too_large') return refuse(request, response, problem(413, 'Content too large'))
    isWhole = true
    client.whole += 1
    const mark = target.indexOf('?')
    const answer = await answerOf({
      method: request.method ?? '',
      path: mark === -1 ? target : target.slice(0, mark),
      query: mark === -1 ? '' : target.slice(mark + 1),
      headers: headerLines(request.rawHeaders),
      body,
      left: client.left.signal,
    })
    if (response.destroyed) return
    // Not closed: what the system has taken of it would go on waiting for him.
    late = setTimeout(() => socket.resetAndDestroy(), takeMs)
    try {
      send(response, answer)
    } catch (error) {
      // A status or header that cannot be written: our bug, and not the client's to guess.
      report(error)
      if (response.headersSent) response.destroy()
      else send(response, problem(500, 'Internal error'))
    }
  }

  async function answerOf(request: HttpRequest): Promise<HttpAnswer> {
    try {
      return await deps.handle(request)
    } catch (error) {
      report(error)
      return problem(500, 'Internal error')
    }
  }

  function send(response: ServerResponse, { status, headers, body = '' }: HttpAnswer): void {
    const bytes = typeof body === 'string' ? Buffer.from(body) : body
    const bodiless = status === 204 || status === 304
    response.writeHead(status, {
      ...headers,
      ...(bodiless ? {} : { 'content-length': String(bytes.byteLength) }),
      ...(closing === undefined ? {} : { connection: 'close' }),
    })
    response.end(bodiless ? undefined : bytes)
  }
}

/** An answer in the form of RFC 9457; `members` are added to it, and may name another `type`. */
export function problem(status: number, title: string, members: Record<string, string> = {}): HttpAnswer {
  return {
    status,
    headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store' },
    body: JSON.stringify({ type: 'about:blank', title, status, ...members }),
  }
}

function headerLines(raw: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const lines = new Map<string, string[]>()
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase()
    const value = raw[at + 1] ?? ''
    const held = lines.get(name)
    if (held === undefined) lines.set(name, [value])
    else held.push(value)
  }
  return lines
}

function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer | 'too_large' | 'aborted'> {
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) return Promise.resolve('too_large')
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let length = 0
    request.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length <= maxBytes) chunks.push(chunk)
      else resolve('too_large')
    })
    request.on('end', () => resolve(Buffer.concat(chunks)))
    request.on('error', () => resolve('aborted'))
    request.on('close', () => resolve('aborted'))
  })
}

/** Answers a request that was not read to its end, and closes once the client has had time to read why. */
function refuse(request: IncomingMessage, response: ServerResponse, { status, headers, body = '' }: HttpAnswer): void {
  response.writeHead(status, { ...headers, connection: 'close', 'content-length': String(Buffer.byteLength(body)) })
  response.write(body)
  const linger = setTimeout(() => response.end(), lingerMs)
  request.on('close', () => {
    clearTimeout(linger)
    response.end()
  })
  request.resume()
}

function refuseConnection(
  error: Error & { code?: string },
  socket: NodeJS.WritableStream & { destroy: () => void },
): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  const status = clientErrors.get(error.code ?? '') ?? '400 Bad Request'
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy())
}

const clientErrors: ReadonlyMap<string, string> = new Map([
  ['HPE_HEADER_OVERFLOW', '431 Request Header Fields Too Large'],
  ['ERR_HTTP_REQUEST_TIMEOUT', '408 Request Timeout'],
])
