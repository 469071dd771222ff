import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { nextTurn } from '../../src/base/time.ts'
import type { Decision } from '../../src/decision/decision.ts'
import { sessionBytes } from '../../src/gates/http2.ts'
import { limitsOptions, serverLimits } from '../../src/gates/options.ts'
import { connectFrames, headers, requestFields } from '../support/h2-frames.ts'
import { settle, until } from '../support/until.ts'
import { openDoor, openHall, openRawUpstream, openUpstream, talk } from './door.ts'

const get = (path: string, lines = '') => `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${lines}Connection: close\r\n\r\n`
const statusOf = (answer: string) => Number(answer.split(' ', 2)[1])
const reasonOf = (answer: string) => /"reason":"([a-z_]+)"/.exec(answer)?.[1]

const refused = [
  { sent: 'CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n', status: 400, reason: 'request_malformed' },
  { sent: get('/a').replace('GET', 'TRACE'), status: 400, reason: 'request_malformed' },
  { sent: 'GET * HTTP/1.1\r\nHost: a.test\r\n\r\n', status: 400, reason: 'request_malformed' },
  { sent: 'GET  HTTP/1.1\r\nHost: a.test\r\n\r\n', status: 400, reason: 'request_malformed' },
  { sent: 'nonsense\r\n\r\n', status: 400, reason: 'request_malformed' },
  { sent: 'GET /a HTTP/1.1\r\n\r\n', status: 400, reason: 'request_malformed' },
  { sent: 'GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', status: 400, reason: 'request_malformed' },
  { sent: get('/a', 'Expect: y 100-continue\r\n'), status: 400, reason: 'request_malformed' },
  { sent: get('/a', 'Content-Length: 005\r\n'), status: 400, reason: 'request_malformed' },
  { sent: get('/a', 'Content-Length: 1\r\nContent-Length: 1\r\n'), status: 400, reason: 'request_malformed' },
  { sent: get('/a', 'Transfer-Encoding: ,chunked\r\n'), status: 400, reason: 'request_malformed' },
  { sent: get('/a', 'Transfer-Encoding: gzip, chunked\r\n'), status: 400, reason: 'request_malformed' },
  { sent: get('/a', 'Transfer-Encoding: chunked\r\nContent-Length: 3\r\n'), status: 400, reason: 'request_malformed' },
  { sent: get('/a', 'X-Any: a\rb\r\n'), status: 400, reason: 'request_malformed' },
  { sent: get('/a//b'), status: 400, reason: 'path_rejected' },
  { sent: get(`/${'a'.repeat(8192)}`), status: 414, reason: 'too_large' },
  { sent: get('/a', `X-Long: ${'a'.repeat(12_288)}\r\n`), status: 431, reason: 'too_large' },
  { sent: get('/a', `X-Long: ${'a'.repeat(40_000)}\r\n`), status: 431, reason: 'too_large' },
  { sent: get('/a', 'X-A: b\r\n'.repeat(99)), status: 431, reason: 'too_large' },
] as const
for (const { sent, status, reason } of refused) {
  test(`openFrontDoor() answers ${status} ${reason}, and asks nobody: ${JSON.stringify(sent.slice(0, 60))}`, async () => {
    let asked = 0
    await using upstream = await openUpstream((_request, response) => {
      asked += 1
      response.end()
    })
    await using it = await openDoor(upstream.port)

    const answer = await it.send(sent)

    assert.equal(statusOf(answer), status)
    assert.equal(reasonOf(answer), reason)
    assert.equal(asked, 0)
    assert.deepEqual(
      it.decisions.map((decision) => decision.reason),
      [reason],
    )
  })
}

for (const { parts, because } of [
  { parts: [...get('/a')], because: 'byte by byte' },
  { parts: get('/a').split(/(?<=\n)/), because: 'line by line' },
  { parts: get('/a').split(/(?<=\r)/), because: 'cut in the middle of every line end' },
]) {
  test(`openFrontDoor() reads a head that comes ${because}`, async () => {
    await using upstream = await openUpstream((_request, response) => response.end('ok'))
    await using it = await openDoor(upstream.port)
    const socket = connect({ port: it.door.port, host: '127.0.0.1', noDelay: true })
    const closed = once(socket, 'close')
    let answer = ''
    socket.on('data', (chunk) => {
      answer += chunk
    })

    for (const part of parts) {
      socket.write(part)
      await sleep(1)
    }
    await closed

    assert.equal(statusOf(answer), 200)
  })
}

