// Product specification §6: what the entries of a blacklist mean, held in memory. Pure. It stands here, and not with the
// decisions, because the feed and the operator's own list both hold one.
import { randomInt } from 'node:crypto'
import { createTextTable } from '../base/text-table.ts'
import type { BlacklistCause, BlacklistKind } from './blacklist-feed.ts'
import { blacklistCauses } from './blacklist-feed.ts'
import type { Claims } from './claims.ts'

/** What an entry can name of a token. Kept with its facts, it is looked for again only once a list is another. */
export type RevocableToken = {
  readonly claims: Pick<Claims, 'jti' | 'sub' | 'client_id' | 'sid' | 'iat'>
  /** The key that signed it (or its wrapper); undefined for an opaque token. */
  readonly kid: string | undefined
  /** The edition of the list that named it at no time; only that list sets it, and knows its own. */
  unnamedBy?: object
}

/** Why a token is refused: what it was found by, and the cause. */
export type RevocationHit = { readonly kind: BlacklistKind; readonly cause: BlacklistCause }

/**
 * One thing revoked. Times are seconds since 1970.
 *
 * @example { kind: 'sub', value: 'alice', issued_before: 1767225000, until: 1767229190, cause: 'owner' }
 */
export type Revocation = {
  readonly kind: BlacklistKind
  readonly value: string
  /** Narrows it to tokens issued until then, that second included; undefined names all. */
  readonly issued_before: number | undefined
  /** From this second on it names nothing: the latest `exp`. Who keeps it for longer asks for an earlier second. */
  readonly until: number
  readonly cause: BlacklistCause
}

/** Revocations of one issuer, keyed by kind and value; values come from outside, so they are only ever Map keys. */
export type RevocationIndex = {
  /** What revokes a token at this second; a token without `iat` is in every range (it may have been issued before). */
  readonly find: (token: RevocableToken, nowS: number) => RevocationHit | undefined
  /**
   * Adds one. Those of one kind and value combine: a narrower or shorter one never replaces a wider or longer one.
   * Returns the `jti` entry that had to go for it.
   */
  readonly put: (entry: Revocation) => Revocation | undefined
  /** Whether anything of this `jti` is held. */
  readonly holds: (jti: string) => boolean
  /** Whether an entry changes nothing, because what is held is as wide and as long. */
  readonly covers: (entry: Revocation) => boolean
  /** How many were put; what no entry named at any time is named by none while this stays. */
  readonly puts: () => number
  readonly entries: () => Iterable<Revocation>
  /** Forgets what is too much or has run out, looking at `budget` entries at most; true once it has been through all. */
  readonly sweep: (nowS: number, budget: number) => boolean
  readonly size: () => number
  /** Entries that still name something at this second. */
  readonly countLive: (atS: number) => number
  /** Sets how many entries may be held; of those over it the oldest `jti` go with the next `sweep`. */
  readonly setCapacity: (entries: number) => void
  /** Until when a `jti` that is not found may be one that did not fit; 0 when all are held. */
  readonly leftOutUntil: () => number
  /** Says that `jti` entries running until then are missing here. */
  readonly noteLeftOut: (untilS: number) => void
}

/** One range of a value: tokens issued until `issued_before` (Infinity: all). */
type Range = { readonly issued_before: number; readonly until: number; readonly cause: BlacklistCause }

const seed = randomInt(2 ** 32)
// More ranges of one value than this, none within another, are no real issuer's: they become one that holds all.
const maxRanges = 8

/**
 * Makes an empty index.
 *
 * @param options.capacity Entries held at most. Only `jti` entries are ever left out: the other kinds cannot be asked for
 *   one by one, so they are held whatever they number.
 */
