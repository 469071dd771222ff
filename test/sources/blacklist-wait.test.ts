// The long poll: what is asked to be held, when the next poll is due, and what becomes of a held one.
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { HttpCallFailed } from '../../src/io/http-client.ts'
import type { Setup } from './feed-server.ts'
import { answerOf, loaded, query, raw, revoked, setup, token } from './feed-server.ts'

const long = { wait: 25_000 }

/** What every call asked to wait. */
function waits({ calls }: Setup): (string | null)[] {
  return calls.map((call) => query(call, 'wait'))
}

test('blacklist.poll() asks to wait for changes, and grants the call that much longer; not at the first load', async () => {
  await using it = await loaded(long)

  await it.blacklist.poll()

  assert.deepEqual(waits(it), [null, '25'])
  assert.deepEqual(
    it.limits.map(({ deadlineMs }) => deadlineMs),
    [2000, 27_000],
  )
})

test('blacklist.poll() asks to wait on a list that is empty, and enforces what has come', async () => {
  await using it = setup(long)
  await it.blacklist.poll()
  it.answer = () => {
    it.pass(7000)
    it.revoke('a')
    it.pass(1000)
    return undefined
  }

  await it.blacklist.poll()

  assert.deepEqual(waits(it), [null, '25'])
  assert.deepEqual(it.blacklist.check(token({ jti: 'a' })), revoked)
  assert.equal(it.blacklist.state().lagSeconds, 1)
})

test('blacklist.poll() asks to wait for the first page of changes alone', async () => {
  await using it = await loaded(long)
  for (const value of ['c', 'd', 'e']) it.revoke(value)
  it.feed.pageSize = 1

  await it.blacklist.poll()

  assert.deepEqual(waits(it), [null, '25', null, null])
  assert.equal(it.limits.at(-1)?.deadlineMs, 2000)
})

test('blacklist.poll() does not ask to wait for all of a list that begins anew', async () => {
  await using it = await loaded(long)
  it.feed.epoch = 'e2'

  await it.blacklist.poll()

  assert.deepEqual(waits(it), [null, '25', null])
  assert.equal(query(it.calls[2], 'cursor'), '0')
})

test('blacklist.poll() does not ask to wait when what is held does not add up, and all is read again', async () => {
  await using it = await loaded(long)
  it.feed.twist = { total_live: 7 }
  await it.blacklist.poll()

  await it.blacklist.poll()

  assert.deepEqual(waits(it), [null, '25', null])
  assert.equal(query(it.calls[2], 'cursor'), '0')
})

test('blacklist.poll() asks to wait on a list that is empty and does not add up: there is nothing to read again', async () => {
  await using it = setup(long)
  it.feed.twist = { total_live: 7 }
  await it.blacklist.poll()

  await it.blacklist.poll()

  assert.deepEqual(waits(it), [null, '25'])
})

for (const values of [[], ['a']])
  test(`blacklist.poll() does not ask to wait for what a reload has left it with ${values.length} entries, until it has read all`, async () => {
    await using it = setup(long)
    for (const value of values) it.revoke(value)
    await it.blacklist.poll()
    it.reload({ cache_size: 500 })

    await it.blacklist.poll()
    await it.blacklist.poll()

    assert.deepEqual(waits(it), [null, null, '25'])
  })

test('blacklist.poll() does not ask to wait after a poll that failed, and does after the one that was good', async () => {
  await using it = await loaded(long)
  it.answer = () => raw(502, '')
  await it.blacklist.poll()
  await it.blacklist.poll()
  it.answer = undefined

  await it.blacklist.poll()
  await it.blacklist.poll()

  assert.deepEqual(waits(it), [null, '25', null, null, '25'])
})

/** Lets a started list poll by its own timers, on a clock of ours; returns the second each poll began in, `w` where it asked to wait. */
async function pollsWithin(t: TestContext, it: Setup, seconds: number): Promise<string> {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const began: string[] = []
  const startMs = it.clock.monotonicMs
  const isOver = () => it.clock.monotonicMs - startMs > seconds * 1000
  const { answer } = it
  it.answer = (call) => {
    const at = `${(it.clock.monotonicMs - startMs) / 1000}`
    if (!isOver()) began.push(query(call, 'wait') === null ? at : `${at}w`)
    return answer?.(call)
  }
  it.blacklist.start()
  while (!isOver()) {
    let before: number
    do {
      before = began.length
      for (let turn = 0; turn < 3; turn += 1) await nextTurn()
      // What is due at once; an answer that was held has let the time pass by itself.
      t.mock.timers.tick(1)
      for (let turn = 0; turn < 3; turn += 1) await nextTurn()
    } while (began.length > before && !isOver())
    it.pass(100)
    t.mock.timers.tick(99)
  }
  it.blacklist.close()
  return began.join(' ')
}

