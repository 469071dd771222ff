import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createReminder } from '../../src/base/reminder.ts'
import { createTestClock } from '../support/clock.ts'

test('createReminder() is due at first, once in its time while something lasts, and at once where it is new', () => {
  const clock = createTestClock()
  const isDue = createReminder(60_000, { clock })
  const at = (ms: number, isNew?: boolean) => {
    clock.pass(ms)
    return isDue(isNew)
  }
  assert.deepEqual(
    [at(0), at(0), at(59_999), at(1), at(30_000, true), at(59_999), at(1), at(1)],
    [true, false, false, true, true, false, true, false],
  )
})
