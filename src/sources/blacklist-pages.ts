// The wire of one issuer's blacklist feed (product specification §6): pages of the list, and look-ups of one token.
import { copyOf } from '../base/copy-of.ts'
import type { Json, JsonObject } from '../base/json.ts'
import { isJsonObject, JsonRefused, parseJson } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import { nextTurn } from '../base/time.ts'
import { SecretRefused } from '../io/files.ts'
import type { HttpClient, HttpReply } from '../io/http-client.ts'
import { HttpCallFailed } from '../io/http-client.ts'
import { formatBasic } from '../spec/authorization.ts'
import type { BlacklistPage } from '../spec/blacklist-feed.ts'
import { parseBlacklistPage } from '../spec/blacklist-feed.ts'
import { parseHttpDate, parseRetryAfter } from '../spec/http-date.ts'
import type { Revocation, RevocationIndex } from '../spec/revocation.ts'
import { createRevocationIndex } from '../spec/revocation.ts'
import { describeRefusal } from '../spec/token-error.ts'

/** Where a feed is, who we are to it, and what may be held of it. */
export type FeedOptions = {
  /** May have a query. */
  readonly url: string
  readonly client_id: string
  /** Entries held at most; see `createRevocationIndex`. */
  readonly cache_size: number
  /** Milliseconds. */
  readonly purge_delay: number
  /** Milliseconds: what a cache has held for longer is of no use. */
  readonly max_staleness: number
}

/** What reading a feed needs. */
export type FeedDeps = {
  readonly clock: Clock
  readonly send: HttpClient['send']
  /** The client secret, asked for at every request: it may have been changed. May throw. */
  readonly secret: () => string
}

/** What the pages from one cursor on said together; nothing of it counts before the last page is in. */
export type FeedRead = {
  readonly kind: 'read'
  readonly epoch: string
  /** From where the next poll goes on. */
  readonly cursor: number
  /** Whether the issuer said that what it told before is void. */
  readonly reset: boolean
  readonly index: RevocationIndex
  /** Whether this entry was delivered, as wide and as long; of a `jti` that was asked for also where it had no room. */
  readonly covers: (entry: Revocation) => boolean
  /** Entries delivered, dead ones too. */
  readonly listed: number
  /** Of those, the ones unexpired at their page's `server_time`. */
  readonly live: number
  readonly totalLive: number
  /** The clock by which the issuer forgets (seconds), and when we were told (monotonic ms). */
  readonly serverTimeS: number
  readonly toldMs: number
  /** How our wall clock differs from the issuer's (seconds). */
  readonly skewS: number
  /** How old it was when it came (ms): the oldest of its pages, by the cache it came from. */
  readonly ageMs: number
  /** The earliest `revoked_at` delivered. */
  readonly oldestRevokedAt: number | undefined
  /** Makes the next request conditional, where that will be the same request as this one. */
  readonly etag: string | undefined
}

/** Nothing has come since, and how our wall clock differs from the issuer's, where it says its own; how old that was. */
export type FeedUnchanged = { readonly kind: 'unchanged'; readonly skewS: number | undefined; readonly ageMs: number }

/**
 * One issuer's feed over HTTP. Everything rejects with FeedFailed, and nothing else. `waitS`: for how many seconds the
 * issuer may hold a read while it has nothing to tell; 0: not at all.
 */
export type Feed = {
  /**
   * Reads the changes after a cursor. `restarted`: the answer belongs to another epoch or came with `reset`, so it may
   * be a part only and all has to be read anew.
   */
  readonly readChanges: (
    since: { readonly epoch: string; readonly cursor: number },
    etag: string | undefined,
    waitS: number,
  ) => Promise<FeedRead | FeedUnchanged | { readonly kind: 'restarted' }>
  /** `isHeld`: of which `jti` it matters whether they were delivered. */
  readonly readAll: (
    etag: string | undefined,
    isHeld: (jti: string) => boolean,
    waitS: number,
  ) => Promise<FeedRead | FeedUnchanged>
  /** Asks whether one token is revoked. */
  readonly lookup: (jti: string) => Promise<boolean>
  /** Reads no further page, and ends the call for one. Look-ups go on: requests under way wait for them. */
  readonly close: () => void
}

/** A poll or look-up that brought nothing: `unavailable`, no usable answer came; `refused`, we do not believe it. */
export class FeedFailed extends Error {
  override readonly name = 'FeedFailed'
  readonly code = 'ERR_FEED_FAILED'
  readonly result: 'unavailable' | 'refused'
  /** The HTTP status of the answer, where that is what failed. */
  readonly status: number | undefined
  /** For how long (ms) the answer asks to be left alone. */
  readonly retryAfterMs: number | undefined
  constructor(
    result: 'unavailable' | 'refused',
    message: string,
    options?: ErrorOptions & { readonly status?: number; readonly retryAfterMs?: number | undefined },
  ) {
    super(message, options)
    this.result = result
    this.status = options?.status
    this.retryAfterMs = options?.retryAfterMs
  }
}

