// The way to an upstream that speaks HTTP/2, on real sockets: node's own server behind it, or bytes.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { ServerHttp2Session, ServerHttp2Stream, ServerOptions } from 'node:http2'
import { connect as connectSession, createServer, sensitiveHeaders } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { limitsOptions, poolLimits, serverLimits, upstreamOptions } from '../../src/gates/options.ts'
import { createDeadlines } from '../../src/http1/deadlines.ts'
import type { AnswerEvents, UpstreamRequest } from '../../src/http1/exchange.ts'
import type { PoolLimits } from '../../src/http1/limits.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import { createHttp2Upstream } from '../../src/http2/upstream-pool.ts'
import type { Door } from '../gates/door.ts'
import { openDoor, openRawUpstream } from '../gates/door.ts'
import { ask as askUpstream, closedPort } from '../http1/upstream-peer.ts'
import { createTestDeadlines } from '../support/deadlines.ts'
import type { Field } from '../support/h2-frames.ts'
import { codes, flags, frame, frameTypes, headers, preface, reset } from '../support/h2-frames.ts'
import { settle, until, untilStill } from '../support/until.ts'

type Handle = (stream: ServerHttp2Stream, path: string, session: number) => void

const usual = poolLimits(upstreamOptions.parse({ url: 'http://127.0.0.1:1' }))

/** Opens a door whose upstream is at a port; the sockets to it are put into `ours`. */
async function openDoorTo(port: number, limits: Partial<PoolLimits> = {}, ours: Socket[] = []): Promise<Door> {
  const connect = createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2')
  const open: typeof connect = (received) => {
    const opened = connect(received)
    ours.push(opened.socket)
    return opened
  }
  const list = [{ name: 'a', open }]
  const pool = { ...usual, ...limits }
  return await openDoor(port, undefined, {
    upstream: (deadlines) => createHttp2Upstream({ list: () => list }, pool, deadlines),
  })
}

