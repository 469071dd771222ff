import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import { createUpstreamPool } from '../../src/http1/upstream-pool.ts'
import { createTestDeadlines } from '../support/deadlines.ts'
import { settle, until } from '../support/until.ts'
import type { Accepted } from './upstream-peer.ts'
import { ask, deserted, ok, openPeer, openPool, plain } from './upstream-peer.ts'

/** Asks for something to be answered, and has it answered later. */
async function openSlowPeer() {
  const waiting: Accepted[] = []
  const peer = await openPeer((connection) => {
    waiting.push(connection)
    return undefined
  })
  return { ...peer, waiting, answer: () => void waiting.shift()?.socket.write(ok) }
}

test('createUpstreamPool() sends one request after another on the same connection', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint])

  for (let at = 0; at < 5; at += 1) {
    const asked = ask(pool)
    assert.equal(await asked.outcome, 'end')
    assert.equal(asked.body(), 'ok')
  }

  assert.equal(peer.accepted.length, 1)
  assert.equal(peer.requests(), 5)
})

test('createUpstreamPool() uses the connection that was used last, so that the others can end', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint])
  await Promise.all([ask(pool).outcome, ask(pool).outcome, ask(pool).outcome])
  const before = peer.accepted.map(({ requests }) => requests)

  for (let at = 0; at < 4; at += 1) await ask(pool).outcome

  assert.deepEqual(before, [1, 1, 1])
  assert.deepEqual(peer.accepted.map(({ requests }) => requests).sort(), [1, 1, 5])
})

test('createUpstreamPool() opens as many connections as it may, and not one more', async () => {
  await using peer = await openSlowPeer()
  using pool = openPool([peer.endpoint], { connections: 3 })

  const all = Array.from({ length: 5 }, () => ask(pool))
  await until(() => peer.requests() === 3, 'three requests')
  await settle()

  assert.equal(peer.accepted.length, 3)
  assert.equal(all.filter((each) => each.opened() === 1).length, 3)
  for (let at = 0; at < 5; at += 1) {
    await until(() => peer.waiting.length > 0, 'a request')
    peer.answer()
  }
  assert.deepEqual(await Promise.all(all.map(({ outcome }) => outcome)), ['end', 'end', 'end', 'end', 'end'])
  assert.equal(peer.accepted.length, 3)
})

test('createUpstreamPool() lets as many requests wait as it may, in turn, and turns away the one after that', async () => {
  await using peer = await openSlowPeer()
  using pool = openPool([peer.endpoint], { connections: 1, queued: 2 })
  const order: number[] = []
  const first = ask(pool)
  await until(() => peer.requests() === 1, 'the first request')

  const second = ask(pool, {}, { end: () => void order.push(2) })
  assert.equal(pool.isFull(), false)
  const third = ask(pool, {}, { end: () => void order.push(3) })
  assert.equal(pool.isFull(), true)
  const fourth = ask(pool)

  assert.equal(await fourth.outcome, 'overloaded')
  for (const each of [first, second, third]) {
    await until(() => peer.waiting.length > 0, 'a request')
    peer.answer()
    assert.equal(await each.outcome, 'end')
  }
  assert.deepEqual(order, [2, 3])
  assert.equal(pool.isFull(), false)
})

test('createUpstreamPool() turns a request away when it has waited long enough, and not before', async () => {
  await using peer = await openSlowPeer()
  using pool = openPool([peer.endpoint], { connections: 1, queuedMs: 2000 })
  const first = ask(pool)
  await until(() => peer.requests() === 1, 'the first request')
  const second = ask(pool)

  pool.time.pass(1999)
  assert.equal(second.isOver(), false)
  pool.time.pass(1)

  assert.equal(await second.outcome, 'overloaded')
  peer.answer()
  assert.equal(await first.outcome, 'end')
  assert.equal(peer.requests(), 1)
})

