import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createReplicaStore } from '../../src/app/workers/replicas.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestLog } from '../support/log.ts'
import { createSigner } from '../support/tokens.ts'

test('keepExpected() keeps what was sent ahead of the configuration that has it, and lets go of what only one before had', () => {
  const clock = createTestClock()
  const store = createReplicaStore({ clock, send: () => assert.fail('nothing is looked for') })
  const document = JSON.stringify({ keys: [createSigner('a').jwk] })
  const send = (source: number) =>
    store.receive({ kind: 'keys', source, document, startedMs: clock.monotonicMs(), startedWallMs: clock.wallMs() })
  const use = (...numbers: readonly number[]) => {
    store.expect(numbers.map((keys) => ({ issuer: `https://issuer-${keys}.test`, keys, list: null })))
    store.keepExpected()
  }
  const held = () =>
    [1, 2, 3].filter((number) => {
      const copy = store.replicas.keys(number, { stale_max: 3_600_000, leeway: 0 }, () => {})
      return copy.snapshot() !== undefined
    })
  for (const number of [1, 2]) send(number)
  use(1, 2)
  send(3)

  use(1)
  assert.deepEqual(held(), [1, 3])
  use(3)
  assert.deepEqual(held(), [3])
  use()

  assert.deepEqual(held(), [])
})

test('keepExpected() keeps the lists of the configuration, and lets go of those of one before, whatever their numbers', () => {
  const clock = createTestClock()
  const store = createReplicaStore({ clock, send: () => assert.fail('nothing is looked for') })
  const state = { good: null, totalLive: 0, unlisted: 0, leftOutUntil: 0, serverTimeS: 0, toldMs: 0, cacheSize: 1 }
  const send = (source: number) => {
    store.receive({ kind: 'list_begin', source })
    store.receive({ kind: 'list_end', source, state })
  }
  const use = (...numbers: readonly number[]) => {
    store.expect(numbers.map((list) => ({ issuer: `https://issuer-${list}.test`, keys: 1, list })))
    store.keepExpected()
  }
  const url = 'https://issuer.test/blacklist'
  const options = { issuer: 'https://issuer.test', url, client_id: 'gateway', wait: 0, poll_interval: 60_000 }
  const limits = { cache_size: 1, purge_delay: 0, max_staleness: 300_000 }
  const deps = { clock, send: () => assert.fail('nothing is asked'), secret: () => '', log: createTestLog() }
  const held = () =>
    [2, 3].filter((number) => store.replicas.list(number, { ...options, ...limits }, deps).state().loaded)
  for (const number of [2, 3]) send(number)

  use(2, 3)
  assert.deepEqual(held(), [2, 3])
  use(3)
  assert.deepEqual(held(), [3])
  use()

  assert.deepEqual(held(), [])
})
