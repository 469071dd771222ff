// The blacklist feed: product specification §6. No RFC covers a polled list of revoked tokens.
import type { Json, JsonObject } from '../base/json.ts'
import { isJsonObject } from '../base/json.ts'
import { maxNumericDate } from '../base/time.ts'

/** What an entry names: one token, everything of a subject, client or session, a key, or all until a time. */
export const blacklistKinds = ['jti', 'sub', 'client', 'sid', 'kid', 'issued_before'] as const
/** What an entry names. */
export type BlacklistKind = (typeof blacklistKinds)[number]

/** Why a token was revoked; `local` is the operator's own list and never on the wire. */
export const blacklistCauses = ['replay', 'client', 'owner', 'admin', 'local'] as const
/** Why a token was revoked. */
export type BlacklistCause = (typeof blacklistCauses)[number]

/** One entry. Times are seconds since 1970. */
export type BlacklistEntry = {
  readonly seq: number
  readonly kind: BlacklistKind
  readonly value: string
  /** Narrows the entry to tokens issued until then, that second included. */
  readonly issued_before: number | undefined
  readonly revoked_at: number | undefined
  /** The latest `exp` a token it names may have. */
  readonly expires_at: number
  readonly cause: BlacklistCause
}

/** One page of the feed. */
export type BlacklistPage = {
  readonly epoch: string
  readonly cursor: number
  readonly more: boolean
  readonly server_time: number
  readonly total_live: number
  readonly reset: boolean
  readonly entries: readonly BlacklistEntry[]
}

/** Reads a page, or says in one clause why it is refused. A page with one entry we cannot enforce is refused whole. */
export function parseBlacklistPage(body: Json): BlacklistPage | string {
  if (!isJsonObject(body)) return 'it is not an object'
  const { epoch, more, reset, server_time, total_live, entries } = body
  const cursor = parseCursor(body['cursor'])
  if (typeof epoch !== 'string' || epoch === '' || epoch.length > 256)
    return 'its epoch is not a string of 1 to 256 characters'
  if (cursor === undefined) return 'its cursor is not a decimal seq'
  if (typeof more !== 'boolean') return 'its more is not a boolean'
  if (reset !== undefined && typeof reset !== 'boolean') return 'its reset is not a boolean'
  if (!isTime(server_time)) return 'its server_time is not a time'
  if (!isCount(total_live)) return 'its total_live is not a count'
  if (!Array.isArray(entries)) return 'it has no entries array'
  const read: BlacklistEntry[] = []
  let last = 0
  for (const member of entries as readonly Json[]) {
    const entry = isJsonObject(member) ? parseEntry(member) : undefined
    if (entry === undefined) return 'an entry in it is not one we can enforce'
    // Cursor 0 is before the first entry: the next poll would ask for what comes after it.
    if (entry.seq === 0) return 'an entry in it has the seq 0, wanted 1 or more'
    if (entry.seq <= last) return 'its seq goes backwards'
    last = entry.seq
    read.push(entry)
  }
  if (cursor < last) return 'its cursor is before its last entry'
  return { epoch, cursor, more, server_time, total_live, reset: reset === true, entries: read }
}

function parseEntry(entry: JsonObject): BlacklistEntry | undefined {
  const { seq, kind, value, issued_before, revoked_at, expires_at, cause } = entry
  if (!isCount(seq) || typeof value !== 'string' || value === '' || value.length > 1024 || !isTime(expires_at))
    return undefined
  if (issued_before !== undefined && issued_before !== null && !isTime(issued_before)) return undefined
  const known = blacklistKinds.find((name) => name === kind)
  if (known === undefined) return undefined
  // "Everything issued until a time" needs the time; any value but "*" is a meaning we do not know.
  if (known === 'issued_before' && (value !== '*' || !isTime(issued_before))) return undefined
  return {
    seq,
    kind: known,
    value,
    issued_before: issued_before ?? undefined,
    revoked_at: isTime(revoked_at) ? revoked_at : undefined,
    expires_at,
    // A cause only labels a metric: an unknown one must not hold up a revocation.
    cause: blacklistCauses.find((name) => name === cause && name !== 'local') ?? 'admin',
  }
}

function parseCursor(value: Json | undefined): number | undefined {
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value
  return isCount(number) ? number : undefined
}

function isCount(value: Json | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function isTime(value: Json | undefined): value is number {
  return typeof value === 'number' && value >= 0 && value <= maxNumericDate
}
