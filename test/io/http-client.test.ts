import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { getEventListeners, once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { createHttpClient } from '../../src/io/http-client.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { timerOf } from '../support/tcp-timer.ts'
import { until } from '../support/until.ts'
import { failsWith, ok, peer } from './byte-peer.ts'

const limits = { maxBodyBytes: 1000, deadlineMs: 2000 }

test('createHttpClient().send() sends what it was given, asks for no encoding, and reads the whole answer', async () => {
  await using server = await peer((_, socket) => {
    socket.write(
      'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n',
    )
    socket.write('3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n')
  })
  const client = createHttpClient({})

  const reply = await client.send(
    {
      method: 'POST',
      url: server.url,
      headers: { authorization: 'Basic secret', 'Accept-Encoding': 'gzip' },
      body: 'tokén=1',
    },
    limits,
  )

  assert.equal(reply.status, 200)
  assert.equal(reply.body.toString(), 'abcde')
  assert.equal(reply.header('CONTENT-type'), 'text/plain')
  assert.equal(reply.header('x-a'), '1, 2')
  assert.equal(reply.header('__proto__'), undefined)
  assert.equal(reply.header('constructor'), undefined)
  const head = server.heads.join().toLowerCase()
  assert.match(head, /^post \/jwks\?secret=in-the-query http\/1\.1\r\n/)
  assert.match(head, /\r\nauthorization: basic secret\r\n/)
  assert.match(head, /\r\ncontent-length: 8\r\n/)
  assert.match(head, new RegExp(`\r\nhost: 127.0.0.1:${server.port}\r\n`))
  assert.deepEqual(head.match(/\r\naccept-encoding: .*\r\n/g), ['\r\naccept-encoding: identity\r\n'])
  client.close()
})

test('createHttpClient().send() keeps the connection for the next call', async () => {
  let connections = 0
  await using server = await peer((_, socket, connection) => {
    connections = connection
    socket.write(ok)
  })
  const client = createHttpClient({})

  for (let call = 0; call < 3; call += 1) await client.send({ method: 'GET', url: server.url }, limits)

  assert.equal(connections, 1)
  assert.equal(server.heads.length, 3)
  client.close()
})

test('createHttpClient().send() fails at once when its call is called off, before it as well, and the next call goes on', async () => {
  let closed = 0
  await using server = await peer((head, socket) => {
    socket.on('close', () => (closed += 1))
    if (!head.includes('hold')) socket.write(ok)
  })
  const client = createHttpClient({})
  const calledOff = new AbortController()
  const held = { method: 'GET', url: server.url, headers: { hold: 'it' }, signal: calledOff.signal } as const
  const under = client.send(held, { ...limits, deadlineMs: 60_000 })
  while (server.heads.length === 0) await nextTick()

  calledOff.abort()

  await failsWith('reset', under)
  await failsWith('reset', client.send(held, limits))
  while (closed === 0) await nextTick()
  assert.equal(server.heads.length, 1)
  assert.equal((await client.send({ method: 'GET', url: server.url }, limits)).status, 200)
  client.close()
})

test('createHttpClient().send() leaves no listener on its signal, and no timer, once it is answered', async () => {
  await using server = await peer((_, socket) => socket.write(ok))
  const client = createHttpClient({})
  const { signal } = new AbortController()
  const get = { method: 'GET', url: server.url, signal } as const
  await client.send(get, limits)
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()

  // On the connection that was kept: whether that is a stale one is timed, too.
  await client.send(get, limits)

  assert.equal(server.heads.length, 2)
  assert.equal(getEventListeners(signal, 'abort').length, 0)
  assert.equal(timers(), before)
  client.close()
})

test('createHttpClient().send() opens at most 512 connections to one place', async () => {
  let open = 0
  await using server = await peer((_, socket, connection) => {
    open = Math.max(open, connection)
    setTimeout(() => socket.write(ok), 20)
  })
  const client = createHttpClient({})
  const long = { ...limits, deadlineMs: 30_000 }

  const replies = await Promise.all(
    Array.from({ length: 600 }, () => client.send({ method: 'GET', url: server.url }, long)),
  )

  assert.equal(replies.length, 600)
  assert.equal(open, 512)
  client.close()
})

test('createHttpClient().send() takes a body of exactly its cap, in chunks of one byte as well', async () => {
  await using server = await peer((_, socket, __, request) => {
    if (request === 1) return socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n${'x'.repeat(1000)}`)
    return socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(1000)}0\r\n\r\n`)
  })
  const client = createHttpClient({})

  for (const _ of ['length', 'chunks']) {
    const { body } = await client.send({ method: 'GET', url: server.url }, limits)
    assert.equal(body.toString(), 'x'.repeat(1000))
  }
  const bytes = Array.from({ length: 50_000 }, (_, at) => at % 251)
  await using large = await peer((_, socket) => {
    socket.end(Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), Buffer.from(bytes)]))
  })
  const { body } = await client.send({ method: 'GET', url: large.url }, { maxBodyBytes: 60_000, deadlineMs: 2000 })
  assert.deepEqual([...body], bytes)
  client.close()
})

