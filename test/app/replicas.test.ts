import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Followed } from '../../src/app/workers/publisher.ts'
import { createReplicaStore } from '../../src/app/workers/replicas.ts'
import type { WireEntry } from '../../src/app/workers/worker-messages.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestLog } from '../support/log.ts'
import { createSigner } from '../support/tokens.ts'

const clock = createTestClock()
const jwks = {} as Followed['jwks'] // nobody looks at it
const blacklist = {} as NonNullable<Followed['blacklist']> // nor at it

function openStore() {
  return createReplicaStore({ clock, send: () => assert.fail('nothing is looked for') })
}

test('keepOnly() keeps the keys of the configuration that runs, and lets go of all others', () => {
  const store = openStore()
  const document = JSON.stringify({ keys: [createSigner('a').jwk] })
  for (const source of ['a', 'b', 'c'])
    store.receive({ kind: 'keys', source, document, startedMs: clock.monotonicMs(), startedWallMs: clock.wallMs() })
  const use = (...ids: readonly string[]) =>
    store.keepOnly(ids.map((keysId) => ({ trusted: { issuer: keysId }, keysId, jwks, blacklist: undefined })))
  const held = () =>
    ['a', 'b', 'c'].filter((id) => {
      const copy = store.replicas.keys(id, { stale_max: 3_600_000, leeway: 0 }, () => {})
      return copy.snapshot() !== undefined
    })

  use('a', 'c')
  assert.deepEqual(held(), ['a', 'c'])
  use('c')
  assert.deepEqual(held(), ['c'])
  use()

  assert.deepEqual(held(), [])
})

test('keepOnly() keeps the lists of the configuration that runs, and lets go of those of issuers that have none there', () => {
  const store = openStore()
  const state = {
    good: null,
    totalLive: 0,
    unlisted: 0,
    leftOutUntil: 0,
    serverTimeS: 0,
    toldMs: 0,
    cacheSize: 1,
    purgeDelay: 0,
  }
  for (const issuer of ['a', 'b']) {
    store.receive({ kind: 'list_begin', issuer })
    store.receive({ kind: 'list_end', issuer, state })
  }
  const use = (lists: Readonly<Record<string, Followed['blacklist']>>) =>
    store.keepOnly(
      Object.entries(lists).map(([issuer, list]) => ({ trusted: { issuer }, keysId: issuer, jwks, blacklist: list })),
    )
  const options = { url: 'https://issuer.test/blacklist', client_id: 'gateway', wait: 0, poll_interval: 60_000 }
  const limits = { cache_size: 1, purge_delay: 0, max_staleness: 300_000 }
  const deps = { clock, send: () => assert.fail('nothing is asked'), secret: () => '', log: createTestLog() }
  const held = () =>
    ['a', 'b'].filter((issuer) => store.replicas.list({ ...options, ...limits, issuer }, deps).state().loaded)

  use({ a: blacklist, b: blacklist })
  assert.deepEqual(held(), ['a', 'b'])
  use({ a: undefined, b: blacklist })
  assert.deepEqual(held(), ['b'])
  use({})

  assert.deepEqual(held(), [])
})

test('a copy of a list of which no poll was good is stale, whatever was said of it before', () => {
  const store = openStore()
  const good = { startedMs: clock.monotonicMs(), wallMs: clock.wallMs() }
  const state = {
    good,
    totalLive: 0,
    unlisted: 0,
    leftOutUntil: 0,
    serverTimeS: 0,
    toldMs: 0,
    cacheSize: 1,
    purgeDelay: 0,
  }
  store.receive({ kind: 'list_begin', issuer: 'a' })
  store.receive({ kind: 'list_end', issuer: 'a', state })
  const list = store.replicas.list(
    {
      ...{ issuer: 'a', url: 'https://issuer.test/blacklist', client_id: 'gateway', wait: 0, poll_interval: 60_000 },
      ...{ cache_size: 1, purge_delay: 0, max_staleness: 300_000 },
    },
    { clock, send: () => assert.fail('nothing is asked'), secret: () => '', log: createTestLog() },
  )
  assert.equal(list.state().stale, false)

  store.receive({ kind: 'list_state', issuer: 'a', state: { ...state, good: null } })

  assert.equal(list.state().stale, true)
})

test('a list that is sent ahead of the configuration that has room for it, and keeps its entries longer, stays whole', async () => {
  const store = openStore()
  const serverTimeS = clock.wallMs() / 1000
  const good = { startedMs: clock.monotonicMs(), wallMs: clock.wallMs() }
  const known = { good, totalLive: 2, unlisted: 0, leftOutUntil: 0, serverTimeS, toldMs: clock.monotonicMs() }
  const options = { issuer: 'a', url: 'https://issuer.test/blacklist', client_id: 'gateway', wait: 0 }
  const limits = { poll_interval: 60_000, cache_size: 1, purge_delay: 0, max_staleness: 300_000 }
  const deps = { clock, send: () => assert.fail('nothing is asked'), secret: () => '', log: createTestLog() }
  const list = store.replicas.list({ ...options, ...limits }, deps)
  list.start()
  const entries = ['a', 'b'].map((value): WireEntry => ['jti', value, null, serverTimeS - 30, 'owner'])

  store.receive({ kind: 'list_begin', issuer: 'a' })
  store.receive({ kind: 'list_slice', issuer: 'a', part: 'index', entries })
  store.receive({ kind: 'list_end', issuer: 'a', state: { ...known, cacheSize: 2, purgeDelay: 60_000 } })
  await nextTurn()

  assert.deepEqual([list.state().entries, list.state().lookups], [2, false])
})
