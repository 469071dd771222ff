// The watch alone, with a clock and a verdict that the test gives.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { preflightAllow } from '../../src/decision/cors.ts'
import type { Deny } from '../../src/decision/decision.ts'
import { deny } from '../../src/decision/decision.ts'
import { createStreams } from '../../src/gates/streams.ts'
import type { Gateway } from '../../src/gateway.ts'
import type { Deadline } from '../../src/http1/deadlines.ts'

/** A watch over one stream whose time passes in steps of half a second, as that of the process does. */
function watchOne(graceMs: number, verdict: (seconds: number) => ReturnType<Gateway['recheck']>) {
  let nowMs = 0
  let judged = 0
  let watched: Deadline | undefined
  const told: string[] = []
  const gateway: Gateway = {
    decide: () => assert.fail('nothing is decided'),
    recheck() {
      judged += 1
      return verdict(nowMs / 1000)
    },
  }
  const streams = createStreams({
    clock: { monotonicMs: () => nowMs },
    deadlines: {
      nowMs: () => nowMs,
      watch(deadline) {
        watched = deadline
      },
      unwatch() {
        watched = undefined
      },
    },
    serving: () => ({ gateway, streamGraceMs: graceMs }),
    streamOpened: (kind) => void told.push(`opened ${kind}`),
    streamEnded: (kind, reason) => void told.push(`ended ${kind} ${reason}`),
    failed: (error) => void told.push(`failed ${String(error)}`),
  })
  const over = streams.open({
    kind: 'event_stream',
    allow: preflightAllow,
    cut: (why) => void told.push(`cut ${why} at ${nowMs / 1000}`),
    abort: () => void told.push(`abort at ${nowMs / 1000}`),
  })
  return {
    told,
    over,
    streams,
    judged: () => judged,
    isWatched: () => watched !== undefined,
    async pass(seconds: number) {
      for (let at = 0; at < seconds * 2; at += 1) {
        nowMs += 500
        if (watched !== undefined && watched.atMs <= nowMs) watched.expire()
        await turn()
      }
    },
  }
}
const revoked: Deny = deny('token_revoked')

test('createStreams() judges a stream once a second, and watches nothing once it is over', async () => {
  const it = watchOne(0, () => undefined)
  await it.pass(60)

  assert.equal(it.judged(), 60)
  it.over()
  it.over()
  await it.pass(60)
  assert.equal(it.judged(), 60)
  assert.equal(it.isWatched(), false)
  assert.deepEqual(it.told, ['opened event_stream', 'ended event_stream finished'])
})

test('createStreams() cuts once, and has what is still there a second later aborted', async () => {
  const it = watchOne(0, () => revoked)
  await it.pass(2)
  it.over()

  assert.deepEqual(it.told.slice(1), ['cut token_revoked at 1', 'abort at 2', 'ended event_stream token_revoked'])
})

test('createStreams() waits for the grace, asks once more at its end, and cuts then', async () => {
  const it = watchOne(10_000, () => revoked)
  await it.pass(10)
  assert.deepEqual(it.told, ['opened event_stream'])
  await it.pass(2)

  assert.deepEqual(it.told.slice(1, 2), ['cut token_revoked at 11'])
  assert.equal(it.judged(), 2)
})

test('createStreams() lets a stream live whose doubt has gone within the grace: a list that was too old', async () => {
  const it = watchOne(10_000, (seconds) => (seconds === 1 ? deny('blacklist_stale') : undefined))
  await it.pass(60)

  assert.deepEqual(it.told, ['opened event_stream'])
})

test('createStreams() gives each doubt a grace of its own', async () => {
  const it = watchOne(10_000, (seconds) => (seconds === 1 || seconds >= 20 ? deny('blacklist_stale') : undefined))
  await it.pass(29)
  assert.deepEqual(it.told, ['opened event_stream'])
  await it.pass(1)

  assert.deepEqual(it.told.slice(1), ['cut blacklist_stale at 30'])
})

test('createStreams() acts on a verdict that had to be waited for, unless the stream is over by then', async () => {
  const it = watchOne(0, () => Promise.resolve(revoked))
  await it.pass(1)
  assert.deepEqual(it.told.slice(1), ['cut token_revoked at 1'])

  const late = Promise.withResolvers<Deny>()
  const other = watchOne(0, () => late.promise)
  await other.pass(1)
  other.over()
  late.resolve(revoked)
  await turn()
  assert.deepEqual(other.told.slice(1), ['ended event_stream finished'])
})

test('createStreams() cuts nothing a second time, where a verdict comes that was waited for', async () => {
  const late = Promise.withResolvers<Deny>()
  const it = watchOne(0, () => late.promise)
  await it.pass(1)
  void it.streams.shutDown()

  late.resolve(revoked)
  await turn()

  assert.deepEqual(it.told.slice(1), ['cut shutdown at 1'])
})

test('createStreams() ends a stream it cannot judge: a bug must not hold one open', async () => {
  const it = watchOne(0, () => {
    throw new Error('broken')
  })
  await it.pass(1)
  const later = watchOne(60_000, () => Promise.reject(new Error('broken')))
  await later.pass(1)

  const told = ['failed Error: broken', 'cut internal_error at 1']
  assert.deepEqual(it.told.slice(1), told)
  assert.deepEqual(later.told.slice(1), told)
})

test('createStreams() asks no second time while a verdict is waited for, and waits for none for ever', async () => {
  const slow = Promise.withResolvers<undefined>()
  const it = watchOne(0, (seconds) => (seconds === 1 ? slow.promise : undefined))
  await it.pass(8)
  assert.equal(it.judged(), 1)
  slow.resolve(undefined)
  await it.pass(2)
  assert.equal(it.judged(), 3)
  assert.deepEqual(it.told, ['opened event_stream'])

  const never = watchOne(0, () => new Promise(() => {}))
  await never.pass(11)
  assert.equal(never.judged(), 1)
  assert.deepEqual(never.told.slice(1), [
    'failed Error: Cannot judge a stream: no verdict for 10000 ms',
    'cut internal_error at 11',
  ])
})

test('createStreams().shutDown() cuts all, and resolves when they have ended', async () => {
  const it = watchOne(0, () => undefined)
  let isDown = false
  const down = it.streams.shutDown().then(() => {
    isDown = true
  })
  await Promise.resolve()
  assert.equal(isDown, false)
  it.over()
  await down

  assert.deepEqual(it.told.slice(1), ['cut shutdown at 0', 'ended event_stream shutdown'])
})

test('createStreams().shutDown() leaves what is cut a second for its last words, whenever it was looked at last', async () => {
  const it = watchOne(0, () => undefined)
  await it.pass(0.5)
  void it.streams.shutDown()
  await it.pass(1.5)

  assert.deepEqual(it.told.slice(1), ['cut shutdown at 0.5', 'abort at 1.5'])
})

test('createStreams().shutDown() resolves at once where there is no stream, or none any more', async () => {
  const it = watchOne(0, () => undefined)
  it.over()
  let isDown = false

  void it.streams.shutDown().then(() => {
    isDown = true
  })
  await turn()

  assert.equal(isDown, true)
})
