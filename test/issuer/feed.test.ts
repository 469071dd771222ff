// The issuer's half of the long poll: what is held, until when, and what is left of it.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { queryObjects } from 'node:v8'
import { nextTurn } from '../../src/base/time.ts'
import type { Blacklist } from '../../src/issuer/blacklist.ts'
import { createBlacklist } from '../../src/issuer/blacklist.ts'
import { createAuthenticator } from '../../src/issuer/clients.ts'
import type { Feed } from '../../src/issuer/feed.ts'
import { createFeed } from '../../src/issuer/feed.ts'
import type { IssuerStore, RealmStore } from '../../src/issuer/store.ts'
import { openIssuerStore } from '../../src/issuer/store.ts'
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
  return { store, tables, blacklist, feed, [Symbol.dispose]: store.close }
}

function jti(value: string) {
  return { kind: 'jti', value, issued_before: null, expires_at: epochStart + 60, cause: 'client' } as const
}

function poll({ feed }: Parts, query: string) {
  const headers = new Map([['authorization', [orders]]])
  const request = { method: 'GET', path: '/blacklist', query, headers, body: Buffer.alloc(0), remoteAddress: '::1' }
  return feed.page(request)
}

test('feed.page() leaves nothing of a poll that is over, by its time or by an entry', async () => {
  using parts = await startParts()
  await poll(parts, '')
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
