// The way to the upstream on undici, thin. The permit is an Allow: there is no other way in.
import type { Dispatcher, Pool } from 'undici'
import type { Allow } from '../decision/decision.ts'
import type { Handled } from './front-door.ts'
import type { UpstreamFailure } from './gate.ts'
import type { Denial } from './respond.ts'
import { respondUpstream } from './respond.ts'

/** The service behind the gateway. */
export type Upstream = {
  /** Whether it has more to do than may wait. */
  readonly isFull: () => boolean
  /** Streams a request to it and its answer back; `fail` is called at most once, when there is no answer, or no end of it. */
  readonly forward: (handled: Handled, allow: Allow, fail: (failure: UpstreamFailure, denial: Denial) => void) => void
  readonly close: () => Promise<void>
}

// security.md §4.1.
const maxConnections = 256
const maxQueued = 1024
const poolOptions = {
  connections: maxConnections,
  pipelining: 1,
  allowH2: false,
  connect: { timeout: 2000 },
  headersTimeout: 30_000,
  bodyTimeout: 60_000,
  keepAliveTimeout: 4000,
  maxHeaderSize: 65_536,
} as const
const joinedBytes = 4096
// RFC 9110 §9.2.2.
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
const closedCodes: ReadonlySet<string> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])
const connectCodes =
  /^(?:UND_ERR_CONNECT_TIMEOUT|ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL)$/

/** @param origin Such as `http://127.0.0.1:3000`. */
export function createUpstream(origin: string): Upstream {
  let pool: Pool | undefined
  let loading: Promise<Pool> | undefined
  let busy = 0
  let connected = 0
  return {
    isFull: () => busy >= maxConnections + maxQueued,
    forward,
    close: async () => await (await loading)?.destroy(),
  }

  function forward(handled: Handled, allow: Allow, fail: (failure: UpstreamFailure, denial: Denial) => void): void {
    const { message, response, served, peer, request, head } = handled
    if (request === undefined || head === undefined) throw new TypeError('Cannot forward: the request was not read')
    const headers = served.headers.forward(message.rawHeaders, { peer, proto: 'http', request, allow })
    if (head.contentLength !== undefined && head.hasBody) headers.push('Content-Length', head.contentLength)
    const options: Dispatcher.DispatchOptions = {
      path: request.path + request.query,
      method: request.method,
      headers,
      body: head.hasBody ? message : null,
    }
    let connectedBefore = connected
    let answered = false
    let triesLeft = head.hasBody || !idempotent.has(request.method) ? 0 : 1
    let begun = false
    let controller: Dispatcher.DispatchController | undefined
    busy += 1
    response.on('close', () => {
      busy -= 1
      if (!response.writableFinished) controller?.abort(new Error('Cannot answer: the client has left'))
    })
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(started) {
        controller = started
        if (response.destroyed) started.abort(new Error('Cannot answer: the client has left'))
      },
      onResponseStarted() {
        answered = true
      },
      onResponseStart(started, status) {
        // 1xx is between the upstream and us.
        if (status < 200) return
        const lines = (started.rawHeaders as Buffer[]).map((part) => part.toString('latin1')) // a list: undici's HTTP/1.1
        response.writeHead(status, served.headers.backward(lines))
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
      onResponseError(_started, error) {
        if (response.destroyed) return
        const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
        // product.md §8: a kept connection may be closed by the other side just as it is used again. Where none was
        // opened since, it was a kept one.
        if (triesLeft > 0 && !answered && connected === connectedBefore && closedCodes.has(code)) {
          triesLeft -= 1
          return send()
        }
        const failure = failureOf(code)
        fail(failure, respondUpstream(failure))
      },
    }
    send()

    function send(): void {
      connectedBefore = connected
      if (pool !== undefined) pool.dispatch(options, handler)
      else
        load().then(
          (loaded) => loaded.dispatch(options, handler),
          (error) => response.destroy(error),
        )
    }
  }

  /** With the first request, not before: an idle sidecar does not hold what it may never need. */
  function load(): Promise<Pool> {
    loading ??= import('undici').then((undici) => {
      pool = new undici.Pool(origin, poolOptions)
      pool.on('connect', () => {
        connected += 1
      })
      return pool
    })
    return loading
  }
}

function failureOf(code: string): UpstreamFailure {
  if (connectCodes.test(code)) return 'upstream_connect'
  return code.endsWith('_TIMEOUT') ? 'upstream_timeout' : 'upstream_reset'
}
