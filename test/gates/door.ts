// The front door and the way to the upstream on real sockets; behind it a gateway with public rules.
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo, Server, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import type { Decision } from '../../src/decision/decision.ts'
import { createHeaderFilter } from '../../src/decision/headers.ts'
import type { Lookups } from '../../src/decision/lookups.ts'
import { createPolicy } from '../../src/decision/policy.ts'
import { compileRules, rulesOptions } from '../../src/decision/rules.ts'
import type { FrontDoor, FrontDoorOptions, Hall } from '../../src/gates/front-door.ts'
import { createHall, openFrontDoor } from '../../src/gates/front-door.ts'
import type { Exchange } from '../../src/gates/gate.ts'
import type { FrontDoorDeps } from '../../src/gates/handler.ts'
import { limitsOptions, poolLimits, serverLimits, upstreamOptions } from '../../src/gates/options.ts'
import { createStreams } from '../../src/gates/streams.ts'
import type { Gateway } from '../../src/gateway.ts'
import { createGateway } from '../../src/gateway.ts'
import type { Deadlines } from '../../src/http1/deadlines.ts'
import { createDeadlines } from '../../src/http1/deadlines.ts'
import type { Upstream } from '../../src/http1/exchange.ts'
import type { ServerLimits } from '../../src/http1/limits.ts'
import { createUpstreamPool } from '../../src/http1/upstream-pool.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'

/** A door to an upstream, and what it told. */
export type Door = AsyncDisposable & {
  readonly door: FrontDoor
  readonly decisions: Decision[]
  readonly exchanges: Exchange[]
  readonly failures: unknown[]
  /** Sends bytes on a new connection and gives what came until it closed, or was silent for `quietMs`. */
  readonly send: (bytes: string | Buffer, quietMs?: number) => Promise<string>
}

const never = () => {
  throw new Error('Cannot look up: public rules need nothing')
}
const lookups: Lookups = {
  known: never,
  remember: never,
  forget: never,
  holdsKey: never,
  keysAreStale: never,
  key: never,
  introspect: never,
  revoked: never,
}
const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }

const limits = serverLimits(limitsOptions.parse({}))
const pool = poolLimits(upstreamOptions.parse({}))

/** What of a door is not as usual. */
type Unusual = Partial<Omit<FrontDoorOptions, 'limits'>> & {
  readonly limits?: Partial<ServerLimits>
  readonly upstream?: (deadlines: Deadlines) => Upstream
  /** Else those of the time there is. */
  readonly deadlines?: Deadlines
}

/** Opens a door; `gateway` decides instead of the public rules. */
export async function openDoor(
  upstreamPort: number,
  gateway?: Pick<Gateway, 'decide'>,
  { limits: changed, upstream: other, deadlines, ...options }: Unusual = {},
): Promise<Door> {
  const { deps, told, upstream } = wire(upstreamPort, gateway, other, deadlines)
  const address = { host: '127.0.0.1', port: 0 }
  const usual = {
    address,
    maxConnections: 10_000,
    maxBytes: Number.POSITIVE_INFINITY,
    limits: { ...limits, ...changed },
    http2: true,
  }
  const door = await openFrontDoor({ ...usual, ...options }, deps)
  return {
    door,
    ...told,
    send: (bytes, quietMs) => talk(door.port, bytes, quietMs),
    async [Symbol.asyncDispose]() {
      door.close()
      upstream.close()
    },
  }
}

/** Makes a hall without a door, as a worker has one. */
export function openHall(upstreamPort: number): AsyncDisposable & { readonly hall: Hall } {
  const { deps, upstream } = wire(upstreamPort, undefined, undefined)
  const hall = createHall({ maxConnections: 10_000, maxBytes: Number.POSITIVE_INFINITY, limits, http2: true }, deps)
  return {
    hall,
    async [Symbol.asyncDispose]() {
      hall.close()
      upstream.close()
    },
  }
}

function wire(
  upstreamPort: number,
  gateway: Pick<Gateway, 'decide'> | undefined,
  other: Unusual['upstream'],
  deadlines = createDeadlines(clock),
) {
  const rules = rulesOptions.parse([{ match: { path: '/**' }, public: true, insecure: true }])
  const served = {
    gateway: { ...createGateway(createPolicy(compileRules(rules), []), lookups, clock), ...gateway },
    headers: createHeaderFilter({ identityHeaders: new Map(), keepHeaders: [] }, { isTrustedProxy: () => false }),
    hosts: new Set<string>(),
    requireHttps: false,
    streamGraceMs: 0,
    cors: undefined,
  }
  const decisions: Decision[] = []
  const exchanges: Exchange[] = []
  const failures: unknown[] = []
  const endpoint = {
    name: 'upstream',
    open: createSocketOpener({ host: '127.0.0.1', port: upstreamPort }, undefined, 'http1'),
  }
  const list = [endpoint]
  const upstream = other?.(deadlines) ?? createUpstreamPool({ list: () => list }, pool, deadlines)
  const deps: FrontDoorDeps = {
    clock,
    deadlines,
    upstream,
    streams: createStreams({
      clock,
      deadlines,
      serving: () => served,
      streamOpened() {},
      streamEnded() {},
      failed() {},
    }),
    serving: () => served,
    decided: (decision) => void decisions.push(decision),
    finished: (exchange) => void exchanges.push(exchange),
    failed: (error) => void failures.push(error),
  }
  return { deps, upstream, told: { decisions, exchanges, failures } }
}

/**
 * Sends bytes and collects the answer as latin1, until nothing has come for `quietMs`. These pass in ten parts, each a
 * turn of the loop at least: where the machine has much else to do, what is on its way would come too late otherwise.
 */
export async function talk(port: number, bytes: string | Buffer, quietMs = 300): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let text = ''
  const done = Promise.withResolvers<void>()
  let parts = 10
  let quiet: NodeJS.Timeout | undefined
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
    parts = 10
    quiet ??= setInterval(() => {
      parts -= 1
      if (parts === 0) done.resolve()
    }, quietMs / 10)
  })
  socket.on('close', () => done.resolve())
  socket.on('error', () => done.resolve())
  socket.write(bytes)
  await done.promise
  clearInterval(quiet)
  socket.destroy()
  return text
}

/** An upstream on node:http; what it is asked is handed to `handle`. */
export async function openUpstream(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ port: number } & AsyncDisposable> {
  const server = createHttpServer({ maxHeaderSize: 65_536 }, handle)
  return await listening(server, () => server.closeAllConnections())
}

/** An upstream that speaks bytes. */
export async function openRawUpstream(handle: (socket: Socket) => void): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    handle(socket)
  })
  return await listening(server, () => {
    for (const socket of sockets) socket.destroy()
  })
}

async function listening(server: Server, cut: () => void): Promise<{ port: number } & AsyncDisposable> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // listening on a port
  return {
    port,
    async [Symbol.asyncDispose]() {
      server.close()
      cut()
    },
  }
}
