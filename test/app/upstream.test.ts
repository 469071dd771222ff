import assert from 'node:assert/strict'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer as createTcpServer } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import type { ResolveName } from '../../src/app/upstream/addresses.ts'
import { resolveName } from '../../src/app/upstream/addresses.ts'
import { authorityOf, createUpstream, placesOf } from '../../src/app/upstream/upstream.ts'
import type { UpstreamOptions } from '../../src/gates/options.ts'
import { upstreamOptions } from '../../src/gates/options.ts'
import { ask, ok } from '../http1/upstream-peer.ts'
import { createAuthority, skipWithoutOpenssl as skip } from '../support/certificates.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestDeadlines } from '../support/deadlines.ts'
import { until } from '../support/until.ts'
import { countWatches, skipWithoutProc } from '../support/watches.ts'

const nobody: ResolveName = () => Promise.reject(new Error('nobody asked for a name'))

/** The way to an upstream, on time that stands still. */
function open(options: Partial<UpstreamOptions>, resolve: ResolveName = nobody) {
  const time = createTestDeadlines()
  const clock = createTestClock()
  const logged: { event: string; fields: Readonly<Record<string, unknown>> | undefined }[] = []
  const tell = (event: string, fields?: Readonly<Record<string, unknown>>) => void logged.push({ event, fields })
  const log = { info: tell, warn: tell, error: tell }
  const all = { ...upstreamOptions.parse({}), ...options }
  const upstream = createUpstream(all, { clock, deadlines: time, readFile: (path) => readFileSync(path), resolve, log })
  return { ...upstream, time, clock, logged, [Symbol.dispose]: upstream.close }
}

type Listening = AsyncDisposable & {
  readonly port: number
  readonly connections: () => number
  readonly open: () => number
}

/** A server on an address of this machine that answers everything. */
async function listen(host: string, port = 0, server: Server = createTcpServer()): Promise<Listening> {
  const sockets = new Set<{ destroy: () => void }>()
  let connections = 0
  server.on(server.listenerCount('tlsClientError') > 0 ? 'secureConnection' : 'connection', (socket) => {
    connections += 1
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', () => socket.write(ok))
  })
  server.listen(port, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo | string as AddressInfo)?.port, // it listens on a port, or nobody asks
    connections: () => connections,
    open: () => sockets.size,
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** A server that answers as it does. */
async function silent(server: Server): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port, // it listens on a port
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** A server of bytes that come behind a request. */
function answering(bytes: string | Buffer): Server {
  return createTcpServer((socket) => void socket.on('data', () => socket.write(bytes)))
}

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'))

for (const [host, written, missing] of [
  ['127.0.0.1', '127.0.0.1', false],
  ['::1', '[::1]', hasIpv6 ? false : 'this machine has no IPv6'],
] as const) {
  test(`createUpstream() reaches ${written} by http, and asks for no name`, { skip: missing }, async () => {
    await using server = await listen(host)
    using upstream = open({ url: `http://${written}:${server.port}/` })

    assert.equal(await ask(upstream).outcome, 'end')

    assert.equal(server.connections(), 1)
  })
}

test('createUpstream() reaches a Unix socket', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-'))
  const path = join(directory, 'app.sock')
  const server = createTcpServer((socket) => void socket.on('data', () => socket.write(ok)))
  server.listen(path)
  await once(server, 'listening')
  const upstream = open({ url: `unix:${path}` })

  assert.equal(await ask(upstream).outcome, 'end')

  upstream.close()
  server.close()
  rmSync(directory, { recursive: true, force: true })
})

test('createUpstream() spreads requests over all addresses of a name', async () => {
  await using a = await listen('127.0.0.1')
  await using b = await listen('127.0.0.2', a.port)
  await using c = await listen('127.0.0.3', a.port)
  using upstream = open({ url: `http://app.test:${a.port}` }, async () => ['127.0.0.1', '127.0.0.2', '127.0.0.3'])

  const outcomes = await Promise.all(Array.from({ length: 6 }, () => ask(upstream).outcome))

  assert.deepEqual(outcomes, ['end', 'end', 'end', 'end', 'end', 'end'])
  assert.deepEqual([a.connections(), b.connections(), c.connections()], [2, 2, 2])
})

