import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'
import { until } from '../support/until.ts'
import { openRawUpstream, openUpstream, talk } from './door.ts'
import { openScene } from './stream-scene.ts'
import { connectWebSocket, nextMessage, openEchoService } from './websockets.ts'

const switching = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n'
const ask = (token: string, lines = 'Connection: Upgrade\r\nUpgrade: echo\r\n', method = 'GET', path = '/ws/raw') =>
  `${method} ${path} HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer ${token}\r\n${lines}\r\n`

test('createForwarder() switches to WebSocket: messages of any kind and size go both ways, in order', async () => {
  await using service = await openEchoService(false)
  await using scene = await openScene(service.port)
  const { socket, opened, closed } = connectWebSocket(scene.port, '/ws/echo', scene.mint())
  await opened

  const large = randomBytes(1024 * 1024)
  socket.send(large)
  assert.ok((await nextMessage(socket)).equals(large))
  socket.send('one ', { fin: false })
  socket.send('mess', { fin: false })
  socket.send('age', { fin: true })
  assert.equal((await nextMessage(socket)).toString(), 'one message')
  const pong = once(socket, 'pong')
  socket.ping('still there?')
  assert.equal(String((await pong)[0]), 'still there?')
  const inOrder: string[] = []
  socket.on('message', (data: Buffer) => inOrder.push(data.toString()))
  for (let at = 0; at < 500; at += 1) socket.send(String(at))
  await until(() => inOrder.length === 500, 'five hundred messages')
  assert.deepEqual(
    inOrder,
    Array.from({ length: 500 }, (_, at) => String(at)),
  )
  assert.equal(scene.count('postern_streams_open{kind="upgrade"}'), 1)
  socket.close(4000, 'done')
  assert.equal(await closed, 4000)
  await until(() => service.closed.length === 1, 'the service to be told')

  assert.deepEqual(service.closed, [4000])
  await until(() => scene.count('postern_streams_ended_total{kind="upgrade",reason="finished"}') === 1, 'the end')
  assert.equal(scene.count('postern_streams_open{kind="upgrade"}'), 0)
  await until(() => scene.lines('/ws/echo').length === 1, 'the line')
  const [line] = scene.lines('/ws/echo')
  assert.deepEqual([line?.['http.response.status_code'], line?.['decision'], line?.['reason']], [101, 'allow', 'ok'])
})

test('createForwarder() passes what WebSocket peers agree on: compression, subprotocols, identity', async () => {
  await using service = await openEchoService(true)
  await using scene = await openScene(service.port)
  const { socket, opened } = connectWebSocket(scene.port, '/ws/echo', scene.mint(), {
    perMessageDeflate: true,
    protocols: ['chat', 'bearer.not-looked-at'],
  })
  await opened

  assert.match(socket.extensions, /permessage-deflate/)
  assert.equal(socket.protocol, 'chat')
  const text = 'again and '.repeat(10_000)
  socket.send(text)
  assert.equal((await nextMessage(socket)).toString(), text)
  const [asked] = service.asked
  assert.equal(asked?.headers['sec-websocket-protocol'], 'chat,bearer.not-looked-at')
  assert.equal(asked?.headers['x-auth-client'], 'web')
  assert.equal(asked?.headers.authorization, undefined)
  socket.terminate()
})

test('createForwarder() keeps back-pressure through a switched connection, both ways', async () => {
  let read = 0
  let written = 0
  await using upstream = await openRawUpstream((socket) => {
    socket.once('data', () => {
      socket.pause()
      socket.write(`${switching}\r\n`)
      const chunk = Buffer.alloc(65_536)
      const more = () => {
        while (written < 512 * 1024 * 1024 && socket.write(chunk)) written += chunk.length
      }
      socket.on('drain', more)
      socket.on('data', (bytes) => {
        read += bytes.length
      })
      socket.pause()
      more()
    })
  })
  await using scene = await openScene(upstream.port)
  const client = connect(scene.port, '127.0.0.1')
  client.on('error', () => {})
  client.write(ask(scene.mint()))
  await until(() => client.bytesRead > 100, 'the answer')
  client.pause()
  let sent = 0
  const chunk = Buffer.alloc(65_536)
  const more = () => {
    while (sent < 512 * 1024 * 1024 && client.write(chunk)) sent += chunk.length
  }
  client.on('drain', more)
  more()
  await sleep(1000)
  const early = [sent, written]
  await sleep(300)

  assert.deepEqual([sent, written], early, 'neither side is read')
  assert.ok(Math.max(sent, written) < 64 * 1024 * 1024)
  assert.equal(read, 0)
  client.destroy()
})

