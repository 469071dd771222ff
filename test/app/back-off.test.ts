import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBackOff } from '../../src/app/workers/back-off.ts'
import { createTestClock } from '../support/clock.ts'

test('createBackOff() doubles from 100 ms up to 5 s', () => {
  const backOff = createBackOff({ clock: createTestClock() })

  const waits = Array.from({ length: 9 }, () => backOff.nextMs(undefined))

  assert.deepEqual(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000])
})

test('createBackOff() begins anew after a minute that went well, and not after less', () => {
  const clock = createTestClock()
  const backOff = createBackOff({ clock })
  const waitAfter = (ms: number) => {
    const sinceMs = clock.monotonicMs()
    clock.pass(ms)
    return backOff.nextMs(sinceMs)
  }

  assert.deepEqual([waitAfter(0), waitAfter(59_999), waitAfter(60_000), waitAfter(0)], [100, 200, 100, 200])
})
