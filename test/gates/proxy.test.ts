import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import { createUpstreamPool } from '../../src/http1/upstream-pool.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import { settle, until } from '../support/until.ts'
import { openDoor, openRawUpstream, openUpstream } from './door.ts'

const get = (path: string, lines = '') => `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${lines}Connection: close\r\n\r\n`
const statusOf = (answer: string) => Number(answer.split(' ', 2)[1])
const reasonOf = (answer: string) => /"reason":"([a-z_]+)"/.exec(answer)?.[1]

test('createUpstream() streams a body both ways without holding it, byte for byte', async () => {
  const hash = createHash('sha256')
  let received = 0
  await using upstream = await openUpstream((request, response) => {
    request.on('data', (chunk: Buffer) => {
      received += chunk.length
      hash.update(chunk)
    })
    request.on('end', () => response.end(hash.digest('hex')))
  })
  await using it = await openDoor(upstream.port)
  const size = 32 * 1024 * 1024
  const chunk = Buffer.alloc(65_536, 'x')
  const wanted = createHash('sha256').update(Buffer.alloc(size, 'x')).digest('hex')
  const socket = connect(it.door.port, '127.0.0.1')
  let text = ''
  socket.on('data', (part) => {
    text += part.toString('latin1')
  })
  socket.write(`PUT /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${size}\r\nConnection: close\r\n\r\n`)
  for (let sent = 0; sent < size; sent += chunk.length) if (!socket.write(chunk)) await once(socket, 'drain')
  await once(socket, 'close')

  assert.equal(received, size)
  assert.ok(text.endsWith(wanted))
})

test('createUpstream() stops reading an upstream whose client does not read', async () => {
  let written = 0
  await using upstream = await openUpstream((_request, response) => {
    const chunk = Buffer.alloc(65_536)
    const more = () => {
      // Counted also where there is no room for another: one alone is as much as there is room for.
      for (let hasRoom = true; hasRoom && written < 256 * 1024 * 1024; written += chunk.length)
        hasRoom = response.write(chunk)
    }
    response.on('drain', more)
    more()
  })
  await using it = await openDoor(upstream.port)
  const socket = connect(it.door.port, '127.0.0.1')
  socket.pause()
  socket.write(get('/a'))
  await sleep(700)
  const early = written
  await sleep(300)

  // What two pairs of socket buffers take, and no more.
  assert.ok(written > 1024 * 1024, `${written} bytes were taken in`)
  assert.ok(written < 64 * 1024 * 1024, `${written} bytes were taken in`)
  assert.equal(written, early)
  socket.destroy()
})

