// The gateway as it was on node:http and undici: the same decision and the same caches between two HTTP libraries. Prints its port.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Allow, Decision } from '../../../src/decision/decision.ts'
import { deny, denyReasons } from '../../../src/decision/decision.ts'
import type { AccessRequest } from '../../../src/decision/request.ts'
import { readAccessRequest } from '../../../src/decision/request.ts'
import type { NodeSettings } from '../contestants/node-program.ts'
import type { Head } from './head.ts'
import { readHead } from './head.ts'
import { createJudge } from './policy.ts'
import { createRecord } from './record.ts'
import type { Controller } from './undici.ts'
import { createPool } from './undici.ts'

/** One request on its way; what is known of it grows. */
type Handled = {
  readonly message: IncomingMessage
  readonly response: ServerResponse
  readonly peer: string
  readonly arrivedMs: number
  head: Head | undefined
  request: AccessRequest | undefined
  decision: Decision | undefined
  decidedMs: number
}

const limits = {
  maxHeaderSize: 32_768,
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 2000,
  requireHostHeader: false,
} as const
const joinedBytes = 4096

const settings = JSON.parse(process.argv[2] ?? '') as NodeSettings // the bench's own words
const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
const judge = await createJudge(settings, clock)
const pool = await createPool(settings.upstream)
const record = createRecord(clock)
const server = createServer(limits, receive)
server.maxHeadersCount = 0
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // listening on a port
  process.stdout.write(`${port}\n`)
})

function receive(message: IncomingMessage, response: ServerResponse): void {
  const handled: Handled = {
    message,
    response,
    peer: message.socket.remoteAddress ?? '',
    arrivedMs: clock.monotonicMs(),
    head: undefined,
    request: undefined,
    decision: undefined,
    decidedMs: 0,
  }
  response.on('close', () => {
    const { request, decision, peer, arrivedMs, decidedMs } = handled
    if (decision !== undefined)
      record({ request, decision, peer, arrivedMs, decidedMs, status: response.headersSent ? response.statusCode : 0 })
  })
  const decision = decide(handled)
  if (decision instanceof Promise)
    decision.then(
      (made) => act(handled, made),
      (error: Error) => response.destroy(error),
    )
  else act(handled, decision)
}

function decide(handled: Handled): Decision | Promise<Decision> {
  const { message, arrivedMs } = handled
  const head = readHead(message.rawHeaders, message.httpVersion)
  if (head === undefined) return deny('request_malformed')
  handled.head = head
  const { method = '', url: target = '' } = message
  const { host, authorization } = head
  const request = readAccessRequest({ method, target, host, authorization, arrivedMs }, judge)
  if (request.kind === 'deny') return request
  handled.request = request
  return judge.gateway.decide(request)
}

function act(handled: Handled, decision: Decision): void {
  handled.decision = decision
  handled.decidedMs = clock.monotonicMs()
  const { response, request, head } = handled
  if (response.destroyed) return
  if (decision.kind === 'allow' && request !== undefined && head !== undefined)
    return void forward(handled, decision, request, head)
  response.writeHead(decision.kind === 'deny' ? denyReasons[decision.reason].status : 500)
  response.end(decision.reason)
}

function forward({ message, response, peer }: Handled, allow: Allow, request: AccessRequest, head: Head): void {
  const { own, lines, identity } = judge.headers.forward(message.rawHeaders, { peer, proto: 'http', request, allow })
  const headers = [...own.lines, ...lines, ...identity.lines]
  if (head.contentLength !== undefined && head.hasBody) headers.push('Content-Length', head.contentLength)
  let begun = false
  let controller: Controller | undefined
  response.on('close', () => {
    if (!response.writableFinished) controller?.abort(new Error('Cannot answer: the client has left'))
  })
  pool.dispatch(
    {
      path: request.path + request.query,
      method: request.method,
      headers,
      body: head.hasBody ? message : null,
    },
    {
      onRequestStart(started) {
        controller = started
      },
      onResponseStart(started, status) {
        if (status < 200) return
        response.writeHead(status, [
          ...judge.headers.backward(started.rawHeaders.map((part) => part.toString('latin1'))),
        ])
      },
      onResponseData(started, chunk) {
        // As text a small part joins the head in one write; as bytes it would be a second piece of a gathered one.
        const joins = !begun && chunk.length <= joinedBytes
        begun = true
        if (joins ? response.write(chunk.toString('latin1'), 'latin1') : response.write(chunk)) return
        started.pause()
        response.once('drain', () => started.resume())
      },
      onResponseEnd: () => void response.end(),
      onResponseError() {
        if (response.headersSent) response.destroy()
        else response.writeHead(502).end()
      },
    },
  )
}