test('createHttpClient().send() never follows a redirect: the target sees no request (SSRF)', async () => {
  await using target = await peer((_, socket) => socket.write(ok))
  await using server = await peer((_, socket) => {
    socket.write(`HTTP/1.1 302 Found\r\nLocation: ${target.url}\r\nContent-Length: 0\r\n\r\n`)
  })
  const client = createHttpClient({})

  const reply = await client.send({ method: 'GET', url: server.url }, limits)

  assert.equal(reply.status, 302)
  assert.equal(reply.header('location'), target.url)
  assert.equal(target.heads.length, 0)
  client.close()
})

test('createHttpClient().send() repeats a call, POST too, when a kept connection was closed under it', async () => {
  // Both kept connections are stale: the repeated call must not take the other one.
  const sockets: Socket[] = []
  await using server = await peer((_, socket, connection, request) => {
    if (request > 1) return socket.resetAndDestroy()
    sockets.push(socket)
    if (connection > 2) return socket.write(ok)
    if (sockets.length === 2) for (const waiting of sockets) waiting.write(ok)
    return undefined
  })
  const client = createHttpClient({})
  const get = { method: 'GET', url: server.url } as const
  await Promise.all([client.send(get, limits), client.send(get, limits)])

  const reply = await client.send({ method: 'POST', url: server.url, body: 'token=1' }, limits)

  assert.equal(reply.body.toString(), 'ok')
  assert.equal(server.heads.length, 4)
  client.close()
})

test('createHttpClient().send() has the system ask whether a peer that is silent is still there, after a call was repeated, too', {
  skip: process.platform !== 'linux' && 'only Linux shows its timers',
}, async () => {
  const silent: Socket[] = []
  await using server = await peer((_, socket) => {
    if (server.heads.length === 1) socket.write(ok)
    else if (server.heads.length === 2) socket.resetAndDestroy()
    else silent.push(socket)
  })
  const client = createHttpClient({})
  const get = { method: 'GET', url: server.url } as const
  await client.send(get, limits)

  const repeated = failsWith('reset', client.send(get, limits))
  await until(() => silent.length === 1, 'the call that was repeated')
  const another = failsWith('reset', client.send(get, limits))
  await until(() => silent.length === 2, 'another one')

  for (const socket of silent) await until(() => timerOf(socket) === 2, 'the timer')
  client.close()
  await Promise.all([repeated, another])
})

test('createHttpClient().send() repeats a call that could not be written since the kept connection was closed', async () => {
  const kept: Socket[] = []
  await using server = await peer((_, socket) => {
    kept.push(socket)
    socket.write(ok)
  })
  const client = createHttpClient({})
  const get = { method: 'GET', url: server.url } as const
  await client.send(get, limits)

  // Its end first: then the reset is told to our writing, and not to our reading (EPIPE).
  const again = await new Promise<Promise<{ readonly status: number }>[]>((resolve) =>
    kept[0]?.end(() => {
      kept[0]?.resetAndDestroy()
      resolve([client.send(get, limits)])
    }),
  )

  assert.equal((await again[0])?.status, 200)
  assert.equal(kept.length, 2)
  client.close()
})

test('createHttpClient().send() repeats once, not twice', async () => {
  await using server = await peer((_, socket, connection) => {
    if (server.heads.length === 1) socket.write(ok)
    else socket.resetAndDestroy()
    assert.ok(connection <= 2)
  })
  const client = createHttpClient({})
  await client.send({ method: 'GET', url: server.url }, limits)

  await failsWith('reset', client.send({ method: 'GET', url: server.url }, limits))

  assert.equal(server.heads.length, 3)
  client.close()
})