test('createUpstream() stops reading a client whose upstream does not read', async () => {
  let read = 0
  await using upstream = await openRawUpstream((socket) => {
    socket.once('data', () => {
      socket.pause()
      socket.on('data', (chunk) => {
        read += chunk.length
      })
      socket.pause()
    })
  })
  await using it = await openDoor(upstream.port)
  const socket = connect(it.door.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write('PUT /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 268435456\r\n\r\n')
  const chunk = Buffer.alloc(65_536)
  let written = 0
  const more = () => {
    for (let hasRoom = true; hasRoom && written < 256 * 1024 * 1024; written += chunk.length)
      hasRoom = socket.write(chunk)
  }
  socket.on('drain', more)
  more()
  await sleep(700)
  const early = written
  await sleep(300)

  assert.ok(written > 1024 * 1024, `${written} bytes were taken in`)
  assert.ok(written < 64 * 1024 * 1024, `${written} bytes were taken in`)
  assert.deepEqual({ written, read }, { written: early, read: 0 })
  socket.destroy()
})

const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n'
const broken = [
  { what: 'breaks where it begins', parts: [`${chunked}x\r\n`], want: { status: 502, reason: 'upstream_reset' } },
  { what: 'breaks once it has begun to leave', parts: [chunked, 'x\r\n'], want: { status: 200, reason: undefined } },
] as const
for (const { what, parts, want } of broken) {
  test(`createUpstream() answers ${want.status} where an answer ${what}, and tells that`, async () => {
    await using upstream = await openRawUpstream((socket) => {
      socket.once('data', async () => {
        for (const part of parts) {
          socket.write(part)
          await sleep(50)
        }
      })
    })
    await using it = await openDoor(upstream.port)

    const answer = await it.send(get('/a'))

    assert.deepEqual({ status: statusOf(answer), reason: reasonOf(answer) }, want)
    assert.equal(answer.endsWith('0\r\n\r\n'), false, 'it must not look whole')
    assert.deepEqual(
      it.exchanges.map(({ status, upstreamFailure }) => [status, upstreamFailure]),
      [[want.status, 'upstream_reset']],
    )
  })
}

const answers = [
  { name: 'HEAD', method: 'HEAD', status: 200, wrote: { 'content-length': '5' }, body: '' },
  { name: '204', method: 'GET', status: 204, wrote: {}, body: '' },
  { name: '304', method: 'GET', status: 304, wrote: { etag: '"a"' }, body: '' },
  { name: 'a chunked answer', method: 'GET', status: 200, wrote: {}, body: 'hello' },
  { name: '500', method: 'GET', status: 500, wrote: {}, body: 'sorry' },
] as const
for (const { name, method, status, wrote, body } of answers) {
  test(`createUpstream() relays ${name} as it is`, async () => {
    await using upstream = await openUpstream((_request, response) => {
      response.writeHead(status, { ...wrote, 'x-upstream': 'yes' })
      response.end(method === 'HEAD' ? undefined : body)
    })
    await using it = await openDoor(upstream.port)

    const answer = await it.send(get('/a').replace('GET', method))

    assert.equal(statusOf(answer), status)
    assert.match(answer, /x-upstream: yes/i)
    for (const [header, value] of Object.entries(wrote)) assert.ok(answer.toLowerCase().includes(`${header}: ${value}`))
    if (body !== '') assert.ok(answer.includes(body))
    else assert.ok(answer.endsWith('\r\n\r\n'))
  })
}

test('createUpstream() sends the canonical path and the query byte for byte, and never to another host', async () => {
  const targets: string[] = []
  await using upstream = await openUpstream((request, response) => {
    targets.push(`${request.headers.host} ${request.url}`)
    response.end()
  })
  await using it = await openDoor(upstream.port)

  await it.send(get('/%61b?x=%2e%2E/../&&y'))
  await it.send('GET http://a.test/c HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')

  assert.deepEqual(targets, ['a.test /ab?x=%2e%2E/../&&y', 'a.test /c'])
})

test('createUpstream() has a refused connection answered 502 upstream_connect, counted as an allow', async () => {
  const port = await (async () => {
    await using closed = await openUpstream(() => {})
    return closed.port
  })()
  await using it = await openDoor(port)

  const answer = await it.send(get('/a'))

  assert.equal(statusOf(answer), 502)
  assert.equal(reasonOf(answer), 'upstream_connect')
  assert.deepEqual(
    it.decisions.map(({ kind }) => kind),
    ['allow'],
  )
  assert.deepEqual(
    it.exchanges.map(({ upstreamFailure }) => upstreamFailure),
    ['upstream_connect'],
  )
})

const nonsense = [
  { name: 'no HTTP', bytes: 'SSH-2.0-hello\r\n\r\n' },
  { name: 'an unasked 101', bytes: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n' },
  { name: 'two lengths', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab' },
  { name: 'a huge head', bytes: `HTTP/1.1 200 OK\r\nX: ${'a'.repeat(100_000)}\r\n\r\n` },
] as const
for (const { name, bytes } of nonsense) {
  test(`createUpstream() has ${name} answered 502 upstream_reset, and the next request served`, async () => {
    let first = true
    await using upstream = await openRawUpstream((socket) => {
      socket.on('data', () => {
        socket.write(first ? bytes : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
        first = false
      })
    })
    await using it = await openDoor(upstream.port)
    // Not repeated: a POST may have been carried out.
    const answer = await it.send(get('/a').replace('GET', 'POST'))

    assert.equal(statusOf(answer), 502)
    assert.equal(reasonOf(answer), 'upstream_reset')
    assert.equal(statusOf(await it.send(get('/a'))), 200)
  })
}

const lost = [
  { name: 'a kept connection that closes before a byte', kept: true, bytes: '', method: 'GET', hits: 2, status: 200 },
  {
    name: 'a kept connection, but the request may have been carried out',
    kept: true,
    bytes: '',
    method: 'POST',
    hits: 1,
    status: 502,
  },
  {
    name: 'a kept connection that closes within the answer',
    kept: true,
    bytes: 'HTTP/1.1 200 OK\r\nX: ',
    method: 'GET',
    hits: 1,
    status: 502,
  },
  { name: 'a new connection', kept: false, bytes: '', method: 'GET', hits: 1, status: 502 },
] as const
for (const { name, kept, bytes, method, hits, status } of lost) {
  test(`createUpstream() ${hits === 2 ? 'repeats' : 'does not repeat'} a ${method} on ${name}`, async () => {
    let seen = 0
    let breaks = !kept
    await using upstream = await openRawUpstream((socket) => {
      socket.on('data', () => {
        seen += 1
        if (breaks) socket.end(bytes)
        else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
        breaks = false
      })
    })
    await using it = await openDoor(upstream.port)
    if (kept) assert.equal(statusOf(await it.send(get('/warm'))), 200)
    seen = 0
    breaks = true

    const answer = await it.send(get('/a').replace('GET', method))

    assert.equal(statusOf(answer), status)
    assert.equal(seen, hits)
  })
}

test('createUpstream() cuts the client off when an answer breaks in the middle', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf')
      setTimeout(() => socket.destroy(), 30)
    })
  })
  await using it = await openDoor(upstream.port)

  const answer = await it.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n', 2000)

  await settle()

  assert.ok(answer.endsWith('half'))
  assert.deepEqual(
    it.exchanges.map(({ upstreamFailure }) => upstreamFailure),
    ['upstream_reset'],
  )
})

