import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { nextTurn } from '../../src/base/time.ts'
import type { HttpAnswer, HttpRequest } from '../../src/io/http-server.ts'
import { problem, startHttpServer } from '../../src/io/http-server.ts'

const local = { host: '127.0.0.1', port: 0, maxBodyBytes: 16 }

/** Sends bytes as they are and returns everything until the server closes. */
async function raw(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('error', () => {})
  socket.write(text)
  await new Promise((resolve) => socket.once('close', resolve))
  return Buffer.concat(chunks).toString('latin1')
}

test('startHttpServer() hands over method, path, query, every header line and the body as received', async () => {
  let seen: HttpRequest | undefined
  await using server = await startHttpServer(local, {
    handle: (request) => {
      seen = request
      return { status: 200, body: 'ok' }
    },
  })

  const answer = await raw(
    server.port,
    'POST /a%2Fb//c?x=1?y HTTP/1.1\r\nHost: h\r\n__proto__: p\r\nX-A: 1\r\nx-a: 2\r\nAuthorization: a\r\nAuthorization: b\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello',
  )

  assert.match(answer, /^HTTP\/1\.1 200 [\s\S]*content-length: 2\r\n[\s\S]*ok$/i)
  assert.equal(seen?.method, 'POST')
  assert.equal(seen?.path, '/a%2Fb//c')
  assert.equal(seen?.query, 'x=1?y')
  assert.equal(seen?.body.toString(), 'hello')
  assert.deepEqual(seen?.headers.get('x-a'), ['1', '2'])
  assert.deepEqual(seen?.headers.get('authorization'), ['a', 'b'])
  assert.deepEqual(seen?.headers.get('__proto__'), ['p'])
})

const refused = [
  { sent: 'NOT HTTP\r\n\r\n', status: 400, because: 'it is not HTTP' },
  {
    sent: `GET / HTTP/1.1\r\nHost: h\r\nA: ${'a'.repeat(17_000)}\r\n\r\n`,
    status: 431,
    because: 'its head is too large',
  },
  { sent: 'GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n', status: 400, because: 'we are no proxy' },
  {
    sent: `POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 17\r\n\r\n${'a'.repeat(17)}`,
    status: 413,
    because: 'it says its body is too long',
  },
  {
    sent: `POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n${'a'.repeat(17)}\r\n0\r\n\r\n`,
    status: 413,
    because: 'its body is too long without saying so',
  },
  {
    sent: 'POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    status: 400,
    because: 'its framing is ambiguous',
  },
] as const
for (const { sent, status, because } of refused) {
  test(`startHttpServer() answers ${status} and closes when ${because}`, async () => {
    let handled = 0
    await using server = await startHttpServer(local, {
      handle: () => {
        handled += 1
        return { status: 200 }
      },
    })

    const answer = await raw(server.port, sent)

    assert.equal(answer.slice(0, 12), `HTTP/1.1 ${status}`)
    assert.equal(handled, 0)
  })
}

const broken: readonly { what: string; handle: () => HttpAnswer | Promise<HttpAnswer> }[] = [
  {
    what: 'throws',
    handle: () => {
      throw new Error('a secret')
    },
  },
  { what: 'rejects', handle: () => Promise.reject(new Error('a secret')) },
  { what: 'answers what cannot be written', handle: () => ({ status: 200, headers: { a: 'a\r\nb' } }) },
]
for (const { what, handle } of broken) {
  test(`startHttpServer() answers 500 and tells onError when the handler ${what}`, async () => {
    const errors: unknown[] = []
    await using server = await startHttpServer(local, { handle, onError: (error) => errors.push(error) })

    const answer = await fetch(`http://127.0.0.1:${server.port}/`)

    assert.equal(answer.status, 500)
    assert.equal(answer.headers.get('content-type'), 'application/problem+json')
    assert.doesNotMatch(await answer.text(), /secret/)
    assert.equal(errors.length, 1)
  })
}

test('startHttpServer() sends no body and no length with 304', async () => {
  await using server = await startHttpServer(local, {
    handle: () => ({ status: 304, headers: { etag: '"a"' }, body: 'x' }),
  })

  const answer = await raw(server.port, 'GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n')

  assert.match(answer, /^HTTP\/1\.1 304/)
  assert.doesNotMatch(answer, /content-length/i)
  assert.match(answer, /\r\n\r\n$/)
})

test('server.close() ends idle connections at once and waits for the answer under way', async () => {
  const gate = Promise.withResolvers<void>()
  const started = Promise.withResolvers<void>()
  const server = await startHttpServer(local, {
    handle: async () => {
      started.resolve()
      await gate.promise
      return { status: 200, body: 'late' }
    },
  })
  const idle = connect(server.port, '127.0.0.1')
  await once(idle, 'connect')
  const underWay = raw(server.port, 'GET / HTTP/1.1\r\nHost: h\r\n\r\n')
  await started.promise
  let closed = false

  const closing = server.close().then(() => {
    closed = true
  })
  idle.resume()
  await once(idle, 'close')
  assert.equal(closed, false)
  gate.resolve()

  assert.match(await underWay, /late$/)
  await closing
})

test('startHttpServer() makes no more than four answers for a client that asks on without reading', async () => {
  let asked = 0
  await using server = await startHttpServer(local, {
    handle: async () => {
      asked += 1
      return { status: 200, body: 'x'.repeat(1_000_000) }
    },
  })

  const answer = await raw(server.port, 'GET / HTTP/1.1\r\nHost: h\r\n\r\n'.repeat(100))

  assert.ok(answer.length < 5_000_000)
  assert.equal(asked, 4)
})

