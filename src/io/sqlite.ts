import { chmodSync, closeSync, existsSync, fsyncSync, linkSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { codeOf } from '../base/errors.ts'

/** A database file with one writing process: this one. */
export type Database = Disposable & {
  /** Prepares a statement; do it once, not per use. */
  readonly prepare: (sql: string) => StatementSync
  /** Runs work in one transaction; what it throws rolls everything back. Synchronous: the commit is on disk when it returns. */
  readonly transaction: <T>(work: () => T) => T
  /**
   * Runs work in a transaction shared with whatever else is asked for in the same turn of the event loop: one flush for
   * many (group commit). Resolves when the commit is on disk; work that throws is undone alone.
   *
   * @throws (rejects) StorageFailed when it could not be made durable; it may or may not have happened.
   */
  readonly write: <T>(work: () => T) => Promise<T>
  /** Brings the tables up to date: the statements not yet applied run, in order, each once in the life of the file. */
  readonly migrate: (statements: readonly string[]) => void
  /** Resolves, with the cause, when a write failed in a way after which nothing may be acknowledged any more. */
  readonly failed: Promise<StorageFailed>
  readonly close: () => void
}

/** A database that cannot be opened. It stays as it was found. */
export class DatabaseRefused extends Error {
  override readonly name = 'DatabaseRefused'
  readonly code = 'ERR_DATABASE_REFUSED'
}

/** A read or write the storage did not carry out. */
export class StorageFailed extends Error {
  override readonly name = 'StorageFailed'
  readonly code = 'ERR_STORAGE_FAILED'
  /** False: no space at the moment, later writes are tried again. True: nothing is written any more by this process. */
  readonly final: boolean
  constructor(message: string, final: boolean, options?: ErrorOptions) {
    super(message, options)
    this.final = final
  }
}

// "PsTn": a file that does not say so is not ours, however well it reads as a database.
const applicationId = 0x5073546e
// SQLite's primary result codes (sqlite.org/rescode.html).
const sqliteBusy = 5
const noSpace = 13
// READONLY, IOERR, CORRUPT, CANTOPEN, NOTADB: the file can no longer be relied on.
const fatal: readonly number[] = [8, 10, 11, 14, 26]
// 250 ms: a predecessor that is closing is waited for, one that serves is not.
const busyMs = 250

/**
 * Opens a database, or makes it where there is none: write-ahead log, a flush to disk with every commit, one process.
 * A torn tail of the log is dropped, as nothing in it was acknowledged; any other damage stops the start.
 *
 * @param path A file, made with mode 0600; or `:memory:`.
 * @throws DatabaseRefused when another process has it, it is damaged, not ours, or readable by everybody.
 */
export function openDatabase(path: string): Database {
  if (path !== ':memory:') prepareFile(path)
  const db = openChecked(path)
  const failed = Promise.withResolvers<StorageFailed>()
  const files = path === ':memory:' ? [] : [path, `${path}-wal`]
  /** Which they are; none of what does not exist yet. */
  const held = new Map<string, string>()
  let broken: StorageFailed | undefined
  let queue: Job[] = []
  findFiles()
  return {
    prepare: (sql) => db.prepare(sql),
    transaction,
    write,
    migrate,
    failed: failed.promise,
    close,
    [Symbol.dispose]: close,
  }

  function transaction<T>(work: () => T): T {
    if (broken !== undefined) throw broken
    try {
      db.exec('BEGIN IMMEDIATE')
      const product = work()
      db.exec('COMMIT')
      findFiles()
      return product
    } catch (error) {
      const told = judge(error)
      try {
        if (db.isTransaction) db.exec('ROLLBACK')
      } catch (second) {
        judge(second)
      }
      throw told
    }
  }

  /** What is written into a file that somebody has deleted or replaced is gone with this process, however well it was flushed. */
  function findFiles(): void {
    for (const file of files) {
      const now = identityOf(file)
      const before = held.get(file)
      if (before === undefined) {
        if (now !== undefined) held.set(file, now)
      } else if (now !== before) {
        broken ??= new StorageFailed(`Cannot write database: ${file} is no more the file that was opened`, true)
        failed.resolve(broken)
        throw broken
      }
    }
  }

  /** Names what the storage did; other errors, ours among them, pass as they are. */
  function judge(error: unknown): unknown {
    const code = resultCode(error)
    if (code === undefined || (code !== noSpace && !fatal.includes(code))) return error
    const why = code === noSpace ? 'no space is left' : 'the disk refused or the file is damaged'
    const failure = new StorageFailed(`Cannot write database: ${why}`, code !== noSpace, { cause: error })
    // After a failed flush the kernel may have dropped the pages and called them clean: trying again would prove nothing.
    if (failure.final) {
      broken ??= failure
      failed.resolve(broken)
    }
    return failure
  }

  function write<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      queue.push({ work, resolve: resolve as (product: unknown) => void, reject }) // what work returns is a T
      if (queue.length === 1) setImmediate(flush)
    })
  }

  function flush(): void {
    const jobs = queue
    queue = []
    if (jobs.length === 0) return
    let outcomes: readonly (() => void)[]
    try {
      outcomes = transaction(() => jobs.map(runAlone))
    } catch (error) {
      for (const job of jobs) job.reject(error)
      return
    }
    for (const settle of outcomes) settle()
  }

  function runAlone({ work, resolve, reject }: Job): () => void {
    db.exec('SAVEPOINT job')
    try {
      const product = work()
      db.exec('RELEASE job')
      return () => resolve(product)
    } catch (error) {
      if (!db.isTransaction || resultCode(error) !== undefined) throw error
      db.exec('ROLLBACK TO job; RELEASE job')
      return () => reject(error)
    }
  }

  function migrate(statements: readonly string[]): void {
    const applied = Number(pragma(db, 'user_version'))
    if (applied > statements.length) {
      const wanted = `wanted at most ${statements.length}`
      throw new DatabaseRefused(
        `Cannot open database ${path}: its version is ${applied}, ${wanted}: a newer Postern made it`,
      )
    }
    if (applied === statements.length) return
    transaction(() => {
      for (const statement of statements.slice(applied)) db.exec(statement)
      db.exec(`PRAGMA user_version = ${statements.length}`)
    })
  }

  function close(): void {
    if (!db.isOpen) return
    flush()
    db.close()
  }
}

