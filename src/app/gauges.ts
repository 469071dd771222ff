// What Prometheus reads at a scrape, of what others hold; what is counted as it happens: metrics.ts, and beside what it
// is about certificates.ts.
import type { Principal } from '../decision/decision.ts'
import type { LineWriter } from '../io/log.ts'
import type { Metrics, ReadSeries } from '../io/metrics.ts'
import type { FeedState } from '../sources/held-list.ts'
import type { KnownTokens } from '../sources/known-tokens.ts'
import type { Running } from './configuration.ts'
import { shortHash } from './configuration.ts'
import type { DataPlane } from './data-plane.ts'
import type { IssuerSources } from './issuer-sources.ts'

/** What the gauges of a process that serves requests read, or of the primary of such. */
export type DataPlaneGaugeDeps = {
  readonly running: () => Running
  readonly known: Pick<KnownTokens<Principal>, 'entries'>
  readonly plane: Pick<DataPlane, 'inFlight' | 'connections' | 'dropped'>
  /** Connections that had to make room, by listener, of the process that has more than the front door. */
  readonly crowded?: Readonly<Record<string, number>>
  readonly writer: Pick<LineWriter, 'dropped'>
}

/** Registers what every process reads for itself when Prometheus asks: of all of them it is one. */
export function registerDataPlane(metrics: Metrics, deps: DataPlaneGaugeDeps): void {
  const { running, known, plane, crowded = {}, writer } = deps
  const listener = ['listener']
  metrics.gauge('requests_in_flight', 'Requests being served.', listener, () => [[['proxy'], plane.inFlight()]], 'sum')
  metrics.gauge('connections', 'Open connections.', listener, () => [[['proxy'], plane.connections()]], 'sum')
  const drops = 'Connections closed before a request, by cause.'
  metrics.counterOf('connections_dropped_total', drops, [...listener, 'cause'], () => [
    ...[...plane.dropped()].map(([cause, count]) => [['proxy', cause], count] as const),
    ...Object.entries(crowded).map(([each, count]) => [[each, 'crowded'], count] as const),
  ])
  metrics.gauge('token_cache_entries', 'Tokens whose facts are kept.', [], () => [[[], known.entries()]], 'sum')
  const circuits = { closed: 0, half_open: 1, open: 2 } as const
  metrics.gauge(
    'circuit_state',
    'Whether an issuer is asked about tokens: 0 it is (closed), 1 the next question tries it (half open), 2 it is left alone (open).',
    ['target'],
    perIssuer(running, ({ introspection }) => introspection && circuits[introspection.state().circuit]),
    'max',
  )
  metrics.gauge(
    'blacklist_lookup_failing',
    '1 where a token could not be asked for since the last good poll.',
    ['issuer'],
    perIssuer(running, ({ blacklist }) => blacklist && Number(blacklist.state().lookupFailure !== undefined)),
    'max',
  )
  metrics.counterOf(
    'log_dropped_total',
    'Log lines lost: nobody read them in time, or they could not be written, as on a full disk.',
    ['stream'],
    () => [[['stdout'], writer.dropped()]],
  )
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

/** Registers what the primary tells of its workers; returns what counts one that was started anew. */
export function registerWorkers(metrics: Metrics, serving: () => number): () => void {
  const restarts = metrics.counter('worker_restarts_total', 'Workers that ended and were started anew.', [])
  const slot = restarts.slot()
  metrics.gauge('workers', 'Workers that serve.', [], () => [[[], serving()]])
  return () => restarts.add(slot)
}

function perIssuer(running: () => Running, read: (sources: IssuerSources) => number | undefined): ReadSeries {
  return () =>
    running().sources.flatMap((each) => {
      const value = read(each)
      return value === undefined ? [] : [[[each.trusted.issuer], value] as const]
    })
}
