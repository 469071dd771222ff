import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import type { Switched } from '../../src/gates/switched.ts'
import { joinSides } from '../../src/gates/switched.ts'
import { createServerConnection } from '../../src/http1/server-connection.ts'
import { openPair } from '../http1/pair.ts'
import { get, limits } from '../http1/served.ts'
import { ask, openPeer, openPool } from '../http1/upstream-peer.ts'
import { createTestDeadlines } from '../support/deadlines.ts'
import { until } from '../support/until.ts'

const lines = ['Connection', 'upgrade', 'Upgrade', 'websocket']
const switching = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'
const nothing = () => {}

/** A frame of 32 MiB (RFC 6455 §5.2), unmasked: nobody here looks into it. */
const large = Buffer.concat([Buffer.from('827f0000000002000000', 'hex'), Buffer.alloc(33_554_432)])

/** A client and an upstream on sockets that have switched to WebSocket; the upstream reads nothing more. */
async function openSides() {
  await using stack = new AsyncDisposableStack()
  let switched: Switched | undefined
  const { near, far } = stack.use(await openPair())
  const peer = stack.use(await openPeer(() => switching))
  const pool = stack.use(openPool([peer.endpoint]))
  const asked = ask(pool, { upgrade: 'websocket' }, { data: (chunk) => switched?.fromUpstream(chunk) })
  await until(() => asked.switchedTo() !== undefined, 'the switch')
  peer.accepted[0]?.socket.pause()

  const connection = createServerConnection(near, limits, createTestDeadlines(), (made) => ({
    request: () => made.switchProtocols(lines),
    data: (chunk) => switched?.fromClient(chunk),
    refused: nothing,
    end: nothing,
    broken: nothing,
    drained: nothing,
    gone: nothing,
  }))
  let received = Buffer.alloc(0)
  far.on('data', (bytes: Buffer) => {
    received = Buffer.concat([received, bytes])
  })
  far.write(get('/', 'Connection: upgrade\r\nUpgrade: websocket\r\n'))
  await until(() => received.includes('\r\n\r\n'), 'the answer')
  switched = joinSides('websocket', connection, asked.exchange())
  connection.resume()
  const held = stack.move()
  return {
    near,
    client: far,
    switched,
    frames: () => received.subarray(received.indexOf('\r\n\r\n') + 4).toString('hex'),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

test('joinSides() lets a client that was held back finish what nobody reads any more, to hear that it is over', async () => {
  await using sides = await openSides()
  // Whole, and more than there is room for: the client is held back between two frames, where it can be told at once.
  sides.switched.fromClient(large)
  assert.ok(sides.near.isPaused())
  sides.client.write(large)

  sides.switched.close?.(1001)

  await until(() => sides.client.writableLength === 0, 'all of it to be read')
  await until(() => sides.frames() === '880203e9', 'the close frame')
  assert.equal(sides.near.destroyed, false)
})

test('joinSides() holds a client back in the frame that it may still finish, as before', async () => {
  await using sides = await openSides()
  const half = large.length / 2
  sides.switched.fromClient(large.subarray(0, 100))
  assert.equal(sides.near.isPaused(), false)

  sides.switched.close?.(1001)
  sides.switched.fromClient(large.subarray(100, half))
  assert.equal(sides.near.isPaused(), true, 'nobody reads what it sends')
  sides.switched.fromClient(large.subarray(half))

  assert.equal(sides.near.isPaused(), false, 'what comes after the frame is dropped')
})

test('joinSides() passes the rest of the frame under way, nothing of the next, and then the close frame', async () => {
  await using sides = await openSides()
  // `hello`, and after it `world`.
  const [first, second] = ['810568656c6c6f', '8105776f726c64']
  sides.switched.fromUpstream(Buffer.from(first.slice(0, 8), 'hex'))

  sides.switched.close?.(1008)
  sides.switched.fromUpstream(Buffer.from(first.slice(8) + second, 'hex'))
  sides.switched.fromUpstream(Buffer.from(second, 'hex'))
  await once(sides.client, 'end')

  assert.equal(sides.frames(), `${first}880203f0`)
})

test('joinSides() says no second time that it is over, where the upstream has said so', async () => {
  await using sides = await openSides()
  const theirs = '880203e8'
  sides.switched.fromUpstream(Buffer.from(theirs, 'hex'))

  sides.switched.close?.(1001)
  await once(sides.client, 'end')

  assert.equal(sides.frames(), theirs)
})