test('createUpstream() follows a name to other addresses, and lets go of the connections to those that vanished', async () => {
  await using old = await listen('127.0.0.1')
  await using both = await listen('127.0.0.2', old.port)
  await using next = await listen('127.0.0.3', old.port)
  let found = ['127.0.0.1', '127.0.0.2']
  using upstream = open({ url: `http://app.test:${old.port}`, keep_alive: 120_000 }, async () => found)
  await Promise.all([ask(upstream).outcome, ask(upstream).outcome])
  assert.deepEqual([old.open(), both.open()], [1, 1])

  found = ['127.0.0.2', '127.0.0.3']
  upstream.time.pass(30_000)
  await until(() => old.open() === 0, 'the end of the old one')
  await Promise.all([ask(upstream).outcome, ask(upstream).outcome])

  assert.deepEqual([old.connections(), both.connections(), next.connections()], [1, 1, 1])
})

test('createUpstream() looks a name up again when a connection fails', async () => {
  const port = await (async () => {
    await using gone = await listen('127.0.0.1')
    return gone.port
  })()
  await using moved = await listen('127.0.0.2', port)
  let found = ['127.0.0.1']
  let asked = 0
  using upstream = open({ url: `http://app.test:${port}` }, async () => {
    asked += 1
    return found
  })
  assert.equal(await ask(upstream).outcome, 'connect')
  found = ['127.0.0.2']

  upstream.time.pass(1000)
  await until(() => asked === 2, 'the second look-up')
  await new Promise((resolve) => setImmediate(resolve))

  assert.equal(await ask(upstream).outcome, 'end')
  assert.equal(moved.connections(), 1)
})

test('createUpstream() answers connect for a name that nobody knows, at once when that is known', async () => {
  using upstream = open({ url: 'http://app.test:1' }, () => Promise.reject(new Error('unknown')))

  const first = await ask(upstream).outcome
  const second = await ask(upstream).outcome

  assert.deepEqual([first, second], ['connect', 'connect'])
  assert.deepEqual(
    upstream.logged.map(({ event }) => event),
    ['upstream_resolve_failed'],
  )
})

test('createUpstream() goes on with the places it knows while a name is not known', async () => {
  await using known = await listen('127.0.0.1')
  using upstream = open({ urls: ['http://app.test:1', `http://127.0.0.1:${known.port}`] }, () => new Promise(() => {}))

  assert.equal(await ask(upstream).outcome, 'end')
})

test('createUpstream() says why there is no connection, of each place once in half a minute', async () => {
  const port = await (async () => {
    await using gone = await listen('127.0.0.1')
    return gone.port
  })()
  using upstream = open({ url: `http://127.0.0.1:${port}` })
  for (let at = 0; at < 3; at += 1) await ask(upstream).outcome
  const early = upstream.logged.length

  upstream.clock.pass(30_000)
  await ask(upstream).outcome

  assert.equal(early, 1)
  assert.equal(upstream.logged.length, 2)
  assert.equal(upstream.logged[0]?.event, 'upstream_unreachable')
  assert.match(JSON.stringify(upstream.logged[0]?.fields), /ECONNREFUSED/)
})