const schedules: readonly {
  readonly of: string
  /** Of a call that asks to wait: ms until it is answered, and how. */
  readonly afterMs: number
  readonly how: 'well' | 'news' | 'cut' | '400' | 'anew' | 'reset' | 'down'
  readonly expected: string
}[] = [
  { of: 'that holds them', afterMs: 25_000, how: 'well', expected: '0 1w 26w 51w 76w 101w 126w' },
  {
    of: 'that holds them for half as long as it is asked to',
    afterMs: 12_500,
    how: 'well',
    expected: '0 1w 13.5w 26w 38.5w 51w 63.5w 76w 88.5w 101w 113.5w 126w',
  },
  { of: 'that is slow, and holds none', afterMs: 12_400, how: 'well', expected: '0 1w 13.4w 26.8w 53.6w 113.6 114.6w' },
  {
    of: 'whose list begins anew each time',
    afterMs: 13_000,
    how: 'anew',
    expected: '0 1w 14w 27 28w 41 56w 69 116 117w 130',
  },
  {
    of: 'whose list begins anew each time, at once',
    afterMs: 0,
    how: 'anew',
    expected: '0 1w 2w 2 4w 4 8w 8 16w 16 32w 32 64w 64 124 125w 125',
  },
  {
    of: 'whose list is reset within its epoch each time',
    afterMs: 0,
    how: 'reset',
    expected: '0 1w 1 2w 2 4w 4 8w 8 16w 16 32w 32 64w 64 124 125w 125',
  },
  { of: 'that is down for a while', afterMs: 0, how: 'down', expected: '0 1w 2 4 8 16 17w 34w 94 95w' },
  { of: 'that does not hold them', afterMs: 0, how: 'well', expected: '0 1w 2w 4w 8w 16w 32w 64w 124 125w' },
  {
    of: 'that always has news',
    afterMs: 0,
    how: 'news',
    expected: `0 ${Array.from({ length: 130 }, (_, at) => `${at + 1}w`).join(' ')}`,
  },
  {
    of: 'behind a proxy that cuts them',
    afterMs: 10_000,
    how: 'cut',
    expected: '0 1w 11 12w 22 24w 34 48w 58 118 119w 129',
  },
  {
    of: 'that refuses to wait',
    afterMs: 0,
    how: '400',
    expected: '0 1w 2 3w 4 6w 7 12w 13 24w 25 48w 49 109 110w 111',
  },
]
for (const { of, afterMs, how, expected } of schedules)
  test(`blacklist.start() polls an issuer ${of} when it is due, held or not`, async (t) => {
    await using it = setup(long)
    it.answer = (call) => {
      it.feed.twist = { reset: how === 'reset' && query(call, 'wait') !== null }
      if (how === 'news' || how === 'reset') it.revoke(`${it.calls.length}`)
      if (how === 'down' && it.calls.length > 1 && it.calls.length < 6) return raw(502, '')
      if (query(call, 'wait') === null) return undefined
      it.pass(afterMs)
      if (how === '400') return raw(400, '')
      if (how === 'anew') {
        it.feed.epoch = `e${it.calls.length}`
        it.revoke(`${it.calls.length}`)
      }
      if (how === 'cut') throw new HttpCallFailed('reset', 'Cannot GET it: cut')
      return undefined
    }

    assert.equal(await pollsWithin(t, it, 130), expected)
  })

test('blacklist.start() polls at once again where an issuer that had no room has held a call until news came', async (t) => {
  await using it = setup(long)
  it.answer = () => {
    if (it.calls.length < 5 || it.calls.length > 7) return undefined
    it.pass(13_000)
    if (it.calls.length === 5) it.revoke('a')
    return undefined
  }

  assert.equal(await pollsWithin(t, it, 57), '0 1w 2w 4w 8w 21w 34w 47w 48w 49w 50w 51w 52w 53w 54w 55w 56w 57w')
})

