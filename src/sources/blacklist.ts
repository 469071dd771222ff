// One issuer's blacklist in memory: polled, aged, asked (product specification §6 and §7).
import * as z from 'zod'
import { durationBetween } from '../base/options.ts'
import type { Clock } from '../base/time.ts'
import type { HttpClient } from '../io/http-client.ts'
import type { Log } from '../io/log.ts'
import type { RevocableToken, Revocation } from '../spec/revocation.ts'
import { createRevocationIndex } from '../spec/revocation.ts'
import type { FeedRead, FeedUnchanged } from './blacklist-pages.ts'
import { FeedFailed } from './blacklist-pages.ts'
import type { BlacklistAnswer, FeedState, Held, Holding } from './held-list.ts'
import { inSlices, openList, runOutS, shareCapacity } from './held-list.ts'
import { createPollTimes } from './poll-times.ts'
import { isSameFailure } from './source-failed.ts'
import { createStaleAlarm } from './stale-alarm.ts'

/** The top-level `blacklist:` section, for all issuers of a process together. */
export const blacklistOptions = z.strictObject({
  poll_interval: durationBetween('100ms', '1h')
    .prefault('60s')
    .describe("How long after the start of one poll the next one starts at the latest; a revocation's delay."),
  cache_size: z
    .int()
    .min(1)
    .max(5_000_000)
    .prefault(10_000)
    .describe('Entries held in memory per issuer. Revoked tokens beyond it are asked for one by one, never forgotten.'),
  purge_delay: durationBetween('0s', '1d')
    .prefault('1m')
    .describe('How long an entry is kept past its expires_at; at least the leeway.'),
  max_staleness: durationBetween('100ms', '1d')
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

/** One issuer's feed, and who we are to it. */
export type BlacklistOptions = Omit<BlacklistSection, 'on_stale' | 'local'> & {
  readonly issuer: string
  readonly url: string
  readonly client_id: string
  /** For how long (ms) the issuer is asked to hold a poll that has nothing to tell, at least `callMs` and `leastGapMs` less than `poll_interval`. */
  readonly wait: number
  /** Look-ups at a time, where there may be fewer than usual. */
  readonly maxInFlight?: number | undefined
}

/** What one list needs from outside. */
export type BlacklistDeps = {
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
  readonly send: HttpClient['send']
  readonly secret: () => string
  readonly log: Pick<Log, 'info' | 'warn'>
  readonly count: (result: PollResult) => void
}

/** One issuer's revoked tokens, as far as we know. */
export type Blacklist = {
  /** Polls at once and from then on until closed, whatever the answers. */
  readonly start: () => void
  /** Synchronous unless the token has to be asked for. What is known to be revoked is said even when stale. */
  readonly check: (token: RevocableToken) => BlacklistAnswer | Promise<BlacklistAnswer>
  /**
   * Polls now, or joins the poll under way; with `wait` the issuer may hold either. A poll that brings nothing resolves
   * too: the list ages.
   */
  readonly poll: () => Promise<void>
  readonly state: () => FeedState
  /** What is held: for workers, and for the list that takes this one's place at a reload. */
  readonly snapshot: () => BlacklistSnapshot | undefined
  /** Has somebody told after every good poll what it brought. */
  readonly watch: (polled: (change: ListChange) => void) => void
  readonly close: () => void
}

/** What a good poll brought: another list, with what the one before it, if any, did not have; these entries more; or nothing. */
export type ListChange =
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'replaced' | 'extended'; readonly entries: Iterable<Revocation> }

/** What a list holds at one time. It is left to the next at a reload, which must not bring revoked tokens back. */
export type BlacklistSnapshot = Readonly<Holding<Polled>> & { readonly held: Polled }

/** What is held, with where the feed is read on. */
type Polled = Held & {
  readonly url: string
  readonly epoch: string
  readonly cursor: number
  readonly etag: string | undefined
}

// An issuer whose numbers never agree costs a complete load this often.
const resyncEveryMs = 600_000

/**
 * Makes the list of one issuer; nothing is fetched before `start` or `poll`.
 *
 * @param failure Why the last poll of the list before it failed; the end of that is told.
 */
export function createBlacklist(
  options: BlacklistOptions,
  deps: BlacklistDeps,
  previous?: BlacklistSnapshot,
  failure?: string,
): Blacklist {
  const { issuer, cache_size } = options
  const { clock, log } = deps
  const holding: Holding<Polled> = {
    // From the start of the feed again: what was held before is then merged with it, and sized anew.
    held: previous && { ...previous.held, cursor: 0, etag: undefined },
    good: previous?.good,
    unlisted: previous?.unlisted ?? 0,
  }
  const { feed, lookups, list } = openList(options, holding, deps)
  const usableUntilMs = () => holding.good && holding.good.startedMs + options.max_staleness
  const alarm = createStaleAlarm({ clock, usableUntilMs, tell: tellStale })
  let polled: (change: ListChange) => void = () => {}
  let resyncFromMs = 0
  let lagSeconds = 0
  let skewSeconds = 0
  // How old the last answer was when it came.
  let ageMs = 0
  const times = createPollTimes(options, deps)
  // Whether it has been read whole, beside what a list before it has left.
  let isComplete = false
  let polling: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let started = false
  let closed = false
  return {
    start() {
      if (started) return
      started = true
      alarm.set()
      run()
    },
    check: list.check,
    poll,
    state: () => ({ ...list.state(), failure, lagSeconds, skewSeconds }),
    snapshot: () => holding.held && { ...holding, held: holding.held },
    watch(listener) {
      polled = listener
    },
    close() {
      closed = true
      clearTimeout(timer)
      alarm.close()
      feed.close()
    },
  }

  function run(): void {
    void poll().then(() => {
      if (closed) return
      timer = setTimeout(run, Math.max(0, times.nextMs() - clock.monotonicMs())).unref()
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
    const before = holding.held
    // What reads a whole list is not held: it is wanted now.
    const waitS = times.begin(isComplete && !isResyncDue(start.startedMs)) / 1000
    try {
      const change = await update(start.startedMs, waitS)
      // Another list is in its place.
      if (closed) return
      times.good((holding.held?.cursor ?? 0) > (before?.cursor ?? 0))
      const saidMs = start.startedMs - ageMs
      // What a cache has held for long takes nothing from what we knew before.
      if (holding.good === undefined || saidMs > holding.good.startedMs)
        holding.good = { startedMs: saidMs, wallMs: start.wallMs - ageMs }
      if (alarm.set() || failure !== undefined) log.info('blacklist_recovered', { issuer })
      failure = undefined
      lookups.forget()
      deps.count(change.kind === 'unchanged' ? 'unchanged' : 'updated')
      polled(change)
    } catch (error) {
      if (!(error instanceof FeedFailed)) throw error
      if (closed) return
      times.failed(error)
      // Once: it is polled every second or two, and what becomes of it is told by the alarm.
      if (!isSameFailure(error.message, failure))
        log.warn('blacklist_poll_failed', { issuer, result: error.result, why: error.message })
      failure = error.message
      deps.count(error.result)
    }
    await list.purge()
  }

  /** `on_stale` decides about every token of the issuer now, which a line of a failed poll does not say. */
  function tellStale(): void {
    const { ageMs, loaded } = list.state()
    const age = ageMs === undefined ? {} : { age_ms: Math.round(ageMs) }
    log.warn('blacklist_stale', { issuer, loaded, ...age, ...(failure === undefined ? {} : { why: failure }) })
  }

  function isResyncDue(nowMs: number): boolean {
    return holding.unlisted > 0 && nowMs >= resyncFromMs && (holding.held?.cursor ?? 0) > 0
  }

  /** The list is empty at cursor 0: then the whole of it is what has come since, and is waited for as changes are. */
  async function update(startedMs: number, waitS: number): Promise<ListChange> {
    const before = holding.held
    // After a failure the answer is to be another one: a 304 that comes with a body is never read.
    const etag = failure === undefined ? before?.etag : undefined
    if (before === undefined || before.cursor === 0 || isResyncDue(startedMs)) {
      if (before !== undefined && before.cursor > 0) resyncFromMs = startedMs + resyncEveryMs
      const all = await readAll(before, before?.cursor === 0 ? etag : undefined, waitS)
      if (all.kind === 'unchanged') return confirm(all)
      const isAnew = all.reset || all.epoch !== before?.epoch
      if (isAnew) times.beganAnew()
      // Another feed may call its epoch the same.
      return await replace(before, all, isAnew || before?.url !== options.url)
    }
    const changes = await feed.readChanges(before, etag, waitS)
    if (changes.kind === 'unchanged') return confirm(changes)
    if (changes.kind === 'read') {
      await extend(before, changes)
      return { kind: 'extended', entries: changes.index.entries() }
    }
    times.beganAnew()
    const all = await readAll(before, undefined, 0)
    return all.kind === 'read' ? await replace(before, all, true) : confirm(all)
  }

  function readAll(
    before: Polled | undefined,
    etag: string | undefined,
    waitS: number,
  ): Promise<FeedRead | FeedUnchanged> {
    const isHeld = (jti: string) => before?.index.holds(jti) === true || before?.inherited?.holds(jti) === true
    return feed.readAll(etag, isHeld, waitS)
  }

  function confirm({ kind, ...told }: FeedUnchanged): ListChange {
    if (told.skewS !== undefined) skewSeconds = told.skewS
    ageMs = told.ageMs
    return { kind }
  }

  /** Adds what has come since the last poll. */
  async function extend(before: Polled, changes: FeedRead): Promise<void> {
    const { index } = before
    // At once: an entry that makes room for others further on had been there between two slices.
    lookups.forget()
    await inSlices(changes.index.entries(), index.put)
    index.noteLeftOut(changes.index.leftOutUntil())
    // What is live can only have grown by what was listed: the rest was never told to us.
    noteUnlisted(holding.unlisted + Math.max(0, changes.totalLive - before.totalLive - changes.listed))
    measureLag(changes)
    hold({ index, inherited: before.inherited }, changes, changes.cursor)
  }

  function measureLag({ oldestRevokedAt }: FeedRead): void {
    if (oldestRevokedAt !== undefined) lagSeconds = Math.max(0, clock.wallMs() / 1000 - oldestRevokedAt)
  }

  /** Takes a complete list, and keeps what was held and is not on it: a restored issuer must not revive a token. */
  async function replace(before: Polled | undefined, all: FeedRead, restarted: boolean): Promise<ListChange> {
    if (before !== undefined && !restarted && all.live < before.index.countLive(all.serverTimeS))
      throw new FeedFailed('refused', 'Cannot use the blacklist: it lists fewer live entries than it did')
    const inherited = createRevocationIndex({ capacity: cache_size })
    const entries: Revocation[] = []
    if (before !== undefined) {
      await inSlices(all.index.entries(), (entry) => {
        if (!before.index.covers(entry) && before.inherited?.covers(entry) !== true) entries.push(entry)
      })
      const atS = runOutS(before, clock, options)
      // What was inherited comes last, so stays longest: it has been out of every list for longer. What was delivered and had
      // no room can be asked for, and must not take that of what cannot.
      for (const index of [before.index, before.inherited])
        await inSlices(index?.entries() ?? [], (entry) => {
          if (entry.until > atS && !all.covers(entry)) inherited.put(entry)
        })
    }
    noteUnlisted(Math.max(0, all.totalLive - all.listed))
    // Where the list was empty, all that is on it now has come since.
    if (before?.cursor === 0 && !restarted) measureLag(all)
    // Within an epoch the last entry may have run out, and then the list ends before where we were.
    const cursor = before === undefined || restarted ? all.cursor : Math.max(all.cursor, before.cursor)
    hold({ index: all.index, inherited }, all, cursor)
    isComplete = true
    if (before === undefined || restarted)
      log.info('blacklist_loaded', { issuer, entries: all.index.size(), inherited: inherited.size() })
    return { kind: 'replaced', entries }
  }

  function hold(lists: Pick<Held, 'index' | 'inherited'>, read: FeedRead, cursor: number): void {
    const { epoch, totalLive, serverTimeS, toldMs, etag } = read
    const last = cursor === read.cursor ? etag : undefined
    holding.held = { ...lists, url: options.url, epoch, cursor, totalLive, serverTimeS, toldMs, etag: last }
    skewSeconds = read.skewS
    ageMs = read.ageMs
    shareCapacity(holding.held, cache_size)
  }

  function noteUnlisted(counted: number): void {
    // An issuer whose count goes up and down adds to it without end, and workers are told it as an integer.
    const now = Math.min(counted, Number.MAX_SAFE_INTEGER)
    if (now > holding.unlisted) log.warn('blacklist_incomplete', { issuer, unlisted: now })
    holding.unlisted = now
  }
}
