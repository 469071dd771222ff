// The HTTP/2 front door on real sockets, spoken to in frames written by hand.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectSession } from 'node:http2'
import { test } from 'node:test'
import type { Field } from '../support/h2-frames.ts'
import {
  codes,
  connectFrames,
  flags,
  frame,
  headers,
  outcomeOf,
  readAnswer,
  requestFields,
  windowUpdate,
} from '../support/h2-frames.ts'
import { openDoor, openRawUpstream, openUpstream } from './door.ts'

async function openPair() {
  const seen: string[] = []
  const upstream = await openUpstream((request, response) => {
    const { method, url, rawHeaders } = request
    seen.push(`${method} ${url} ${rawHeaders.join('|')}`)
    request.resume()
    request.on('end', () => response.end('ok'))
  })
  const door = await openDoor(upstream.port)
  return {
    seen,
    door,
    port: door.door.port,
    async [Symbol.asyncDispose]() {
      await door[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

const pseudo = {
  method: [':method', 'GET'],
  scheme: [':scheme', 'http'],
  authority: [':authority', 'a.test'],
  path: [':path', '/a'],
} as const satisfies Record<string, Field>
const { method, scheme, authority, path } = pseudo
const plain = requestFields('/a')
const bad = '400 request_malformed'

/** A client's fields, and what becomes of them: `reset` where nghttp2 lets us see nothing of them. */
const refused: readonly { readonly because: string; readonly fields: readonly Field[]; readonly want: string }[] = [
  { because: 'a name in upper case', fields: [...plain, ['X-A', '1']], want: 'reset 1' },
  { because: 'Connection', fields: [...plain, ['connection', 'close']], want: 'reset 1' },
  { because: 'Keep-Alive', fields: [...plain, ['keep-alive', '1']], want: 'reset 1' },
  { because: 'Proxy-Connection', fields: [...plain, ['proxy-connection', 'x']], want: 'reset 1' },
  { because: 'Transfer-Encoding', fields: [...plain, ['transfer-encoding', 'chunked']], want: 'reset 1' },
  { because: 'Upgrade', fields: [...plain, ['upgrade', 'h2c']], want: 'reset 1' },
  { because: 'TE other than trailers', fields: [...plain, ['te', 'gzip']], want: 'reset 1' },
  { because: 'TE with more than trailers', fields: [...plain, ['te', 'trailers, gzip']], want: 'reset 1' },
  { because: 'TE in upper case', fields: [...plain, ['te', 'Trailers']], want: bad },
  { because: 'a space before a value', fields: [...plain, ['x-a', ' b']], want: bad },
  { because: 'a tab behind a value', fields: [...plain, ['x-a', 'b\t']], want: bad },
  { because: 'no :method', fields: [scheme, authority, path], want: 'reset 1' },
  { because: 'no :scheme', fields: [method, authority, path], want: 'reset 1' },
  { because: 'no :path', fields: [method, scheme, authority], want: 'reset 1' },
  { because: 'no :authority and no Host', fields: [method, scheme, path], want: 'reset 1' },
  { because: 'two :method', fields: [...plain, method], want: 'reset 1' },
  { because: 'two :path', fields: [method, scheme, authority, path, [':path', '/b']], want: 'reset 1' },
  { because: 'two :authority', fields: [method, scheme, authority, authority, path], want: 'reset 1' },
  { because: 'two :scheme', fields: [method, scheme, scheme, authority, path], want: 'reset 1' },
  {
    because: 'a pseudo-field behind a field',
    fields: [method, scheme, authority, ['x-a', '1'], path],
    want: 'reset 1',
  },
  { because: 'a pseudo-field nobody knows', fields: [...plain, [':version', '2']], want: 'reset 1' },
  { because: ':status in a request', fields: [method, scheme, authority, path, [':status', '200']], want: 'reset 1' },
  { because: 'an empty :path', fields: [method, scheme, authority, [':path', '']], want: 'reset 1' },
  { because: 'a :path without its slash', fields: [method, scheme, authority, [':path', 'a']], want: 'reset 1' },
  {
    because: 'a :path in absolute form',
    fields: [method, scheme, authority, [':path', 'http://b.test/a']],
    want: 'reset 1',
  },
  { because: '* without OPTIONS', fields: [method, scheme, authority, [':path', '*']], want: 'reset 1' },
  { because: '* with OPTIONS', fields: [[':method', 'OPTIONS'], scheme, authority, [':path', '*']], want: bad },
  { because: 'a space in :path', fields: [method, scheme, authority, [':path', '/a b']], want: 'reset 1' },
  { because: 'a line end in :path', fields: [method, scheme, authority, [':path', '/a\r\nx: y']], want: 'reset 1' },
  { because: 'a fragment in :path', fields: [method, scheme, authority, [':path', '/a#b']], want: '400 path_rejected' },
  { because: 'dots in :path', fields: [method, scheme, authority, [':path', '/a/../b']], want: '400 path_rejected' },
  { because: 'a :method with a space', fields: [[':method', 'GET /b'], scheme, authority, path], want: 'reset 1' },
  { because: 'a :method in lower case', fields: [[':method', 'get'], scheme, authority, path], want: bad },
  { because: 'TRACE', fields: [[':method', 'TRACE'], scheme, authority, path], want: bad },
  { because: 'CONNECT', fields: [[':method', 'CONNECT'], authority], want: bad },
  { because: 'CONNECT with a path', fields: [[':method', 'CONNECT'], scheme, authority, path], want: 'reset 1' },
  {
    because: 'extended CONNECT',
    fields: [[':method', 'CONNECT'], [':protocol', 'websocket'], scheme, authority, path],
    want: 'reset 1',
  },
  {
    because: ':protocol without CONNECT',
    fields: [method, [':protocol', 'websocket'], scheme, authority, path],
    want: 'reset 1',
  },
  { because: 'a :scheme nobody knows', fields: [method, [':scheme', 'ftp'], authority, path], want: bad },
  {
    because: 'a :scheme with more in it',
    fields: [method, [':scheme', 'http://b.test/?'], authority, path],
    want: 'reset 1',
  },
  { because: 'userinfo in :authority', fields: [method, scheme, [':authority', 'u@a.test'], path], want: 'reset 1' },
  { because: 'a slash in :authority', fields: [method, scheme, [':authority', 'a.test/b'], path], want: 'reset 1' },
  { because: 'an empty :authority', fields: [method, scheme, [':authority', ''], path], want: 'reset 1' },
  { because: 'another Host than :authority', fields: [...plain, ['host', 'b.test']], want: bad },
  { because: 'Host in another case', fields: [...plain, ['host', 'A.test']], want: bad },
  { because: 'two Host', fields: [...plain, ['host', 'a.test'], ['host', 'a.test']], want: 'reset 1' },
  { because: 'a length that is none', fields: [...plain, ['content-length', '5x']], want: 'reset 1' },
  { because: 'a length with a sign', fields: [...plain, ['content-length', '+0']], want: 'reset 1' },
  { because: 'a length with a leading zero', fields: [...plain, ['content-length', '00']], want: bad },
  { because: 'two lengths', fields: [...plain, ['content-length', '0'], ['content-length', '0']], want: 'reset 1' },
  { because: 'a length and no body', fields: [...plain, ['content-length', '5']], want: 'reset 1' },
  { because: 'another expectation', fields: [...plain, ['expect', '200-ok']], want: bad },
]
for (const { because, fields, want } of refused) {
  test(`serveHttp2() refuses ${because}`, async () => {
    await using pair = await openPair()
    using client = connectFrames(pair.port)

    client.send(headers(1, fields))
    client.send(headers(3, plain))

    const got = await outcomeOf(client, 1)
    assert.equal(got, want)
    assert.equal(await outcomeOf(client, 3), '200', 'the session goes on')
    assert.deepEqual(pair.seen.length, 1)
  })
}

// nghttp2 drops them before anybody here sees them: nobody behind us does either.
const dropped: readonly { readonly because: string; readonly field: Field }[] = [
  { because: 'a name with a space', field: ['x a', '1'] },
  { because: 'an empty name', field: ['', '1'] },
  { because: 'a NUL in a value', field: ['x-a', 'a\0b'] },
  { because: 'a line end in a value', field: ['x-a', 'a\r\nx-b: c'] },
  { because: 'a bare LF in a value', field: ['x-a', 'a\nb'] },
  { because: 'a control character in a value', field: ['x-a', 'a\x01b'] },
  { because: 'DEL in a value', field: ['x-a', 'a\x7fb'] },
]
for (const { because, field } of dropped) {
  test(`serveHttp2() passes nothing on of ${because}`, async () => {
    await using pair = await openPair()
    using client = connectFrames(pair.port)

    client.send(headers(1, requestFields('/a', [field, ['x-b', 'c']])))

    assert.equal(await outcomeOf(client, 1), '200')
    assert.match(pair.seen[0] ?? '', /\|x-b\|c$/)
    assert.doesNotMatch(pair.seen[0] ?? '', /x.a\||\|\||[^ -~]/)
  })
}

test('serveHttp2() takes Host beside an equal :authority, and in its place, and joins the crumbs of a cookie', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)
  const crumbs: readonly Field[] = [
    ['cookie', 'a=1'],
    ['te', 'trailers'],
    ['cookie', 'b=2'],
  ]

  client.send(headers(1, [...plain, ['host', 'a.test'], ...crumbs]))
  client.send(headers(3, [method, scheme, path, ['host', 'b.test:81']]))

  assert.equal(await outcomeOf(client, 1), '200')
  assert.equal(await outcomeOf(client, 3), '200')
  assert.deepEqual(
    pair.seen.map((line) => line.replace(/\|X-Forwarded-For\|.*\|X-Forwarded-Host\|[^|]*/, '')),
    ['GET /a Host|a.test|cookie|a=1; b=2', 'GET /a Host|b.test:81'],
  )
})

const data = (stream: number, text: string, flag = 0) => frame('data', flag, stream, text)
const post = (more: readonly Field[]) => requestFields('/a', more, 'POST')
const bodies = [
  { what: 'shorter than its length', length: '5', parts: [data(1, 'abcd', flags.endStream)], want: 'reset 1' },
  { what: 'longer than its length', length: '5', parts: [data(1, 'abcdef', flags.endStream)], want: 'reset 1' },
  {
    what: 'longer than its length in two parts',
    length: '5',
    parts: [data(1, 'abcde'), data(1, 'f', 1)],
    want: 'reset 1',
  },
  { what: 'of its length', length: '5', parts: [data(1, 'abc'), data(1, ''), data(1, 'de', 1)], want: '200' },
  { what: 'of its length with trailers', length: '2', parts: [data(1, 'ab'), headers(1, [['x-a', 'b']])], want: '200' },
  { what: 'with an empty end', length: '2', parts: [data(1, 'ab'), data(1, '', 1)], want: '200' },
  {
    what: 'with a pseudo-field behind it',
    length: '2',
    parts: [data(1, 'ab'), headers(1, [[':path', '/b']])],
    want: 'reset 1',
  },
  {
    what: 'with Connection behind it',
    length: '2',
    parts: [data(1, 'ab'), headers(1, [['connection', 'x']])],
    want: 'reset 1',
  },
  {
    what: 'with an upper-case field behind it',
    length: '2',
    parts: [data(1, 'ab'), headers(1, [['X-A', 'b']])],
    want: 'reset 1',
  },
  {
    what: 'with fields behind it that are no end',
    length: '2',
    parts: [data(1, 'ab'), headers(1, [['x-a', 'b']], false)],
    want: 'reset 1',
  },
  {
    what: 'with white space in a trailer',
    length: '2',
    parts: [data(1, 'ab'), headers(1, [['x-a', ' b']])],
    want: bad,
  },
  {
    what: 'with too much behind it',
    length: '2',
    parts: [data(1, 'ab'), headers(1, [['x-a', 'b'.repeat(5000)]])],
    want: bad,
  },
] as const
for (const { what, length, parts, want } of bodies) {
  test(`serveHttp2() answers ${want} to a body ${what}`, async () => {
    await using pair = await openPair()
    using client = connectFrames(pair.port)

    // At once: whoever has all that was announced may answer before what is wrong comes.
    client.send(headers(1, post([['content-length', length]]), false), ...parts, headers(3, plain))

    assert.equal(await outcomeOf(client, 1), want)
    // Of this stream only (RFC 9113 §8.1.1): who shares the session is served.
    assert.equal(await outcomeOf(client, 3), '200')
  })
}

test('serveHttp2() tells a client that waits for it to send its body', async () => {
  await using pair = await openPair()
  const session = connectSession(`http://127.0.0.1:${pair.port}`)
  const stream = session.request({ ':method': 'POST', ':path': '/a', expect: '100-continue' })

  await once(stream, 'continue')
  stream.end('body')

  const [fields] = await once(stream, 'response')
  assert.equal(fields[':status'], 200)
  session.destroy()
})

test('serveHttp2() takes no length that numbers do not hold exactly: the upstream would be told another', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)

  client.send(headers(1, requestFields('/a', [['content-length', '9007199254740993']], 'POST'), false))

  assert.equal(await outcomeOf(client, 1), bad)
  assert.deepEqual(pair.seen, [])
})

