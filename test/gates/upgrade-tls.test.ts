// Switched connections under TLS, on both sides of a whole gateway.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { connect as connectPlain } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { connect, createServer } from 'node:tls'
import { WebSocket, WebSocketServer } from 'ws'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { until } from '../support/until.ts'
import { openScene } from './stream-scene.ts'
import { nextMessage } from './websockets.ts'

/** A CA, and a gateway with its certificate before a TLS upstream with another. */
async function openTlsScene(handle: (socket: TLSSocket) => void) {
  using authority = createAuthority()
  const { ca } = authority
  const pair = authority.issue('127.0.0.1')
  const directory = mkdtempSync(join(tmpdir(), 'postern-tls-'))
  const write = (name: string, text: string) => {
    writeFileSync(join(directory, name), text, { mode: 0o600 })
    return { file: join(directory, name) }
  }
  const sockets = new Set<TLSSocket>()
  const upstream = createServer({ ...authority.issue('127.0.0.1'), allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    handle(socket)
  })
  upstream.listen(0, '127.0.0.1').unref()
  await once(upstream, 'listening')
  const { port } = upstream.address() as AddressInfo // listening on a port
  const files = { cert: write('cert.pem', pair.cert), key: write('key.pem', pair.key) }
  const scene = await openScene(port, {
    listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0', tls: files },
    upstream: { url: `https://127.0.0.1:${port}`, tls: { ca: write('ca.pem', ca) } },
  })
  return {
    scene,
    ca,
    async [Symbol.asyncDispose]() {
      await scene[Symbol.asyncDispose]()
      upstream.close()
      for (const socket of sockets) socket.destroy()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

const tls = { skip: skipWithoutOpenssl }

test('createForwarder() switches to WebSocket under TLS on both sides, and closes it with 1008', tls, async () => {
  const echo = new WebSocketServer({ noServer: true })
  const closed: number[] = []
  await using it = await openTlsScene((socket) => {
    let head = ''
    socket.on('data', (bytes) => {
      head += bytes.toString('latin1')
      if (!head.endsWith('\r\n\r\n')) return
      socket.removeAllListeners('data')
      const lines = head.split('\r\n').slice(1, -2)
      const headers = Object.fromEntries(
        lines
          .map((line) => line.toLowerCase().split(': ', 1)[0] ?? '')
          .map((name, at) => [name, (lines[at] ?? '').slice(name.length + 2)]),
      )
      const request = Object.assign(Object.create(null), { method: 'GET', url: '/', headers, socket })
      echo.handleUpgrade(request, socket, Buffer.alloc(0), (opened) => {
        opened.on('message', (data) => opened.send(data))
        opened.on('close', (code) => closed.push(code))
      })
    })
  })
  const { scene, ca } = it
  const headers = { authorization: `Bearer ${scene.mint({ jti: 'doomed' })}` }
  const socket = new WebSocket(`wss://127.0.0.1:${scene.port}/ws/a`, { ca, headers })
  await once(socket, 'open')
  const large = Buffer.alloc(1024 * 1024, 'x')
  socket.send(large)
  assert.ok((await nextMessage(socket)).equals(large))
  scene.revoke('doomed')

  const [code] = await once(socket, 'close')
  assert.equal(code, 1008)
  await until(() => closed.length === 1, 'the service to be told')
  assert.deepEqual(closed, [1008])
})

for (const first of ['client', 'upstream'] as const) {
  test(
    `createForwarder() lets a side speak on after the other has ended, under TLS: the ${first} first`,
    tls,
    async () => {
      const there = Promise.withResolvers<TLSSocket>()
      const heard = { client: '', upstream: '' }
      await using it = await openTlsScene((socket) => {
        socket.once('data', () => {
          socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n')
          socket.on('data', (bytes) => {
            heard.upstream += bytes.toString('latin1')
          })
          there.resolve(socket)
        })
      })
      const { scene, ca } = it
      const options = { port: scene.port, host: '127.0.0.1', ca, allowHalfOpen: true }
      const client = connect(options)
      client.on('data', (bytes) => {
        heard.client += bytes.toString('latin1')
      })
      await once(client, 'secureConnect')
      client.write(
        `GET /ws/a HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer ${scene.mint()}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n`,
      )
      const socket = await there.promise
      await until(() => heard.client.includes('101'), 'the answer')
      const [ending, other] = first === 'client' ? [client, socket] : [socket, client]
      ending.end('last words')
      await once(other, 'end')
      other.end('and an answer')
      await once(ending, 'end')

      assert.ok(heard.upstream.endsWith(first === 'client' ? 'last words' : 'and an answer'))
      assert.ok(heard.client.endsWith(first === 'client' ? 'and an answer' : 'last words'))
      await until(() => scene.count('postern_streams_open{kind="upgrade"}') === 0, 'the end')
      assert.equal(scene.count('postern_streams_ended_total{kind="upgrade",reason="finished"}'), 1)
    },
  )
}

test('createForwarder() breaks a switched connection off to a TLS upstream where its client has', tls, async () => {
  const there = Promise.withResolvers<TLSSocket>()
  await using it = await openTlsScene((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n')
      there.resolve(socket)
    })
  })
  const { scene, ca } = it
  const carrier = connectPlain(scene.port, '127.0.0.1')
  const client = connect({ socket: carrier, host: '127.0.0.1', ca })
  await once(client, 'secureConnect')
  client.write(
    `GET /ws/a HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer ${scene.mint()}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n`,
  )
  const socket = await there.promise
  await once(client, 'data')
  client.write('half of it')
  await once(socket, 'data')
  const broken = once(socket, 'error', { signal: AbortSignal.timeout(5000) })
  carrier.resetAndDestroy()

  assert.equal((await broken)[0].code, 'ECONNRESET')
})