test('createHttpClient().send() does not repeat once a byte of the answer came, nor on a first connection', async () => {
  await using server = await peer((_, socket, __, request) => {
    if (request === 1) return socket.write(ok)
    socket.write('HTTP/1.1 200')
    return setTimeout(() => socket.resetAndDestroy(), 10)
  })
  const client = createHttpClient({})
  await client.send({ method: 'GET', url: server.url }, limits)

  await failsWith('reset', client.send({ method: 'GET', url: server.url }, limits))

  assert.equal(server.heads.length, 2)
  client.close()
})

test('createHttpClient().send() does not repeat what a kept connection had taken for over a second: that was read', async () => {
  await using server = await peer((_, socket, __, request) => {
    if (request === 1) return socket.write(ok)
    return setTimeout(() => socket.resetAndDestroy(), 1300)
  })
  const client = createHttpClient({})
  const get = { method: 'GET', url: server.url } as const
  await client.send(get, limits)

  await failsWith('reset', client.send(get, { ...limits, deadlineMs: 5000 }))

  assert.equal(server.heads.length, 2)
  client.close()
})

test('createHttpClient().send() has one deadline for both tries', async () => {
  await using server = await peer((_, socket) => {
    if (server.heads.length === 1) socket.write(ok)
    else if (server.heads.length === 2) setTimeout(() => socket.resetAndDestroy(), 150)
  })
  const client = createHttpClient({})
  await client.send({ method: 'GET', url: server.url }, limits)
  const startedMs = performance.now()

  await failsWith('timeout', client.send({ method: 'GET', url: server.url }, { maxBodyBytes: 10, deadlineMs: 300 }))

  assert.equal(server.heads.length, 3)
  assert.ok(performance.now() - startedMs < 430)
  client.close()
})

/** The sockets this process opens while the work runs. */
async function socketsOf(work: () => Promise<unknown>): Promise<Socket[]> {
  const sockets: Socket[] = []
  const record = (message: unknown) => sockets.push((message as { socket: Socket }).socket) // as the channel documents
  subscribe('net.client.socket', record)
  try {
    await work()
  } finally {
    unsubscribe('net.client.socket', record)
  }
  return sockets
}

