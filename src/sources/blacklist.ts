// One issuer's blacklist in memory: polled, aged, asked (product specification §6 and §7).
import * as z from 'zod'
import { duration } from '../base/options.ts'
import type { Clock } from '../base/time.ts'
import type { HttpClient } from '../io/http-client.ts'
import type { RevocableToken, RevocationHit, RevocationIndex } from '../spec/revocation.ts'
import { createRevocationIndex } from '../spec/revocation.ts'
import { createBlacklistLookups } from './blacklist-lookups.ts'
import type { FeedRead } from './blacklist-pages.ts'
import { createFeed, FeedFailed, nextTick } from './blacklist-pages.ts'

function between(least: number, most: number, says: string) {
  return duration.refine((ms) => ms >= least && ms <= most, { error: `expected a duration from ${says}` })
}

/** The top-level `blacklist:` section, for all issuers of a process together. */
export const blacklistOptions = z.strictObject({
  poll_interval: between(100, 3_600_000, '100ms to 1h')
    .prefault('60s')
    .describe("How long after the start of one poll the next one starts at the latest; a revocation's delay."),
  cache_size: z
    .int()
    .min(1)
    .max(5_000_000)
    .prefault(10_000)
    .describe('Entries held in memory per issuer. Revoked tokens beyond it are asked for one by one, never forgotten.'),
  purge_delay: between(0, 86_400_000, '0s to 1d')
    .prefault('1m')
    .describe('How long an entry is kept past its expires_at; at least the leeway.'),
  max_staleness: between(100, 86_400_000, '100ms to 1d')
    .prefault('5m')
    .describe('How long after the start of the last good poll the list is still used.'),
  on_stale: z
    .enum(['deny', 'introspect', 'allow'])
    .prefault('deny')
    .describe('What happens to tokens once the list is too old: 503, ask the issuer, or let them pass unchecked.'),
  local: z
    .strictObject({ file: z.string().min(1).describe("Path of the operator's own list; re-read on change.") })
    .optional()
    .describe('A list that holds with any issuer.'),
})
/** The `blacklist:` section as read; durations are milliseconds. */
export type BlacklistSection = z.output<typeof blacklistOptions>

/** How polls end; the `result` label of `blacklist_polls_total`. */
export const pollResults = ['updated', 'unchanged', 'unavailable', 'refused'] as const
/** How one poll ended. */
export type PollResult = (typeof pollResults)[number]

/** One issuer's feed. Durations are milliseconds. */
export type BlacklistOptions = {
  readonly issuer: string
  readonly url: string
  readonly clientId: string
  readonly pollIntervalMs: number
  readonly cacheSize: number
  readonly purgeDelayMs: number
  readonly maxStalenessMs: number
  /** For one page or look-up; default 2000. */
  readonly fetchTimeoutMs?: number
}

/** What one list needs from outside. */
export type BlacklistDeps = {
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
  readonly send: HttpClient['send']
  readonly secret: () => string
  readonly log: (event: string, fields: Readonly<Record<string, string | number | boolean>>) => void
  readonly count: (result: PollResult) => void
}

/** Undefined: not revoked. `stale`: nobody can tell now. */
export type BlacklistAnswer = RevocationHit | 'stale' | undefined

/** How a feed is, for readiness, metrics and people. */
export type FeedState = {
  /** Whether a complete load ever came in. */
  readonly loaded: boolean
  readonly entries: number
  /** Entries the issuer says it lists. */
  readonly totalLive: number
  /** Whether tokens that are not found in memory are asked for. */
  readonly lookups: boolean
  /** When the last good poll started; undefined: never. */
  readonly lastSuccessWallMs: number | undefined
  readonly ageMs: number | undefined
  readonly stale: boolean
  /** Whether the last poll failed. */
  readonly failing: boolean
  /** Between a revocation and our enforcing it, the longest of the last poll that brought any; seconds. */
  readonly lagSeconds: number
  /** Our wall clock less the issuer's, as the last page told it; seconds. */
  readonly skewSeconds: number
}

/** One issuer's revoked tokens, as far as we know. */
export type Blacklist = {
  /** Polls at once and from then on until closed, whatever the answers. */
  readonly start: () => void
  /** Synchronous unless the token has to be asked for. What is known to be revoked is said even when stale. */
  readonly check: (token: RevocableToken) => BlacklistAnswer | Promise<BlacklistAnswer>
  /** Polls now, or joins the poll under way. A poll that brings nothing resolves too: the list ages. */
  readonly poll: () => Promise<void>
  readonly state: () => FeedState
  /** Whether a complete load ever came in; `on_stale: allow` holds only then. */
  readonly loadedOnce: boolean
  /** What is held, for the list that takes this one's place at a reload. */
  readonly handOver: () => BlacklistLegacy | undefined
  readonly close: () => void
}

/** What one list leaves to the next: a reload must not bring revoked tokens back. */
export type BlacklistLegacy = { readonly held: Held; readonly good: Good | undefined }

