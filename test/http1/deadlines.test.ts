import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { test } from 'node:test'
import type { Deadline, Deadlines } from '../../src/http1/deadlines.ts'
import { createDeadlines, setDeadline } from '../../src/http1/deadlines.ts'
import { createTestClock } from '../support/clock.ts'

const everyMs = 250

/** Deadlines on a clock that moves together with the timers. */
function createWatch(t: TestContext) {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const clock = createTestClock()
  return {
    deadlines: createDeadlines(clock),
    clock,
    pass(ms: number) {
      for (let left = ms; left > 0; left -= everyMs) {
        clock.pass(Math.min(left, everyMs))
        t.mock.timers.tick(Math.min(left, everyMs))
      }
    },
  }
}

/** A deadline in so many milliseconds that notes when it expires, and then waits for nothing more. */
function within(deadlines: Deadlines, ms: number, expired: () => void): Deadline {
  const deadline = {
    atMs: deadlines.nowMs() + ms,
    expire() {
      setDeadline(deadline, Number.POSITIVE_INFINITY)
      expired()
    },
  }
  return deadline
}

test('createDeadlines() tells a deadline within half a second of its time, and not before', (t) => {
  const { deadlines, pass } = createWatch(t)
  const told: string[] = []
  deadlines.watch(within(deadlines, 1000, () => told.push('a')))
  deadlines.watch(within(deadlines, 1001, () => told.push('b')))

  pass(1000)
  assert.deepEqual(told, [])
  pass(everyMs)
  assert.deepEqual(told, ['a'])
  pass(everyMs)
  assert.deepEqual(told, ['a', 'b'])
  pass(5000)
  assert.deepEqual(told, ['a', 'b'])
})

test('createDeadlines() does not count the time in which the process stood still, whoever came first after it', (t) => {
  const { deadlines, clock, pass } = createWatch(t)
  const told: string[] = []
  deadlines.watch(within(deadlines, 5000, () => told.push('a')))
  pass(2000)

  clock.pass(60_000)
  deadlines.watch(within(deadlines, 5000, () => told.push('b')))
  pass(1750)
  assert.deepEqual(told, [])
  pass(750)
  assert.deepEqual(told, ['a'])
  pass(5000)
  assert.deepEqual(told, ['a', 'b'])
})

test('createDeadlines() goes on where each look is late', (t) => {
  const { deadlines, clock, pass } = createWatch(t)
  let told = 0
  deadlines.watch(within(deadlines, 5000, () => (told += 1)))

  for (let at = 0; at < 8; at += 1) {
    clock.pass(1500)
    pass(everyMs)
  }

  assert.equal(told, 1)
})

test('createDeadlines() looks at the time a deadline has, not at the one it was watched with', (t) => {
  const { deadlines, pass } = createWatch(t)
  let told = 0
  const deadline = within(deadlines, 1000, () => {
    told += 1
  })
  deadlines.watch(deadline)

  setDeadline(deadline, deadline.atMs + 1000)
  pass(1500)
  assert.equal(told, 0)
  setDeadline(deadline, deadlines.nowMs())
  pass(500)
  assert.equal(told, 1)
})

test('createDeadlines() tells each of many at its own time, whatever others were watched before and are no more', (t) => {
  const { deadlines, pass } = createWatch(t)
  const told: number[] = []
  const all = Array.from({ length: 150 }, (_, at) => within(deadlines, 1000 + (at % 10) * 1000, () => told.push(at)))
  for (const each of all) deadlines.watch(each)
  for (const [at, each] of all.entries()) if (at % 3 === 0) deadlines.unwatch(each)
  const moved = all[31]
  assert.ok(moved)
  setDeadline(moved, deadlines.nowMs() + 20_000)

  for (let second = 1; second <= 10; second += 1) {
    pass(second === 1 ? 1500 : 1000)
    const due = [...all.keys()].filter((at) => at % 10 === second - 1 && at % 3 !== 0 && at !== 31)
    assert.deepEqual(
      told.splice(0).toSorted((a, b) => a - b),
      [...due],
    )
  }
  pass(10_000)
  assert.deepEqual(told, [31])
})

test('createDeadlines() never tells one that is watched no more, nor one that waits for nothing', (t) => {
  const { deadlines, pass } = createWatch(t)
  const left = within(deadlines, 1000, () => assert.fail())
  deadlines.watch(left)
  deadlines.watch(within(deadlines, Number.POSITIVE_INFINITY, () => assert.fail()))

  deadlines.unwatch(left)

  pass(10_000)
})

test('createDeadlines() lets a deadline that expires unwatch others, and watch new ones', (t) => {
  const { deadlines, pass } = createWatch(t)
  const told: string[] = []
  const other = within(deadlines, 0, () => assert.fail())
  deadlines.watch(
    within(deadlines, 0, () => {
      told.push('first')
      deadlines.unwatch(other)
      deadlines.watch(within(deadlines, everyMs, () => told.push('new')))
    }),
  )
  deadlines.watch(other)

  pass(everyMs)
  assert.deepEqual(told, ['first'])
  pass(2 * everyMs)
  assert.deepEqual(told, ['first', 'new'])
})

