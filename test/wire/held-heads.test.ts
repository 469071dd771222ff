// What thousands of clients hold together: each keeps within the limits of one, and all of them would be too much.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { maxHeadBytes } from '../../src/http1/held-bytes.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { until } from '../support/until.ts'

const dropped = 'postern_connections_dropped_total{listener="proxy",cause="crowded"}'
const line = (name: string) => `${name}: ${'a'.repeat(7600)}\r\n`
const half = `GET /a HTTP/1.1\r\nHost: a.test\r\n${line('X-A')}${line('X-B')}`

test('a gateway that holds too much of heads that are not whole closes those that have waited longest, and serves others', async () => {
  const service = createServer((_, response) => response.end('ok'))
  service.listen(0, '127.0.0.1')
  await once(service, 'listening')
  const { port } = service.address() as AddressInfo
  await using gateway = await startGatewayProcess({
    upstream: { url: `http://127.0.0.1:${port}` },
    rules: [{ match: { path: '/a' }, public: true }],
  })
  const count = Math.ceil((maxHeadBytes / half.length) * 1.3)
  const sockets: Socket[] = []
  const closed: number[] = []
  for (let at = 0; at < count; at += 1) {
    const socket = connect(gateway.proxyPort, '127.0.0.1').on('error', () => {})
    socket.on('close', () => closed.push(at))
    sockets.push(socket)
    await once(socket, 'connect')
    socket.write(half)
  }

  await until(async () => ((await gateway.metrics()).get(dropped) ?? 0) > count * 0.2, 'those that are closed')
  const answer = await fetch(`http://127.0.0.1:${gateway.proxyPort}/a`)
  const counted = (await gateway.metrics()).get(dropped)
  await until(() => closed.length === counted, 'as many that see it')
  const isOldest = closed.every((at) => at < count * 0.5)
  for (const socket of sockets) socket.destroy()
  service.close()
  service.closeAllConnections()

  assert.deepEqual([answer.status, isOldest], [200, true])
})
