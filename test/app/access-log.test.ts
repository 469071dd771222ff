import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { createAccessLog } from '../../src/app/access-log.ts'
import { deny } from '../../src/decision/decision.ts'
import { freePort } from '../support/free-port.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { until } from '../support/until.ts'

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
  await until(() => gateway.logged('url.path').length === 2, 'the access lines')
  service.close()
  service.closeAllConnections()

  assert.deepEqual([ours, itsOwn], [502, 502])
  const errors = gateway.logged('url.path').map((line) => JSON.parse(line).upstream_error)
  assert.deepEqual(errors, ['upstream_connect', undefined])
})

test('createAccessLog() tells a client of IPv4 by the same address as X-Forwarded-For, on a listener of both', async () => {
  const forwarded: unknown[] = []
  const service = createServer(({ headers }, response) => {
    forwarded.push(headers['x-forwarded-for'])
    response.end()
  })
  const port = await freePort()
  await new Promise<void>((resolve) => void service.listen(port, '127.0.0.1', resolve))
  await using gateway = await startGatewayProcess({
    listen: { proxy: '[::]:0' },
    upstream: { url: `http://127.0.0.1:${port}` },
    rules: [{ match: { path: '/a' }, public: true }],
  })

  await fetch(`http://127.0.0.1:${gateway.proxyPort}/a`)
  await until(() => gateway.logged('url.path').length === 1, 'the access lines')
  service.close()
  service.closeAllConnections()

  assert.deepEqual(forwarded, ['127.0.0.1'])
  assert.equal(JSON.parse(gateway.logged('url.path')[0] ?? '')['client.address'], '127.0.0.1')
})

test('createAccessLog() prints no credential of a request to a public rule, allowed or refused', async () => {
  const service = createServer((request, response) => void request.resume().on('end', () => response.end()))
  const port = await freePort()
  await new Promise<void>((resolve) => void service.listen(port, '127.0.0.1', resolve))
  await using gateway = await startGatewayProcess({
    upstream: { url: `http://127.0.0.1:${port}` },
    rules: [{ match: { path: '/a' }, public: true, max_body: 10 }],
  })
  const statuses: number[] = []
  for (const body of ['short', 'longer than ten bytes']) {
    const headers = { authorization: 'Basic dTpw' }
    statuses.push((await fetch(`http://127.0.0.1:${gateway.proxyPort}/a`, { method: 'POST', body, headers })).status)
  }
  await until(() => gateway.logged('url.path').length === 2, 'the access lines')
  service.close()
  service.closeAllConnections()

  assert.deepEqual(statuses, [200, 413])
  const prints = gateway.logged('url.path').map((line) => JSON.parse(line).token_fingerprint)
  assert.deepEqual(prints, [null, null])
})

test('createAccessLog() says when a request came, a second after the clock was set at the latest', () => {
  let wallMs = Date.UTC(2026, 10, 21, 9, 30)
  const lines: string[] = []
  const clock = { wallMs: () => wallMs, monotonicMs: () => 0 }
  const log = createAccessLog(
    { clock, randomBytes: (count) => Buffer.alloc(count) },
    { line: (text) => lines.push(text) },
  )
  const at = (nowMs: number) =>
    log(
      {
        ...{ method: 'GET', request: undefined, peer: '10.0.0.7', arrivedMs: nowMs - 10, decidedMs: nowMs },
        ...{ decision: deny('no_rule'), isForwarded: false, status: 403, upstreamFailure: undefined, cut: undefined },
      },
      nowMs,
    )

  at(1000)
  wallMs += 999
  at(1999)
  // It is set back by an hour.
  wallMs += 1 - 3_600_000
  at(2000)

  const times = lines.map((line) => JSON.parse(line).timestamp)
  assert.deepEqual(times, ['2026-11-21T09:29:59.990Z', '2026-11-21T09:30:00.989Z', '2026-11-21T08:30:00.990Z'])
})