type Good = { readonly startedMs: number; readonly wallMs: number }

/** What is held. An index is changed in place, the rest is swapped as one. */
type Held = {
  readonly index: RevocationIndex
  /** What an earlier epoch listed and this one does not: kept until it runs out, in case the issuer was restored. */
  readonly inherited: RevocationIndex | undefined
  readonly epoch: string
  readonly cursor: number
  readonly etag: string | undefined
  readonly totalLive: number
  readonly serverTimeS: number
  readonly toldMs: number
}

// Entries handled at a stretch: a few milliseconds.
const slice = 5000
// An issuer whose numbers never agree costs a complete load this often.
const resyncEveryMs = 600_000
// A look-up is not told the cause.
const foundByLookup: RevocationHit = { kind: 'jti', cause: 'admin' }

/** Makes the list of one issuer; nothing is fetched before `start` or `poll`. */
export function createBlacklist(options: BlacklistOptions, deps: BlacklistDeps, legacy?: BlacklistLegacy): Blacklist {
  const { issuer, cacheSize, purgeDelayMs, maxStalenessMs } = options
  const { clock, log } = deps
  const feed = createFeed(options, deps)
  const lookups = createBlacklistLookups({
    clock,
    lookup: feed.lookup,
    onFailure: (why) => log('blacklist_lookup_failed', { issuer, why }),
  })
  // From the start of the feed again: what is inherited is then merged with it, and sized anew.
  let held: Held | undefined = legacy && { ...legacy.held, cursor: 0, etag: undefined }
  let good = legacy?.good
  // Entries the issuer counts as live and never delivered.
  let unlisted = 0
  let resyncFromMs = 0
  let lagSeconds = 0
  let skewSeconds = 0
  let failures = 0
  let polling: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let started = false
  let closed = false
  return {
    start() {
      if (started) return
      started = true
      run()
    },
    check,
    poll,
    state,
    get loadedOnce() {
      return held !== undefined
    },
    handOver: () => held && { held, good },
    close() {
      closed = true
      clearTimeout(timer)
      feed.close()
    },
  }

  function check(token: RevocableToken): BlacklistAnswer | Promise<BlacklistAnswer> {
    if (held === undefined) return 'stale'
    const now = nowS(held)
    const hit = find(held, token, now)
    // Before the age is looked at: `on_stale: allow` must not let through what we know to be revoked.
    if (hit !== undefined) return hit
    if (isStale()) return 'stale'
    if (token.claims.jti === undefined || !isIncomplete(held, now)) return undefined
    const revoked = lookups.ask(token.claims.jti)
    if (typeof revoked === 'boolean') return revoked ? foundByLookup : undefined
    return revoked.then((answer) => {
      if (answer === 'stale') return answer
      if (answer) return foundByLookup
      // A poll may have brought it meanwhile.
      return held === undefined ? undefined : find(held, token, nowS(held))
    })
  }

  function find({ index, inherited }: Held, token: RevocableToken, now: number): RevocationHit | undefined {
    return index.find(token, now) ?? inherited?.find(token, now)
  }

  /** Our clock, but never further than the issuer's can have come: a clock that jumps must not make entries run out. */
  function nowS({ serverTimeS, toldMs }: Held): number {
    return Math.min(clock.wallMs() / 1000, serverTimeS + (clock.monotonicMs() - toldMs) / 1000)
  }

  function isStale(): boolean {
    return good === undefined || clock.monotonicMs() - good.startedMs > maxStalenessMs
  }

  /** Whether a live entry may be missing from memory. */
  function isIncomplete({ index }: Held, now: number): boolean {
    return unlisted > 0 || now < index.leftOutUntil()
  }

  function run(): void {
    const startedMs = clock.monotonicMs()
    void poll().then(() => {
      if (closed) return
      const dueMs = startedMs + nextPollAfterMs(options.pollIntervalMs, failures, deps.random)
      timer = setTimeout(run, Math.max(0, dueMs - clock.monotonicMs())).unref()
    })
  }

  function poll(): Promise<void> {
    polling ??= pollOnce().finally(() => {
      polling = undefined
    })
    return polling
  }

  async function pollOnce(): Promise<void> {
    const start = { startedMs: clock.monotonicMs(), wallMs: clock.wallMs() }
    try {
      const result = await update(start.startedMs)
      good = start
      failures = 0
      lookups.forget()
      deps.count(result)
    } catch (error) {
      if (!(error instanceof FeedFailed)) throw error
      if (closed) return
      failures += 1
      deps.count(error.result)
      log('blacklist_poll_failed', { issuer, result: error.result, why: error.message })
    }
    await purge()
  }

  async function update(startedMs: number): Promise<'updated' | 'unchanged'> {
    const before = held
    if (before === undefined || before.cursor === 0 || (unlisted > 0 && startedMs >= resyncFromMs)) {
      if (before !== undefined && before.cursor > 0) resyncFromMs = startedMs + resyncEveryMs
      const all = await feed.readAll(before?.cursor === 0 ? before.etag : undefined)
      if (all.kind === 'unchanged') return 'unchanged'
      await replace(before, all, all.reset || all.epoch !== before?.epoch)
      return 'updated'
    }
    const changes = await feed.readChanges(before, before.etag)
    if (changes.kind === 'unchanged') return 'unchanged'
    if (changes.kind === 'read') {
      await extend(before, changes)
      return 'updated'
    }
    const all = await feed.readAll(undefined)
    if (all.kind === 'read') await replace(before, all, true)
    return 'updated'
  }

  /** Adds what has come since the last poll. */
  async function extend(before: Held, changes: FeedRead): Promise<void> {
    const { index } = before
    await inSlices(changes.index.entries(), index.put)
    index.noteLeftOut(changes.index.leftOutUntil())
    // What is live can only have grown by what was listed: the rest was never told to us.
    noteUnlisted(unlisted + Math.max(0, changes.totalLive - before.totalLive - changes.listed))
    if (changes.oldestRevokedAt !== undefined) lagSeconds = Math.max(0, clock.wallMs() / 1000 - changes.oldestRevokedAt)
    hold({ index, inherited: before.inherited }, changes, changes.cursor)
  }

  /** Takes a complete list, and keeps what was held and is not on it: a restored issuer must not revive a token. */
  async function replace(before: Held | undefined, all: FeedRead, restarted: boolean): Promise<void> {
    const purgeDelayS = purgeDelayMs / 1000
    if (before !== undefined && !restarted && all.live < before.index.countLive(all.serverTimeS + purgeDelayS))
      throw new FeedFailed('refused', 'Cannot use the blacklist: it lists fewer live entries than it did')
    const inherited = createRevocationIndex({ capacity: cacheSize })
    if (before !== undefined) {
      const now = nowS(before)
      for (const index of [before.inherited, before.index])
        await inSlices(index?.entries() ?? [], (entry) => {
          if (entry.until > now && !all.index.covers(entry)) inherited.put(entry)
        })
    }
    noteUnlisted(Math.max(0, all.totalLive - all.listed))
    // Within an epoch the last entry may have run out, and then the list ends before where we were.
    const cursor = before === undefined || restarted ? all.cursor : Math.max(all.cursor, before.cursor)
    hold({ index: all.index, inherited }, all, cursor)
    if (before === undefined || restarted)
      log('blacklist_loaded', { issuer, entries: all.index.size(), inherited: inherited.size() })
  }

  function hold(lists: Pick<Held, 'index' | 'inherited'>, read: FeedRead, cursor: number): void {
    const { epoch, totalLive, serverTimeS, toldMs, etag } = read
    held = { ...lists, epoch, cursor, totalLive, serverTimeS, toldMs, etag: cursor === read.cursor ? etag : undefined }
    skewSeconds = read.toldWallMs / 1000 - serverTimeS
    shareCapacity(held)
  }

  function noteUnlisted(now: number): void {
    if (now > unlisted) log('blacklist_incomplete', { issuer, unlisted: now })
    unlisted = now
  }

  /** What is inherited cannot be asked for any more, so it is held first; the rest can. */
  function shareCapacity({ index, inherited }: Held): void {
    index.setCapacity(Math.max(0, cacheSize - (inherited?.size() ?? 0)))
  }

  async function purge(): Promise<void> {
    if (held === undefined) return
    const { index, inherited } = held
    const now = nowS(held)
    while (!index.sweep(now, slice)) await nextTick()
    while (inherited?.sweep(now, slice) === false) await nextTick()
    if (inherited?.size() === 0) held = { ...held, inherited: undefined }
    shareCapacity(held)
  }

  function state(): FeedState {
    return {
      loaded: held !== undefined,
      entries: held === undefined ? 0 : held.index.size() + (held.inherited?.size() ?? 0),
      totalLive: held?.totalLive ?? 0,
      lookups: held !== undefined && isIncomplete(held, nowS(held)),
      lastSuccessWallMs: good?.wallMs,
      ageMs: good === undefined ? undefined : clock.monotonicMs() - good.startedMs,
      stale: isStale(),
      failing: failures > 0,
      lagSeconds,
      skewSeconds,
    }
  }
}

/**
 * Milliseconds from the start of one poll to the next: the interval, or after failures 1 s, 2 s, 4 s … up to it.
 * Up to a tenth is taken off at random, so that a fleet does not poll in step; never added.
 */
export function nextPollAfterMs(pollIntervalMs: number, failures: number, random: () => number): number {
  const wanted = failures === 0 ? pollIntervalMs : Math.min(pollIntervalMs, 1000 * 2 ** (failures - 1))
  return wanted * (1 - 0.1 * random())
}

async function inSlices<T>(items: Iterable<T>, work: (item: T) => void): Promise<void> {
  let done = 0
  for (const item of items) {
    work(item)
    done += 1
    if (done % slice === 0) await nextTick()
  }
}