test('blacklist.start() polls an issuer once a second that holds none any more, and after an interval less and less often', async (t) => {
  await using it = setup({ wait: 8000, poll_interval: 11_000 })
  it.answer = (call) => {
    if (it.calls.length < 4 && query(call, 'wait') !== null) it.pass(8000)
    return undefined
  }

  assert.equal(
    await pollsWithin(t, it, 60),
    '0 1w 9w 17w 18w 19w 20w 21w 22w 23w 24w 25w 26w 27w 28w 29w 30w 41 42w 53 54w',
  )
})

test('blacklist.start() reads the list every poll_interval where held polls get no answer, until they get one', async (t) => {
  await using it = setup({ ...long, poll_interval: 30_000 })
  it.answer = (call) => {
    if (query(call, 'wait') === null || it.calls.length > 11) return undefined
    it.pass(27_000)
    throw new HttpCallFailed('timeout', 'Cannot GET it: no whole answer within 27000 ms')
  }

  assert.equal(await pollsWithin(t, it, 220), '0 1w 28 29w 56 58w 85 88w 115 118w 145 148w 178 179w 209 210w')
})

test('blacklist.start() reads the list within the interval where held polls get no answer, for the shortest that may be', async (t) => {
  // As the load error of config/schema.ts wants it: wait and 3 s.
  await using it = setup({ wait: 5000, poll_interval: 8000 })
  const readMs: number[] = []
  it.answer = (call) => {
    if (query(call, 'wait') === null) {
      readMs.push(it.clock.monotonicMs)
      return undefined
    }
    it.pass(7000)
    throw new HttpCallFailed('timeout', 'Cannot GET it: no whole answer within 7000 ms')
  }

  await pollsWithin(t, it, 120)

  const gaps = readMs.slice(1).map((atMs, at) => atMs - (readMs[at] ?? 0))
  assert.ok(gaps.length > 10 && Math.max(...gaps) <= 8000, `${gaps}`)
})

test('blacklist.start() polls once a second while an issuer that holds polls is restarted', async (t) => {
  await using it = setup(long)
  it.answer = (call) => {
    // It answers what it holds, is away, and comes back with another epoch.
    if (it.calls.length === 4) throw new HttpCallFailed('connect', 'Cannot GET it: ECONNREFUSED')
    if (it.calls.length === 5) it.feed.epoch = 'e2'
    if (it.calls.length !== 3 && query(call, 'wait') !== null) it.pass(25_000)
    return undefined
  }

  assert.equal(await pollsWithin(t, it, 60), '0 1w 26w 27w 28 29w 54w')
})

for (const [how, expected] of [
  ['is away for a few seconds', '0 1w 26w 51w 52 53 54 55 56 57 58 59 60w 85w 110w'],
  // An interval after the last poll that was held: less and less often.
  ['is away for long', `0 1w 26w 51w ${Array.from({ length: 30 }, (_, at) => `${at + 52}`).join(' ')} 83 87 95 111`],
  // It is there.
  ['has too many calls', '0 1w 26w 51w 52 54 58 66 82 112'],
  ['has another list that cannot be read', '0 1w 26w 51w 51 52 52 54 54 58 58 66 66 82 82 112 112'],
] as const)
  test(`blacklist.start() polls an issuer that held polls, and then ${how}, once a second where it may be back soon`, async (t) => {
    await using it = setup({ ...long, poll_interval: 30_000 })
    it.revoke('a')
    const startMs = it.clock.monotonicMs
    it.answer = (call) => {
      const isBack = how === 'is away for a few seconds' && it.clock.monotonicMs - startMs >= 59_000
      if (it.calls.length < 4 || isBack) {
        if (query(call, 'wait') !== null) it.pass(25_000)
        return undefined
      }
      if (how === 'has too many calls') return raw(429, '')
      if (how !== 'has another list that cannot be read')
        throw new HttpCallFailed('connect', 'Cannot GET it: ECONNREFUSED')
      it.feed.epoch = 'e2'
      return query(call, 'cursor') === '0' ? raw(502, '') : undefined
    }

    assert.equal(await pollsWithin(t, it, 130), expected)
  })

for (const wait of [0, 25_000])
  test(`blacklist.start() leaves an issuer alone for as long as Retry-After asks for, with a wait of ${wait} ms`, async (t) => {
    await using it = setup({ wait })
    it.answer = () => {
      if (it.calls.length === 1) return raw(429, '', { 'retry-after': '7' })
      return it.calls.length === 2 ? raw(503, '', { 'retry-after': 'Thu, 01 Jan 2026 00:00:20 GMT' }) : undefined
    }

    assert.equal(await pollsWithin(t, it, 20), '0 7 20')
  })