const noAnswers: readonly { what: string; server: () => Server; protocol?: 'h2'; event: string; error: RegExp }[] = [
  {
    what: 'wants TLS',
    server: () => createTlsServer({}).on('tlsClientError', () => {}),
    event: 'upstream_reset',
    error: /^no byte of an answer came \(closed\), as of a service that wants TLS$/,
  },
  {
    what: 'answers in TLS',
    server: () => answering(Buffer.from('15030100020228', 'hex')),
    event: 'upstream_reset',
    error: /^the answer is no HTTP; it looks like TLS$/,
  },
  {
    what: 'speaks HTTP/2',
    server: () => createHttp2Server(),
    event: 'upstream_reset',
    error: /^the answer is no HTTP\/1\.1; it looks like HTTP\/2$/,
  },
  {
    what: 'speaks something else',
    server: () => createTcpServer((socket) => socket.write('SSH-2.0-OpenSSH_9.2 hunter2\r\n')),
    event: 'upstream_reset',
    error: /^the answer is no HTTP$/,
  },
  {
    what: 'has two lengths for one body',
    server: () => answering('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: hunter2\r\n\r\n'),
    event: 'upstream_reset',
    error: /^the head of the answer is malformed, or over its limit$/,
  },
  {
    what: 'closes within the head of its answer',
    server: () => createTcpServer((socket) => void socket.once('data', () => socket.end('HTTP/1.1 200 hunter2'))),
    event: 'upstream_reset',
    error: /^the head of the answer broke off \(closed\)$/,
  },
  {
    what: 'speaks HTTP/1.1 where h2 is configured',
    server: () => createHttpServer(),
    protocol: 'h2',
    event: 'upstream_unreachable',
    error: /^no HTTP\/2 settings came: /,
  },
]
for (const { what, server: make, protocol = 'http1', event, error } of noAnswers) {
  test(`createUpstream() says of an upstream that ${what} what came, once in half a minute, and no byte of it`, async () => {
    await using server = await silent(make())
    using upstream = open({ url: `http://127.0.0.1:${server.port}`, protocol })
    const asked = async () => assert.notEqual(await ask(upstream).outcome, 'end')
    for (let at = 0; at < 3; at += 1) await asked()
    const early = [...upstream.logged]

    upstream.clock.pass(30_000)
    await asked()

    assert.deepEqual(
      early.map((line) => line.event),
      [event],
    )
    assert.equal(upstream.logged.length, 2)
    assert.match(String(early[0]?.fields?.['error']), error)
    assert.equal(early[0]?.fields?.['upstream'], `http://127.0.0.1:${server.port}`)
    assert.doesNotMatch(JSON.stringify(upstream.logged), /hunter2/)
  })
}

test('resolveName() finds the addresses of a name as the system does, and rejects where there are none', async () => {
  const found = await resolveName('localhost')

  assert.ok(found.some((address) => ['127.0.0.1', '::1'].includes(address)))
  await assert.rejects(resolveName('no-such-name.invalid'))
})

test('placesOf() and authorityOf() read urls as they are written', () => {
  const urls = ['http://a.test/', 'https://[::1]:8443', 'unix:/run/app/']

  assert.deepEqual(placesOf(upstreamOptions.parse({ urls })), ['http://a.test', 'https://[::1]:8443', 'unix:/run/app/'])
  assert.deepEqual(
    urls.map((url) => authorityOf(placesOf(upstreamOptions.parse({ url }))[0] ?? '')),
    ['a.test', '[::1]:8443', 'localhost'],
  )
})

