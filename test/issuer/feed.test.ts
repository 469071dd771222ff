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
}

const clock = { wallMs: () => epochStart * 1000, monotonicMs: () => 0 }

/** One realm's list and its feed, without a server. */
async function startParts(): Promise<Parts> {
  const store = openIssuerStore({ path: ':memory:', purgeDelayMs: 0 }, { clock })
  const tables = store.realm('a')
  const blacklist = createBlacklist({ purgeDelayMs: 0 }, { store, tables, clock })
  const resourceServers = await createAuthenticator(
    [{ client_id: 'orders', client_secret: 'rs-secret-4444', audience: 'orders-api' }],
    { random: randomBytes },
  )
  const closing = new Promise<void>(() => {})
  const feed = createFeed({ epoch: 'e' }, { resourceServers, blacklist, store, tables, closing })
  const parts = { store, tables, blacklist, feed, [Symbol.dispose]: store.close }
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
  const request = { method: 'GET', path: '/blacklist', query, headers, body: Buffer.alloc(0), remoteAddress: '::1' }
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

test('blacklist.add() wakes those who wait for a new seq, and not for what was covered already', async () => {
  using parts = await startParts()
  const { store, tables } = parts
  const old = jti('old')
  await parts.blacklist.add(old)
  const blacklist = createBlacklist({ purgeDelayMs: 0 }, { store, tables, clock })
  let woken = 0
  blacklist.waiters.add(() => {
    woken += 1
  })
  const counts: number[] = []

  // The last: a key's entry is put down when the key is withdrawn, and added afterwards.
  const kid = { ...jti('k'), kind: 'kid' } as const
  for (const entry of [jti('t'), jti('t'), old, { ...jti('t'), expires_at: epochStart + 90 }, jti('t'), kid]) {
    if (entry === kid) store.transaction(() => blacklist.put(kid))
    await blacklist.add(entry)
    counts.push(woken)
  }

  assert.deepEqual(counts, [1, 1, 1, 2, 2, 3])
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

test('feed.page() frees the place of a poll whose client has left, also where it left before it was held', async () => {
  using parts = await startParts()
  const connection = new AbortController()
  const held = Array.from({ length: 4 }, () => poll(parts, 'wait=25', undefined, connection.signal))
  await nextTurn()
  assert.equal(parts.blacklist.waiters.size, 4)

  connection.abort()
  held.push(poll(parts, 'wait=25', undefined, connection.signal))
  await nextTurn()

  assert.equal(parts.blacklist.waiters.size, 0)
  await Promise.all(held)
})