test('createUpstreamPool() is not full while a connection may be opened, even where nothing may wait', async () => {
  await using peer = await openSlowPeer()
  using pool = openPool([peer.endpoint], { connections: 2, queued: 0 })
  const full = [pool.isFull()]
  const ours = [ask(pool)]
  full.push(pool.isFull())
  ours.push(ask(pool))
  full.push(pool.isFull())

  assert.deepEqual(full, [false, false, true])
  assert.equal(await ask(pool).outcome, 'overloaded')
  await until(() => peer.waiting.length === 2, 'both requests')
  peer.answer()
  peer.answer()
  assert.deepEqual(await Promise.all(ours.map(({ outcome }) => outcome)), ['end', 'end'])
})

test('createUpstreamPool() is not full while a connection is free, even where nothing may wait', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint], { connections: 1, queued: 0 })
  await ask(pool).outcome

  assert.equal(pool.isFull(), false)
  assert.equal(await ask(pool).outcome, 'end')
})

test('createUpstreamPool() is full while its only connection is busy, though one was kept before and has ended', async () => {
  let answers = true
  await using peer = await openPeer(() => (answers ? ok : undefined))
  using pool = openPool([peer.endpoint], { connections: 1, queued: 0 })
  await ask(pool).outcome
  peer.accepted[0]?.socket.end()
  await until(() => peer.open() === 0, 'its end')
  answers = false

  ask(pool)
  await until(() => peer.requests() === 2, 'the second request')

  assert.equal(pool.isFull(), true)
})

test('createUpstreamPool() repeats a request on a new connection even where it has to wait for one', async () => {
  await using peer = await openPeer(({ socket }, request) => {
    if (request !== 2) return ok
    socket.destroy()
    return undefined
  })
  using pool = openPool([peer.endpoint], { connections: 1 })
  await ask(pool).outcome
  const unlucky = ask(pool)

  const queued = ask(pool)

  assert.equal(await queued.outcome, 'end')
  assert.equal(await unlucky.outcome, 'end')
  assert.equal(unlucky.opened(), 2)
  assert.deepEqual(
    peer.accepted.map(({ requests }) => requests),
    [2, 1, 1],
  )
})

test('createUpstreamPool().cancel() of a request that waits to be repeated has it sent no second time', async () => {
  const waiting: Accepted[] = []
  await using peer = await openPeer((connection, request) => {
    if (request === 1) return ok
    if (request === 2) connection.socket.destroy()
    else waiting.push(connection)
    return undefined
  })
  using pool = openPool([peer.endpoint], { connections: 1 })
  await ask(pool).outcome
  const unlucky = ask(pool)
  const next = ask(pool)
  await until(() => waiting.length === 1, 'the request after it')

  unlucky.exchange().abort()
  pool.cancel(unlucky.events)
  waiting[0]?.socket.write(ok)

  assert.equal(await next.outcome, 'end')
  await settle()
  assert.equal(peer.requests(), 3)
  assert.equal(unlucky.opened(), 1)
  assert.equal(unlucky.isOver(), false)
})

test('createUpstreamPool().cancel() of a request whose connection then fails asks nobody else', async () => {
  const nobody = await deserted()
  using pool = openPool([nobody])
  const left = ask(pool)

  pool.cancel(left.events)
  await until(() => pool.failed.length > 0, 'the failure')
  await settle()

  assert.equal(pool.failed.length, 1)
  assert.equal(left.isOver(), false)
})

test('createUpstreamPool().cancel() takes a request out of the queue: the upstream never sees it', async () => {
  await using peer = await openSlowPeer()
  using pool = openPool([peer.endpoint], { connections: 1 })
  const first = ask(pool)
  await until(() => peer.requests() === 1, 'the first request')
  const second = ask(pool, { target: '/second' })
  const third = ask(pool, { target: '/third' })

  pool.cancel(second.events)
  peer.answer()
  await first.outcome
  await until(() => peer.waiting.length > 0, 'the third request')
  peer.answer()
  await third.outcome

  assert.equal(second.opened(), 0)
  assert.ok(!peer.accepted.some(({ received }) => received.includes('/second')))
})

