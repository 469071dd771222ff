import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { PollTimes } from '../../src/sources/poll-times.ts'
import { createPollTimes, leastGapMs, leastPollMs, nextPollAfterMs } from '../../src/sources/poll-times.ts'
import { createTestClock } from '../support/clock.ts'

test('nextPollAfterMs() is at most the interval: jitter only shortens, failures retry sooner', () => {
  const draw = (random: number) => () => random

  assert.equal(nextPollAfterMs(60_000, 0, draw(0)), 60_000)
  assert.equal(nextPollAfterMs(60_000, 0, draw(1)), 54_000)
  assert.deepEqual(
    [1, 2, 3, 7, 2000].map((failures) => nextPollAfterMs(60_000, failures, draw(0))),
    [1000, 2000, 4000, 60_000, 60_000],
  )
  assert.equal(nextPollAfterMs(100, 5, draw(0)), 100)
})

for (const [wait, poll_interval, ms] of [
  [25_000, 60_000, 1000],
  [0, 60_000, 60_000],
] as const)
  test(`leastPollMs() is ${ms} for a wait of ${wait} ms and an interval of ${poll_interval} ms`, () => {
    assert.equal(leastPollMs({ wait, poll_interval }), ms)
  })

/** The times of a list on a clock of ours, and a poll of it that begins when it is due. */
function timed({ wait = 25_000, poll_interval = 60_000, random = 0 } = {}) {
  const clock = createTestClock()
  const fromMs = clock.monotonicMs()
  const times = createPollTimes({ wait, poll_interval }, { clock, random: () => random })
  return {
    times,
    nowMs: () => clock.monotonicMs() - fromMs,
    pass: clock.pass,
    /** When the next one is due; not before now. */
    dueMs: () => Math.max(clock.monotonicMs(), times.nextMs()) - fromMs,
    /** Has the next one take so long and end so; returns the second it began in, `w` where it asked to be held. */
    poll(afterMs: number, end: (times: PollTimes) => void): string {
      clock.pass(Math.max(0, times.nextMs() - clock.monotonicMs()))
      const began = `${(clock.monotonicMs() - fromMs) / 1000}${times.begin(true) > 0 ? 'w' : ''}`
      clock.pass(afterMs)
      end(times)
      return began
    },
  }
}

const empty = (times: PollTimes) => times.good(false)
const news = (times: PollTimes) => times.good(true)
const away = { status: undefined, retryAfterMs: undefined }
const failed = (times: PollTimes) => times.failed(away)
const anew = (times: PollTimes) => {
  times.beganAnew()
  times.good(true)
}
const anewAndLost = (times: PollTimes) => {
  times.beganAnew()
  times.failed(away)
}

const seconds = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => from + at)

const schedules: readonly {
  readonly of: string
  /** How long each poll takes, and how it ends; the last one again and again. */
  readonly polls: readonly (readonly [ms: number, end: (times: PollTimes) => void])[]
  readonly expected: string
}[] = [
  { of: 'that are held', polls: [[25_000, empty]], expected: '0w 25w 50w 75w 100w' },
  { of: 'that always bring something', polls: [[0, news]], expected: '0w 1w 2w 3w 4w' },
  { of: 'that are answered at once', polls: [[0, empty]], expected: '0w 1w 2w 4w 8w 16w 32w 64w 124 125w 185 186w' },
  {
    of: 'of which one was held, and that are answered at once from then on',
    polls: [
      [25_000, empty],
      [0, empty],
    ],
    expected: `0w ${seconds(25, 87).join('w ')}w 89w 93w 101w 117w 149w 209 210w`,
  },
  {
    of: 'that find the list begun anew, after one that was held',
    polls: [
      [25_000, empty],
      [0, anew],
    ],
    expected: '0w 25w 26w 27w 29w 33w 41w 57w 89w 149 150w',
  },
  {
    of: 'that find the list begun anew and cannot read it, after one that was held',
    polls: [
      [25_000, empty],
      [0, anewAndLost],
    ],
    expected: '0w 25w 26 28 32 40 56 88 148',
  },
  {
    of: 'that fail, after one that was held: the issuer may be back soon, for an interval',
    polls: [
      [25_000, empty],
      [0, failed],
    ],
    expected: `0w 25w ${seconds(26, 85).join(' ')} 87 91 99 115 147 207 267`,
  },
  {
    of: 'that were held, failed for minutes, are answered, and then fail once more: as if for the first time',
    polls: [
      [25_000, empty],
      ...Array.from({ length: 70 }, () => [0, failed] as const),
      [0, empty],
      [0, failed],
      [0, empty],
      [25_000, empty],
    ],
    expected: `0w 25w ${seconds(26, 85).join(' ')} 87 91 99 115 147 207 267 327 387 447 448w 449 450w 475w`,
  },
]
for (const { of, polls, expected } of schedules)
  test(`createPollTimes() has the times of polls ${of}`, () => {
    const it = timed()

    const began = expected.split(' ').map((_, at) => {
      const [ms, end] = polls[Math.min(at, polls.length - 1)] ?? [0, empty]
      return it.poll(ms, end)
    })

    assert.equal(began.join(' '), expected)
  })

test('createPollTimes() asks to be held as soon as the poll before it is over, with the shortest interval there may be', () => {
  const it = timed({ wait: 25_000, poll_interval: 28_000 })

  assert.deepEqual(
    [1, 2, 3].map(() => it.poll(25_000, empty)),
    ['0w', '25w', '50w'],
  )
})