type Job = {
  readonly work: () => unknown
  readonly resolve: (product: unknown) => void
  readonly reject: (error: unknown) => void
}

/** Sees to it that a file of ours is at the path, so that whatever is empty or half made there is damage. */
function prepareFile(path: string): void {
  if (!existsSync(path)) {
    if (existsSync(`${path}-wal`)) throw refused(path, 'it is missing and its log is there', 'both or neither')
    create(path)
  }
  const { size, mode } = statSync(path)
  if (size < 512) throw refused(path, `it is ${size} bytes long`, 'a database')
  if ((mode & 0o007) !== 0)
    throw refused(
      path,
      `it has mode ${(mode & 0o777).toString(8).padStart(4, '0')}`,
      'one that shuts others out, such as 0600',
    )
}

function create(path: string): void {
  try {
    const place = mkdtempSync(`${path}.new-`)
    try {
      const made = join(place, 'db')
      const db = new (process.getBuiltinModule('node:sqlite').DatabaseSync)(made)
      db.exec(`PRAGMA synchronous = FULL; PRAGMA application_id = ${applicationId}`)
      db.close()
      chmodSync(made, 0o600)
      // Appears whole or not at all, and never in place of one that another process made meanwhile.
      linkSync(made, path)
    } finally {
      rmSync(place, { recursive: true, force: true })
    }
    const directory = openSync(dirname(path), 'r')
    fsyncSync(directory)
    closeSync(directory)
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') return
    throw refused(path, 'it cannot be made', 'a directory we may write to', cause)
  }
}

/** Which file is at a path; undefined where there is none, or nobody can tell. */
function identityOf(path: string): string | undefined {
  try {
    const found = statSync(path, { throwIfNoEntry: false })
    return found && `${found.dev} ${found.ino}`
  } catch {
    return undefined
  }
}

function openChecked(path: string): DatabaseSync {
  // Here and not above: whoever runs no issuer does not load it.
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(path, { timeout: busyMs, defensive: true })
    if (path === ':memory:') return db
    // Before the first access: a lock that is never given back, and no shared-memory file.
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF')
    if (pragma(db, 'application_id') !== applicationId)
      throw refused(path, "it is not Postern's", 'a database Postern made')
    if (pragma(db, 'journal_mode = WAL') !== 'wal') throw refused(path, 'it has no write-ahead log', 'one')
    db.exec('PRAGMA synchronous = FULL; BEGIN IMMEDIATE; COMMIT')
    // integrity, not quick: it also compares every index with its table, so that a flipped bit in either shows.
    if (pragma(db, 'integrity_check(1)') !== 'ok') throw refused(path, 'it is damaged', 'a whole one')
    return db
  } catch (error) {
    db?.close()
    if (error instanceof DatabaseRefused) throw error
    if (resultCode(error) === sqliteBusy)
      throw refused(path, 'another process has it open', 'to be the only one', error)
    throw refused(path, 'it is damaged or cannot be read', 'a whole one', error)
  }
}

function refused(path: string, state: string, wanted: string, cause?: unknown): DatabaseRefused {
  return new DatabaseRefused(`Cannot open database ${path}: ${state}, wanted ${wanted}`, { cause })
}

function pragma(db: DatabaseSync, name: string): unknown {
  return Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]
}

/** SQLite's primary result code, if it is SQLite that failed. */
function resultCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined
  return error.errcode & 0xff
}

/** Whether an error means that the store could not be read or written, as opposed to a bug of ours. */
export function isStorageError(error: unknown): boolean {
  return error instanceof StorageFailed || resultCode(error) !== undefined
}
