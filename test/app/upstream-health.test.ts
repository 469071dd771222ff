import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createUpstreamHealth } from '../../src/app/upstream/upstream-health.ts'
import { upstreamOptions } from '../../src/gates/options.ts'
import { openWorld } from '../acceptance/harness.ts'
import { settle } from '../support/until.ts'

/** An upstream on a Unix socket, which an HTTP client by URL would not reach, and how it says it is. */
async function openHealth(handle: (request: IncomingMessage, response: ServerResponse) => void, path?: string) {
  const directory = mkdtempSync(join(tmpdir(), 'postern-'))
  const socket = join(directory, 'app.sock')
  const server = createServer(handle)
  server.listen(socket)
  await once(server, 'listening')
  const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
  const options = upstreamOptions.parse({ url: `unix:${socket}`, ...(path === undefined ? {} : { health_path: path }) })
  const health = createUpstreamHealth(options, { clock, readFile: (name) => readFileSync(name) })
  return {
    health,
    async [Symbol.asyncDispose]() {
      health.close()
      server.close()
      server.closeAllConnections()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

test('createUpstreamHealth() relays status, type and body of the configured path, asked for the way requests go', async () => {
  const asked: string[] = []
  await using it = await openHealth((request, response) => {
    asked.push(`${request.method} ${request.headers.host} ${request.url}`)
    response.writeHead(418, { 'content-type': 'application/json' })
    response.end('{"ok":false}')
  }, '/healthz?deep')

  const answer = await it.health.ask()

  assert.equal(answer?.status, 418)
  assert.equal(answer?.headers?.['content-type'], 'application/json')
  assert.equal(String(answer?.body), '{"ok":false}')
  assert.deepEqual(asked, ['GET localhost /healthz?deep'])
})

test('createUpstreamHealth() keeps a body as it came in pieces, though what each was read into is read into again', async () => {
  const pieces = ['first ', 'again ', 'third']
  const write = async (response: ServerResponse) => {
    for (const piece of pieces) {
      response.write(piece)
      // Or two of them would be read as one.
      await settle()
    }
    response.end()
  }
  await using it = await openHealth((_, response) => void write(response), '/healthz')

  assert.equal(String((await it.health.ask())?.body), pieces.join(''))
})

test('createUpstreamHealth() waits for nothing more once it has its answer, and for nobody once it is closed', async () => {
  const sockets = new Set<Socket>()
  await using it = await openHealth(({ socket }, response) => {
    sockets.add(socket)
    response.end('fine')
  }, '/healthz')
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()

  assert.equal((await it.health.ask())?.status, 200)
  assert.equal(timers(), before)
  const destroyed = () => [...sockets].map((socket) => socket.destroyed)
  assert.deepEqual(destroyed(), [false])
  it.health.close()
  // Long before the service itself would end it.
  await settle()

  assert.deepEqual(destroyed(), [true])
})

test('createUpstreamHealth() says text/plain where the upstream says nothing', async () => {
  await using it = await openHealth((_, response) => void response.end('fine'), '/healthz')

  assert.equal((await it.health.ask())?.headers?.['content-type'], 'text/plain')
})

test('createUpstreamHealth() asks nobody where no path is configured', async () => {
  let asked = 0
  await using it = await openHealth(() => {
    asked += 1
  })

  assert.equal(it.health.ask(), undefined)
  assert.equal(asked, 0)
})

test('createUpstreamHealth() takes a body of 64 KiB, and answers 503 for one byte more', async () => {
  let bytes = 65_536
  await using it = await openHealth((_, response) => void response.end(Buffer.alloc(bytes)), '/healthz')

  const most = await it.health.ask()
  bytes += 1
  const tooMuch = await it.health.ask()

  assert.equal(most?.status, 200)
  assert.equal(most?.body?.length, 65_536)
  assert.equal(tooMuch?.status, 503)
})

test('createUpstreamHealth() answers 503 for an upstream that says nothing in time or breaks off, and asks anew each time', async () => {
  let does: 'nothing' | 'break' | 'answer' = 'nothing'
  await using it = await openHealth((request, response) => {
    if (does === 'break') request.socket.destroy()
    else if (does === 'answer') response.end('fine')
  }, '/healthz')

  const late = await it.health.ask()
  does = 'break'
  const broken = await it.health.ask()
  does = 'answer'
  const fine = await it.health.ask()

  assert.deepEqual([late?.status, broken?.status, fine?.status], [503, 503, 200])
})

test('createUpstreamHealth() asks once for all who ask until there is an answer, so that no number of them keeps a probe from it', async () => {
  let asked = 0
  await using it = await openHealth((_, response) => {
    asked += 1
    setTimeout(() => response.end('fine'), 50)
  }, '/healthz')

  const answers = await Promise.all(Array.from({ length: 100 }, () => it.health.ask()))
  const later = await it.health.ask()

  assert.equal(asked, 2)
  assert.deepEqual([...new Set([...answers, later].map((answer) => String(answer?.body)))], ['fine'])
})

test('startApp() logs once what happens to the upstream, asked for its health or not', async () => {
  await using world = await openWorld({
    more: { upstream: { url: 'http://upstream.invalid', health_path: '/healthz' } },
  })
  const { status } = await fetch(`http://127.0.0.1:${world.app.ports.health}/upstreamz`)
  await world.app.close()

  assert.equal(status, 503)
  assert.equal(world.logs().split('upstream_resolve_failed').length - 1, 1)
})