test('blacklist.start() polls an issuer without ETag and entries, that does not hold polls, less and less often', async (t) => {
  await using it = setup(long)
  it.answer = (call) => {
    const { status, body } = answerOf(it.feed, call)
    return raw(status, Buffer.from(body), { 'content-type': 'application/json' })
  }

  assert.equal(await pollsWithin(t, it, 130), '0 1w 2w 4w 8w 16w 32w 64w 124 125w')
})

test('blacklist.start() polls once a second again as soon as news comes, though held polls were cut before', async (t) => {
  await using it = setup(long)
  it.answer = (call) => {
    if (it.calls.length < 8 && query(call, 'wait') !== null) throw new HttpCallFailed('reset', 'Cannot GET it: cut')
    if (it.calls.length > 7) it.revoke(`${it.calls.length}`)
    return undefined
  }

  assert.equal(await pollsWithin(t, it, 22), '0 1w 2 3w 4 6w 7 12w 13w 14w 15w 16w 17w 18w 19w 20w 21w 22w')
})

for (const [poll_interval, expected] of [
  [60_000, '0 60 120'],
  [20_000, '0 20 40 60 80 100 120'],
] as const)
  test(`blacklist.start() polls by its interval of ${poll_interval} ms alone, whatever has come, where nothing is to be held`, async (t) => {
    await using it = setup({ poll_interval })
    it.answer = () => {
      it.revoke(`${it.calls.length}`)
      return undefined
    }

    assert.equal(await pollsWithin(t, it, 130), expected)
  })

test('blacklist.start() polls an issuer that always has news once a second, and jitter makes it no more', async (t) => {
  await using it = setup(long)
  it.random = 1
  it.answer = () => {
    it.revoke(`${it.calls.length}`)
    return undefined
  }

  assert.equal(await pollsWithin(t, it, 5), '0 1w 2w 3w 4w 5w')
})

test('blacklist.start() takes a call that was held for a second, of one it may be, as held', async (t) => {
  await using it = setup({ wait: 1000 })
  it.answer = (call) => {
    it.pass(query(call, 'wait') === null ? 0 : 1000)
    return undefined
  }

  assert.equal(await pollsWithin(t, it, 5), '0 1w 2w 3w 4w 5w')
})

for (const how of ['answer', 'failure'])
  test(`blacklist.close() ends a held poll, whose ${how} is not counted and not handed on`, async () => {
    await using it = await loaded(long)
    const told: string[] = []
    it.blacklist.watch(({ kind }) => told.push(kind))
    const answered = Promise.withResolvers<undefined>()
    it.answer = () => answered.promise
    const held = it.blacklist.poll()
    it.revoke('c')

    assert.equal(it.calls[1]?.signal?.aborted, false)
    it.blacklist.close()
    assert.equal(it.calls[1]?.signal?.aborted, true)
    if (how === 'answer') answered.resolve(undefined)
    else answered.reject(new HttpCallFailed('reset', 'Cannot GET it: it was called off'))
    await held

    assert.deepEqual(it.counts, ['updated'])
    assert.deepEqual(told, [])
    assert.deepEqual(it.warnings, [])
  })

test('blacklist.close() leaves no timer behind for a poll that ends after it', async (t) => {
  await using it = setup(long)
  const answered = Promise.withResolvers<undefined>()
  it.answer = () => answered.promise
  it.blacklist.start()
  const setTimer = t.mock.method(globalThis, 'setTimeout')

  it.blacklist.close()
  answered.resolve(undefined)
  for (let turn = 0; turn < 5; turn += 1) await nextTurn()

  assert.equal(setTimer.mock.callCount(), 0)
})

test('blacklist.check() keeps a list whose polls are held, as long as max_staleness has to be for that', async () => {
  // As the load error of config/schema.ts wants it: poll_interval, wait and 4 s.
  await using it = await loaded({ ...long, max_staleness: 89_000 })
  it.pass(60_000)
  it.answer = () => {
    it.pass(27_000)
    assert.equal(it.blacklist.check(token({ jti: 'z' })), undefined)
    return undefined
  }

  for (let round = 0; round < 3; round += 1) await it.blacklist.poll()

  assert.equal(it.blacklist.check(token({ jti: 'z' })), undefined)
  assert.deepEqual(it.warnings, [])
})