type FetchedPage = {
  readonly page: BlacklistPage
  readonly toldMs: number
  readonly skewS: number
  readonly ageMs: number
  readonly etag: string | undefined
}

const pageLimit = 1000
// Ten million entries: twice the largest cache_size, and an end for a feed that always has more.
const maxPages = 10_000
// An issuer may answer with more than we ask for, as far as 10,000 entries of up to nine members.
const pageJson = { maxDepth: 4, maxMembers: 100_000 }
const maxPageBytes = 8 * 1024 * 1024
const maxLookupBytes = 65_536
/** Milliseconds that one page or look-up may take, beside the time for which the issuer may hold it. */
export const callMs = 2000

/** Makes the reader of one feed; nothing is fetched before the first read. */
export function createFeed(options: FeedOptions, { clock, send, secret }: FeedDeps): Feed {
  const { url, client_id, cache_size } = options
  const purgeDelayS = options.purge_delay / 1000
  const mark = url.indexOf('?')
  const lookupUrl = mark === -1 ? `${url}/lookup` : `${url.slice(0, mark)}/lookup${url.slice(mark)}`
  const closing = new AbortController()
  return {
    readChanges: ({ epoch, cursor }, etag, waitS) => read(cursor, etag, epoch, () => false, waitS),
    async readAll(etag, isHeld, waitS) {
      const all = await read(0, etag, undefined, isHeld, waitS)
      // Without an epoch to compare with there is nothing to restart.
      return all.kind === 'restarted' ? refuse('it restarts from nothing') : all
    },
    lookup,
    close: () => closing.abort(),
  }

  async function read(
    from: number,
    etag: string | undefined,
    heldEpoch: string | undefined,
    isHeld: (jti: string) => boolean,
    waitS: number,
  ): Promise<FeedRead | FeedUnchanged | { readonly kind: 'restarted' }> {
    const index = createRevocationIndex({ capacity: cache_size })
    // What has no room is asked for one by one; whether it was delivered is asked only of what was held before.
    const leftOut = createRevocationIndex({ capacity: Number.POSITIVE_INFINITY })
    let cursor = from
    let first: BlacklistPage | undefined
    let listed = 0
    let live = 0
    let ageMs = 0
    let oldestRevokedAt: number | undefined
    for (let pages = 1; pages <= maxPages; pages += 1) {
      const answer = pages === 1 ? await fetchPage(cursor, etag, waitS) : await fetchPage(cursor, undefined, 0)
      if ('kind' in answer) return answer
      const { page } = answer
      ageMs = Math.max(ageMs, answer.ageMs)
      if (first === undefined && heldEpoch !== undefined && (page.reset || page.epoch !== heldEpoch))
        return { kind: 'restarted' }
      if (first !== undefined && (page.reset || page.epoch !== first.epoch))
        refuse('its epoch changes from page to page')
      first ??= page
      if (page.cursor < cursor) refuse('its cursor goes backwards')
      if (cursor > 0 && (page.entries[0]?.seq ?? Number.POSITIVE_INFINITY) <= cursor) refuse('its seq goes backwards')

      const runOutS = Math.min(clock.wallMs() / 1000, page.server_time) - purgeDelayS
      for (const { kind, value, issued_before, expires_at, revoked_at, cause } of page.entries) {
        const until = Math.ceil(expires_at)
        listed += 1
        if (until > page.server_time) live += 1
        if (revoked_at !== undefined) oldestRevokedAt = Math.min(revoked_at, oldestRevokedAt ?? revoked_at)
        if (until <= runOutS) continue
        const gone = index.put({ kind, value: copyOf(value), issued_before, until, cause })
        if (gone !== undefined && isHeld(gone.value)) leftOut.put(gone)
      }
      if (!page.more) {
        return {
          kind: 'read',
          epoch: page.epoch,
          cursor: page.cursor,
          reset: first.reset,
          index,
          covers: (entry) => index.covers(entry) || leftOut.covers(entry),
          listed,
          live,
          totalLive: page.total_live,
          serverTimeS: page.server_time,
          toldMs: answer.toldMs,
          skewS: answer.skewS,
          ageMs,
          oldestRevokedAt,
          etag: page.cursor === from ? answer.etag : undefined,
        }
      }
      // Its cursor is the seq of the last entry delivered (product.md §6): page after page of nothing would be asked for.
      if (page.entries.length === 0) refuse('it has more, and lists nothing')
      cursor = page.cursor
      // A million entries come in a thousand pages: requests are answered in between.
      await nextTurn()
    }
    return refuse(`it has more than ${maxPages} pages`)
  }

  async function fetchPage(
    cursor: number,
    etag: string | undefined,
    waitS: number,
  ): Promise<FetchedPage | FeedUnchanged> {
    const { signal } = closing
    if (signal.aborted) throw new FeedFailed('unavailable', 'Cannot read the blacklist: it is closed')
    const wait = waitS === 0 ? '' : `&wait=${waitS}`
    const target = `${url}${mark === -1 ? '?' : '&'}cursor=${cursor}&limit=${pageLimit}${wait}`
    const condition: Record<string, string> = etag === undefined ? {} : { 'if-none-match': etag }
    const request = { method: 'GET', url: target, headers: condition, signal } as const
    const reply = await call(request, maxPageBytes, waitS * 1000 + callMs)
    const [toldMs, toldWallMs] = [clock.monotonicMs(), clock.wallMs()]
    const skewS = skewOf(reply, toldWallMs)
    const ageMs = ageOf(reply)
    const { max_staleness } = options
    // Of a refusal it is that which is told of, however old.
    if (ageMs > max_staleness && (reply.status === 200 || reply.status === 304))
      refuse(`a cache has held it for ${ageMs / 1000} s, wanted at most ${max_staleness / 1000} s`)
    if (reply.status === 304 && etag !== undefined) return { kind: 'unchanged', skewS, ageMs }
    const page = parseBlacklistPage(readBody(reply, maxPageBytes, pageJson))
    if (typeof page === 'string') return refuse(page)
    // An issuer may forget by a clock that is behind its own (ours does), so its `server_time` comes second.
    const serverSkewS = (toldWallMs - ageMs) / 1000 - page.server_time
    return { toldMs, skewS: skewS ?? serverSkewS, ageMs, page, etag: readEtag(reply) }
  }

  async function lookup(jti: string): Promise<boolean> {
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ jti })
    const reply = await call({ method: 'POST', url: lookupUrl, headers, body }, maxLookupBytes, callMs)
    const answer = readBody(reply, maxLookupBytes)
    const revoked = isJsonObject(answer) ? answer['revoked'] : undefined
    return typeof revoked === 'boolean' ? revoked : refuse('its look-up says neither true nor false')
  }

  async function call(
    request: Parameters<HttpClient['send']>[0],
    maxBodyBytes: number,
    deadlineMs: number,
  ): Promise<HttpReply> {
    try {
      const authorization = formatBasic(client_id, secret())
      // A cache on the way is to ask the issuer (RFC 9111 §5.2.1.4): what it holds is of earlier.
      const fixed = { accept: 'application/json', 'cache-control': 'no-cache', authorization }
      const headers = { ...request.headers, ...fixed }
      return await send({ ...request, headers }, { maxBodyBytes, deadlineMs })
    } catch (cause) {
      const unread = cause instanceof HttpCallFailed && (cause.kind === 'too_large' || cause.kind === 'encoded')
      const isTold = cause instanceof HttpCallFailed || cause instanceof SecretRefused
      const why = isTold ? cause.message : 'Cannot read the blacklist: the call failed'
      throw new FeedFailed(unread ? 'refused' : 'unavailable', why, { cause })
    }
  }

  function readBody(reply: HttpReply, maxBytes: number, limits?: Parameters<typeof parseJson>[1]): Json | JsonObject {
    const { from, status, header, body } = reply
    if (status !== 200) {
      const whose = status === 401 ? `: the issuer refuses the credentials of client ${JSON.stringify(client_id)}` : ''
      const why = `Cannot read the blacklist at ${from}: ${describeRefusal(reply)}${whose}`
      throw new FeedFailed('unavailable', why, { status, retryAfterMs: parseRetryAfter(header, clock.wallMs()) })
    }
    if (!/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(header('content-type') ?? ''))
      refuse('it is not JSON by its type')
    if (body.length > maxBytes) refuse(`it is ${body.length} bytes, wanted at most ${maxBytes}`)
    try {
      return parseJson(body, limits)
    } catch (cause) {
      if (!(cause instanceof JsonRefused)) throw cause
      throw new FeedFailed('refused', `Cannot use the blacklist at ${from}: ${cause.message}`, { cause })
    }
  }
}

function refuse(why: string): never {
  throw new FeedFailed('refused', `Cannot use the blacklist: ${why}`)
}

/** By `Date`, which an answer from a cache has of an earlier time (RFC 9111 §4.2.3). */
function skewOf({ header }: HttpReply, toldWallMs: number): number | undefined {
  const dateMs = parseHttpDate(header('date'))
  return dateMs === undefined || header('age') !== undefined ? undefined : (toldWallMs - dateMs) / 1000
}

/** RFC 9111 §5.1: how long ago (ms) the issuer said it, where a cache answers. */
function ageOf({ header }: HttpReply): number {
  const age = header('age') ?? ''
  return /^\d+$/.test(age) ? Number(age) * 1000 : 0
}

function readEtag(reply: HttpReply): string | undefined {
  const etag = reply.header('etag')
  // RFC 9110 §8.8.3, without the bytes beyond ASCII: it is sent back as it came.
  return etag !== undefined && etag.length <= 1024 && /^(?:W\/)?"[!#-~]*"$/.test(etag) ? etag : undefined
}
