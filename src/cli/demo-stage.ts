import { setTimeout as sleep } from 'node:timers/promises'
import type { App } from '../app/app.ts'
import { startApp } from '../app/app.ts'
import type { JsonObject } from '../base/json.ts'
import { isJsonObject, parseJsonObject } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import { formatProblem } from '../config/problems.ts'
import { createHttpClient } from '../io/http-client.ts'
import type { HttpRequest } from '../io/http-server.ts'
import { startHttpServer } from '../io/http-server.ts'
import { silentLog } from '../io/log.ts'
import type { RunningRealm } from '../issuer/issuer.ts'
import { startIssuer } from '../issuer/issuer.ts'
import { formatBasic } from '../spec/authorization.ts'
import type { DemoSecrets, gatewayText } from './demo-options.ts'
import { issuersOf, secretVariable } from './demo-options.ts'
import type { Answer, Ask } from './demo-wire.ts'
import { askOnce, DemoFailed, openLine } from './demo-wire.ts'
import type { Shell } from './shell.ts'

/** Two issuers, a service that says what it was sent, and the gateway before it; all on loopback, until disposed. */
export type Stage = AsyncDisposable & {
  readonly app: App
  readonly clock: Clock
  readonly a: RunningRealm
  readonly b: RunningRealm
  readonly secrets: DemoSecrets
  readonly servicePort: number
  /** One request through the gateway. */
  readonly ask: (ask: Ask) => Promise<Answer>
  /** How many requests the service has had. */
  readonly reached: () => number
  /** A token as a client gets it: by client_credentials. */
  readonly grant: (realm: RunningRealm) => Promise<string>
  /** A token made to order, see the issuer's `/admin/mint`; the client is `web`, the scope `orders:read` unless said. */
  readonly mint: (realm: RunningRealm, order?: Readonly<Record<string, unknown>>) => Promise<string>
  /** Revokes a token as its client would (RFC 7009). */
  readonly revoke: (realm: RunningRealm, token: string) => Promise<void>
  readonly rotate: (realm: RunningRealm, query?: string) => Promise<void>
  /** The first key a realm publishes. */
  readonly publicKey: (realm: RunningRealm) => Promise<JsonObject>
  /** Has both issuers vanish for the gateway, and come back. */
  readonly cut: () => Promise<void>
  readonly mend: () => Promise<void>
}

const readyMs = 5000
const limits = { maxBodyBytes: 65_536, deadlineMs: 5000 } as const

/**
 * Starts everything and waits until the gateway is ready.
 *
 * @param configuration The gateway's, for the addresses the others got.
 * @throws DemoFailed (rejects), and what listening throws; nothing is left running then.
 */
export async function startStage(configuration: typeof gatewayText, shell: Shell): Promise<Stage> {
  const { clock, randomBytes } = shell
  await using started = new AsyncDisposableStack()
  const made = () => randomBytes(16).toString('hex')
  const secrets = { client: made(), gateway: made(), admin: made() }
  let reached = 0
  const service = started.use(
    await startHttpServer(
      { host: '127.0.0.1', port: 0, maxBodyBytes: 65_536 },
      {
        handle(request) {
          reached += 1
          return { status: 200, headers: { 'content-type': 'application/json' }, body: describe(request) }
        },
      },
    ),
  )
  const line = started.use(await openLine())
  const issuer = started.use(
    await startIssuer(issuersOf(line.port, secrets), { clock, random: randomBytes, log: silentLog, dev: true }),
  )
  line.lead(issuer.port)
  const [a, b] = issuer.realms
  if (a === undefined || b === undefined) throw new TypeError('Cannot start the demo: it has no two issuers')
  const text = configuration({ a: a.issuer, b: b.issuer, service: service.port })
  const powers = {
    ...shell,
    env: { [secretVariable]: secrets.gateway },
    write: (_: Buffer, done: () => void) => done(),
  }
  const app = await startApp({ file: 'demo.yaml', read: () => text }, powers)
  if (app.kind === 'refused')
    throw new DemoFailed(app.problems.map((problem) => formatProblem(problem, { color: false })).join('\n'))
  started.defer(app.close)
  const client = createHttpClient({})
  started.defer(client.close)
  const readyByMs = clock.monotonicMs() + readyMs
  while (!app.isReady()) {
    if (clock.monotonicMs() > readyByMs) throw new DemoFailed(`Cannot start the demo: not ready within ${readyMs} ms`)
    await sleep(5)
  }
  // The first request of a process loads what reaches the service; the cases are to show what a request takes.
  await askOnce(app.ports.proxy, { path: '/healthz' }, clock)
  const running = started.move()
  return {
    app,
    clock,
    a,
    b,
    secrets,
    servicePort: service.port,
    ask: (ask) => askOnce(app.ports.proxy, ask, clock),
    reached: () => reached,
    grant: (realm) => form(realm, 'token', { grant_type: 'client_credentials' }).then(tokenOf),
    mint: (realm, order = {}) =>
      administer(realm, 'mint', { client_id: 'web', scope: 'orders:read', ...order }).then(tokenOf),
    revoke: async (realm, token) => void (await form(realm, 'revoke', { token })),
    rotate: async (realm, query = '') => void (await administer(realm, `keys/rotate${query}`, {})),
    async publicKey(realm) {
      const { keys } = await call('GET', `${realm.url}/jwks`)
      const [key] = Array.isArray(keys) ? keys : []
      if (isJsonObject(key)) return key
      throw new DemoFailed('Cannot read the keys of the issuer: none is there, wanted one')
    },
    cut: line.cut,
    mend: line.mend,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }

  function form(realm: RunningRealm, path: string, fields: Record<string, string>) {
    const headers = {
      authorization: formatBasic('web', secrets.client),
      'content-type': 'application/x-www-form-urlencoded',
    }
    return call('POST', `${realm.url}/${path}`, headers, new URLSearchParams(fields).toString())
  }

  function administer(realm: RunningRealm, path: string, order: Record<string, unknown>) {
    const headers = { authorization: `Bearer ${secrets.admin}`, 'content-type': 'application/json' }
    return call('POST', `${realm.url}/admin/${path}`, headers, JSON.stringify(order))
  }

  /** Asks the issuer itself, past the line. */
  async function call(method: 'GET' | 'POST', url: string, headers: Record<string, string> = {}, body = '') {
    const reply = await client.send({ method, url, headers, body }, limits)
    if (reply.status !== 200) throw new DemoFailed(`Cannot ${method} ${url}: status is ${reply.status}, wanted 200`)
    return parseJsonObject(reply.body)
  }
}

function tokenOf({ access_token: token }: JsonObject): string {
  if (typeof token === 'string') return token
  throw new DemoFailed('Cannot read the answer of the issuer: no access_token, wanted one')
}

/** What the service saw: every header line that reached it. */
function describe({ method, path, headers }: HttpRequest): string {
  return JSON.stringify({ method, path, headers: Object.fromEntries(headers) })
}
