import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBoundedQueue, createBreaker, QueueFull } from '../../src/io/resilience.ts'

function handClock() {
  let nowMs = 1000
  return {
    advance(ms: number) {
      nowMs += ms
    },
    clock: {
      // A step of the world's clock must change nothing: it stands somewhere else at every look.
      wallMs: () => Math.random() * 1e12,
      monotonicMs: () => nowMs,
    },
  }
}

test('createBreaker() opens after five failures in a row, and says for how long', () => {
  const { clock, advance } = handClock()
  const breaker = createBreaker({ failures: 5, openMs: 5000 }, { clock })

  for (let call = 0; call < 4; call += 1) breaker.failed()
  assert.equal(breaker.admit(), undefined)
  assert.equal(breaker.state(), 'closed')
  breaker.failed()

  assert.equal(breaker.state(), 'open')
  assert.deepEqual(breaker.admit(), { retryAfterMs: 5000 })
  advance(4999)
  assert.deepEqual(breaker.admit(), { retryAfterMs: 1 })
})

test('createBreaker() counts failures in a row: one success starts the count anew', () => {
  const breaker = createBreaker({ failures: 2, openMs: 5000 }, handClock())

  breaker.failed()
  breaker.succeeded()
  breaker.failed()

  assert.equal(breaker.admit(), undefined)
})

function opened() {
  const { clock, advance } = handClock()
  const breaker = createBreaker({ failures: 1, openMs: 100 }, { clock })
  breaker.failed()
  return { breaker, advance }
}

test('createBreaker() admits one call at a time once openMs has passed, and closes when it succeeds', () => {
  const { breaker, advance } = opened()
  advance(100)
  assert.equal(breaker.state(), 'half_open')

  assert.equal(breaker.admit(), undefined)
  advance(10)
  assert.deepEqual(breaker.admit(), { retryAfterMs: 90 })
  assert.equal(breaker.state(), 'half_open')
  breaker.succeeded()

  assert.equal(breaker.state(), 'closed')
  assert.equal(breaker.admit(), undefined)
  assert.equal(breaker.admit(), undefined)
})

test('createBreaker() stays open for another openMs when the trying call fails', () => {
  const { breaker, advance } = opened()
  advance(100)
  breaker.admit()
  advance(30)

  breaker.failed()

  assert.equal(breaker.state(), 'open')
  assert.deepEqual(breaker.admit(), { retryAfterMs: 100 })
})

test('createBreaker() lets the next call try when the trying one was released without a verdict', () => {
  const { breaker, advance } = opened()
  advance(100)
  breaker.admit()

  breaker.released()

  assert.equal(breaker.state(), 'half_open')
  assert.equal(breaker.admit(), undefined)
  assert.notEqual(breaker.admit(), undefined)
})

test('createBreaker() is not held for ever by a trying call that never reports', () => {
  const { breaker, advance } = opened()
  advance(100)
  breaker.admit()

  advance(100)

  assert.equal(breaker.admit(), undefined)
})

test('createBreaker() is neither closed nor held open for longer by late answers to calls from before it opened', () => {
  const { breaker, advance } = opened()
  advance(60)

  breaker.succeeded()
  breaker.failed()
  breaker.released()

  assert.deepEqual(breaker.admit(), { retryAfterMs: 40 })
})

/** Work that ends when told to, and what has begun so far. */
function gatedWork() {
  const begun: string[] = []
  const gates = new Map<string, PromiseWithResolvers<string>>()
  return {
    begun,
    work: (name: string) => () => {
      begun.push(name)
      const gate = Promise.withResolvers<string>()
      gates.set(name, gate)
      return gate.promise
    },
    end: (name: string) => gates.get(name)?.resolve(name),
    fail: (name: string) => gates.get(name)?.reject(new Error(name)),
  }
}

test('createBoundedQueue() runs as many as allowed, the others in the order they came', async () => {
  const queue = createBoundedQueue({ maxInFlight: 2, maxQueued: 2, maxWaitMs: 500 }, handClock())
  const { begun, work, end, fail } = gatedWork()

  const runs = ['a', 'b', 'c', 'd'].map((name) => queue.run(work(name)))
  assert.deepEqual(begun, ['a', 'b'])
  assert.deepEqual([queue.inFlight(), queue.queued()], [2, 2])
  fail('b')
  await assert.rejects(runs[1] ?? Promise.resolve(), { message: 'b' })
  assert.deepEqual(begun, ['a', 'b', 'c'])
  assert.deepEqual([queue.inFlight(), queue.queued()], [2, 1])
  end('a')
  assert.equal(await runs[0], 'a')
  assert.deepEqual(begun, ['a', 'b', 'c', 'd'])
  end('c')
  end('d')
  await Promise.all([runs[2], runs[3]])

  assert.deepEqual([queue.inFlight(), queue.queued()], [0, 0])
})

test('createBoundedQueue() refuses at once what finds the queue full', async () => {
  const queue = createBoundedQueue({ maxInFlight: 1, maxQueued: 1, maxWaitMs: 500 }, handClock())
  const { begun, work, end } = gatedWork()
  const first = queue.run(work('a'))
  const second = queue.run(work('b'))

  await assert.rejects(queue.run(work('c')), { name: 'QueueFull', code: 'ERR_QUEUE_FULL' })

  end('a')
  await first
  end('b')
  await second
  assert.deepEqual(begun, ['a', 'b'])
})

test('createBoundedQueue() refuses what has waited too long, and forgets it', async () => {
  const queue = createBoundedQueue({ maxInFlight: 1, maxQueued: 1, maxWaitMs: 20 }, handClock())
  const { begun, work, end } = gatedWork()
  const first = queue.run(work('a'))

  await assert.rejects(queue.run(work('late')), QueueFull)

  assert.equal(queue.queued(), 0)
  end('a')
  await first
  assert.equal(queue.inFlight(), 0)
  assert.deepEqual(begun, ['a'])
})

test('createBoundedQueue() judges the wait by the clock when a stalled process runs its timers late', async () => {
  const { clock, advance } = handClock()
  const queue = createBoundedQueue({ maxInFlight: 1, maxQueued: 2, maxWaitMs: 500 }, { clock })
  const { begun, work, end } = gatedWork()
  const first = queue.run(work('a'))
  const early = assert.rejects(queue.run(work('early')), QueueFull)
  advance(400)
  const later = queue.run(work('later'))
  advance(100)

  end('a')
  await Promise.all([first, early])

  assert.deepEqual(begun, ['a', 'later'])
  end('later')
  await later
})

test('createBoundedQueue() gives the place back when the work throws before it returns a promise', async () => {
  const queue = createBoundedQueue({ maxInFlight: 1, maxQueued: 2, maxWaitMs: 500 }, handClock())

  await assert.rejects(
    queue.run(() => {
      throw new Error('at once')
    }),
    { message: 'at once' },
  )

  assert.equal(await queue.run(async () => 'next'), 'next')
})
