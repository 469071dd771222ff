import type { SecretSource } from '../base/options.ts'
import { createReminder } from '../base/reminder.ts'
import type { Clock } from '../base/time.ts'
import { hashOf } from '../config/load.ts'
import type { GatewayOptions, IssuerOptions } from '../config/schema.ts'
import type { TrustedIssuer } from '../decision/verify.ts'
import { trustIssuer } from '../decision/verify.ts'
import type { HttpClient } from '../io/http-client.ts'
import { createHttpClient } from '../io/http-client.ts'
import type { Log } from '../io/log.ts'
import type { Blacklist, BlacklistOptions } from '../sources/blacklist.ts'
import { createBlacklist } from '../sources/blacklist.ts'
import type { KeysSnapshot } from '../sources/held-keys.ts'
import type { Introspection } from '../sources/introspection.ts'
import { createIntrospection } from '../sources/introspection.ts'
import type { Jwks, JwksOrigin } from '../sources/jwks.ts'
import { createJwks } from '../sources/jwks.ts'
import type { Metadata } from '../sources/metadata.ts'
import { createMetadata } from '../sources/metadata.ts'
import { leastPollMs } from '../sources/poll-times.ts'
import type { GatewayMetrics } from './metrics.ts'
import type { Replicas } from './workers/replicas.ts'

/** What the sources need from the process. */
export type SourceDeps = {
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  /** Files that the configuration names, as they were when it was read. */
  readonly files: ReadonlyMap<string, Buffer>
  /** The bytes of a file as it is now. Throws when it cannot be read. */
  readonly readFile: (path: string) => Buffer
  /** The way to a secret as it is now; the last good one while it cannot be read. */
  readonly secret: (source: SecretSource) => () => string
  readonly log: Log
  readonly counted: GatewayMetrics
  /** In a worker: keys and lists are copies of those of its primary. */
  readonly replicas?: Replicas | undefined
  /** How many questions, and how many look-ups, each issuer gets at a time, where there are few descriptors. */
  readonly maxInFlight?: number | undefined
}

/** Something made from a part of the configuration; a reload that does not change that part keeps it, with all it holds. */
type Part<T> = { readonly madeFrom: string; readonly it: T }

type Parts = {
  readonly trusted: Part<TrustedIssuer>
  readonly http: Part<HttpClient>
  readonly metadata: Part<Metadata>
  readonly jwks: Part<Jwks>
  readonly introspection: Part<Introspection | undefined>
  readonly blacklist: Part<Blacklist | undefined>
}

/** One issuer at work: how its tokens are judged, and where the facts about them come from. */
export type IssuerSources = {
  readonly trusted: TrustedIssuer
  readonly options: IssuerOptions
  /** Stands for whose keys they are, where they are and how that is reached; the same in a worker as in its primary. */
  readonly keysId: string
  readonly jwks: Jwks
  readonly introspection: Introspection | undefined
  readonly blacklist: Blacklist | undefined
  readonly parts: Parts
  /** Starts what is new of it. */
  readonly start: () => void
  /** Ends what `next` has not kept; connections in use may finish first. */
  readonly close: (next?: IssuerSources) => void
}

// About a minute: the polls that a warning hangs on come a little early.
const repeatMs = 50_000

// A little over the longest deadline of a call but a held poll, which ends with its list: requests keep the configuration
// they started with, to their end.
const lastCallsMs = 5000

/**
 * Makes the sources of one issuer; nothing is fetched before `start`.
 *
 * @param before Those of the same issuer in the configuration before. Keys found at the same place, and everything the
 *   lists know to be revoked, are handed on even where the settings around them changed.
 */
