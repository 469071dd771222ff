import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { freePort } from '../support/free-port.ts'
import { startGatewayProcess, until } from '../support/gateway-process.ts'

test('createAccessLog() tells a 502 of ours from one that the service has answered', async () => {
  const port = await freePort()
  const service = createServer((_, response) => response.writeHead(502).end())
  await using gateway = await startGatewayProcess({
    upstream: { url: `http://127.0.0.1:${port}` },
    rules: [{ match: { path: '/a' }, public: true }],
  })
  const ask = async () => (await fetch(`http://127.0.0.1:${gateway.proxyPort}/a`)).status

  const ours = await ask()
  await new Promise<void>((resolve) => void service.listen(port, '127.0.0.1', resolve))
  const itsOwn = await ask()
  await until(async () => gateway.logged('url.path').length === 2)
  service.close()
  service.closeAllConnections()

  assert.deepEqual([ours, itsOwn], [502, 502])
  const errors = gateway.logged('url.path').map((line) => JSON.parse(line).upstream_error)
  assert.deepEqual(errors, ['upstream_connect', undefined])
})
