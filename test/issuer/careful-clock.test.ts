import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CarefulState } from '../../src/issuer/careful-clock.ts'
import { createCarefulClock } from '../../src/issuer/careful-clock.ts'

const hour = 3_600_000
const day = 24 * hour
const began = 1_767_225_600_000

/** A careful clock over an issuer whose tokens live an hour, and what moves the clocks beneath it. */
function start({ before, lifeMs = hour }: { before?: CarefulState; lifeMs?: number } = {}) {
  let [wall, monotonic] = [began, 0]
  let runOut = 0
  const clock = createCarefulClock({
    clock: { wallMs: () => wall, monotonicMs: () => monotonic },
    before,
    runOutMs: () => runOut,
  })
  return {
    /** What it says, since the start. */
    said: () => clock.wallMs() - began,
    monotonicMs: clock.monotonicMs,
    state: clock.state,
    /** Issues a token. */
    issue() {
      runOut = Math.max(runOut, wall + lifeMs)
    },
    pass(ms: number) {
      wall += ms
      monotonic += ms
    },
    leap(ms: number) {
      wall += ms
    },
  }
}

test('wallMs() goes with the wall clock, and where that is slewed for a year, as far behind as it gets in two days', () => {
  const { said, pass, leap } = start()
  for (let minutes = 1; minutes <= 365 * 1440; minutes += 1) {
    pass(60_000)
    leap(30)
    const behind = minutes * 60_030 - said()
    assert.ok(behind >= 0 && behind <= 2 * 1440 * 30 + 1000, `${behind} ms behind after ${minutes} min`)
  }
})

test('wallMs() believes no slewing at once: chrony may have a clock gain two hours in a day', () => {
  const { said, pass, leap } = start()
  for (let seconds = 0; seconds < 24 * 3600; seconds += 5) {
    pass(5000)
    leap(5000 * 0.083333)
    assert.ok(said() <= (seconds + 5) * 1000)
  }
})

test('wallMs() goes on from where it was when the wall clock leaps, and comes back with it', () => {
  const { said, pass, leap } = start()
  pass(60_000)
  assert.equal(said(), 60_000)

  leap(24 * hour)
  assert.equal(said(), 60_000)
  pass(60_000)
  assert.equal(said(), 120_000)
  leap(-24 * hour)

  assert.equal(said(), 120_000)
})

test('wallMs() believes a leap after a day, not a moment earlier', () => {
  const { said, pass, leap } = start()
  leap(2 * hour)
  assert.equal(said(), 0)

  pass(day - 1)
  assert.equal(said(), day - 1)
  pass(1)
  assert.equal(said(), day + 2 * hour)
})

test('wallMs() believes a leap only when all that was issued before has run out', () => {
  const { said, issue, pass, leap } = start({ lifeMs: 10 * day })
  issue()
  leap(20 * day)
  assert.equal(said(), 0)

  pass(10 * day - 1)
  assert.equal(said(), 10 * day - 1)
  pass(1)
  assert.equal(said(), 30 * day)
})

test('wallMs() believes a leap on top of another only when what was issued between the two has run out', () => {
  const { said, issue, pass, leap } = start({ lifeMs: 5 * day })
  leap(3 * day)
  assert.equal(said(), 0)
  issue()
  leap(4 * day)
  pass(day)
  assert.equal(said(), 4 * day, 'the first')

  pass(4 * day - 1)
  assert.equal(said(), 8 * day - 1)
  pass(1)
  assert.equal(said(), 12 * day, 'the second: the token ran out at 8 days by the clock in between')
})

test('wallMs() counts anew from a second leap: it was right in between', () => {
  const { said, pass, leap } = start()
  leap(2 * hour)
  assert.equal(said(), 0)
  pass(day / 2)
  leap(-2 * hour)
  assert.equal(said(), day / 2)

  leap(2 * hour)
  assert.equal(said(), day / 2)
  pass(day - 1)
  assert.equal(said(), 1.5 * day - 1)
  pass(1)
  assert.equal(said(), 1.5 * day + 2 * hour)
})

test('wallMs() believes each leap in its own time, though another came before', () => {
  const { said, pass, leap } = start()
  leap(hour / 6)
  assert.equal(said(), 0)
  pass(day - 60_000)
  leap(24 * hour)
  assert.equal(said(), day - 60_000)

  pass(60_000)
  assert.equal(said(), day + hour / 6, 'the first, and not the second')
  leap(-24 * hour)
  assert.equal(said(), day + hour / 6)
})

test('wallMs() believes of a leap what is left of it when its time has come', () => {
  const { said, pass, leap } = start()
  leap(3 * hour)
  assert.equal(said(), 0)
  leap(-2 * hour)
  assert.equal(said(), 0)
  leap(2 * hour)

  pass(day)

  assert.equal(said(), day + hour)
})

test('wallMs() follows a clock that is set back at once', () => {
  const { said, leap } = start()
  leap(-24 * hour)
  assert.equal(said(), -24 * hour)
})

test('wallMs() goes on after a restart from where it was, and what the wall clock did meanwhile is a leap', () => {
  const before = start()
  before.pass(hour)
  before.said()

  const after = start({ before: { ...before.state(), atMs: began - 5 * hour } })

  assert.equal(after.said(), -5 * hour)
  after.pass(day)
  assert.equal(after.said(), day)
})

test('wallMs() doubts after a restart what it doubted before, and no longer', () => {
  const before = start()
  before.leap(2 * hour)
  before.said()
  before.pass(day - hour)
  before.said()

  const { atMs, ...doubt } = before.state()
  const after = start({ before: { atMs: began - 2 * hour, ...doubt, believedAtMs: began - hour } })

  assert.equal(atMs, began + day - hour)
  assert.equal(after.said(), -2 * hour)
  after.pass(hour)
  assert.equal(after.said(), hour)
})

test('monotonicMs() is the one beneath', () => {
  const { monotonicMs, pass } = start()
  pass(5)
  assert.equal(monotonicMs(), 5)
})