export function createIssuerSources(
  issuer: IssuerOptions,
  options: GatewayOptions,
  before: IssuerSources | undefined,
  deps: SourceDeps,
): IssuerSources {
  const { clock, files, counted } = deps
  const name = issuer.issuer
  const old = before?.parts
  const ca = issuer.http.ca === undefined ? undefined : textOf(issuer.http.ca.file, files)
  const reached = [ca, issuer.http.proxy, issuer.insecure_http]

  const http = keep(old?.http, reached, () => createHttpClient({ ca, proxy: issuer.http.proxy }))
  const { metadata_url, insecure_http } = issuer
  const metadata = keep(old?.metadata, [reached, metadata_url], () =>
    createMetadata({ issuer: name, metadata_url, insecure_http }, { clock, send: http.it.send }),
  )
  const keysId = keysIdOf(issuer, reached)
  const jwks = keep(old?.jwks, [keysId, issuer.jwks, issuer.leeway], () =>
    jwksOf(
      issuer,
      keysId,
      http.it,
      metadata.it,
      { held: before?.keysId === keysId ? old?.jwks.it.snapshot() : undefined, failure: old?.jwks.it.state().failure },
      deps,
    ),
  )
  const introspection = keep(
    old?.introspection,
    [reached, metadata_url, issuer.introspection_endpoint, issuer.introspection],
    () => introspectionOf(issuer, http.it, metadata.it, deps),
  )
  const { poll_interval, cache_size, purge_delay, max_staleness } = options.blacklist
  const limits = [poll_interval, cache_size, purge_delay, max_staleness, issuer.leeway]
  const { client_id, client_secret } = issuer.introspection ?? {}
  const blacklist = keep(old?.blacklist, [reached, issuer.blacklist, client_id, client_secret, limits], () =>
    blacklistOf(issuer, options, http.it, old?.blacklist.it, deps),
  )
  // `reached`, as for the introspection: an answer to a question of the one before is a fact of the one before, and must
  // not take the place of a later answer here.
  const trusted = keep(old?.trusted, [reached, issuer, poll_interval], () =>
    trustIssuer(issuer, {
      answersMaxAgeMs: issuer.introspection?.max_age,
      pollIntervalMs: issuer.blacklist && leastPollMs({ ...issuer.blacklist, poll_interval }),
    }),
  )
  counted.introduce(name)
  const isNew = { jwks: old?.jwks !== jwks, blacklist: old?.blacklist !== blacklist }
  return atWork(issuer, keysId, { trusted, http, metadata, jwks, introspection, blacklist }, isNew)
}

/** Apart: what it returns lives as long as its configuration, and must not hold the one before, which would hold its own. */
function atWork(
  issuer: IssuerOptions,
  keysId: string,
  parts: Parts,
  isNew: Readonly<Record<'jwks' | 'blacklist', boolean>>,
): IssuerSources {
  const { trusted, http, jwks, introspection, blacklist } = parts
  return {
    trusted: trusted.it,
    options: issuer,
    keysId,
    jwks: jwks.it,
    introspection: introspection.it,
    blacklist: blacklist.it,
    parts,
    start() {
      if (isNew.jwks) jwks.it.start()
      if (isNew.blacklist) blacklist.it?.start()
    },
    close(next) {
      if (next?.parts.jwks !== jwks) jwks.it.close()
      if (next?.parts.blacklist !== blacklist) blacklist.it?.close()
      if (next?.parts.http === http) return
      if (next === undefined) http.it.close()
      else setTimeout(http.it.close, lastCallsMs).unref()
    },
  }
}

function textOf(path: string, files: ReadonlyMap<string, Buffer>): string {
  const bytes = files.get(path)
  // Without it, authorities would be trusted that nobody named.
  if (bytes === undefined) throw new TypeError('Cannot use a file: it was not read with the configuration')
  return bytes.toString('utf8')
}

function keep<T>(old: Part<T> | undefined, from: unknown, make: () => T): Part<T> {
  const madeFrom = JSON.stringify(from)
  return old?.madeFrom === madeFrom ? old : { madeFrom, it: make() }
}

/** Other keys are at another place. */
function keysIdOf({ issuer, metadata_url, jwks_uri, jwks }: IssuerOptions, reached: unknown): string {
  return hashOf(JSON.stringify([issuer, reached, metadata_url, jwks_uri, jwks.file]))
}

