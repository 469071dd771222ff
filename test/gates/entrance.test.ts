import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer, Socket } from 'node:net'
import { test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import type { EntranceOptions } from '../../src/gates/entrance.ts'
import { createEntrance } from '../../src/gates/entrance.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { createTestDeadlines } from '../support/deadlines.ts'
import { settle, until } from '../support/until.ts'

/** Brings a client in, and tells of the pieces it sends what they hold once the last has come. */
async function piecesOf(options: EntranceOptions, open: (port: number) => Promise<Socket>): Promise<readonly string[]> {
  const pieces: Buffer[] = []
  const deadlines = createTestDeadlines()
  const entrance = createEntrance(options, 5000, { deadlines, drop: assert.fail })
  const ended = Promise.withResolvers<void>()
  const server = createServer({ allowHalfOpen: true }, (socket) =>
    entrance.enter(socket, {
      entered({ socket: inner }) {
        inner.on('data', (piece: Buffer) => void pieces.push(piece))
        inner.on('end', () => {
          inner.end()
          ended.resolve()
        })
        inner.resume()
      },
      gone: ended.reject,
    }),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = await open((server.address() as AddressInfo).port) // it listens on a port
  for (const [at, text] of ['first', 'again', 'third'].entries()) {
    client.write(text)
    // Or two of them would be read as one.
    await until(() => pieces.length > at, 'it to be read')
  }
  client.end()
  await ended.promise
  server.close()
  assert.equal(deadlines.watched(), 0, 'nobody waits for it any more')
  return pieces.map(String)
}

const maxBytes = Number.POSITIVE_INFINITY
// Lent pieces are of one buffer, and read into again.
const lent = ['third', 'third', 'third']
const given = ['first', 'again', 'third']

test('createEntrance() lends what a client in the clear sends', async () => {
  const open = async (port: number) => connect(port, '127.0.0.1')

  assert.deepEqual(await piecesOf({ http2: true, maxBytes }, open), lent)
})

test('createEntrance() gives what a client sends behind a PROXY header as it is read: something may have come with that', async () => {
  const open = async (port: number) => {
    const client = connect(port, '127.0.0.1')
    client.write('PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n')
    await settle()
    return client
  }

  assert.deepEqual(await piecesOf({ http2: true, maxBytes, proxyProtocol: true }, open), given)
})

for (const http2 of [true, false])
  test(`createEntrance() lends what a client sends under TLS${http2 ? ', whatever protocol it is' : ''}`, {
    skip: skipWithoutOpenssl,
  }, async () => {
    using authority = createAuthority()
    const material = { ...authority.issue('server'), clientCa: undefined }
    const open = async (port: number) => {
      const ALPNProtocols = [http2 ? 'h2' : 'http/1.1']
      const client = connectTls({ port, host: '127.0.0.1', ca: authority.ca, ALPNProtocols })
      await once(client, 'secureConnect')
      return client
    }

    assert.deepEqual(await piecesOf({ http2, maxBytes, tls: { material, clientCertificate: 'none' } }, open), lent)
  })

for (const proxyProtocol of [true, false])
  test(`createEntrance() lets go of a connection that was handed over and had gone meanwhile${proxyProtocol ? ' before its PROXY header' : ''}`, async () => {
    const deadlines = createTestDeadlines()
    const entrance = createEntrance({ http2: false, maxBytes, proxyProtocol }, 5000, { deadlines, drop: assert.fail })
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1') // it listens on a port
    const [socket] = (await once(server, 'connection')) as [Socket]
    server.close()
    client.destroy()
    socket.destroy()
    await once(socket, 'close')
    let left = 0

    entrance.enter(socket, { entered: () => assert.fail(), gone: () => (left += 1) })

    assert.deepEqual([left, entrance.waiting(), deadlines.watched()], [1, 0, 0])
  })

for (const proxyProtocol of [false, true])
  test(`createEntrance() closes who has said nothing for longest before who has${proxyProtocol ? ', a PROXY header aside' : ''}, and then who has waited longest`, {
    skip: skipWithoutOpenssl,
  }, async () => {
    using authority = createAuthority()
    const dropped: string[] = []
    const tls = { material: { ...authority.issue('server'), clientCa: undefined }, clientCertificate: 'none' } as const
    const entrance = createEntrance({ http2: false, maxBytes: 0, tls, proxyProtocol }, 60_000, {
      deadlines: createTestDeadlines(),
      drop: (cause) => void dropped.push(cause),
    })
    const server = createServer((socket) => entrance.enter(socket, { entered: () => assert.fail(), gone() {} }))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const clients: Socket[] = []
    const closed: number[] = []
    const open = async (said: string) => {
      const at = clients.length
      const client = connect((server.address() as AddressInfo).port, '127.0.0.1') // it listens on a port
      client.on('error', () => {})
      client.on('close', () => closed.push(at))
      clients.push(client)
      await once(client, 'connect')
      client.write(`${proxyProtocol ? 'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n' : ''}${said}`)
      await settle()
    }
    // The beginning of a hello.
    const hello = '\x16\x03\x01'
    await open(hello)
    for (let at = 1; at < 64; at += 1) await open(at === 5 || at === 6 ? '' : hello)
    assert.deepEqual(closed, [])

    for (let count = 1; count <= 3; count += 1) {
      await open(hello)
      await until(() => closed.length === count, `${count} to be closed`)
    }

    assert.deepEqual(closed, [5, 6, 0])
    assert.deepEqual(dropped, ['crowded', 'crowded', 'crowded'])
    entrance.close()
    server.close()
  })

test('createEntrance() closes who has waited longest where 1,024 wait, counts it, and lets nobody else go', async () => {
  const deadlines = createTestDeadlines()
  const dropped: string[] = []
  const drop = (cause: string) => void dropped.push(cause)
  const entrance = createEntrance({ http2: false, maxBytes, proxyProtocol: true }, 5000, { deadlines, drop })
  const gone: number[] = []
  // Nobody of them says anything, so nothing has to be connected.
  const sockets = Array.from({ length: 1026 }, () => new Socket())
  const enter = (at: number) =>
    sockets[at] && entrance.enter(sockets[at], { entered: () => assert.fail(), gone: () => void gone.push(at) })
  for (let at = 0; at < 1024; at += 1) enter(at)
  assert.deepEqual([gone, dropped, entrance.waiting()], [[], [], 1024])

  enter(1024)
  enter(1025)

  assert.deepEqual([gone, dropped, entrance.waiting()], [[0, 1], ['crowded', 'crowded'], 1024])
  assert.deepEqual(
    sockets.slice(0, 3).map((socket) => socket.destroyed),
    [true, true, false],
  )
  entrance.close()
  assert.deepEqual([entrance.waiting(), deadlines.watched()], [0, 0], 'nobody waits any more')
  assert.ok(
    sockets.every((socket) => socket.destroyed),
    'and nobody is left open',
  )
})
