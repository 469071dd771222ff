// What stands between clients and the upstream: in the one process, or in each worker.
import type { Clock } from '../base/time.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { FrontDoorDeps, FrontDoorOptions, Hall, HallOptions } from '../gates/front-door.ts'
import { createHall, openFrontDoor } from '../gates/front-door.ts'
import type { Serving } from '../gates/gate.ts'
import { createDeadlines } from '../http1/deadlines.ts'
import type { LineWriter } from '../io/log.ts'
import type { AccessLogDeps } from './access-log.ts'
import { createAccessLog } from './access-log.ts'
import type { GatewayMetrics } from './metrics.ts'
import { createUpstream } from './upstream.ts'

/** What it needs from the process. */
export type DataPlaneDeps = AccessLogDeps & {
  readonly clock: Clock
  readonly serving: () => Serving
  readonly counted: Pick<GatewayMetrics, 'decided' | 'finished'>
  readonly writer: Pick<LineWriter, 'line'>
  readonly failed: (error: unknown) => void
}

/** Whoever serves requests. */
export type DataPlane = {
  readonly inFlight: () => number
  readonly connections: () => number
  /** Takes no new connection; resolves when all is answered, or time is up, with how many were not. */
  readonly drain: (timeoutMs: number) => Promise<number>
  readonly close: () => void
}

// security.md §4.1.
const doorLimits: HallOptions = {
  maxConnections: 10_000,
  limits: {
    request: { target: 8192, fields: { bytes: 16_384, count: 100, one: 12_288 } },
    headMs: 10_000,
    requestMs: 60_000,
    minBodyRate: 1024,
    idleMs: 65_000,
    writeMs: 60_000,
    requestsPerConnection: 10_000,
  },
}

/** Opens it on an address. Rejects when that cannot be listened on. */
export async function openDataPlane(
  { listen, upstream }: Pick<GatewayOptions, 'listen' | 'upstream'>,
  deps: DataPlaneDeps,
): Promise<DataPlane & { readonly port: number }> {
  const { doorDeps, closeUpstream } = wire(upstream, deps)
  try {
    const options: FrontDoorOptions = { ...splitAddress(listen.proxy), ...doorLimits }
    const door = await openFrontDoor(options, doorDeps)
    return { ...planeOf(door, closeUpstream), port: door.port }
  } catch (error) {
    closeUpstream()
    throw error
  }
}

/** Makes it for connections that another process accepts. */
export function createDataPlane(
  { upstream }: Pick<GatewayOptions, 'upstream'>,
  deps: DataPlaneDeps,
): DataPlane & Pick<Hall, 'take'> {
  const { doorDeps, closeUpstream } = wire(upstream, deps)
  const hall = createHall(doorLimits, doorDeps)
  return { ...planeOf(hall, closeUpstream), take: hall.take }
}

function wire(options: GatewayOptions['upstream'], deps: DataPlaneDeps) {
  const { clock, serving, counted, writer, failed } = deps
  const deadlines = createDeadlines(clock)
  const upstream = createUpstream(options, deadlines)
  const accessLog = createAccessLog(deps, writer)
  const doorDeps: FrontDoorDeps = {
    clock,
    deadlines,
    upstream,
    failed,
    serving,
    decided: counted.decided,
    finished(exchange) {
      const nowMs = clock.monotonicMs()
      counted.finished(exchange, nowMs)
      accessLog(exchange, nowMs)
    },
  }
  return { doorDeps, closeUpstream: () => upstream.close() }
}

function planeOf(hall: Omit<Hall, 'take'>, closeUpstream: () => unknown): DataPlane {
  return {
    inFlight: hall.inFlight,
    connections: hall.connections,
    async drain(timeoutMs) {
      const late = await Promise.race([hall.drain().then(() => false), sleep(timeoutMs).then(() => true)])
      return late ? hall.inFlight() : 0
    },
    close() {
      hall.close()
      closeUpstream()
    },
  }
}

/** Host and port of an address such as `[::1]:8080`. */
export function splitAddress(text: string): { readonly host: string; readonly port: number } {
  const colon = text.lastIndexOf(':')
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) }
}

/** The time of a drain: the listeners keep the process alive meanwhile, and what is left of it must not. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms).unref())
}
