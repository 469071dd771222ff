import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { settle, until } from '../support/until.ts'
import { openRawUpstream, openUpstream } from './door.ts'
import type { Scene } from './stream-scene.ts'
import { openScene } from './stream-scene.ts'
import { connectWebSocket, nextMessage, openEchoService } from './websockets.ts'

const reasonsOf = (scene: Scene, path: string) => scene.lines(path).map((line) => line['reason'])

/** A client that collects what it is sent. */
function read(port: number, bytes: string): { socket: Socket; text: () => string; ended: Promise<void> } {
  const socket = connect(port, '127.0.0.1')
  let text = ''
  const { promise: ended, resolve } = Promise.withResolvers<void>()
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  socket.on('error', () => {})
  socket.on('close', () => resolve())
  socket.write(bytes)
  return { socket, text: () => text, ended }
}

const get = (path: string, token: string) =>
  `GET ${path} HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer ${token}\r\n\r\n`

const ends = [
  { why: 'token_revoked', end: (scene: Scene) => scene.revoke('doomed') },
  { why: 'token_expired', end: (scene: Scene) => scene.pass(3_700_000) },
  { why: 'key_unknown', end: (scene: Scene) => scene.dropKeys() },
] as const
for (const { why, end } of ends) {
  test(`createStreams() closes a WebSocket with 1008 on both sides when its token is no longer good: ${why}`, async () => {
    await using service = await openEchoService(false)
    await using scene = await openScene(service.port, { blacklist: { poll_interval: '1s', max_staleness: '3h' } })
    const token = scene.mint({ jti: 'doomed', exp: Math.floor(Date.now() / 1000) + 3600 })
    const { socket, opened, closed } = connectWebSocket(scene.port, '/ws/echo', token)
    await opened
    socket.send('hello')
    assert.equal((await nextMessage(socket)).toString(), 'hello')
    await end(scene)

    assert.equal(await closed, 1008)
    await until(() => service.closed.length === 1, 'the service to be told')
    assert.deepEqual(service.closed, [1008])
    await until(() => scene.lines('/ws/echo').length === 1, 'the line')
    assert.deepEqual(reasonsOf(scene, '/ws/echo'), [why])
    assert.equal(scene.count(`postern_streams_ended_total{kind="upgrade",reason="${why}"}`), 1)
    assert.equal(scene.count('postern_streams_open{kind="upgrade"}'), 0)
  })
}

test('createStreams() leaves alone whose token is still good, and who needs none', async () => {
  await using service = await openEchoService(false)
  await using scene = await openScene(service.port)
  const good = connectWebSocket(scene.port, '/ws/echo', scene.mint({ jti: 'good' }))
  const open = connectWebSocket(scene.port, '/open/echo')
  const doomed = connectWebSocket(scene.port, '/ws/echo', scene.mint({ jti: 'doomed' }))
  await Promise.all([good.opened, open.opened, doomed.opened])
  scene.revoke('doomed')
  assert.equal(await doomed.closed, 1008)
  await sleep(1200)

  for (const { socket } of [good, open]) {
    socket.send('still here')
    assert.equal((await nextMessage(socket)).toString(), 'still here')
  }
  scene.reload({ hosts: [] })
  scene.revoke('good')
  assert.equal(await good.closed, 1008, 'also under a configuration that was loaded since')
  open.socket.send('still here')
  assert.equal((await nextMessage(open.socket)).toString(), 'still here')
  open.socket.terminate()
})

test('createStreams() lets a stream go on for stream_grace, and no longer', async () => {
  await using service = await openEchoService(false)
  await using scene = await openScene(service.port, {
    stream_grace: '10m',
    blacklist: { poll_interval: '1s', max_staleness: '3h' },
  })
  const { socket, opened, closed } = connectWebSocket(scene.port, '/ws/echo', scene.mint({ jti: 'doomed' }))
  await opened
  scene.revoke('doomed')
  await sleep(2500)
  socket.send('in grace')
  assert.equal((await nextMessage(socket)).toString(), 'in grace')
  scene.pass(600_000)

  assert.equal(await closed, 1008)
})

test('createStreams() puts the close frame between two frames, never into one', async () => {
  let atUpstream = Buffer.alloc(0)
  await using upstream = await openRawUpstream((socket) => {
    socket.allowHalfOpen = true
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
      // The first half of a frame of eight bytes.
      socket.write(Buffer.from('820801020304', 'hex'))
      socket.on('data', (bytes: Buffer) => {
        atUpstream = Buffer.concat([atUpstream, bytes])
        // Once it is told, the second half, and a frame that comes too late.
        if (atUpstream.length === 8) socket.end(Buffer.from('05060708820109', 'hex'))
      })
    })
  })
  await using scene = await openScene(upstream.port)
  const token = scene.mint({ jti: 'doomed' })
  const head = get('/ws/raw', token).replace('\r\n\r\n', '\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
  const client = connect(scene.port, '127.0.0.1')
  let atClient = Buffer.alloc(0)
  client.on('data', (bytes: Buffer) => {
    atClient = Buffer.concat([atClient, bytes])
  })
  client.write(head)
  const body = () => atClient.subarray(atClient.indexOf('\r\n\r\n') + 4).toString('hex')
  await until(() => body() === '820801020304', 'the first half')
  scene.revoke('doomed')
  await once(client, 'end')

  assert.equal(atUpstream.toString('hex'), '88820000000003f0')
  assert.equal(body(), '82080102030405060708880203f0')
})

