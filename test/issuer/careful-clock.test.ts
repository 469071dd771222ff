import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCarefulClock } from '../../src/issuer/careful-clock.ts'

const hour = 3_600_000

/** A careful clock of which tokens live an hour, and what moves the clocks beneath it. */
function start() {
  let [wall, monotonic] = [1_767_225_600_000, 0]
  const began = wall
  const clock = createCarefulClock({ wallMs: () => wall, monotonicMs: () => monotonic }, hour)
  return {
    /** What it says, since the start. */
    said: () => clock.wallMs() - began,
    monotonicMs: clock.monotonicMs,
    pass(ms: number) {
      wall += ms
      monotonic += ms
    },
    leap(ms: number) {
      wall += ms
    },
  }
}

test('wallMs() goes with the wall clock, also where that is slewed for a year', () => {
  const { said, pass, leap } = start()
  for (let minutes = 0; minutes < 365 * 1440; minutes += 1) {
    pass(60_000)
    leap(30)
    assert.equal(said(), (minutes + 1) * 60_030)
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

test('wallMs() believes a leap once tokens from before it have run out, not a moment earlier', () => {
  const { said, pass, leap } = start()
  leap(24 * hour)
  assert.equal(said(), 0)

  pass(hour - 1)
  assert.equal(said(), hour - 1)
  pass(1)
  assert.equal(said(), 25 * hour)
})

test('wallMs() counts anew from a second leap: it was right in between', () => {
  const { said, pass, leap } = start()
  leap(2 * hour)
  assert.equal(said(), 0)
  pass(hour / 2)
  leap(-2 * hour)
  assert.equal(said(), hour / 2)

  leap(2 * hour)
  pass(hour / 2)

  assert.equal(said(), hour)
})

test('wallMs() believes each leap in its own time, though another came before', () => {
  const { said, pass, leap } = start()
  leap(hour / 6)
  assert.equal(said(), 0)
  pass(hour - 60_000)
  leap(24 * hour)
  assert.equal(said(), hour - 60_000)

  pass(60_000)
  assert.equal(said(), hour + hour / 6, 'the first, and not the second')
  leap(-24 * hour)
  assert.equal(said(), hour + hour / 6)
})

test('wallMs() takes back the last leap first, as far as the clock is set back', () => {
  const { said, pass, leap } = start()
  for (const hours of [1, 2, 3]) {
    leap(hours * hour)
    assert.equal(said(), 0)
  }
  leap(-4 * hour)
  assert.equal(said(), 0)
  pass(hour)
  assert.equal(said(), 3 * hour, 'of six hours two are left')

  leap(-5 * hour)
  assert.equal(said(), -2 * hour)
})

test('wallMs() has forgotten no leap of a thousand and one', () => {
  const { said, pass, leap } = start()
  for (let at = 0; at < 1001; at += 1) {
    leap(2000)
    assert.equal(said(), 0)
  }
  pass(hour)
  assert.equal(said(), hour + 1001 * 2000)
})

test('wallMs() follows a clock that is set back at once', () => {
  const { said, leap } = start()
  leap(-24 * hour)
  assert.equal(said(), -24 * hour)
})

test('monotonicMs() is the one beneath', () => {
  const { monotonicMs, pass } = start()
  pass(5)
  assert.equal(monotonicMs(), 5)
})