test('createForwarder() passes bytes that come with the heads, and waits with the client’s for the 101', async () => {
  const received: string[] = []
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', (bytes) => {
      received.push(bytes.toString('latin1'))
      if (received.length === 1) setTimeout(() => socket.write(`${switching}Content-Length: 3\r\n\r\nfirst`), 100)
    })
  })
  await using scene = await openScene(upstream.port)
  const text = await talk(scene.port, `${ask(scene.mint())}early`)

  assert.match(text, /^HTTP\/1\.1 101 .*\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst$/s)
  assert.doesNotMatch(text, /content-length/i)
  assert.match(received[0] ?? '', /\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n$/)
  assert.deepEqual(received.slice(1), ['early'])
})

const halves = ['client', 'upstream'] as const
for (const first of halves) {
  test(`createForwarder() lets a side speak on after the other has ended: the ${first} ends first`, async () => {
    const there = Promise.withResolvers<Socket>()
    let atUpstream = ''
    await using upstream = await openRawUpstream((socket) => {
      socket.allowHalfOpen = true
      socket.once('data', () => {
        socket.write(`${switching}\r\n`)
        socket.on('data', (bytes) => {
          atUpstream += bytes.toString('latin1')
        })
        there.resolve(socket)
      })
    })
    await using scene = await openScene(upstream.port)
    const client = connect({ port: scene.port, host: '127.0.0.1', allowHalfOpen: true })
    let atClient = ''
    client.on('data', (bytes) => {
      atClient += bytes.toString('latin1')
    })
    client.write(ask(scene.mint()))
    const socket = await there.promise
    await until(() => atClient.includes('101'), 'the answer')
    const [ending, other] = first === 'client' ? [client, socket] : [socket, client]
    ending.end('last words')
    await once(other, 'end')
    other.end('and an answer')
    await once(ending, 'end')

    assert.ok(atUpstream.endsWith(first === 'client' ? 'last words' : 'and an answer'))
    assert.ok(atClient.endsWith(first === 'client' ? 'and an answer' : 'last words'))
    await until(() => scene.count('postern_streams_open{kind="upgrade"}') === 0, 'the end')
    assert.equal(scene.count('postern_streams_ended_total{kind="upgrade",reason="finished"}'), 1)
  })
}

for (const first of halves) {
  test(`createForwarder() breaks a switched connection off on one side where it was broken off on the other: by the ${first}`, async () => {
    const there = Promise.withResolvers<Socket>()
    await using upstream = await openRawUpstream((socket) => {
      socket.once('data', () => {
        socket.write(`${switching}\r\n`)
        there.resolve(socket)
      })
    })
    await using scene = await openScene(upstream.port)
    const client = connect(scene.port, '127.0.0.1')
    client.on('error', () => {})
    client.write(ask(scene.mint()))
    const socket = await there.promise
    await once(client, 'data')
    const [breaking, other] = first === 'client' ? [client, socket] : [socket, client]
    breaking.write('half of it')
    await once(other, 'data')
    const broken = once(other, 'error', { signal: AbortSignal.timeout(5000) })
    breaking.resetAndDestroy()

    assert.equal((await broken)[0].code, 'ECONNRESET')
    await until(() => scene.count('postern_streams_open{kind="upgrade"}') === 0, 'the end')
  })
}

