import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempDisposableSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Agent, request as ask } from 'node:http'
import { request as askTls, Agent as TlsAgent } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { openWorld } from '../acceptance/harness.ts'
import type { Pair } from '../support/certificates.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import type { Random } from '../support/random.ts'
import { createRandom, seedOfRun } from '../support/random.ts'
import { startStub } from '../support/stub-server.ts'
import { rules } from './world.ts'

const clients = 32
const requestsEach = 6
// More than the system takes between a gateway and a peer that does not read.
const mostBytes = 7_000_000

/** A body that nobody else has: each four bytes say whose it is, of which request, and where in it they stand. */
function bodyOf(client: number, nth: number, bytes: number): Buffer {
  const words = new Uint32Array(Math.ceil(bytes / 4))
  for (let at = 0; at < words.length; at += 1) words[at] = ((client * requestsEach + nth) << 21) | at
  return Buffer.from(words.buffer, 0, bytes)
}

/** Sends back what it gets, as it comes, now quickly and now slowly. */
function createEcho(random: Random) {
  return (response: ServerResponse, request: IncomingMessage) => {
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      ...(random.oneIn(2) ? { 'content-length': String(request.headers['x-bytes']) } : {}),
    })
    request.on('error', () => response.destroy())
    const stalls = random.oneIn(3)
    request.on('data', (chunk: Buffer) => {
      const hasRoom = response.write(chunk)
      if (hasRoom && !(stalls && random.oneIn(8))) return
      request.pause()
      if (hasRoom) setTimeout(() => request.resume(), random.pick([1, 3, 60]))
      else response.once('drain', () => request.resume())
    })
    request.on('end', () => response.end())
  }
}

async function sendAll(
  random: Random,
  certificate: { readonly ca: string; readonly pair: Pair } | undefined,
): Promise<void> {
  using directory = mkdtempDisposableSync(join(tmpdir(), 'postern-bodies-'))
  const write = (name: string, text: string) => {
    writeFileSync(join(directory.path, name), text, { mode: 0o600 })
    return { file: join(directory.path, name) }
  }
  const tls = certificate && {
    cert: write('cert.pem', certificate.pair.cert),
    key: write('key.pem', certificate.pair.key),
  }
  using upstream = await startStub({}, createEcho(random))
  const listen = { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0', ...(tls && { tls }) }
  await using world = await openWorld({ rules, b: null, upstream: upstream.port, more: { listen } })
  using stack = new DisposableStack()
  const agent =
    certificate === undefined ? new Agent({ keepAlive: true }) : new TlsAgent({ keepAlive: true, ca: certificate.ca })
  stack.defer(() => agent.destroy())
  const begin = certificate === undefined ? ask : askTls
  const authorization = `Bearer ${world.mint()}`
  let whole = 0
  let broken = 0

  async function exchange(client: number, nth: number): Promise<void> {
    const bytes = random.pick([100, 5000, 20_000, 60_000, 200_000, 1_000_000, mostBytes]) + random.below(5000)
    const sent = bodyOf(client, nth, bytes)
    const headers = {
      authorization,
      'x-bytes': bytes,
      ...(random.oneIn(2) ? { 'content-length': bytes } : { 'transfer-encoding': 'chunked' }),
    }
    const outgoing = begin({
      host: '127.0.0.1',
      port: world.app.ports.proxy,
      agent,
      method: 'POST',
      path: '/orders/1',
      headers,
    })
    const failed = new Promise<void>((resolve) => outgoing.on('error', () => resolve()))
    const breaksOff = random.oneIn(6)
    const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>
    answered.catch(() => {})
    const most = random.pick([3000, 30_000, 300_000])
    for (let at = 0; at < bytes && !outgoing.destroyed; at += most) {
      if (!outgoing.write(sent.subarray(at, at + most)))
        await Promise.race([new Promise((drained) => outgoing.once('drain', drained)), failed])
      if (breaksOff && at > bytes / 2) outgoing.destroy()
      else if (random.oneIn(10)) await wait(random.below(3))
    }
    if (outgoing.destroyed) {
      broken += 1
      return
    }
    outgoing.end()
    const [incoming] = await answered
    assert.equal(incoming.statusCode, 200)
    const slow = random.oneIn(3)
    let received = 0
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      assert.ok(
        sent.subarray(received, received + chunk.length).equals(chunk),
        `bytes ${received} to ${received + chunk.length} of request ${nth} of client ${client} are not its own`,
      )
      received += chunk.length
      if (slow && random.oneIn(8)) await wait(random.pick([1, 3, 60]))
    }
    assert.equal(received, bytes)
    whole += 1
  }

  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      for (let nth = 0; nth < requestsEach; nth += 1) await exchange(client, nth)
    }),
  )

  assert.equal(whole + broken, clients * requestsEach)
  assert.ok(whole > clients && broken > 0, `${whole} whole, ${broken} broken off`)
}

for (const { title, secured } of [
  { title: '', secured: false },
  { title: ' under TLS', secured: true },
])
  test(`large bodies of many clients${title}, quick and slow, whole and broken off, come back each to its own byte for byte`, {
    skip: secured && skipWithoutOpenssl,
  }, async (t) => {
    const seed = seedOfRun()
    t.diagnostic(`seed ${seed}`)
    if (!secured) return await sendAll(createRandom(seed), undefined)
    using authority = createAuthority()
    await sendAll(createRandom(seed), { ca: authority.ca, pair: authority.issue('a.test') })
  })
