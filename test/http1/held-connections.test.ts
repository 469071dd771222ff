// What a connection holds is counted for all of them together: whatever becomes of it, nothing of it stays counted.
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { createHeldBytes, heldBytes, maxBehindBytes } from '../../src/http1/held-bytes.ts'
import type { ServerConnection } from '../../src/http1/server-connection.ts'
import { until } from '../support/until.ts'
import type { Answer, Served, ServeOptions } from './served.ts'
import { get, post, reply, serve } from './served.ts'

afterEach(() => assert.equal(heldBytes(), 0, 'something stayed counted'))

const rest = 'x'.repeat(10_000)
const held = () => until(() => heldBytes() > 0, 'something that is held')
const silent: Answer = () => {}

const ends: readonly {
  readonly how: string
  readonly answer?: Answer
  readonly options?: ServeOptions
  readonly sent: string
  readonly end: (it: Served) => void
}[] = [
  { how: 'the client leaves within a head', sent: get('/1').slice(0, -2), end: ({ client }) => void client.destroy() },
  { how: 'the client ends within a head', sent: get('/1').slice(0, -2), end: ({ client }) => void client.end() },
  { how: 'its time for a head is over', sent: get('/1').slice(0, -2), end: ({ deadlines }) => deadlines.pass(10_000) },
  { how: 'the head turns out to be none', sent: get('/1').slice(0, -2), end: ({ send }) => send('\x00') },
  {
    how: 'the client leaves within a request',
    sent: get('/1') + rest,
    end: ({ client }) => void client.resetAndDestroy(),
  },
  { how: 'we end it within a request', sent: get('/1') + rest, end: ({ connection }) => connection.destroy() },
  {
    how: 'another protocol takes over',
    sent: get('/1', 'Connection: upgrade\r\nUpgrade: x\r\n') + rest,
    end: ({ connection }) => connection.switchProtocols(['Connection', 'upgrade', 'Upgrade', 'x']),
  },
  {
    how: 'HTTP/2 takes over',
    options: { preface: true },
    sent: 'PRI * HTTP/2.0\r\n\r\nSM',
    end: ({ send }) => send(`\r\n\r\n${rest}`),
  },
  {
    how: 'the body it is of is read',
    sent: post('/1', `Content-Length: ${rest.length}`, rest),
    end: ({ connection }) => connection.resume(),
  },
  {
    how: 'the last answer is out',
    sent: get('/1', 'Connection: close\r\n') + rest,
    end: ({ connection }) => reply(connection, ''),
  },
]
for (const { how, answer = silent, options, sent, end } of ends)
  test(`createServerConnection() holds nothing any more when ${how}`, async () => {
    await using it = await serve(answer, options)
    it.send(sent)
    if (how !== 'HTTP/2 takes over') await held()

    end(it)

    await until(() => heldBytes() === 0, 'nothing that is held')
  })

test('createServerConnection() holds nothing of what stands behind a body whose reading ended the connection', async () => {
  for (const destroys of [true, false]) {
    const answer: Answer = (connection) => connection.resume()
    const hears = (what: string, connection: ServerConnection) => {
      if (!what.startsWith('data')) return
      if (destroys) connection.destroy()
      else {
        connection.closeAfter()
        reply(connection, 'no', 413)
      }
    }
    await using it = await serve(answer, { hears })

    it.send(post('/1', 'Content-Length: 5', 'hello') + rest)

    await it.receiveAll()
    assert.equal(heldBytes(), 0)
  }
})

test('createServerConnection() keeps no large piece for the few requests that are left of it, once a turn, or a full socket, has come between', async () => {
  for (const body of ['', 'a'.repeat(100_000)]) {
    let served = 0
    const answer: Answer = (connection) => {
      served += 1
      if (served < 1990) reply(connection, served % 150 === 0 ? body : '')
    }
    await using it = await serve(answer, { requestsPerConnection: 1_000_000 })
    it.send(get('/').repeat(2000))

    await until(() => served === 1990, 'the last but ten')

    const counted = heldBytes()
    it.client.resetAndDestroy()
    await until(() => heldBytes() === 0, 'nothing that is held')
    assert.ok(counted > 0 && counted <= 4096, String(counted))
  }
})

test('createServerConnection() reads on for the rest of a head however much others hold behind their requests', async () => {
  const other = createHeldBytes(
    () => true,
    () => {},
  )
  other.add(Buffer.alloc(maxBehindBytes / 2))
  other.settle()
  await using it = await serve((connection) => reply(connection, 'ok'))
  for (const piece of ['GET /1 HTTP/1.1\r\n', 'Host: a\r\n', '\r\n']) {
    it.send(piece)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }

  await it.receive(/ok$/)
  other.close()
})