test('createStreams() ends a WebSocket whose peers do not close, or never end their frame, a second later', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.allowHalfOpen = true
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
      socket.write(Buffer.from('827f0000ffffffffffff', 'hex'))
    })
  })
  await using scene = await openScene(upstream.port)
  const head = get('/ws/raw', scene.mint({ jti: 'doomed' }))
  const client = read(scene.port, head.replace('\r\n\r\n', '\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'))
  await until(() => client.text().includes('101'), 'the answer')
  scene.revoke('doomed')
  await client.ended

  await until(() => scene.lines('/ws/raw').length === 1, 'the line')
  assert.deepEqual(reasonsOf(scene, '/ws/raw'), ['token_revoked'])
})

test('createStreams() cuts a protocol that is none of ours, and not as if it were whole', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n')
    })
  })
  await using scene = await openScene(upstream.port)
  const head = get('/ws/raw', scene.mint({ jti: 'doomed' }))
  const client = read(scene.port, head.replace('\r\n\r\n', '\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n'))
  await until(() => client.text().includes('101'), 'the answer')
  const broken = once(client.socket, 'error', { signal: AbortSignal.timeout(10_000) })
  scene.revoke('doomed')

  assert.equal((await broken)[0].code, 'ECONNRESET')
  assert.ok(client.text().endsWith('\r\n\r\n'))
})

for (const type of ['text/event-stream; charset=utf-8', 'Text/Event-Stream', 'application/grpc+proto']) {
  test(`createStreams() cuts an answer of the type ${type} when its token is revoked, and not as if it were whole`, async () => {
    const answers: ServerResponse[] = []
    await using upstream = await openUpstream((_request, response) => {
      answers.push(response)
      response.writeHead(200, { 'content-type': type })
      response.write('data: 1\n\n')
    })
    await using scene = await openScene(upstream.port)
    const client = read(scene.port, get('/plain/events', scene.mint({ jti: 'doomed' })))
    await until(() => client.text().includes('data: 1'), 'the first event')
    const kind = type.startsWith('application') ? 'grpc' : 'event_stream'
    assert.equal(scene.count(`postern_streams_open{kind="${kind}"}`), 1)
    scene.revoke('doomed')
    await client.ended

    assert.doesNotMatch(client.text(), /\r\n0\r\n/)
    await until(() => answers[0]?.destroyed === true, 'the upstream to be let go')
    await until(() => scene.lines('/plain/events').length === 1, 'the line')
    assert.deepEqual(reasonsOf(scene, '/plain/events'), ['token_revoked'])
    assert.equal(scene.count(`postern_streams_ended_total{kind="${kind}",reason="token_revoked"}`), 1)
  })
}

test('createStreams() answers a gRPC call that has no answer yet with the denial', async () => {
  await using upstream = await openUpstream((request) => void request.resume())
  await using scene = await openScene(upstream.port)
  const client = read(
    scene.port,
    get('/plain/Call', scene.mint({ jti: 'doomed' }))
      .replace('GET', 'POST')
      .replace('\r\n\r\n', '\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n'),
  )
  await until(() => scene.count('postern_streams_open{kind="grpc"}') === 1, 'the call')
  scene.revoke('doomed')
  await client.ended

  assert.match(client.text(), /"reason":"token_revoked"/)
})

test('createStreams() lets an ordinary answer finish, however long it takes after the revocation', async () => {
  let going: ServerResponse | undefined
  await using upstream = await openUpstream((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': '9' })
    response.write('begi')
    going = response
  })
  await using scene = await openScene(upstream.port)
  const token = scene.mint({ jti: 'doomed' })
  const client = read(scene.port, get('/plain/download', token))
  await until(() => client.text().endsWith('begi'), 'the beginning')
  scene.revoke('doomed')
  await sleep(2500)
  going?.end('nning')
  await until(() => client.text().endsWith('beginning'), 'the end')
  // Of what was revoked there is no doubt.
  client.socket.write(get('/plain/second', token))
  await until(() => client.text().includes('"reason":"token_revoked"'), 'the denial of the next request')
  client.socket.destroy()
})

test('createForwarder() passes a body on as it comes, little by little', async () => {
  let received = ''
  await using upstream = await openUpstream((request, response) => {
    request.on('data', (chunk) => {
      received += String(chunk)
      if (received.length === 1) response.write('go on')
      if (received.length === 2) response.end()
    })
  })
  await using scene = await openScene(upstream.port)
  const client = read(
    scene.port,
    get('/plain/up', scene.mint())
      .replace('GET', 'POST')
      .replace('\r\n\r\n', '\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n'),
  )
  await settle()
  client.socket.write('1\r\na\r\n')
  await until(() => client.text().includes('go on'), 'the first byte to have arrived')
  client.socket.write('1\r\nb\r\n')
  await client.ended

  assert.equal(received, 'ab')
})

test('DataPlane.drain() says goodbye to WebSockets that are left at its end', async () => {
  await using service = await openEchoService(false)
  await using scene = await openScene(service.port)
  const { opened, closed } = connectWebSocket(scene.port, '/open/echo')
  await opened
  await scene.app.drain()

  assert.equal(await closed, 1001)
  await until(() => service.closed.length === 1, 'the service to be told')
  assert.deepEqual(service.closed, [1001])
})

test('DataPlane.drain() logs and counts a WebSocket that its client has left by then and its upstream keeps open', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.allowHalfOpen = true
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
    })
  })
  await using scene = await openScene(upstream.port)
  const head = get('/ws/raw', scene.mint())
  const client = read(scene.port, head.replace('\r\n\r\n', '\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'))
  await until(() => client.text().includes('101'), 'the answer')

  await scene.app.drain()

  assert.deepEqual(reasonsOf(scene, '/ws/raw'), ['shutdown'])
  assert.equal(scene.count('postern_streams_ended_total{kind="upgrade",reason="shutdown"}'), 1)
})
