// A gateway with workers, an issuer that says what a test has it say, and connections to both of them.
import assert from 'node:assert/strict'
import type { StubIssuer } from '../acceptance/stub-issuer.ts'
import { openStubIssuer } from '../acceptance/stub-issuer.ts'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import type { Lane, LaneAnswer } from '../support/raw-lane.ts'
import { openLane } from '../support/raw-lane.ts'
import { sendJson, startStub } from '../support/stub-server.ts'
import type { Signer } from '../support/tokens.ts'
import { accessClaims, createSigner } from '../support/tokens.ts'
import { until } from '../support/until.ts'

/** A worker, as `GET /status` tells of it. */
export type WorkerStatus = {
  readonly worker: number
  readonly pid: number | null
  readonly serves: boolean
  readonly config_hash: string | null
  readonly connections: number
}

export type WorkersWorld = AsyncDisposable & {
  readonly gateway: GatewayProcess
  readonly issuer: StubIssuer
  readonly signer: Signer
  /** Writes the configuration anew, with members of it changed. */
  readonly configure: (more: Readonly<Record<string, unknown>>) => void
  readonly workers: () => Promise<readonly WorkerStatus[]>
  /** Their process ids, once so many serve. */
  readonly serving: (count: number) => Promise<readonly number[]>
  /** Connections that are kept; they go with the world. */
  readonly lanes: (count: number) => readonly Lane[]
  /** A token of the issuer, good for an hour. */
  readonly token: (claims?: Readonly<Record<string, unknown>>, by?: Signer) => string
}

export type WorldOptions = {
  readonly workers?: number | 'auto'
  readonly issuer?: Readonly<Record<string, unknown>>
  /** The issuer has a blacklist. */
  readonly hasFeed?: boolean
  readonly more?: Readonly<Record<string, unknown>>
  /** Before the gateway starts. */
  readonly prepare?: (issuer: StubIssuer) => void
}

/** Rules of the world: `/orders/**` needs a token, `/open` none. */
export const rules = [
  { id: 'orders', match: { path: '/orders/**' }, scopes: ['orders:read'] },
  { id: 'open', match: { path: '/open' }, public: true },
]

/** Opens one, whether it is ready or not. */
export async function openWorkers({
  workers = 2,
  issuer: section,
  hasFeed = false,
  more,
  prepare,
}: WorldOptions = {}): Promise<WorkersWorld> {
  await using stack = new AsyncDisposableStack()
  const issuer = stack.use(await openStubIssuer())
  const signer = createSigner('first')
  issuer.keys = [signer.jwk]
  prepare?.(issuer)
  const upstream = stack.use(
    await startStub({ '/orders/held': () => {} }, (response) => sendJson(response, { served: true })),
  )
  const secret = { client_id: 'gateway', client_secret: { env: 'POSTERN_SECRET' } }
  const feed = hasFeed ? { blacklist: { url: `${issuer.url}/blacklist` } } : {}
  const base = {
    workers,
    upstream: { url: upstream.url },
    issuers: [{ issuer: issuer.url, audience: 'orders-api', introspection: secret, ...feed, ...section }],
    rules,
    ...more,
  }
  const gateway = stack.use(await startGatewayProcess(base))
  const held = stack.move()
  const world: WorkersWorld = {
    gateway,
    issuer,
    signer,
    configure: (changed) => gateway.configure({ ...base, ...changed }),
    async workers() {
      const { workers: told } = (await gateway.status()) as { workers: readonly WorkerStatus[] } // as app/workers/workers.ts says it
      return told
    },
    async serving(count) {
      let pids: readonly number[] = []
      await until(async () => {
        pids = (await world.workers()).flatMap(({ pid, serves }) => (serves && pid !== null ? [pid] : []))
        return pids.length === count
      }, `${count} workers to serve`)
      return pids
    },
    lanes: (count) => Array.from({ length: count }, () => held.use(openLane(gateway.proxyPort))),
    token: (claims = {}, by = signer) => by.sign(accessClaims(issuer.url, Math.floor(Date.now() / 1000), claims)),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
  return world
}

/** One request on each connection, at the same time. */
export async function askAll(lanes: readonly Lane[], path: string, token: string): Promise<readonly LaneAnswer[]> {
  return await Promise.all(lanes.map((lane) => lane.get(path, token)))
}

/** The statuses of answers, each once, in order. */
export function statusesOf(answers: readonly LaneAnswer[]): readonly number[] {
  return [...new Set(answers.map(({ status }) => status))].sort((a, b) => a - b)
}

/** The reasons of denials, each once. */
export function reasonsOf(answers: readonly LaneAnswer[]): readonly (string | undefined)[] {
  return [...new Set(answers.map(({ body }) => /"reason":"(\w+)"/.exec(body)?.[1]))]
}

/** What a counter stands at. */
export async function counted(gateway: GatewayProcess, series: string): Promise<number> {
  const value = (await gateway.metrics()).get(series)
  assert.ok(value !== undefined, `there is no ${series}`)
  return value
}
