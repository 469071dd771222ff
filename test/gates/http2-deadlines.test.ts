// What a session may take its time for, with the time in the test's hands.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { test } from 'node:test'
import { createTestDeadlines } from '../support/deadlines.ts'
import { codes, connectFrames, frame, headers, outcomeOf, preface } from '../support/h2-frames.ts'
import { settle, until } from '../support/until.ts'
import { openDoor, openUpstream } from './door.ts'
import { endOf, isGoaway, plain, settled, slow } from './http2-pair.ts'

// Five times idle_timeout is less than an upstream may take to answer.
const [headMs, idleMs, lingerMs] = [10_000, 5000, 1000]

/** A door whose time stands still until it is moved; the upstream answers `/slow` when it is told to. */
async function openStill(options: { readonly proxyProtocol?: boolean } = {}) {
  const time = createTestDeadlines()
  const waiting: ServerResponse[] = []
  const upstream = await openUpstream((request, response) => {
    if (request.url === '/slow') waiting.push(response)
    else response.end('ok')
  })
  const door = await openDoor(upstream.port, undefined, { ...options, deadlines: time, limits: { headMs, idleMs } })
  return {
    ...door,
    time,
    waiting,
    port: door.door.port,
    late: () => door.door.dropped().get('timeout'),
    async [Symbol.asyncDispose]() {
      await door[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

test('serveHttp2() has nobody wait for a session that is over', async () => {
  await using it = await openStill()
  const watched: number[] = []

  for (let at = 0; at < 3; at += 1) {
    const client = connectFrames(it.port)
    client.send(headers(1, plain))
    assert.equal(await outcomeOf(client, 1), '200')
    client[Symbol.dispose]()
    await until(() => it.door.connections() === 0, 'the end of the session')
    watched.push(it.time.watched())
  }

  assert.equal(new Set(watched).size, 1, watched.join())
})

test('serveHttp2() says goodbye to a session once nothing was asked for idle_timeout, counted from the last answer', async () => {
  await using it = await openStill()
  using client = connectFrames(it.port)
  client.send(headers(1, slow))
  await until(() => it.waiting.length === 1, 'the request')
  it.time.slip(idleMs - 1)
  it.waiting[0]?.end('ok')
  assert.equal(await outcomeOf(client, 1), '200')

  it.time.pass(idleMs - 1)
  await settled(client)
  assert.ok(!client.frames.some(isGoaway))
  it.time.pass(1)

  assert.equal(await endOf(client), codes.noError)
  assert.equal(it.late(), 0)
})

test('serveHttp2() asks a session at work every idle_timeout whether its client is there, and waits as long as it says so', async () => {
  await using it = await openStill()
  using client = connectFrames(it.port)
  const asked = () => client.frames.filter(({ type, flags }) => type === 'ping' && flags === 0).length
  client.send(headers(1, slow))
  await until(() => it.waiting.length === 1, 'the request')

  for (let at = 1; at <= 5; at += 1) {
    it.time.pass(idleMs)
    await until(() => asked() === at, 'the question')
    await settled(client)
  }
  it.waiting[0]?.end('ok')

  assert.equal(await outcomeOf(client, 1), '200')
})

test('serveHttp2() lets go of a session at work whose client does not say that it is there, where nothing could be written meanwhile', async () => {
  await using it = await openStill()
  using client = connectFrames(it.port, undefined, 'no acknowledgement')
  client.send(headers(1, slow))
  await until(() => it.waiting.length === 1, 'the request')

  it.time.pass(idleMs)
  await client.frame(({ type }) => type === 'ping')
  // The question itself was written.
  it.time.pass(idleMs)
  await settle()
  assert.equal(it.door.connections(), 1)
  it.time.pass(idleMs)

  await client.closed
})

test('serveHttp2() ends a session whose client says nothing behind its beginning when the time for a head is over, counted from the accepting on', async () => {
  await using it = await openStill({ proxyProtocol: true })
  const client = connect(it.port, '127.0.0.1')
  let received = 0
  client.on('data', ({ length }) => {
    received += length
  })
  await until(() => it.door.connections() === 1, 'the connection')
  it.time.slip(headMs - 1)
  client.write(`PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n${preface}`)
  await until(() => received > 0, 'the settings')
  assert.equal(it.late(), 0)

  it.time.pass(1)

  await settle()
  assert.deepEqual([it.door.connections(), it.late()], [0, 1])
  client.destroy()
})

test('serveHttp2() counts a session late that greets, and asks for nothing; but none that we end', async () => {
  await using it = await openStill()
  using late = connectFrames(it.port)
  await settled(late)
  it.time.pass(headMs)
  await settle()
  assert.ok(late.frames.some(isGoaway))
  assert.equal(it.late(), 1)

  using ended = connectFrames(it.port)
  await settled(ended)
  const drained = it.door.drain()
  await settle()
  it.time.pass(lingerMs)

  assert.equal(await endOf(ended), codes.noError)
  await drained
  assert.equal(it.late(), 1)
})

test('drain() says goodbye to a session a second after its last answer', async () => {
  await using it = await openStill()
  using client = connectFrames(it.port)
  client.send(headers(1, slow))
  await until(() => it.waiting.length === 1, 'the request')
  const drained = it.door.drain()
  await settle()
  it.waiting[0]?.end('ok')
  assert.equal(await outcomeOf(client, 1), '200')

  it.time.pass(lingerMs - 1)
  await settled(client)
  assert.ok(!client.frames.some(isGoaway))
  it.time.pass(1)
  await settle()

  assert.ok(client.frames.some(isGoaway))
  await drained
})

test('drain() says goodbye, too, to a session that begins behind the end of those that were idle', async () => {
  await using it = await openStill()
  const client = connect(it.port, '127.0.0.1')
  const closed = once(client, 'close')
  const greeted = once(client, 'data')
  client.write(preface.slice(0, 10))
  await until(() => it.door.connections() === 1, 'the connection')
  await settle()
  const drained = it.door.drain()
  await settle()

  client.write(Buffer.concat([Buffer.from(preface.slice(10)), frame('settings', 0, 0, '')]))
  await greeted
  await settle()
  it.time.pass(lingerMs)

  await closed
  await drained
  assert.equal(it.late(), 0)
})