test('createUpstreamPool().cancel() takes out the request that waits, whatever the same client asked before', async () => {
  await using peer = await openSlowPeer()
  using pool = openPool([peer.endpoint], { connections: 1 })
  // A client tells its requests apart by nothing: one is over before the next.
  const client = ask(pool)
  await until(() => peer.requests() === 1, 'the first request')
  peer.answer()
  await client.outcome
  const busy = ask(pool)
  await until(() => peer.requests() === 2, 'the second request')
  pool.open({ ...plain, target: '/taken-back' }, client.events)
  const last = ask(pool)

  pool.cancel(client.events)
  peer.answer()
  await busy.outcome
  await until(() => peer.waiting.length > 0, 'the last request')
  peer.answer()
  await until(() => last.isOver(), 'the last answer')

  assert.equal(client.opened(), 1)
  assert.ok(!peer.accepted.some(({ received }) => received.includes('/taken-back')))
})

test('createUpstreamPool().cancel() while its connection is made leaves the connection to the next request', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint])
  const left = ask(pool, { target: '/left' })

  pool.cancel(left.events)
  await until(() => peer.accepted.length === 1, 'the connection')
  await settle()
  const next = ask(pool, { target: '/next' })

  assert.equal(await next.outcome, 'end')
  assert.equal(peer.accepted.length, 1)
  assert.ok(!peer.accepted[0]?.received.includes('/left'))
})

test('createUpstreamPool() gives each request to the place with the least to do', async () => {
  await using a = await openSlowPeer()
  await using b = await openSlowPeer()
  await using c = await openSlowPeer()
  using pool = openPool([a.endpoint, b.endpoint, c.endpoint])
  const requests = () => [a.requests(), b.requests(), c.requests()]

  const all = Array.from({ length: 6 }, () => ask(pool))
  await until(() => requests().every((count) => count === 2), 'two requests for each')
  a.answer()
  a.answer()
  await until(() => all.filter((each) => each.isOver()).length === 2, 'two answers')
  ask(pool)
  ask(pool)
  await until(() => a.requests() + b.requests() + c.requests() === 8, 'two more')

  assert.deepEqual(requests(), [4, 2, 2])
})

for (const { told, what, whole } of [
  { told: 'head', what: 'no body', whole: 'HTTP/1.1 204 No Content\r\n\r\n' },
  { told: 'data', what: 'a length', whole: ok },
  {
    told: 'data',
    what: 'chunks',
    whole: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
  },
] as const)
  test(`createUpstreamPool() still gives each place as much where whole answers with ${what} were given up at their ${told}`, async () => {
    let isSlow = false
    await using a = await openPeer(() => (isSlow ? undefined : whole))
    await using b = await openPeer(() => (isSlow ? undefined : whole))
    using pool = openPool([a.endpoint, b.endpoint])
    // Those of one place are given up.
    for (let at = 0; at < 3; at += 1) {
      const given = ask(pool, {}, { [told]: () => given.exchange().abort() })
      await until(() => a.accepted.concat(b.accepted).filter(({ isClosed }) => isClosed).length > at, 'its end')
      assert.equal(given.isOver(), false)
      await ask(pool).outcome
    }
    assert.deepEqual([a.requests(), b.requests()], [3, 3])

    isSlow = true
    for (let at = 0; at < 6; at += 1) ask(pool)
    await until(() => a.requests() + b.requests() === 12, 'six more')

    assert.deepEqual([a.requests(), b.requests()], [6, 6])
  })

test('createUpstreamPool() closes a connection that is kept at one place where another one is wanted', async () => {
  await using a = await openPeer()
  await using b = await openSlowPeer()
  using pool = openPool([a.endpoint, b.endpoint], { connections: 2 })
  // Both places have one; whichever is asked next has it free, so that one more there is one too many.
  const first = ask(pool)
  const second = ask(pool)
  await until(() => a.requests() + b.requests() === 2, 'two requests')
  await until(() => first.isOver() || second.isOver(), "the quick one's answer")

  const third = ask(pool)
  const fourth = ask(pool)
  await until(() => third.isOver() || fourth.isOver(), 'an answer')

  assert.ok(a.open() + b.open() <= 2)
})

