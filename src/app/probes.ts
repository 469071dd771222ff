// What health, people and Prometheus are told about the state of things.
import type { Check } from '../admin/health.ts'
import { formatSpan } from '../base/time.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { Principal } from '../decision/decision.ts'
import type { LineWriter } from '../io/log.ts'
import type { Metrics, ReadSeries } from '../io/metrics.ts'
import type { FeedState } from '../sources/held-list.ts'
import type { KnownTokens } from '../sources/known-tokens.ts'
import type { Running } from './configuration.ts'
import type { DataPlane } from './data-plane.ts'
import type { IssuerSources } from './issuer-sources.ts'
import { shortHash } from './short-hash.ts'
import type { Workers } from './workers.ts'

/** What the probes look at. */
export type ProbeDeps = {
  readonly running: () => Running
  readonly isDraining: () => boolean
  /** Why the configuration in its file is not the one in use; undefined where it is. */
  readonly refusal: () => string | undefined
  /** Sections of the configuration that only a restart brings into force. */
  readonly restart: () => readonly string[]
  /** Undefined where this process serves by itself, or serves not yet. */
  readonly workers: () => Pick<Workers, 'checks' | 'loaded' | 'notes' | 'status'> | undefined
}

/** The answers of the health listener and of `GET /status`. */
export type Probes = {
  readonly started: () => readonly Check[]
  readonly ready: () => readonly Check[]
  readonly notes: () => readonly Check[]
  readonly isReady: () => boolean
  readonly status: () => unknown
}

/** Makes the answers of the health listener and of `GET /status`. */
export function createProbes({ running, isDraining, refusal, restart, workers }: ProbeDeps): Probes {
  // Once ready, an issuer's outage does not make the pod unready: others would fall the same way.
  let wasReady = false
  return { started, ready, notes, isReady, status }

  function started(): readonly Check[] {
    return [{ name: 'configuration', ok: true, said: 'loaded' }, ...(workers()?.checks() ?? [])]
  }

  function ready(): readonly Check[] {
    const { sources: all, configuration } = running()
    const sources = [
      ...all.flatMap((each) => {
        const { keys, list } = readiness(each, configuration.options.blacklist)
        return list === undefined ? [keys] : [keys, list]
      }),
      ...(workers()?.loaded() ?? []),
    ]
    wasReady ||= sources.every(({ ok }) => ok)
    const checks = wasReady
      ? sources.map((check): Check => ({ mark: check.ok ? '+' : '!', ...check, ok: true }))
      : sources
    const draining = isDraining()
    return [...checks, { name: 'drain', ok: !draining, said: draining ? 'draining' : 'not draining' }]
  }

  function isReady(): boolean {
    return [...started(), ...ready()].every(({ ok }) => ok)
  }

  function notes(): readonly Check[] {
    const waiting = restart()
    const inUse = waiting.length === 0 ? 'in use' : `in use, but ${waiting.join(', ')} only after a restart`
    const wrong = refusal()
    return [
      { name: 'configuration file', ok: wrong === undefined && waiting.length === 0, said: wrong ?? inUse },
      ...(workers()?.notes() ?? []),
    ]
  }

  function status(): unknown {
    const { configuration, sources } = running()
    return {
      configuration: {
        hash: configuration.hash,
        rules: configuration.options.rules.length,
        refused: refusal() ?? null,
        needs_restart: restart(),
      },
      draining: isDraining(),
      workers: workers()?.status(),
      issuers: sources.map(({ trusted, jwks, introspection, blacklist }) => ({
        issuer: trusted.issuer,
        keys: jwks.state(),
        // With workers each of them asks for itself, and this process nobody.
        introspection: workers() === undefined ? (introspection?.state() ?? null) : undefined,
        blacklist: blacklist?.state() ?? null,
      })),
    }
  }
}

/** Whether an issuer's keys and list were loaded once, as far as it is required. */
export function hasLoaded({ options, jwks, blacklist }: IssuerSources): boolean {
  return !options.required || (jwks.state().loaded && blacklist?.state().loaded !== false)
}

/** How an issuer's keys and list are: whether they were loaded, as far as it is required, and what becomes of its tokens. */
export function readiness(
  { trusted: { issuer }, options: { required, jwks: keyOptions }, jwks, blacklist }: IssuerSources,
  { max_staleness, on_stale }: GatewayOptions['blacklist'],
): { readonly keys: Check; readonly list: Check | undefined } {
  const set = jwks.state()
  const limit = `jwks.stale_max ${formatSpan(keyOptions.stale_max)}`
  const keysSaid = sourceCheck(set, `${set.keys} keys`, {
    stale: `last good fetch ${timeOf(set.lastSuccessWallMs)} (${limit})`,
    outcome: 'its JWTs get 503 keys_unavailable',
    mark: '-',
  })
  const keys = { name: `keys of ${issuer}`, ok: set.loaded || !required, ...keysSaid }
  const feed = blacklist?.state()
  if (feed === undefined) return { keys, list: undefined }
  const ago = formatSpan(Math.floor((feed.ageMs ?? 0) / 1000) * 1000)
  const listSaid = sourceCheck(feed, `${feed.entries} entries`, {
    stale: `last good poll ${timeOf(feed.lastSuccessWallMs)} (${ago} ago, max_staleness ${formatSpan(max_staleness)})`,
    // Without a first list there is nothing that `on_stale` could replace.
    ...staleLists[feed.loaded ? on_stale : 'deny'],
  })
  return { keys, list: { name: `blacklist of ${issuer}`, ok: feed.loaded || !required, ...listSaid } }
}

