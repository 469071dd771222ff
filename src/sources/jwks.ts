import * as z from 'zod'
import type { Json } from '../base/json.ts'
import { parseJsonObject } from '../base/json.ts'
import { duration } from '../base/options.ts'
import type { Clock } from '../base/time.ts'
import type { HttpClient } from '../io/http-client.ts'
import type { KeySet, VerificationKey } from '../spec/jwk.ts'
import { parseKeySet } from '../spec/jwk.ts'
import type { SignatureAlgorithm } from '../spec/jws.ts'
import { SourceFailed } from './source-failed.ts'

/** How one issuer's keys are kept. */
export const jwksOptions = z.strictObject({
  refresh: duration.prefault('5m').describe('How often the set is fetched, in the background.'),
  cool_down: duration.prefault('30s').describe('Least time between two fetches that unknown keys ask for.'),
  stale_max: duration.prefault('1h').describe('How long a set is used when it cannot be fetched; then 503.'),
  file: z.string().min(1).optional().describe('A file with the set instead of an address; re-read on change.'),
})

/** How one key set is kept; durations are milliseconds. */
export type JwksOptions = {
  readonly issuer: string
  readonly refreshMs: number
  readonly coolDownMs: number
  readonly staleMaxMs: number
  readonly leewayMs: number
}

/** Where the document comes from: an address, found when it is needed, or a file. */
export type JwksOrigin =
  | {
      readonly kind: 'url'
      readonly url: () => Promise<string>
      readonly doubt: () => void
      readonly send: HttpClient['send']
    }
  | { readonly kind: 'file'; readonly read: () => Buffer }

/** What one key set needs from outside. */
export type JwksDeps = {
  readonly clock: Clock
  /** 0 to 1, for jitter. */
  readonly random: () => number
  readonly origin: JwksOrigin
  readonly log: (event: string, fields: Readonly<Record<string, string | number | boolean>>) => void
  readonly count: (result: 'success' | 'failure' | 'suppressed') => void
}

/** The key a token needs; see `KeyWanted` of the decision. */
type Wanted = {
  readonly kid: string | undefined
  readonly algorithm: SignatureAlgorithm
  readonly iat: Json | undefined
  readonly arrivedMs: number
  readonly verifies: (key: VerificationKey) => boolean
}
type Answer =
  | { readonly kind: 'key'; readonly key: VerificationKey }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'unavailable'; readonly retryAfterS: number }

/** One issuer's JSON Web Key Set (RFC 7517 §5), fetched in the background and, for an unknown key, at most once per cool-down. */
export type Jwks = {
  /** Fetches now, and from then on. */
  readonly start: () => void
  readonly key: (wanted: Wanted) => Answer | Promise<Answer>
  /** Whether a key is still in the set, and the set is not too old. */
  readonly holds: (key: VerificationKey) => boolean
  /** Fetches outside the schedule: the file changed. Never rejects. */
  readonly refresh: () => Promise<void>
  readonly state: () => {
    readonly loaded: boolean
    readonly keys: number
    readonly stale: boolean
    readonly lastSuccessWallMs: number | undefined
    readonly failure: string | undefined
  }
  /** The set that is held, for who takes this one's place at a reload and asks at the same place. */
  readonly handOver: () => JwksLegacy | undefined
  readonly close: () => void
}

/** A fetched set, with the times its fetch began. */
export type JwksLegacy = { readonly set: KeySet; readonly startedMs: number; readonly startedWallMs: number }

const limits = { maxBodyBytes: 262_144, deadlineMs: 2000 } as const
// 100 keys, with all their members and certificate chains.
const jsonLimits = { maxMembers: 4096 } as const
// security.md, "Settled": what one token without kid may cost.
const maxTried = 16
const retryMs = 1000
const maxRetryMs = 30_000

type Held = JwksLegacy

