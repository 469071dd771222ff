import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectSession } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import { after, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { connect as connectTls } from 'node:tls'
import { limitsOptions, serverLimits } from '../../src/gates/options.ts'
import type { TlsMaterial } from '../../src/gates/tls.ts'
import { createTlsGate, vetTlsMaterial } from '../../src/gates/tls.ts'
import type { Authority } from '../support/certificates.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { askTls } from '../support/tls-client.ts'
import { until } from '../support/until.ts'
import { openDoor, openUpstream, talk } from './door.ts'

const statusOf = (answer: string) => Number(answer.split(' ', 2)[1])

/** A door with TLS to an upstream that says what it was told of the client. */
async function openTlsDoor(
  material: TlsMaterial,
  clientCertificate: 'none' | 'optional' | 'required' = 'none',
  limits: Readonly<Record<string, string>> = {},
  http2 = true,
  maxBytes = Number.POSITIVE_INFINITY,
) {
  const upstream = await openUpstream((request, response) => {
    response.end(`${request.headers['x-forwarded-proto']} ${request.headers['x-forwarded-for']}`)
  })
  const it = await openDoor(upstream.port, undefined, {
    tls: { material, clientCertificate },
    limits: serverLimits(limitsOptions.parse(limits)),
    http2,
    maxBytes,
  })
  return {
    ...it,
    port: it.door.port,
    droppedFor: (cause: 'tls' | 'client_certificate' | 'timeout' | 'crowded' | 'memory') =>
      it.door.dropped().get(cause),
    async [Symbol.asyncDispose]() {
      await it[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

describe('openFrontDoor() with TLS', { skip: skipWithoutOpenssl }, () => {
  const made: Authority[] = []
  const authority = () => {
    const it = createAuthority()
    made.push(it)
    return it
  }
  after(() => {
    for (const each of made) each[Symbol.dispose]()
  })
  const ours = authority()
  const strange = authority()
  const server = { ...ours.issue('server'), clientCa: undefined }
  const wanting = { ...server, clientCa: ours.ca }
  const { ca } = ours

  test('serves HTTP/1.1 by TLS 1.3, and says https to the upstream', async () => {
    await using it = await openTlsDoor(server)

    const { answer, protocol, alpn } = await askTls(it.port, { ca, ALPNProtocols: ['http/1.1', 'h3'] })

    assert.equal(statusOf(answer), 200)
    assert.match(answer, /https 127\.0\.0\.1/)
    assert.deepEqual({ protocol, alpn }, { protocol: 'TLSv1.3', alpn: 'http/1.1' })
  })

  test('counts more memory for a connection by TLS than for one in the clear', async () => {
    // Of nearly two.
    await using it = await openTlsDoor(server, 'none', {}, true, 2 * 67_584 - 1)
    const first = connect(it.port, '127.0.0.1').on('error', () => {})
    await until(() => it.door.connections() === 1, 'the first')

    assert.equal(await talk(it.port, '', 1000), '')

    assert.equal(it.droppedFor('memory'), 1)
    first.destroy()
  })

  test('serves HTTP/2 to who offers it, and says https to the upstream', async () => {
    await using it = await openTlsDoor(server)
    const session = connectSession(`https://127.0.0.1:${it.port}`, { ca, ALPNProtocols: ['http/1.1', 'h2'] })
    const stream = session.request({ ':path': '/a' })
    stream.setEncoding('utf8')

    const [head] = (await once(stream, 'response')) as [{ ':status': number }]
    const [text] = await once(stream, 'data')

    assert.equal(head[':status'], 200)
    assert.match(text, /^https 127\.0\.0\.1/)
    assert.equal(session.alpnProtocol, 'h2')
    assert.equal(it.door.connections(), 1)
    session.destroy()
    await until(() => it.door.connections() === 0, 'nobody to be connected')
  })

  test('without HTTP/2 agrees on HTTP/1.1, and who insists on HTTP/2 is refused', async () => {
    await using it = await openTlsDoor(server, 'none', {}, false)

    const { answer, alpn } = await askTls(it.port, { ca, ALPNProtocols: ['h2', 'http/1.1'] })

    assert.equal(statusOf(answer), 200)
    assert.equal(alpn, 'http/1.1')
    assert.notEqual((await askTls(it.port, { ca, ALPNProtocols: ['h2'] })).error, undefined)
  })

  for (const rsa of [false, true]) {
    test(`serves TLS 1.2 with an ${rsa ? 'RSA' : 'EC'} key and a cipher with forward secrecy`, async () => {
      await using it = await openTlsDoor({ ...ours.issue('server', { rsa }), clientCa: undefined })

      const { answer, protocol } = await askTls(it.port, { ca, maxVersion: 'TLSv1.2' })

      assert.equal(statusOf(answer), 200)
      assert.equal(protocol, 'TLSv1.2')
    })
  }

  const refusedHandshakes: readonly { offer: ConnectionOptions; because: string }[] = [
    { offer: { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }, because: 'TLS 1.1' },
    { offer: { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA256' }, because: 'a cipher without forward secrecy' },
    { offer: { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256' }, because: 'a cipher in CBC mode' },
    { offer: { ALPNProtocols: ['smtp'] }, because: 'another protocol by ALPN' },
  ]
  for (const { offer, because } of refusedHandshakes) {
    test(`refuses ${because}, counts it, and serves the next`, async () => {
      await using it = await openTlsDoor(server)

      const { answer, error } = await askTls(it.port, { ca, ...offer })

      assert.equal(answer, '')
      assert.notEqual(error, undefined)
      await until(() => it.droppedFor('tls') === 1, 'it to be counted')
      assert.equal(statusOf((await askTls(it.port, { ca })).answer), 200)
      assert.deepEqual(it.failures, [])
    })
  }

  test('closes on plain HTTP and on garbage, counts both, and decides nothing', async () => {
    await using it = await openTlsDoor(server)

    const plain = await it.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n', 2000)
    await it.send(Buffer.from('\x16\x03\x01\xff\xffgarbage'), 500)

    assert.doesNotMatch(plain, /HTTP/)
    await until(() => it.droppedFor('tls') === 2, 'it to be counted')
    assert.deepEqual(it.decisions, [])
    assert.deepEqual(it.failures, [])
    assert.equal(it.door.connections(), 0)
  })

  test('counts nothing for a client that connects and leaves, as a balancer that looks', async () => {
    await using it = await openTlsDoor(server)
    const socket = connect(it.port, '127.0.0.1')
    await once(socket, 'connect')
    await until(() => it.door.connections() === 1, 'the connection')

    socket.destroy()

    await until(() => it.door.connections() === 0, 'nobody to be connected')
    assert.deepEqual(
      [...it.door.dropped().values()].filter((count) => count > 0),
      [],
    )
  })

  test('gives handshake and head together head_timeout, from the accepting on', async () => {
    await using it = await openTlsDoor(server, 'none', { head_timeout: '4s' })
    const silent = connect(it.port, '127.0.0.1')
    const sentMs = performance.now()
    silent.resume()
    const { promise, resolve } = Promise.withResolvers<void>()
    const slow = connect(it.port, '127.0.0.1')
    await once(slow, 'connect')
    // Through in time, and then no head: a second clock would give it a second more.
    setTimeout(() => {
      void askTls(slow, { ca }, 'GET /a HT').then(() => resolve())
    }, 2000)

    await once(silent, 'close')
    await promise

    // With a clock of its own the head would have until 6 s.
    assert.ok(performance.now() - sentMs < 5900, `${performance.now() - sentMs} ms`)
    assert.equal(it.droppedFor('timeout'), 2)
    await until(() => it.door.connections() === 0, 'nobody to be connected')
  })

  for (const { maxBytes, waits } of [
    { maxBytes: Number.POSITIVE_INFINITY, waits: 1024 },
    { maxBytes: 80 * 524_288, waits: 80 },
    { maxBytes: 8 * 1_048_576, waits: 64 },
  ])
    test(`lets go of who has waited longest when ${waits} wait, where all may have ${maxBytes} bytes`, async () => {
      await using it = await openTlsDoor(server, 'none', {}, true, maxBytes)
      const sockets: Socket[] = []
      const closed: Promise<unknown>[] = []
      // Not all at once: whom the kernel's queue has no room for tries again in a second, and later.
      while (sockets.length < waits + 1) {
        const batch = Array.from({ length: Math.min(100, waits + 1 - sockets.length) }, () =>
          connect(it.port, '127.0.0.1'),
        )
        for (const socket of batch) {
          socket.resume()
          socket.on('error', () => {})
          closed.push(once(socket, 'close'))
        }
        sockets.push(...batch)
        await Promise.all(batch.map((socket) => once(socket, 'connect')))
      }

      await Promise.race(closed)

      assert.equal(it.droppedFor('crowded'), 1)
      assert.equal(statusOf((await askTls(it.port, { ca })).answer), 200)
      for (const socket of sockets) socket.destroy()
      await until(() => it.door.connections() === 0, 'nobody to be connected')
    })

  test('shows another certificate once told, and keeps who is in', async () => {
    await using it = await openTlsDoor(server)
    const kept = askTls(it.port, { ca }, 'GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n')
    await until(() => it.exchanges.length === 1, 'the answer')

    it.door.useTls({ ...ours.issue('renewed'), clientCa: undefined })

    assert.equal((await askTls(it.port, { ca })).shown, 'renewed')
    it.door.close()
    assert.equal((await kept).shown, 'server')
  })

  test('survives greetings that are cut, turned and made up', async () => {
    await using it = await openTlsDoor(wanting, 'optional', { head_timeout: '1s' })
    const greeting = await greetingOf({ ca })
    const sent = Array.from({ length: 200 }, (_, at) => {
      const bytes = Buffer.from(greeting)
      // Another byte each time, then another length; the first ones are the record's own.
      bytes[(at * 7) % bytes.length] = (at * 37) & 255
      return at % 3 === 0 ? bytes.subarray(0, 1 + ((at * 11) % bytes.length)) : bytes
    })

    await Promise.all(sent.map((bytes) => talk(it.port, bytes, 100)))

    await until(() => it.door.connections() === 0, 'nobody to be connected')
    assert.deepEqual(it.failures, [])
    assert.deepEqual(it.decisions, [])
    assert.ok((it.droppedFor('tls') ?? 0) > 50)
    assert.equal(statusOf((await askTls(it.port, { ca })).answer), 200)
  })

  test('renegotiates nothing', async () => {
    await using it = await openTlsDoor(server)
    const socket = connectTls({ host: '127.0.0.1', port: it.port, ca, maxVersion: 'TLSv1.2' })
    await once(socket, 'secureConnect')
    const { promise, resolve } = Promise.withResolvers<Error | null>()

    socket.on('error', resolve)
    socket.renegotiate({}, resolve)

    assert.match(String(await promise), /no.renegotiation/i)
    socket.destroy()
    assert.equal(statusOf((await askTls(it.port, { ca })).answer), 200)
  })

  test('drain() closes who connects and says nothing', async () => {
    await using it = await openTlsDoor(server)
    const socket = connect(it.port, '127.0.0.1')
    socket.resume()
    const closed = once(socket, 'close')
    await until(() => it.door.connections() === 1, 'the connection')

    await it.door.drain()

    await closed
    assert.equal(it.door.connections(), 0)
  })

  const certificates = [
    { mode: 'required', shown: 'a good one', client: ours.issue('client'), served: true },
    { mode: 'required', shown: 'none', client: undefined, served: false },
    { mode: 'required', shown: "another CA's", client: strange.issue('client'), served: false },
    { mode: 'required', shown: 'an expired one', client: ours.issue('client', { days: -1 }), served: false },
    { mode: 'optional', shown: 'a good one', client: ours.issue('client'), served: true },
    { mode: 'optional', shown: 'none', client: undefined, served: true },
    { mode: 'optional', shown: "another CA's", client: strange.issue('client'), served: false },
    { mode: 'optional', shown: 'an expired one', client: ours.issue('client', { days: -1 }), served: false },
  ] as const
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    for (const { mode, shown, client, served } of certificates) {
      test(`${served ? 'serves' : 'refuses'} ${shown} where a client certificate is ${mode}, by ${maxVersion}`, async () => {
        await using it = await openTlsDoor(wanting, mode)

        const { answer } = await askTls(it.port, { ca, maxVersion, ...client })

        assert.equal(statusOf(answer), served ? 200 : Number.NaN)
        if (!served) await until(() => it.droppedFor('client_certificate') === 1, 'it to be counted')
        assert.equal(it.decisions.length, served ? 1 : 0)
      })
    }
  }

  test('asks for no certificate where none is wanted, and takes no word of one', async () => {
    await using it = await openTlsDoor(server)

    assert.equal(statusOf((await askTls(it.port, { ca, ...strange.issue('client') })).answer), 200)
  })

  test('asks for a certificate where one is wanted only: a browser would bother its user with it', async () => {
    for (const clientCertificate of ['none', 'optional'] as const) {
      const gate = createTlsGate({ material: wanting, clientCertificate, protocols: ['http/1.1'], handshakeMs: 5000 })
      const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>()
      const listener = createServer((socket) => {
        gate.greet(socket, { secured: ({ socket: inner }) => resolve(inner), failed: reject })
      }).listen(0, '127.0.0.1')
      await once(listener, 'listening')
      const { port } = listener.address() as AddressInfo // it listens on a port
      const client = connectTls({ host: '127.0.0.1', port, ca, ...ours.issue('client') })

      const inner = await promise

      assert.equal(inner.getPeerX509Certificate() !== undefined, clientCertificate === 'optional', clientCertificate)
      client.destroy()
      inner.destroy()
      listener.close()
    }
  })

  test('resumes no session where it asks for certificates', async () => {
    for (const { mode, reused } of [
      { mode: 'none', reused: true },
      { mode: 'optional', reused: false },
    ] as const) {
      await using it = await openTlsDoor(mode === 'none' ? server : wanting, mode)
      const { resumed } = await resume(it.port)
      assert.equal(resumed, reused, mode)
    }
  })

  /** The first thing a client says. */
  async function greetingOf(options: ConnectionOptions): Promise<Buffer> {
    const listener = createServer().listen(0, '127.0.0.1')
    await once(listener, 'listening')
    const { port } = listener.address() as AddressInfo // it listens on a port
    const client = connectTls({ host: '127.0.0.1', port, ...options }).on('error', () => {})
    const [socket] = (await once(listener, 'connection')) as [Socket] // so the event says
    const [bytes] = (await once(socket, 'data')) as [Buffer]
    socket.on('error', () => {})
    socket.destroy()
    client.destroy()
    listener.close()
    return bytes
  }

  /** Comes twice, the second time with what it was given the first time. */
  async function resume(port: number): Promise<{ resumed: boolean }> {
    const client = ours.issue('client')
    let session: Buffer | undefined
    let resumed = false
    for (let at = 0; at < 2; at += 1) {
      const socket = connectTls({
        host: '127.0.0.1',
        port,
        ca,
        ...client,
        ...(session === undefined ? {} : { session }),
      })
      socket.on('session', (given) => {
        session = given
      })
      await once(socket, 'secureConnect')
      resumed = socket.isSessionReused()
      socket.write('GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
      socket.resume()
      await once(socket, 'close')
    }
    return { resumed }
  }

  test('vetTlsMaterial() tells a pair that does not belong together, and what is no PEM', () => {
    const another = ours.issue('another')

    assert.equal(vetTlsMaterial(server), undefined)
    assert.match(vetTlsMaterial({ ...server, key: another.key }) ?? '', /KEY_VALUES_MISMATCH/)
    assert.match(vetTlsMaterial({ ...server, key: '' }) ?? '', /holds no private key/)
  })

  // Node takes an empty `ca` for none, and then every public CA may sign a client's certificate; other text it passes over.
  const cut = (pem: string) => `${pem.slice(0, 200)}\n-----END CERTIFICATE-----\n`
  for (const [what, pem] of [
    ['nothing', ''],
    ['no PEM', 'none'],
    ['one that is cut', cut(ours.ca)],
    ['one that is cut after a good one', ours.ca + cut(strange.ca)],
    ['a key', server.key],
  ] as const)
    test(`vetTlsMaterial() refuses certificates and client_ca that hold ${what}`, () => {
      assert.match(vetTlsMaterial({ ...server, cert: pem }) ?? '', /^cert: /)
      assert.match(vetTlsMaterial({ ...server, clientCa: pem }) ?? '', /^client_ca: /)
    })
})

test('openFrontDoor() drops a connection that is one too many, and counts it', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('ok'))
  await using it = await openDoor(upstream.port, undefined, { maxConnections: 1 })
  const first = connect(it.door.port, '127.0.0.1')
  await until(() => it.door.connections() === 1, 'the connection')

  assert.equal(await talk(it.door.port, 'GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n', 1000), '')

  assert.equal(it.door.dropped().get('limit'), 1)
  first.destroy()
  await sleep(0)
})