const accepted = [
  { sent: get(`/${'a'.repeat(8191)}`), because: 'a target of 8 KiB' },
  { sent: get('/a', `X-Long: ${'a'.repeat(12_288 - 6)}\r\n`), because: 'a header of 12 KiB' },
  { sent: get('/a', 'X-A: b\r\n'.repeat(98)), because: 'a hundred headers' },
  {
    sent: 'GET http://a.test/a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n',
    because: 'an absolute-form target',
  },
] as const
for (const { sent, because } of accepted) {
  test(`openFrontDoor() takes ${because}`, async () => {
    await using upstream = await openUpstream((_request, response) => void response.end('ok'))
    await using it = await openDoor(upstream.port)

    assert.equal(statusOf(await it.send(sent)), 200)
  })
}

test('openFrontDoor() answers 100 only after the verdict, and 403 without one', async () => {
  await using upstream = await openUpstream((request, response) => void request.pipe(response))
  await using open = await openDoor(upstream.port)
  await using closed = await openDoor(upstream.port, { decide: () => ({ kind: 'deny', reason: 'no_rule' }) })
  const head =
    'POST /a HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n'
  const socket = connect(open.door.port, '127.0.0.1')
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
    if (text === 'HTTP/1.1 100 Continue\r\n\r\n') socket.write('body')
  })

  socket.write(head)
  await once(socket, 'close')
  const denied = await closed.send(head)

  assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n[\s\S]*body/)
  assert.equal(statusOf(denied), 403)
})

test('openFrontDoor() answers pipelined requests in order, each with its own verdict', async () => {
  await using upstream = await openUpstream(
    (request, response) => void setTimeout(() => response.end(request.url), request.url === '/1' ? 30 : 0),
  )
  await using it = await openDoor(upstream.port)
  const line = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a.test\r\n\r\n`

  const answer = await it.send(line('/1') + line('/a//b') + line('/2') + get('/3'))

  assert.deepEqual(
    [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status),
    ['200', '400', '200', '200'],
  )
  assert.deepEqual(
    answer.match(/\r\n\/\d|reason":"path_rejected"/g)?.map((found) => found.trim()),
    ['/1', 'reason":"path_rejected"', '/2', '/3'],
  )
})

test('openFrontDoor() takes what follows a request that it could not read for none (smuggling)', async () => {
  const asked: (string | undefined)[] = []
  await using upstream = await openUpstream((request, response) => {
    asked.push(request.url)
    response.end('ok')
  })
  await using it = await openDoor(upstream.port)

  const text = await it.send(
    `GET http://b.test/a HTTP/1.1\r\nHost: a.test\r\n\r\nGET /second HTTP/1.1\r\nHost: a.test\r\n\r\n`,
  )

  assert.match(text, /^HTTP\/1\.1 400 .*Connection: close.*"reason":"request_malformed"/s)
  assert.equal(text.match(/HTTP\/1\.1/g)?.length, 1)
  assert.deepEqual(asked, [])
})

test('openFrontDoor() tells who comes once the end is announced that the first answer is the last', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('ok'))
  await using it = await openDoor(upstream.port)

  it.door.announceClose()
  const answer = await it.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n')

  assert.match(answer, /^HTTP\/1\.1 200 .*\r\nConnection: close\r\n/s)
})

test('openFrontDoor() answers 500 for a gateway that throws, and serves the next request', async () => {
  let broken = true
  await using upstream = await openUpstream((_request, response) => void response.end('ok'))
  await using fine = await openDoor(upstream.port)
  await using it = await openDoor(upstream.port, {
    decide() {
      if (broken) throw new Error('broken')
      return { kind: 'deny', reason: 'no_rule' }
    },
  })
  const thrown = await it.send(get('/a'))
  broken = false

  assert.equal(reasonOf(thrown), 'internal_error')
  assert.equal(it.failures.length, 1)
  assert.equal(reasonOf(await it.send(get('/a'))), 'no_rule')
  assert.equal(statusOf(await fine.send(get('/a'))), 200)
})

test('openFrontDoor() answers 500 for a gateway whose verdict fails while others are served, and the process goes on', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end())
  await using it = await openDoor(upstream.port, { decide: () => Promise.reject(new Error('broken')) })

  const answer = await it.send(get('/a'), 2000)

  assert.equal(statusOf(answer), 500)
  assert.equal(reasonOf(answer), 'internal_error')
  assert.deepEqual(it.failures.map(String), ['Error: broken'])
  assert.deepEqual(
    it.exchanges.map(({ status }) => status),
    [500],
  )
})

