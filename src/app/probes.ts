// What health and people are told about the state of things; Prometheus: gauges.ts.
import type { Check } from '../admin/health.ts'
import type { SecretSource } from '../base/options.ts'
import { formatSpan } from '../base/time.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { DenyReason } from '../decision/decision.ts'
import type { FeedState } from '../sources/held-list.ts'
import type { Introspection } from '../sources/introspection.ts'
import { issuerQueue } from '../sources/issuer-queue.ts'
import type { Jwks } from '../sources/jwks.ts'
import type { Running } from './configuration.ts'
import type { IssuerSources } from './issuer-sources.ts'
import { isFarOff } from './issuer-sources.ts'
import type { Secrets } from './secrets.ts'
import type { Workers } from './workers/workers.ts'

/** What the probes look at. */
export type ProbeDeps = {
  readonly running: () => Running
  readonly isDraining: () => boolean
  /** Why the configuration in its file is not the one in use; undefined where it is. */
  readonly refusal: () => string | undefined
  /** Sections of the configuration that only a restart brings into force. */
  readonly restart: () => readonly string[]
  /** Why some of these secrets cannot be read. */
  readonly unreadable: Secrets['unreadable']
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

// What failed longer ago says little of the next question.
const lateMs = 60_000

/** Makes the answers of the health listener and of `GET /status`. */
export function createProbes({ running, isDraining, refusal, restart, unreadable, workers }: ProbeDeps): Probes {
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
      ...secretsNote(),
      ...running().sources.flatMap(clockNote),
      // With workers each of them asks for itself, and this process nobody.
      ...(workers() === undefined ? running().sources.flatMap(introspectionNote) : []),
    ]
  }

  function secretsNote(): readonly Check[] {
    const sources = running().sources.flatMap(({ options: { introspection, blacklist } }) =>
      [introspection?.client_secret, blacklist?.client_secret].filter((source) => source !== undefined),
    )
    if (sources.length === 0) return []
    const problems = unreadable(sources)
    if (problems.length === 0) return [{ name: 'secrets', ok: true, said: 'readable' }]
    const why = problems.map(({ failure }) => failure).join('; ')
    if (!problems.every(({ isHeld }) => isHeld)) {
      const outcome = 'none was read before, and what the issuer has to be asked with it is 503'
      return [{ name: 'secrets', ok: false, mark: '-', said: `a restart would fail, ${outcome}: ${why}` }]
    }
    const reasons = workers() === undefined ? [] : missedByWorkers()
    const held =
      reasons.length === 0
        ? 'what was read before is used'
        : `tokens that a worker started anew asks about get 503 ${reasons.join(' or ')}`
    return [{ name: 'secrets', ok: false, said: `a restart would fail, and ${held}: ${why}` }]
  }

  /** Each worker reads for itself, and is handed none. What it does with them is ask about tokens: lists are polled here. */
  function missedByWorkers(): readonly DenyReason[] {
    const all = running().sources
    const isMissed = (source: SecretSource | undefined) => source !== undefined && unreadable([source]).length > 0
    const asked = all.some(({ options }) => isMissed(options.introspection?.client_secret))
    const lookedUp = all.some(
      ({ options: { introspection, blacklist: feed }, blacklist }) =>
        blacklist?.state().lookups === true && isMissed(feed?.client_secret ?? introspection?.client_secret),
    )
    return [...(asked ? ['introspection_unavailable' as const] : []), ...(lookedUp ? ['blacklist_stale' as const] : [])]
  }

  /** Known where there is a list to poll. */
  function clockNote({ options, blacklist }: IssuerSources): readonly Check[] {
    const { loaded, skewSeconds = 0 } = blacklist?.state() ?? {}
    if (loaded !== true) return []
    const skew = `${Math.abs(skewSeconds).toFixed(1)} s ${skewSeconds < 0 ? 'behind' : 'ahead'}`
    const isFar = isFarOff(skewSeconds, options, running().configuration.options.blacklist)
    const said = isFar ? `${skew}: times in its tokens are misjudged` : skew
    return [{ name: `clock beside ${options.issuer}`, ok: !isFar, said }]
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
  const keys = { name: `keys of ${issuer}`, ok: set.loaded || !required, ...keysSaid, ...suppressedSaid(set, keysSaid) }
  const feed = blacklist?.state()
  if (feed === undefined) return { keys, list: undefined }
  const ago = formatSpan(Math.floor((feed.ageMs ?? 0) / 1000) * 1000)
  const listSaid = sourceCheck(feed, `${feed.entries} entries`, {
    stale: `last good poll ${timeOf(feed.lastSuccessWallMs)} (${ago} ago, max_staleness ${formatSpan(max_staleness)})`,
    // Without a first list there is nothing that `on_stale` could replace.
    ...staleLists[feed.loaded ? on_stale : 'deny'],
  })
  const name = `blacklist of ${issuer}`
  const ok = feed.loaded || !required
  // Whatever `on_stale` says: that is of a list, and not of a look-up.
  if (feed.loaded && !feed.stale && feed.lookupFailure !== undefined) {
    const said = `${listSaid.said}; tokens that it has to be asked about get 503 blacklist_stale; ${feed.lookupFailure}`
    return { keys, list: { name, ok, mark: '-', said } }
  }
  return { keys, list: { name, ok, ...listSaid } }
}

