import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBodyTime } from '../../src/http1/body-time.ts'
import { createDeadlines } from '../../src/http1/deadlines.ts'

/** One body's time, a second for it and 100 bytes for every second more, on a clock that is moved by hand. */
function begun() {
  let nowMs = 5000
  const time = createBodyTime({ requestMs: 1000, minBodyRate: 100 }, { nowMs: () => nowMs })
  return {
    ...time,
    leftMs: () => time.dueMs() - nowMs,
    pass(ms: number) {
      nowMs += ms
    },
  }
}

test('createBodyTime() gives a body its time, more for what has come, and never more than that time at once', () => {
  const it = begun()
  assert.equal(it.leftMs(), 1000)
  it.pass(600)
  it.took(20)
  assert.equal(it.leftMs(), 600)
  it.took(100_000)
  assert.equal(it.leftMs(), 1000)
})

test('createBodyTime() gives who keeps the rate all the time there is, and who does not none', () => {
  for (const [bytes, isOver] of [
    [101, false],
    [99, true],
  ] as const) {
    const it = begun()
    for (let at = 0; at < 20; at += 1) {
      it.took(bytes)
      it.pass(1000)
      if (at > 0 || !isOver) it.look(true)
    }
    it.pass(1000)
    it.took(1)
    assert.equal(it.look(true), isOver)
  }
})

test('createBodyTime() takes no silence for reading: one that was not read, or not all the time, is not over', () => {
  const it = begun()
  it.took(100_000)
  it.pass(1000)
  assert.equal(it.look(true), false)
  it.pass(1000)
  assert.equal(it.look(false), false, 'it is not read')
  it.pass(1000)
  assert.equal(it.look(true), false, 'it was not read before')
  it.resumed()
  it.pass(1000)
  assert.equal(it.look(true), false, 'it was paused meanwhile')
  it.pass(1000)
  assert.equal(it.look(true), true)
})

test('createBodyTime() carries nothing over to the next body', () => {
  const it = begun()
  it.took(100_000)
  it.pass(1000)
  it.look(true)
  it.begin()
  it.took(100_000)
  it.pass(1000)
  assert.equal(it.look(true), false, 'what was seen of the one before is no silence of this')
  it.begin()
  it.pass(999)
  assert.equal(it.leftMs(), 1)
  it.pass(1)
  assert.equal(it.look(true), true)
})

test('createBodyTime() holds nobody to a rate while the process stood still', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  let nowMs = 5000
  const deadlines = createDeadlines({ monotonicMs: () => nowMs })
  const deadline = { atMs: Number.POSITIVE_INFINITY, expire() {} }
  deadlines.watch(deadline)
  const time = createBodyTime({ requestMs: 1000, minBodyRate: 100 }, deadlines)
  time.took(100)

  nowMs += 600_000
  t.mock.timers.tick(250)

  assert.equal(time.look(true), false)
  deadlines.unwatch(deadline)
})