for (const status of [205, 304]) {
  test(`serveHttp2() sends a ${status} without the length of a body that it does not have`, async () => {
    await using upstream = await openUpstream((_request, response) => {
      response.writeHead(status, { 'content-length': 5, 'x-a': 'b' })
      response.end('hello')
    })
    await using door = await openDoor(upstream.port)
    using client = connectFrames(door.door.port)

    client.send(headers(1, plain))

    const frames = await client.stream(1)
    assert.deepEqual(
      frames.map(({ type, flags: flag }) => [type, flag & flags.endStream]),
      [['headers', flags.endStream]],
    )
    const session = connectSession(`http://127.0.0.1:${door.door.port}`)
    const [fields] = await once(session.request({ ':path': '/a' }), 'response')
    session.destroy()
    assert.equal(fields['content-length'], undefined)
    assert.equal(fields['x-a'], 'b')
  })
}

test('serveHttp2() passes on what an upstream says twice, though it may be said once', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nAge: 1\r\nAge: 2\r\nContent-Length: 0\r\n\r\n'))
  })
  await using door = await openDoor(upstream.port)
  const session = connectSession(`http://127.0.0.1:${door.door.port}`)
  const stream = session.request({ ':path': '/a' })

  const [, , fields] = (await once(stream, 'response')) as [unknown, unknown, readonly string[]]
  session.destroy()

  assert.deepEqual(
    fields.filter((_, at) => fields[at - 1] === 'age'),
    ['1', '2'],
  )
})

