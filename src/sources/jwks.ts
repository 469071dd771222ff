import * as z from 'zod'
import { messageOf } from '../base/errors.ts'
import { JsonRefused } from '../base/json.ts'
import { durationBetween } from '../base/options.ts'
import type { Clock } from '../base/time.ts'
import type { HttpClient } from '../io/http-client.ts'
import type { Log } from '../io/log.ts'
import type { KeyAnswer, KeySet, KeyWanted, VerificationKey } from '../spec/jwk.ts'
import { KeySetRefused } from '../spec/jwk.ts'
import type { HeldKeysState, KeysSnapshot } from './held-keys.ts'
import { askAgain, createHeldKeys, maxKeySetBytes, unavailable } from './held-keys.ts'
import { isSameFailure, SourceFailed } from './source-failed.ts'
import { createStaleAlarm } from './stale-alarm.ts'

/** The `jwks:` section of one issuer. */
export const jwksOptions = z.strictObject({
  refresh: durationBetween('10ms', '1d').prefault('5m').describe('How often the set is fetched, in the background.'),
  cool_down: durationBetween('0s', '1d')
    .prefault('30s')
    .describe('Least time between two fetches that unknown keys ask for.'),
  stale_max: durationBetween('1ms', '30d')
    .prefault('1h')
    .describe('How long a set is used when it cannot be fetched, at least refresh; then 503.'),
  file: z.string().min(1).optional().describe('A file with the set instead of an address; re-read on change.'),
})

/** How one issuer's keys are kept; durations are milliseconds. */
export type JwksOptions = z.output<typeof jwksOptions> & { readonly issuer: string; readonly leeway: number }

/** Where the document comes from: an address, found when it is needed, or a file. */
export type JwksOrigin =
  | {
      readonly kind: 'url'
      readonly url: () => Promise<string>
      /**
       * Told when the address may be an old one: no keys came from it, or not the one that is looked for. Resolves once it
       * was looked up anew, or could not be. Never rejects.
       */
      readonly doubt: () => Promise<void>
      readonly send: HttpClient['send']
    }
  | { readonly kind: 'file'; readonly read: () => Buffer }

/** What one key set needs from outside. */
export type JwksDeps = {
  readonly clock: Clock
  /** 0 to 1, for jitter. */
  readonly random: () => number
  readonly origin: JwksOrigin
  readonly log: Pick<Log, 'info' | 'warn'>
  readonly count: (result: 'success' | 'failure' | 'suppressed') => void
}

/** One issuer's JSON Web Key Set (RFC 7517 §5), fetched in the background and, for an unknown key, at most once per cool-down. */
export type Jwks = {
  /** Fetches now, and from then on. */
  readonly start: () => void
  readonly key: (wanted: KeyWanted) => KeyAnswer | Promise<KeyAnswer>
  /** Whether a key is still in the set, and the set is not too old. */
  readonly holds: (key: VerificationKey) => boolean
  /** Fetches outside the schedule: the file changed. Never rejects. */
  readonly refresh: () => Promise<void>
  readonly state: () => HeldKeysState & {
    readonly failure: string | undefined
    /** Whether the cool-down has forbidden a fetch for an unknown key, and does so still. */
    readonly suppressed: boolean
  }
  /** Until when (monotonic) a key that is not found causes no fetch. */
  readonly quietUntilMs: () => number
  /** The set that is held: for workers, and for who takes this one's place at a reload and asks at the same place. */
  readonly snapshot: () => KeysSnapshot | undefined
  /** Has somebody told whenever a fetch brought or confirmed the set. */
  readonly watch: (fetched: () => void) => void
  readonly close: () => void
}

/** The ETag of what is held, and of which address. */
type Validator = { readonly url: string; readonly etag: string }

type Fetched = { readonly from: string; readonly document: Buffer; readonly validator: Validator | undefined }

const limits = { maxBodyBytes: maxKeySetBytes, deadlineMs: 2000 } as const
const retryMs = 1000
const maxRetryMs = 30_000

/**
 * Makes the keys of one issuer; nothing is fetched before `start`.
 *
 * @param failure Why the last fetch of who had this place before failed; the end of that is told.
 */
