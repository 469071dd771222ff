// What stands between clients and the upstream: in the one process, or in each worker.
import type { Clock } from '../base/time.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { FrontDoorDeps, Hall, HallOptions } from '../gates/front-door.ts'
import { createHall, openFrontDoor } from '../gates/front-door.ts'
import type { Serving } from '../gates/gate.ts'
import { serverLimits } from '../gates/options.ts'
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
  /** Connections that were one too many, so far. */
  readonly dropped: () => number
  /** Takes no new connection; resolves when all is answered, or time is up, with how many were not. */
  readonly drain: (timeoutMs: number) => Promise<number>
  readonly close: () => void
}

/** Opens it on an address. Rejects when that cannot be listened on. */
export async function openDataPlane(
  options: Pick<GatewayOptions, 'listen' | 'limits' | 'upstream'>,
  deps: DataPlaneDeps,
): Promise<DataPlane & { readonly port: number }> {
  const { doorDeps, closeUpstream } = wire(options.upstream, deps)
  try {
    const door = await openFrontDoor({ ...splitAddress(options.listen.proxy), ...hallOptions(options) }, doorDeps)
    return { ...planeOf(door, closeUpstream), port: door.port }
  } catch (error) {
    closeUpstream()
    throw error
  }
}

/** Makes it for connections that another process accepts. */
export function createDataPlane(
  options: Pick<GatewayOptions, 'limits' | 'upstream'>,
  deps: DataPlaneDeps,
): DataPlane & Pick<Hall, 'take'> {
  const { doorDeps, closeUpstream } = wire(options.upstream, deps)
  const hall = createHall(hallOptions(options), doorDeps)
  return { ...planeOf(hall, closeUpstream), take: hall.take }
}

function hallOptions({ limits }: Pick<GatewayOptions, 'limits'>): HallOptions {
  return { limits: serverLimits(limits), maxConnections: limits.connections }
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
    dropped: hall.dropped,
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
