import { messageOf } from '../base/errors.ts'
import type { Clock } from '../base/time.ts'
import type { HttpAnswer, HttpHandler } from '../io/http-server.ts'
import { problem } from '../io/http-server.ts'
import type { Log } from '../io/log.ts'
import { isStorageError } from '../io/sqlite.ts'
import { createAdmin } from './admin.ts'
import { oauthError } from './answers.ts'
import { createBlacklist } from './blacklist.ts'
import { createAuthenticator } from './clients.ts'
import { createFeed } from './feed.ts'
import { createIntrospection } from './introspect.ts'
import { createKeyRing } from './keys.ts'
import { createJwksEndpoint, formatMetadata } from './metadata.ts'
import type { RealmOptions } from './options.ts'
import { realmPath } from './options.ts'
import { createRevocation } from './revoke.ts'
import type { IssuerStore } from './store.ts'
import { createTokenEndpoint } from './token-endpoint.ts'
import { createTokens } from './tokens.ts'

/** What a path answers, by method. */
export type Route = { readonly method: 'GET' | 'POST'; readonly handle: HttpHandler }

/** One issuer: its endpoints, by full path. */
export type Realm = {
  readonly path: string
  readonly routes: ReadonlyMap<string, Route>
  /** How often its key set was fetched. */
  readonly jwksFetches: () => number
  /** How often its introspection endpoint was called, refused calls included. */
  readonly introspections: () => number
}

/** What a realm needs; `epoch` is the feed's, and `closing` resolves when nobody is to be kept waiting. */
export type RealmDeps = {
  readonly store: IssuerStore
  readonly clock: Clock
  readonly random: (bytes: number) => Buffer
  readonly log: Log
  readonly dev: boolean
  readonly epoch: string
  readonly closing: Promise<void>
}

/**
 * Wires one realm.
 *
 * @param issuer Its identifier, which depends on the port where the configuration only gives it a name.
 * @throws IssuerRefused when its keys are not to be used.
 */
export async function createRealm(options: RealmOptions, issuer: string, deps: RealmDeps): Promise<Realm> {
  const { store, clock, random, log, dev, epoch, closing } = deps
  const lifetime = Math.floor(options.access_token.lifetime / 1000)
  const tables = store.realm(options.issuer ?? options.name ?? '')
  const keys = createKeyRing(
    {
      type: options.preset === 'workforce' ? 'rsa' : 'ec',
      dev,
      longestLife: lifetime,
      announceFor: Math.ceil(options.announce_for / 1000),
    },
    { store, tables, clock, random },
  )
  const tokens = createTokens({ issuer, lifetime }, { store, tables, keys, clock, random })
  const blacklist = createBlacklist({ purgeDelayMs: options.purge_delay }, { store, tables, clock })
  const clients = await createAuthenticator(options.clients, { random })
  const resourceServers = await createAuthenticator(options.resource_servers, { random })
  const feed = createFeed({ epoch }, { resourceServers, blacklist, store, tables, closing })
  const jwks = createJwksEndpoint(keys)
  const metadata = formatMetadata(issuer, options)
  const introspect = createIntrospection({ resourceServers, tokens, blacklist, clock })
  let introspected = 0
  const introspections = () => introspected
  const path = realmPath(options)

  const routes = new Map<string, Route>()
  const describe = get(() => ({ status: 200, headers: metadataHeaders, body: metadata }))
  routes.set(`${path}/.well-known/openid-configuration`, describe)
  // RFC 8414 §3.1: the well-known part goes between host and path.
  routes.set(`/.well-known/oauth-authorization-server${path}`, describe)
  routes.set(`/.well-known/openid-configuration${path}`, describe)
  routes.set(`${path}/jwks`, get(jwks.answer))
  routes.set(`${path}/token`, oauth(createTokenEndpoint(options, { clients, tokens, blacklist, clock })))
  routes.set(
    `${path}/introspect`,
    oauth((request) => {
      introspected += 1
      return introspect(request)
    }),
  )
  routes.set(`${path}/revoke`, oauth(createRevocation({ clients, tokens, blacklist, log })))
  routes.set(`${path}/blacklist`, get(feed.page))
  routes.set(`${path}/blacklist/lookup`, post(feed.lookup))
  if (options.admin !== undefined) {
    const { token } = options.admin
    const admin = createAdmin(
      { realm: options, token, dev },
      { keys, tokens, blacklist, clock, carefulClock: store.clock, jwksFetches: jwks.fetches, introspections, log },
    )
    routes.set(`${path}/admin/keys`, get(admin.keys))
    routes.set(`${path}/admin/keys/rotate`, post(admin.rotate))
    routes.set(`${path}/admin/revoke`, post(admin.revoke))
    if (admin.mint !== undefined) routes.set(`${path}/admin/mint`, post(admin.mint))
  }
  return { path, routes, jwksFetches: jwks.fetches, introspections }

  function get(handle: HttpHandler): Route {
    return { method: 'GET', handle: mapped(handle, () => problem(503, 'The store is not available')) }
  }

  function post(handle: HttpHandler): Route {
    return { method: 'POST', handle: mapped(handle, () => problem(503, 'The store is not available')) }
  }

  function oauth(handle: HttpHandler): Route {
    const unavailable = () => oauthError('temporarily_unavailable', 'The store is not available')
    return { method: 'POST', handle: mapped(handle, unavailable) }
  }

  /** The one place where a failed store becomes an answer: never a 2xx for what may not be on disk. */
  function mapped(handle: HttpHandler, unavailable: () => HttpAnswer): HttpHandler {
    return async (request) => {
      try {
        return await handle(request)
      } catch (error) {
        if (!isStorageError(error)) throw error
        log.error('issuer_store_unavailable', { error: messageOf(error) })
        return unavailable()
      }
    }
  }
}

const metadataHeaders = { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=60' } as const