export function createJwks(options: JwksOptions, deps: JwksDeps, previous?: KeysSnapshot, failure?: string): Jwks {
  const { clock, random, origin, log, count } = deps
  const keys = createHeldKeys(options, deps, previous)
  const alarm = createStaleAlarm({ clock, usableUntilMs, tell: tellStale })
  let fetched = () => {}
  let validator: Validator | undefined
  let askedUrl: string | undefined
  let pending: Promise<void> | undefined
  let lastDemandMs = Number.NEGATIVE_INFINITY
  let suppressedMs = Number.NEGATIVE_INFINITY
  let failures = 0
  let nextDueMs = 0
  let timer: NodeJS.Timeout | undefined
  let closed = false
  let isLooking = false
  const again = {
    clock,
    find: findAfresh,
    pending: () => pending,
    begin,
    quietUntilMs: coolUntilMs,
    suppressed,
  }
  return {
    start() {
      alarm.set()
      schedule()
    },
    key: (wanted) => find(wanted) ?? askAgain(wanted, again),
    holds: keys.holds,
    refresh: fetchOnce,
    state,
    quietUntilMs: () => (keys.isUsable() ? coolUntilMs() : nextDueMs),
    snapshot: keys.held,
    watch(listener) {
      fetched = listener
    },
    close,
  }

  function state(): ReturnType<Jwks['state']> {
    const suppressed = clock.monotonicMs() < coolUntilMs() && suppressedMs >= lastDemandMs
    return { ...keys.state(), failure, suppressed }
  }

  function suppressed(): void {
    suppressedMs = clock.monotonicMs()
    count('suppressed')
  }

  /** What the set we hold says; undefined when a fetch may tell. */
  function find(wanted: KeyWanted): KeyAnswer | undefined {
    if (!keys.isUsable() && pending === undefined) return unavailable(nextDueMs, deps)
    return keys.find(wanted)
  }

  /** The same once the issuer was asked: it may publish its keys elsewhere by now, and this set be one it has left behind. */
  function findAfresh(wanted: KeyWanted): KeyAnswer | undefined {
    const answer = find(wanted)
    if (answer?.kind === 'unknown' && failure === undefined) lookElsewhere().catch(() => {})
    return answer
  }

  function begin(): Promise<void> {
    // Stamped by attempt: an endpoint that fails must not be asked by every token that comes along.
    lastDemandMs = clock.monotonicMs()
    return fetchOnce()
  }

  function usableUntilMs(): number | undefined {
    const held = keys.held()
    return held && held.startedMs + options.stale_max
  }

  /** Every JWT of the issuer is 503 now, which the one line of the first failure did not say. */
  function tellStale(): void {
    const held = keys.held()
    const age = held === undefined ? {} : { age_ms: Math.round(clock.monotonicMs() - held.startedMs) }
    const why = failure === undefined ? {} : { error: failure }
    log.warn('jwks_stale', { issuer: options.issuer, held: held !== undefined, ...age, ...why })
  }

  function coolUntilMs(): number {
    return lastDemandMs + options.cool_down
  }

  function schedule(): void {
    clearTimeout(timer)
    if (closed) return
    void fetchOnce().then(() => {
      if (closed) return
      // Jitter only shortens: many gateways started at once do not stay in step, and no set gets older than asked for.
      const dueMs =
        (failures === 0
          ? options.refresh
          : Math.min(retryMs * 2 ** Math.min(failures - 1, 10), maxRetryMs, options.refresh)) *
        (1 - random() / 10)
      nextDueMs = clock.monotonicMs() + dueMs
      timer = setTimeout(schedule, dueMs).unref()
    })
  }

  function fetchOnce(): Promise<void> {
    pending ??= load().finally(() => {
      pending = undefined
    })
    return pending
  }

  /** Never rejects: what goes wrong leaves the good set in place, to age. */
  async function load(): Promise<void> {
    const startedMs = clock.monotonicMs()
    const startedWallMs = clock.wallMs()
    try {
      const changed = await fetchDocument()
      if (changed === undefined) keys.confirm(startedMs, startedWallMs)
      else {
        for (const { kid, why } of take(changed, startedMs, startedWallMs))
          log.warn('jwks_key_dropped', { issuer: options.issuer, kid: kid ?? '', why })
        // Only now: the validator of a document we refused would have it confirmed as the one we hold.
        validator = changed.validator
      }
      if (alarm.set() || failure !== undefined) log.info('jwks_recovered', { issuer: options.issuer })
      failures = 0
      failure = undefined
      count('success')
    } catch (error) {
      // Called off by us: that says nothing of the issuer.
      if (closed) return
      const said = messageOf(error)
      if (!isSameFailure(said, failure))
        log.warn('jwks_failed', { issuer: options.issuer, error: said, held: keys.held() !== undefined })
      failures += 1
      failure = said
      count('failure')
      lookElsewhere().catch(() => {})
      return
    }
    fetched()
  }

  /**
   * Keys that are published at another address by now are fetched from there at once, once, whatever the cool-down says;
   * what comes of that raises no doubt of its own: with two addresses in turn that would have no end.
   */
  async function lookElsewhere(): Promise<void> {
    if (origin.kind === 'file' || isLooking) return
    isLooking = true
    try {
      const looked = origin.doubt()
      // Somebody else's doubt may have found it already; what is held may have no address, which that is to mend.
      await followTo(origin.url).catch(() => {})
      await looked
      await followTo(origin.url)
    } finally {
      isLooking = false
    }
  }

  async function followTo(url: () => Promise<string>): Promise<void> {
    // Again where a fetch from the old address was under way.
    while (!closed && (await url()) !== askedUrl) await fetchOnce()
  }

  function take({ document, from }: Fetched, startedMs: number, startedWallMs: number): KeySet['dropped'] {
    try {
      return keys.take(document, startedMs, startedWallMs)
    } catch (cause) {
      if (!(cause instanceof JsonRefused || cause instanceof KeySetRefused)) throw cause
      throw new SourceFailed(`Cannot use keys from ${from}: ${cause.message}`, { cause })
    }
  }

  /** The document; undefined when it is the one we hold. */
  async function fetchDocument(): Promise<Fetched | undefined> {
    if (origin.kind === 'file') return { from: 'the file', document: origin.read(), validator: undefined }
    const url = await origin.url()
    askedUrl = url
    // Of this address: another document, elsewhere, may have the same ETag (RFC 9110 §8.8.3).
    const held = keys.held() !== undefined && validator?.url === url ? validator.etag : undefined
    const condition: Record<string, string> = held === undefined ? {} : { 'if-none-match': held }
    // A cache on the way is to ask the issuer: a key may be newer than what it holds.
    const headers = { accept: 'application/jwk-set+json, application/json', 'cache-control': 'no-cache', ...condition }
    const reply = await origin.send({ method: 'GET', url, headers }, limits)
    if (reply.status === 304 && held !== undefined) return undefined
    const { from, status } = reply
    if (status !== 200) throw new SourceFailed(`Cannot load keys from ${from}: status is ${status}, wanted 200`)
    const etag = reply.header('etag')
    return { from, document: reply.body, validator: etag === undefined ? undefined : { url, etag } }
  }

  function close(): void {
    closed = true
    clearTimeout(timer)
    alarm.close()
  }
}