test('openFrontDoor() answers 500 for a bug on the way to the upstream, and gives up there what had begun', async () => {
  const told: string[] = []
  const tell = (what: string) => () => void told.push(what)
  const exchange = {
    write: () => true,
    end: tell('end'),
    flush() {},
    abort: tell('abort'),
    pause() {},
    resume() {},
  }
  await using it = await openDoor(0, undefined, {
    upstream: () => ({
      open(_request, { opened }) {
        opened(exchange)
        throw new Error('broken')
      },
      cancel: tell('cancel'),
      isFull: () => false,
      close() {},
    }),
  })

  const answer = await it.send(get('/a'), 2000)

  assert.equal(statusOf(answer), 500)
  assert.deepEqual(told, ['abort', 'cancel'])
  assert.deepEqual(it.failures.map(String), ['Error: broken'])
  assert.deepEqual(
    it.exchanges.map(({ status }) => status),
    [500],
  )
})

for (const when of ['at once', 'later'] as const)
  test(`openFrontDoor() answers 500 for a bug after the verdict that came ${when}, too, and nothing hangs`, async () => {
    let asked = 0
    await using upstream = await openUpstream((_request, response) => {
      asked += 1
      response.end()
    })
    const broken = { kind: 'allow', reason: 'ok', rule: undefined, principal: null, path: 'none' }
    const verdict = broken as unknown as Decision // no Allow at all: the bug
    await using it = await openDoor(upstream.port, {
      decide: () => (when === 'later' ? Promise.resolve(verdict) : verdict),
    })

    const answer = await it.send(get('/a'), 2000)

    assert.equal(statusOf(answer), 500)
    assert.equal(asked, 0)
    assert.equal(it.decisions.length, 1)
    assert.equal(it.failures.length, 1)
  })

test('openFrontDoor() denies with overloaded what is allowed and would be turned away, and sends nothing of it', async () => {
  let opened = 0
  await using it = await openDoor(0, undefined, {
    upstream: () => ({
      open(_request, { failed }) {
        opened += 1
        failed('overloaded')
      },
      cancel() {},
      isFull: () => true,
      close() {},
    }),
  })

  const answer = await it.send(get('/a'), 2000)

  assert.deepEqual([statusOf(answer), reasonOf(answer)], [503, 'overloaded'])
  assert.match(answer, /\r\nRetry-After: 1\r\n/)
  assert.equal(opened, 0)
  assert.deepEqual(
    it.decisions.map(({ kind, reason }) => [kind, reason]),
    [['deny', 'overloaded']],
  )
  assert.deepEqual(
    it.exchanges.map(({ isForwarded, upstreamFailure }) => [isForwarded, upstreamFailure]),
    [[false, undefined]],
  )
})

test('openFrontDoor() answers 500 where a verdict cannot be counted', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end())
  await using it = await openDoor(upstream.port)
  Object.freeze(it.decisions)

  const answer = await it.send(get('/a'), 2000)

  assert.equal(reasonOf(answer), 'internal_error')
  assert.equal(it.failures.length, 1)
})

test('openFrontDoor() keeps no answer back where its line of the log cannot be written', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end())
  await using it = await openDoor(upstream.port)
  Object.freeze(it.exchanges)

  assert.equal(statusOf(await it.send(get('/a'), 2000)), 200)
  assert.equal(reasonOf(await it.send(get('/a%2Fb'), 2000)), 'path_rejected')
  assert.equal(it.failures.length, 2)
})

test('openFrontDoor() forwards nothing for a client that left while its request was decided', async () => {
  let asked = 0
  const verdict = Promise.withResolvers<Decision>()
  await using upstream = await openUpstream((_request, response) => {
    asked += 1
    response.end()
  })
  await using fine = await openDoor(upstream.port)
  await fine.send(get('/a'))
  const allow = fine.decisions[0]
  assert.equal(allow?.kind, 'allow')
  await using it = await openDoor(upstream.port, { decide: () => verdict.promise })
  const socket = connect(it.door.port, '127.0.0.1')
  socket.write(get('/a'))
  await settle()
  socket.resetAndDestroy()
  await settle()

  verdict.resolve(allow)
  await settle()

  assert.equal(asked, 1)
  assert.equal(it.decisions.length, 1)
  assert.deepEqual(
    [...fine.exchanges, ...it.exchanges].map(({ status, isForwarded }) => [status, isForwarded]),
    [
      [200, true],
      [0, false],
    ],
  )
  assert.equal(it.door.inFlight(), 0)
})

