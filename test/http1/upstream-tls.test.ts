import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer as createTcpServer } from 'node:net'
import { after, test } from 'node:test'
import type { TLSSocket, TlsOptions } from 'node:tls'
import { createServer } from 'node:tls'
import type { UpstreamMaterial } from '../../src/app/upstream/upstream-files.ts'
import { createUpstreamContext } from '../../src/app/upstream/upstream-files.ts'
import type { Endpoint } from '../../src/http1/places.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import type { Authority, Certificate } from '../support/certificates.ts'
import { createAuthority, skipWithoutOpenssl as skip } from '../support/certificates.ts'
import { until } from '../support/until.ts'
import { ask, ok, openPool } from './upstream-peer.ts'

type World = {
  readonly good: Authority
  readonly other: Authority
  readonly app: Certificate
  readonly us: Certificate
}

let made: World | undefined
after(() => {
  made?.good[Symbol.dispose]()
  made?.other[Symbol.dispose]()
})

/** Two authorities; made once, because every key costs a process. */
function world(): World {
  if (made !== undefined) return made
  const good = createAuthority()
  made = {
    good,
    other: createAuthority(),
    app: good.issue('app', { names: 'DNS:app.test,IP:127.0.0.1' }),
    us: good.issue('us', { names: 'DNS:gateway.test' }),
  }
  return made
}

/** A TLS upstream, and how each of its connections came to be. */
async function openSecure(options: TlsOptions): Promise<
  AsyncDisposable & {
    readonly port: number
    readonly seen: { name: string; reused: boolean; alpn: unknown; protocol: unknown; by: string }[]
    /** What connections broke with. */
    readonly broken: readonly (string | undefined)[]
  }