test('createUpstream() takes new files of upstream.tls for new connections, and keeps the old ones while those are broken', {
  skip,
}, async () => {
  using good = createAuthority()
  using other = createAuthority()
  const secure = (issuer: typeof good) => {
    const { cert, key } = issuer.issue('app', { names: 'DNS:app.test' })
    return createTlsServer({ cert, key }).on('tlsClientError', () => {})
  }
  await using first = await listen('127.0.0.1', 0, secure(good))
  await using second = await listen('127.0.0.2', first.port, secure(other))
  const directory = mkdtempSync(join(tmpdir(), 'postern-'))
  const file = join(directory, 'ca.pem')
  copyFileSync(good.caFile, file)
  let at = '127.0.0.1'
  const options = { url: `https://app.test:${first.port}`, tls: { ca: { file } } }
  using upstream = open(options, async () => [at])
  assert.equal(await ask(upstream).outcome, 'end')
  at = '127.0.0.2'
  upstream.time.pass(30_000)
  await until(() => first.open() === 0, 'the end of the first connection')
  assert.equal(await ask(upstream).outcome, 'connect')

  writeFileSync(file, 'not a certificate')
  await until(() => upstream.logged.some(({ event }) => event === 'upstream_tls_refused'), 'the refusal')
  at = '127.0.0.1'
  upstream.time.pass(30_000)
  await new Promise((resolve) => setImmediate(resolve))
  const kept = await ask(upstream).outcome
  copyFileSync(other.caFile, file)
  await until(() => upstream.logged.some(({ event }) => event === 'upstream_tls_renewed'), 'the renewal')
  at = '127.0.0.2'
  upstream.time.pass(30_000)
  await until(() => first.open() === 0, 'the end of the first connection')
  const renewed = await ask(upstream).outcome

  assert.equal(kept, 'end')
  assert.equal(renewed, 'end')
  assert.equal(second.connections(), 1)
  rmSync(directory, { recursive: true })
})

test('createUpstream() verifies an https upstream against the server_name, or the name in its url', {
  skip,
}, async () => {
  using authority = createAuthority()
  const { cert, key } = authority.issue('app', { names: 'DNS:app.test' })
  const asked = new Set<string>()
  const tlsServer = createTlsServer({
    ...{ cert, key },
    SNICallback(name, found) {
      asked.add(name)
      found(null)
    },
  })
  await using server = await listen(
    '127.0.0.1',
    0,
    tlsServer.on('tlsClientError', () => {}),
  )
  const ca = { file: authority.caFile }
  const at: ResolveName = async () => ['127.0.0.1']
  using byUrl = open({ url: `https://app.test:${server.port}`, tls: { ca } }, at)
  using byRoot = open({ url: `https://app.test.:${server.port}`, tls: { ca } }, at)
  using byName = open({ url: `https://127.0.0.1:${server.port}`, tls: { ca, server_name: 'app.test' } })
  using wrongUrl = open({ url: `https://other.test:${server.port}`, tls: { ca } }, at)
  using wrongName = open({ url: `https://app.test:${server.port}`, tls: { ca, server_name: 'other.test' } }, at)
  using noCa = open({ url: `https://app.test:${server.port}` }, at)

  const outcomes = await Promise.all(
    [byUrl, byRoot, byName, wrongUrl, wrongName, noCa].map((each) => ask(each).outcome),
  )

  assert.deepEqual(outcomes, ['end', 'end', 'end', 'connect', 'connect', 'connect'])
  assert.match(JSON.stringify(wrongUrl.logged), /other\.test/)
  // RFC 6066 §3: without the dot that a name may end with.
  assert.deepEqual(asked, new Set(['app.test', 'other.test']))
})

for (const [scheme, port] of [
  ['http', 80],
  ['https', 443],
] as const)
  test(`createUpstream() goes to port ${port} where a url of ${scheme} names none`, async () => {
    // Where nobody is, so that it is told where we were.
    using upstream = open({ url: `${scheme}://127.254.254.254` })

    assert.equal(await ask(upstream).outcome, 'connect')

    assert.match(String(upstream.logged[0]?.fields?.['error']), new RegExp(`127\\.254\\.254\\.254:${port}$`))
  })

test('createUpstream().close() leaves nothing behind: nobody looks up the name, watches the files, or waits', {
  skip: skip || skipWithoutProc,
}, async () => {
  using authority = createAuthority()
  const before = countWatches()
  let asked = 0
  const upstream = open({ url: 'https://app.test', tls: { ca: { file: authority.caFile } } }, async () => {
    asked += 1
    return ['127.0.0.1']
  })
  assert.ok(countWatches() > before)

  upstream.close()
  upstream.time.pass(60_000)

  assert.deepEqual([asked, upstream.time.watched(), countWatches()], [1, 0, before])
})
