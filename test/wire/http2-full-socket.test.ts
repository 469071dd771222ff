// A stream that is broken off while its client's socket is full, before the built program: what went wrong here once went
// on in node's own code for ever, so it must not be this process that it happens to.
import assert from 'node:assert/strict'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { codes, connectFrames, flags, frame, headers, requestFields, windowUpdate } from '../support/h2-frames.ts'

test('serveStream() resets streams behind a full socket, with their ends where they have one, and the gateway goes on', async () => {
  const parts: Socket[] = []
  const upstream = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (head) => {
      if (String(head).startsWith('GET /part')) {
        parts.push(socket)
        socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n${'p'.repeat(16_384)}\r\n`)
      } else socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n${'b'.repeat(30_000_000)}`)
    })
  })
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
  const { port } = upstream.address() as AddressInfo // it listens on a port
  await using gateway = await startGatewayProcess({
    upstream: { url: `http://127.0.0.1:${port}` },
    rules: ['/big', '/part'].map((path) => ({ match: { path }, public: true })),
  })
  await gateway.ready()
  using client = connectFrames(gateway.proxyPort, Buffer.from('00047fffffff', 'hex'))
  client.send(windowUpdate(0, 0x7fff_0000))
  await client.frame(({ type }) => type === 'settings')
  client.socket.pause()

  client.send(headers(1, requestFields('/big')))
  await sleep(500)
  client.send(...Array.from({ length: 20 }, (_, at) => headers(3 + 2 * at, requestFields('/part'))))
  const upload = requestFields('/denied', [['content-length', '200000']], 'POST')
  client.send(headers(101, upload, false), frame('data', 0, 101, 'x'.repeat(1000)))
  while (parts.length < 20) await sleep(10)
  await sleep(300)
  for (const socket of parts) socket.resetAndDestroy()
  await sleep(300)
  client.socket.resume()

  const ends = await Promise.all(Array.from({ length: 20 }, (_, at) => client.stream(3 + 2 * at)))
  assert.ok(
    ends.every(
      (frames) => frames.at(-1)?.type === 'rst_stream' && frames.at(-1)?.payload.readUInt32BE() === codes.internal,
    ),
  )
  await client.frame(({ type, stream }) => type === 'rst_stream' && stream === 101)
  const denied = client.frames.filter(({ stream }) => stream === 101)
  const last = denied.filter(({ type }) => type !== 'window_update').slice(-2)
  assert.deepEqual(
    last.map(({ type, flags: flag }) => `${type} ${flag & flags.endStream}`),
    ['data 1', 'rst_stream 0'],
  )
  assert.equal(last[1]?.payload.readUInt32BE(), codes.noError)
  assert.equal((await gateway.health('/livez')).status, 200)
  upstream.close()
})
