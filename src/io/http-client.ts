// Everything outbound that is not proxied traffic: key sets, discovery, introspection, blacklist.
import type { Agent, AgentOptions, ClientRequest, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { SecureContext } from 'node:tls'
import { codeOf } from '../base/errors.ts'
import { lookUpName } from './name-lookup.ts'

/** One request to make. Headers and body may hold secrets; no error message repeats them. */
export type HttpCall = {
  readonly method: 'GET' | 'POST'
  /** Absolute, http or https, without user and password. */
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** Ends the call once it is aborted: then it fails as `reset`. */
  readonly signal?: AbortSignal
}

/** What one call may cost. */
export type HttpCallLimits = {
  /** Longest body taken; one byte more and the call fails as `too_large`. */
  readonly maxBodyBytes: number
  /**
   * Milliseconds from the call to the last byte of the body, the retry included; up to 250 more where this process stood
   * still meanwhile.
   */
  readonly deadlineMs: number
}

/** An answer, read whole. Any status is an answer; a redirect is not followed. */
export type HttpReply = {
  /** Who was asked, as it may be told: the URL without its query, and the proxy where the answer may be its own. */
  readonly from: string
  readonly status: number
  /** The value of a header, several lines joined by a comma (RFC 9110 §5.2). */
  readonly header: (name: string) => string | undefined
  readonly body: Buffer
}

/** How a server is reached. */
export type HttpClientOptions = { readonly ca?: string | undefined; readonly proxy?: string | undefined }

/** Makes calls until closed. */
export type HttpClient = {
  /**
   * Makes one call. It is repeated once, on a new connection, when a kept connection closed within a second and before
   * a byte of the answer (RFC 9112 §9.3.1), or when the connection was refused.
   *
   * @throws (rejects) HttpCallFailed, and nothing else.
   */
  readonly send: (call: HttpCall, limits: HttpCallLimits) => Promise<HttpReply>
  /** Ends every connection; calls under way, and later ones, fail. */
  readonly close: () => void
}

/**
 * Why there is no answer: no connection (name, refusal, certificate), the deadline, a connection lost on the way, a
 * head or body over its cap, an encoded body, or something that is not HTTP.
 */
export type HttpCallFailure = 'connect' | 'timeout' | 'reset' | 'too_large' | 'encoded' | 'protocol'

/** A call without a usable answer. The message names method, URL without query, proxy and error code; nothing else. */
export class HttpCallFailed extends Error {
  override readonly name = 'HttpCallFailed'
  readonly code = 'ERR_HTTP_CALL_FAILED'
  readonly kind: HttpCallFailure
  constructor(kind: HttpCallFailure, message: string, options?: ErrorOptions) {
    super(message, options)
    this.kind = kind
  }
}

type Outcome =
  | { readonly kind: 'reply'; readonly reply: HttpReply }
  | { readonly kind: 'failed'; readonly error: HttpCallFailed; readonly again: boolean }

type Transport = {
  readonly request: typeof import('node:http').request
  readonly pooled: Agent
  /** Never reuses: the one retry must not meet the next stale connection of the pool. */
  readonly fresh: Agent
  /** Connections that have carried a request: Node says so of a request only where it did not wait for one. */
  readonly used: WeakSet<Socket>
}

/** A call under way, and how to end it from outside. */
type Flight = { readonly from: string; readonly what: string; fail: (kind: HttpCallFailure, why: string) => void }

// Far above what the queues of introspection and of look-ups let through together (64 each, twice that at a reload): a
// call that waited for a connection would do so within its deadline, behind calls of another kind that hang.
const maxSockets = 512
// security.md §4.1: the whole head of a message.
const maxHeadBytes = 16_384
// 4 s: below the 5 s after which many servers close an idle connection under our hands.
const idleMs = 4000
// 1 s: Node's own for the connections it keeps.
const probeMs = 1000
const firstBodyBytes = 4096
// 250 ms: long enough to open a connection and be answered, if the server is well.
const lastPartMs = 250
// 1 s: a kept connection that was closed already tells us within a round trip; one that lived had the request read.
const staleMs = 1000
const lostOnReuse: readonly string[] = ['ECONNRESET', 'EPIPE']

/**
 * Makes a client for calls with a byte cap and one overall deadline. Certificates are always verified.
 *
 * @param options `ca`: certificates (PEM, which whoever read them has judged) trusted beside the default ones, also at an https proxy. `proxy`: an HTTP
 *   proxy's URL; https goes through its CONNECT, verified as without it.
 */
export function createHttpClient(options: HttpClientOptions): HttpClient {
  const through = options.proxy === undefined ? '' : ` through the proxy ${URL.parse(options.proxy)?.host}`
  const transports = new Map<string, Transport>()
  const flights = new Set<Flight>()
  let closed = false
  return { send, close }

  async function send(call: HttpCall, limits: HttpCallLimits): Promise<HttpReply> {
    const target = URL.parse(call.url)
    if (target === null || !['http:', 'https:'].includes(target.protocol) || `${target.username}${target.password}`) {
      throw new HttpCallFailed(
        'protocol',
        'Cannot send a request: the URL is not one, wanted http or https without user',
      )
    }
    const url = `${target.origin}${target.pathname}`
    // In what comes by TLS the proxy has no part.
    const from = target.protocol === 'https:' ? url : url + through
    const flight: Flight = { from, what: `Cannot ${call.method} ${url}${through}`, fail: () => {} }
    if (closed) throw new HttpCallFailed('connect', `${flight.what}: the client is closed`)
    const { signal } = call
    if (signal?.aborted) throw new HttpCallFailed('reset', `${flight.what}: it was called off`)
    const callOff = () => flight.fail('reset', 'it was called off')
    signal?.addEventListener('abort', callOff)
    const deadline = startDeadline(limits.deadlineMs, () =>
      flight.fail('timeout', `no whole answer within ${limits.deadlineMs} ms`),
    )
    flights.add(flight)
    try {
      const transport = transportOf(target.protocol)
      let outcome = await attempt(transport, transport.pooled, target, call, limits, flight)
      if (outcome.kind === 'failed' && outcome.again && !closed) {
        outcome = await attempt(transport, transport.fresh, target, call, limits, flight)
      }
      if (outcome.kind === 'failed') throw outcome.error
      return outcome.reply
    } catch (error) {
      if (error instanceof HttpCallFailed) throw error
      const why = `${codeOf(error)}, wanted a request that can be written`
      throw new HttpCallFailed('protocol', `${flight.what}: ${why}`, { cause: error })
    } finally {
      deadline.clear()
      signal?.removeEventListener('abort', callOff)
      flights.delete(flight)
    }
  }

  function close(): void {
    closed = true
    // First, since a request waiting for a connection would be given a new one when the others end.
    for (const flight of flights) flight.fail('reset', 'the client was closed')
    for (const { pooled, fresh } of transports.values()) {
      pooled.destroy()
      fresh.destroy()
    }
  }

  function transportOf(protocol: string): Transport {
    const held = transports.get(protocol)
    if (held !== undefined) return held
    const made = protocol === 'https:' ? createTls(options) : createPlain(options)
    transports.set(protocol, made)
    return made
  }
}

/**
 * Tells when a time has passed, to which a standstill of this process (SIGSTOP, a paused machine) does not count whole:
 * its timers are asked first when it goes on, and the answers that came meanwhile have not been read. So the last part
 * begins in a turn of our own, and its end leaves one more turn to the sockets.
 */
function startDeadline(ms: number, passed: () => void): { readonly clear: () => void } {
  const lastMs = Math.min(lastPartMs, ms / 4)
  let isCleared = false
  let timer = setTimeout(() => {
    timer = setTimeout(() => setImmediate(() => isCleared || passed()), lastMs)
  }, ms - lastMs)
  return {
    clear() {
      isCleared = true
      clearTimeout(timer)
    },
  }
}

function createPlain(options: HttpClientOptions): Transport {
  // Not `import 'node:http'`: the ESM import reads every export, lazy getters too, which loads undici (README, Decision 5).
  const { Agent, request } = process.getBuiltinModule('node:http')
  const make = (more: AgentOptions) => new Agent({ ...via(options.proxy), lookup: lookUpName, maxSockets, ...more })
  const isTlsProxy = options.proxy?.startsWith('https:') === true
  return transportWith(request, make, isTlsProxy ? trustOf(options) : undefined)
}

function createTls(options: HttpClientOptions): Transport {
  const { Agent, request } = process.getBuiltinModule('node:https')
  const trust = trustOf(options)
  const fixed = { ...trust, ...via(options.proxy), lookup: lookUpName, maxSockets }
  return transportWith(request, (more) => new Agent({ ...fixed, ...more }), trust)
}

function transportWith(
  request: Transport['request'],
  make: (more: AgentOptions) => Agent,
  trust: Trust | undefined,
): Transport {
  const made = {
    request,
    pooled: make({ keepAlive: true, timeout: idleMs }),
    fresh: make({}),
    used: new WeakSet<Socket>(),
  }
  for (const agent of [made.pooled, made.fresh]) if (trust !== undefined) verifyProxy(agent, trust)
  return made
}

type Trust = { readonly rejectUnauthorized: true; readonly secureContext?: SecureContext }

function trustOf({ ca }: HttpClientOptions): Trust {
  if (ca === undefined) return { rejectUnauthorized: true }
  const { createSecureContext, getCACertificates } = process.getBuiltinModule('node:tls')
  // Made once: given as `ca`, all the roots would be parsed anew for every connection.
  return { rejectUnauthorized: true, secureContext: createSecureContext({ ca: [...getCACertificates('default'), ca] }) }
}

/**
 * Has an agent verify its https proxy as it does the server. Node has no option for that; what it connects with stands
 * under a symbol of its own. Where that is no more, a proxy of a private CA is refused.
 */
function verifyProxy(agent: Agent, trust: Trust): void {
  for (const symbol of Object.getOwnPropertySymbols(agent)) {
    const held: unknown = Reflect.get(agent, symbol)
    if (typeof held === 'object' && held !== null && 'proxyConnectionOptions' in held)
      Object.assign(held, { proxyConnectionOptions: Object.assign({}, held.proxyConnectionOptions, trust) })
  }
}

/** Node's own way through a proxy; no other variable of the environment is looked at. */
function via(proxy: string | undefined): { proxyEnv?: { HTTP_PROXY: string; HTTPS_PROXY: string } } {
  return proxy === undefined ? {} : { proxyEnv: { HTTP_PROXY: proxy, HTTPS_PROXY: proxy } }
}

function attempt(
  transport: Transport,
  agent: Agent,
  target: URL,
  call: HttpCall,
  limits: HttpCallLimits,
  flight: Flight,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let socket: Socket | undefined
    let readBefore = 0
    let stale: ReturnType<typeof startDeadline> | undefined
    let mayBeStale = false
    let connected = false
    let ended = false
    const request: ClientRequest = transport.request({
      agent,
      method: call.method,
      protocol: target.protocol,
      hostname: target.hostname.replace(/^\[|\]$/g, ''),
      port: target.port,
      path: `${target.pathname}${target.search}`,
      headers: {
        ...call.headers,
        'accept-encoding': 'identity',
        ...(call.method === 'POST' ? { 'content-length': String(Buffer.byteLength(call.body ?? '')) } : {}),
      },
      maxHeaderSize: maxHeadBytes,
    })
    // The bytes of a head are bounded above; a bound on their number would drop the rest without a word.
    request.maxHeadersCount = 0
    flight.fail = (kind, why) => fail(kind, why)
    request.on('socket', (given) => {
      socket = given
      readBefore = given.bytesRead
      // Not "is connected": through a tunnel a new one is, too.
      mayBeStale = transport.used.has(given)
      if (mayBeStale) stale = startDeadline(staleMs, () => (mayBeStale = false))
      transport.used.add(given)
      // A poll may be held for long: whether the peer is still there is not to be learnt by its deadline.
      // Off first: a new one within a tunnel is said to have it, by the option of its agent, and has not.
      given.setKeepAlive(false).setKeepAlive(true, probeMs)
      connected = !given.connecting
      if (!connected) given.once('encrypted' in given ? 'secureConnect' : 'connect', () => (connected = true))
    })
    request.on('error', (cause: Error & { code?: string; rawPacket?: Buffer }) => {
      // A parser's error carries the bytes it failed on: they are the issuer's, and not for a log.
      delete cause.rawPacket
      const code = codeOf(cause)
      const unanswered = mayBeStale && lostOnReuse.includes(code) && socket?.bytesRead === readBefore
      fail(
        kindOf(code, connected),
        whyOf(code, cause),
        { cause },
        unanswered || (!connected && code === 'ECONNREFUSED'),
      )
    })
    request.on('upgrade', (_, upgraded) => {
      upgraded.destroy() // it is no longer the request's
      fail('protocol', 'the answer switches protocols, wanted HTTP')
    })
    request.on('response', (response) => {
      const refusal = refusalOf(response, limits.maxBodyBytes)
      if (refusal !== undefined) return fail(...refusal)
      const body = createBody(limits.maxBodyBytes)
      response.on('data', (chunk: Buffer) => {
        if (!body.add(chunk)) fail('too_large', `the body is over ${limits.maxBodyBytes} bytes`)
      })
      response.on('error', (cause) => fail('reset', codeOf(cause), { cause }))
      response.on('end', () => end({ kind: 'reply', reply: replyOf(response, flight.from, body.bytes()) }))
    })
    request.on('close', () => fail('reset', 'the connection ended before the answer did'))
    request.end(call.method === 'POST' ? call.body : undefined)

    function fail(kind: HttpCallFailure, why: string, options?: ErrorOptions, again = false): void {
      end({ kind: 'failed', error: new HttpCallFailed(kind, `${flight.what}: ${why}`, options), again })
    }

    function end(outcome: Outcome): void {
      if (ended) return
      ended = true
      stale?.clear()
      if (outcome.kind === 'failed') request.destroy()
      resolve(outcome)
    }
  })
}

