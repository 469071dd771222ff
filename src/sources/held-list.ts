// One issuer's blacklist as it is held, and what it says of a token: the same in the process that polled it and in one
// that was sent a copy (product specification §6).
import type { Clock } from '../base/time.ts'
import { nextTurn } from '../base/time.ts'
import type { Log } from '../io/log.ts'
import type { RevocableToken, RevocationHit, RevocationIndex } from '../spec/revocation.ts'
import type { BlacklistLookups, LookupAnswer } from './blacklist-lookups.ts'
import { createBlacklistLookups } from './blacklist-lookups.ts'
import type { Feed, FeedDeps, FeedOptions } from './blacklist-pages.ts'
import { createFeed } from './blacklist-pages.ts'

/** Undefined: not revoked. `stale`: nobody can tell now. */
export type BlacklistAnswer = RevocationHit | 'stale' | undefined

/** When the last good poll began: monotonic, and wall. */
export type Good = { readonly startedMs: number; readonly wallMs: number }

/** What is held. An index is changed in place, the rest is swapped as one. */
export type Held = {
  readonly index: RevocationIndex
  /** What an earlier epoch listed and this one does not: kept until it runs out, in case the issuer was restored. */
  readonly inherited: RevocationIndex | undefined
  readonly totalLive: number
  /** The issuer's clock (seconds), and when we were told (monotonic ms). */
  readonly serverTimeS: number
  readonly toldMs: number
}

/** What one list leaves to the next, or to a copy: a reload must not bring revoked tokens back. */
export type Holding<H extends Held = Held> = {
  held: H | undefined
  good: Good | undefined
  /** Entries the issuer counts as live and never delivered. */
  unlisted: number
}

/** How a feed is, for readiness, metrics and people. */
export type FeedState = {
  /** Whether a complete load ever came in. */
  readonly loaded: boolean
  readonly entries: number
  /** Entries the issuer says it lists. */
  readonly totalLive: number
  /** Whether tokens that are not found in memory are asked for. */
  readonly lookups: boolean
  /** Why one of them could not be asked for, since the last good poll; undefined where all could. */
  readonly lookupFailure: string | undefined
  /** When the last good poll started; undefined: never. */
  readonly lastSuccessWallMs: number | undefined
  readonly ageMs: number | undefined
  readonly stale: boolean
  /** Why the last poll failed; undefined where it did not. */
  readonly failure: string | undefined
  /** Between a revocation and our enforcing it, the longest of the last poll that brought any; seconds. */
  readonly lagSeconds: number
  /** Our wall clock less the issuer's, as its last answer told it; seconds. */
  readonly skewSeconds: number
}

/** What a list that is held says. */
export type HeldList = {
  /** Synchronous unless the token has to be asked for. What is known to be revoked is said even when stale. */
  readonly check: (token: RevocableToken) => BlacklistAnswer | Promise<BlacklistAnswer>
  readonly state: () => Omit<FeedState, 'failure' | 'lagSeconds' | 'skewSeconds'>
  /** Forgets what has run out, a slice at a time, and has the rest fit. */
  readonly purge: () => Promise<void>
}

/** Entries handled at a stretch: a few milliseconds. */
export const listSlice = 5000
// A look-up is not told the cause.
const foundByLookup: RevocationHit = { kind: 'jti', cause: 'admin' }

/** A list that is held, and the ways to its issuer. */
export type OpenList = { readonly feed: Feed; readonly lookups: BlacklistLookups; readonly list: HeldList }

/** Makes the reader of what its owner puts into `holding`, and of single tokens at the issuer; nothing is fetched yet. */
export function openList(
  options: FeedOptions & {
    readonly issuer: string
    readonly maxInFlight?: number | undefined
  },
  holding: Holding,
  deps: FeedDeps & { readonly log: Pick<Log, 'warn'> },
): OpenList {
  const { issuer } = options
  const { clock, log } = deps
  const feed = createFeed(options, deps)
  const lookups = createBlacklistLookups(options, {
    clock,
    lookup: feed.lookup,
    onFailure: (why) => log.warn('blacklist_lookup_failed', { issuer, why }),
  })
  return { feed, lookups, list: createHeldList(options, holding, { clock, lookups }) }
}

