// The issuer's half of the long poll: what is held, until when, and what is left of it.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { queryObjects } from 'node:v8'
import { nextTurn } from '../../src/base/time.ts'
import type { HttpAnswer } from '../../src/io/http-server.ts'
import type { Blacklist } from '../../src/issuer/blacklist.ts'
import { createBlacklist } from '../../src/issuer/blacklist.ts'
import { createAuthenticator } from '../../src/issuer/clients.ts'
import type { Feed } from '../../src/issuer/feed.ts'
import { createFeed } from '../../src/issuer/feed.ts'
import type { IssuerStore, RealmStore } from '../../src/issuer/store.ts'
import { openIssuerStore } from '../../src/issuer/store.ts'
import type { Page } from './realms.ts'
import { epochStart, orders } from './realms.ts'

type Parts = Disposable & {
  readonly store: IssuerStore
  readonly tables: RealmStore
  readonly blacklist: Blacklist
  readonly feed: Feed
  /** Which second it is. */
  readonly time: { now: number }
  /** How often the entries were counted, and a page of them was read. */
  readonly reads: { counts: number; pages: number }
}

/** One realm's list and its feed, without a server. */
async function startParts(): Promise<Parts> {
  const time = { now: epochStart }
  const clock = { wallMs: () => time.now * 1000, monotonicMs: () => time.now * 1000 }
  const store = openIssuerStore({ path: ':memory:', purgeDelayMs: 0 }, { clock })
  const reads = { counts: 0, pages: 0 }
  const kept = store.realm('a')
  const tables: RealmStore = {
    ...kept,
    countEntries(now) {
      reads.counts += 1
      return kept.countEntries(now)
    },
    entriesAfter(cursor, limit, now) {
      if (limit > 1) reads.pages += 1
      return kept.entriesAfter(cursor, limit, now)
    },
  }
  const blacklist = createBlacklist({ purgeDelayMs: 0 }, { store, tables, clock })
  const resourceServers = await createAuthenticator(
    [{ client_id: 'orders', client_secret: 'rs-secret-4444', audience: 'orders-api' }],
    { random: randomBytes },
  )
  const closing = new Promise<void>(() => {})
  const feed = createFeed({ epoch: 'e' }, { resourceServers, blacklist, store, tables, closing })
  const parts = { store, tables, blacklist, feed, time, reads, [Symbol.dispose]: store.close }
  // Once its secret has been proved a poll is held within a turn.
  await poll(parts, '')
  return parts
}

function jti(value: string) {
  return { kind: 'jti', value, issued_before: null, expires_at: epochStart + 60, cause: 'client' } as const
}

function poll({ feed }: Parts, query: string, etag?: string, left = new AbortController().signal) {
  const headers = new Map([['authorization', [orders]]])
  if (etag !== undefined) headers.set('if-none-match', [etag])
  const request = { method: 'GET', path: '/blacklist', query, headers, body: Buffer.alloc(0) }
  return feed.page({ ...request, left })
}

function values(answer: HttpAnswer): readonly string[] {
  const { entries } = JSON.parse(String(answer.body)) as Page // what its tests then look at
  return entries.map(({ value }) => value)
}

test('feed.page() leaves nothing of a poll that is over, by its time or by an entry', async () => {
  using parts = await startParts()
  const before = queryObjects(Promise, { format: 'count' })

  await hold(1)
  await hold(25, () => parts.blacklist.add(jti('t')))

  assert.equal(parts.blacklist.waiters.size, 0)
  const left = queryObjects(Promise, { format: 'count' }) - before
  assert.ok(left < 100, `${left} promises are left of 400 polls`)

  async function hold(wait: number, end?: () => unknown): Promise<void> {
    const polls = Array.from({ length: 200 }, () => poll(parts, `wait=${wait}`))
    await nextTurn()
    assert.equal(parts.blacklist.waiters.size, 200)
    await end?.()
    await Promise.all(polls)
  }
})