test('openFrontDoor().drain() finishes what is in flight, tells kept connections to close, and takes no new one', async () => {
  const answer = Promise.withResolvers<void>()
  await using upstream = await openUpstream((_request, response) => {
    void answer.promise.then(() => response.end('late'))
  })
  await using it = await openDoor(upstream.port)
  const pending = it.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n', 500)
  await settle()

  const drained = it.door.drain()
  await settle()
  const late = await it.send(get('/b'))
  answer.resolve()
  await drained

  assert.equal(late, '')
  const text = await pending
  assert.match(text, /late$/)
})

test('openFrontDoor().drain() still serves everybody who has connected, taken in or not', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('served'))
  await using it = await openDoor(upstream.port)
  const sent = Array.from({ length: 20 }, () => it.send(get('/a')))

  await it.door.drain()

  assert.deepEqual([...new Set((await Promise.all(sent)).map(statusOf))], [200])
})

test('openFrontDoor().drain() still serves who has connected and speaks a moment later', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('served'))
  await using it = await openDoor(upstream.port)
  const client = connect(it.door.port, '127.0.0.1')
  let answer = ''
  client.on('data', (bytes) => {
    answer += bytes.toString()
  })
  await until(() => it.door.connections() === 1, 'the connection')

  const drained = it.door.drain()
  await settle()
  client.write('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await drained

  assert.equal(statusOf(answer), 200)
  assert.match(answer, /\r\nConnection: close\r\n/)
})

test('createHall().drain() still answers a request that had come and was not read, and who gave it is told that it has left', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('served'))
  await using it = openHall(upstream.port)
  const handed = Promise.withResolvers<Socket>()
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, handed.resolve).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  const answer = talk(port, get('/a'))
  const socket = await handed.promise
  server.close()
  await settle()

  let left = 0
  it.hall.take(socket, () => (left += 1))
  await it.hall.drain()

  assert.equal(statusOf(await answer), 200)
  assert.equal(left, 1)
})

test('createHall().drain() ends idle connections in portions, so that nobody waits for the end of thousands', async () => {
  await using it = openHall(0)
  const near: Socket[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    near.push(socket)
    it.hall.take(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  const far = Array.from({ length: 100 }, () => connect(port, '127.0.0.1').resume())
  for (const socket of far) socket.write('GET ')
  await until(() => near.length === 100 && near.every(({ bytesRead }) => bytesRead > 0), 'all of them')
  for (const socket of far) socket.write('/a//b HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await Promise.all(far.map((socket) => once(socket, 'data')))
  const ended = () => near.filter(({ writableEnded }) => writableEnded).length

  const drained = it.hall.drain()
  const counts = [0]
  while (ended() < 100) {
    await nextTurn()
    counts.push(ended())
  }
  for (const socket of far) socket.end()
  await drained
  server.close()

  const most = Math.max(...counts.slice(1).map((count, at) => count - (counts[at] ?? 0)))
  assert.equal(most, 32)
})

test('createHall().drain() waits a moment for who has not sent a byte of what stands before its first request', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('served'))
  await using it = await openDoor(upstream.port, undefined, { proxyProtocol: true })
  const client = connect(it.door.port, '127.0.0.1')
  let answer = ''
  client.on('data', (bytes) => {
    answer += bytes.toString()
  })
  await until(() => it.door.connections() === 1, 'the connection')

  const drained = it.door.drain()
  await settle()
  client.write('PROXY UNKNOWN\r\nGET /a HTTP/1.1\r\nHost: a.test\r\n\r\n')
  await drained

  assert.equal(statusOf(answer), 200)
})

test('openFrontDoor() denies HEAD without content, which would be taken for the next answer', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end())
  await using it = await openDoor(upstream.port, { decide: () => ({ kind: 'deny', reason: 'no_rule' }) })

  const answer = await it.send(`HEAD /a HTTP/1.1\r\nHost: a.test\r\n\r\n${get('/b')}`)

  assert.match(answer, /^HTTP\/1\.1 403 Forbidden\r\n[^{]*\r\n\r\nHTTP\/1\.1 403 Forbidden\r\n[^{]*\r\n\r\n\{[^{]*\}$/)
})

test('openFrontDoor() does not read on after denying a body of unknown length, and closes', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end())
  await using it = await openDoor(upstream.port, { decide: () => ({ kind: 'deny', reason: 'no_rule' }) })

  const answer = await it.send(
    'POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
    2000,
  )

  assert.equal(statusOf(answer), 403)
  assert.match(answer, /\r\nconnection: close\r\n/i)
})

test('openFrontDoor() counts a request that is cut in its head as no decision, and lives on', async () => {
  await using upstream = await openRawUpstream(() => {})
  await using it = await openDoor(upstream.port)
  const socket = connect(it.door.port, '127.0.0.1')
  socket.write('GET /a HT')
  await settle()
  socket.resetAndDestroy()
  await settle()

  assert.deepEqual(it.failures, [])
  assert.equal(reasonOf(await it.send(get('/a//b'))), 'path_rejected')
})