/** Why an answer is refused on sight of its head. */
function refusalOf(response: IncomingMessage, maxBytes: number): [HttpCallFailure, string] | undefined {
  const encoding = (response.headers['content-encoding'] ?? '').trim().toLowerCase()
  const coding = (response.headers['transfer-encoding'] ?? '').trim().toLowerCase()
  // A few bytes can stand for gigabytes: the cap would have to hold for what they unpack to.
  if (!['', 'identity'].includes(encoding)) return ['encoded', 'the answer has a content-encoding, wanted none']
  if (!['', 'chunked'].includes(coding))
    return ['encoded', 'the answer has a transfer-encoding, wanted chunked or none']
  if (Number(response.headers['content-length'] ?? 0) <= maxBytes) return undefined
  return ['too_large', `the body is over ${maxBytes} bytes`]
}

/** Gathers into one buffer: a body sent byte by byte as chunks must not cost an object for each. */
function createBody(maxBytes: number): { add: (chunk: Buffer) => boolean; bytes: () => Buffer } {
  let held = Buffer.allocUnsafe(Math.min(firstBodyBytes, maxBytes))
  let length = 0
  return {
    add(chunk) {
      const wanted = length + chunk.length
      if (wanted > maxBytes) return false
      if (wanted > held.length) {
        const larger = Buffer.allocUnsafe(Math.min(maxBytes, Math.max(wanted, held.length * 2)))
        held.copy(larger, 0, 0, length)
        held = larger
      }
      chunk.copy(held, length)
      length = wanted
      return true
    },
    bytes: () => held.subarray(0, length),
  }
}

function replyOf(response: IncomingMessage, from: string, body: Buffer): HttpReply {
  return {
    from,
    status: response.statusCode ?? 0,
    header(name) {
      // An own property: a header may be called `__proto__`.
      const value = Object.hasOwn(response.headers, name.toLowerCase())
        ? response.headers[name.toLowerCase()]
        : undefined
      return typeof value === 'object' ? value.join(', ') : value
    },
    body,
  }
}

/** The code; of a tunnel that the proxy does not open, its status. */
function whyOf(code: string, cause: Error & { readonly statusCode?: unknown }): string {
  const isRefused = code === 'ERR_PROXY_TUNNEL' && Number.isInteger(cause.statusCode)
  return isRefused ? `the proxy answers ${cause.statusCode}, wanted 200` : code
}

function kindOf(code: string, connected: boolean): HttpCallFailure {
  if (code === 'HPE_HEADER_OVERFLOW') return 'too_large'
  if (code.startsWith('HPE_')) return 'protocol'
  return connected ? 'reset' : 'connect'
}