export function createRevocationIndex(options: { readonly capacity: number }): RevocationIndex {
  // A million of these is a size somebody configures: until × 8 + cause, and of few `issued_before`.
  const tokens = createTextTable(seed)
  const narrowed = createTextTable(seed)
  const ranges = {
    sub: newRanges(),
    client: newRanges(),
    sid: newRanges(),
    kid: newRanges(),
    issued_before: newRanges(),
  }
  let capacity = options.capacity
  let rangeCount = 0
  let puts = 0
  let leftOutUntil = 0
  let sweeping: Iterator<undefined> | undefined
  return {
    find,
    put,
    holds: (jti) => tokens.get(jti) !== undefined,
    covers,
    puts: () => puts,
    entries,
    sweep,
    size,
    countLive,
    setCapacity,
    leftOutUntil: () => leftOutUntil,
    noteLeftOut,
  }

  function find({ claims, kid }: RevocableToken, nowS: number): RevocationHit | undefined {
    const issuedS = claims.iat === undefined ? 0 : Math.floor(claims.iat)
    const range = claims.jti === undefined ? undefined : heldOf(claims.jti)
    const cause = range === undefined ? undefined : names(range, issuedS, nowS)
    if (cause !== undefined) return { kind: 'jti', cause }
    if (rangeCount === 0) return undefined
    return (
      findRange('sub', claims.sub, issuedS, nowS) ??
      findRange('client', claims.client_id, issuedS, nowS) ??
      findRange('sid', claims.sid, issuedS, nowS) ??
      findRange('kid', kid, issuedS, nowS) ??
      findRange('issued_before', '*', issuedS, nowS)
    )
  }

  function heldOf(jti: string): Range | undefined {
    const packed = tokens.get(jti)
    return packed === undefined ? undefined : unpack(jti, packed)
  }

  function unpack(jti: string, packed: number): Range {
    const until = untilOf(packed)
    const issued_before = narrowed.get(jti) ?? Number.POSITIVE_INFINITY
    return { issued_before, until, cause: blacklistCauses[packed - until * 8] ?? 'admin' }
  }

  function findRange(
    kind: keyof typeof ranges,
    value: string | undefined,
    issuedS: number,
    nowS: number,
  ): RevocationHit | undefined {
    if (value === undefined) return undefined
    for (const range of ranges[kind].get(value) ?? []) {
      const cause = names(range, issuedS, nowS)
      if (cause !== undefined) return { kind, cause }
    }
    return undefined
  }

  function put(entry: Revocation): Revocation | undefined {
    const { kind, value } = entry
    const added = rangeOf(entry)
    puts += 1
    if (kind !== 'jti') {
      const held = ranges[kind].get(value) ?? []
      if (held.some((range) => within(added, range))) return undefined
      const kept = held.filter((range) => !within(range, added))
      kept.push(added)
      const next = kept.length > maxRanges ? [kept.reduce(widen)] : kept
      ranges[kind].set(value, next)
      rangeCount += next.length - held.length
    } else {
      const held = heldOf(value)
      // A jti names one token, so there is nothing to keep apart.
      const range = held === undefined ? added : widen(held, added)
      if (range.issued_before === Number.POSITIVE_INFINITY) narrowed.delete(value)
      else narrowed.set(value, range.issued_before)
      tokens.set(value, pack(range))
    }
    // One more came at most, so one has to go at most.
    return evict()
  }

  /** Lets go of the oldest `jti`, where there is one too many. */
  function evict(): Revocation | undefined {
    if (tokens.size() === 0 || size() <= capacity) return undefined
    const [jti, packed] = tokens.shift() ?? []
    if (jti === undefined || packed === undefined) return undefined
    const range = unpack(jti, packed)
    narrowed.delete(jti)
    noteLeftOut(range.until)
    return entryOf('jti', jti, range)
  }

  function covers(entry: Revocation): boolean {
    const range = rangeOf(entry)
    if (entry.kind !== 'jti') return (ranges[entry.kind].get(entry.value) ?? []).some((held) => within(range, held))
    const held = heldOf(entry.value)
    return held !== undefined && within(range, held)
  }

  function* entries(): Iterable<Revocation> {
    for (const [value, packed] of tokens.entries()) yield entryOf('jti', value, unpack(value, packed))
    for (const kind of rangeKinds)
      for (const [value, held] of ranges[kind]) for (const range of held) yield entryOf(kind, value, range)
  }

  function sweep(nowS: number, budget: number): boolean {
    let left = budget
    for (; left > 0 && evict() !== undefined; left -= 1);
    sweeping ??= expire(nowS)
    for (; left > 0; left -= 1) {
      if (sweeping.next().done !== true) continue
      sweeping = undefined
      return true
    }
    return false
  }

  /** Deletes as it goes; each step is one value looked at. */
  function* expire(nowS: number): Iterator<undefined> {
    const expiring = tokens.expire((packed, jti) => {
      const isOver = untilOf(packed) <= nowS
      if (isOver && narrowed.size() > 0) narrowed.delete(jti())
      return isOver
    })
    while (expiring.next().done !== true) yield
    for (const kind of rangeKinds) {
      for (const [value, held] of ranges[kind]) {
        const kept = held.filter(({ until }) => until > nowS)
        rangeCount += kept.length - held.length
        if (kept.length === 0) ranges[kind].delete(value)
        else ranges[kind].set(value, kept)
        yield
      }
    }
  }

  function size(): number {
    return tokens.size() + rangeCount
  }

  function countLive(atS: number): number {
    let live = tokens.count((packed) => untilOf(packed) > atS)
    for (const kind of rangeKinds)
      for (const held of ranges[kind].values()) for (const { until } of held) if (until > atS) live += 1
    return live
  }

  function setCapacity(entries: number): void {
    capacity = entries
  }

  function noteLeftOut(untilS: number): void {
    leftOutUntil = Math.max(leftOutUntil, untilS)
  }
}

const rangeKinds = ['sub', 'client', 'sid', 'kid', 'issued_before'] as const

function newRanges(): Map<string, readonly Range[]> {
  return new Map()
}

/** The cause, where a range holds tokens issued at that second and has not run out; `iat <= issued_before` is revoked. */
function names({ issued_before, until, cause }: Range, issuedS: number, nowS: number): BlacklistCause | undefined {
  return issuedS <= issued_before && nowS < until ? cause : undefined
}

function rangeOf({ issued_before, until, cause }: Revocation): Range {
  return { issued_before: issued_before ?? Number.POSITIVE_INFINITY, until: Math.ceil(until), cause }
}

function entryOf(kind: BlacklistKind, value: string, { issued_before, until, cause }: Range): Revocation {
  return { kind, value, issued_before: Number.isFinite(issued_before) ? issued_before : undefined, until, cause }
}

function within(inner: Range, outer: Range): boolean {
  return inner.issued_before <= outer.issued_before && inner.until <= outer.until
}

/** The range that holds both; the newer one says why. */
function widen(older: Range, newer: Range): Range {
  return {
    issued_before: Math.max(older.issued_before, newer.issued_before),
    until: Math.max(older.until, newer.until),
    cause: newer.cause,
  }
}

function pack({ until, cause }: Range): number {
  return until * 8 + blacklistCauses.indexOf(cause)
}

function untilOf(packed: number): number {
  return Math.floor(packed / 8)
}
