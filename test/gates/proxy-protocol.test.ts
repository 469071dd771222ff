// The PROXY protocol at the front door, spoken by these tests and by HAProxy.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FrontDoorOptions } from '../../src/gates/front-door.ts'
import { limitsOptions, serverLimits } from '../../src/gates/options.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { freePort } from '../support/free-port.ts'
import { header2, ipv4 } from '../support/proxy-header.ts'
import { askTls } from '../support/tls-client.ts'
import { settle, until } from '../support/until.ts'
import { openDoor, openUpstream, talk } from './door.ts'

const get = (path: string, lines = '') => `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${lines}Connection: close\r\n\r\n`
const statusOf = (answer: string) => Number(answer.split(' ', 2)[1])
const line1 = 'PROXY TCP4 203.0.113.7 127.0.0.1 5 80\r\n'

/** A door that wants headers, to an upstream that says what it was told of the client. */
async function openProxyDoor(options: Partial<FrontDoorOptions> = {}) {
  const upstream = await openUpstream((request, response) => {
    response.end(`<${request.headers['x-forwarded-for']}>`)
  })
  const it = await openDoor(upstream.port, undefined, { proxyProtocol: true, ...options })
  return {
    ...it,
    port: it.door.port,
    async [Symbol.asyncDispose]() {
      await it[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

test('createHall() counts who has not come to a first request among the connections that there may be', async () => {
  await using it = await openProxyDoor({ maxConnections: 1 })
  const silent = connect(it.port, '127.0.0.1')
  await until(() => it.door.connections() === 1, 'the first connection')

  assert.equal(await talk(it.port, line1 + get('/a'), 2000), '')

  assert.equal(it.door.dropped().get('limit'), 1)
  silent.destroy()
})

test('createEntrance() leaves the room of who was closed before a first request to others', async () => {
  await using it = await openProxyDoor({ maxBytes: 16_384 })

  for (let at = 0; at < 2; at += 1) assert.equal(await talk(it.port, 'no header at all\r\n', 2000), '')

  assert.equal(statusOf(await talk(it.port, line1 + get('/a'), 2000)), 200)
  assert.equal(it.door.dropped().get('memory'), 0)
})

const told = [
  { header: Buffer.from(line1), address: '203.0.113.7' },
  { header: Buffer.from('PROXY TCP6 2001:db8::7 ::1 5 80\r\n'), address: '2001:db8::7' },
  { header: Buffer.from('PROXY UNKNOWN\r\n'), address: '127.0.0.1' },
  { header: ipv4([203, 0, 113, 8]), address: '203.0.113.8' },
  { header: header2({ command: 0x20, family: 0 }), address: '127.0.0.1' },
]
for (const { header, address } of told) {
  test(`openFrontDoor() takes ${address} from ${JSON.stringify(header.toString('latin1').slice(0, 20))} for the client`, async () => {
    await using it = await openProxyDoor()

    const answer = await it.send(Buffer.concat([header, Buffer.from(get('/a'))]))

    assert.equal(statusOf(answer), 200)
    assert.match(answer, new RegExp(`<${address}>`))
    assert.deepEqual(
      it.exchanges.map(({ peer }) => peer),
      [address],
    )
    assert.ok([...it.door.dropped().values()].every((count) => count === 0))
  })
}

test('openFrontDoor() reads a header that comes byte by byte, and keeps the address for every request', async () => {
  await using it = await openProxyDoor()
  const socket = connect({ port: it.port, host: '127.0.0.1', noDelay: true })
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  for (const byte of line1) {
    socket.write(byte)
    await sleep(1)
  }
  socket.write('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await until(() => text.includes('<203.0.113.7>'), 'the answer')

  socket.write(get('/b'))
  await once(socket, 'close')

  assert.equal(text.match(/<203\.0\.113\.7>/g)?.length, 2)
})

const dropped = [
  { sent: get('/a'), because: 'there is none' },
  { sent: get('/a', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n'), because: 'it is in another place' },
  { sent: `PROXY TCP4 nonsense\r\n${get('/a')}`, because: 'it is broken' },
  { sent: '\x16\x03\x01\x02\x00', because: 'TLS comes first' },
]
for (const { sent, because } of dropped) {
  test(`openFrontDoor() closes without a word where a header is wanted, and ${because}`, async () => {
    await using it = await openProxyDoor()

    assert.equal(await talk(it.port, sent, 3000), '')

    assert.equal(it.door.dropped().get('proxy_protocol'), 1)
    assert.deepEqual(it.decisions, [])
    assert.deepEqual(it.failures, [])
    assert.equal(it.door.connections(), 0)
  })
}

test('openFrontDoor() takes a second header for no request', async () => {
  await using it = await openProxyDoor()

  assert.equal(statusOf(await it.send(`${line1}${line1}${get('/a')}`)), 400)
})

test('openFrontDoor() takes a header for no request where none is wanted', async () => {
  await using it = await openProxyDoor({ proxyProtocol: false })

  assert.equal(statusOf(await it.send(`${line1}${get('/a')}`)), 400)
})

test('openFrontDoor() waits head_timeout for a header, counts it, and counts no client that leaves without a byte', async () => {
  await using it = await openProxyDoor({ limits: serverLimits(limitsOptions.parse({ head_timeout: '1s' })) })
  const [silent, half, gone] = [0, 0, 0].map(() => connect(it.port, '127.0.0.1'))
  assert.ok(silent !== undefined && half !== undefined && gone !== undefined)
  half.write('PROXY TC')
  half.resume()
  silent.resume()
  gone.end()

  await Promise.all([once(silent, 'close'), once(half, 'close')])

  assert.equal(it.door.dropped().get('timeout'), 2)
  assert.equal(it.door.dropped().get('proxy_protocol'), 0)
  await until(() => it.door.connections() === 0, 'nobody to be connected')
})

test('openFrontDoor() counts a client that leaves in the middle of its header', async () => {
  await using it = await openProxyDoor()
  const socket = connect(it.port, '127.0.0.1')

  socket.end('PROXY TC')

  await until(() => it.door.dropped().get('proxy_protocol') === 1, 'it to be counted')
  await until(() => it.door.connections() === 0, 'nobody to be connected')
})

test('openFrontDoor().drain() lets in who has begun, as the last of his connection', async () => {
  await using it = await openProxyDoor()
  const socket = connect(it.port, '127.0.0.1')
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  socket.write('PROXY TCP4 203.0.113.7 ')
  await until(() => it.door.connections() === 1, 'the connection')
  await settle()

  const drained = it.door.drain()
  socket.write('127.0.0.1 5 80\r\nGET /a HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await drained

  assert.equal(statusOf(text), 200)
  assert.match(text, /\r\nConnection: close\r\n/)
})

test('openFrontDoor() wants the header before TLS, and drops a handshake that fails behind it', {
  skip: skipWithoutOpenssl,
}, async () => {
  using ours = createAuthority()
  const material = { ...ours.issue('server'), clientCa: undefined }
  await using it = await openProxyDoor({ tls: { material, clientCertificate: 'none' } })
  for (const header of [Buffer.from(line1), ipv4([203, 0, 113, 7])]) {
    const socket = connect(it.port, '127.0.0.1')
    socket.write(header)

    const { answer } = await askTls(socket, { ca: ours.ca })

    assert.equal(statusOf(answer), 200)
    assert.match(answer, /<203\.0\.113\.7>/)
  }
  await it.send(`${line1}${get('/a')}`, 1000)
  await it.send(`${line1}`, 100)

  await until(() => it.door.dropped().get('tls') === 1, 'it to be counted')
  await until(() => it.door.connections() === 0, 'nobody to be connected')
})

const haproxy = '/usr/sbin/haproxy'
// A package of its own (`apt-get install haproxy`); where it is missing, only CI insists.
const missing = spawnSync(haproxy, ['-v']).error !== undefined && process.env['CI'] !== 'true'

for (const send of ['send-proxy', 'send-proxy-v2', 'send-proxy-v2 proxy-v2-options crc32c,unique-id']) {
  test(`openFrontDoor() learns a client's address from HAProxy with ${send}`, {
    skip: missing,
  }, async () => {
    await using it = await openProxyDoor()
    await using balancer = await startHaproxy(it.port, send)

    const answers = await Promise.all(
      ['127.0.0.5', '127.0.0.6'].map((localAddress) => ask(balancer.port, localAddress)),
    )

    assert.match(answers[0] ?? '', /^HTTP\/1\.1 200 [\s\S]*<127\.0\.0\.5>/)
    assert.match(answers[1] ?? '', /^HTTP\/1\.1 200 [\s\S]*<127\.0\.0\.6>/)
    assert.ok([...it.door.dropped().values()].every((count) => count === 0))
  })
}

/** HAProxy as a TCP balancer before the door, with its own health checks. */
async function startHaproxy(to: number, send: string): Promise<AsyncDisposable & { readonly port: number }> {
  const directory = mkdtempSync(join(tmpdir(), 'postern-haproxy-'))
  const file = join(directory, 'haproxy.cfg')
  const port = await freePort()
  const lines = [
    'defaults',
    '  mode tcp',
    '  timeout connect 2s',
    '  timeout client 5s',
    '  timeout server 5s',
    '  unique-id-format %[uuid()]',
    'listen front',
    `  bind 127.0.0.1:${port}`,
    `  server postern 127.0.0.1:${to} ${send} check inter 100ms`,
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  const child = spawn(haproxy, ['-db', '-f', file], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  const isOpen = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy()
        resolve(true)
      })
      socket.on('error', () => resolve(false))
    })
  await until(isOpen, 'the balancer to listen')
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await ended
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function ask(port: number, localAddress: string): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  socket.write(get('/a'))
  await once(socket, 'close')
  return text
}
