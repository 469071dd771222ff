// The blacklist feed and its look-up: product specification §6.
import { nowSeconds } from '../base/time.ts'
import type { HttpAnswer, HttpRequest } from '../io/http-server.ts'
import { problem } from '../io/http-server.ts'
import { isStorageError } from '../io/sqlite.ts'
import { heldTags, holds, json, readJson } from './answers.ts'
import type { Blacklist } from './blacklist.ts'
import type { Authenticator } from './clients.ts'
import type { ResourceServer } from './introspect.ts'
import type { EntryRow, IssuerStore, RealmStore } from './store.ts'

/** What a feed needs. */
export type FeedDeps = {
  readonly resourceServers: Authenticator<ResourceServer>
  readonly blacklist: Blacklist
  readonly store: IssuerStore
  readonly tables: RealmStore
  /** Resolves when the issuer closes: nobody is kept waiting then. */
  readonly closing: Promise<void>
}

/** The two endpoints of one realm's feed. */
export type Feed = {
  readonly page: (request: HttpRequest) => Promise<HttpAnswer>
  readonly lookup: (request: HttpRequest) => Promise<HttpAnswer>
}

const defaultLimit = 1000
const maxLimit = 10_000
// product.md §6: the longest long poll; and how many may hang at once before the rest are answered at once.
const maxWaitSeconds = 25
const maxWaiting = 1000

/**
 * Makes the feed of one realm.
 *
 * @param epoch New at every start: a restored copy of a store cannot tell that it is one.
 */
export function createFeed({ epoch }: { readonly epoch: string }, deps: FeedDeps): Feed {
  const { resourceServers, blacklist, store, tables, closing } = deps
  let isClosing = false
  // What was made last: those who are woken by an entry, or whose time is over, ask for the same.
  let made: { readonly of: string; readonly etag: string; readonly answer: HttpAnswer } | undefined
  let counted: { readonly of: string; readonly live: number } | undefined
  // One reaction for the feed: one of each poll would be kept until the issuer closes.
  void closing.then(() => {
    isClosing = true
    blacklist.wake()
  })
  return { page, lookup }

  async function page(request: HttpRequest): Promise<HttpAnswer> {
    const caller = await resourceServers.authenticate(request, undefined)
    if (caller.kind === 'refused') return caller.answer
    const query = new URLSearchParams(request.query)
    const cursor = readCount(query.get('cursor'), 0)
    const limit = readCount(query.get('limit'), defaultLimit)
    const wait = readCount(query.get('wait'), 0)
    if (cursor === undefined || wait === undefined || limit === undefined || limit < 1)
      return problem(400, 'cursor, limit and wait are whole numbers')
    return await guarded(async () => {
      if (wait > 0 && cursor <= store.lastSeq() && knowsEpoch(request))
        await newsAfter(cursor, Math.min(wait, maxWaitSeconds), request.left)
      // Nobody reads it.
      if (request.left.aborted) return problem(503, 'The client has left')
      return readPage(request, cursor, Math.min(limit, maxLimit))
    })
  }

  /** Whether the list that the sender has is not void: it would be told so only when the wait is over. */
  function knowsEpoch(request: HttpRequest): boolean {
    const tags = heldTags(request)
    return tags.length === 0 || tags.some((tag) => tag.startsWith(`"${epoch}.`))
  }

  function readPage(request: HttpRequest, asked: number, limit: number): HttpAnswer {
    const now = nowSeconds(store.clock)
    const lastSeq = store.lastSeq()
    const of = `${asked}.${limit}.${lastSeq}.${now}`
    if (made?.of !== of) made = { of, ...makePage(asked, limit, lastSeq, now) }
    const { etag, answer } = made
    return holds(request, etag) ? { status: 304, headers: pageHeaders(etag) } : answer
  }

  function makePage(asked: number, limit: number, lastSeq: number, now: number) {
    // A cursor from the future belongs to a store we are an older copy of.
    const reset = asked > lastSeq
    const cursor = reset ? 0 : asked
    const rows = tables.entriesAfter(cursor, limit + 1, now)
    const delivered = rows.slice(0, limit)
    const total_live = countLive(lastSeq, now)
    const next = delivered.at(-1)?.seq ?? cursor
    // Weak: server_time differs in two answers that say the same.
    const etag = `W/"${epoch}.${asked}.${limit}.${next}.${total_live}"`
    const body = {
      epoch,
      cursor: String(next),
      more: rows.length > limit,
      server_time: now,
      total_live,
      reset,
      entries: delivered.map(formatEntry),
    }
    return { etag, answer: json(200, body, pageHeaders(etag)) }
  }

  /** Counted anew once there is another entry, or one may have run out. */
  function countLive(lastSeq: number, now: number): number {
    const of = `${lastSeq}.${now}`
    if (counted?.of !== of) counted = { of, live: tables.countEntries(now) }
    return counted.live
  }

  /** Waits for an entry after the cursor: so many seconds at most, not while the issuer closes, nor for a client that left. */
  async function newsAfter(cursor: number, seconds: number, left: AbortSignal): Promise<void> {
    if (blacklist.waiters.size >= maxWaiting) return
    let isOver = false
    let woken = Promise.withResolvers<void>()
    const wake = () => woken.resolve()
    const timer = setTimeout(() => {
      isOver = true
      wake()
    }, seconds * 1000)
    blacklist.waiters.add(wake)
    left.addEventListener('abort', wake)
    try {
      while (
        !isOver &&
        !isClosing &&
        !left.aborted &&
        tables.entriesAfter(cursor, 1, nowSeconds(store.clock)).length === 0
      ) {
        await woken.promise
        woken = Promise.withResolvers()
      }
    } finally {
      blacklist.waiters.delete(wake)
      left.removeEventListener('abort', wake)
      clearTimeout(timer)
    }
  }

  async function lookup(request: HttpRequest): Promise<HttpAnswer> {
    const caller = await resourceServers.authenticate(request, undefined)
    if (caller.kind === 'refused') return caller.answer
    const jti = readJson(request)?.['jti']
    if (typeof jti !== 'string' || jti === '') return problem(400, 'The body is not { "jti": … }')
    return await guarded(() => {
      const entry = tables.entry('jti', jti, nowSeconds(store.clock))
      return json(200, { revoked: entry !== undefined, seq: entry?.seq ?? store.lastSeq() })
    })
  }
}

/** A store that cannot be read makes no list: the gateway keeps its last one, and lets it age. */
async function guarded(work: () => HttpAnswer | Promise<HttpAnswer>): Promise<HttpAnswer> {
  try {
    return await work()
  } catch (error) {
    if (!isStorageError(error)) throw error
    return problem(503, 'The blacklist cannot be read', { reason: 'blacklist_stale' })
  }
}

function pageHeaders(etag: string): Readonly<Record<string, string>> {
  return { ETag: etag, 'Cache-Control': 'no-cache' }
}

function formatEntry({ seq, kind, value, issued_before, revoked_at, expires_at, cause }: EntryRow): object {
  const narrowed = issued_before === null ? {} : { issued_before }
  return { seq, kind, value, ...narrowed, revoked_at, expires_at, cause }
}

function readCount(text: string | null, absent: number): number | undefined {
  if (text === null) return absent
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined
}
