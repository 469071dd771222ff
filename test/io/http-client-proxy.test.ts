import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Server } from 'node:http'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { test } from 'node:test'
import { createHttpClient } from '../../src/io/http-client.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { timerOf } from '../support/tcp-timer.ts'
import { until } from '../support/until.ts'
import { failsWith } from './byte-peer.ts'

const limits = { maxBodyBytes: 1024, deadlineMs: 2000 }

async function listen(server: Server): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port, // it listens on a host and a port
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** Opens the tunnel that is asked for. */
function open(target: string, socket: Duplex): void {
  const through = connect(Number(target.split(':').at(-1)), '127.0.0.1')
  socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
  socket.pipe(through).pipe(socket)
  socket.on('error', () => through.destroy())
  through.on('error', () => socket.destroy())
}

const refusals = [
  {
    what: '407',
    answer: 'HTTP/1.1 407 Proxy Authentication Required\r\n\r\n',
    says: 'the proxy answers 407, wanted 200',
  },
  { what: '403', answer: 'HTTP/1.1 403 secret\r\n\r\n', says: 'the proxy answers 403, wanted 200' },
  { what: '502', answer: 'HTTP/1.1 502 Bad Gateway\r\n\r\n', says: 'the proxy answers 502, wanted 200' },
  { what: 'no HTTP', answer: 'what?\r\n\r\n', says: 'ERR_PROXY_TUNNEL' },
  { what: 'nothing', answer: '', says: 'ERR_PROXY_TUNNEL' },
] as const
for (const { what, answer, says } of refusals) {
  test(`createHttpClient().send() says that it was the proxy which refuses the tunnel with ${what}`, async () => {
    await using egress = await listen(createServer().on('connect', (_, socket: Socket) => socket.end(answer)))
    const client = createHttpClient({ proxy: `http://127.0.0.1:${egress.port}` })

    const failure = await failsWith('connect', client.send({ method: 'GET', url: 'https://issuer.test/jwks' }, limits))
    assert.equal(
      failure.message,
      `Cannot GET https://issuer.test/jwks through the proxy 127.0.0.1:${egress.port}: ${says}`,
    )
    client.close()
  })
}

test('createHttpClient().send() names the proxy where nobody listens, and where the answer may be its own', async () => {
  const closed = await listen(createServer())
  await closed[Symbol.asyncDispose]()
  const dead = createHttpClient({ proxy: `http://127.0.0.1:${closed.port}` })
  for (const url of ['https://issuer.test/jwks', 'http://issuer.test/jwks']) {
    const failure = await failsWith('connect', dead.send({ method: 'GET', url }, limits))
    assert.equal(failure.message, `Cannot GET ${url} through the proxy 127.0.0.1:${closed.port}: ECONNREFUSED`)
  }

  await using egress = await listen(createServer((_, response) => response.writeHead(407).end()))
  const client = createHttpClient({ proxy: `http://127.0.0.1:${egress.port}` })
  const { from, status } = await client.send({ method: 'GET', url: 'http://issuer.test/jwks?a=b' }, limits)
  assert.deepEqual([from, status], [`http://issuer.test/jwks through the proxy 127.0.0.1:${egress.port}`, 407])
  for (const each of [dead, client]) each.close()
})

test('createHttpClient() verifies an https proxy, and trusts there the CA it was given', {
  skip: skipWithoutOpenssl,
}, async () => {
  using authority = createAuthority()
  const { ca } = authority
  await using server = await listen(createTlsServer(authority.issue('server'), (_, response) => response.end('ok')))
  const asked: string[] = []
  const egress = createTlsServer(authority.issue('proxy'), (request, response) => {
    asked.push(request.url ?? '')
    response.end('through')
  })
  egress.on('connect', (request, socket: Duplex) => {
    asked.push(request.url ?? '')
    open(request.url ?? '', socket)
  })
  await using opened = await listen(egress)
  const proxy = `https://127.0.0.1:${opened.port}`
  const [trusting, plain] = [createHttpClient({ ca, proxy }), createHttpClient({ proxy })]
  const url = `https://127.0.0.1:${server.port}/jwks`

  const { from, body } = await trusting.send({ method: 'GET', url }, limits)
  // In what comes by TLS the proxy has no part.
  assert.deepEqual([from, body.toString()], [url, 'ok'])
  const other = await trusting.send({ method: 'GET', url: 'http://issuer.test/jwks' }, limits)
  assert.equal(other.body.toString(), 'through')
  assert.deepEqual(asked, [`127.0.0.1:${server.port}`, 'http://issuer.test/jwks'])
  for (const each of [url, 'http://issuer.test/jwks']) {
    const failure = await failsWith('connect', plain.send({ method: 'GET', url: each }, limits))
    assert.match(failure.message, /through the proxy 127\.0\.0\.1:\d+: UNABLE_TO_VERIFY_LEAF_SIGNATURE$/)
  }
  assert.equal(asked.length, 2)
  for (const each of [trusting, plain]) each.close()
})

test('createHttpClient().send() repeats what waited for a connection, and was lost on one that was kept', async () => {
  const carried = new Map<Socket, number>()
  await using server = await listen(
    createServer(({ socket }, response) => {
      carried.set(socket, (carried.get(socket) ?? 0) + 1)
      if (carried.get(socket) === 1) setTimeout(() => response.end('ok'), 20)
      else socket.destroy()
    }),
  )
  const client = createHttpClient({})
  const long = { ...limits, deadlineMs: 30_000 }

  const replies = await Promise.all(
    Array.from({ length: 513 }, () => client.send({ method: 'GET', url: `http://127.0.0.1:${server.port}/` }, long)),
  )
  assert.ok(replies.every(({ status }) => status === 200))
  assert.deepEqual([carried.size, Math.max(...carried.values())], [513, 2])
  client.close()
})

test('createHttpClient().send() does not repeat what was lost on a first connection through a proxy', {
  skip: skipWithoutOpenssl,
}, async () => {
  using authority = createAuthority()
  let answered = 0
  await using server = await listen(
    createTlsServer(authority.issue('server'), (request) => {
      answered += 1
      request.socket.destroy()
    }),
  )
  await using egress = await listen(
    createServer().on('connect', (request, socket: Duplex) => open(request.url ?? '', socket)),
  )
  const client = createHttpClient({ ca: authority.ca, proxy: `http://127.0.0.1:${egress.port}` })

  await failsWith('reset', client.send({ method: 'POST', url: `https://127.0.0.1:${server.port}/`, body: 'a' }, limits))
  assert.equal(answered, 1)
  client.close()
})

test('createHttpClient().send() has the system ask whether a proxy that is silent is still there, on a first connection, too', {
  skip: skipWithoutOpenssl || (process.platform !== 'linux' && 'only Linux shows its timers'),
}, async () => {
  using authority = createAuthority()
  let asked = 0
  await using server = await listen(createTlsServer(authority.issue('server'), () => (asked += 1)))
  const sockets: Socket[] = []
  await using egress = await listen(
    createServer()
      .on('connection', (socket) => sockets.push(socket))
      .on('connect', (request, socket: Duplex) => open(request.url ?? '', socket)),
  )
  const client = createHttpClient({ ca: authority.ca, proxy: `http://127.0.0.1:${egress.port}` })

  const call = failsWith('reset', client.send({ method: 'GET', url: `https://127.0.0.1:${server.port}/` }, limits))
  await until(() => asked === 1, 'the call')

  for (const socket of sockets) await until(() => timerOf(socket) === 2, 'the timer')
  client.close()
  await call
})