test('feed.page() goes on waiting where it was woken for nothing that is after its cursor', async () => {
  using parts = await startParts()
  const cursor = await parts.blacklist.add(jti('t'))
  const held = poll(parts, `cursor=${cursor}&wait=25`)
  const short = poll(parts, `cursor=${cursor}&wait=1`)
  await nextTurn()
  assert.equal(parts.blacklist.waiters.size, 2)

  const beganMs = performance.now()
  for (let turn = 0; turn < 10; turn += 1) {
    await nextTurn()
    parts.blacklist.wake()
  }
  assert.deepEqual(values(await short), [])
  assert.ok(performance.now() - beganMs > 900)
  await parts.blacklist.add(jti('u'))

  assert.deepEqual(values(await held), ['u'])
})

test('blacklist.add() resolves before it wakes anybody, and wakes some at a time, for whom one page is made', async () => {
  using parts = await startParts()
  await parts.blacklist.add(jti('t'))
  const polls = Array.from({ length: 200 }, () => poll(parts, 'cursor=1&wait=25'))
  await nextTurn()
  const before = parts.reads.pages
  const beganMs = performance.now()

  await parts.blacklist.add(jti('u'))
  const still = parts.blacklist.waiters.size
  await nextTurn()
  await nextTurn()
  const some = parts.blacklist.waiters.size
  const answers = await Promise.all(polls)

  assert.ok(performance.now() - beganMs < 5000, 'nobody has waited to the end')
  assert.equal(still, 200)
  assert.ok(some > 100 && some < 200, `${some}`)
  for (const answer of answers) assert.deepEqual(values(answer), ['u'])
  assert.equal(parts.reads.pages - before, 1)
})

test('blacklist.add() wakes those who wait for a new seq, and not for what was covered already', async () => {
  using parts = await startParts()
  const { store, tables } = parts
  const old = jti('old')
  await parts.blacklist.add(old)
  // After a restart.
  const blacklist = createBlacklist({ purgeDelayMs: 0 }, { store, tables, clock: store.clock })
  let woken = 0
  blacklist.waiters.add(() => {
    woken += 1
  })
  const counts: number[] = []

  // The last: a key's entry is put down when the key is withdrawn, and added afterwards.
  const kid = { ...jti('k'), kind: 'kid' } as const
  for (const entry of [old, jti('t'), jti('t'), old, { ...jti('t'), expires_at: epochStart + 90 }, jti('t'), kid]) {
    if (entry === kid) store.transaction(() => blacklist.put(kid))
    await blacklist.add(entry)
    await nextTurn()
    counts.push(woken)
  }

  assert.deepEqual(counts, [0, 1, 1, 1, 2, 2, 3])
})

const tags = [
  { etag: undefined, held: 1, because: 'it names no list' },
  { etag: 'W/"e.1.1000.1.1"', held: 1, because: 'its list is of our epoch' },
  { etag: '"e.0.2.1.1"', held: 1, because: 'its list is of our epoch, though it was asked for otherwise' },
  { etag: '"x", W/"e.1.1000.1.1"', held: 1, because: 'one of its lists is of our epoch' },
  { etag: 'W/"earlier.1.1000.1.1"', held: 0, because: 'its list is of another epoch' },
  { etag: '"x"', held: 0, because: 'its list is not ours' },
]
for (const { etag, held, because } of tags) {
  test(`feed.page() ${held === 1 ? 'holds a poll' : 'answers a poll at once'} with ${etag}: ${because}`, async () => {
    using parts = await startParts()
    await parts.blacklist.add(jti('t'))
    const answered = poll(parts, 'cursor=1&wait=25', etag)
    await nextTurn()

    assert.equal(parts.blacklist.waiters.size, held)
    await parts.blacklist.add(jti('u'))

    assert.deepEqual(values(await answered), held === 1 ? ['u'] : [])
  })
}

