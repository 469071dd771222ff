// How a session at the HTTP/2 front door ends, and that nothing is lost by it.
import assert from 'node:assert/strict'
import { connect as connectSession } from 'node:http2'
import { test } from 'node:test'
import { codes, connectFrames, headers, outcomeOf } from '../support/h2-frames.ts'
import { endOf, isGoaway, openPair, plain, settled, slow, until } from './http2-pair.ts'

test('serveHttp2() says goodbye after so many requests, and serves what it was sent', async () => {
  await using pair = await openPair({ requestsPerConnection: 3 })
  using client = connectFrames(pair.port)

  for (const stream of [1, 3, 5]) client.send(headers(stream, plain))

  for (const stream of [1, 3, 5]) assert.equal(await outcomeOf(client, stream), '200')
  assert.equal(await endOf(client), codes.noError)
})

test('announceClose() says goodbye, and serves what comes all the same', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  await settled(client)

  pair.door.door.announceClose()
  await client.frame(isGoaway)
  client.send(headers(1, plain))

  assert.equal(await outcomeOf(client, 1), '200')
  using late = connectFrames(pair.port)
  assert.equal((await late.frame(isGoaway)).payload.readUInt32BE(4), codes.noError)
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
  const ask = () =>
    new Promise<number>((resolve) => {
      const stream = session.request({ ':path': '/a' })
      let status = 0
      stream.resume()
      stream.on('response', (head) => {
        status = Number(head[':status'])
      })
      stream.on('error', () => {})
      // What was refused was not judged, and may be sent again.
      stream.on('close', () => resolve(stream.rstCode === codes.refused ? codes.refused : status))
    })
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
