// The front door on node:http, thin: it reads a request, has it decided, and does what the decision says.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Clock } from '../base/time.ts'
import type { Allow, Decision, Deny } from '../decision/decision.ts'
import { deny } from '../decision/decision.ts'
import type { AccessRequest } from '../decision/request.ts'
import { readAccessRequest } from '../decision/request.ts'
import type { GateReports, Serving, UpstreamFailure } from './gate.ts'
import type { Upstream } from './proxy.ts'
import type { RequestHead } from './request-head.ts'
import { readHead } from './request-head.ts'
import type { Denial } from './respond.ts'
import { respond } from './respond.ts'

/** What the front door asks and tells. */
export type FrontDoorDeps = GateReports & {
  readonly clock: Clock
  readonly serving: () => Serving
  readonly upstream: Upstream
}

/** The front door, open until closed. */
export type FrontDoor = {
  readonly port: number
  readonly inFlight: () => number
  readonly connections: () => number
  /** Takes no new connection; resolves when the last answer is out. */
  readonly drain: () => Promise<void>
  /** Ends what is left. */
  readonly close: () => void
}

/** One request on its way; what is known of it grows. */
export type Handled = {
  readonly message: IncomingMessage
  readonly response: ServerResponse
  readonly served: Serving
  /** Taken at the start: a request that is over has no socket. */
  readonly peer: string
  readonly arrivedMs: number
  head: RequestHead | undefined
  request: AccessRequest | undefined
  decision: Decision | undefined
  decidedMs: number
  upstreamFailure: UpstreamFailure | undefined
}

// security.md §4.1. The parser's own limit leaves room to answer a long target, or header, as what it is.
const limits = {
  maxHeaderSize: 32_768,
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 2000,
  requireHostHeader: false,
} as const
const maxConnections = 10_000
const maxRequestsPerSocket = 10_000
const drainedBodyBytes = 65_536
// Time enough to read a refusal.
const lingerMs = 1000

