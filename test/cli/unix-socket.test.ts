// A gateway whose front door is a Unix socket.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openUpstream } from '../gates/door.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { until } from '../support/until.ts'

function directory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'postern-unix-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

function configuration(socket: string, upstream: number, more: Readonly<Record<string, unknown>> = {}) {
  return {
    listen: { proxy: `unix:${socket}`, health: '127.0.0.1:0', admin: '127.0.0.1:0' },
    upstream: { url: `http://127.0.0.1:${upstream}` },
    rules: [{ id: 'open', match: { path: '/a' }, public: true }],
    ...more,
  }
}

/** What the upstream was told of the client. */
async function ask(socketPath: string, headers: Readonly<Record<string, string>> = {}): Promise<string> {
  return await new Promise((resolve, reject) => {
    request({ socketPath, path: '/a', headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve(`${response.statusCode} ${text}`))
    })
      .on('error', reject)
      .end()
  })
}

async function openEcho() {
  return await openUpstream((asked, response) => {
    response.end(`${asked.headers['x-forwarded-for']} ${asked.headers['x-forwarded-proto']}`)
  })
}

for (const workers of [1, 2]) {
  test(`serve listens on a Unix socket with ${workers} serving, and takes its file away`, async () => {
    using files = directory()
    await using upstream = await openEcho()
    const socket = join(files.path, 'p.sock')
    const gateway = await startGatewayProcess(configuration(socket, upstream.port, { workers }))
    try {
      const answers = await Promise.all([ask(socket), ask(socket), ask(socket, { 'x-forwarded-for': '203.0.113.7' })])

      assert.deepEqual(
        answers,
        Array.from({ length: 3 }, () => '200 undefined http'),
      )
      assert.equal(statSync(socket).mode & 0o777, 0o660)
      assert.ok(gateway.logged('started')[0]?.includes(`"proxy_socket":"unix:${socket}"`))
      const told = () => gateway.logged('client.address').filter((line) => line.includes('"unix:"'))
      await until(() => told().length === 3, 'three access lines')
      gateway.signal('SIGTERM')
      assert.equal(await gateway.exited, 0)
      assert.equal(existsSync(socket), false)
    } finally {
      await gateway[Symbol.asyncDispose]()
    }
  })
}

test('serve believes what comes on its Unix socket where trusted_proxies names unix:, and nothing of others', async () => {
  using files = directory()
  await using upstream = await openEcho()
  const socket = join(files.path, 'p.sock')
  const sent = { 'x-forwarded-for': '203.0.113.7', 'x-forwarded-proto': 'https' }
  const trusting = { require_https: true, trusted_proxies: ['unix:'] }
  await using gateway = await startGatewayProcess(configuration(socket, upstream.port, trusting))

  assert.equal(await ask(socket, sent), '200 203.0.113.7 https')
  assert.match(await ask(socket), /^403 .*transport_insecure/)
  assert.equal(gateway.logged('internal_error').length, 0)
})

test('serve replaces the socket of a gateway that was killed, and does not start beside one that lives', async () => {
  using files = directory()
  await using upstream = await openEcho()
  const socket = join(files.path, 'p.sock')
  const wanted = configuration(socket, upstream.port)
  const killed = await startGatewayProcess(wanted)
  await killed[Symbol.asyncDispose]()
  assert.ok(existsSync(socket))

  await using _gateway = await startGatewayProcess(wanted)
  await assert.rejects(startGatewayProcess(wanted), /the gateway exited/)

  assert.equal(await ask(socket), '200 undefined http')
})
