// How a session at the HTTP/2 front door ends, and that nothing is lost by it.
import assert from 'node:assert/strict'
import type { ClientHttp2Session } from 'node:http2'
import { connect as connectSession } from 'node:http2'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import { createUpstreamPool } from '../../src/http1/upstream-pool.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import { createHttp2Upstream } from '../../src/http2/upstream-pool.ts'
import { codes, connectFrames, frame, headers, outcomeOf, windowUpdate } from '../support/h2-frames.ts'
import { settle, until } from '../support/until.ts'
import type { Door } from './door.ts'
import { openDoor, openRawUpstream, openUpstream } from './door.ts'
import { endOf, isGoaway, openPair, plain, settled, slow } from './http2-pair.ts'

test('serveHttp2() says goodbye after so many requests, and serves what it was sent', async () => {
  await using pair = await openPair({ requestsPerConnection: 3 })
  using client = connectFrames(pair.port)

  for (const stream of [1, 3, 5]) client.send(headers(stream, plain))

  for (const stream of [1, 3, 5]) assert.equal(await outcomeOf(client, stream), '200')
  assert.equal(await endOf(client), codes.noError)
})

test('serveHttp2() refuses nothing of clients that wait for an answer before they ask on, over sessions and sessions', async () => {
  await using pair = await openPair({ requestsPerConnection: 5 })
  const statuses: number[] = []
  let sessions = 0
  while (statuses.length < 100) {
    const session = connectSession(`http://127.0.0.1:${pair.port}`)
    sessions += 1
    let isLeaving = false
    session.on('goaway', () => {
      isLeaving = true
    })
    while (!isLeaving && !session.closed) statuses.push(await statusOver(session))
    session.close()
  }

  assert.deepEqual(new Set(statuses), new Set([200]))
  assert.equal(sessions, 20)
})

test('drain() refuses nothing of clients that wait for an answer before they ask on', async () => {
  await using pair = await openPair()
  const sessions = Array.from({ length: 10 }, () => connectSession(`http://127.0.0.1:${pair.port}`))
  const statuses: number[] = []
  const asking = sessions.map(async (session) => {
    let isLeaving = false
    session.on('goaway', () => {
      isLeaving = true
    })
    while (!isLeaving && !session.closed) statuses.push(await statusOver(session))
  })
  await until(() => statuses.length > 100, 'requests')

  await pair.door.door.drain()

  await Promise.all(asking)
  assert.deepEqual(new Set(statuses), new Set([200]))
})

test('serveHttp2() lets go of the connection of a client that reads nothing, once its session is over', async () => {
  await using upstream = await openUpstream((_, response) => response.end(Buffer.alloc(32_000_000)))
  await using door = await openDoor(upstream.port, undefined, { limits: { writeMs: 500, idleMs: 1000 } })
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
  using client = connectFrames(door.door.port, Buffer.of(0, 4, 0x7f, 0xff, 0xff, 0xff))
  await settled(client)
  client.send(windowUpdate(0, 2 ** 30))
  client.socket.pause()

  client.send(headers(1, plain))

  await until(() => door.decisions.length === 1, 'the request')
  await until(() => door.door.connections() === 0, 'the end of the connection')
})

test('serveHttp2() lets a request take longer than idle_timeout on a session that takes no more', async () => {
  await using pair = await openPair({ requestsPerConnection: 2, idleMs: 300 })
  using client = connectFrames(pair.port)
  client.send(headers(1, slow), headers(3, plain))
  await client.frame(isGoaway)
  await sleep(1500)

  pair.waiting[0]?.end('late')

  assert.equal(await outcomeOf(client, 1), '200')
})

test('announceClose() goes on serving sessions: what comes behind a goodbye of node would not be served', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  await settled(client)

  pair.door.door.announceClose()
  client.send(headers(1, plain))
  assert.equal(await outcomeOf(client, 1), '200')
  using late = connectFrames(pair.port)
  late.send(headers(1, plain))

  assert.equal(await outcomeOf(late, 1), '200')
  assert.ok(![...client.frames, ...late.frames].some(isGoaway))
})