const notSwitched = [
  { name: 'whose rule lists none', path: '/plain/a', lines: 'Connection: Upgrade\r\nUpgrade: websocket\r\n' },
  { name: 'that the rule does not list', lines: 'Connection: Upgrade\r\nUpgrade: other\r\n' },
  { name: 'among others', lines: 'Connection: Upgrade\r\nUpgrade: echo, other\r\n' },
  { name: 'to HTTP/2', lines: 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n' },
  { name: 'without Connection: upgrade', lines: 'Upgrade: echo\r\n' },
  { name: 'of a POST', method: 'POST', lines: 'Connection: Upgrade\r\nUpgrade: echo\r\n' },
  { name: 'with a body', lines: 'Connection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 2\r\n', body: 'ab' },
] as const
for (const { name, lines, ...more } of notSwitched) {
  const { path, method, body } = { path: '/ws/raw', method: 'GET', body: '', ...more }
  test(`createForwarder() forwards an upgrade ${name} as a request that offers none`, async () => {
    let head = ''
    await using upstream = await openRawUpstream((socket) => {
      socket.on('data', (bytes) => {
        head += bytes.toString('latin1')
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      })
    })
    await using scene = await openScene(upstream.port)
    const text = await talk(scene.port, ask(scene.mint(), lines, method, path) + body)

    assert.match(text, /^HTTP\/1\.1 200 .*ok$/s)
    assert.doesNotMatch(head, /upgrade|http2-settings/i)
  })
}

test('createForwarder() does not upgrade in HTTP/1.0, nor what the gateway denies', async () => {
  await using service = await openEchoService(false)
  await using scene = await openScene(service.port)
  const old = ask(scene.mint(), 'Connection: Upgrade\r\nUpgrade: websocket\r\n').replace('HTTP/1.1', 'HTTP/1.0')

  assert.match(await talk(scene.port, old), /^HTTP\/1\.1 200 .*plain/s)
  await assert.rejects(connectWebSocket(scene.port, '/ws/echo').opened, /answered with 401/)
  await assert.rejects(connectWebSocket(scene.port, '/ws/echo', scene.mint({ scope: 'other' })).opened, /with 403/)
  await assert.rejects(connectWebSocket(scene.port, '/plain/echo', scene.mint()).opened, /answered with 200/)
  assert.equal(service.asked.length, 0)
})

test('createForwarder() takes what follows an upgrade that was not switched for no request (smuggling)', async () => {
  const targets: (string | undefined)[] = []
  await using upstream = await openUpstream((request, response) => {
    targets.push(request.url)
    response.end('no')
  })
  await using scene = await openScene(upstream.port)
  const token = scene.mint()
  const second = `GET /plain/second HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer ${token}\r\n\r\n`
  const text = await talk(scene.port, ask(token) + second)
  const denied = await talk(scene.port, ask('no-token') + second)

  assert.match(text, /^HTTP\/1\.1 200 .*Connection: close.*no$/s)
  assert.equal(text.match(/HTTP\/1\.1/g)?.length, 1)
  assert.match(denied, /^HTTP\/1\.1 401 .*Connection: close/s)
  assert.equal(denied.match(/HTTP\/1\.1/g)?.length, 1)
  assert.deepEqual(targets, ['/ws/raw'])
})

test('createForwarder() takes what follows an upgrade for no request where the upstream gives no answer (smuggling)', async () => {
  let received = ''
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', (bytes) => {
      received += bytes.toString('latin1')
      socket.destroy()
    })
  })
  await using scene = await openScene(upstream.port)
  const token = scene.mint()
  const second = `GET /plain/second HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer ${token}\r\n\r\n`
  const text = await talk(scene.port, ask(token) + second)

  assert.match(text, /^HTTP\/1\.1 502 .*Connection: close/s)
  assert.equal(text.match(/HTTP\/1\.1/g)?.length, 1)
  assert.doesNotMatch(received, /second/)
})

const nonsense = [
  { name: 'nobody asked for', lines: '', head: `${switching}\r\n` },
  { name: 'to another protocol', head: switching.replace('echo', 'other') },
  { name: 'to two protocols', head: `${switching}Upgrade: other\r\n` },
  { name: 'to none', head: 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n' },
] as const
for (const { name, head, ...more } of nonsense) {
  test(`createForwarder() answers 502 to a 101 ${name}, and lets nothing through`, async () => {
    let received = ''
    let isClosed = false
    await using upstream = await openRawUpstream((socket) => {
      socket.on('data', (bytes) => {
        received += bytes.toString('latin1')
        if (received.endsWith('\r\n\r\n')) socket.write(`${head}\r\nsecret`)
      })
      socket.on('close', () => {
        isClosed = true
      })
    })
    await using scene = await openScene(upstream.port)
    const text = await talk(scene.port, 'lines' in more ? ask(scene.mint(), more.lines) : `${ask(scene.mint())}early`)

    assert.match(text, /^HTTP\/1\.1 502 .*"reason":"upstream_reset"/s)
    assert.doesNotMatch(text + received, /secret|early/)
    await until(() => isClosed, 'the end of the connection', 5000)
  })
}

test('gatewayOptions refuses an upgrade where the upstream is spoken to in HTTP/2', () => {
  const options = gatewayOptions.parse({
    version: 1,
    upstream: { url: 'http://127.0.0.1:3000', protocol: 'h2' },
    rules: [{ match: { path: '/a' }, public: true, upgrade: ['websocket'] }],
  })

  assert.deepEqual(
    findGatewayConflicts(options).map(({ path }) => path),
    [['rules', 0, 'upgrade']],
  )
})