const unheld = [
  { query: 'cursor=1', because: 'it does not ask for it' },
  { query: 'cursor=1&wait=0', because: 'it asks for no time' },
  { query: 'cursor=0&wait=25', because: 'there is news' },
  { query: 'cursor=2&wait=25', because: 'its cursor is from the future' },
]
for (const { query, because } of unheld)
  test(`feed.page() answers ${query} at once: ${because}`, async () => {
    using parts = await startParts()
    await parts.blacklist.add(jti('t'))

    const answered = poll(parts, query)
    await nextTurn()

    assert.equal(parts.blacklist.waiters.size, 0)
    const { cursor, reset } = JSON.parse(String((await answered).body)) as Page
    assert.deepEqual([cursor, reset], ['1', query.startsWith('cursor=2')])
  })

test('feed.page() holds a poll for 25 s, however much longer it asks for', async (t) => {
  using parts = await startParts()
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const answered = poll(parts, 'wait=26')
  await nextTurn()

  t.mock.timers.tick(24_999)
  await nextTurn()
  assert.equal(parts.blacklist.waiters.size, 1)
  t.mock.timers.tick(1)

  assert.deepEqual(values(await answered), [])
})

test('feed.page() holds a thousand polls, and answers one more at once', async () => {
  using parts = await startParts()
  const held = Array.from({ length: 1000 }, () => poll(parts, 'wait=25'))
  await nextTurn()

  assert.deepEqual(values(await poll(parts, 'wait=25')), [])

  assert.equal(parts.blacklist.waiters.size, 1000)
  await parts.blacklist.add(jti('t'))
  for (const answer of await Promise.all(held)) assert.deepEqual(values(answer), ['t'])
})

test('feed.page() goes on waiting when what has come has run out', async () => {
  using parts = await startParts()
  const held = poll(parts, 'wait=25')
  await nextTurn()

  await parts.blacklist.add({ ...jti('t'), expires_at: epochStart + 1 })
  parts.time.now += 1
  await nextTurn()
  await nextTurn()

  assert.equal(parts.blacklist.waiters.size, 1)
  await parts.blacklist.add(jti('u'))
  assert.deepEqual(values(await held), ['u'])
})

test('feed.page() frees the place of a poll whose client has left, also where it left before it was held', async () => {
  using parts = await startParts()
  const connection = new AbortController()
  const held = Array.from({ length: 4 }, () => poll(parts, 'wait=25&limit=7', undefined, connection.signal))
  await nextTurn()
  assert.equal(parts.blacklist.waiters.size, 4)

  connection.abort()
  held.push(poll(parts, 'wait=25&limit=7', undefined, connection.signal))
  await nextTurn()

  assert.equal(parts.blacklist.waiters.size, 0)
  await Promise.all(held)
  assert.equal(parts.reads.pages, 1, 'the one at the start')
})

test('feed.page() gives one caller no page that was made for another, of another limit', async () => {
  using parts = await startParts()
  for (const value of ['t', 'u', 'v']) await parts.blacklist.add(jti(value))

  assert.deepEqual(values(await poll(parts, 'limit=1')), ['t'])
  assert.deepEqual(values(await poll(parts, 'limit=2')), ['t', 'u'])
})

test('feed.page() counts a list anew when an entry has come, and when one may have run out', async () => {
  using parts = await startParts()
  const totals: unknown[] = []
  const look = async () => totals.push((JSON.parse(String((await poll(parts, '')).body)) as Page).total_live)

  await parts.blacklist.add(jti('t'))
  await look()
  await parts.blacklist.add({ ...jti('u'), expires_at: epochStart + 90 })
  await look()
  parts.time.now += 60
  await look()
  await poll(parts, 'limit=1')

  assert.deepEqual(totals, [1, 2, 1])
  assert.equal(parts.reads.counts, 4, 'with the one at the start')
})