> {
  const seen: { name: string; reused: boolean; alpn: unknown; protocol: unknown; by: string }[] = []
  const broken: (string | undefined)[] = []
  const sockets = new Set<TLSSocket>()
  const server = createServer({ ALPNProtocols: ['http/1.1', 'h2'], ...options }, (socket) => {
    sockets.add(socket)
    seen.push({
      name: String((socket as TLSSocket & { servername?: unknown }).servername), // of the SNI
      reused: socket.isSessionReused(),
      alpn: socket.alpnProtocol,
      protocol: socket.getProtocol(),
      by: socket.getPeerCertificate().subject?.CN?.toString() ?? '',
    })
    socket.on('error', (error: NodeJS.ErrnoException) => broken.push(error.code))
    socket.on('data', () => socket.write(ok))
  })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port, // it listens on a port
    seen,
    broken,
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

function endpointTo(port: number, material: Partial<UpstreamMaterial>, name: string): Endpoint {
  const context = createUpstreamContext({ ca: undefined, cert: undefined, key: undefined, ...material })
  return {
    name: 'app',
    open: createSocketOpener({ host: '127.0.0.1', port }, { context: () => context, name }, 'http1'),
  }
}

test('createSocketOpener() asks for the name by SNI and for http/1.1 by ALPN, and is content with its certificate', {
  skip,
}, async () => {
  const { good, app } = world()
  await using upstream = await openSecure(app)
  using pool = openPool([endpointTo(upstream.port, { ca: good.ca }, 'app.test')])

  assert.equal(await ask(pool).outcome, 'end')

  assert.deepEqual(upstream.seen, [{ name: 'app.test', reused: false, alpn: 'http/1.1', protocol: 'TLSv1.3', by: '' }])
})

test('createSocketOpener() opens what can be reset: to end each HEAD by TLS would cost a port for a minute', {
  skip,
}, async () => {
  const { good, app } = world()
  await using upstream = await openSecure(app)
  using pool = openPool([endpointTo(upstream.port, { ca: good.ca }, 'app.test')])

  for (let at = 0; at < 3; at += 1) assert.equal(await ask(pool, { method: 'HEAD' }).outcome, 'end')

  await until(() => upstream.broken.length === 3, 'the resets')
  assert.deepEqual([...new Set(upstream.broken)], ['ECONNRESET'])
})

test('createSocketOpener() opens what closes for good where both ends do: of a hundred HEADs no descriptor is left', {
  skip,
}, async () => {
  const { good, app } = world()
  // In a process of its own: what it says and its end are read together.
  const server = `
    const [cert, key] = process.argv.slice(1).map((file) => require('node:fs').readFileSync(file))
    const server = require('node:tls').createServer({ cert, key }, (socket) => {
      socket.on('error', () => {})
      socket.on('data', () => socket.end('HTTP/1.1 200 OK\\r\\nContent-Type: a/b\\r\\n\\r\\n'))
    })
    server.listen(0, '127.0.0.1', () => console.log(server.address().port))`
  const upstream = spawn(process.execPath, ['-e', server, app.certFile, app.keyFile], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [port] = await once(upstream.stdout, 'data', { signal: AbortSignal.timeout(20_000) })
    using pool = openPool([endpointTo(Number(port), { ca: good.ca }, 'app.test')])
    const descriptors = () => readdirSync('/proc/self/fd').length
    const before = descriptors()

    for (let at = 0; at < 100; at += 1) assert.equal(await ask(pool, { method: 'HEAD' }).outcome, 'end')

    await until(() => descriptors() <= before + 2, 'the descriptors')
  } finally {
    upstream.kill()
  }
})

test('createSocketOpener() takes an address for the name of a certificate that is for it, without SNI', {
  skip,
}, async () => {
  const { good, app } = world()
  await using upstream = await openSecure(app)
  using pool = openPool([endpointTo(upstream.port, { ca: good.ca }, '127.0.0.1')])

  assert.equal(await ask(pool).outcome, 'end')

  assert.equal(upstream.seen[0]?.name, 'false')
})

const untrusted = [
  { what: 'is for another name', name: 'other.test', ca: 'good', options: {} },
  { what: 'is for another address', name: '127.0.0.2', ca: 'good', options: {} },
  { what: 'is by an authority we do not trust', name: 'app.test', ca: 'other', options: {} },
  { what: 'is by an authority nobody knows', name: 'app.test', ca: undefined, options: {} },
  {
    what: 'comes by TLS 1.1',
    name: 'app.test',
    ca: 'good',
    options: { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' },
  },
] as const
for (const { what, name, ca, options } of untrusted) {
  test(`createSocketOpener() sends nothing to an upstream whose certificate ${what}`, { skip }, async () => {
    const all = world()
    await using upstream = await openSecure({ ...all.app, ...options, ALPNProtocols: ['http/1.1'] })
    using pool = openPool([endpointTo(upstream.port, { ca: ca && all[ca].ca }, name)])

    const asked = ask(pool)

    assert.equal(await asked.outcome, 'connect')
    assert.equal(asked.opened(), 0)
  })
}

test('createSocketOpener() shows our certificate to an upstream that wants one, and without it is not let in', {
  skip,
}, async () => {
  const { good, app, us } = world()
  await using upstream = await openSecure({ ...app, ca: good.ca, requestCert: true, rejectUnauthorized: true })
  using known = openPool([endpointTo(upstream.port, { ca: good.ca, cert: us.cert, key: us.key }, 'app.test')])
  using unknown = openPool([endpointTo(upstream.port, { ca: good.ca }, 'app.test')])

  assert.equal(await ask(known).outcome, 'end')
  assert.notEqual(await ask(unknown, { method: 'POST', repeatable: false }).outcome, 'end')

  assert.deepEqual(
    upstream.seen.map(({ by }) => by),
    ['us'],
  )
})

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`createSocketOpener() resumes the last session of ${version}, as long as the files are the same`, {
    skip,
  }, async () => {
    const { good, app } = world()
    await using upstream = await openSecure({ ...app, minVersion: version, maxVersion: version })
    let context = createUpstreamContext({ ca: good.ca, cert: undefined, key: undefined })
    const tls = { context: () => context, name: 'app.test' }
    const open = createSocketOpener({ host: '127.0.0.1', port: upstream.port }, tls, 'http1')
    using pool = openPool([{ name: 'app', open }], { keepAliveMs: 0 })
    await ask(pool).outcome
    await ask(pool).outcome

    context = createUpstreamContext({ ca: good.ca, cert: undefined, key: undefined })
    await ask(pool).outcome
    await ask(pool).outcome

    assert.deepEqual(
      upstream.seen.map(({ reused }) => reused),
      [false, true, false, true],
    )
  })
}

test('createSocketOpener() keeps no session of an upstream whose certificate was not good', { skip }, async () => {
  const { good, app } = world()
  await using upstream = await openSecure({ ...app, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })
  using pool = openPool([endpointTo(upstream.port, { ca: good.ca }, 'other.test')], { keepAliveMs: 0 })

  for (let at = 0; at < 4; at += 1) assert.equal(await ask(pool).outcome, 'connect')
})

test('createUpstreamConnection() counts the handshake to the time for a connection', { skip }, async () => {
  const { good } = world()
  const silent = createTcpServer((socket) => void socket.on('error', () => {}))
  let accepted = 0
  silent.on('connection', () => {
    accepted += 1
  })
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo // it listens on a port
  using pool = openPool([endpointTo(port, { ca: good.ca }, 'app.test')], { connectMs: 2000 })
  const asked = ask(pool)
  await until(() => accepted === 1, 'the connection')

  pool.time.pass(1999)
  assert.equal(asked.isOver(), false)
  pool.time.pass(1)
  await until(() => accepted === 2, 'the second connection')
  pool.time.pass(2000)

  assert.equal(await asked.outcome, 'connect')
  silent.close()
})