test('createUpstreamPool() has nobody wait where all it may open is kept at the other place', async () => {
  await using a = await openPeer()
  await using b = await openPeer()
  using pool = openPool([a.endpoint, b.endpoint], { connections: 1 })
  await ask(pool).outcome

  // The other place is the next.
  const second = ask(pool)
  await until(() => second.isOver(), 'the second answer')

  assert.equal(await second.outcome, 'end')
  assert.deepEqual([a.requests(), b.requests()], [1, 1])
  await until(() => a.open() + b.open() === 1, 'the end of the one that was kept')
})

test('createUpstreamPool() asks one place after the other where all of them are free', async () => {
  await using a = await openPeer()
  await using b = await openPeer()
  await using c = await openPeer()
  using pool = openPool([a.endpoint, b.endpoint, c.endpoint])

  for (let at = 0; at < 6; at += 1) await ask(pool).outcome

  assert.deepEqual([a.requests(), b.requests(), c.requests()], [2, 2, 2])
})

test('createUpstreamPool() asks elsewhere when a place refuses, once, and tells which one', async () => {
  await using peer = await openPeer()
  const nobody = await deserted()
  using pool = openPool([nobody, peer.endpoint])

  const outcomes: string[] = []
  for (let at = 0; at < 6; at += 1) outcomes.push(await ask(pool, { method: 'POST', repeatable: false }).outcome)

  assert.deepEqual(outcomes, ['end', 'end', 'end', 'end', 'end', 'end'])
  assert.ok(pool.failed.length >= 1)
  assert.ok(pool.failed.every((name) => name === nobody.name))
})

test('createUpstreamPool() tries no place that has failed with a request that is sent for the last time', async () => {
  await using peer = await openPeer((connection) => {
    if (connection.requests === 1) return ok
    connection.socket.destroy()
    return undefined
  })
  const nobody = await deserted()
  using pool = openPool([nobody, peer.endpoint])

  const outcomes: string[] = []
  for (let at = 0; at < 20; at += 1) {
    outcomes.push(...(await Promise.all([ask(pool).outcome, ask(pool).outcome, ask(pool).outcome])))
    // Whoever rests is tried again every other time.
    pool.time.pass(2500)
  }

  assert.deepEqual([...new Set(outcomes)], ['end'])
  assert.ok(pool.failed.length > 3, 'it is tried again by others')
})

test('createUpstreamPool() repeats what a place that is gone has lost at another, though that has more to do', async () => {
  const doomed = await openSlowPeer()
  await using peer = await openSlowPeer()
  using pool = openPool([doomed.endpoint, peer.endpoint])
  const warm = Array.from({ length: 6 }, () => ask(pool))
  await until(() => doomed.waiting.length + peer.waiting.length === 6, 'six requests')
  for (const each of [doomed, peer]) while (each.waiting.length > 0) each.answer()
  await Promise.all(warm.map(({ outcome }) => outcome))

  const asked = Array.from({ length: 6 }, () => ask(pool))
  await until(() => doomed.waiting.length + peer.waiting.length === 6, 'six more')
  await doomed[Symbol.asyncDispose]()
  await until(() => peer.waiting.length === 6, 'all of them')
  while (peer.waiting.length > 0) peer.answer()

  assert.deepEqual([...new Set(await Promise.all(asked.map(({ outcome }) => outcome)))], ['end'])
})

for (const more of [0, 1]) {
  test(`createUpstreamPool() asks one that rests rather than the one that has just refused the same request, with ${more} asked before`, async () => {
    let isDown = true
    await using resting = await openPeer(({ socket }) => {
      if (!isDown) return ok
      socket.destroy()
      return undefined
    })
    const gone = await openPeer()
    using pool = openPool([resting.endpoint, gone.endpoint])
    const post = () => ask(pool, { method: 'POST', repeatable: false }).outcome
    while (resting.requests() < 3) await post()
    for (let at = 0; at < more; at += 1) assert.equal(await post(), 'end')
    isDown = false
    await gone[Symbol.asyncDispose]()
    await until(() => gone.open() === 0, 'its connections to be closed')
    await settle()

    assert.equal(await post(), 'end')
    assert.equal(pool.failed.length, 1)
  })
}