test('openFrontDoor() without HTTP/2 takes its beginning for no request', async () => {
  await using upstream = await openUpstream((_, response) => response.end('ok'))
  await using door = await openDoor(upstream.port, undefined, { http2: false })

  const answer = await door.send('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

  assert.match(answer, /^HTTP\/1\.1 400 [\s\S]*request_malformed/)
})

test('openFrontDoor() takes the beginning of HTTP/2 in parts, and none behind a request', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port, Buffer.alloc(0), 'in parts')

  client.send(headers(1, plain))

  assert.equal(await outcomeOf(client, 1), '200')
  const late = await pair.door.send('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  assert.match(late, /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 400 /)
})

test('serveHttp2() keeps what a client has no room for as it came, whatever others read meanwhile', async () => {
  await using upstream = await openUpstream((request, response) => {
    response.end((request.url === '/a' ? 'a' : 'b').repeat(1000))
  })
  await using door = await openDoor(upstream.port)
  // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE, 0.
  using client = connectFrames(door.door.port, Buffer.of(0, 4, 0, 0, 0, 0))
  client.send(headers(1, plain))
  await client.frame(({ type }) => type === 'headers')

  const other = await door.send('GET /b HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
  client.send(windowUpdate(1, 1000))

  assert.ok(other.endsWith('b'.repeat(1000)))
  assert.equal(readAnswer(await client.stream(1)).body, 'a'.repeat(1000))
})

const chunked = (status: number) => `HTTP/1.1 ${status} X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n`
for (const status of [200, 205]) {
  test(`serveHttp2() answers 502 where an answer of ${status} breaks before any of it has left`, async () => {
    await using upstream = await openRawUpstream((socket) => {
      socket.on('data', () => socket.write(`${chunked(status)}x\r\n`))
    })
    await using door = await openDoor(upstream.port)
    using client = connectFrames(door.door.port)

    client.send(headers(1, requestFields('/a')))

    const { body, reset } = readAnswer(await client.stream(1))
    assert.deepEqual([JSON.parse(body).reason, reset], ['upstream_reset', undefined])
    assert.deepEqual(
      door.exchanges.map((exchange) => exchange.status),
      [502],
    )
  })
}

test('serveHttp2() cuts an answer that breaks once it has begun to leave', async () => {
  await using upstream = await openRawUpstream((socket) => {
    socket.on('data', () => {
      socket.write(chunked(200))
      setTimeout(() => socket.write('x\r\n'), 50)
    })
  })
  await using door = await openDoor(upstream.port)
  using client = connectFrames(door.door.port)

  client.send(headers(1, requestFields('/a')))

  assert.deepEqual(readAnswer(await client.stream(1)), { status: 200, body: 'ok', reset: codes.internal })
})

test('serveHttp2() counts and tells of every request that it sees, once', async () => {
  await using pair = await openPair()
  using client = connectFrames(pair.port)

  client.send(headers(1, plain))
  client.send(headers(3, requestFields('/a/../b')))
  client.send(headers(5, [...plain, ['te', 'Trailers']]))
  for (const stream of [1, 3, 5]) await client.stream(stream)

  assert.deepEqual(
    pair.door.exchanges
      .map(({ status, decision }) => [status, decision.kind === 'deny' ? decision.reason : 'ok'])
      .sort(),
    [
      [200, 'ok'],
      [400, 'path_rejected'],
      [400, 'request_malformed'],
    ],
  )
  assert.equal(pair.door.decisions.length, 3)
  assert.equal(pair.door.door.inFlight(), 0)
  assert.deepEqual(pair.door.failures, [])
})

for (const trailers of [{}, { 'x-sum': '1' }])
  test(`openFrontDoor() tells the upstream the end of a request over HTTP/2 that is empty${Object.keys(trailers).length > 0 ? ' but for trailers' : ''}, and ends before the upstream is reached`, async () => {
    await using pair = await openPair()
    const session = connectSession(`http://127.0.0.1:${pair.port}`)
    const post = { ':method': 'POST', ':path': '/a', te: 'trailers' }
    const stream = session.request(post, { waitForTrailers: Object.keys(trailers).length > 0 })
    stream.on('wantTrailers', () => stream.sendTrailers(trailers))
    stream.setEncoding('latin1')

    // Its head says that a body follows; then there is none.
    stream.end()

    assert.deepEqual(await stream.toArray(), ['ok'])
    assert.match(pair.seen[0] ?? '', /^POST \/a .*Transfer-Encoding\|chunked/)
    session.close()
  })
