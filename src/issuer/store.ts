import type { Clock } from '../base/time.ts'
import { nowSeconds } from '../base/time.ts'
import type { StorageFailed } from '../io/sqlite.ts'
import { openDatabase } from '../io/sqlite.ts'
import type { CarefulState } from './careful-clock.ts'
import { createCarefulClock } from './careful-clock.ts'

/** A signing key at rest. Times are seconds. */
export type KeyRow = {
  readonly kid: string
  readonly alg: string
  /** DER, SubjectPublicKeyInfo. */
  readonly public_key: Uint8Array
  /** DER, PKCS #8; null once it signs no more. */
  readonly private_key: Uint8Array | null
  readonly signs_from: number
  /** The latest `exp` it signed, or may have. */
  readonly needed_until: number
  readonly revoked_at: number | null
}

/** What is kept of a token whose data is not in it. */
export type TokenRow = {
  /** What it is for: only an `access` token is ever active. */
  readonly use: string
  /** JSON. */
  readonly claims: string
}

/** One blacklist entry as stored; `seq` is given at commit and never again. */
export type EntryRow = {
  readonly seq: number
  readonly kind: string
  readonly value: string
  readonly issued_before: number | null
  readonly revoked_at: number
  readonly expires_at: number
  readonly cause: string
}

/** One realm's tables. Reads see what is committed; what changes runs inside `write` or `transaction` of the store. */
export type RealmStore = {
  readonly keys: () => readonly KeyRow[]
  readonly putKey: (row: KeyRow) => void
  readonly deleteKey: (kid: string) => void
  readonly putToken: (id: string, token: TokenRow, exp: number) => void
  readonly token: (id: string) => TokenRow | undefined
  readonly putEntry: (entry: Omit<EntryRow, 'seq'>, keptUntil: number) => number
  /** A listed entry that is still kept. */
  readonly entry: (kind: string, value: string, now: number) => EntryRow | undefined
  /** Entries still kept, after a cursor, in the order of their commits. */
  readonly entriesAfter: (cursor: number, limit: number, now: number) => readonly EntryRow[]
  readonly countEntries: (now: number) => number
  /** Re-dates every entry when the purge delay has changed. */
  readonly keepEntriesFor: (purgeDelay: number) => void
  readonly number: (name: string) => number | undefined
  readonly putNumber: (name: string, value: number) => void
}

/** The issuer's tables, for all realms of the process. */
export type IssuerStore = {
  /** By this it forgets what has run out. */
  readonly clock: Clock
  readonly realm: (name: string) => RealmStore
  /** Resolves when the work is on disk, in a commit shared with others. Rejects with StorageFailed. */
  readonly write: <T>(work: () => T) => Promise<T>
  /** The same at once and alone. */
  readonly transaction: <T>(work: () => T) => T
  /** The last `seq` given. */
  readonly lastSeq: () => number
  /** Entries kept until this second, at most, have been forgotten: no token they may have named is good. */
  readonly horizon: () => number
  /** Deletes a batch of what has expired. */
  readonly purge: (limit: number) => void
  readonly failed: Promise<StorageFailed>
  readonly close: () => void
}

/** The name of the number that no `exp` a realm ever issued is above. */
export const latestExp = 'latest_exp'