function jwksOf(
  issuer: IssuerOptions,
  keysId: string,
  http: HttpClient,
  metadata: Metadata,
  previous: { readonly held: KeysSnapshot | undefined; readonly failure: string | undefined },
  deps: SourceDeps,
): Jwks {
  const { clock, random, counted, log, readFile, replicas } = deps
  const { file } = issuer.jwks
  const name = issuer.issuer
  const options = { ...issuer.jwks, issuer: name, leeway: issuer.leeway }
  if (replicas !== undefined) {
    return replicas.keys(keysId, options, () => counted.jwksSuppressed(name), previous.held)
  }
  const origin: JwksOrigin =
    file !== undefined
      ? { kind: 'file', read: () => readFile(file) }
      : {
          kind: 'url',
          ...endpointOf(issuer.jwks_uri, metadata, 'jwks_uri'),
          send: http.send,
        }
  return createJwks(
    options,
    {
      clock,
      random,
      origin,
      log,
      count: (result) => (result === 'suppressed' ? counted.jwksSuppressed(name) : counted.jwksRefresh(name, result)),
    },
    previous.held,
    previous.failure,
  )
}

function introspectionOf(
  issuer: IssuerOptions,
  http: HttpClient,
  metadata: Metadata,
  deps: SourceDeps,
): Introspection | undefined {
  const { clock, log, counted, secret, maxInFlight } = deps
  const { introspection } = issuer
  if (introspection === undefined) return undefined
  const { url, doubt } = endpointOf(issuer.introspection_endpoint, metadata, 'introspection_endpoint')
  return createIntrospection(
    { issuer: issuer.issuer, client_id: introspection.client_id, maxInFlight },
    {
      clock,
      send: http.send,
      endpoint: url,
      doubt,
      secret: secret(introspection.client_secret),
      log,
      observe: (result, seconds) => counted.introspected(issuer.issuer, result, seconds),
    },
  )
}

/** An address as configured, which nobody doubts, or as the metadata says. */
function endpointOf(
  configured: string | undefined,
  metadata: Metadata,
  name: 'jwks_uri' | 'introspection_endpoint',
): { readonly url: () => Promise<string>; readonly doubt: () => Promise<void> } {
  if (configured !== undefined) return { url: async () => configured, doubt: async () => {} }
  return { url: () => metadata.endpoint(name), doubt: metadata.doubt }
}

function blacklistOf(
  issuer: IssuerOptions,
  options: GatewayOptions,
  http: HttpClient,
  previous: Blacklist | undefined,
  deps: SourceDeps,
): Blacklist | undefined {
  const { clock, random, log, counted, secret, replicas, maxInFlight } = deps
  const feed = issuer.blacklist
  const client_id = feed?.client_id ?? issuer.introspection?.client_id
  const source = feed?.client_secret ?? issuer.introspection?.client_secret
  if (feed === undefined || client_id === undefined || source === undefined) return undefined
  const { url, wait } = feed
  const list: BlacklistOptions = { ...options.blacklist, issuer: issuer.issuer, url, client_id, wait, maxInFlight }
  const feedDeps = { clock, send: http.send, secret: secret(source), log }
  if (replicas !== undefined) return replicas.list(list, feedDeps)
  const isSkewDue = createReminder(repeatMs, { clock })
  let wasFarOff = false
  const blacklist = createBlacklist(
    list,
    {
      ...feedDeps,
      random,
      count(result) {
        counted.polled(issuer.issuer, result)
        warnOfSkew()
      },
    },
    previous?.snapshot(),
    previous?.state().failure,
  )
  return blacklist

  /** product.md §6: clocks this far apart let a purged entry's token in again. */
  function warnOfSkew(): void {
    const { skewSeconds } = blacklist.state()
    const isNew = !wasFarOff
    wasFarOff = isFarOff(skewSeconds, issuer, list)
    if (!wasFarOff || !isSkewDue(isNew)) return
    log.warn('clock_skew', {
      issuer: issuer.issuer,
      skew_ms: Math.round(skewSeconds * 1000),
      leeway_ms: issuer.leeway,
      purge_delay_ms: list.purge_delay,
    })
  }
}

/** Whether our clock and an issuer's are so far apart that it must be said. */
export function isFarOff(
  skewSeconds: number,
  { leeway }: Pick<IssuerOptions, 'leeway'>,
  { purge_delay }: Pick<GatewayOptions['blacklist'], 'purge_delay'>,
): boolean {
  // An issuer tells whole seconds: by up to one of them we seem to be ahead of it, and are not.
  const leastSeconds = Math.max(0, skewSeconds - 1, -skewSeconds)
  return leastSeconds * 1000 + leeway > purge_delay
}