test('createUpstream() ends the request of a client that left', async () => {
  const closed = Promise.withResolvers<void>()
  await using upstream = await openUpstream((request) => {
    request.socket.on('close', () => closed.resolve())
  })
  await using it = await openDoor(upstream.port)
  const socket = connect(it.door.port, '127.0.0.1')
  socket.write(get('/a'))
  await sleep(150)

  socket.destroy()

  await closed.promise
  assert.equal(it.door.inFlight(), 0)
})

test('createUpstream() hands on neither framing nor hop-by-hop lines, in either direction', async () => {
  let lines: readonly string[] = []
  await using upstream = await openUpstream((request, response) => {
    lines = request.rawHeaders
    response.writeHead(200, { Connection: 'X-Secret', 'X-Secret': 'a', 'Keep-Alive': 'timeout=1', 'X-Kept': 'b' })
    response.end('ok')
  })
  await using it = await openDoor(upstream.port)

  const answer = await it.send(
    get('/a', 'Te: trailers\r\nUpgrade: TLS/1.0\r\nX-Hop: 1\r\nConnection: X-Hop, upgrade\r\n').replace(
      /Connection: close\r\n/,
      '',
    ),
  )

  const names = lines.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase())
  for (const name of ['te', 'upgrade', 'x-hop']) assert.ok(!names.includes(name), name)
  assert.ok(!answer.includes('X-Secret'))
  assert.ok(answer.includes('X-Kept: b'))
})

