// The bundled issuer: several realms, one store, one listener.
import { messageOf } from '../base/errors.ts'
import type { Clock } from '../base/time.ts'
import type { HttpAnswer, HttpRequest, HttpServer } from '../io/http-server.ts'
import { problem, startHttpServer } from '../io/http-server.ts'
import { splitAddress } from '../io/listen.ts'
import type { Log } from '../io/log.ts'
import type { IssuerOptions } from './options.ts'
import { findIssuerConflicts, IssuerRefused, realmPath } from './options.ts'
import type { Route } from './realm.ts'
import { createRealm } from './realm.ts'
import type { IssuerStore } from './store.ts'
import { openIssuerStore } from './store.ts'

/** What an issuer needs. */
export type IssuerDeps = {
  readonly clock: Clock
  readonly random: (bytes: number) => Buffer
  readonly log: Log
  /** On this machine, for trying out: store in memory, keys marked `demo-`, tokens made to order. */
  readonly dev: boolean
}

/** One realm as it runs. */
export type RunningRealm = {
  readonly issuer: string
  /** Where it listens, without closing slash; the issuer may be reached under another name. */
  readonly url: string
  /** How often its key set was fetched, answers of 304 included. */
  readonly jwksFetches: () => number
  /** How often its introspection endpoint was called, refused calls included. */
  readonly introspections: () => number
}

/** An issuer that serves, until closed. */
export type RunningIssuer = AsyncDisposable & {
  readonly port: number
  readonly realms: readonly RunningRealm[]
  /** Resolves when the store failed for good: reads go on, writes are 503, and the process should exit non-zero. */
  readonly failed: Promise<Error>
  readonly close: () => Promise<void>
}

const maxBodyBytes = 65_536
// Expired rows also go, and the time is kept, with every write; this is for an issuer nobody writes to.
const purgeMs = 60_000
const purgeBatch = 1000

/**
 * Starts the issuer.
 *
 * @throws IssuerRefused for options or keys that are not to be used, DatabaseRefused for a store that is damaged, and
 *   what listening throws. Nothing is left open then.
 */
export async function startIssuer(options: IssuerOptions, deps: IssuerDeps): Promise<RunningIssuer> {
  const { clock, random, log, dev } = deps
  refuseUnsafe(options, dev)
  const path = options.store === 'memory' ? ':memory:' : options.store.sqlite
  const purgeDelayMs = Math.max(...options.realms.map((realm) => realm.purge_delay))
  const store = openIssuerStore({ path, purgeDelayMs }, { clock })
  const closing = Promise.withResolvers<void>()
  const routes = new Map<string, Route>()
  let ready = false
  let server: HttpServer | undefined
  let purge: NodeJS.Timeout | undefined
  let closed: Promise<void> | undefined
  try {
    const { host, port } = splitAddress(options.listen)
    const onError = (error: unknown) => log.error('issuer_error', { error: messageOf(error) })
    server = await startHttpServer(
      { host, port, maxBodyBytes },
      // A 404 would say that there is no such issuer; it only is not up yet.
      { handle: (request) => (ready ? route(routes, request) : problem(503, 'Starting')), onError },
    )
    const origin = `http://${host.includes(':') ? `[${host}]` : host}:${server.port}`
    const realms: RunningRealm[] = []
    const epoch = random(16).toString('hex')
    const shared = { store, clock, random, log, dev, epoch, closing: closing.promise }
    for (const written of options.realms) {
      const issuer = written.issuer ?? `http://127.0.0.1:${server.port}${realmPath(written)}`
      const realm = await createRealm(written, issuer, shared)
      for (const [path, entry] of realm.routes) routes.set(path, entry)
      realms.push({
        issuer,
        url: `${origin}${realm.path}`,
        jwksFetches: realm.jwksFetches,
        introspections: realm.introspections,
      })
    }
    ready = true
    purge = setInterval(() => purgeOnce(store), purgeMs).unref()
    void store.failed.then((error) => log.error('issuer_store_failed', { error: error.message }))
    if (dev)
      log.warn('issuer_demo_keys', {
        help: 'Signing keys are for demonstration; a gateway takes them on loopback only',
      })
    log.info('issuer_started', { port: server.port, realms: realms.length })
    return { port: server.port, realms, failed: store.failed, close, [Symbol.asyncDispose]: close }
  } catch (error) {
    await close()
    throw error
  }

  function close(): Promise<void> {
    closed ??= finish()
    return closed
  }

  async function finish(): Promise<void> {
    clearInterval(purge)
    closing.resolve()
    await server?.close()
    store.close()
  }
}

function refuseUnsafe(options: IssuerOptions, dev: boolean): void {
  const [conflict] = findIssuerConflicts(options)
  if (conflict !== undefined)
    throw new IssuerRefused(`Cannot start issuer: ${conflict.path.join('.')}: ${conflict.message}`)
  if (dev) return
  // product.md §6: revocations that a restart forgets are none.
  if (options.store === 'memory')
    throw new IssuerRefused('Cannot start issuer: store is memory, wanted sqlite or --dev')
  if (options.realms.some(({ name }) => name !== undefined))
    throw new IssuerRefused('Cannot start issuer: a realm has a name, wanted an issuer URL or --dev')
}

async function route(routes: ReadonlyMap<string, Route>, request: HttpRequest): Promise<HttpAnswer> {
  const found = routes.get(request.path)
  if (found === undefined) return problem(404, 'Not found')
  if (request.method === found.method || (request.method === 'HEAD' && found.method === 'GET'))
    return await found.handle(request)
  const { headers, ...refused } = problem(405, 'Method not allowed')
  return { ...refused, headers: { ...headers, Allow: found.method } }
}

function purgeOnce(store: IssuerStore): void {
  // A store that fails says so itself.
  store.write(() => store.purge(purgeBatch)).catch(() => {})
}
