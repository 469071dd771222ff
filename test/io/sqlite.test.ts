import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { DatabaseRefused, openDatabase, StorageFailed } from '../../src/io/sqlite.ts'

function directory() {
  const path = mkdtempSync(join(tmpdir(), 'postern-sqlite-'))
  return { path, file: join(path, 'issuer.db'), [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

const tables = ['CREATE TABLE entry (id INTEGER PRIMARY KEY AUTOINCREMENT, value TEXT NOT NULL UNIQUE) STRICT']

test('openDatabase() makes a private file with a write-ahead log and a flush per commit', () => {
  using place = directory()
  using db = openDatabase(place.file)

  assert.equal(statSync(place.file).mode & 0o777, 0o600)
  assert.deepEqual({ ...db.prepare('PRAGMA journal_mode').get() }, { journal_mode: 'wal' })
  assert.deepEqual({ ...db.prepare('PRAGMA synchronous').get() }, { synchronous: 2 })
})

test('database.migrate() applies each statement once in the life of the file', () => {
  using place = directory()
  const first = openDatabase(place.file)
  first.migrate(tables)
  first.transaction(() => first.prepare('INSERT INTO entry (value) VALUES (?)').run('a'))
  first.close()

  using second = openDatabase(place.file)
  second.migrate([...tables, 'ALTER TABLE entry ADD COLUMN more TEXT'])

  assert.deepEqual({ ...second.prepare('SELECT * FROM entry').get() }, { id: 1, value: 'a', more: null })
  assert.throws(() => second.migrate(tables), DatabaseRefused, 'a file from a newer build is not downgraded')
})

test('database.transaction() undoes everything when its work throws', () => {
  using db = openDatabase(':memory:')
  db.migrate(tables)
  const insert = db.prepare('INSERT INTO entry (value) VALUES (?)')

  assert.throws(() => {
    db.transaction(() => {
      insert.run('a')
      throw new RangeError('no')
    })
  }, RangeError)

  assert.deepEqual(db.prepare('SELECT * FROM entry').all(), [])
})

test('database.write() undoes work that throws alone, and commits what shared its transaction', async () => {
  using db = openDatabase(':memory:')
  db.migrate(tables)
  const insert = db.prepare('INSERT INTO entry (value) VALUES (?)')

  const outcomes = await Promise.allSettled([
    db.write(() => insert.run('a').lastInsertRowid),
    db.write(() => {
      insert.run('b')
      throw new RangeError('no')
    }),
    db.write(() => insert.run('c').lastInsertRowid),
  ])

  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  assert.deepEqual(
    db
      .prepare('SELECT value FROM entry')
      .all()
      .map((row) => row['value']),
    ['a', 'c'],
  )
})

test('database.write() carries out what was asked before close()', async () => {
  using place = directory()
  const db = openDatabase(place.file)
  db.migrate(tables)
  const written = db.write(() => db.prepare("INSERT INTO entry (value) VALUES ('a')").run())
  db.close()
  await written

  using again = openDatabase(place.file)
  assert.equal(again.prepare('SELECT count(*) AS n FROM entry').get()?.['n'], 1)
})

test('database.write() rejects with StorageFailed when space runs out, and works again when there is some', async () => {
  using db = openDatabase(':memory:')
  db.migrate(tables)
  db.prepare('PRAGMA max_page_count = 6').get()
  const insert = db.prepare('INSERT INTO entry (value) VALUES (?)')

  const failed = await db.write(() => insert.run('a'.repeat(100_000))).catch((error: unknown) => error)
  await db.write(() => insert.run('b'))

  assert.ok(failed instanceof StorageFailed)
  assert.equal(failed.final, false)
  assert.deepEqual(
    db
      .prepare('SELECT value FROM entry')
      .all()
      .map((row) => row['value']),
    ['b'],
  )
})

for (const { what, spoil } of [
  { what: 'the file is deleted', spoil: (file: string) => rmSync(file) },
  { what: 'its log is deleted', spoil: (file: string) => rmSync(`${file}-wal`) },
  {
    what: 'a copy takes the place of the file',
    spoil(file: string) {
      copyFileSync(file, `${file}.copy`)
      renameSync(`${file}.copy`, file)
    },
  },
])
  test(`database.write() acknowledges nothing any more once ${what}`, async () => {
    using place = directory()
    using db = openDatabase(place.file)
    db.migrate(tables)
    const insert = db.prepare('INSERT INTO entry (value) VALUES (?)')
    await db.write(() => insert.run('before'))

    spoil(place.file)
    const outcome = await db.write(() => insert.run('after')).catch((error: unknown) => error)

    assert.ok(outcome instanceof StorageFailed && outcome.final)
    assert.equal(await db.failed, outcome)
    assert.throws(() => db.transaction(() => insert.run('later')), StorageFailed)
  })

test('openDatabase() refuses a file another process has open, and takes it once that one was killed', () => {
  using place = directory()
  const source = join(import.meta.dirname, '../../src/io/sqlite.ts')
  const attempt = `import { openDatabase } from ${JSON.stringify(source)}; try { openDatabase(${JSON.stringify(place.file)}); console.log('opened') } catch (e) { console.log(e.message) }`
  const run = () => spawnSync(process.execPath, ['--input-type=module', '-e', attempt], { encoding: 'utf8' }).stdout
  const db = openDatabase(place.file)

  assert.match(run(), /another process has it open/)
  db.close()
  assert.match(run(), /^opened/)
  openDatabase(place.file).close()
})

const damages: readonly { because: string; hurt: (file: string) => void }[] = [
  { because: 'it is empty', hurt: (file) => writeFileSync(file, '') },
  { because: 'it is something else', hurt: (file) => writeFileSync(file, 'x'.repeat(8192)) },
  { because: 'it ends early', hurt: (file) => writeFileSync(file, readFileSync(file).subarray(0, 4096)) },
  {
    because: 'a bit of a value is flipped',
    hurt: (file) => {
      const bytes = readFileSync(file)
      const at = bytes.indexOf('revoked-token-id')
      bytes[at] = (bytes[at] ?? 0) ^ 1
      writeFileSync(file, bytes)
    },
  },
  {
    because: 'the file is gone and its log is there',
    hurt: (file) => {
      writeFileSync(`${file}-wal`, 'x')
      rmSync(file)
    },
  },
  { because: 'everybody may read it', hurt: (file) => chmodSync(file, 0o644) },
]
for (const { because, hurt } of damages) {
  test(`openDatabase() refuses a file, and never starts empty, when ${because}`, () => {
    using place = directory()
    const db = openDatabase(place.file)
    db.migrate(tables)
    db.transaction(() => db.prepare('INSERT INTO entry (value) VALUES (?)').run('revoked-token-id'))
    db.close()
    hurt(place.file)

    assert.throws(() => openDatabase(place.file), { name: 'DatabaseRefused' })
  })
}

test('openDatabase() refuses a database that is not ours and leaves it as it was', () => {
  using place = directory()
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const foreign = new DatabaseSync(place.file)
  foreign.exec('CREATE TABLE t (a)')
  foreign.close()
  chmodSync(place.file, 0o600)
  const before = readFileSync(place.file)

  assert.throws(() => openDatabase(place.file), { name: 'DatabaseRefused' })
  assert.deepEqual(readFileSync(place.file), before)
})

test('openDatabase() drops a torn tail of the log and keeps what was committed before it', () => {
  using place = directory()
  const db = openDatabase(place.file)
  db.migrate(tables)
  const insert = db.prepare('INSERT INTO entry (value) VALUES (?)')
  db.transaction(() => insert.run('a'))
  const copy = join(place.path, 'copy.db')
  writeFileSync(copy, readFileSync(place.file), { mode: 0o600 })
  writeFileSync(`${copy}-wal`, Buffer.concat([readFileSync(`${place.file}-wal`), Buffer.alloc(2000, 7)]), {
    mode: 0o600,
  })
  db.close()

  using again = openDatabase(copy)
  assert.deepEqual(
    again
      .prepare('SELECT value FROM entry')
      .all()
      .map((row) => row['value']),
    ['a'],
  )
})
