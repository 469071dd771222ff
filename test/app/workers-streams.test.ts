// Streams in workers: whoever holds one open is judged by what the primary has handed over.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectWebSocket, openEchoService } from '../gates/websockets.ts'
import { until } from '../support/until.ts'
import { counted, openWorkers } from './workers-world.ts'

test('a revocation ends the WebSockets of its token in every worker with 1008, and leaves the others alone', async () => {
  await using service = await openEchoService(false)
  await using world = await openWorkers({
    hasFeed: true,
    more: {
      upstream: { url: `http://127.0.0.1:${service.port}` },
      rules: [{ id: 'events', match: { path: '/events' }, scopes: ['orders:read'], upgrade: ['websocket'] }],
      blacklist: { poll_interval: '500ms' },
    },
  })
  await world.gateway.ready()
  const open = (jti: string) => {
    const token = world.token({ jti })
    return Array.from({ length: 8 }, () => connectWebSocket(world.gateway.proxyPort, '/events', token))
  }
  const [bad, good] = [open('bad'), open('good')]
  await Promise.all([...bad, ...good].map(({ opened }) => opened))
  for (const { connections } of await world.workers()) assert.ok(connections >= 6, `${connections} connections`)

  world.issuer.revoked.push({ kind: 'jti', value: 'bad' })
  const codes = await Promise.all(bad.map(({ closed }) => closed))

  assert.deepEqual([...new Set(codes)], [1008])
  const ended = 'postern_streams_ended_total{kind="upgrade",reason="token_revoked"}'
  // A client hears of it before it is counted: the connection to the service has to end, too.
  await until(async () => (await counted(world.gateway, ended)) === 8, 'all of them to end')
  assert.equal(await counted(world.gateway, 'postern_streams_open{kind="upgrade"}'), 8)
  for (const { socket } of good) {
    assert.equal(socket.readyState, socket.OPEN)
    socket.terminate()
  }
})
