// The program itself before an upstream that is a name, speaks TLS, and changes its certificate.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createAuthority, skipWithoutOpenssl as skip } from '../support/certificates.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { until } from '../support/until.ts'

for (const workers of [1, 2]) {
  test(`startApp() with ${workers === 1 ? 'one process' : 'two workers'} reaches an https upstream by name, and follows its CA`, {
    skip,
  }, async () => {
    using good = createAuthority()
    using other = createAuthority()
    const [before, after] = [good, other].map((each) => each.issue('app', { names: 'DNS:localhost' }))
    assert.ok(before !== undefined && after !== undefined)
    const directory = mkdtempSync(join(tmpdir(), 'postern-'))
    const ca = join(directory, 'ca.pem')
    copyFileSync(good.caFile, ca)
    // Each connection shows its certificate.
    const server = createServer({ cert: before.cert, key: before.key }, (request, response) => {
      response.setHeader('connection', 'close')
      response.end(`${request.method} ${request.url}`)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    using stack = new DisposableStack()
    stack.defer(() => {
      server.close()
      server.closeAllConnections()
      rmSync(directory, { recursive: true, force: true })
    })
    const { port } = server.address() as AddressInfo // it listens on a port
    await using gateway = await startGatewayProcess({
      workers,
      upstream: { url: `https://localhost:${port}`, tls: { ca: { file: ca } }, health_path: '/healthz' },
      rules: [{ match: { path: '/**' }, public: true, insecure: true }],
    })
    const statusOf = async () => (await fetch(`http://127.0.0.1:${gateway.proxyPort}/a`)).status

    const first = await fetch(`http://127.0.0.1:${gateway.proxyPort}/a`)
    const health = await gateway.health('/upstreamz')
    server.setSecureContext({ cert: after.cert, key: after.key })
    const refused = await statusOf()
    copyFileSync(other.caFile, ca)
    await until(async () => (await statusOf()) === 200, 'the CA to be read again')

    assert.deepEqual([first.status, await first.text()], [200, 'GET /a'])
    assert.deepEqual(health, { status: 200, text: 'GET /healthz' })
    assert.equal(refused, 502)
    // A worker's lines come a little later than its answers.
    await until(() => gateway.logged('upstream_unreachable').length > 0, 'the log to say why')
  })
}