test('startHttpServer() resets who has not taken its answer in ten seconds, and nobody who has', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  await using server = await startHttpServer(local, {
    handle: ({ path }) => ({ status: 200, body: 'x'.repeat(path === '/large' ? 64_000_000 : 1) }),
  })
  const unread = await connected(server.port, 'GET /large HTTP/1.1\r\nHost: h\r\n\r\n')
  unread.once('readable', () => {})
  const taken = await connected(server.port, 'GET / HTTP/1.1\r\nHost: h\r\n\r\n')
  await once(taken.resume(), 'data')
  await once(unread, 'readable')
  const failed = once(unread, 'error')

  t.mock.timers.tick(9999)
  await nextTurn()
  assert.deepEqual([unread.closed, taken.closed], [false, false])
  t.mock.timers.tick(1)
  unread.resume()

  assert.equal((await failed)[0].code, 'ECONNRESET')
  taken.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n')
  await once(taken, 'data')
  taken.destroy()
})

test('server.close() waits a second, and no longer, for a client that keeps the rest of its request back', async () => {
  const server = await startHttpServer(local, { handle: () => ({ status: 200 }) })
  const client = connect(server.port, '127.0.0.1')
  client.on('error', () => {})
  client.write('POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n')
  await sleep(100)

  const closing = server.close().then(() => 'closed')

  assert.equal(await Promise.race([closing, sleep(5000)]), 'closed')
  client.destroy()
})

const ask = 'GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'

/** A connection that has sent these bytes. */
async function connected(port: number, text: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  if (text !== '') await new Promise((resolve) => socket.write(text, resolve))
  return socket
}

for (const held of ['', 'GET / HTTP/1.1\r\n', 'POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n'])
  test(`startHttpServer() answers who asks while its limit is held by connections that sent ${JSON.stringify(held)}`, async () => {
    let crowded = 0
    await using server = await startHttpServer(
      { ...local, maxConnections: 16 },
      { handle: () => ({ status: 200, body: 'ok' }), onCrowded: () => (crowded += 1) },
    )
    const held16 = await Promise.all(Array.from({ length: 16 }, () => connected(server.port, held)))

    for (let asked = 0; asked < 3; asked += 1) assert.match(await raw(server.port, ask), /^HTTP\/1\.1 200 /)

    // The first one answered is gone before the next comes, and leaves its place.
    assert.ok(crowded >= 1 && crowded <= 3, `${crowded} were closed`)
    for (const socket of held16) socket.destroy()
  })

test('startHttpServer() has idle connections make room first, then those without a whole request, the oldest of them', async () => {
  const answers = Promise.withResolvers<HttpAnswer>()
  await using server = await startHttpServer(
    { ...local, maxConnections: 4 },
    { handle: ({ path }) => (path === '/slow' ? answers.promise : { status: 200, body: 'ok' }) },
  )
  const order: string[] = []
  const open = async (name: string, text: string) => {
    const socket = await connected(server.port, text)
    socket.resume()
    socket.on('close', () => order.push(name))
    await sleep(50)
    return socket
  }
  const clients = [
    await open('answered', 'GET /slow HTTP/1.1\r\nHost: h\r\n\r\n'),
    await open('older', 'GET / HTTP/1.1\r\n'),
    await open('younger', 'GET / HTTP/1.1\r\n'),
    await open('idle', 'GET / HTTP/1.1\r\nHost: h\r\n\r\n'),
  ]

  for (const name of ['first', 'second', 'third']) clients.push(await open(name, ''))

  assert.deepEqual(order, ['idle', 'older', 'younger'])
  answers.resolve({ status: 200, body: 'ok' })
  for (const client of clients) client.destroy()
})

test('startHttpServer() rejects when the port is taken', async () => {
  await using server = await startHttpServer(local, { handle: () => ({ status: 200 }) })

  await assert.rejects(startHttpServer({ ...local, port: server.port }, { handle: () => ({ status: 200 }) }), {
    code: 'EADDRINUSE',
  })
})

test('problem() writes RFC 9457 with members beside it', () => {
  const answer = problem(404, 'Not found', { reason: 'no_rule' })

  assert.deepEqual(JSON.parse(String(answer.body)), {
    type: 'about:blank',
    title: 'Not found',
    status: 404,
    reason: 'no_rule',
  })
})

for (const [how, leave] of [
  ['resets', (socket: Socket) => socket.resetAndDestroy()],
  ['closes', (socket: Socket) => socket.end()],
] as const) {
  test(`startHttpServer() tells the handlers of pipelined requests that their client has left when it ${how}`, async () => {
    const signals: AbortSignal[] = []
    const handled = Promise.withResolvers<void>()
    const answer = Promise.withResolvers<HttpAnswer>()
    await using server = await startHttpServer(local, {
      handle: ({ left }) => {
        signals.push(left)
        if (signals.length === 2) handled.resolve()
        return answer.promise
      },
    })
    const socket = connect(server.port, '127.0.0.1')
    socket.write('GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n')
    await handled.promise
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [false, false],
    )

    leave(socket)
    await Promise.all(signals.map((left) => left.aborted || once(left, 'abort', { signal: AbortSignal.timeout(5000) })))

    answer.resolve({ status: 200 })
  })
}