for (const [when, leave] of [
  ['drain()', ({ door }: Door) => void door.drain()],
  ['serveHttp2() after so many requests', () => {}],
] as const)
  test(`${when} says goodbye to a client that takes its time, and sends it all there is`, async () => {
    const size = 16_000_000
    await using upstream = await openUpstream((_, response) => response.end(Buffer.alloc(size, 'x')))
    await using door = await openDoor(upstream.port, undefined, { limits: { requestsPerConnection: 1 } })
    // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
    using client = connectFrames(door.door.port, Buffer.of(0, 4, 0x7f, 0xff, 0xff, 0xff))
    await settled(client)
    client.send(windowUpdate(0, 2 ** 30))
    client.socket.pause()
    client.send(headers(1, plain))
    await until(() => door.decisions.length === 1, 'the decision')
    await sleep(300)

    leave(door)
    client.send(headers(3, plain), headers(5, plain))
    await sleep(300)
    client.socket.resume()

    assert.equal(await outcomeOf(client, 1), '200')
    const data = client.frames.filter(({ type, stream }) => type === 'data' && stream === 1)
    assert.equal(
      data.reduce((sum, { payload }) => sum + payload.length, 0),
      size,
    )
    assert.equal(await endOf(client), codes.noError)
  })

test('drain() ends an idle session, and one at work when its last answer is out', async () => {
  await using pair = await openPair()
  using idle = connectFrames(pair.port)
  using busy = connectFrames(pair.port)
  await settled(idle)
  busy.send(headers(1, slow))
  await until(() => pair.waiting.length === 1, 'the request')

  const drained = pair.door.door.drain()
  await idle.closed
  await busy.frame(isGoaway)
  pair.waiting[0]?.end('late')

  assert.equal(await outcomeOf(busy, 1), '200')
  await drained
})

test('drain() loses no request of a client that minds GOAWAY', async () => {
  await using pair = await openPair()
  const session = connectSession(`http://127.0.0.1:${pair.port}`)
  let isLeaving = false
  session.on('goaway', () => {
    isLeaving = true
  })
  const answers: Promise<number>[] = []
  const ask = () => statusOver(session)
  assert.equal(await ask(), 200)

  let drained: Promise<void> | undefined
  for (let at = 0; at < 1000 && !isLeaving; at += 1) {
    if (at === 100) drained = pair.door.door.drain()
    answers.push(ask())
    await answers[at - 40]
  }

  const got = await Promise.all(answers)
  assert.ok(got.length >= 100)
  assert.deepEqual(
    got.filter((status) => status !== 200 && status !== codes.refused),
    [],
  )
  assert.equal(pair.door.decisions.length, got.filter((status) => status === 200).length + 1)
  await drained
})

const pool = { ...poolLimits(upstreamOptions.parse({})), connections: 1 }
const ways = [
  { protocol: 'http1', greeting: '', createUpstream: createUpstreamPool },
  // RFC 9113 §6.5.2: SETTINGS_MAX_CONCURRENT_STREAMS, 1.
  {
    protocol: 'h2',
    greeting: frame('settings', 0, 0, Buffer.of(0, 3, 0, 0, 0, 1)),
    createUpstream: createHttp2Upstream,
  },
] as const
for (const { protocol, greeting, createUpstream } of ways) {
  test(`createHall().close() has who is under way to an upstream of ${protocol}, and who waits for it, told as unanswered`, async () => {
    let asked = 0
    await using upstream = await openRawUpstream((socket) => {
      socket.write(greeting)
      socket.on('data', () => {
        asked += 1
      })
    })
    const open = createSocketOpener({ host: '127.0.0.1', port: upstream.port }, undefined, protocol)
    const list = [{ name: 'upstream', open }]
    const door = await openDoor(upstream.port, undefined, {
      upstream: (deadlines) => createUpstream({ list: () => list }, pool, deadlines),
    })
    using client = connectFrames(door.door.port)
    client.send(headers(1, plain), headers(3, plain))
    await until(() => asked > 0 && door.decisions.length === 2, 'both requests')
    await settle()

    // The upstream is closed behind it.
    await door[Symbol.asyncDispose]()
    await client.closed

    const told = door.exchanges.map(({ status, upstreamFailure }) => ({ status, upstreamFailure }))
    assert.deepEqual(
      told,
      Array.from({ length: 2 }, () => ({ status: 0, upstreamFailure: undefined })),
    )
  })
}

/** The status of one request over a session; REFUSED_STREAM of one that was not judged, and may be sent again. */
function statusOver(session: ClientHttp2Session): Promise<number> {
  return new Promise((resolve) => {
    const stream = session.request({ ':path': '/a' })
    let status = 0
    stream.resume()
    stream.on('response', (head) => {
      status = Number(head[':status'])
    })
    stream.on('error', () => {})
    stream.on('close', () => resolve(stream.rstCode === codes.refused ? codes.refused : status))
  })
}