/** Opens the front door. Rejects when the address cannot be listened on. */
export async function openFrontDoor(
  options: { readonly host: string; readonly port: number },
  { clock, serving, upstream, decided, finished, failed }: FrontDoorDeps,
): Promise<FrontDoor> {
  // Not imported: `import 'node:http'` costs 16 MiB, see io/http-server.ts.
  const http = process.getBuiltinModule('node:http')
  /** Open connections, each with the answer it is at. */
  const sockets = new Map<Socket, ServerResponse | undefined>()
  let inFlight = 0
  let draining = false
  const server = http.createServer(limits, (message, response) => receive(message, response))
  server.maxHeadersCount = 0
  server.maxConnections = maxConnections
  server.maxRequestsPerSocket = maxRequestsPerSocket
  server.on('checkContinue', (message, response) => receive(message, response))
  server.on('checkExpectation', (message, response) => receive(message, response, deny('request_malformed')))
  server.on('connect', (_message, socket) => refuseSocket(socket as Socket, deny('request_malformed'))) // a net server's
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const answer = sockets.get(socket as Socket) // a net server's
    // One answer is out, or on its way: a second one would be read as a part of it, or as the next one's.
    if (answer?.writableEnded === true) return void (socket as Socket).destroySoon()
    // A connection cut between two requests is nobody's mistake.
    if (answer !== undefined || error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    refuseSocket(socket as Socket, deny(error.code === 'HPE_HEADER_OVERFLOW' ? 'too_large' : 'request_malformed'))
  })
  server.on('connection', (socket) => {
    sockets.set(socket, undefined)
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  server.on('error', failed)
  const { port } = server.address() as AddressInfo // it listens on a port, not a pipe
  return { port, inFlight: () => inFlight, connections: () => sockets.size, drain, close }

  function receive(message: IncomingMessage, response: ServerResponse, refused?: Deny): void {
    const handled: Handled = {
      message,
      response,
      served: serving(),
      peer: message.socket.remoteAddress ?? '',
      arrivedMs: clock.monotonicMs(),
      head: undefined,
      request: undefined,
      decision: undefined,
      decidedMs: 0,
      upstreamFailure: undefined,
    }
    inFlight += 1
    const { socket } = message
    sockets.set(socket, response)
    response.on('close', () => {
      inFlight -= 1
      if (sockets.get(socket) === response) sockets.set(socket, undefined)
      // A connection that was busy when the drain began would stay open for its next request.
      if (draining) setImmediate(() => server.closeIdleConnections())
      if (handled.decision !== undefined) report(handled, handled.decision)
    })
    try {
      const decision = refused ?? decide(handled)
      if (decision instanceof Promise)
        decision.then((made) => act(handled, made)).catch((error) => act(handled, bug(error)))
      else act(handled, decision)
    } catch (error) {
      act(handled, bug(error))
    }
  }

  function decide(handled: Handled): Decision | Promise<Decision> {
    const { message, served, arrivedMs } = handled
    const head = readHead(message.rawHeaders, message.httpVersion)
    if (head.kind === 'deny') return head
    handled.head = head
    const { method = '', url: target = '' } = message
    const { host, authorization } = head
    const request = readAccessRequest({ method, target, host, authorization, arrivedMs }, served)
    if (request.kind === 'deny') return request
    handled.request = request
    return served.gateway.decide(request)
  }

  function act(handled: Handled, made: Decision): void {
    if (handled.decision !== undefined) {
      // A bug after the verdict, which was counted: the client gets an end, or what a bug is answered with.
      if (handled.response.headersSent || made.kind === 'allow') handled.response.destroy()
      else answer(handled, respond(made))
      return
    }
    const full = made.kind === 'allow' && upstream.isFull()
    const decision: Decision = full ? { kind: 'deny', reason: 'overloaded', rule: made.rule } : made
    handled.decision = decision
    handled.decidedMs = clock.monotonicMs()
    decided(decision, (handled.decidedMs - handled.arrivedMs) / 1000)
    if (draining) handled.response.shouldKeepAlive = false
    // The client left while we asked: there is nobody to serve, and the upstream sees nothing.
    if (handled.response.destroyed) report(handled, decision)
    else if (decision.kind === 'deny') answer(handled, respond(decision))
    else forward(handled, decision)
  }

  function forward(handled: Handled, allow: Allow): void {
    const { message, response } = handled
    if (message.headers.expect !== undefined) response.writeContinue()
    upstream.forward(handled, allow, (failure, denial) => {
      handled.upstreamFailure = failure
      if (response.headersSent) response.destroy()
      else answer(handled, denial)
    })
  }

  function answer({ message, response, head }: Handled, { status, headers, body }: Denial): void {
    // What nobody wants to read is not read to its end: a little is drained, then the connection closes.
    const unread = head === undefined || (head.hasBody && !(Number(head.contentLength) <= drainedBodyBytes))
    if (unread && !message.complete) response.shouldKeepAlive = false
    if (response.destroyed) return
    response.writeHead(status, [...headers])
    response.end(body)
  }

  function bug(error: unknown): Deny {
    failed(error)
    return deny('internal_error')
  }

  function report(handled: Handled, decision: Decision): void {
    const { message, response, peer, request, arrivedMs, decidedMs, upstreamFailure } = handled
    const status = response.headersSent ? response.statusCode : 0
    finished({ method: message.method ?? '', request, peer, arrivedMs, decidedMs, decision, status, upstreamFailure })
  }

  /** Answers what is no request, without node:http's help, and closes. */
  function refuseSocket(socket: Socket, refusal: Deny): void {
    // Of a CONNECT, node:http has taken its own listener off: a reset would end the process.
    socket.on('error', () => {})
    const arrivedMs = clock.monotonicMs()
    decided(refusal, 0)
    const { status, headers, body } = respond(refusal)
    const lines = headers.map((part, at) => (at % 2 === 0 ? `${part}: ` : `${part}\r\n`)).join('')
    socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${lines}Connection: close\r\n\r\n${body}`)
    // node:http has let go of it: a client that does not close would hold it for ever.
    setTimeout(() => socket.destroy(), lingerMs).unref()
    const peer = socket.remoteAddress ?? ''
    finished({
      method: '',
      request: undefined,
      peer,
      arrivedMs,
      decidedMs: arrivedMs,
      decision: refusal,
      status,
      upstreamFailure: undefined,
    })
  }

  function drain(): Promise<void> {
    draining = true
    return new Promise((resolve) => {
      server.close(() => resolve())
      server.closeIdleConnections()
    })
  }

  function close(): void {
    server.close()
    server.closeAllConnections()
  }
}
