// What stands between clients and the upstream: in the one process, or in each worker.
import type { Clock } from '../base/time.ts'
import { sleep } from '../base/time.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { Hall, HallDeps, HallOptions } from '../gates/front-door.ts'
import { createHall, openFrontDoor } from '../gates/front-door.ts'
import type { Serving } from '../gates/gate.ts'
import { serverLimits } from '../gates/options.ts'
import type { Streams } from '../gates/streams.ts'
import { createStreams } from '../gates/streams.ts'
import type { TlsMaterial } from '../gates/tls.ts'
import { createDeadlines } from '../http1/deadlines.ts'
import { listenAddress } from '../io/listen.ts'
import type { LineWriter, Log } from '../io/log.ts'
import type { AccessLogDeps } from './access-log.ts'
import { createAccessLog } from './access-log.ts'
import type { DescriptorShares } from './descriptors.ts'
import type { DropAlarm } from './drop-alarm.ts'
import type { GatewayMetrics } from './metrics.ts'
import { resolveName } from './upstream/addresses.ts'
import { createUpstream } from './upstream/upstream.ts'

/** What it needs from the process. */
export type DataPlaneDeps = AccessLogDeps & {
  readonly clock: Clock
  readonly readFile: (path: string) => Buffer
  readonly log: Log
  readonly serving: () => Serving
  readonly counted: Pick<GatewayMetrics, 'decided' | 'finished' | 'streamOpened' | 'streamEnded'>
  readonly writer: Pick<LineWriter, 'line'>
  readonly failed: (error: unknown) => void
  readonly dropped: DropAlarm['dropped']
  /** What the connections of clients may take (`connectionBytes()`). */
  readonly maxClientBytes: number
}

// For what is said to those that are still there at the end.
const goodbyeMs = 500

/** Whoever serves requests. */
export type DataPlane = Pick<Hall, 'inFlight' | 'connections' | 'dropped' | 'useTls' | 'announceClose' | 'close'> & {
  /** Takes no new connection; resolves when all is answered, or time is up, with how many were not. */
  readonly drain: (timeoutMs: number) => Promise<number>
}

/** Of a configuration, what it is made of; a change needs a restart. */
export type DataPlaneOptions = Pick<GatewayOptions, 'listen' | 'limits' | 'upstream'>

/** Opens it on an address, with a certificate where there is TLS. Rejects when that cannot be listened on. */
export async function openDataPlane(
  options: DataPlaneOptions,
  shares: DescriptorShares,
  material: TlsMaterial | undefined,
  deps: DataPlaneDeps,
): Promise<DataPlane & { readonly port: number }> {
  const fitted = fit(options, shares)
  const { doorDeps, streams, closeUpstream } = wire(fitted.upstream, deps)
  try {
    const door = await openFrontDoor(
      { address: listenAddress(options.listen.proxy), ...hallOptions(fitted, material, deps) },
      doorDeps,
    )
    return { ...planeOf(door, streams, closeUpstream), port: door.port }
  } catch (error) {
    closeUpstream()
    throw error
  }
}

/** Makes it for connections that another process accepts. */
export function createDataPlane(
  options: DataPlaneOptions,
  shares: DescriptorShares,
  material: TlsMaterial | undefined,
  deps: DataPlaneDeps,
): DataPlane & Pick<Hall, 'take'> {
  const fitted = fit(options, shares)
  const { doorDeps, streams, closeUpstream } = wire(fitted.upstream, deps)
  const hall = createHall(hallOptions(fitted, material, deps), doorDeps)
  return { ...planeOf(hall, streams, closeUpstream), take: hall.take }
}

/** No more connections than there are descriptors for. */
function fit(options: DataPlaneOptions, { clients, upstream }: DescriptorShares): DataPlaneOptions {
  return {
    ...options,
    limits: { ...options.limits, connections: clients },
    upstream: { ...options.upstream, max_connections: upstream },
  }
}

function hallOptions(
  { limits, listen }: DataPlaneOptions,
  material: TlsMaterial | undefined,
  { maxClientBytes }: DataPlaneDeps,
): HallOptions {
  const { tls } = listen
  if (tls !== undefined && material === undefined) throw new TypeError('Cannot speak TLS: there is no certificate')
  return {
    limits: serverLimits(limits),
    maxConnections: limits.connections,
    maxBytes: maxClientBytes,
    tls: tls && material && { material, clientCertificate: tls.client_certificate },
    proxyProtocol: listen.proxy_protocol,
    isUnix: 'path' in listenAddress(listen.proxy),
    http2: listen.http2,
  }
}

function wire(options: GatewayOptions['upstream'], deps: DataPlaneDeps) {
  const { clock, readFile, log, serving, counted, writer, failed, dropped } = deps
  const deadlines = createDeadlines(clock)
  const upstream = createUpstream(options, { clock, deadlines, readFile, resolve: resolveName, log })
  const accessLog = createAccessLog(deps, writer)
  const { streamOpened, streamEnded } = counted
  const streams = createStreams({ clock, deadlines, serving, streamOpened, streamEnded, failed })
  const doorDeps: HallDeps = {
    clock,
    deadlines,
    upstream,
    streams,
    failed,
    dropped,
    serving,
    decided: counted.decided,
    finished(exchange) {
      const nowMs = clock.monotonicMs()
      counted.finished(exchange, nowMs)
      accessLog(exchange, nowMs)
    },
  }
  return { doorDeps, streams, closeUpstream: () => upstream.close() }
}

function planeOf(
  hall: Omit<Hall, 'take'>,
  streams: Pick<Streams, 'shutDown' | 'abort'>,
  closeUpstream: () => unknown,
): DataPlane {
  return {
    inFlight: hall.inFlight,
    connections: hall.connections,
    dropped: hall.dropped,
    announceClose: hall.announceClose,
    useTls: hall.useTls,
    async drain(timeoutMs) {
      const drained = hall.drain()
      const late = await Promise.race([drained.then(() => false), sleep(timeoutMs).then(() => true)])
      if (!late) return 0
      const cutOff = hall.inFlight()
      // What they are told is out only when their connections are.
      await Promise.race([Promise.all([streams.shutDown(), drained]), sleep(goodbyeMs)])
      // Whose upstream alone keeps its side open: nothing that is closed later would have it counted and logged.
      streams.abort()
      return cutOff
    },
    close() {
      hall.close()
      closeUpstream()
    },
  }
}
