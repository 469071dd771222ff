import type { SecretSource } from '../base/options.ts'
import type { Clock } from '../base/time.ts'
import type { GatewayOptions, IssuerOptions } from '../config/schema.ts'
import type { TrustedIssuer } from '../decision/verify.ts'
import { trustIssuer } from '../decision/verify.ts'
import { createHttpClient } from '../io/http-client.ts'
import type { Log } from '../io/log.ts'
import type { Blacklist } from '../sources/blacklist.ts'
import { createBlacklist } from '../sources/blacklist.ts'
import type { Introspection } from '../sources/introspection.ts'
import { createIntrospection } from '../sources/introspection.ts'
import type { Jwks, JwksOrigin } from '../sources/jwks.ts'
import { createJwks } from '../sources/jwks.ts'
import type { Metadata } from '../sources/metadata.ts'
import { createMetadata } from '../sources/metadata.ts'
import type { GatewayMetrics } from './metrics.ts'

/** What the sources need from the process. */
export type SourceDeps = {
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  /** The bytes of a file. Throws when it cannot be read. */
  readonly readFile: (path: string) => Buffer
  /** A secret as it is now; the last good one while it cannot be read. */
  readonly secret: (source: SecretSource) => string
  readonly log: Log
  readonly counted: GatewayMetrics
}

/** One issuer at work: how its tokens are judged, and where the facts about them come from. */
export type IssuerSources = {
  readonly trusted: TrustedIssuer
  readonly options: IssuerOptions
  /** What it was made from: a reload that changes nothing of it keeps it, with all it holds. */
  readonly madeFrom: string
  readonly jwks: Jwks
  readonly introspection: Introspection | undefined
  readonly blacklist: Blacklist | undefined
  readonly start: () => void
  readonly close: () => void
}

/** What an issuer's sources depend on, as text that compares. Throws when its CA file cannot be read. */
export function sourcesKey(issuer: IssuerOptions, options: GatewayOptions, readFile: SourceDeps['readFile']): string {
  const { poll_interval, cache_size, purge_delay, max_staleness } = options.blacklist
  const feed = issuer.blacklist === undefined ? null : [poll_interval, cache_size, purge_delay, max_staleness]
  return JSON.stringify([issuer, feed, caOf(issuer, readFile) ?? null])
}

function caOf({ http }: IssuerOptions, readFile: SourceDeps['readFile']): string | undefined {
  return http.ca === undefined ? undefined : readFile(http.ca.file).toString('utf8')
}

/** Makes the sources of one issuer; nothing is fetched before `start`. Throws when its CA file cannot be read. */
export function createIssuerSources(issuer: IssuerOptions, options: GatewayOptions, deps: SourceDeps): IssuerSources {
  const { clock, random, readFile, counted, log } = deps
  const name = issuer.issuer
  const http = createHttpClient({ ca: caOf(issuer, readFile), proxy: issuer.http.proxy })
  const metadata = createMetadata(
    { issuer: name, metadataUrl: issuer.metadata_url, insecureHttp: issuer.insecure_http },
    { clock, send: http.send },
  )
  const { refresh, cool_down, stale_max } = issuer.jwks
  const jwks = createJwks(
    { issuer: name, refreshMs: refresh, coolDownMs: cool_down, staleMaxMs: stale_max, leewayMs: issuer.leeway },
    {
      clock,
      random,
      origin: originOf(issuer, metadata, http.send, readFile),
      log: tellWith(log),
      count: (result) => (result === 'suppressed' ? counted.jwksSuppressed(name) : counted.jwksRefresh(name, result)),
    },
  )
  const introspection =
    issuer.introspection === undefined
      ? undefined
      : createIntrospection(
          { issuer: name, clientId: issuer.introspection.client_id },
          {
            clock,
            send: http.send,
            endpoint: () => endpoint(issuer.introspection_endpoint, metadata, 'introspection_endpoint'),
            secret: secretOf(issuer.introspection.client_secret, deps),
            log: tellWith(log),
            observe: (result, seconds) => counted.introspected(name, result, seconds),
          },
        )
  const blacklist = blacklistOf(issuer, options, http.send, deps)
  const trusted = trustIssuer(issuer, {
    answersMaxAgeMs: issuer.introspection?.max_age,
    pollIntervalMs: issuer.blacklist === undefined ? undefined : options.blacklist.poll_interval,
  })
  counted.introduce(name)
  return {
    trusted,
    options: issuer,
    madeFrom: sourcesKey(issuer, options, readFile),
    jwks,
    introspection,
    blacklist,
    start() {
      jwks.start()
      blacklist?.start()
    },
    close() {
      jwks.close()
      blacklist?.close()
      http.close()
    },
  }
}

type Send = ReturnType<typeof createHttpClient>['send']

function originOf(issuer: IssuerOptions, metadata: Metadata, send: Send, readFile: SourceDeps['readFile']): JwksOrigin {
  const { file } = issuer.jwks
  if (file !== undefined) return { kind: 'file', read: () => readFile(file) }
  return { kind: 'url', url: () => endpoint(issuer.jwks_uri, metadata, 'jwks_uri'), doubt: metadata.doubt, send }
}

async function endpoint(
  configured: string | undefined,
  metadata: Metadata,
  name: 'jwks_uri' | 'introspection_endpoint',
): Promise<string> {
  return configured ?? (await metadata.endpoint(name))
}

function secretOf(source: SecretSource, { secret }: SourceDeps): () => string {
  return () => secret(source)
}

function blacklistOf(
  issuer: IssuerOptions,
  options: GatewayOptions,
  send: Send,
  deps: SourceDeps,
): Blacklist | undefined {
  const { clock, random, log, counted } = deps
  const feed = issuer.blacklist
  const clientId = feed?.client_id ?? issuer.introspection?.client_id
  const secret = feed?.client_secret ?? issuer.introspection?.client_secret
  if (feed === undefined || clientId === undefined || secret === undefined) return undefined
  const { poll_interval, cache_size, purge_delay, max_staleness } = options.blacklist
  let warned = false
  const blacklist = createBlacklist(
    {
      issuer: issuer.issuer,
      url: feed.url,
      clientId,
      pollIntervalMs: poll_interval,
      cacheSize: cache_size,
      purgeDelayMs: purge_delay,
      maxStalenessMs: max_staleness,
    },
    {
      clock,
      random,
      send,
      secret: secretOf(secret, deps),
      log: tellWith(log),
      count(result) {
        counted.polled(issuer.issuer, result)
        warnOfSkew()
      },
    },
  )
  return blacklist

  /** product.md §6: clocks this far apart let a purged entry's token in again. Said once, and again after it was well. */
  function warnOfSkew(): void {
    const skewMs = Math.abs(blacklist.state().skewSeconds) * 1000
    const isFar = skewMs + issuer.leeway > purge_delay
    if (isFar && !warned)
      log.warn('clock_skew', {
        issuer: issuer.issuer,
        skew_ms: Math.round(skewMs),
        leeway_ms: issuer.leeway,
        purge_delay_ms: purge_delay,
      })
    warned = isFar
  }
}

/** What a source could not do is a warning; what it did is not. */
function tellWith(log: Log): (event: string, fields: Readonly<Record<string, string | number | boolean>>) => void {
  return (event, fields) => (/_(?:failed|dropped)$/.test(event) ? log.warn : log.info)(event, fields)
}
