// A gateway under hostile clients, the others who only want their answers, and what all of that costs it.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import type { Lane } from '../support/raw-lane.ts'
import { openLane } from '../support/raw-lane.ts'

export const attacks = ['slow heads', 'slow bodies', 'slow readers', 'aborts', 'idle'] as const
export type Attack = (typeof attacks)[number]

/** What the gateway's process has; `heldMib` is of its heap and buffers what somebody holds. */
export type Cost = {
  readonly residentMib: number
  readonly heldMib: number
  readonly descriptors: number
  readonly connections: number
}

/**
 * What the others got: how many answers of which status, and how long they waited (ms). `typicalP99` is the median of
 * every second's: what else the machine does stalls some of them.
 */
export type Others = {
  readonly statuses: Readonly<Record<string, number>>
  readonly p50: number
  readonly p99: number
  readonly typicalP99: number
}

export type HostileScene = AsyncDisposable & {
  readonly gateway: GatewayProcess
  readonly cost: () => Promise<Cost>
  /** Others who ask so often for so long, at a constant rate, on up to a hundred connections. */
  readonly others: (perSecond: number, forMs: number) => Promise<Others>
  /** So many clients of a kind, until disposed of; `done` is resolved where they come to an end by themselves. */
  readonly attack: (kind: Attack, count: number) => Promise<AsyncDisposable & { readonly done: Promise<void> }>
}

const support = (file: string) => pathToFileURL(join(import.meta.dirname, '../support', file)).href
/**
 * For clients and services, who stand for other machines: they must not take the gateway's processor by collecting or
 * compiling.
 */
export const politeFlags = [
  '--min-semi-space-size=64',
  '--max-semi-space-size=64',
  '--initial-old-space-size=512',
  `--import=${support('yield-helpers.ts')}`,
]
const program = join(import.meta.dirname, 'hostile-attacker.ts')
const collects = `--expose-gc --import ${support('collect-on-signal.ts')}`

/** Starts the gateway, with these members of its sections, and the service behind it, which listens on `port`. */
export async function openHostileScene({
  limits = {},
  upstream = {},
  startService = async () => {
    const service = await run('service', 0, 0)
    return { ...service, port: Number(service.said) }
  },
}: {
  readonly limits?: Readonly<Record<string, unknown>>
  readonly upstream?: Readonly<Record<string, unknown>>
  readonly startService?: () => Promise<AsyncDisposable & { readonly port: number }>
} = {}): Promise<HostileScene> {
  await using stack = new AsyncDisposableStack()
  const service = stack.use(await startService())
  const gateway = stack.use(
    await startGatewayProcess(
      {
        // Slow bodies hold a connection each: the service's, not the others'.
        upstream: { url: `http://127.0.0.1:${service.port}`, max_connections: 4096, ...upstream },
        limits,
        rules: [
          { id: 'open', match: { path: '/open/**' }, public: true },
          { id: 'closed', match: { path: '/closed' } },
        ],
      },
      { NODE_OPTIONS: collects },
    ),
  )
  const held = stack.move()
  return {
    gateway,
    async cost() {
      const status = readFileSync(`/proc/${gateway.pid}/status`, 'utf8')
      gateway.signal('SIGUSR2')
      await wait(50)
      const metrics = await gateway.metrics()
      const of = (name: string) => metrics.get(name) ?? Number.NaN
      return {
        residentMib: tenths(Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024),
        heldMib: tenths((of('nodejs_heap_size_used_bytes') + of('nodejs_external_memory_bytes')) / 1_048_576),
        descriptors: readdirSync(`/proc/${gateway.pid}/fd`).length,
        connections: of('postern_connections{listener="proxy"}'),
      }
    },
    async others(perSecond, forMs) {
      const lanes = Array.from({ length: 100 }, () => openLane(gateway.proxyPort))
      const others = await askConstantly(lanes, perSecond, forMs)
      for (const lane of lanes) lane[Symbol.dispose]()
      return others
    },
    attack: (kind, count) => run(kind, gateway.proxyPort, count),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

function tenths(number: number): number {
  return Math.round(number * 10) / 10
}

/** Starts a program of `hostile-attacker.ts`; resolves with the first line it says. */
async function run(
  kind: string,
  port: number,
  count: number,
): Promise<AsyncDisposable & { readonly said: string; readonly done: Promise<void> }> {
  const child = spawn(process.execPath, [...politeFlags, program, kind, String(port), String(count)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface(child.stdout)
  const done = Promise.withResolvers<void>()
  const [said] = (await once(lines, 'line')) as [string] // what an interface tells
  lines.on('line', (line) => void (line === 'done' && done.resolve()))
  return {
    said,
    done: done.promise,
    async [Symbol.asyncDispose]() {
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** Sends at a constant rate whatever becomes of it: waiting counts from when a request was due. */
async function askConstantly(lanes: readonly Lane[], perSecond: number, forMs: number): Promise<Others> {
  const waited: { dueMs: number; ms: number }[] = []
  const statuses: Record<string, number> = {}
  const pending: Promise<void>[] = []
  const backlog: number[] = []
  const free = [...lanes]
  const beginMs = performance.now()
  for (let sent = 0; ; ) {
    const nowMs = performance.now()
    if (nowMs - beginMs >= forMs) break
    for (; sent < ((nowMs - beginMs) / 1000) * perSecond; sent += 1) backlog.push(beginMs + (sent * 1000) / perSecond)
    serveBacklog()
    await wait(1)
  }
  while (backlog.length > 0 || pending.length > 0) {
    await Promise.all(pending.splice(0))
    serveBacklog()
  }
  const seconds = Map.groupBy(waited, ({ dueMs }) => Math.floor((dueMs - beginMs) / 1000))
  const msOf = (some: readonly { readonly ms: number }[]) => some.map(({ ms }) => ms)
  const p99s = [...seconds.values()].map((second) => quantile(msOf(second), 0.99))
  const all = msOf(waited)
  return { statuses, p50: quantile(all, 0.5), p99: quantile(all, 0.99), typicalP99: quantile(p99s, 0.5) }

  function serveBacklog(): void {
    for (let lane = free.pop(); lane !== undefined; lane = free.pop()) {
      const dueMs = backlog.shift()
      if (dueMs === undefined) return void free.push(lane)
      pending.push(ask(lane, dueMs))
    }
  }

  async function ask(lane: Lane, dueMs: number): Promise<void> {
    const { status, receivedMs } = await lane.get('/open/a', 'x')
    waited.push({ dueMs, ms: receivedMs - dueMs })
    statuses[status] = (statuses[status] ?? 0) + 1
    free.push(lane)
  }
}

function quantile(numbers: readonly number[], share: number): number {
  const sorted = [...numbers].sort((one, other) => one - other)
  return Math.round((sorted[Math.floor(sorted.length * share)] ?? Number.NaN) * 100) / 100
}

/** Waits until descriptors and connections are what they were; resolves with how long that took (ms). */
export async function untilBaseline(scene: HostileScene, before: Cost, patienceMs = 30_000): Promise<number> {
  const beginMs = performance.now()
  for (;;) {
    const { descriptors, connections } = await scene.cost()
    const tookMs = Math.round(performance.now() - beginMs)
    // security.md §3.2, O5. The pool keeps what it needs, and lets it go within seconds.
    if (descriptors <= before.descriptors + 5 && connections <= before.connections) return tookMs
    assert.ok(tookMs < patienceMs, `${descriptors} descriptors, ${connections} connections: ${JSON.stringify(before)}`)
    await wait(100)
  }
}