test('createDeadlines().nowMs() is at most a quarter of a second old while something is watched', (t) => {
  const { deadlines, clock, pass } = createWatch(t)
  deadlines.watch(within(deadlines, Number.POSITIVE_INFINITY, () => {}))

  for (const ms of [100, 300, 99, 1, 700, 2500]) {
    pass(ms)
    const age = clock.monotonicMs() - deadlines.nowMs()
    assert.ok(age >= 0 && age <= everyMs, `${age} ms old`)
  }
})

test('createDeadlines() stops looking when nothing is watched, and begins anew with the right time', (t) => {
  const { deadlines, clock, pass } = createWatch(t)
  const deadline = within(deadlines, Number.POSITIVE_INFINITY, () => {})
  deadlines.watch(deadline)
  deadlines.unwatch(deadline)
  pass(1000)
  const stopped = deadlines.nowMs()
  pass(60_000)

  assert.equal(deadlines.nowMs(), stopped)
  deadlines.watch(deadline)
  assert.equal(deadlines.nowMs(), clock.monotonicMs())
})

test('createDeadlines() refuses a deadline that is watched elsewhere', (t) => {
  const [one, other] = [createWatch(t).deadlines, createDeadlines(createTestClock())]
  const deadline = within(one, 1000, () => {})
  one.watch(deadline)
  one.watch(deadline)

  assert.throws(() => other.watch(deadline), TypeError)
  one.unwatch(deadline)
  assert.doesNotThrow(() => other.watch(deadline))
  other.unwatch(deadline)
})

test('createDeadlines() keeps no process alive', () => {
  const source = join(import.meta.dirname, '../../src/http1/deadlines.ts')
  const program = `
    const { createDeadlines } = await import(${JSON.stringify(source)})
    createDeadlines({ monotonicMs: () => 0 }).watch({ atMs: 1e9, expire() {} })
  `

  const { status, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { timeout: 20_000 })

  assert.deepEqual({ status, signal }, { status: 0, signal: null })
})

test('createDeadlines() ends thousands that are due together in many turns, and none of them that got time meanwhile', async (t) => {
  const { deadlines, pass } = createWatch(t)
  let told = 0
  let turns = 0
  const expired = () => {
    told += 1
  }
  const all = Array.from({ length: 2000 }, () => within(deadlines, 1000, expired))
  for (const deadline of all) deadlines.watch(deadline)

  pass(1000 + everyMs)
  const atOnce = told
  const [spared, left] = [all.at(-1), all.at(-2)]
  if (spared !== undefined) setDeadline(spared, deadlines.nowMs() + 10_000)
  if (left !== undefined) deadlines.unwatch(left)
  for (; told < 1998 && turns < 1000; turns += 1) await new Promise((resolve) => setImmediate(resolve))

  assert.ok(atOnce > 0 && atOnce <= 32, `${atOnce} at once`)
  assert.ok(turns >= 60, `in ${turns} turns`)
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(told, 1998)
})

test('createDeadlines() begins no second round of ending thousands before the first is over', async (t) => {
  const { deadlines, pass } = createWatch(t)
  let told = 0
  for (let made = 0; made < 100; made += 1) deadlines.watch(within(deadlines, 1000, () => (told += 1)))
  pass(1000 + everyMs)
  const atOnce = told

  // A look, and no time: where more has passed, more are due at once.
  t.mock.timers.tick(everyMs)

  assert.ok(atOnce < 100)
  assert.equal(told, atOnce)
  for (let turns = 0; told < 100 && turns < 100; turns += 1) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(told, 100)
})

test('createDeadlines() ends ten thousand within two seconds, also where each turn takes long, and those that come after', async (t) => {
  const { deadlines, clock, pass } = createWatch(t)
  const [dueMs, laterMs] = [clock.monotonicMs() + 1000, clock.monotonicMs() + 1010]
  const lateMs: number[] = []
  const watchAt = (atMs: number, count: number) => {
    for (let made = 0; made < count; made += 1)
      deadlines.watch(within(deadlines, atMs - deadlines.nowMs(), () => lateMs.push(clock.monotonicMs() - atMs)))
  }
  watchAt(dueMs, 10_000)
  watchAt(laterMs, 10_000)

  pass(1000 + everyMs)
  for (let turns = 0; lateMs.length < 20_000 && turns < 1000; turns += 1) {
    await new Promise((resolve) => setImmediate(resolve))
    clock.pass(10)
    t.mock.timers.tick(10)
  }

  assert.equal(lateMs.length, 20_000)
  assert.ok(Math.max(...lateMs) <= 2000, `${Math.max(...lateMs)} ms late`)
})

test('createDeadlines() does not take what begins after a stall for late', (t) => {
  const { deadlines, clock, pass } = createWatch(t)
  const told: string[] = []
  deadlines.watch(within(deadlines, 60_000, () => told.push('other')))
  // Nobody looks meanwhile.
  clock.pass(30_000)
  const fresh: Deadline = { atMs: Number.POSITIVE_INFINITY, expire: () => told.push('fresh') }
  deadlines.watch(fresh)
  setDeadline(fresh, deadlines.nowMs() + 10_000)

  pass(9_750)
  assert.deepEqual(told, [])
  pass(2 * everyMs)
  assert.deepEqual(told.slice(0, 1), ['fresh'])
})