/** A door, and an upstream on node's own server; `session` numbers the sessions from 1. */
async function openPair(handle: Handle, limits: Partial<PoolLimits> = {}, options: ServerOptions = {}) {
  const sessions: ServerHttp2Session[] = []
  const server = createServer(options)
  server.on('session', (session) => {
    sessions.push(session)
    session.on('error', () => {})
    session.on('stream', (stream, fields) => {
      stream.on('error', () => {})
      handle(stream, String(fields[':path']), sessions.indexOf(session) + 1)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  const door = await openDoorTo(port, limits)
  return {
    door,
    port,
    endpoint: { name: 'a', open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2') },
    sessions,
    get: (path: string) => ask(door, 'GET', path),
    post: (path: string, body = 'body') => ask(door, 'POST', path, body),
    async [Symbol.asyncDispose]() {
      await door[Symbol.asyncDispose]()
      server.close()
      for (const session of sessions) session.destroy()
      assert.deepEqual(door.failures, [])
    },
  }
}

/** Sends one request in HTTP/1.1 and tells status, body, and the reason of a problem. */
async function ask({ door }: Door, method: string, path: string, body?: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${door.port}${path}`, {
    method,
    ...(body === undefined ? {} : { body }),
  })
  const text = await response.text()
  return `${response.status} ${/"reason":"([a-z_]+)"/.exec(text)?.[1] ?? text}`
}

const answer: Handle = (stream, path, session) => {
  stream.resume()
  stream.on('end', () => {
    if (stream.closed) return
    stream.respond({ ':status': 200 })
    stream.end(`${path} ${session}`)
  })
}

test('createHttp2Upstream() sends one request after another on one session, and ends that when it is idle', async () => {
  await using pair = await openPair(answer, { keepAliveMs: 600 })

  for (let at = 0; at < 250; at += 1) assert.equal(await pair.get(`/${at}`), `200 /${at} 1`)

  const [session] = pair.sessions
  assert.ok(session !== undefined)
  await once(session, 'close')
  assert.equal(await pair.get('/later'), '200 /later 2')
})

test('createHttp2Upstream() has nobody wait for an exchange, nor for a session, that is over', async () => {
  await using pair = await openPair(answer)
  const time = createTestDeadlines()
  const list = [pair.endpoint]
  const upstream = createHttp2Upstream({ list: () => list }, usual, time)
  const watched: number[] = []

  for (let at = 0; at < 3; at += 1) {
    assert.equal(await askUpstream(upstream).outcome, 'end')
    watched.push(time.watched())
  }
  pair.sessions[0]?.destroy()

  await until(() => time.watched() === 0, 'nobody to be waited for')
  assert.equal(new Set(watched).size, 1, watched.join())
  upstream.close()
})

test('createHttp2Upstream() keeps a session that says that it lives, when a request on it had no answer in time', async () => {
  const held: ServerHttp2Stream[] = []
  await using pair = await openPair((stream, path, session) => {
    if (held.length < 2) held.push(stream)
    else answer(stream, path, session)
  })
  const time = createTestDeadlines()
  const list = [pair.endpoint]
  const upstream = createHttp2Upstream({ list: () => list }, usual, time)
  const late = askUpstream(upstream)
  await until(() => held.length === 1, 'the first')
  time.pass(usual.headMs)
  assert.equal(await late.outcome, 'timeout')

  const slow = askUpstream(upstream)
  await until(() => held.length === 2, 'the second, behind the question')
  await settle()
  time.pass(usual.connectMs)
  await settle()

  assert.equal(slow.isOver(), false)
  const next = askUpstream(upstream)
  assert.equal(await next.outcome, 'end')
  assert.equal(next.body(), '/a 1')
  upstream.close()
})

test('createHttp2Upstream() ends no session for being idle on which something is asked again', async () => {
  let asked = 0
  let held: ServerHttp2Stream | undefined
  await using pair = await openPair((stream, path, session) => {
    asked += 1
    if (asked === 2) held = stream
    else answer(stream, path, session)
  })
  const time = createTestDeadlines()
  const list = [pair.endpoint]
  const upstream = createHttp2Upstream({ list: () => list }, usual, time)
  assert.equal(await askUpstream(upstream).outcome, 'end')

  const slow = askUpstream(upstream)
  await until(() => held !== undefined, 'the second')
  time.pass(usual.keepAliveMs)
  await settle()
  held?.respond({ ':status': 204 }, { endStream: true })

  assert.equal(await slow.outcome, 'end')
  assert.equal(slow.head()?.status, 204)
  upstream.close()
})

test('createHttp2Upstream() has 100 streams on a session, however many the upstream would allow', async () => {
  const held: ServerHttp2Stream[] = []
  const of: number[] = []
  let isFirst = true
  await using pair = await openPair(
    (stream, path, session) => {
      if (isFirst) {
        isFirst = false
        answer(stream, path, session)
        return
      }
      held.push(stream)
      of[session] = (of[session] ?? 0) + 1
    },
    {},
    { settings: { maxConcurrentStreams: 1000 } },
  )
  const list = [pair.endpoint]
  const upstream = createHttp2Upstream({ list: () => list }, usual, createTestDeadlines())
  // One that is told by then how many it may have.
  assert.equal(await askUpstream(upstream).outcome, 'end')
  await settle()

  const all = Array.from({ length: 101 }, () => askUpstream(upstream))
  await until(() => held.length === 101, 'all of them')

  assert.deepEqual(of.slice(1), [100, 1])
  for (const stream of held) stream.respond({ ':status': 204 }, { endStream: true })
  await Promise.all(all.map(({ outcome }) => outcome))
  upstream.close()
})

test('createHttp2Upstream() gives a place a rest that has failed three times in a row, where there is another', async () => {
  let failed = 0
  await using bad = await openPair((stream) => {
    failed += 1
    stream.close(codes.internal)
  })
  await using good = await openPair(answer)
  const list = [bad.endpoint, good.endpoint]
  const upstream = createHttp2Upstream({ list: () => list }, usual, createTestDeadlines())

  for (let at = 0; at < 12; at += 1) await askUpstream(upstream).outcome

  assert.equal(failed, 3)
  upstream.close()
})

test('createHttp2Upstream() sends who waits for a stream as soon as another one is over', async () => {
  const held: ServerHttp2Stream[] = []
  await using pair = await openPair((stream) => void held.push(stream), {}, { settings: { maxConcurrentStreams: 1 } })
  const list = [pair.endpoint]
  // Whose time stands still: nobody looks after a while.
  const upstream = createHttp2Upstream({ list: () => list }, { ...usual, connections: 1 }, createTestDeadlines())

  const all = [1, 2, 3].map(() => askUpstream(upstream))
  for (let at = 0; at < 3; at += 1) {
    await until(() => held.length > at, 'the next one', 2000)
    await settle()
    assert.equal(held.length, at + 1)
    held[at]?.respond({ ':status': 204 }, { endStream: true })
    assert.equal(await all[at]?.outcome, 'end')
  }

  upstream.close()
})

test('createHttp2Upstream() wants nothing pushed', async () => {
  await using pair = await openPair(answer)
  await pair.get('/first')

  assert.equal(pair.sessions[0]?.remoteSettings.enablePush, false)
})

test('createHttp2Upstream() opens as many streams as the upstream allows, and another session for more', async () => {
  const waiting: ServerHttp2Stream[] = []
  const most = new Map<number, number>()
  await using pair = await openPair(
    (stream, _, session) => {
      most.set(session, (most.get(session) ?? 0) + 1)
      waiting.push(stream)
    },
    {},
    { settings: { maxConcurrentStreams: 10 } },
  )

  // The first tells how many there may be.
  const first = pair.get('/first')
  await until(() => waiting.length === 1, 'the first')
  const answers = Array.from({ length: 24 }, (_, at) => pair.get(`/${at}`))
  await until(() => waiting.length === 25, 'all of them')
  for (const stream of waiting) {
    stream.respond({ ':status': 200 })
    stream.end('late')
  }

  assert.deepEqual([...new Set(await Promise.all([first, ...answers]))], ['200 late'])
  assert.ok([...most.values()].every((count) => count <= 10))
  assert.equal(pair.sessions.length, 3)
})

test('createHttp2Upstream() goes to a session there is when there can be none at the place with the least to do', async () => {
  const server = createServer()
  server.on('session', (session) => {
    session.on('stream', (stream) => {
      stream.on('error', () => {})
      setTimeout(() => answer(stream, '/', 1), 50)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  server.unref()
  const { port } = server.address() as AddressInfo // it listens on a port
  const list = ['a', 'b', 'c'].map((name) => ({
    name,
    open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2'),
  }))
  const limits = { ...usual, connections: 1, queuedMs: 10_000 }
  await using door = await openDoor(port, undefined, {
    upstream: (deadlines) => createHttp2Upstream({ list: () => list }, limits, deadlines),
  })

  const answers: string[] = []
  for (let at = 0; at < 3; at += 1) answers.push(...(await Promise.all([1, 2, 3].map(() => ask(door, 'GET', '/')))))

  assert.deepEqual([...new Set(answers)], ['200 / 1'])
})

test('createHttp2Upstream() has requests wait for a stream when there can be no session more, and turns some away', async () => {
  const waiting: ServerHttp2Stream[] = []
  await using pair = await openPair(
    (stream) => void waiting.push(stream),
    { connections: 1, queued: 1, queuedMs: 20_000 },
    { settings: { maxConcurrentStreams: 1 } },
  )
  const finish = () => {
    const stream = waiting.shift()
    stream?.respond({ ':status': 200 })
    stream?.end('late')
  }
  const first = pair.get('/first')
  await until(() => waiting.length > 0, 'a request')

  const second = pair.get('/second')
  await until(() => pair.door.decisions.length === 2, 'the second')
  assert.equal(await pair.get('/third'), '503 overloaded')
  finish()
  assert.equal(await first, '200 late')
  await until(() => waiting.length > 0, 'a request')
  finish()
  assert.equal(await second, '200 late')
})

/** Does something to the second request of a session, which is the first that is not new; others are answered. */
function spoilSecond(spoil: (stream: ServerHttp2Stream) => void): Handle {
  let requests = 0
  return (stream, path, session) => {
    requests += 1
    if (requests === 2) spoil(stream)
    else answer(stream, path, session)
  }
}

test('createHttp2Upstream() gives a request that waits for a stream to no session that is broken', async () => {
  const one = Buffer.from('000300000001', 'hex')
  const sockets: Socket[] = []
  let sessions = 0
  await using upstream = await openRawUpstream((socket) => {
    sessions += 1
    const isFirst = sessions === 1
    if (isFirst) sockets.push(socket)
    socket.write(frame('settings', 0, 0, one))
    onRequest(socket, () => {
      if (!isFirst) socket.write(headers(1, [[':status', '204']]))
    })
  })
  await using door = await openDoorTo(upstream.port, { connections: 1 })
  const first = ask(door, 'GET', '/first')
  await until(() => door.decisions.length === 1, 'the first')
  await settle()

  const waits = ask(door, 'POST', '/waits', 'body')
  await until(() => door.decisions.length === 2, 'the one that waits')
  await settle()
  // No frame of DATA belongs to the connection (RFC 9113 §6.1).
  sockets[0]?.write(frame('data', 0, 0, 'x'))

  assert.equal(await first, '502 upstream_reset')
  assert.equal(await waits, '204 ')
})

const refused = 7
const lost = [
  { how: 'refused', spoil: (stream: ServerHttp2Stream) => stream.close(refused) },
  { how: 'behind the last one of a GOAWAY', spoil: (stream: ServerHttp2Stream) => stream.session?.goaway(2, 1) },
  { how: 'lost with its connection', spoil: (stream: ServerHttp2Stream) => stream.session?.destroy() },
] as const
for (const { how, spoil } of lost) {
  test(`createHttp2Upstream() repeats a GET that was ${how} on a session that is not new, once`, async () => {
    await using pair = await openPair(spoilSecond(spoil))
    assert.equal(await pair.get('/first'), '200 /first 1')

    assert.equal(await pair.get('/second'), '200 /second 2')
  })

  test(`createHttp2Upstream() does not repeat a POST that was ${how}`, async () => {
    await using pair = await openPair(spoilSecond(spoil))
    assert.equal(await pair.get('/first'), '200 /first 1')

    assert.equal(await pair.post('/second'), '502 upstream_reset')
    assert.equal(await pair.post('/third').then((said) => said.slice(0, 10)), '200 /third')
  })
}

test('createHttp2Upstream() tries no place that has failed with a request that is sent for the last time', async () => {
  const server = createServer()
  server.on('session', (session) => {
    let streams = 0
    session.on('error', () => {})
    session.on('stream', (stream) => {
      streams += 1
      stream.on('error', () => {})
      if (streams === 1) answer(stream, '/', 1)
      else session.destroy()
    })
  })
  server.unref()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  const nobody = await closedPort()
  const list = [nobody, port].map((each) => ({
    name: String(each),
    open: createSocketOpener({ host: '127.0.0.1', port: each }, undefined, 'h2'),
  }))
  await using door = await openDoor(port, undefined, {
    upstream: (deadlines) => createHttp2Upstream({ list: () => list }, usual, deadlines),
  })

  const answers: string[] = []
  for (let at = 0; at < 8; at += 1) answers.push(await ask(door, 'GET', '/'))

  assert.deepEqual([...new Set(answers)], ['200 / 1'])
})

test('createHttp2Upstream() repeats what a place that is gone has lost at another, though that has more to do', async () => {
  const places = await Promise.all(
    [0, 1].map(async () => {
      const server = createServer()
      const sockets: Socket[] = []
      const waiting: ServerHttp2Stream[] = []
      server.on('connection', (socket: Socket) => void sockets.push(socket))
      server.on('session', (session) => session.on('error', () => {}))
      server.on('stream', (stream: ServerHttp2Stream) => {
        stream.on('error', () => {})
        waiting.push(stream)
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as AddressInfo // it listens on a port
      const answer = () => {
        for (const stream of waiting.splice(0)) stream.respond({ ':status': 204 }, { endStream: true })
      }
      const end = () => {
        server.close()
        for (const socket of sockets) socket.destroy()
      }
      return { port, waiting, answer, end }
    }),
  )
  const list = places.map(({ port }) => ({
    name: String(port),
    open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2'),
  }))
  await using door = await openDoor(1, undefined, {
    upstream: (deadlines) => createHttp2Upstream({ list: () => list }, usual, deadlines),
  })
  const waiting = () => places.reduce((sum, place) => sum + place.waiting.length, 0)
  for (const _ of [1, 2]) {
    const asked = Array.from({ length: 6 }, () => ask(door, 'GET', '/a'))
    await until(() => waiting() === 6, 'six requests')
    for (const { answer } of places) answer()
    assert.deepEqual([...new Set(await Promise.all(asked))], ['204 '])
  }

  const asked = Array.from({ length: 6 }, () => ask(door, 'GET', '/a'))
  await until(() => waiting() === 6, 'six more')
  const [doomed, other] = places
  doomed?.end()
  await until(() => other?.waiting.length === 6, 'all of them')
  other?.answer()

  assert.deepEqual([...new Set(await Promise.all(asked))], ['204 '])
  other?.end()
})

test('createHttp2Upstream() keeps what waits for a stream from a session that says GOAWAY behind the end of one', async () => {
  let sessions = 0
  const said = [headers(1, [[':status', '204']]), frame('goaway', 0, 0, Buffer.from('7fffffff00000000', 'hex'))]
  await using upstream = await openRawUpstream((socket) => {
    sessions += 1
    socket.write(frame('settings', 0, 0, Buffer.from('000300000001', 'hex')))
    onRequest(socket, () => setTimeout(() => socket.write(Buffer.concat(said)), 5))
  })
  await using door = await openDoorTo(upstream.port, { connections: 1 })

  const asked = Array.from({ length: 12 }, () => ask(door, 'GET', '/a'))

  assert.deepEqual([...new Set(await Promise.all(asked))], ['204 '])
  assert.equal(sessions, 12)
})

/** The streams on which requests came, behind the preface. */
function requestsIn(received: Buffer): readonly number[] {
  const found: number[] = []
  for (let at = preface.length; at + 9 <= received.length; at += 9 + received.readUIntBE(at, 3))
    if (received[at + 3] === frameTypes.headers) found.push(received.readUInt32BE(at + 5))
  return found
}

/** Tells of the first request that comes on a session, once it is there. */
function onRequest(socket: Socket, told: () => void): void {
  let received: Buffer = Buffer.alloc(0)
  socket.on('data', function take(chunk: Buffer) {
    received = Buffer.concat([received, chunk])
    if (requestsIn(received).length === 0) return
    socket.off('data', take)
    told()
  })
}

test('createHttp2Upstream() does not repeat a GET on a new session, nor one for the second time', async () => {
  const seen: string[] = []
  await using pair = await openPair((stream, path) => {
    seen.push(path)
    stream.close(refused)
  })

  assert.equal(await pair.get('/first'), '502 upstream_reset')
  assert.equal(await pair.get('/second'), '502 upstream_reset')

  assert.deepEqual(seen, ['/first', '/second', '/second'])
})

test('createHttp2Upstream() repeats a GET that was refused on the session itself where there can be no other, and holds up nobody', async () => {
  const slow: ServerHttp2Stream[] = []
  const asked: string[] = []
  await using pair = await openPair(
    (stream, path, session) => {
      asked.push(path)
      if (path === '/slow') slow.push(stream)
      else if (path === '/refused' && asked.filter((each) => each === path).length === 1) stream.close(refused)
      else answer(stream, path, session)
    },
    { connections: 1, queuedMs: 10_000 },
    { settings: { maxConcurrentStreams: 2 } },
  )
  assert.equal(await pair.get('/first'), '200 /first 1')
  const long = pair.get('/slow')
  await until(() => slow.length === 1, 'the slow one')

  const answers = await Promise.all(['/refused', '/a', '/b', '/c'].map(pair.get))

  assert.deepEqual(answers, ['200 /refused 1', '200 /a 1', '200 /b 1', '200 /c 1'])
  assert.equal(asked.filter((path) => path === '/refused').length, 2)
  slow[0]?.respond({ ':status': 204 }, { endStream: true })
  assert.equal(await long, '204 ')
})

test('createHttp2Upstream() repeats a GET that was refused on the only session there can be once, and no more', async () => {
  let asked = 0
  await using pair = await openPair(
    (stream, path, session) => {
      asked += 1
      if (path === '/refused') stream.close(refused)
      else answer(stream, path, session)
    },
    { connections: 1 },
  )
  assert.equal(await pair.get('/first'), '200 /first 1')

  assert.equal(await pair.get('/refused'), '502 upstream_reset')

  assert.equal(asked, 3)
  assert.equal(await pair.get('/next'), '200 /next 1')
})

test('createHttp2Upstream() does not repeat a GET that the upstream has begun with, and reset', async () => {
  await using pair = await openPair(spoilSecond((stream) => stream.close(2)))
  assert.equal(await pair.get('/first'), '200 /first 1')

  assert.equal(await pair.get('/second'), '502 upstream_reset')
})

test('createHttp2Upstream() sends nothing on a session that said GOAWAY, and has it end what it began', async () => {
  const waiting: ServerHttp2Stream[] = []
  await using pair = await openPair((stream, path, session) => {
    if (path === '/slow') waiting.push(stream)
    else answer(stream, path, session)
  })
  const slow = pair.get('/slow')
  await until(() => waiting.length > 0, 'a request')

  pair.sessions[0]?.close()
  await settle()

  assert.equal(await pair.get('/next'), '200 /next 2')
  waiting[0]?.respond({ ':status': 200 })
  waiting[0]?.end('whole')
  assert.equal(await slow, '200 whole')
})

/** Says GOAWAY behind the answer to `/first`: what is asked for because of that answer is not sent any more. */
function leaveAfter(first: readonly string[], handle: Handle): Handle {
  return (stream, path, session) => {
    if (!first.includes(path)) {
      handle(stream, path, session)
      return
    }
    stream.respond({ ':status': 204 }, { endStream: true })
    stream.session?.goaway(0, 2 ** 31 - 1)
  }
}

const pipelined = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n${more}`
const upload = (path: string) => `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody`

test('createHttp2Upstream() sends a POST whose head a GOAWAY kept from leaving on another session, with its body', async () => {
  const bodies: Promise<string>[] = []
  const handle = leaveAfter(['/first'], (stream) => {
    bodies.push(text(stream).finally(() => stream.respond({ ':status': 201 }, { endStream: true })))
  })
  await using pair = await openPair(handle)

  const said = await pair.door.send(pipelined('/first', upload('/second')))

  assert.match(said, /^HTTP\/1\.1 204 .*HTTP\/1\.1 201 /s)
  assert.deepEqual(await Promise.all(bodies), ['body'])
  assert.equal(pair.sessions.length, 2)
})

/**
 * Takes so many requests a session, as nginx does: says GOAWAY with the last of them, and is deaf to what comes behind. The
 * first session says so when there is more, so that something is lost however slowly requests come.
 */
function takeAtMost(most: number): Handle {
  const taken = new Map<number, number[]>()
  return (stream, _, session) => {
    const ids = taken.get(session) ?? []
    taken.set(session, ids)
    if (ids.push(stream.id ?? 0) === (session === 1 ? most + 1 : most)) stream.session?.goaway(0, ids[most - 1])
    if (ids.length > most) return
    stream.resume()
    setTimeout(() => {
      if (!stream.closed) stream.respond({ ':status': 204 }, { endStream: true })
    }, 10)
  }
}

test('createHttp2Upstream() learns after how many requests sessions say goodbye, and sends no more on the next', async () => {
  await using pair = await openPair(takeAtMost(5))
  const posts = () => Promise.all(Array.from({ length: 8 }, () => pair.post('/').then((said) => said.slice(0, 3))))

  assert.ok((await posts()).includes('502'), 'the first loses some')
  for (let at = 0; at < 5; at += 1) assert.deepEqual([...new Set(await posts())], ['204'])
})

test('createHttp2Upstream() takes one goodbye for no habit: the session after the next is used on', async () => {
  let hasRotated = false
  await using pair = await openPair((stream, path, session) => {
    if (path === '/last' && !hasRotated) {
      hasRotated = true
      stream.session?.goaway(0, stream.id)
    }
    setTimeout(() => stream.closed || answer(stream, path, session), 5)
  })
  for (const path of ['/a', '/b', '/last']) if (path !== '/last') await pair.get(path)
  await Promise.all([pair.get('/last'), pair.get('/behind'), pair.get('/behind')])

  for (let at = 0; at < 20; at += 1) assert.equal((await pair.get('/c')).slice(0, 3), '200')

  assert.ok(pair.sessions.length <= 4, `${pair.sessions.length} sessions`)
})

test('createHttp2Upstream() does not go on for ever where each session says GOAWAY to what it is sent', async () => {
  let sessions = 0
  await using upstream = await openRawUpstream((socket) => {
    sessions += 1
    const last = Buffer.from('7fffffff00000000', 'hex')
    socket.once('data', () => {
      socket.write(Buffer.concat([frame('settings', 0, 0, ''), frame('goaway', 0, 0, last)]))
    })
  })
  await using door = await openDoorTo(upstream.port)

  assert.match(await ask(door, 'POST', '/a', 'body'), /^502 upstream_/)
  assert.ok(sessions <= 3)
})

test('createHttp2Upstream() lets a session answer with a mebibyte before it has to wait, whatever its streams', async () => {
  const received: Buffer[] = []
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', (chunk: Buffer) => received.push(chunk))
    socket.write(frame('settings', 0, 0, ''))
  })
  await using door = await openDoorTo(upstream.port)
  const asked = ask(door, 'GET', '/a').catch(() => {})
  const more = Buffer.alloc(4)
  more.writeUInt32BE(1_048_576 - 65_535)

  await until(() => Buffer.concat(received).includes(frame('window_update', 0, 0, more)), 'the window')

  await upstream[Symbol.asyncDispose]()
  await asked
})

test('createHttp2Upstream() does not repeat a POST whose head waits for room and never leaves, once its body is taken', async () => {
  const sockets: Socket[] = []
  const window = Buffer.from('00047fffffff', 'hex')
  const more = Buffer.from('7fff0000', 'hex')
  await using upstream = await openRawUpstream((socket) => {
    sockets.push(socket)
    socket.once('data', () => {
      socket.write(Buffer.concat([frame('settings', 0, 0, window), frame('window_update', 0, 0, more)]))
      if (sockets.length === 1) socket.pause()
    })
  })
  const ours: Socket[] = []
  await using door = await openDoorTo(upstream.port, { headMs: 20_000 }, ours)
  const large = ask(door, 'POST', '/large', 'x'.repeat(30_000_000))
  // Its socket is full then, however long that takes, and no head leaves any more.
  await untilStill(() => (door.decisions.length === 1 ? (ours[0]?.bytesWritten ?? 0) : 0), 'the first to be stuck')
  const small = ask(door, 'POST', '/small', 'body')
  await until(() => door.decisions.length === 2, 'the second')
  await settle()

  sockets[0]?.write(frame('goaway', 0, 0, Buffer.from('7fffffff00000000', 'hex')))
  await settle()
  sockets[0]?.resume()

  assert.equal(await small, '502 upstream_reset')
  assert.equal(sockets.length, 1)
  sockets[0]?.destroy()
  await large
})

test('createHttp2Upstream() calls off a request that is given up before its body is asked for', async () => {
  const streams: ServerHttp2Stream[] = []
  await using pair = await openPair((stream) => void streams.push(stream))
  const { port } = pair
  const deadlines = createDeadlines({ monotonicMs: () => performance.now() })
  const list = [{ name: 'a', open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2') }]
  const upstream = createHttp2Upstream({ list: () => list }, usual, deadlines)
  const request: UpstreamRequest = {
    ...{ method: 'POST', target: '/', authority: 'a', own: { lines: ['Host', 'a'], text: 'Host: a\r\n' }, lines: [] },
    ...{ framing: 4, upgrade: undefined, repeatable: false },
  }
  const listener = (told: string[]): AnswerEvents => ({
    opened(exchange) {
      told.push('opened')
      exchange.abort()
    },
    head: () => void told.push('head'),
    ...{ data() {}, end() {}, flush() {}, drained() {}, switched() {} },
    failed: () => void told.push('failed'),
  })
  const first: string[] = []
  upstream.open(request, listener(first))
  await until(() => first.length > 0, 'the first')

  const second: string[] = []
  const events = listener(second)
  upstream.open(request, events)
  upstream.cancel(events)

  await until(() => streams.length === 2 && streams.every(({ closed }) => closed), 'two that are closed')
  assert.deepEqual([first, second], [['opened'], []])
  upstream.close()
})

test('createHttp2Upstream().close() ends also what is under way at a place that is listed no more', async () => {
  await using pair = await openPair((stream) => stream.respond({ ':status': 200 }))
  const { port, sessions } = pair
  const deadlines = createDeadlines({ monotonicMs: () => performance.now() })
  let list = [{ name: 'a', open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2') }]
  let changed = () => {}
  const watch = (tell: () => void) => {
    changed = tell
  }
  const upstream = createHttp2Upstream({ list: () => list, watch }, usual, deadlines)
  const told: string[] = []
  upstream.open(
    {
      ...{ method: 'GET', target: '/', authority: 'a', own: { lines: ['Host', 'a'], text: 'Host: a\r\n' }, lines: [] },
      ...{ framing: 'none', upgrade: undefined, repeatable: true },
    },
    {
      head: () => void told.push('head'),
      ...{ opened() {}, data() {}, end() {}, flush() {}, drained() {}, switched() {} },
      failed: (problem) => void told.push(problem),
    },
  )
  await until(() => told.length > 0, 'the head')
  list = []
  changed()
  await settle()
  assert.deepEqual(told, ['head'])
  assert.deepEqual(
    sessions.map(({ closed }) => closed),
    [false],
    'it may finish',
  )

  upstream.close()

  await until(() => told.length === 2 && sessions[0]?.closed === true, 'its end')
})

const broken: readonly { readonly what: string; readonly handle: Handle; readonly want: string }[] = [
  { what: 'a reset', handle: (stream) => stream.close(2), want: '502 upstream_reset' },
  { what: 'no head for too long', handle: () => {}, want: '504 upstream_timeout' },
  {
    what: 'a huge head',
    handle(stream) {
      stream.respond({ ':status': 200, 'x-a': 'a'.repeat(40_000) })
      stream.end()
    },
    want: '502 upstream_reset',
  },
]
for (const { what, handle, want } of broken) {
  test(`createHttp2Upstream() has ${what} answered ${want}, and the next request served`, async () => {
    await using pair = await openPair(
      (stream, path, session) => (path === '/next' ? answer : handle)(stream, path, session),
      { headMs: 1000 },
    )

    assert.equal(await pair.post('/first'), want)
    assert.equal(await pair.get('/next'), '200 /next 1')
  })
}

const ok = [[':status', '200']] as const
const two = [...ok, ['content-length', '2']] as const
const beyond = [
  {
    what: 'a body to HEAD',
    method: 'HEAD',
    said: (id: number) => [headers(id, two, false), data(id, 'ab')],
    want: '200 ',
  },
  {
    what: 'a body behind 304',
    method: 'GET',
    said: (id: number) => [headers(id, [[':status', '304']], false), data(id, 'ab')],
    want: '304 ',
  },
  {
    what: 'more than its length',
    method: 'GET',
    said: (id: number) => [headers(id, two, false), data(id, 'abc')],
    want: '502 upstream_reset',
  },
]
for (const { what, method, said, want } of beyond) {
  test(`createHttp2Upstream() keeps the other answers of a session of which one has ${what}`, async () => {
    let sessions = 0
    const asked: number[] = []
    const sockets: Socket[] = []
    await using upstream = await openRawUpstream((socket) => {
      sessions += 1
      sockets.push(socket)
      let received: Buffer = Buffer.alloc(0)
      socket.write(frame('settings', 0, 0, ''))
      socket.on('data', (chunk: Buffer) => {
        received = Buffer.concat([received, chunk])
        asked.splice(0, asked.length, ...requestsIn(received))
      })
    })
    await using door = await openDoorTo(upstream.port)
    const others = [ask(door, 'POST', '/other', 'body'), ask(door, 'GET', '/other')]
    await until(() => asked.length === 2, 'the others')
    const bad = ask(door, method, '/bad')
    await until(() => asked.length === 3, 'the third')

    const [one = 0, other = 0, third = 0] = asked
    sockets[0]?.write(Buffer.concat([headers(one, ok, false), data(one, 'begun', 0), ...said(third)]))
    assert.equal(await bad, want)
    sockets[0]?.write(Buffer.concat([data(one, ' and ended'), headers(other, [[':status', '204']])]))

    assert.deepEqual((await Promise.all(others)).sort(), ['200 begun and ended', '204 '])
    assert.equal(sessions, 1)
  })
}

test('createHttp2Upstream() ends a request that has a length with its last byte, and not a moment later', async () => {
  const received: Buffer[] = []
  await using upstream = await openRawUpstream((socket) => {
    socket.write(frame('settings', 0, 0, ''))
    socket.on('data', (chunk: Buffer) => {
      received.push(chunk)
      if (chunk.includes('0123456789')) socket.write(headers(1, [[':status', '204']]))
    })
  })
  await using door = await openDoorTo(upstream.port)

  assert.equal(await ask(door, 'POST', '/a', '0123456789'), '204 ')
  const last = frame('data', flags.endStream, 1, '0123456789')
  assert.ok(Buffer.concat(received).includes(last))
})

const data = (stream: number, text: string, flag: number = flags.endStream) => frame('data', flag, stream, text)

test('createHttp2Upstream() says that it takes trailers, once, whatever the client says: gRPC asks for that', async () => {
  const seen: unknown[] = []
  const server = createServer()
  server.on('stream', (stream: ServerHttp2Stream, fields, _flags, lines: readonly string[]) => {
    seen.push([fields['te'], lines.filter((text) => text === 'te').length])
    stream.respond({ ':status': 204 }, { endStream: true })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  await using door = await openDoorTo(port)

  await door.send('GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
  await door.send('GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: te, close\r\nTE: gzip, trailers\r\n\r\n')
  server.close()

  assert.deepEqual(seen, [
    ['trailers', 1],
    ['trailers', 1],
  ])
})

test('createHttp2Upstream() has nothing remembered that client or upstream will not have remembered', async () => {
  const seen: (readonly string[] | undefined)[] = []
  const answered: typeof seen = []
  const server = createServer()
  server.on('stream', (stream: ServerHttp2Stream, fields) => {
    const secret: readonly string[] = Reflect.get(fields, sensitiveHeaders)
    seen.push(secret)
    stream.respond(
      { ':status': 204, 'x-api-key': 'a', 'x-b': 'b', [sensitiveHeaders]: [...secret] },
      { endStream: true },
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  await using door = await openDoorTo(port)
  const session = connectSession(`http://127.0.0.1:${door.door.port}`)

  for (const secret of [['x-api-key'], []]) {
    const stream = session.request({ ':path': '/a', 'x-api-key': 'secret', 'x-a': 'b', [sensitiveHeaders]: secret })
    stream.on('response', (fields) => answered.push(Reflect.get(fields, sensitiveHeaders)))
    stream.resume()
    await once(stream, 'close')
  }

  assert.deepEqual(seen, [['x-api-key'], []])
  assert.deepEqual(answered, [['x-api-key'], []])
  session.destroy()
  server.close()
})

test('createHttp2Upstream() sends a head of more than 64 KiB on the session that others are on', async () => {
  const server = createServer({ settings: { maxHeaderListSize: 1_000_000 } })
  const sessions: ServerHttp2Session[] = []
  server.on('session', (session) => sessions.push(session))
  server.on('stream', (stream: ServerHttp2Stream, fields) => {
    if (fields[':path'] === '/held') stream.respond({ ':status': 200 })
    else answer(stream, String(String(fields[':path']).length), 1)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  const list = [{ name: 'a', open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2') }]
  const { request } = serverLimits(limitsOptions.parse({}))
  await using door = await openDoor(port, undefined, {
    upstream: (deadlines) => createHttp2Upstream({ list: () => list }, usual, deadlines),
    limits: { request: { ...request, target: 100_000, fields: { ...request.fields, bytes: 200_000, one: 200_000 } } },
  })
  const held = door.send(pipelined('/held'), 5000)
  await until(() => sessions.length === 1, 'a session')

  const said = await door.send(pipelined(`/${'a'.repeat(89_999)}`))
  assert.match(said, /^HTTP\/1\.1 200 .*\r\n90000 1\r\n/s)
  assert.equal(sessions.length, 1)
  for (const session of sessions) session.destroy()
  server.close()
  await held
})

test('createHttp2Upstream() has a refused connection, and one that never greets, answered 502 upstream_connect', async () => {
  await using silent = await openRawUpstream(() => {})
  await using gone = await openDoorTo(1)
  await using waits = await openDoorTo(silent.port, { connectMs: 500 })

  assert.equal(await ask(gone, 'GET', '/a'), '502 upstream_connect')
  assert.equal(await ask(waits, 'GET', '/a'), '502 upstream_connect')
})

test('createHttp2Upstream() has an upstream that speaks HTTP/1.1 answered 502', async () => {
  await using old = await openRawUpstream((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await using door = await openDoorTo(old.port)

  assert.match(await ask(door, 'GET', '/a'), /^502 upstream_/)
  assert.match(await ask(door, 'POST', '/a', 'body'), /^502 upstream_/)
})

for (const hasBegun of [false, true]) {
  test(`createHttp2Upstream() counts no time against an upstream that waits for the client, ${hasBegun ? 'and has begun to answer' : 'nor calls it failed'}`, async () => {
    await using pair = await openPair(
      (stream, path, session) => {
        if (hasBegun) stream.respond({ ':status': 200 })
        stream.resume()
        stream.on('end', () => {
          if (!hasBegun) stream.respond({ ':status': 200 })
          stream.end(`${path} ${session}`)
        })
      },
      { headMs: 300, bodyMs: 300 },
    )
    const client = connectSession(`http://127.0.0.1:${pair.door.door.port}`)
    client.on('error', () => {})
    const stream = client.request({ ':path': '/slow', ':method': 'POST' })
    stream.on('error', () => {})
    stream.write('a')

    await sleep(1200)
    stream.end('b')

    assert.equal(await text(stream), '/slow 1')
    client.destroy()
  })
}

test('createHttp2Upstream() times out an upstream that stops reading a request', async () => {
  await using pair = await openPair((stream) => void stream.pause(), { headMs: 500 })

  assert.equal(await pair.post('/a', 'a'.repeat(2_000_000)), '504 upstream_timeout')
})

test('createHttp2Upstream() sends others on another session when one has no more room for bodies', async () => {
  let sessions = 0
  await using upstream = await openRawUpstream((socket) => {
    sessions += 1
    const isFirst = sessions === 1
    const last = frame('data', flags.endStream, 1, 'b')
    socket.once('data', () => socket.write(frame('settings', 0, 0, '')))
    // The first one gives no room back.
    socket.on('data', (bytes: Buffer) => {
      if (!isFirst && bytes.includes(last)) socket.write(headers(1, [[':status', '204']]))
    })
  })
  await using door = await openDoorTo(upstream.port, { headMs: 1000, connectMs: 20_000 })

  assert.equal(await ask(door, 'POST', '/a', 'a'.repeat(200_000)), '504 upstream_timeout')
  assert.equal(await ask(door, 'POST', '/b', 'b'), '204 ')
  assert.equal(sessions, 2)
})

test('createHttp2Upstream() asks another place before a session without room for bodies, where there can be no other', async () => {
  // Begins to answer a GET, and answers a body that has come whole; gives no room back.
  const serve = (socket: Socket) => {
    let unread = Buffer.alloc(0)
    socket.once('data', () => socket.write(frame('settings', 0, 0, '')))
    socket.on('data', (bytes: Buffer) => {
      unread = Buffer.concat([unread, bytes])
      if (unread.subarray(0, 3).toString() === 'PRI') unread = unread.subarray(preface.length)
      while (unread.length >= 9 && unread.length >= 9 + unread.readUIntBE(0, 3)) {
        const [size, type, flag] = [unread.readUIntBE(0, 3), unread.readUInt8(3), unread.readUInt8(4)]
        const stream = unread.readUInt32BE(5)
        unread = unread.subarray(9 + size)
        const hasEnded = (flag & flags.endStream) !== 0
        if (type === frameTypes.headers && hasEnded)
          socket.write(Buffer.concat([headers(stream, [[':status', '200']], false), frame('data', 0, stream, 'x')]))
        if (type === frameTypes.data && hasEnded) socket.write(headers(stream, [[':status', '204']]))
      }
    })
  }
  await using first = await openRawUpstream(serve)
  await using second = await openRawUpstream(serve)
  const list = [first, second].map(({ port }) => {
    return { name: String(port), open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'h2') }
  })
  const limits = { ...usual, headMs: 1000, connectMs: 20_000, connections: 2 }
  await using door = await openDoor(first.port, undefined, {
    upstream: (deadlines) => createHttp2Upstream({ list: () => list }, limits, deadlines),
  })
  const controller = new AbortController()
  for (let at = 0; at < 4; at += 1)
    assert.equal((await fetch(`http://127.0.0.1:${door.door.port}/held`, { signal: controller.signal })).status, 200)

  assert.equal(await ask(door, 'POST', '/a', 'a'.repeat(200_000)), '504 upstream_timeout')

  for (let at = 0; at < 4; at += 1) assert.equal(await ask(door, 'POST', '/b', 'b'), '204 ')
  controller.abort()
})

test('createHttp2Upstream() keeps a session of which a request had no answer in time, though all of it was read', async () => {
  await using pair = await openPair(
    (stream, path, session) => {
      if (path === '/next') answer(stream, path, session)
      else stream.resume()
    },
    { headMs: 500 },
  )

  assert.equal(await pair.post('/a'), '504 upstream_timeout')
  assert.equal(await pair.post('/next'), '200 /next 1')
})

for (const more of [0, 1])
  test(`createHttp2Upstream() keeps what the upstream has no room for as it came, ${more > 0 ? 'though there is more to come' : 'the last of it'}, whatever others read meanwhile`, async () => {
    const bodies: Promise<string>[] = []
    await using pair = await openPair(
      (stream) => void bodies.push(text(stream)),
      {},
      { settings: { initialWindowSize: 0 } },
    )
    const letters = ['a', 'b', 'c']
    await using clients = new AsyncDisposableStack()
    const opened: Socket[] = []
    for (const [at, letter] of letters.entries()) {
      const client = clients.adopt(connect(pair.door.door.port, '127.0.0.1'), (each) => void each.destroy())
      opened.push(client)
      client.write(`POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${1000 + more}\r\n\r\n`)
      await until(() => bodies.length > at, 'the request')
      client.write(letter.repeat(1000))
      await settle()
    }

    for (const client of opened) client.write('x'.repeat(more))
    pair.sessions[0]?.settings({ initialWindowSize: 65_535 })

    assert.deepEqual(
      await Promise.all(bodies),
      letters.map((letter) => letter.repeat(1000) + 'x'.repeat(more)),
    )
  })

test('createHttp2Upstream() sends nothing more on a session whose upstream is gone without a word', async () => {
  let sessions = 0
  await using upstream = await openRawUpstream((socket) => {
    sessions += 1
    const isFirst = sessions === 1
    socket.write(frame('settings', 0, 0, ''))
    onRequest(socket, () => {
      socket.write(headers(1, [[':status', '204']]))
      if (isFirst) socket.pause()
    })
  })
  await using door = await openDoorTo(upstream.port, { headMs: 300, connectMs: 500 })
  assert.equal(await ask(door, 'GET', '/first'), '204 ')
  assert.equal(await ask(door, 'GET', '/lost'), '504 upstream_timeout')

  // It is not even idle while it is asked whether it is there.
  const busy = ask(door, 'GET', '/busy')
  await sleep(1200)
  await busy

  assert.equal(await ask(door, 'POST', '/next', 'body'), '204 ')
  assert.equal(sessions, 2)
})

test('createHttp2Upstream() opens another session before the stream numbers of one are used up', async (context) => {
  const http2 = process.getBuiltinModule('node:http2')
  const connect = http2.connect
  const mocked = context.mock.method(http2, 'connect', (...args: Parameters<typeof connect>) => {
    const session = connect(...args) as ReturnType<typeof connect> & { setNextStreamID: (id: number) => void } // not typed
    // Two are left (RFC 9113 §5.1.1).
    if (mocked.mock.callCount() === 0) session.on('connect', () => session.setNextStreamID(2 ** 31 - 3))
    return session
  })
  await using pair = await openPair(answer)

  const said: string[] = []
  for (let at = 0; at < 4; at += 1) said.push(await pair.post('/a'))

  assert.deepEqual(said, ['200 /a 1', '200 /a 2', '200 /a 2', '200 /a 2'])
})

const half: readonly { readonly how: string; readonly end: (stream: ServerHttp2Stream) => void }[] = [
  { how: 'is reset', end: (stream) => stream.close(2) },
  { how: 'is shorter than it says', end: (stream) => stream.end() },
  { how: 'stands still', end: () => {} },
  { how: 'is lost with its connection', end: (stream) => stream.session?.destroy() },
]
for (const { how, end } of half) {
  test(`createHttp2Upstream() cuts the client off when an answer ${how}`, async () => {
    await using pair = await openPair(
      (stream) => {
        stream.respond({ ':status': 200, 'content-length': 10 })
        stream.write('half')
        setTimeout(() => end(stream), 20)
      },
      { bodyMs: 500 },
    )

    await assert.rejects(pair.get('/a'))
    assert.equal(pair.door.exchanges[0]?.status, 200)
    assert.ok(pair.door.exchanges[0]?.upstreamFailure !== undefined)
  })
}

for (const { what, fields, endFlag, outcome } of [
  { what: 'of unknown length that has no end', fields: [], endFlag: 0, outcome: 'refused' },
  { what: 'of unknown length that has ended', fields: [], endFlag: flags.endStream, outcome: 'whole' },
  { what: 'that is as long as it says', fields: [['content-length', '4']] as const, endFlag: 0, outcome: 'whole' },
  {
    what: 'that is shorter than it says',
    fields: [['content-length', '5']] as const,
    endFlag: 0,
    outcome: 'refused',
  },
]) {
  test(`createHttp2Upstream() has an answer ${what} before its stream is reset without an error ${outcome}`, async () => {
    await using upstream = await openRawUpstream((socket) => {
      socket.write(frame('settings', 0, 0, ''))
      onRequest(socket, () => {
        const head = headers(1, [[':status', '200'], ...fields], false)
        socket.write(Buffer.concat([head, frame('data', endFlag, 1, 'half'), reset(1, codes.noError)]))
      })
    })
    await using door = await openDoorTo(upstream.port)

    assert.equal(await ask(door, 'GET', '/a'), outcome === 'whole' ? '200 half' : '502 upstream_reset')
    await until(() => door.exchanges.length === 1, 'the exchange to be told')
    assert.equal(door.exchanges[0]?.upstreamFailure, outcome === 'whole' ? undefined : 'upstream_reset')
  })
}

for (const { status, outcome } of [
  { status: '599', outcome: '599 ' },
  { status: '600', outcome: '502 upstream_reset' },
  { status: '999', outcome: '502 upstream_reset' },
  { status: '2000', outcome: '502 upstream_reset' },
  { status: 'OK', outcome: '502 upstream_reset' },
]) {
  test(`createHttp2Upstream() makes ${outcome} of an answer whose status is ${status}`, async () => {
    await using upstream = await openRawUpstream((socket) => {
      socket.write(frame('settings', 0, 0, ''))
      onRequest(socket, () => socket.write(headers(1, [[':status', status]])))
    })
    await using door = await openDoorTo(upstream.port)

    assert.equal(await ask(door, 'GET', '/a'), outcome)
  })
}

/** An upstream of bytes that answers the first request of a session with 204, and the second with what is said. */
async function openSaying(said: (id: number) => readonly Buffer[], ends = false) {
  let asked = 0
  const upstream = await openRawUpstream((socket) => {
    let answered = 0
    let received: Buffer = Buffer.alloc(0)
    socket.write(frame('settings', 0, 0, ''))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      for (const id of requestsIn(received).slice(answered)) {
        answered += 1
        asked += 1
        socket.write(answered === 1 ? headers(id, [[':status', '204']]) : Buffer.concat(said(id)))
        if (answered > 1 && ends) socket.end()
      }
    })
  })
  return { ...upstream, asked: () => asked }
}

const begin = (id: number, status: string) => headers(id, [[':status', status]], false)
for (const { what, said, ends } of [
  { what: 'an interim answer and the end of the connection', said: (id: number) => [begin(id, '103')], ends: true },
  {
    what: 'an interim answer before its stream is refused',
    said: (id: number) => [begin(id, '103'), reset(id, codes.refused)],
    ends: false,
  },
]) {
  test(`createHttp2Upstream() does not repeat a GET that has got ${what}`, async () => {
    await using upstream = await openSaying(said, ends)
    await using door = await openDoorTo(upstream.port)
    assert.equal(await ask(door, 'GET', '/first'), '204 ')

    assert.equal(await ask(door, 'GET', '/second'), '502 upstream_reset')

    assert.equal(upstream.asked(), 2)
  })
}

const hints = (id: number, count: number) => Array.from({ length: count }, () => begin(id, '103'))
const trailed = (id: number, trailers: readonly Field[]) => [
  headers(id, [[':status', '200']], false),
  data(id, 'whole', 0),
  headers(id, trailers),
]
for (const { what, said, outcome } of [
  {
    what: '16 interim answers before it',
    said: (id: number) => [...hints(id, 16), headers(id, [[':status', '204']])],
    outcome: '204 ',
  },
  {
    what: '17 interim answers before it',
    said: (id: number) => [...hints(id, 17), headers(id, [[':status', '204']])],
    outcome: '502 upstream_reset',
  },
  { what: 'trailers', said: (id: number) => trailed(id, [['x-a', 'b']]), outcome: '200 whole' },
  {
    what: 'white space before a trailer',
    said: (id: number) => trailed(id, [['x-a', ' b']]),
    outcome: '502 upstream_reset',
  },
]) {
  test(`createHttp2Upstream() makes ${outcome} of an answer with ${what}`, async () => {
    await using upstream = await openSaying(said)
    await using door = await openDoorTo(upstream.port)
    assert.equal(await ask(door, 'GET', '/first'), '204 ')

    assert.equal(await ask(door, 'GET', '/second'), outcome)
  })
}

test('createHttp2Upstream() passes trailers both ways, and a HEAD, a 204 and a 304 as they are', async () => {
  const got: unknown[] = []
  await using pair = await openPair((stream, path) => {
    stream.on('trailers', (fields) => got.push(fields['x-asked']))
    stream.resume()
    if (path !== '/trailers') {
      stream.respond({ ':status': Number(path.slice(1)), 'x-a': 'b' }, { endStream: true })
      return
    }
    stream.on('end', () => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-last': 'words' }))
      stream.end('body')
    })
  })

  const chunked = 'POST /trailers HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n'
  const said = await pair.door.send(`${chunked}3\r\nabc\r\n0\r\nX-Asked: that\r\nTe: gzip\r\n\r\n`)
  assert.match(said, /^HTTP\/1\.1 200 [\s\S]*\r\n4\r\nbody\r\n0\r\nx-last: words\r\n\r\n$/)
  assert.deepEqual(got, ['that'])

  for (const [method, path] of [
    ['HEAD', '/200'],
    ['GET', '/204'],
    ['GET', '/304'],
  ] as const) {
    const bare = await pair.door.send(`${method} ${path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n`)
    assert.match(bare, new RegExp(`^HTTP/1\\.1 ${path.slice(1)} [\\s\\S]*x-a: b\\r\\n[\\s\\S]*\\r\\n\\r\\n$`))
    assert.doesNotMatch(bare, /chunked/)
  }
})

test('createHttp2Upstream() passes on trailers as long as heads may be', async () => {
  const details = 'd'.repeat(20_000)
  await using pair = await openPair((stream) => {
    stream.respond({ ':status': 200 }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status-details-bin': details }))
    stream.end('body')
  })
  const session = connectSession(`http://127.0.0.1:${pair.door.door.port}`)
  const stream = session.request({ ':path': '/a' })
  stream.resume()

  const [trailers] = await once(stream, 'trailers')

  assert.equal(trailers['grpc-status-details-bin'], details)
  session.destroy()
})

test('createHttp2Upstream() takes an early answer, and sends no more of the body', async () => {
  let read = 0
  await using pair = await openPair((stream, path, session) => {
    if (path === '/next') {
      answer(stream, path, session)
      return
    }
    stream.once('data', (chunk: Buffer) => {
      read += chunk.length
      stream.pause()
      stream.respond({ ':status': 413 })
      stream.end('no')
    })
  })

  const session = connectSession(`http://127.0.0.1:${pair.door.door.port}`)
  session.on('error', () => {})
  const stream = session.request({ ':path': '/a', ':method': 'POST' })
  stream.on('error', () => {})
  const body = setInterval(() => stream.write(Buffer.alloc(10_000)), 1)
  const [head] = await once(stream, 'response')
  clearInterval(body)
  session.destroy()

  assert.equal(head[':status'], 413)
  assert.ok(read < 100_000)
  assert.equal(await pair.get('/next'), '200 /next 1')
})

test('createHttp2Upstream() gives the whole of an early answer to a client that reads it later and still sends', async () => {
  let upload: ServerHttp2Stream | undefined
  await using pair = await openPair((stream) => {
    upload = stream
    stream.once('data', () => {
      stream.pause()
      stream.respond({ ':status': 413 })
      stream.end(Buffer.alloc(200_000), () => stream.close(codes.noError))
    })
  })
  const session = connectSession(`http://127.0.0.1:${pair.door.door.port}`)
  session.on('error', () => {})
  const stream = session.request({ ':path': '/a', ':method': 'POST' })
  stream.on('error', () => {})
  stream.write(Buffer.alloc(1000))
  await once(stream, 'response')
  await until(() => upload?.closed === true, 'the end of the answer')
  await settle()

  for (let at = 0; at < 10; at += 1) {
    stream.write(Buffer.alloc(1000))
    await settle(2)
  }
  const body = await Promise.race([buffer(stream), sleep(20_000, undefined, { ref: false })])

  assert.equal(body?.length, 200_000)
  session.destroy()
})

test('createHttp2Upstream() resets the stream of a client that leaves, and keeps the session', async () => {
  const { promise: aborted, resolve } = Promise.withResolvers<number | undefined>()
  let isAsked = false
  await using pair = await openPair((stream, path, session) => {
    isAsked ||= path === '/slow'
    if (path !== '/slow') answer(stream, path, session)
    else stream.on('close', () => resolve(stream.rstCode))
  })
  const controller = new AbortController()
  const left = fetch(`http://127.0.0.1:${pair.door.door.port}/slow`, { signal: controller.signal }).catch(() => 'left')
  await until(() => isAsked, 'the request')

  controller.abort()

  assert.equal(await left, 'left')
  assert.equal(await aborted, 8)
  assert.equal(await pair.get('/next'), '200 /next 1')
})

test('createHttp2Upstream() reads no more of an answer than the client takes, and serves the others meanwhile', async () => {
  let sent = 0
  await using pair = await openPair((stream, path, session) => {
    if (path !== '/big') {
      answer(stream, path, session)
      return
    }
    stream.respond({ ':status': 200 })
    const pump = () => {
      do sent += 65_536
      while (stream.write(Buffer.alloc(65_536)) && sent < 64e6)
    }
    stream.on('drain', pump)
    pump()
  })
  const session = connectSession(`http://127.0.0.1:${pair.door.door.port}`)
  session.on('error', () => {})
  const stream = session.request({ ':path': '/big' })
  stream.on('error', () => {})
  stream.pause()
  await once(stream, 'response')
  await sleep(300)

  const stopped = sent
  assert.ok(stopped < 8e6, `${stopped} bytes were taken`)
  for (let at = 0; at < 20; at += 1) assert.equal(await pair.get('/a'), '200 /a 1')
  session.destroy()
})

/** Has clients ask and leave, until so many of their streams were called off. */
async function leaveStreams(
  door: Door,
  upstream: { readonly asked: number; readonly called: number },
  count: number,
): Promise<void> {
  while (upstream.called < count) {
    const wanted = upstream.asked + 20
    const leaving = Array.from({ length: 20 }, () => new AbortController())
    const asked = leaving.map(({ signal }) =>
      fetch(`http://127.0.0.1:${door.door.port}/slow`, { signal }).catch(() => {}),
    )
    await until(() => upstream.asked === wanted, 'twenty streams')
    for (const each of leaving) each.abort()
    await Promise.all(asked)
    await until(() => upstream.called === wanted, 'their end')
  }
}

for (const connections of [256, 1]) {
  const where = connections === 1 ? 'the same session where there can be no other' : 'a fresh session'
  test(`createHttp2Upstream() goes to ${where} after clients have left 200 streams of one, and ends what is under way`, async () => {
    const upstream = { asked: 0, called: 0 }
    let long: ServerHttp2Stream | undefined
    await using pair = await openPair(
      (stream, path, session) => {
        if (path === '/long') long = stream
        else if (path === '/slow') {
          upstream.asked += 1
          stream.on('close', () => {
            upstream.called += 1
          })
        } else answer(stream, path, session)
      },
      { connections },
      // As nghttp2 has it, it would close the session after a thousand.
      { streamResetBurst: 250, streamResetRate: 1 },
    )
    const waiting = pair.get('/long')
    await leaveStreams(pair.door, upstream, 180)
    assert.equal(await pair.get('/before'), '200 /before 1')

    await leaveStreams(pair.door, upstream, 200)

    assert.equal(await pair.get('/after'), connections === 1 ? '200 /after 1' : '200 /after 2')
    if (connections > 1) await leaveStreams(pair.door, upstream, 380)
    assert.ok(long !== undefined)
    long.respond({ ':status': 200 })
    long.end('long')
    assert.equal(await waiting, '200 long')
  })
}

// RFC 7541 appendix A: `:method: GET`, which comes first.
const get = 0x82

/**
 * An upstream that answers HEAD at once, with a body all the same, and GET when it is told to.
 *
 * @returns Its port, and how many requests each of its sessions had.
 */
async function openBodyUpstream() {
  const asked: number[] = []
  const waiting: (() => void)[] = []
  const upstream = await openRawUpstream((socket) => {
    const session = asked.push(0) - 1
    let received: Buffer = Buffer.alloc(0)
    let at = preface.length
    socket.write(frame('settings', 0, 0, ''))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      for (; at + 9 <= received.length && at + 9 + received.readUIntBE(at, 3) <= received.length; ) {
        if (received[at + 3] === frameTypes.headers) take(received.readUInt32BE(at + 5), received[at + 9] === get)
        at += 9 + received.readUIntBE(at, 3)
      }
    })

    function take(stream: number, isGet: boolean): void {
      asked[session] = (asked[session] ?? 0) + 1
      const said = Buffer.concat([headers(stream, ok, false), frame('data', flags.endStream, stream, 'ab')])
      if (isGet) waiting.push(() => socket.write(said))
      else socket.write(said)
    }
  })
  return { ...upstream, asked, waiting }
}

/** Asks so often, twenty at a time, and gives what was answered, once. */
async function askHead(door: Door, times: number): Promise<readonly string[]> {
  const answers = new Set<string>()
  for (let at = 0; at < times; at += 20)
    for (const said of await Promise.all(Array.from({ length: 20 }, () => ask(door, 'HEAD', '/a')))) answers.add(said)
  return [...answers]
}

for (const { connections, times, sessions, what } of [
  { connections: 256, times: 500, sessions: 3, what: 'takes one session after another' },
  // Node itself would end it after a thousand.
  { connections: 1, times: 1100, sessions: 1, what: 'keeps the one session there can be' },
]) {
  test(`createHttp2Upstream() ${what} where ${times} answers to HEAD have a body, and cuts nobody off`, async () => {
    await using upstream = await openBodyUpstream()
    await using door = await openDoorTo(upstream.port, { connections })
    const long = ask(door, 'GET', '/long')
    await until(() => upstream.waiting.length === 1, 'the long one')

    assert.deepEqual(await askHead(door, times), ['200 '])

    upstream.waiting[0]?.()
    assert.equal(await long, '200 ab')
    assert.equal(upstream.asked.length, sessions)
  })
}

test('createHttp2Upstream() takes sessions in turn where all have lost 200 streams, and there can be no other', async () => {
  await using upstream = await openBodyUpstream()
  await using door = await openDoorTo(upstream.port, { connections: 2 })
  const long: Promise<string>[] = []
  for (const session of [1, 2]) {
    long.push(ask(door, 'GET', '/long'))
    await until(() => upstream.waiting.length === session, 'what keeps it open')
    await askHead(door, 200)
  }
  const before = [...upstream.asked]

  await askHead(door, 100)

  assert.deepEqual(before, [201, 201])
  assert.deepEqual(upstream.asked, [251, 251])
  for (const answer of upstream.waiting) answer()
  assert.deepEqual(await Promise.all(long), ['200 ab', '200 ab'])
})

test('createHttp2Upstream() goes to a fresh session when the upstream says that one costs it too much', async () => {
  await using pair = await openPair((stream, path, session) => {
    if (path === '/dear') stream.close(codes.calm)
    else answer(stream, path, session)
  })

  assert.equal(await pair.get('/a'), '200 /a 1')
  assert.equal(await pair.get('/dear'), '502 upstream_reset')
  assert.equal(await pair.get('/b'), '200 /b 2')
})

test('createHttp2Upstream() gives a request that waits to no session that costs too much and is about to close', async () => {
  await using pair = await openPair(
    (stream, path, session) => {
      if (path === '/dear') setTimeout(() => stream.close(codes.calm), 50)
      else answer(stream, path, session)
    },
    { connections: 1 },
    { settings: { maxConcurrentStreams: 1 } },
  )
  assert.equal(await pair.get('/a'), '200 /a 1')

  const [dear, next] = [pair.post('/dear'), pair.post('/b')]

  assert.equal(await dear, '502 upstream_reset')
  assert.equal(await next, '200 /b 2')
})

test('createHttp2Upstream() says overloaded where the upstream is there and never allows a stream', async () => {
  await using pair = await openPair(answer, { queuedMs: 1500 }, { settings: { maxConcurrentStreams: 0 } })

  assert.equal(await pair.get('/a'), '503 overloaded')
})

test('createHttp2Upstream() asks for no other session while the upstream allows no stream, and goes on when it does', async () => {
  await using pair = await openPair(answer, {}, { settings: { maxConcurrentStreams: 0 } })
  const asked = Array.from({ length: 5 }, (_, at) => pair.get(`/${at}`))
  await until(() => pair.door.decisions.length === 5, 'the requests')
  await until(() => pair.sessions.length > 0, 'a session')
  await settle()
  assert.equal(pair.sessions.length, 1)

  pair.sessions[0]?.settings({ maxConcurrentStreams: 10 })

  for (const [at, each] of asked.entries()) assert.equal(await each, `200 /${at} 1`)
})
