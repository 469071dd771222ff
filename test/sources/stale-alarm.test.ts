import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import { createStaleAlarm } from '../../src/sources/stale-alarm.ts'
import { createTestClock } from '../support/clock.ts'
import { raw, setup } from './feed-server.ts'
import { callFailed, endpoint } from './key-endpoint.ts'

/** Has an hour pass in seconds, as a process sees it: timers that are due, and what they begin. */
async function passes(t: TestContext, pass: (ms: number) => void, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    pass(1000)
    t.mock.timers.tick(1000)
    await nextTick()
  }
}

const starting = (events: readonly string[], name: string) => events.filter((event) => event.startsWith(`${name} `))

test('jwks says jwks_stale when stale_max has passed, not before, once a minute while it lasts, and that it is over', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  using it = endpoint({ stale_max: 600_000, refresh: 300_000 })
  it.jwks.start()
  await nextTick()
  const good = it.answer
  it.answer = () => callFailed('connect')

  await passes(t, it.clock.pass, 600)
  assert.deepEqual(starting(it.events, 'jwks_stale'), [])
  assert.equal(it.jwks.state().stale, false)
  await passes(t, it.clock.pass, 1)
  const issuer = 'https://issuer.test'
  const said = { issuer, held: true, age_ms: 601_000, error: 'Cannot GET https://issuer.test: connect' }
  assert.deepEqual(starting(it.events, 'jwks_stale'), [`jwks_stale ${JSON.stringify(said)}`])
  assert.equal(it.jwks.state().stale, true)
  await passes(t, it.clock.pass, 180)
  assert.equal(starting(it.events, 'jwks_stale').length, 4)

  it.answer = good
  await passes(t, it.clock.pass, 31)
  const before = starting(it.events, 'jwks_stale').length
  await passes(t, it.clock.pass, 600)
  assert.equal(starting(it.events, 'jwks_stale').length, before)
  assert.equal(it.events.at(-1), `jwks_recovered ${JSON.stringify({ issuer })}`)
})

test('blacklist says blacklist_stale when max_staleness has passed, not before, once a minute while it lasts, and that it is over', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  await using it = setup({ max_staleness: 300_000, poll_interval: 30_000 })
  it.blacklist.start()
  await nextTick()
  it.answer = () => raw(500, '')

  await passes(t, it.pass, 300)
  assert.deepEqual(starting(it.events, 'blacklist_stale'), [])
  assert.equal(it.blacklist.state().stale, false)
  await passes(t, it.pass, 1)
  const issuer = 'https://issuer.test'
  const said = { issuer, loaded: true, age_ms: 301_000, why: it.blacklist.state().failure }
  assert.deepEqual(starting(it.events, 'blacklist_stale'), [`blacklist_stale ${JSON.stringify(said)}`])
  await passes(t, it.pass, 180)
  assert.equal(starting(it.events, 'blacklist_stale').length, 4)

  it.answer = undefined
  await passes(t, it.pass, 31)
  assert.equal(it.events.at(-1), `blacklist_recovered ${JSON.stringify({ issuer })}`)
  const before = it.events.length
  await passes(t, it.pass, 600)
  assert.equal(it.events.length, before)
})

test('jwks and blacklist that were never loaded say so once a minute, and nothing once they are closed', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  using keys = endpoint()
  await using list = setup()
  keys.answer = () => callFailed('connect')
  list.answer = () => raw(500, '')
  keys.jwks.start()
  list.blacklist.start()
  const pass = (ms: number) => {
    keys.clock.pass(ms)
    list.pass(ms)
  }
  await passes(t, pass, 121)

  assert.equal(starting(keys.events, 'jwks_stale').length, 2)
  assert.match(keys.events.at(-1) ?? '', /"held":false,"error":/)
  assert.equal(starting(list.events, 'blacklist_stale').length, 2)
  assert.match(starting(list.events, 'blacklist_stale').at(-1) ?? '', /"loaded":false,"why":/)

  keys.jwks.close()
  list.blacklist.close()
  await passes(t, pass, 121)
  assert.equal(starting(keys.events, 'jwks_stale').length, 2)
  assert.equal(starting(list.events, 'blacklist_stale').length, 2)
})

test('alarm.set() waits longer than a timer of Node can', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const clock = createTestClock()
  const days = 30 * 86_400_000
  const untilMs = clock.monotonicMs() + days
  let told = 0
  const alarm = createStaleAlarm({ clock, usableUntilMs: () => untilMs, tell: () => (told += 1) })
  alarm.set()

  for (let day = 0; day < 30; day += 1) {
    clock.pass(86_400_000)
    t.mock.timers.tick(86_400_000)
  }
  assert.equal(told, 0)
  clock.pass(1)
  t.mock.timers.tick(1)
  assert.equal(told, 1)
  assert.equal(alarm.set(), true)
  alarm.close()
})

test('createStaleAlarm() that comes and goes all the time is given twice a minute at most, and its end only where it was', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const clock = createTestClock()
  let untilMs = clock.monotonicMs()
  let told = 0
  let ended = 0
  const alarm = createStaleAlarm({ clock, usableUntilMs: () => untilMs, tell: () => (told += 1) })

  for (let second = 0; second < 60; second += 1) {
    untilMs = clock.monotonicMs() + 500
    if (alarm.set()) ended += 1
    await passes(t, clock.pass, 1)
  }

  assert.deepEqual([told, ended], [2, 2])
  alarm.close()
})

test('createStaleAlarm() tells an outage that begins soon after the last alarm half a minute after that, not a minute late', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const clock = createTestClock()
  let untilMs = clock.monotonicMs()
  const told: number[] = []
  const alarm = createStaleAlarm({ clock, usableUntilMs: () => untilMs, tell: () => told.push(clock.monotonicMs()) })
  const sinceMs = clock.monotonicMs()
  alarm.set()
  await passes(t, clock.pass, 1)
  untilMs = clock.monotonicMs() + 1500
  alarm.set()

  await passes(t, clock.pass, 100)

  assert.deepEqual(
    told.map((each) => Math.floor((each - sinceMs) / 1000)),
    [1, 31, 91],
  )
  alarm.close()
})