const migrations = [
  `CREATE TABLE signing_key (kid TEXT NOT NULL, realm TEXT NOT NULL, alg TEXT NOT NULL, public_key BLOB NOT NULL,
     private_key BLOB, signs_from INTEGER NOT NULL, needed_until INTEGER NOT NULL, revoked_at INTEGER,
     UNIQUE (realm, kid)) STRICT`,
  // An opaque token stands here as its hash only, a wrapped one as its jti.
  `CREATE TABLE token (realm TEXT NOT NULL, id TEXT NOT NULL, use TEXT NOT NULL, claims TEXT NOT NULL,
     exp INTEGER NOT NULL,      UNIQUE (realm, id)) STRICT`,
  'CREATE INDEX token_exp ON token (exp)',
  // AUTOINCREMENT: a seq is never given twice, not even when the entries before it are gone.
  `CREATE TABLE blacklist (seq INTEGER PRIMARY KEY AUTOINCREMENT, realm TEXT NOT NULL, kind TEXT NOT NULL,
     value TEXT NOT NULL, issued_before INTEGER, revoked_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
     kept_until INTEGER NOT NULL, cause TEXT NOT NULL, UNIQUE (realm, kind, value)) STRICT`,
  'CREATE INDEX blacklist_kept ON blacklist (kept_until)',
  'CREATE INDEX blacklist_realm ON blacklist (realm, kept_until)',
  'CREATE TABLE number (realm TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, UNIQUE (realm, name)) STRICT',
  // Without it every poll would sort the whole list to find that nothing has come.
  'CREATE INDEX blacklist_seq ON blacklist (realm, seq)',
] as const

// What each write deletes beside its own work: more than it adds, so that the file stops growing.
const purgePerWrite = 4
const entryColumns = 'seq, kind, value, issued_before, revoked_at, expires_at, cause'

/**
 * Opens the store.
 *
 * @param options.path A file, or `:memory:`.
 * @param options.purgeDelayMs The longest of its realms.
 * @throws DatabaseRefused
 */
