import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createReplicaStore } from '../../src/app/workers/replicas.ts'
import { createTestClock } from '../support/clock.ts'
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