const staleLists = {
  deny: { mark: '-', outcome: 'its tokens get 503 blacklist_stale' },
  introspect: { mark: '!', outcome: 'its tokens are introspected (on_stale)' },
  allow: { mark: '!', outcome: 'what was revoked since is let in (on_stale)' },
} as const

function sourceCheck(
  { loaded, stale, failure }: Pick<FeedState, 'loaded' | 'stale' | 'failure'>,
  amount: string,
  unusable: { readonly stale: string; readonly outcome: string; readonly mark: '!' | '-' },
): Pick<Check, 'said' | 'mark'> {
  const why = failure === undefined ? '' : `; ${failure}`
  if (loaded && !stale) return { mark: failure === undefined ? '+' : '!', said: `${amount}${why}` }
  const held = loaded ? `too old, ${unusable.stale}` : 'not loaded yet'
  return { mark: unusable.mark, said: `${held}: ${unusable.outcome}${why}` }
}

function timeOf(wallMs = 0): string {
  return `${new Date(wallMs).toISOString().slice(0, 19)}Z`
}

/** What the gauges of a process that serves requests read, or of the primary of such. */
export type DataPlaneGaugeDeps = {
  readonly running: () => Running
  readonly known: Pick<KnownTokens<Principal>, 'entries'>
  readonly plane: Pick<DataPlane, 'inFlight' | 'connections' | 'dropped'>
  readonly writer: Pick<LineWriter, 'dropped'>
}

/** Registers what every process reads for itself when Prometheus asks: of all of them it is one. */
export function registerDataPlane(metrics: Metrics, { running, known, plane, writer }: DataPlaneGaugeDeps): void {
  const listener = ['listener']
  metrics.gauge('requests_in_flight', 'Requests being served.', listener, () => [[['proxy'], plane.inFlight()]], 'sum')
  metrics.gauge('connections', 'Open connections.', listener, () => [[['proxy'], plane.connections()]], 'sum')
  const drops = 'Connections closed before a request, by cause.'
  metrics.counterOf('connections_dropped_total', drops, [...listener, 'cause'], () =>
    [...plane.dropped()].map(([cause, count]) => [['proxy', cause], count] as const),
  )
  metrics.gauge('token_cache_entries', 'Tokens whose facts are kept.', [], () => [[[], known.entries()]], 'sum')
  const circuits = { closed: 0, half_open: 1, open: 2 } as const
  metrics.gauge(
    'circuit_state',
    '0 closed, 1 half open, 2 open.',
    ['target'],
    perIssuer(running, ({ introspection }) => introspection && circuits[introspection.state().circuit]),
    'max',
  )
  metrics.counterOf('log_dropped_total', 'Log lines lost because nobody read them.', ['stream'], () => [
    [['stdout'], writer.dropped()],
  ])
}

/** What the gauges of the process that fetches read. */
export type GaugeDeps = {
  readonly running: () => Running
  readonly build: { readonly version: string; readonly revision: string; readonly nodeVersion: string }
}

/** Registers what is read when Prometheus asks, of the one process that fetches. */
export function registerGauges(metrics: Metrics, { running, build }: GaugeDeps): void {
  metrics.gauge(
    'jwks_keys',
    'Usable keys held.',
    ['issuer'],
    perIssuer(running, ({ jwks }) => jwks.state().keys),
  )
  metrics.gauge(
    'jwks_last_success_timestamp_seconds',
    'When the key set was last fetched.',
    ['issuer'],
    perIssuer(running, ({ jwks }) => (jwks.state().lastSuccessWallMs ?? 0) / 1000),
  )
  const feedGauge = (name: string, help: string, read: (state: FeedState) => number) =>
    metrics.gauge(
      name,
      help,
      ['issuer'],
      perIssuer(running, ({ blacklist }) => blacklist && read(blacklist.state())),
    )
  feedGauge('blacklist_entries', 'Entries held.', (state) => state.entries)
  feedGauge(
    'blacklist_last_success_timestamp_seconds',
    'When the last good poll began.',
    (state) => (state.lastSuccessWallMs ?? 0) / 1000,
  )
  feedGauge('revocation_lag_seconds', 'Longest delay of the revocations that came last.', (state) => state.lagSeconds)
  feedGauge('blacklist_clock_skew_seconds', "Our wall clock less the issuer's.", (state) => state.skewSeconds)
  metrics.gauge('rules', 'Rules in use.', [], () => [[[], running().configuration.options.rules.length]])
  metrics.gauge('config_info', 'The configuration in use, by its hash.', ['hash'], () => [
    [[shortHash(running().configuration.hash)], 1],
  ])
  const { version, revision, nodeVersion } = build
  metrics.gauge('build_info', 'This build.', ['version', 'revision', 'node_version'], () => [
    [[version, revision, nodeVersion], 1],
  ])
}

function perIssuer(running: () => Running, read: (sources: IssuerSources) => number | undefined): ReadSeries {
  return () =>
    running().sources.flatMap((each) => {
      const value = read(each)
      return value === undefined ? [] : [[[each.trusted.issuer], value] as const]
    })
}