test('createUpstreamPool() gives up with connect after two refusals', async () => {
  const nobody = await deserted()
  using pool = openPool([nobody])

  const asked = ask(pool)

  assert.equal(await asked.outcome, 'connect')
  assert.equal(asked.opened(), 0)
  assert.deepEqual(pool.failed, [nobody.name, nobody.name])
})

test('createUpstreamPool() rests a place that failed three times in a row for five seconds, then lets one request try', async () => {
  await using peer = await openSlowPeer()
  const nobody = await deserted()
  using pool = openPool([nobody, peer.endpoint])
  // The other one is busy: the deserted one always has the least to do.
  const answered: Promise<string>[] = []
  const more = async (count: number) => {
    for (let at = 0; at < count; at += 1) {
      const wanted = peer.requests() + 1
      answered.push(ask(pool).outcome)
      await until(() => peer.requests() === wanted, 'the request elsewhere')
    }
  }
  await more(6)
  const early = pool.failed.length
  pool.time.pass(4999)
  await more(3)
  const resting = pool.failed.length

  pool.time.pass(1)
  const wanted = peer.requests() + 3
  for (let at = 0; at < 3; at += 1) answered.push(ask(pool).outcome)
  await until(() => peer.requests() === wanted, 'the requests elsewhere')

  assert.equal(early, 3)
  assert.equal(resting, 3)
  assert.equal(pool.failed.length, 4)
  while (peer.waiting.length > 0) peer.answer()
  assert.ok((await Promise.all(answered)).every((outcome) => outcome === 'end'))
})

test('createUpstreamPool() rests a place that takes connections and breaks off without an answer', async () => {
  await using bad = await openPeer(({ socket }) => {
    socket.destroy()
    return undefined
  })
  await using good = await openSlowPeer()
  using pool = openPool([bad.endpoint, good.endpoint])
  const outcomes: Promise<string>[] = []

  for (let at = 0; at < 10; at += 1) {
    const seen = bad.requests() + good.requests()
    outcomes.push(ask(pool).outcome)
    await until(() => bad.requests() + good.requests() > seen, 'the request')
    await sleep(5)
  }

  assert.equal(bad.requests(), 3)
  assert.equal(good.requests(), 7)
  while (good.waiting.length > 0) good.answer()
  assert.equal((await Promise.all(outcomes)).filter((outcome) => outcome === 'reset').length, 3)
})

test('createUpstreamPool() does not rest a place for what its kept connections have lost', async () => {
  await using quick = await openPeer((connection) => {
    if (connection.requests === 1) return ok
    connection.socket.destroy()
    return undefined
  })
  await using other = await openPeer()
  using pool = openPool([quick.endpoint, other.endpoint])
  const post = { method: 'POST', repeatable: false } as const
  const six = () => Promise.all(Array.from({ length: 6 }, () => ask(pool, post).outcome))
  await six()
  assert.equal(quick.accepted.length, 3)

  const lost = (await six()).filter((outcome) => outcome === 'reset').length
  const before = quick.requests()
  await Promise.all([ask(pool, post).outcome, ask(pool, post).outcome])

  assert.equal(lost, 3)
  assert.equal(quick.requests(), before + 1)
})