export function openIssuerStore(
  options: { readonly path: string; readonly purgeDelayMs: number },
  deps: { readonly clock: Clock },
): IssuerStore {
  const db = openDatabase(options.path)
  try {
    db.migrate(migrations)
    return createStore()
  } catch (error) {
    db.close()
    throw error
  }

  function createStore(): IssuerStore {
    const sql = {
      purgeTokens: db.prepare('DELETE FROM token WHERE rowid IN (SELECT rowid FROM token WHERE exp <= ? LIMIT ?)'),
      purgeEntries: db.prepare(
        'DELETE FROM blacklist WHERE seq IN (SELECT seq FROM blacklist WHERE kept_until <= ? LIMIT ?)',
      ),
      lastSeq: db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'blacklist'"),
      keys: db.prepare('SELECT * FROM signing_key WHERE realm = ? ORDER BY signs_from, rowid'),
      putKey: db.prepare(
        `INSERT INTO signing_key (realm, kid, alg, public_key, private_key, signs_from, needed_until, revoked_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (realm, kid) DO UPDATE SET private_key = excluded.private_key,
         needed_until = excluded.needed_until, revoked_at = excluded.revoked_at`,
      ),
      deleteKey: db.prepare('DELETE FROM signing_key WHERE realm = ? AND kid = ?'),
      putToken: db.prepare('INSERT OR REPLACE INTO token (realm, id, use, claims, exp) VALUES (?, ?, ?, ?, ?)'),
      token: db.prepare('SELECT use, claims FROM token WHERE realm = ? AND id = ?'),
      deleteEntry: db.prepare('DELETE FROM blacklist WHERE realm = ? AND kind = ? AND value = ?'),
      putEntry: db.prepare(
        `INSERT INTO blacklist (realm, kind, value, issued_before, revoked_at, expires_at, kept_until, cause)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      ),
      entry: db.prepare(
        `SELECT ${entryColumns} FROM blacklist WHERE realm = ? AND kind = ? AND value = ? AND kept_until > ?`,
      ),
      entriesAfter: db.prepare(
        `SELECT ${entryColumns} FROM blacklist WHERE seq > ? AND realm = ? AND kept_until > ? ORDER BY seq LIMIT ?`,
      ),
      countEntries: db.prepare('SELECT count(*) AS n FROM blacklist WHERE realm = ? AND kept_until > ?'),
      keepEntriesFor: db.prepare('UPDATE blacklist SET kept_until = expires_at + ? WHERE realm = ?'),
      number: db.prepare('SELECT value FROM number WHERE realm = ? AND name = ?'),
      latestExp: db.prepare('SELECT max(value) AS exp FROM number WHERE name = ?'),
      putNumber: db.prepare('INSERT OR REPLACE INTO number (realm, name, value) VALUES (?, ?, ?)'),
    }
    const clock = createCarefulClock({
      clock: deps.clock,
      before: readState(),
      // Of realms that are not configured now, too: they may be again.
      runOutMs: () => (numberOf(sql.latestExp.get(latestExp), 'exp') ?? 0) * 1000 + options.purgeDelayMs,
    })
    let horizon = ownNumber('horizon') ?? 0
    return {
      clock,
      realm,
      write: (work) =>
        db.write(() => {
          const product = work()
          purge(purgePerWrite)
          return product
        }),
      transaction: db.transaction,
      lastSeq: () => numberOf(sql.lastSeq.get(), 'seq') ?? 0,
      horizon: () => horizon,
      purge,
      failed: db.failed,
      close: db.close,
    }

    function ownNumber(name: string): number | undefined {
      return numberOf(sql.number.get('', name), 'value')
    }

    function readState(): CarefulState | undefined {
      const [atMs, doubtMs, believedAtMs] = [ownNumber('at_ms'), ownNumber('doubt_ms'), ownNumber('believed_at_ms')]
      if (atMs === undefined || doubtMs === undefined || believedAtMs === undefined) return undefined
      return { atMs, doubtMs, believedAtMs }
    }

    /** Rounded so that a restart makes nothing run out earlier. */
    function keepState(): void {
      const { atMs, doubtMs, believedAtMs } = clock.state()
      sql.putNumber.run('', 'at_ms', Math.floor(atMs))
      sql.putNumber.run('', 'doubt_ms', Math.floor(doubtMs))
      sql.putNumber.run('', 'believed_at_ms', Math.ceil(believedAtMs))
    }

    function purge(limit: number): void {
      const now = nowSeconds(clock)
      keepState()
      sql.purgeTokens.run(now, limit)
      // Without this a clock set back would revive tokens whose entries are gone.
      if (Number(sql.purgeEntries.run(now, limit).changes) === 0 || now <= horizon) return
      sql.putNumber.run('', 'horizon', now)
      horizon = now
    }

    /** What the rows are is said by the tables, which are STRICT: each `as` below repeats their columns. */
    function realm(name: string): RealmStore {
      return {
        keys: () => sql.keys.all(name) as unknown as readonly KeyRow[],
        putKey(row) {
          const { kid, alg, public_key, private_key, signs_from, needed_until, revoked_at } = row
          sql.putKey.run(name, kid, alg, public_key, private_key, signs_from, needed_until, revoked_at)
        },
        deleteKey: (kid) => void sql.deleteKey.run(name, kid),
        putToken: (id, { use, claims }, exp) => void sql.putToken.run(name, id, use, claims, exp),
        token: (id) => sql.token.get(name, id) as unknown as TokenRow | undefined,
        putEntry({ kind, value, issued_before, revoked_at, expires_at, cause }, keptUntil) {
          sql.deleteEntry.run(name, kind, value)
          const put = sql.putEntry.run(name, kind, value, issued_before, revoked_at, expires_at, keptUntil, cause)
          return Number(put.lastInsertRowid)
        },
        entry: (kind, value, now) => sql.entry.get(name, kind, value, now) as unknown as EntryRow | undefined,
        entriesAfter: (cursor, limit, now) =>
          sql.entriesAfter.all(cursor, name, now, limit) as unknown as readonly EntryRow[],
        countEntries: (now) => numberOf(sql.countEntries.get(name, now), 'n') ?? 0,
        keepEntriesFor: (purgeDelay) => void sql.keepEntriesFor.run(purgeDelay, name),
        number: (key) => numberOf(sql.number.get(name, key), 'value'),
        putNumber: (key, value) => void sql.putNumber.run(name, key, value),
      }
    }
  }
}

function numberOf(row: Readonly<Record<string, unknown>> | undefined, column: string): number | undefined {
  const value = row?.[column]
  return typeof value === 'number' ? value : undefined
}