/** Whoever invents a `kid` has a fetch forbidden to a key that is new. */
function suppressedSaid(
  { loaded, stale, suppressed }: ReturnType<Jwks['state']>,
  { said }: Pick<Check, 'said'>,
): Pick<Check, 'said' | 'mark'> | undefined {
  if (!suppressed || !loaded || stale) return undefined
  return {
    mark: '!',
    said: `${said}; tokens of a key that may be newer get 503 keys_unavailable until jwks.cool_down is over`,
  }
}

const staleLists = {
  deny: { mark: '-', outcome: 'its tokens get 503 blacklist_stale' },
  introspect: { mark: '!', outcome: 'its tokens are introspected (on_stale)' },
  allow: { mark: '!', outcome: 'what was revoked since is let in (on_stale)' },
} as const

/** What becomes of tokens that an issuer is asked about; none where it is asked about none. */
function introspectionNote({ options: { issuer }, introspection }: IssuerSources): readonly Check[] {
  if (introspection === undefined) return []
  const state = introspection.state()
  return [{ name: `introspection of ${issuer}`, ok: false, ...(askedCheck(state) ?? overloadCheck(state) ?? answered) }]
}

type Asked = ReturnType<Introspection['state']>

const answered = { ok: true, said: 'no question has failed since the last answer' } as const

/** Undefined where the last question was answered. */
function askedCheck({ circuit, failure, result, failedAgoMs = 0 }: Asked): Pick<Check, 'said' | 'mark'> | undefined {
  if (failure === undefined) return undefined
  if (circuit === 'open') {
    const outcome = 'tokens it is asked about get 503 introspection_unavailable'
    return { mark: '-', said: `circuit open: ${outcome}; ${failure}` }
  }
  // Nobody is refused before somebody has tried: the next question may well be answered.
  if (circuit === 'half_open') {
    return { mark: '!', said: `circuit half open: one question tries it, and others meanwhile get 503; ${failure}` }
  }
  const isLate = failedAgoMs < lateMs
  const ago = isLate ? '' : ` ${formatSpan(Math.floor(failedAgoMs / 1000) * 1000)} ago`
  return {
    mark: isLate ? '-' : '!',
    said: `the last question failed${ago}, and its token got 503 introspection_${result}; ${failure}`,
  }
}

/** Undefined where there was room for all questions. */
function overloadCheck({ overload, inFlight }: Asked): Pick<Check, 'said' | 'mark'> | undefined {
  if (overload === undefined) return undefined
  if (overload === 'lately') {
    const said = `tokens got 503 overloaded within the last minute, as too many were asked about; ${inFlight} are now`
    return { mark: '!', said }
  }
  const wait = formatSpan(issuerQueue.maxWaitMs)
  const said = `${inFlight} questions under way, as many as it gets at a time: others wait, and get 503 overloaded after ${wait}`
  return { mark: '-', said }
}

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