/** Makes the keys of one issuer; nothing is fetched before `start`. */
export function createJwks(options: JwksOptions, deps: JwksDeps, legacy?: JwksLegacy): Jwks {
  const { clock, random, origin, log, count } = deps
  let held: Held | undefined = legacy
  let etag: string | undefined
  let pending: Promise<void> | undefined
  let lastDemandMs = Number.NEGATIVE_INFINITY
  let failures = 0
  let failure: string | undefined
  let nextDueMs = 0
  let timer: NodeJS.Timeout | undefined
  let closed = false
  return { start: schedule, key, holds, refresh: fetchOnce, state, handOver: () => held, close }

  function key(wanted: Wanted): Answer | Promise<Answer> {
    return find(wanted) ?? lookAgain(wanted)
  }

  /** What the set we hold says; undefined when it cannot tell. */
  function find(wanted: Wanted): Answer | undefined {
    if (held === undefined) return pending === undefined ? unavailable(nextDueMs) : undefined
    if (isStale(held)) return pending === undefined ? unavailable(nextDueMs) : undefined
    const { set } = held
    const { kid } = wanted
    const key = kid === undefined ? findUnnamed(set, wanted) : set.byKid.get(kid)
    if (key !== undefined) return { kind: 'key', key }
    // Dropped by us: a fetch would bring the same key, and drop it again.
    if (kid !== undefined && set.dropped.some((dropped) => dropped.kid === kid)) return { kind: 'unknown' }
    return isOlderThanSet(wanted, held) ? { kind: 'unknown' } : undefined
  }

  /** Asks the issuer once more about a key we do not know, as far as the cool-down allows (product.md §1). */
  async function lookAgain(wanted: Wanted): Promise<Answer> {
    for (let attempted = false; ; ) {
      if (pending === undefined) {
        const coolUntilMs = lastDemandMs + options.coolDownMs
        // One attempt of its own: with no cool-down, an endpoint that fails would be asked for as long as it does.
        if (attempted) return unavailable(coolUntilMs)
        if (clock.monotonicMs() < coolUntilMs) {
          count('suppressed')
          return unavailable(coolUntilMs)
        }
        // Stamped by attempt: an endpoint that fails must not be asked by every token that comes along.
        lastDemandMs = clock.monotonicMs()
        attempted = true
      }
      await fetchOnce()
      const answer = find(wanted)
      if (answer !== undefined) return answer
    }
  }

  /** A key that were newer than our set would have signed later than the set was fetched, or the request come later. */
  function isOlderThanSet({ iat, arrivedMs }: Wanted, { startedMs, startedWallMs }: Held): boolean {
    if (startedMs >= arrivedMs) return true
    // By the clock of now, too: if it was wrong at the fetch and is right again, the token's time is of the right one.
    const fetchedMs = Math.min(startedWallMs, clock.wallMs() - (clock.monotonicMs() - startedMs))
    // 1 s: `iat` is in whole seconds.
    return typeof iat === 'number' && fetchedMs > iat * 1000 + 1000 + options.leewayMs
  }

  function findUnnamed(set: KeySet, { algorithm, verifies }: Wanted): VerificationKey | undefined {
    const fitting = [...set.withoutKid, ...set.byKid.values()].filter(({ algorithms }) =>
      algorithms.includes(algorithm),
    )
    return fitting.slice(0, maxTried).find(verifies)
  }

  function unavailable(untilMs: number): Answer {
    return { kind: 'unavailable', retryAfterS: Math.max(1, Math.ceil((untilMs - clock.monotonicMs()) / 1000)) }
  }

  function isStale({ startedMs }: Held): boolean {
    return clock.monotonicMs() - startedMs > options.staleMaxMs
  }

  function holds(key: VerificationKey): boolean {
    if (held === undefined || isStale(held)) return false
    return key.kid === undefined ? held.set.withoutKid.includes(key) : held.set.byKid.get(key.kid) === key
  }

  function schedule(): void {
    clearTimeout(timer)
    if (closed) return
    fetchOnce().then(() => {
      if (closed) return
      // Jitter only shortens: many gateways started at once do not stay in step, and no set gets older than asked for.
      const dueMs =
        (failures === 0
          ? options.refreshMs
          : Math.min(retryMs * 2 ** Math.min(failures - 1, 10), maxRetryMs, options.refreshMs)) *
        (1 - random() / 10)
      nextDueMs = clock.monotonicMs() + dueMs
      timer = setTimeout(schedule, dueMs).unref()
    }, unreachable)
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
      const fetched = await fetchDocument()
      if (fetched !== undefined) take(fetched.document, startedMs, startedWallMs)
      else if (held !== undefined) held = { set: held.set, startedMs, startedWallMs }
      // Only now: the validator of a document we refused would have it confirmed as the one we hold.
      if (fetched !== undefined) etag = fetched.etag
      if (failure !== undefined) log('jwks_recovered', { issuer: options.issuer })
      failures = 0
      failure = undefined
      count('success')
    } catch (error) {
      const said = error instanceof Error ? error.message : 'unknown'
      if (said !== failure) log('jwks_failed', { issuer: options.issuer, error: said, held: held !== undefined })
      failures += 1
      failure = said
      count('failure')
      if (origin.kind === 'url') origin.doubt()
    }
  }

  /** The document; undefined when it is the one we hold. */
  async function fetchDocument(): Promise<{ document: Buffer; etag: string | undefined } | undefined> {
    if (origin.kind === 'file') return { document: origin.read(), etag: undefined }
    const headers: Record<string, string> = { accept: 'application/jwk-set+json, application/json' }
    if (held !== undefined && etag !== undefined) headers['if-none-match'] = etag
    const reply = await origin.send({ method: 'GET', url: await origin.url(), headers }, limits)
    if (reply.status === 304 && held !== undefined && etag !== undefined) return undefined
    if (reply.status !== 200) throw new SourceFailed('jwks', `Cannot load keys: status is ${reply.status}, wanted 200`)
    return { document: reply.body, etag: reply.header('etag') }
  }

  function take(document: Buffer, startedMs: number, startedWallMs: number): void {
    if (document.length > limits.maxBodyBytes)
      throw new SourceFailed(
        'jwks',
        `Cannot load keys: ${document.length} bytes, at most ${limits.maxBodyBytes} wanted`,
      )
    const set = parseKeySet(parseJsonObject(document, jsonLimits))
    for (const { kid, why } of set.dropped) {
      const before = held?.set.dropped.some((dropped) => dropped.kid === kid && dropped.why === why)
      if (before !== true) log('jwks_key_dropped', { issuer: options.issuer, kid: kid ?? '', why })
    }
    held = { set: reuse(set, held?.set), startedMs, startedWallMs }
  }

  function state() {
    return {
      loaded: held !== undefined,
      keys: held === undefined ? 0 : held.set.byKid.size + held.set.withoutKid.length,
      stale: held === undefined || isStale(held),
      lastSuccessWallMs: held?.startedWallMs,
      failure,
    }
  }

  function close(): void {
    closed = true
    clearTimeout(timer)
  }
}

/** The same keys as the same objects, so that "is this key still in the set" is one comparison on every request. */
function reuse(set: KeySet, before: KeySet | undefined): KeySet {
  if (before === undefined) return set
  const same = (key: VerificationKey, old: VerificationKey | undefined) =>
    old !== undefined && old.thumbprint === key.thumbprint && old.algorithms.join() === key.algorithms.join()
      ? old
      : key
  return {
    byKid: new Map([...set.byKid].map(([kid, key]) => [kid, same(key, before.byKid.get(kid))])),
    withoutKid: set.withoutKid.map((key) =>
      same(
        key,
        before.withoutKid.find((old) => old.thumbprint === key.thumbprint),
      ),
    ),
    dropped: set.dropped,
  }
}

function unreachable(error: unknown): never {
  throw error
}
