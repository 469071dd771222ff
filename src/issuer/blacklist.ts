import type { Json } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import { nowSeconds } from '../base/time.ts'
import type { BlacklistCause, BlacklistKind } from '../spec/blacklist-feed.ts'
import type { EntryRow, IssuerStore, RealmStore } from './store.ts'

/** An entry to be. Times are seconds. */
export type NewEntry = {
  readonly kind: BlacklistKind
  /** `*` where the kind is `issued_before`. */
  readonly value: string
  /** Narrows it to tokens issued until then; null names all, future ones too. */
  readonly issued_before: number | null
  /** The latest `exp` of what it names. */
  readonly expires_at: number
  /** Never `local`, which is the word of a gateway's own list. */
  readonly cause: Exclude<BlacklistCause, 'local'>
}

/** What one realm has revoked. */
export type Blacklist = {
  /** Puts an entry down, inside a write of the store. An entry that is already covered keeps its seq. */
  readonly put: (entry: NewEntry) => number
  /** Puts an entry down; resolves with its seq once it is on disk. Rejects with StorageFailed. */
  readonly add: (entry: NewEntry) => Promise<number>
  /** Whether a token with these claims, signed with this key, is revoked. */
  readonly covers: (claims: ReadonlyMap<string, Json>, kid: string | undefined) => boolean
  /** Whether a token with these claims is revoked now, and would not be all the time until this `exp`. */
  readonly outlives: (claims: ReadonlyMap<string, Json>, exp: number) => boolean
  /** Whether what was listed of a token with this `exp` may be forgotten, by a clock that has been set back since. */
  readonly mayHaveForgotten: (exp: number) => boolean
  /**
   * Whether an `exp` is so long ago that nobody takes the token any more: not before the purge delay is over, as a
   * gateway's leeway, which is at most that long, still does.
   */
  readonly isForgotten: (exp: number) => boolean
  /** Called at every new entry, until whoever waits takes his own out again. */
  readonly waiters: Set<() => void>
  /** Calls whoever waits now: some at a time, and none before the turn is over. */
  readonly wake: () => void
}

/** How long an entry outlives what it names. */
export type BlacklistOptions = { readonly purgeDelayMs: number }
/** What a blacklist needs. */
export type BlacklistDeps = {
  readonly store: IssuerStore
  readonly tables: RealmStore
  /** By this things are revoked; they are forgotten by the store's. */
  readonly clock: Clock
}

// About a millisecond's work, after which others are answered.
const wokenAtOnce = 20

/** Makes one realm's blacklist on its tables; a changed purge delay is applied to what is listed already. */
export function createBlacklist(options: BlacklistOptions, { store, tables, clock }: BlacklistDeps): Blacklist {
  const purgeDelay = Math.ceil(options.purgeDelayMs / 1000)
  const waiters = new Set<() => void>()
  let told = store.lastSeq()
  store.transaction(() => tables.keepEntriesFor(purgeDelay))
  return { put, add, covers, outlives, mayHaveForgotten, isForgotten, waiters, wake }

  function put(entry: NewEntry): number {
    const held = tables.entry(entry.kind, entry.value, nowSeconds(store.clock))
    if (held !== undefined && covered(held, entry)) return held.seq
    const expires_at = Math.max(entry.expires_at, held?.expires_at ?? 0)
    const issued_before = held === undefined ? entry.issued_before : widest(held.issued_before, entry.issued_before)
    const revoked_at = nowSeconds(clock)
    return tables.putEntry({ ...entry, issued_before, expires_at, revoked_at }, expires_at + purgeDelay)
  }

  async function add(entry: NewEntry): Promise<number> {
    const seq = await store.write(() => put(entry))
    // What was covered already is no news: one client that revokes the same token again and again would end every poll.
    if (seq > told) {
      told = seq
      wake()
    }
    return seq
  }

  /** Whoever has revoked is answered first: each one that is woken reads the list. */
  function wake(): void {
    const asleep = [...waiters]
    setImmediate(wakeSome)

    function wakeSome(): void {
      for (const waiter of asleep.splice(0, wokenAtOnce)) waiter()
      if (asleep.length > 0) setImmediate(wakeSome)
    }
  }

  function covers(claims: ReadonlyMap<string, Json>, kid: string | undefined): boolean {
    return naming(claims, kid).length > 0
  }

  function outlives(claims: ReadonlyMap<string, Json>, exp: number): boolean {
    const entries = naming(claims, undefined)
    return entries.length > 0 && entries.every(({ expires_at }) => expires_at < exp)
  }

  function naming(claims: ReadonlyMap<string, Json>, kid: string | undefined): readonly EntryRow[] {
    const now = nowSeconds(store.clock)
    const issuedAt = claims.get('iat')
    const names: readonly (readonly [BlacklistKind, Json | undefined])[] = [
      ['jti', claims.get('jti')],
      ['sub', claims.get('sub')],
      ['client', claims.get('client_id') ?? claims.get('azp')],
      ['sid', claims.get('sid')],
      ['kid', kid],
      ['issued_before', '*'],
    ]
    return names
      .map(([kind, value]) => (typeof value === 'string' ? tables.entry(kind, value, now) : undefined))
      .filter((entry) => entry !== undefined)
      .filter(({ issued_before }) => {
        // Same second included; a token that does not say when it was issued may have been before.
        return issued_before === null || typeof issuedAt !== 'number' || Math.floor(issuedAt) <= issued_before
      })
  }

  function mayHaveForgotten(exp: number): boolean {
    // Whatever the purge delay was then.
    return exp <= store.horizon()
  }

  // Whatever was forgotten while the clock was ahead: a token that is taken now can be revoked.
  function isForgotten(exp: number): boolean {
    return exp + purgeDelay <= nowSeconds(store.clock)
  }
}

function covered(held: EntryRow, entry: NewEntry): boolean {
  return held.expires_at >= entry.expires_at && widest(held.issued_before, entry.issued_before) === held.issued_before
}

function widest(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : Math.max(a, b)
}
