// Streams that end with half a head, and what node frees first: where it is the session, the process aborts, and this file
// with it.
import assert from 'node:assert/strict'
import { connect as connectSession } from 'node:http2'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { queryObjects, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import { createHttp2Upstream } from '../../src/http2/upstream-pool.ts'
import type { Door } from '../gates/door.ts'
import { openDoor, openRawUpstream, openUpstream } from '../gates/door.ts'
import type { FrameClient } from '../support/h2-frames.ts'
import {
  codes,
  connectFrames,
  encodeFields,
  flags,
  frame,
  headers,
  requestFields,
  reset,
  windowUpdate,
} from '../support/h2-frames.ts'
import { settle, until, untilStill } from '../support/until.ts'

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

const limits = poolLimits(upstreamOptions.parse({ url: 'http://127.0.0.1:1' }))
const half = (flag: number) => frame('headers', flag, 1, encodeFields([['x-a', 'b'.repeat(2000)]]))
const halfHead = frame(
  'headers',
  0,
  1,
  encodeFields([
    [':status', '200'],
    ['x-a', 'b'.repeat(2000)],
  ]),
)
// RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 2^31 - 1.
const anySize = Buffer.of(0, 4, 0x7f, 0xff, 0xff, 0xff)
const fatal = frame('data', 0, 0, 'x')

/** A door to an upstream of bytes that speaks HTTP/2; `ours` and `theirs` are the ends of its connections. */
async function openScene(settings: Buffer) {
  const ours: Socket[] = []
  const theirs: Socket[] = []
  const upstream = await openRawUpstream((socket) => {
    theirs.push(socket)
    socket.write(Buffer.concat([frame('settings', 0, 0, settings), windowUpdate(0, 0x7f00_0000)]))
    socket.resume()
  })
  const open = createSocketOpener({ host: '127.0.0.1', port: upstream.port }, undefined, 'h2')
  const endpoint = {
    name: 'a',
    open: (received: (bytes: Buffer) => void) => {
      const opened = open(received)
      ours.push(opened.socket)
      return opened
    },
  }
  const door = await openDoor(upstream.port, undefined, {
    upstream: (deadlines) => createHttp2Upstream({ list: () => [endpoint] }, limits, deadlines),
  })
  return {
    ours,
    theirs,
    door,
    async [Symbol.asyncDispose]() {
      await door[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

/** Collects whatever is over by now, one thing after another. */
async function collect(): Promise<void> {
  for (let round = 0; round < 10; round += 1) {
    gc()
    await sleep(10)
  }
}

test('freeStreamsFirst() has a stream freed before its session where that ends in the same moment, with half a head', async () => {
  await using scene = await openScene(Buffer.alloc(0))
  const answer = scene.door.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n', 1000)
  await until(() => scene.theirs[0]?.bytesRead !== undefined && scene.theirs[0].bytesRead > 100, 'the request')
  scene.ours[0]?.on('close', gc)

  scene.theirs[0]?.write(halfHead)
  await settle()
  scene.theirs[0]?.write(fatal)

  assert.match(await answer, /"reason":"upstream_reset"/)
  await collect()
})

/** What is held here is held by nobody once it is over. */
async function breakUpload(): Promise<string> {
  await using scene = await openScene(anySize)
  const client = connect(scene.door.door.port, '127.0.0.1').on('error', () => {})
  let answer = ''
  client.on('data', (chunk: Buffer) => {
    answer += chunk.toString('latin1')
  })
  client.write('POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 64000000\r\n\r\n')
  client.write(Buffer.alloc(32_000_000))
  await until(() => scene.theirs.length > 0, 'the upload')
  scene.theirs[0]?.pause()
  await untilStill(() => scene.ours[0]?.bytesWritten ?? 0, 'the upload to be stuck')

  scene.theirs[0]?.write(halfHead)
  await settle()
  scene.theirs[0]?.resetAndDestroy()
  await until(() => answer !== '', 'the answer')

  client.destroy()
  return answer
}

test('freeStreamsFirst() has a stream freed before its session though an upload is stuck in its socket, with half a head', async () => {
  const answer = await breakUpload()
  await collect()

  assert.match(answer, /"reason":"upstream_reset"/)
})

const endings = [
  {
    by: 'its client leaves',
    async end({ client }: Stuck) {
      client.send(half(flags.endStream))
      await settle()
      client.socket.resetAndDestroy()
    },
  },
  {
    by: 'its time to be written is over, and then its client leaves',
    async end({ client, door }: Stuck) {
      client.send(half(flags.endStream))
      await until(() => door.exchanges.length === 1, 'the answer to be given up')
      await sleep(1500)
      client.socket.resetAndDestroy()
    },
  },
  {
    by: 'its client takes too many requests back',
    async end({ client }: Stuck) {
      const taken = Array.from({ length: 320 }, (_, at) => 2 * at + 3)
      const floods = taken.map((at) => Buffer.concat([headers(at, requestFields('/slow')), reset(at, codes.cancel)]))
      for (let from = 0; from < 300; from += 60) {
        client.send(...floods.slice(from, from + 60))
        await settle()
      }
      client.send(...floods.slice(300), half(flags.endStream))
    },
  },
] as const

/** A client that takes nothing of a large answer. */
type Stuck = { readonly client: FrameClient; readonly door: Door }

/** What is held here is held by nobody once it is over. */
async function breakDownload(end: (stuck: Stuck) => Promise<void>): Promise<void> {
  await using upstream = await openUpstream((request, response) => {
    request.on('error', () => {})
    if (request.url === '/a') response.end(Buffer.alloc(16_000_000))
  })
  await using door = await openDoor(upstream.port, undefined, { limits: { writeMs: 1000 } })
  const client = connectFrames(door.door.port, anySize)
  client.send(windowUpdate(0, 0x7f00_0000), headers(1, requestFields('/a', [], 'POST'), false))
  await client.frame(({ type }) => type === 'data')
  client.socket.pause()
  await sleep(300)

  await end({ client, door })
  await until(() => door.door.connections() === 0, 'the connection to be gone')
  client[Symbol.dispose]()
}

for (const { by, end } of endings) {
  test(`freeStreamsFirst() has a stream freed before its session though a download is stuck in its socket, with half of its trailers, and ${by}`, async () => {
    await breakDownload(end)
    await collect()
  })
}

test('freeStreamsFirst() holds nothing of a session that is over', async () => {
  const probe = connectSession('http://127.0.0.1:1').on('error', () => {})
  // Of clients and of servers.
  const sessions: unknown = Object.getPrototypeOf(probe.constructor)
  assert.ok(typeof sessions === 'function')
  await using upstream = await openUpstream((_, response) => void response.end('ok'))
  await using door = await openDoor(upstream.port)
  await collect()
  const before = queryObjects(sessions, { format: 'count' })

  for (let at = 0; at < 20; at += 1) {
    using client = connectFrames(door.door.port)
    client.send(headers(1, requestFields('/a')))
    await client.stream(1)
  }
  await until(() => door.door.connections() === 0, 'the connections to be gone')
  await collect()

  assert.equal(queryObjects(sessions, { format: 'count' }), before)
})