const idle = [
  { header: '', ms: 4000 },
  { header: 'Keep-Alive: timeout=3\r\n', ms: 2000 }, // Node takes off a second for the way there
]
for (const { header, ms } of idle) {
  test(`createHttpClient().send() keeps an idle connection for ${ms} ms after ${JSON.stringify(header)}`, async () => {
    await using server = await peer((_, socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${header}Content-Length: 2\r\n\r\nok`)
    })
    const client = createHttpClient({})

    const [socket] = await socketsOf(() => client.send({ method: 'GET', url: server.url }, limits))
    await nextTick()

    assert.equal(socket?.timeout, ms)
    client.close()
  })
}

test('createHttpClient().send() tries a refused port twice, then fails as connect', async () => {
  const closed = await peer(() => {})
  await closed[Symbol.asyncDispose]()
  const client = createHttpClient({})

  const sockets = await socketsOf(async () => {
    const failure = await failsWith('connect', client.send({ method: 'GET', url: closed.url }, limits))
    assert.equal(failure.message, `Cannot GET http://127.0.0.1:${closed.port}/jwks: ECONNREFUSED`)
  })

  assert.equal(sockets.length, 2)
  client.close()
})

test('createHttpClient().close() leaves no call to be repeated', async () => {
  const closed = await peer(() => {})
  await closed[Symbol.asyncDispose]()
  const client = createHttpClient({})

  const sockets = await socketsOf(async () => {
    // Once the call has heard of it: it listens two ticks later. The message is as the channel documents.
    const closeThen = (message: unknown) =>
      void process.nextTick(() =>
        process.nextTick(() => (message as { socket: Socket }).socket.once('error', () => client.close())),
      )
    subscribe('net.client.socket', closeThen)
    await failsWith('connect', client.send({ method: 'GET', url: closed.url }, limits))
    unsubscribe('net.client.socket', closeThen)
  })

  assert.equal(sockets.length, 1)
})

test('createHttpClient().close() ends calls under way and waiting, and refuses later ones', async () => {
  await using server = await peer(() => {})
  const client = createHttpClient({})
  const long = { ...limits, deadlineMs: 30_000 }
  const sending = Array.from({ length: 520 }, () =>
    failsWith('reset', client.send({ method: 'GET', url: server.url }, long)),
  )
  while (server.heads.length < 512) await new Promise((resolve) => setTimeout(resolve, 5))

  client.close()

  await Promise.all(sending)
  await failsWith('connect', client.send({ method: 'GET', url: server.url }, limits))
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(server.heads.length, 512)
})

test('createHttpClient() trusts a CA it was given beside the default ones, for its names only, and nothing else', {
  skip: skipWithoutOpenssl,
}, async () => {
  using ours = createAuthority()
  using others = createAuthority()
  const { ca } = ours
  const { cert, key } = ours.issue('leaf', { names: 'IP:127.0.0.1' })
  let answered = 0
  const server = createTlsServer({ key, cert }, (request, response) => {
    answered += 1
    // The second call comes on the kept connection: the repeated one must be verified, and trusted, as well.
    if (answered === 2) request.socket.destroy()
    else response.end('ok')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a host and a port
  const [trusting, plain] = [createHttpClient({ ca }), createHttpClient({})]
  const get = (host: string) => ({ method: 'GET', url: `https://${host}:${port}/` }) as const

  assert.equal((await trusting.send(get('127.0.0.1'), limits)).body.toString(), 'ok')
  assert.equal((await trusting.send(get('127.0.0.1'), limits)).body.toString(), 'ok')
  assert.equal(answered, 3)
  const unknown = await failsWith('connect', plain.send(get('127.0.0.1'), limits))
  assert.match(unknown.message, /UNABLE_TO_VERIFY_LEAF_SIGNATURE$/)
  const misnamed = await failsWith('connect', trusting.send(get('localhost'), limits))
  assert.match(misnamed.message, /ERR_TLS_CERT_ALTNAME_INVALID$/)
  assert.equal(answered, 3)
  const tunnels: string[] = []
  const egress = createServer()
  egress.on('connect', (request, socket) => {
    tunnels.push(request.url ?? '')
    const through = connect(port, '127.0.0.1')
    socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
    socket.pipe(through).pipe(socket)
    socket.on('error', () => through.destroy())
    through.on('error', () => socket.destroy())
  })
  egress.listen(0, '127.0.0.1')
  await once(egress, 'listening')
  const egressPort = (egress.address() as AddressInfo).port // it listens on a host and a port
  const tunnelled = createHttpClient({ ca, proxy: `http://127.0.0.1:${egressPort}` })
  assert.equal((await tunnelled.send(get('127.0.0.1'), limits)).body.toString(), 'ok')
  const misnamedToo = await failsWith('connect', tunnelled.send(get('localhost'), limits))
  assert.match(misnamedToo.message, /ERR_TLS_CERT_ALTNAME_INVALID$/)
  assert.deepEqual(tunnels, [`127.0.0.1:${port}`, `localhost:${port}`])
  tunnelled.close()
  egress.close()
  egress.closeAllConnections()
  const roots = getCACertificates('default')
  setDefaultCACertificates([ca])
  const beside = createHttpClient({ ca: others.ca })
  assert.equal((await beside.send(get('127.0.0.1'), limits)).status, 200)
  setDefaultCACertificates(roots)

  for (const client of [trusting, plain, beside]) client.close()
  server.close()
  server.closeAllConnections()
})

test('createHttpClient() asks a proxy for a plain http URL, and connects to nobody else', async () => {
  const targets: string[] = []
  const egress = createServer((request, response) => {
    targets.push(`${request.method} ${request.url}`)
    response.end('through')
  })
  egress.listen(0, '127.0.0.1')
  await once(egress, 'listening')
  const { port } = egress.address() as AddressInfo // it listens on a host and a port
  const client = createHttpClient({ proxy: `http://127.0.0.1:${port}` })

  const reply = await client.send({ method: 'GET', url: 'http://issuer.invalid/jwks?a=b' }, limits)

  assert.equal(reply.body.toString(), 'through')
  assert.deepEqual(targets, ['GET http://issuer.invalid/jwks?a=b'])
  client.close()
  egress.close()
  egress.closeAllConnections()
})