for (const { how, answer } of [
  { how: 'answers', answer: ok.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n') },
  { how: 'switches protocols', answer: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n' },
])
  test(`createUpstreamPool() forgets the failures of a place that ${how}`, async () => {
    let asked = 0
    await using moody = await openPeer(({ socket }) => {
      asked += 1
      if (asked % 3 === 0) return answer
      socket.destroy()
      return undefined
    })
    await using good = await openSlowPeer()
    using pool = openPool([moody.endpoint, good.endpoint])

    // Busy: whatever may go to the other one does, once that has lost its own.
    const both = [ask(pool, { target: '/x' }), ask(pool, { target: '/x' })]
    await Promise.race(both.map(({ outcome }) => outcome))
    await until(() => good.requests() === 1 && asked === 1, 'one each')
    for (let at = 0; at < 8; at += 1) {
      const before = asked
      const each = ask(pool, { upgrade: 'echo' })
      await until(() => each.isOver() || each.switchedTo() !== undefined, 'what became of it')
      each.exchange().abort()
      assert.equal(asked, before + 1)
      await until(() => moody.open() === 0, 'the end of its connection')
    }
  })

test('createUpstreamPool() asks one of several places even where all of them rest', async () => {
  const [one, two] = [await deserted(), await deserted()]
  using pool = openPool([one, two])

  for (let at = 0; at < 5; at += 1) assert.equal(await ask(pool).outcome, 'connect')

  assert.equal(pool.failed.length, 10)
})

test('createUpstreamPool() has requests wait while the places are not known, and serves them once they are', async () => {
  await using peer = await openPeer()
  const time = createTestDeadlines()
  let list: readonly (typeof peer.endpoint)[] | undefined
  let tell = () => {}
  const endpoints = {
    list: () => list,
    watch(changed: () => void) {
      tell = changed
    },
  }
  const pool = createUpstreamPool(endpoints, poolLimits(upstreamOptions.parse({})), time)
  const late = ask(pool)
  const patient = ask(pool)
  time.pass(1999)
  assert.equal(late.isOver(), false)

  list = [peer.endpoint]
  tell()

  assert.deepEqual(await Promise.all([late.outcome, patient.outcome]), ['end', 'end'])
  pool.close()
})

test('createUpstreamPool() gives requests up with connect once there is known to be no place, or none is known in time', async () => {
  const time = createTestDeadlines()
  let list: readonly [] | undefined
  let tell = () => {}
  const endpoints = {
    list: () => list,
    watch(changed: () => void) {
      tell = changed
    },
  }
  const pool = createUpstreamPool(endpoints, poolLimits(upstreamOptions.parse({})), time)
  const late = ask(pool)
  time.pass(2000)
  const waiting = ask(pool)

  list = []
  tell()

  assert.equal(await late.outcome, 'connect')
  assert.equal(await waiting.outcome, 'connect')
  assert.equal(await ask(pool).outcome, 'connect')
  pool.close()
})

test('createUpstreamPool() lets go of the connections to a place that is not listed any more, once they are free', async () => {
  await using old = await openSlowPeer()
  await using next = await openPeer()
  const time = createTestDeadlines()
  let list = [old.endpoint]
  let tell = () => {}
  const endpoints = {
    list: () => list,
    watch(changed: () => void) {
      tell = changed
    },
  }
  const pool = createUpstreamPool(endpoints, poolLimits(upstreamOptions.parse({})), time)
  const [busy, done] = [ask(pool), ask(pool)]
  await until(() => old.requests() === 2, 'two requests')
  old.waiting.splice(1, 1)[0]?.socket.write(ok)
  await Promise.race([busy.outcome, done.outcome])

  list = [next.endpoint]
  tell()
  await until(() => old.open() === 1, 'the end of the free one')
  const other = ask(pool)

  assert.equal(await other.outcome, 'end')
  assert.equal(old.requests(), 2)
  old.answer()
  assert.deepEqual(await Promise.all([busy.outcome, done.outcome]), ['end', 'end'])
  await until(() => old.open() === 0, 'the end of the busy one')
  pool.close()
})

test('createUpstreamPool().close() ends every connection, gives up what waits, and opens none again', async () => {
  await using peer = await openSlowPeer()
  const pool = openPool([peer.endpoint], { connections: 2 })
  ask(pool)
  await until(() => peer.requests() === 1, 'the first request')
  const connecting = ask(pool)
  const queued = [ask(pool), ask(pool), ask(pool)]

  pool.close()

  assert.ok(queued.every((each) => each.isOver()))
  assert.deepEqual(
    await Promise.all([connecting, ...queued].map(({ outcome }) => outcome)),
    Array.from({ length: 4 }, () => 'connect'),
  )
  assert.equal(await ask(pool).outcome, 'connect')
  await until(() => peer.open() === 0, 'the end of all')
  assert.equal(peer.requests(), 1)
  assert.equal(pool.time.watched(), 0)
  assert.deepEqual(pool.failed, [])
})