test('openFrontDoor() counts who says nothing, or not all, of a first request in time, and nobody who had one', async () => {
  await using upstream = await openUpstream((_, response) => response.end('ok'))
  await using it = await openDoor(upstream.port, undefined, { limits: { headMs: 500, idleMs: 500 } })
  const clients = ['', 'GET /a HT', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n']
  const sockets = clients.map((sent) => {
    const socket = connect(it.door.port, '127.0.0.1').resume()
    socket.write(sent)
    return socket
  })

  using session = connectFrames(it.door.port)
  session.send(headers(1, requestFields('/a')))

  await Promise.all([...sockets.map((socket) => once(socket, 'close')), session.closed])

  assert.equal(it.door.dropped().get('timeout'), 3)
})

test('openFrontDoor() drops who comes when connections have all the memory there is for them, and serves the next when one has left', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('ok'))
  // Of three in the clear.
  await using it = await openDoor(upstream.port, undefined, { maxBytes: 3 * 16_384 })
  const others = [1, 2, 3].map(() => connect(it.door.port, '127.0.0.1'))
  await until(() => it.door.connections() === 3, 'all of them')

  assert.equal(await it.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n', 1000), '')
  assert.deepEqual([it.door.dropped().get('memory'), it.door.dropped().get('limit')], [1, 0])
  others[0]?.destroy()
  await until(() => it.door.connections() === 2, 'one that has left')
  assert.match(await it.send(get('/a')), /^HTTP\/1\.1 200 /)
  for (const other of others) other.destroy()
})

test('openFrontDoor() drops a session of HTTP/2 that there is no memory for, and gives back what each took', async () => {
  await using upstream = await openUpstream((_request, response) => void response.end('ok'))
  await using it = await openDoor(upstream.port, undefined, {
    maxBytes: 2 * 16_384 + sessionBytes(serverLimits(limitsOptions.parse({}))),
  })
  const origin = `http://127.0.0.1:${it.door.port}`
  for (let round = 1; round <= 3; round += 1) {
    const one = connectHttp2(origin)
    await once(one, 'remoteSettings')
    const other = connectHttp2(origin).on('error', () => {})
    await once(other, 'close')
    assert.equal(it.door.dropped().get('memory'), round)
    assert.match(await it.send(get('/a')), /^HTTP\/1\.1 200 /)
    one.destroy()
    await until(() => it.door.connections() === 0, 'nobody')
  }
})

test('openFrontDoor() survives a CONNECT whose client resets at once', async () => {
  await using upstream = await openRawUpstream(() => {})
  await using it = await openDoor(upstream.port)
  for (let at = 0; at < 20; at += 1) {
    const socket = connect(it.door.port, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    socket.write('CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n')
    socket.resetAndDestroy()
  }
  await settle()

  assert.equal(reasonOf(await it.send(get('/a//b'))), 'path_rejected')
})

test('openFrontDoor() writes no second answer into one that is under way when a chunk is bad', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789'))
  })
  await using it = await openDoor(upstream.port)
  const socket = connect(it.door.port, '127.0.0.1')
  let text = ''
  socket.on('error', () => {})
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  socket.write('POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n')
  await until(() => text.endsWith('0123456789'), 'the answer')
  socket.write('ZZ\r\n')
  await once(socket, 'close')
  await settle()

  assert.ok(text.endsWith('\r\n\r\n0123456789'), text)
  assert.equal(it.decisions.length, 1)
  assert.equal(it.exchanges.length, 1)
})

test('openFrontDoor() answers garbage behind a request after the whole answer to that request', async () => {
  await using upstream = await openUpstream((_request, response) => void setTimeout(() => response.end('whole'), 50))
  await using it = await openDoor(upstream.port)

  const answer = await it.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\ngarbage\r\n\r\n')

  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\nwholeHTTP\/1\.1 400 Bad Request\r\n/)
  assert.deepEqual(
    it.decisions.map(({ reason }) => reason),
    ['public', 'request_malformed'],
  )
})

test('openFrontDoor() answers ambiguous framing once, and counts it once', async () => {
  await using upstream = await openRawUpstream(() => {})
  await using it = await openDoor(upstream.port)

  const answer = await it.send('POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\nabc', 400)

  assert.equal(answer.split('HTTP/1.1 400').length, 2, answer)
  assert.equal(it.decisions.length, 1)
})