function createHeldList(
  options: Pick<FeedOptions, 'cache_size' | 'purge_delay' | 'max_staleness'>,
  holding: Holding,
  { clock, lookups }: { readonly clock: Clock; readonly lookups: Pick<BlacklistLookups, 'ask' | 'failure'> },
): HeldList {
  // Stands for what is held at one time. No part of that is in it: a token that is kept must not keep an old list.
  let edition: object = {}
  let editionOf: Held | undefined
  let editionPuts = 0
  return { check, state, purge }

  function check(token: RevocableToken): BlacklistAnswer | Promise<BlacklistAnswer> {
    const { held } = holding
    if (held === undefined) return 'stale'
    const hit = find(held, token)
    // Before the age is looked at: `on_stale: allow` must not let through what we know to be revoked.
    if (hit !== undefined) return hit
    if (isStale()) return 'stale'
    if (token.claims.jti === undefined || !isIncomplete(held)) return undefined
    const revoked = lookups.ask(token.claims.jti)
    return revoked instanceof Promise ? revoked.then((answer) => settle(answer, token)) : settle(revoked, token)
  }

  function settle(answer: LookupAnswer, token: RevocableToken): BlacklistAnswer {
    if (answer === 'stale') return answer
    if (answer) return foundByLookup
    // A poll may have brought it meanwhile.
    return holding.held === undefined ? undefined : find(holding.held, token)
  }

  /** Looks at a token once for each edition, unless it is named: a million entries are memory that is not near. */
  function find(held: Held, token: RevocableToken): RevocationHit | undefined {
    const current = editionNow(held)
    if (token.unnamedBy === current) return undefined
    // At any time: what is not named now, may be by a clock that is set back.
    if (look(held, token, Number.NEGATIVE_INFINITY) !== undefined)
      return look(held, token, runOutS(held, clock, options))
    token.unnamedBy = current
    return undefined
  }

  function look({ index, inherited }: Held, token: RevocableToken, atS: number): RevocationHit | undefined {
    return index.find(token, atS) ?? inherited?.find(token, atS)
  }

  /** Another one whenever what is held was swapped or added to; what runs out names nothing new. */
  function editionNow(held: Held): object {
    const puts = held.index.puts() + (held.inherited?.puts() ?? 0)
    if (editionOf === held && editionPuts === puts) return edition
    editionOf = held
    editionPuts = puts
    edition = {}
    return edition
  }

  function isStale(): boolean {
    return holding.good === undefined || clock.monotonicMs() - holding.good.startedMs > options.max_staleness
  }

  /** Whether a live entry may be missing from memory. */
  function isIncomplete(held: Held): boolean {
    const leftOutUntil = held.index.leftOutUntil()
    return holding.unlisted > 0 || (leftOutUntil > 0 && runOutS(held, clock, options) < leftOutUntil)
  }

  function state(): ReturnType<HeldList['state']> {
    const { held, good } = holding
    return {
      loaded: held !== undefined,
      entries: held === undefined ? 0 : held.index.size() + (held.inherited?.size() ?? 0),
      totalLive: held?.totalLive ?? 0,
      lookups: held !== undefined && isIncomplete(held),
      lookupFailure: lookups.failure(),
      lastSuccessWallMs: good?.wallMs,
      ageMs: good === undefined ? undefined : clock.monotonicMs() - good.startedMs,
      stale: isStale(),
    }
  }

  async function purge(): Promise<void> {
    const { held } = holding
    if (held === undefined) return
    const { index, inherited } = held
    const atS = runOutS(held, clock, options)
    while (!index.sweep(atS, listSlice)) await nextTurn()
    while (inherited?.sweep(atS, listSlice) === false) await nextTurn()
    // Swapped meanwhile: then the next purge has it.
    if (holding.held !== held) return
    if (inherited?.size() === 0) holding.held = { ...held, inherited: undefined }
    shareCapacity(held, options.cache_size)
  }
}

/**
 * Up to which second entries have run out. By our clock, but never further than the issuer's can have come: a clock that
 * jumps must not make entries run out. The delay counts as it is configured now, not as it was when an entry came.
 */
export function runOutS(
  { serverTimeS, toldMs }: Held,
  clock: Clock,
  { purge_delay }: Pick<FeedOptions, 'purge_delay'>,
): number {
  const nowMs = Math.min(clock.wallMs(), serverTimeS * 1000 + clock.monotonicMs() - toldMs)
  return (nowMs - purge_delay) / 1000
}

/** What is inherited cannot be asked for any more, so it is held first; the rest can. */
export function shareCapacity({ index, inherited }: Held, cacheSize: number): void {
  index.setCapacity(Math.max(0, cacheSize - (inherited?.size() ?? 0)))
}

/** Works through many, letting whatever else is waiting run in between. */
export async function inSlices<T>(items: Iterable<T>, work: (item: T) => void): Promise<void> {
  let done = 0
  for (const item of items) {
    work(item)
    done += 1
    if (done % listSlice === 0) await nextTurn()
  }
}