// Upstreams that put trailers among the headers would take these for our word.
test('createForwarder() passes of trailers what a header may be, in either direction', async () => {
  let received = ''
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      if (received.endsWith('\r\n\r\n') && received.includes('\r\n0\r\n'))
        socket.write(`${chunked}0\r\nX-Sum: 2\r\nSet-Cookie: a=b\r\nProxy-Authenticate: Basic\r\n\r\n`)
    })
  })
  await using it = await openDoor(upstream.port)
  const trailers = 'X-Sum: 1\r\nX-Forwarded-For: 192.0.2.1\r\nX-Original-Url: /b\r\nAuthorization: Bearer a\r\n'

  const answer = await it.send(
    `POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n${trailers}\r\n`,
  )

  assert.equal(received.slice(received.indexOf('\r\n0\r\n')), '\r\n0\r\nX-Sum: 1\r\n\r\n')
  assert.equal(answer.slice(answer.indexOf('\r\n0\r\n')), '\r\n0\r\nX-Sum: 2\r\n\r\n')
})

test('createUpstream() is asked nothing for a client that left while its request waited for a connection', async () => {
  const asked: string[] = []
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>()
  await using upstream = await openUpstream((request, response) => {
    asked.push(request.url ?? '')
    void mayAnswer.then(() => response.end())
  })
  const limits = poolLimits(upstreamOptions.parse({ max_connections: 1 }))
  const endpoint = {
    name: 'upstream',
    open: createSocketOpener({ host: '127.0.0.1', port: upstream.port }, undefined, 'http1'),
  }
  const list = [endpoint]
  await using it = await openDoor(upstream.port, undefined, {
    upstream: (deadlines) => createUpstreamPool({ list: () => list }, limits, deadlines),
  })
  const first = it.send(get('/first'), 5000)
  await until(() => asked.length === 1, 'the first request')
  const leaving = connect(it.door.port, '127.0.0.1', () => leaving.write(get('/second')))
  await until(() => it.decisions.length === 2, 'the second verdict')

  leaving.resetAndDestroy()
  await until(() => it.exchanges.length === 1, 'its line')
  answer()

  assert.equal(statusOf(await first), 200)
  assert.equal(statusOf(await it.send(get('/third'), 5000)), 200)
  assert.deepEqual(asked, ['/first', '/third'])
})

test('createUpstream() sends no body a second time: what is left of it is not all of it', async () => {
  const seen: string[] = []
  await using upstream = await openRawUpstream((socket) => {
    let requests = 0
    socket.on('data', (chunk) => {
      requests += 1
      seen.push(chunk.toString('latin1').split(' ', 2).join(' '))
      if (requests === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      else socket.destroy()
    })
  })
  await using it = await openDoor(upstream.port)
  assert.equal(statusOf(await it.send(get('/warm'), 5000)), 200)

  const answer = await it.send(`${get('/a', 'Content-Length: 4\r\n').replace('GET', 'PUT')}body`, 5000)

  assert.equal(statusOf(answer), 502)
  assert.equal(reasonOf(answer), 'upstream_reset')
  assert.deepEqual(seen, ['GET /warm', 'PUT /a'])
})

test('createUpstream() answers 502 to the second request of a connection, as to the first', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', (chunk) => {
      if (chunk.toString('latin1').startsWith('GET /fine')) socket.write('HTTP/1.1 204 No Content\r\n\r\n')
      else socket.destroy()
    })
  })
  await using it = await openDoor(upstream.port)

  const answers = await it.send(`GET /fine HTTP/1.1\r\nHost: a.test\r\n\r\n${get('/a').replace('GET', 'POST')}`, 5000)

  assert.deepEqual(
    [...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status),
    ['204', '502'],
  )
})

test('createUpstream() lets go of an upstream whose request turns out to be broken in its body', async () => {
  let hasBegun = false
  let hasEnded = false
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', () => {
      hasBegun = true
    })
    socket.on('close', () => {
      hasEnded = true
    })
  })
  await using it = await openDoor(upstream.port)
  const client = connect(it.door.port, '127.0.0.1')
  client.on('error', () => {})
  client.resume()
  client.write('POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n')
  await until(() => hasBegun, 'the beginning')

  client.write('no chunk\r\n')
  await until(() => hasEnded, 'the end of the connection')

  assert.equal(it.exchanges[0]?.status, 400)
  client.destroy()
})