test('createPollTimes() takes a tenth at most off what is between two polls, and nothing off the first second', () => {
  const it = timed({ random: 1 })

  const began = Array.from({ length: 6 }, () => it.poll(0, empty))

  assert.equal(began.join(' '), '0w 1w 2w 3.8w 7.22w 13.718w')
})

for (const { poll_interval, status, retryAfterMs, afterMs, seconds, because } of [
  { poll_interval: 60_000, status: 503, retryAfterMs: 30_000, afterMs: 500, seconds: 30.5, because: 'it is asked for' },
  {
    poll_interval: 60_000,
    status: 503,
    retryAfterMs: 0,
    afterMs: 500,
    seconds: 0.9,
    because: 'it is tried again after a second, less a tenth',
  },
  {
    poll_interval: 60_000,
    status: 429,
    retryAfterMs: 3e9,
    afterMs: 500,
    seconds: 60,
    because: 'an interval is the most',
  },
] as const)
  test(`createPollTimes() has a poll ${seconds} s after one that is ${status} with Retry-After ${retryAfterMs / 1000} s: ${because}`, () => {
    const it = timed({ wait: 0, poll_interval, random: 1 })
    it.times.begin(true)
    it.pass(afterMs)
    it.times.failed({ status, retryAfterMs })

    assert.equal(it.dueMs(), seconds * 1000)
  })

test('createPollTimes() takes an issuer that held a poll and then has too many calls for one that is there', () => {
  const it = timed()

  const began = [
    it.poll(25_000, empty),
    ...Array.from({ length: 5 }, () => it.poll(0, (times) => times.failed({ ...away, status: 429 }))),
  ]

  assert.equal(began.join(' '), '0w 25w 26 28 32 40')
})

const ends = { empty, news, failed, anew, anewAndLost }
const histories = fc.record({
  wait: fc.integer({ min: 1000, max: 30_000 }),
  /** By how much the interval is longer than it has to be (config/schema.ts). */
  more: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 60_000 })),
  random: fc.constantFrom(0, 0.5, 1),
  polls: fc.array(
    fc.record({ percent: fc.integer({ min: 0, max: 100 }), end: fc.constantFrom(...Object.keys(ends)) }),
    {
      minLength: 1,
      maxLength: 60,
    },
  ),
})

test('createPollTimes() has a list read within the interval, whatever becomes of polls that ask to be held', () => {
  fc.assert(
    fc.property(histories, ({ wait, more, random, polls }) => {
      const poll_interval = wait + 3000 + more
      const it = timed({ wait, poll_interval, random })
      // Polls that are not held are answered well, and at once.
      let readMs = 0
      for (const { percent, end } of polls) {
        const startedMs = it.dueMs()
        it.pass(startedMs - it.nowMs())
        const waitMs = it.times.begin(true)
        if (waitMs > 0) it.pass(Math.round((percent / 100) * (waitMs + 2000)))
        const isLost = waitMs > 0 && (end === 'failed' || end === 'anewAndLost')
        if (!isLost) {
          assert.ok(startedMs - readMs <= poll_interval + 0.001, `${startedMs} after ${readMs}`)
          readMs = it.nowMs()
        }
        // Who refuses what is to be held may also say for how long, and then means that alone.
        if (isLost && percent % 2 === 1) it.times.failed({ status: 503, retryAfterMs: 3e9 })
        else if (isLost || end === 'anew') ends[end as keyof typeof ends](it.times)
        else it.times.good(end === 'news')
      }
    }),
  )
})

test('createPollTimes() lets no poll begin later than an interval after the last, nor sooner than a second where it is not a failure', () => {
  fc.assert(
    fc.property(histories, ({ wait, more, random, polls }) => {
      const poll_interval = wait + 3000 + more
      const it = timed({ wait, poll_interval, random })
      for (const { percent, end } of polls) {
        const startedMs = it.dueMs()
        it.poll(Math.round((percent / 100) * wait), ends[end as keyof typeof ends])
        const gapMs = it.dueMs() - startedMs
        assert.ok(gapMs <= poll_interval, `${gapMs}`)
        assert.ok(gapMs >= (end === 'failed' || end === 'anewAndLost' ? 0.9 : 1) * leastGapMs - 0.001, `${gapMs}`)
      }
    }),
  )
})

test('createPollTimes() asks to be held less and less often where no poll is, and none brings anything: no storm', () => {
  fc.assert(
    fc.property(histories, ({ wait, more, random, polls }) => {
      const poll_interval = wait + 3000 + more
      const it = timed({ wait, poll_interval, random })
      let tried = 0
      for (const { end } of polls) {
        // A part of them fails, more than once in a row, too; the list begins anew at the rest.
        const began = it.poll(0, end === 'failed' ? failed : end === 'anewAndLost' ? anewAndLost : anew)
        if (began.endsWith('w')) tried += 1
        // 1 s, 2 s, 4 s … to begin with, and after each time that it was away for an interval; then each interval.
        const intervals = Math.ceil((it.nowMs() + 1) / (0.9 * poll_interval))
        assert.ok(tried <= 10 * intervals + 2, `${tried} tries within ${it.nowMs()} ms of ${poll_interval} ms each`)
      }
    }),
  )
})
