import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { maxLingerBytes, maxLingerMs } from '../../src/http1/limits.ts'
import type { RequestHead } from '../../src/http1/request-head.ts'
import type { ServerConnection } from '../../src/http1/server-connection.ts'
import { timerOf } from '../support/tcp-timer.ts'
import { settle, until } from '../support/until.ts'
import { cuts, cutUp, spoilt } from './parts.ts'
import type { Answer, Served } from './served.ts'
import { get, limits, post, reply, serve } from './served.ts'

const silent: Answer = () => {}
/** Answers at once, with the target, whatever there is of a body. */
const atOnce: Answer = (connection, head) => reply(connection, typeof head === 'string' ? head : head.target)
const said = (body: string, last = false) =>
  `HTTP/1.1 200 Said\r\nContent-Length: ${body.length}\r\n${last ? 'Connection: close\r\n' : ''}\r\n${body}`
const large = (bytes: number) => Buffer.alloc(bytes, 'x')

// Requests one after another.

test('createServerConnection() answers requests that came together in their order, one at a time', async () => {
  await using it = await serve(silent)

  it.send(get('/1') + get('/2') + get('/3'))
  await it.tells('request GET /1')
  await settle()
  assert.deepEqual(it.told, ['request GET /1'])
  reply(it.connection, 'one')
  assert.deepEqual(it.told, ['request GET /1', 'request GET /2'])
  reply(it.connection, 'two')
  reply(it.connection, 'three')

  assert.equal(await it.receive(/three/), said('one') + said('two') + said('three'))
})

test('createServerConnection() answers a hundred requests that came together, and were answered at once', async () => {
  await using it = await serve(atOnce)

  it.send(Array.from({ length: 100 }, (_, at) => get(`/${at}`)).join(''))

  const text = await it.receive(/\/99$/)
  assert.equal(text, Array.from({ length: 100 }, (_, at) => said(`/${at}`)).join(''))
})

test('createServerConnection() answers thousands of requests that came in one piece, and its stack does not grow', async () => {
  await using it = await serve(atOnce, { requestsPerConnection: 1_000_000 })
  const count = 3000

  it.send('GET / HTTP/1.1\r\n\r\n'.repeat(count))

  const whole = said('/').length * count
  await until(
    () => it.text().length >= whole,
    () => `${whole} bytes, and there are ${it.text().length}`,
  )
  assert.equal(it.told.length, count)
})

test('createServerConnection() reads a hundred of the requests that came together in a turn, and the others behind those', async () => {
  const turns: number[] = []
  let turn = 0
  const next = () => {
    turn += 1
    timer = setImmediate(next)
  }
  let timer = setImmediate(next)
  const hears = () => void turns.push(turn)
  const options = { requestsPerConnection: 1_000_000, hears }
  await using it = await serve(atOnce, options)
  const count = 950

  it.send(`${'GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(count - 1)}GET /last HTTP/1.0\r\n\r\n`)
  it.client.end()

  const text = await it.receiveAll()
  clearImmediate(timer)
  const inOne = Math.max(...turns.map((each) => turns.filter((other) => other === each).length))
  assert.equal(text, said('/').repeat(count - 1) + said('/last', true))
  assert.equal(inOne, 100)
})

test('createServerConnection() reads a short head that came with the end of a long one', async () => {
  await using it = await serve(atOnce)
  const long = get('/1', `X: ${'y'.repeat(500)}\r\n`)

  it.send(long.slice(0, -10))
  await settle()
  it.send(`${long.slice(-10)}${get('/2')}`)

  assert.equal(await it.receive(/\/2$/), said('/1') + said('/2'))
})

test('createServerConnection() tells the same whatever the parts in which the bytes come', async () => {
  const stream = Buffer.from(
    `\r\n${get('/1')}${post('/2', 'Content-Length: 12', 'hello, world')}${get('/3')}` +
      `${post('/4', 'Transfer-Encoding: chunked', '5\r\nhello\r\n7;x\r\n, world\r\n0\r\nA: b\r\n\r\n')}` +
      `${post('/5', 'Content-Length: 0')}\r\n${get('/6', 'Connection: close\r\n')}`,
  )
  const answer: Answer = (connection, head) => {
    const { framing, target } = head as RequestHead // nothing is refused here
    connection.resume()
    if (framing === 'none' || framing === 0) reply(connection, target)
  }
  await fc.assert(
    fc.asyncProperty(cuts, async (shares) => {
      const hears = (what: string, connection: ServerConnection) => {
        if (what.startsWith('end')) reply(connection, 'done')
      }
      await using it = await serve(answer, { hears })

      for (const part of cutUp(stream, shares)) {
        it.send(part)
        await new Promise(setImmediate)
      }

      const text = await it.receiveAll()
      assert.deepEqual(it.told, [
        'request GET /1',
        'request POST /2',
        'data hello, world',
        'end',
        'request GET /3',
        'request POST /4',
        'data hello, world',
        'end A b',
        'request POST /5',
        'request GET /6',
      ])
      const answers = [said('/1'), said('done'), said('/3'), said('done'), said('/5'), said('/6', true)]
      assert.equal(text, answers.join(''))
    }),
    { numRuns: 40 },
  )
})

test('createServerConnection() tells the same of whatever bytes, however they come, and closes behind them', async () => {
  const stream = fc.array(
    fc.constantFrom(
      get('/1'),
      get('/2', 'Connection: close\r\n'),
      post('/3', 'Content-Length: 5', 'hello'),
      post('/4', 'Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n'),
      'HEAD /5 HTTP/1.0\r\nHost: a\r\n\r\n',
    ),
    { minLength: 1, maxLength: 4 },
  )
  /** What is told of these parts, with a client that then closes its side. */
  async function tellsOf(parts: readonly Buffer[], lends: boolean): Promise<readonly string[]> {
    const answer: Answer = (connection, head) => {
      connection.resume()
      if (typeof head === 'string' || head.framing === 'none' || head.framing === 0) reply(connection, 'done')
    }
    const hears = (what: string, connection: ServerConnection) => {
      if (what.startsWith('end') || what.startsWith('broken')) reply(connection, 'done')
    }
    await using it = await serve(answer, { hears, lends })
    for (const part of parts) {
      it.send(part)
      await new Promise(setImmediate)
    }
    it.client.end()
    await until(
      () => it.near.destroyed,
      () => `the close behind ${JSON.stringify(Buffer.concat(parts).toString('latin1'))}`,
    )
    assert.equal(it.deadlines.watched(), 0)
    return [...it.told]
  }

  await fc.assert(
    fc.asyncProperty(spoilt(stream.map((each) => each.join(''))), cuts, async (text, shares) => {
      const bytes = Buffer.from(text, 'latin1')
      const whole = await tellsOf([bytes], true)

      assert.deepEqual(await tellsOf(cutUp(bytes, shares), true), whole)
      assert.deepEqual(await tellsOf(cutUp(bytes, shares), false), whole)
    }),
    { numRuns: 100 },
  )
})

test('createServerConnection() reads no request behind the one that is the last, however it came to be that', async () => {
  const lasts = [
    get('/1', 'Connection: close\r\n'),
    'GET /1 HTTP/1.0\r\nHost: a\r\n\r\n',
    'GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n',
  ]
  for (const last of lasts) {
    await using it = await serve(atOnce)

    it.send(last + get('/2'))

    assert.equal(await it.receiveAll(), said('/1', true))
    assert.deepEqual(it.told, ['request GET /1'])
  }
})

test('createServerConnection() serves so many requests on a connection, and says at the last that it is', async () => {
  await using it = await serve(atOnce, { requestsPerConnection: 3 })

  it.send(get('/1') + get('/2') + get('/3') + get('/4'))

  assert.equal(await it.receiveAll(), said('/1') + said('/2') + said('/3', true))
})

test('createServerConnection().closeAfter() makes the answer the last', async () => {
  await using it = await serve((connection) => {
    connection.closeAfter()
    reply(connection, 'bye')
  })

  it.send(get('/1') + get('/2'))

  assert.equal(await it.receiveAll(), said('bye', true))
})

test('createServerConnection().announceClose() says it from the next answer on', async () => {
  await using it = await serve(atOnce)
  it.send(get('/1'))
  await it.receive(/\/1$/)

  it.connection.announceClose()
  it.send(get('/2') + get('/3'))

  assert.equal(await it.receiveAll(), said('/1') + said('/2', true))
})

test('createServerConnection().closeIdle() closes at once where nothing is under way, and else when it is over', async () => {
  await using idle = await serve(silent)
  await using busy = await serve(silent)
  busy.send(get('/1') + get('/2'))
  await busy.tells('request GET /1')

  idle.connection.closeIdle()
  busy.connection.closeIdle()

  assert.equal(await idle.receiveAll(), '')
  reply(busy.connection, 'one')
  assert.equal(await busy.receiveAll(), said('one', true))
  assert.deepEqual(busy.told, ['request GET /1'])
})

test('createServerConnection().closeIdle() still answers a request whose head had begun to come', async () => {
  await using it = await serve(atOnce)
  it.send('GET /begun HTTP/1.1\r\nHost: a\r\n')
  await settle()

  it.connection.closeIdle()
  it.send('\r\n')

  assert.equal(await it.receiveAll(), said('/begun', true))
})

test('createServerConnection().closeIdle() closes after an answer that had begun before', async () => {
  await using it = await serve(silent)
  it.send(get('/1'))
  await it.tells('request GET /1')
  it.connection.begin(200, 'Said', ['Content-Length', '3'], 3)
  it.connection.flush()

  it.connection.closeIdle()
  it.connection.write(Buffer.from('one'))
  it.connection.end([])

  assert.equal(await it.receiveAll(), said('one'))
})

// Refusals.

test('createServerConnection() tells of what is no request after the answers before it, and closes behind its answer', async () => {
  await using it = await serve(silent)

  it.send(`${get('/1')}nonsense\r\n\r\n${get('/2')}`)
  await it.tells('request GET /1')
  reply(it.connection, 'one')
  assert.deepEqual(it.told, ['request GET /1', 'refused malformed'])
  reply(it.connection, 'no', 400)

  const refusal = 'HTTP/1.1 400 Said\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno'
  assert.equal(await it.receiveAll(), said('one') + refusal)
  assert.deepEqual(it.told, ['request GET /1', 'refused malformed'])
})

const refusals = [
  { sent: `GET /${'a'.repeat(8192)} HTTP/1.1\r\n\r\n`, kind: 'target_too_large' },
  { sent: `GET /${'a'.repeat(9000)}`, kind: 'target_too_large' },
  { sent: get('/', `A: ${'b'.repeat(12_288)}\r\n`), kind: 'head_too_large' },
  { sent: `GET / HTTP/1.1\r\nA: ${'b'.repeat(30_000)}`, kind: 'head_too_large' },
  { sent: 'GET / HTTP/1.1\n', kind: 'malformed' },
  { sent: '\x16\x03\x01\x02\0\x01', kind: 'malformed' },
  { sent: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', kind: 'malformed' },
] as const
for (const { sent, kind } of refusals) {
  test(`createServerConnection() refuses ${JSON.stringify(sent.slice(0, 30))} as ${kind}, waits for no more, and closes`, async () => {
    await using it = await serve(atOnce)

    it.send(sent)

    assert.equal(await it.receiveAll(), said(kind, true))
    assert.deepEqual(it.told, [`refused ${kind}`])
  })
}

test('createServerConnection() hands the preface of HTTP/2 over, and lets go of the socket', async () => {
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
  for (const parts of [[preface], [preface.slice(0, 16), preface.slice(16)]]) {
    await using it = await serve(silent, { preface: true })
    await using other = await serve(silent)

    for (const part of parts) {
      it.send(part)
      await settle()
    }
    await it.tells('preface')
    for (const event of ['data', 'drain']) assert.equal(it.near.listenerCount(event), 0, event)
    it.near.once('data', (chunk) => it.told.push(`raw ${chunk}`))
    it.near.resume()
    it.send('more')
    await it.tells('raw more')
    other.send(get('/what-somebody-else-reads'))
    await settle()

    assert.equal(it.deadlines.watched(), 0)
    assert.equal(Buffer.concat(it.prefaces).toString('latin1'), preface)
    it.client.resetAndDestroy()
    await until(
      () => it.near.destroyed,
      () => 'the close',
    )
    assert.deepEqual(it.told, ['preface', 'raw more'])
  }
})

test('createServerConnection() takes no preface behind a request', async () => {
  await using it = await serve(atOnce, { preface: true })

  it.send(`${get('/1')}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`)

  assert.equal(await it.receiveAll(), said('/1') + said('malformed', true))
})

// How answers are framed.

test('createServerConnection() sends an answer of unknown length in chunks, with its trailers', async () => {
  for (const framing of ['chunked', 'close'] as const) {
    await using it = await serve((connection) => {
      connection.begin(200, 'Said', ['X', 'y'], framing)
      connection.write(Buffer.from('hello'))
      connection.end(['T', 'u'])
    })

    it.send(get('/1', 'Connection: close\r\n'))

    assert.equal(
      await it.receiveAll(),
      'HTTP/1.1 200 Said\r\nX: y\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nT: u\r\n\r\n',
    )
  }
})

test('createServerConnection() sends an HTTP/1.0 client no chunks and no trailers, but the end of the connection', async () => {
  await using it = await serve((connection) => {
    connection.begin(200, 'Said', ['X', 'y'], 'chunked')
    connection.write(Buffer.from('hello'))
    connection.end(['T', 'u'])
  })

  it.send('GET / HTTP/1.0\r\nHost: a\r\n\r\n')

  assert.equal(await it.receiveAll(), 'HTTP/1.1 200 Said\r\nX: y\r\nConnection: close\r\n\r\nhello')
})

test('createServerConnection() frames an answer that has no body, and goes on', async () => {
  await using it = await serve((connection) => {
    connection.begin(204, 'Said', [], 'none')
    connection.end([])
  })

  it.send(get('/1') + get('/2', 'Connection: close\r\n'))

  assert.equal(await it.receiveAll(), 'HTTP/1.1 204 Said\r\n\r\nHTTP/1.1 204 Said\r\nConnection: close\r\n\r\n')
})

test('createServerConnection() sends no content to HEAD, whoever answers: it would be taken for the next answer', async () => {
  await using it = await serve(atOnce)

  it.send(`HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n${get('/2', 'Connection: close\r\n')}`)

  assert.equal(await it.receiveAll(), `HTTP/1.1 200 Said\r\nContent-Length: 2\r\n\r\n${said('/2', true)}`)
})

test('createServerConnection() sends content again with a refusal behind HEAD', async () => {
  await using it = await serve(atOnce)

  it.send('HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n')

  assert.equal(await it.receiveAll(), `HTTP/1.1 200 Said\r\nContent-Length: 2\r\n\r\n${said('malformed', true)}`)
})

test('createServerConnection() sends no chunks to HEAD, either', async () => {
  await using it = await serve((connection) => {
    connection.begin(200, 'Said', [], 'chunked')
    connection.write(large(100_000))
    connection.end(['A', 'b'])
  })

  it.send('HEAD /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')

  assert.equal(await it.receiveAll(), 'HTTP/1.1 200 Said\r\nConnection: close\r\n\r\n')
})

test('createServerConnection().flush() sends what has begun, before the answer is whole', async () => {
  await using it = await serve((connection) => {
    connection.begin(200, 'Said', ['Content-Length', '6'], 6)
    connection.write(Buffer.from('abc'))
    connection.flush()
  })

  it.send(get('/'))

  assert.equal(await it.receive(/abc/), 'HTTP/1.1 200 Said\r\nContent-Length: 6\r\n\r\nabc')
})

// 100-continue.

test('createServerConnection() sends 100 when it is told to, and not before', async () => {
  await using it = await serve(silent)

  it.send(post('/1', 'Content-Length: 5\r\nExpect: 100-continue'))
  await it.tells('request POST /1')
  await settle()
  assert.equal(it.text(), '')
  it.connection.sendContinue()
  it.connection.resume()
  await it.receive(/100 Continue\r\n\r\n$/)
  it.send(`hello${get('/2')}`)
  await it.tells('end')
  reply(it.connection, 'one')

  assert.equal(await it.receive(/one/), `HTTP/1.1 100 Continue\r\n\r\n${said('one')}`)
  await it.tells('request GET /2')
})

test('createServerConnection() closes behind an answer that came without the 100: nobody knows whether a body follows', async () => {
  await using it = await serve(atOnce)

  it.send(post('/1', 'Content-Length: 25\r\nExpect: 100-continue'))
  await it.receive(/\/1$/)
  it.send(get('/2'))

  assert.equal(await it.receiveAll(), said('/1', true))
  assert.deepEqual(it.told, ['request POST /1'])
})

test('createServerConnection() keeps a connection open whose client was told to send a small body', async () => {
  await using it = await serve((connection, head) => {
    connection.sendContinue()
    atOnce(connection, head)
  })

  it.send(post('/1', 'Content-Length: 5\r\nExpect: 100-continue'))
  await it.receive(/\/1$/)
  it.send(`hello${get('/2', 'Connection: close\r\n')}`)
  await it.tells('request GET /2')

  assert.ok(it.text().startsWith(`HTTP/1.1 100 Continue\r\n\r\n${said('/1')}`))
})

test('createServerConnection() keeps a connection open whose client waited for no 100 and sent it all', async () => {
  await using it = await serve(silent)

  it.send(post('/1', 'Content-Length: 5\r\nExpect: 100-continue', 'hello'))
  await it.tells('request POST /1')
  it.connection.resume()
  await it.tells('end')
  reply(it.connection, 'one')
  await it.receive(/one/)
  it.send(get('/2'))

  await it.tells('request GET /2')
  assert.equal(it.text(), said('one'))
})

// A request's body.

test('createServerConnection() tells nothing of a body before it is asked for', async () => {
  await using it = await serve(silent)

  it.send(post('/1', 'Content-Length: 5', 'hello'))
  await it.tells('request POST /1')
  await settle()
  assert.deepEqual(it.told, ['request POST /1'])
  it.connection.resume()

  assert.deepEqual(it.told, ['request POST /1', 'data hello', 'end'])
})

test('createServerConnection() keeps what nobody has asked for yet as it came, whatever others read meanwhile', async () => {
  for (const size of [1000, 4000, 5000, 40_000]) {
    await using it = await serve(silent)
    await using other = await serve(silent)
    const body = 'x'.repeat(size)

    it.send(post('/1', `Content-Length: ${size}`, body))
    await it.tells('request POST /1')
    await settle()
    other.send(`${get('/2')}${'y'.repeat(60_000)}`)
    await other.tells('request GET /2')
    await settle()
    it.connection.resume()
    await it.tells('end')

    assert.deepEqual(it.told, ['request POST /1', `data ${body}`, 'end'])
  }
})

test('createServerConnection() reads what is left of a small body behind an early answer, tells nothing of it, and goes on', async () => {
  await using it = await serve(atOnce)

  it.send(post('/1', 'Content-Length: 65536', 'x'.repeat(1000)))
  await it.receive(/\/1$/)
  it.send('x'.repeat(64_536) + get('/2'))

  assert.equal(await it.receive(/\/2$/), said('/1') + said('/2'))
  assert.deepEqual(it.told, ['request POST /1', 'request GET /2'])
})

const unread = [
  { framing: 'Content-Length: 65537', because: 'too much of it is left' },
  { framing: 'Transfer-Encoding: chunked', because: 'nobody knows how much of it is left' },
] as const
for (const { framing, because } of unread) {
  test(`createServerConnection() closes behind an answer before the end of a body: ${because}`, async () => {
    await using it = await serve(atOnce)

    it.send(post('/1', framing))
    await it.receive(/\/1$/)
    it.send(get('/2'))

    assert.equal(await it.receiveAll(), said('/1', true))
    assert.deepEqual(it.told, ['request POST /1'])
  })
}

test('createServerConnection() reads the next request where the answer came with the last of the body', async () => {
  await using it = await serve((connection) => connection.resume(), {
    hears(what, connection) {
      if (what === 'end') reply(connection, 'done')
    },
  })

  it.send(post('/1', 'Content-Length: 5'))
  await it.tells('request POST /1')
  it.send(`hello${post('/2', 'Content-Length: 2', 'hi')}${get('/3')}`)

  await it.tells('request GET /3')
  assert.equal(await it.receive(/done[\s\S]*done/), said('done') + said('done'))
})

const breaks = [
  { sent: post('/1', 'Transfer-Encoding: chunked', '5\r\nhelloX'), because: 'a chunk that is longer than it says' },
  { sent: post('/1', 'Transfer-Encoding: chunked', '5\r\nhello\r\n-1\r\n'), because: 'a size that is none' },
] as const
for (const { sent, because } of breaks) {
  test(`createServerConnection() tells once that a body is broken, and reads no request behind it: ${because}`, async () => {
    await using it = await serve((connection) => connection.resume())

    it.send(sent)
    await it.tells('data hello')
    it.send(`\r\n\r\n${get('/2')}`)
    await it.tells('broken malformed')
    reply(it.connection, 'no', 400)

    assert.match(await it.receiveAll(), /^HTTP\/1\.1 400 Said\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno$/)
    assert.deepEqual(it.told, ['request POST /1', 'data hello', 'broken malformed'])
  })
}

test('createServerConnection() closes where the rest of a body nobody wants is broken', async () => {
  await using it = await serve(silent)

  it.send(post('/1', 'Transfer-Encoding: chunked', '5\r\nhello\r\n'))
  await it.tells('request POST /1')
  it.connection.begin(200, 'Said', ['Content-Length', '0'], 0)
  it.connection.end([])
  it.send('-1\r\n')

  assert.equal(await it.receiveAll(), said('', true))
  assert.deepEqual(it.told, ['request POST /1'])
})

// Back-pressure.

test('createServerConnection() holds little of a body that is paused, and gives all of it once it goes on', async () => {
  await using it = await serve((connection) => connection.resume())
  const bytes = 20_000_000

  it.send(post('/1', `Content-Length: ${bytes}`, 'x'))
  await it.tells('data x')
  it.connection.pause()
  it.send(large(bytes - 1))
  await settle()
  const before = it.near.bytesRead
  const heldBack = it.told.join('').length
  await settle()

  assert.ok(before < 1_000_000, `${before} bytes were read`)
  assert.ok(heldBack < 1_000_000, `${heldBack} bytes were told`)
  assert.equal(it.near.bytesRead, before)
  it.connection.resume()
  await it.tells('end')
  assert.equal(it.told.find((what) => what.startsWith('data '))?.length, bytes + 5)
})

const floods = [
  { begun: post('/1', 'Content-Length: 50000000'), because: 'of a body nobody asked for' },
  { begun: get('/1'), because: 'behind a request that is not answered' },
] as const
for (const { begun, because } of floods) {
  test(`createServerConnection() holds little ${because}`, async () => {
    await using it = await serve(silent)

    it.send(begun)
    await it.tells('request POST /1'.replace('POST', begun.slice(0, 4).trim()))
    it.send(large(20_000_000))
    await settle()
    const before = it.near.bytesRead
    await settle()

    assert.ok(before < 1_000_000, `${before} bytes were read`)
    assert.equal(it.near.bytesRead, before)
  })
}

test('createServerConnection().write() says when the client takes no more, and drained tells when it does', async () => {
  await using it = await serve(silent, { reads: false })
  it.send(get('/1'))
  await it.tells('request GET /1')
  it.connection.begin(200, 'Said', [], 'chunked')

  const more = Array.from({ length: 20 }, () => it.connection.write(large(1_000_000)))
  await settle()

  assert.equal(more.at(-1), false)
  assert.ok(!it.told.includes('drained'))
  assert.equal(it.deadlines.nextMs(), limits.writeMs)
  it.client.resume()
  await it.tells('drained')
  assert.equal(it.deadlines.nextMs(), Number.POSITIVE_INFINITY)
})

test('createServerConnection() reads no next request before the client has taken its answer', async () => {
  await using it = await serve(silent, { reads: false })
  it.send(get('/1') + get('/2'))
  await it.tells('request GET /1')

  it.connection.begin(200, 'Said', [], 'chunked')
  for (let at = 0; at < 20; at += 1) it.connection.write(large(1_000_000))
  it.connection.end([])
  await settle()

  assert.deepEqual(it.told, ['request GET /1'])
  it.client.resume()
  await it.tells('request GET /2')
  assert.ok(!it.told.includes('drained'), 'nothing is told of an answer that has ended')
})

test('createServerConnection() tells of no room for an answer that has ended while a body is still read', async () => {
  const body = 'x'.repeat(20_000_000)
  await using it = await serve((connection) => reply(connection, body), { reads: false })
  it.send(post('/1', 'Content-Length: 10', 'hello'))
  await it.tells('request POST /1')

  const drained = once(it.near, 'drain')
  it.client.resume()
  await drained
  it.send(`world${get('/2')}`)
  await it.tells('request GET /2')

  assert.deepEqual(it.told, ['request POST /1', 'request GET /2'])
})

test('createServerConnection() gives up a client that takes nothing of its last answer', async () => {
  await using it = await serve((connection) => reply(connection, 'x'.repeat(20_000_000)), { reads: false })
  it.send('nonsense\r\n\r\n')
  await it.tells('refused malformed')

  assert.equal(it.deadlines.nextMs(), limits.writeMs)
  it.deadlines.pass(limits.writeMs)

  assert.equal(it.near.destroyed, true)
  assert.equal(it.deadlines.watched(), 0)
})

test('createServerConnection() gives up a client that takes nothing of its answer', async () => {
  await using it = await serve(silent, { reads: false })
  it.send(get('/1'))
  await it.tells('request GET /1')
  it.connection.begin(200, 'Said', [], 'chunked')
  for (let at = 0; at < 20; at += 1) it.connection.write(large(1_000_000))

  it.deadlines.pass(limits.writeMs - 1)
  assert.ok(!it.told.includes('gone'))
  it.deadlines.pass(1)

  assert.deepEqual(it.told, ['request GET /1', 'gone'])
  assert.equal(it.near.destroyed, true)
  assert.equal(it.deadlines.watched(), 0)
})

test('createServerConnection() gives up a client that ends its body, and takes nothing of an answer begun before', async () => {
  await using it = await serve((connection) => connection.resume(), { reads: false })
  it.send(post('/1', 'Content-Length: 5'))
  await it.tells('request POST /1')
  it.connection.begin(200, 'Said', [], 'chunked')
  for (let at = 0; at < 20; at += 1) it.connection.write(large(1_000_000))

  it.send('hello')
  await it.tells('end')
  it.deadlines.pass(limits.writeMs)

  assert.deepEqual(it.told, ['request POST /1', 'data hello', 'end', 'gone'])
})

// Waits.

test('createServerConnection() waits for a head from the beginning, not from the last byte', async () => {
  await using it = await serve(silent)

  assert.equal(it.deadlines.nextMs(), limits.headMs)
  for (const part of ['GET ', '/1 ', 'HTTP']) {
    it.deadlines.pass(limits.headMs / 3 - 1)
    it.send(part)
    await settle()
  }
  assert.equal(it.near.destroyed, false)
  it.deadlines.pass(3)

  assert.equal(it.near.destroyed, true)
  assert.equal(await it.receiveAll(), '')
  assert.deepEqual(it.told, [])
})

test('createServerConnection() waits long for the next request, and shorter for the rest of its head', async () => {
  await using it = await serve(atOnce)
  it.send(get('/1'))
  await it.receive(/\/1$/)
  assert.equal(it.deadlines.nextMs(), limits.idleMs)

  it.deadlines.pass(limits.idleMs - 1)
  it.send('G')
  await settle()
  assert.equal(it.deadlines.nextMs(), limits.headMs)
  it.deadlines.pass(5)
  it.send('E')
  await settle()
  assert.equal(it.deadlines.nextMs(), limits.headMs - 5)

  it.deadlines.pass(limits.headMs)
  assert.equal(it.near.destroyed, true)
  assert.equal(it.deadlines.watched(), 0)
})

test('createServerConnection() closes a connection nobody uses', async () => {
  await using it = await serve(atOnce)
  it.send(get('/1'))
  await it.receive(/\/1$/)

  it.deadlines.pass(limits.idleMs)

  assert.equal(await it.receiveAll(), said('/1'))
  assert.deepEqual(it.told, ['request GET /1'])
})

test('createServerConnection() waits for the rest of a head that came behind another request', async () => {
  await using it = await serve(silent)
  it.send(`${get('/1')}GET /2`)
  await it.tells('request GET /1')
  it.deadlines.pass(1_000_000)
  assert.equal(it.near.destroyed, false)

  reply(it.connection, 'one')

  assert.equal(it.deadlines.nextMs(), limits.headMs)
})

test('createServerConnection() gives a body its time, and more to one that keeps its rate', async () => {
  await using it = await serve((connection) => connection.resume())
  it.send(post('/1', 'Content-Length: 100000'))
  await it.tells('request POST /1')
  assert.equal(it.deadlines.nextMs(), limits.requestMs)

  it.send('x'.repeat(5000))
  await until(
    () => it.told.at(-1)?.length === 5005,
    () => '5000 bytes',
  )
  it.deadlines.pass(limits.requestMs)
  assert.equal(it.deadlines.nextMs(), 5000)
  it.deadlines.pass(4999)
  assert.ok(!it.told.includes('broken timeout'))
  it.deadlines.pass(1)

  assert.equal(it.told.at(-1), 'broken timeout')
  reply(it.connection, 'slow', 408)
  assert.match(await it.receiveAll(), /^HTTP\/1\.1 408 Said\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow$/)
})

test('createServerConnection() gives nobody up who sends, and in its time whoever stops, however much has come', async () => {
  await using it = await serve((connection) => connection.resume())
  it.send(post('/1', 'Content-Length: 10000000'))
  await it.tells('request POST /1')
  let sent = 0
  const send = async (size: number) => {
    it.send('x'.repeat(size))
    sent += size
    await until(
      () => it.told.slice(1).join('').replaceAll('data ', '').length === sent,
      () => 'data',
    )
  }
  await send(1_000_000)
  for (let at = 0; at < 5; at += 1) {
    it.deadlines.pass(limits.requestMs)
    await send(1)
    assert.ok(!it.told.includes('broken timeout'))
  }

  it.deadlines.pass(limits.requestMs)
  assert.ok(!it.told.includes('broken timeout'))
  it.deadlines.pass(limits.requestMs)

  assert.equal(it.told.at(-1), 'broken timeout')
})

test('createServerConnection() does not take it for silence that we have not read', async () => {
  await using it = await serve((connection) => connection.resume())
  it.send(post('/1', 'Content-Length: 10000000', 'x'.repeat(500_000)))
  await until(
    () => it.told.length > 1,
    () => 'data',
  )
  await settle()
  it.deadlines.pass(limits.requestMs)
  it.connection.pause()
  it.deadlines.pass(1)
  it.connection.resume()
  it.deadlines.pass(limits.requestMs - 1)

  assert.ok(!it.told.includes('broken timeout'))
})

test('createServerConnection() does not call a client slow while we do not read', async () => {
  await using it = await serve(silent)
  it.send(post('/1', 'Content-Length: 10', 'hello'))
  await it.tells('request POST /1')

  it.deadlines.pass(limits.requestMs * 10)
  it.connection.resume()
  it.connection.pause()
  it.deadlines.pass(limits.requestMs * 10)
  assert.deepEqual(it.told, ['request POST /1', 'data hello'])
  it.connection.resume()
  it.send('world')
  await it.tells('end')

  assert.equal(it.deadlines.nextMs(), Number.POSITIVE_INFINITY)
})

test('createServerConnection() closes where the rest of a body nobody wants does not come', async () => {
  await using it = await serve(atOnce)
  it.send(post('/1', 'Content-Length: 10', 'hello'))
  await it.receive(/\/1$/)

  it.deadlines.pass(limits.requestMs + 1000)

  assert.equal(await it.receiveAll(), said('/1'))
  assert.deepEqual(it.told, ['request POST /1'])
})

// Lingering.

test('createServerConnection() reads on for a while behind the last answer, so that it is not lost to a reset', async () => {
  await using it = await serve(atOnce)

  it.send(`nonsense\r\n\r\n${'x'.repeat(60_000)}`)
  const text = await it.receiveAll()
  it.send('more')
  await settle()

  assert.equal(text, said('malformed', true))
  assert.equal(it.near.destroyed, false)
  it.deadlines.pass(1000)
  assert.equal(it.near.destroyed, true)
  assert.equal(it.deadlines.watched(), 0)
})

/** Sends bytes, and resolves once they are read. */
async function sendMore({ near, send }: Served, bytes: number): Promise<void> {
  const wanted = near.bytesRead + bytes
  send(large(bytes))
  await until(
    () => near.bytesRead >= wanted,
    () => `${wanted} bytes, ${near.bytesRead} read`,
  )
  await settle()
}

test('createServerConnection() reads on for as long as a client sends what nobody wants, but not for ever', async () => {
  await using it = await serve(atOnce)
  it.send('nonsense\r\n\r\n')
  await it.receiveAll()
  await settle()

  for (let passed = 0; passed < maxLingerMs; passed += 900) {
    assert.equal(it.near.destroyed, false, `after ${passed} ms`)
    await sendMore(it, 100_000)
    it.deadlines.pass(900)
  }

  assert.equal(it.near.destroyed, true)
  assert.equal(it.deadlines.watched(), 0)
})

for (const lends of [true, false])
  test(`createServerConnection() reads no flood behind the last answer, from a socket that ${lends ? 'lends' : 'gives'} what it reads`, async () => {
    await using it = await serve(atOnce, { lends })
    it.send('nonsense\r\n\r\n')
    await it.receiveAll()
    await settle()

    await sendMore(it, maxLingerBytes)
    assert.equal(it.near.isPaused(), false)
    await sendMore(it, 1)
    assert.equal(it.near.isPaused(), true)
    it.send(large(20_000_000))
    await settle()

    // Some more may have been on its way.
    assert.ok(it.near.bytesRead < maxLingerBytes + 200_000, `${it.near.bytesRead} bytes were read`)
    assert.equal(it.near.destroyed, false)
    it.deadlines.pass(1000)
    assert.equal(it.near.destroyed, true)
    await once(it.near, 'close', { signal: AbortSignal.timeout(5000) })
  })

test('createServerConnection().closeIdle() gives a client that goes on sending behind its last answer a second, not more', async () => {
  await using before = await serve(atOnce)
  await using after = await serve(silent)
  before.send('nonsense\r\n\r\n')
  await before.receiveAll()
  after.send(post('/1', 'Content-Length: 1000000'))
  await after.tells('request POST /1')
  await settle()

  before.connection.closeIdle()
  after.connection.closeIdle()
  reply(after.connection, 'no', 403)
  await after.receiveAll()
  await settle()

  for (const it of [before, after]) {
    await sendMore(it, 100_000)
    it.deadlines.pass(900)
    await sendMore(it, 100_000)
    assert.equal(it.near.destroyed, false)
    it.deadlines.pass(100)
    assert.equal(it.near.destroyed, true)
  }
})

test('createServerConnection() reads on behind a last answer also where it had stopped to read', async () => {
  await using it = await serve(silent)
  it.send(post('/1', 'Content-Length: 200000', 'x'.repeat(100_000)))
  await it.tells('request POST /1')
  await settle()

  reply(it.connection, 'no', 403)
  assert.match(await it.receiveAll(), /\r\nConnection: close\r\n\r\nno$/)
  it.client.end()

  await until(
    () => it.near.destroyed,
    () => 'the close',
  )
})

test('createServerConnection() closes behind the last answer as soon as the client has', async () => {
  await using it = await serve(atOnce)

  it.send(get('/1', 'Connection: close\r\n'))
  await it.receiveAll()
  it.client.end()
  await once(it.near, 'close')

  assert.equal(it.deadlines.watched(), 0)
})

// Clients that leave, or close their side.

test('createServerConnection() answers a client that has closed its side, and then closes', async () => {
  await using it = await serve(silent)

  it.client.end(get('/1') + get('/2'))
  await it.tells('request GET /1')
  await settle()
  reply(it.connection, 'one')
  reply(it.connection, 'two')

  assert.equal(await it.receiveAll(), said('one') + said('two'))
  await until(
    () => it.near.destroyed,
    () => 'the close',
  )
  assert.deepEqual(it.told, ['request GET /1', 'request GET /2'])
})

test('createServerConnection() reads the body of a client that closed its side behind it, when it is asked to', async () => {
  for (const [framing, body] of [
    ['Content-Length: 5', 'hello'],
    ['Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n'],
  ] as const) {
    await using it = await serve(silent)

    it.client.end(post('/1', framing, body))
    await it.tells('request POST /1')
    await settle()
    it.connection.resume()
    assert.deepEqual(it.told, ['request POST /1', 'data hello', 'end'])
    reply(it.connection, 'one')

    assert.equal(await it.receiveAll(), said('one'))
  }
})

test('createServerConnection() gives up a client that closed its side behind its body, too, and to whom nothing can be sent for a while', async () => {
  await using it = await serve(silent)
  it.send(post('/1', 'Content-Length: 4', 'body'))
  it.client.end()
  await it.tells('request POST /1')
  await settle()
  it.connection.resume()
  await it.tells('end')

  it.deadlines.pass(500)
  it.deadlines.pass(500)

  assert.deepEqual(it.told, ['request POST /1', 'data body', 'end', 'gone'])
})

test('createServerConnection() tells that the client is gone where it closed its side within a body', async () => {
  for (const [framing, body] of [
    ['Content-Length: 6', 'hello'],
    ['Transfer-Encoding: chunked', '5\r\nhello\r\n'],
  ] as const) {
    for (const isRead of [true, false]) {
      await using it = await serve((connection) => {
        if (isRead) connection.resume()
      })

      it.client.end(post('/1', framing, body))
      await it.tells('request POST /1')
      await settle()
      it.connection.resume()
      await it.tells('gone')

      assert.deepEqual(it.told, ['request POST /1', 'data hello', 'gone'])
      await until(
        () => it.near.destroyed,
        () => 'the end of the connection',
      )
    }
  }
})

test('createServerConnection() still sends all of an answer when the client closes its side within a body', async () => {
  const body = 'x'.repeat(20_000_000)
  await using it = await serve((connection) => reply(connection, body), { reads: false })

  it.send(post('/1', 'Content-Length: 10', 'hello'))
  await it.tells('request POST /1')
  it.client.end()
  await settle()
  let received = 0
  it.client.on('data', (chunk: Buffer) => {
    received += chunk.length
  })
  await it.receiveAll()

  assert.equal(received, said(body).length)
  assert.deepEqual(it.told, ['request POST /1'])
})

test('createServerConnection() closes where a client closed its side within a head', async () => {
  for (const before of ['', get('/1')]) {
    await using it = await serve(silent)

    it.client.end(`${before}GET /2 HTTP/1.1\r\nHost`)
    await settle()
    if (before !== '') reply(it.connection, 'one')

    assert.equal(await it.receiveAll(), before === '' ? '' : said('one'))
    assert.ok(!it.told.includes('request GET /2'))
  }
})

for (const [where, framing, part] of [
  ['before a body', 'Content-Length: 10', ''],
  ['within a body', 'Content-Length: 10', 'abc'],
  ['within a chunk', 'Transfer-Encoding: chunked', '5\r\nabc'],
] as const) {
  test(`createServerConnection() sends what it has answered when the client closes its side ${where} of the next request, and ends`, async () => {
    await using it = await serve((connection, head) => {
      if (typeof head !== 'string' && head.method === 'POST') connection.resume()
    })

    it.client.end(get('/1') + post('/2', framing, part))
    await it.tells('request GET /1')
    await settle()
    reply(it.connection, 'one')

    assert.equal(await it.receiveAll(), said('one'))
    const data = part === '' ? [] : ['data abc']
    assert.deepEqual(it.told, ['request GET /1', 'request POST /2', ...data, 'gone'])
    await until(
      () => it.deadlines.watched() === 0,
      () => 'the end of the connection',
    )
  })

  test(`createServerConnection() answers a request whose client closed its side ${where}, and waits for no more of it`, async () => {
    await using it = await serve((connection, head) => {
      if (typeof head !== 'string' && head.method === 'POST') reply(connection, 'two')
    })

    it.client.end(get('/1') + post('/2', framing, part))
    await it.tells('request GET /1')
    await settle()
    reply(it.connection, 'one')

    // A body whose length nobody knows is not read to its end.
    assert.equal(await it.receiveAll(), said('one') + said('two', where === 'within a chunk'))
    assert.deepEqual(it.told, ['request GET /1', 'request POST /2'])
  })
}

test('createServerConnection() gives up a client that closed its side behind two requests as it does behind one', async () => {
  await using it = await serve(silent)
  it.client.end(get('/1') + get('/2'))
  await it.tells('request GET /1')
  await settle()

  reply(it.connection, 'one')
  await it.receive(/one/)
  assert.equal(it.deadlines.nextMs(), 500)
  it.deadlines.pass(500)
  assert.equal(it.near.destroyed, false)
  it.deadlines.pass(500)

  assert.deepEqual(it.told, ['request GET /1', 'request GET /2', 'gone'])
})

test('createServerConnection() gives up a client that closed its side and to whom nothing can be sent for a while', async () => {
  await using it = await serve(silent)
  it.client.end(get('/1'))
  await it.tells('request GET /1')
  await settle()

  assert.equal(it.deadlines.nextMs(), 500)
  it.connection.begin(200, 'Said', [], 'chunked')
  it.connection.write(Buffer.from('a'))
  it.connection.flush()
  await it.receive(/a/)
  it.deadlines.pass(500)
  assert.equal(it.near.destroyed, false)
  it.deadlines.pass(500)

  assert.deepEqual(it.told, ['request GET /1', 'gone'])
})

test('createServerConnection() gives a client that closes its side while its answer waits the time to take it, and then half a second', async () => {
  await using it = await serve(silent, { reads: false })
  it.send(get('/1'))
  await it.tells('request GET /1')
  it.connection.begin(200, 'Said', [], 'chunked')
  for (let at = 0; at < 20; at += 1) it.connection.write(large(1_000_000))

  it.client.end()
  await settle()
  assert.equal(it.deadlines.nextMs(), limits.writeMs)
  it.client.resume()
  await it.tells('drained')
  assert.equal(it.deadlines.nextMs(), 500)
  it.connection.write(Buffer.from('a'))
  it.connection.flush()
  await settle()
  it.deadlines.pass(500)
  assert.equal(it.near.destroyed, false)
  it.deadlines.pass(500)

  assert.deepEqual(it.told, ['request GET /1', 'drained', 'gone'])
})

for (const [version, ends] of [
  ['1.0', 'with a reset'],
  ['1.1', 'before its last chunk'],
] as const)
  test(`createServerConnection().abort() ends an answer to HTTP/${version} ${ends}: nobody takes it for whole`, async () => {
    await using it = await serve(silent)
    it.send(`GET /1 HTTP/${version}\r\nHost: a\r\n\r\n`)
    await it.tells('request GET /1')
    it.connection.begin(200, 'Said', [], 'chunked')
    it.connection.write(Buffer.from('half'))
    it.connection.flush()
    await it.receive(/half/)
    const error = once(it.client, 'error', { signal: AbortSignal.timeout(5000) }).then(([cause]) => String(cause.code))
    const ended = once(it.client, 'end').then(() => it.text().slice(-6))

    it.connection.abort()

    assert.equal(await Promise.race([error, ended]), version === '1.0' ? 'ECONNRESET' : 'half\r\n')
    assert.deepEqual(it.told, ['request GET /1', 'gone'])
  })

test('createServerConnection() tells once that a client is gone, and only while its request is under way', async () => {
  await using served = await serve(atOnce)
  await using unserved = await serve(silent)
  served.send(get('/1'))
  unserved.send(get('/1'))
  await served.receive(/\/1$/)
  await unserved.tells('request GET /1')

  served.client.resetAndDestroy()
  unserved.client.resetAndDestroy()
  await unserved.tells('gone')
  await settle()

  assert.deepEqual(served.told, ['request GET /1'])
  assert.deepEqual(unserved.told, ['request GET /1', 'gone'])
  assert.equal(served.deadlines.watched() + unserved.deadlines.watched(), 0)
})

test('createServerConnection() does nothing for an answer whose client is gone', async () => {
  await using it = await serve(silent)
  it.send(get('/1'))
  await it.tells('request GET /1')
  it.client.resetAndDestroy()
  await it.tells('gone')

  reply(it.connection, 'late')
  it.connection.flush()
  it.connection.resume()
  it.connection.pause()
  it.connection.sendContinue()
  it.connection.closeIdle()
  it.connection.abort()
  await settle()

  assert.deepEqual(it.told, ['request GET /1', 'gone'])
})

test('createServerConnection().abort() cuts the connection off, and tells nothing of what else was in the same bytes', async () => {
  await using it = await serve((connection) => connection.resume(), {
    hears(what, connection) {
      if (what.startsWith('data')) connection.abort()
    },
  })

  it.send(post('/1', 'Transfer-Encoding: chunked', '1\r\na\r\n1\r\nb\r\n0\r\n\r\n') + get('/2'))
  await it.receiveAll()
  await settle()

  assert.deepEqual(it.told, ['request POST /1', 'data a', 'gone'])
  assert.equal(it.text(), '')
})

test('createServerConnection() ends with a reset where an HTTP/1.0 client does not take the rest of its answer in time', async () => {
  await using it = await serve(silent, { reads: false })
  it.send('GET /1 HTTP/1.0\r\nHost: a\r\n\r\n')
  await it.tells('request GET /1')
  it.connection.begin(200, 'Said', [], 'close')
  for (let at = 0; at < 20; at += 1) it.connection.write(large(1_000_000))
  it.connection.end([])
  await settle()
  const error = once(it.client, 'error', { signal: AbortSignal.timeout(5000) }).then(([cause]) => String(cause.code))

  it.deadlines.pass(limits.writeMs)
  it.client.resume()

  assert.equal(await error, 'ECONNRESET')
})

test('createServerConnection() resets an HTTP/1.0 client whose last piece waits for its socket, and lets go of it', async () => {
  await using it = await serve(silent, { reads: false })
  it.send('GET /1 HTTP/1.0\r\nHost: a\r\n\r\n')
  await it.tells('request GET /1')
  it.connection.begin(200, 'Said', [], 'close')
  while (it.connection.write(Buffer.alloc(60_000, 'x')));
  it.connection.end([])
  await settle()
  const closed = once(it.near, 'close', { signal: AbortSignal.timeout(5000) })
  const error = once(it.client, 'error', { signal: AbortSignal.timeout(5000) }).then(([cause]) => String(cause.code))

  it.deadlines.pass(limits.writeMs)
  it.client.resume()

  await closed
  assert.equal(await error, 'ECONNRESET')
})

// Other protocols.

function switching(after: (connection: ServerConnection) => void = () => {}): Answer {
  return (connection) => {
    connection.switchProtocols(['Connection', 'upgrade', 'Upgrade', 'x'])
    after(connection)
  }
}
const upgrade = get('/1', 'Connection: upgrade\r\nUpgrade: x\r\n')
const switched = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'

test('createServerConnection().switchProtocols() passes bytes as they are, those that came early too, and waits for ever', async () => {
  await using it = await serve(switching())

  it.send(`${upgrade}0\r\n\r\n`)
  await it.tells('data 0\r\n\r\n')
  it.connection.write(Buffer.from('5\r\n'))
  it.connection.flush()
  await it.receive(/5\r\n$/)
  it.send(get('/2'))
  await it.tells(`data 0\r\n\r\n${get('/2')}`)

  assert.equal(it.text(), `${switched}5\r\n`)
  assert.equal(it.deadlines.nextMs(), Number.POSITIVE_INFINITY)
})

test('createServerConnection().switchProtocols() ends each way on its own', async () => {
  await using it = await serve(switching())

  it.client.end(`${upgrade}hello`)
  await it.tells('end')
  it.connection.write(Buffer.from('bye'))
  it.connection.end([])

  assert.equal(await it.receiveAll(), `${switched}bye`)
  assert.deepEqual(it.told, ['request GET /1', 'data hello', 'end'])
  await until(
    () => it.deadlines.watched() === 0,
    () => 'nothing more to be watched',
  )
})

for (const first of ['client', 'upstream'] as const)
  test(`createServerConnection().switchProtocols() waits for who is left for a time once the ${first} has ended`, async () => {
    await using it = await serve(switching())
    it.send(upgrade)
    await it.receive(/101/)

    if (first === 'upstream') it.connection.end([])
    else {
      it.client.end()
      await it.tells('end')
    }
    assert.equal(it.deadlines.nextMs(), limits.idleMs)
    it.deadlines.pass(limits.idleMs)

    assert.equal(it.told.at(-1), 'gone')
  })

test('createServerConnection().switchProtocols() has the system ask whether a client is still there', {
  skip: process.platform !== 'linux' && 'only Linux shows its timers',
}, async () => {
  await using it = await serve(switching())

  it.send(upgrade)
  await it.receive(/101/)

  await until(
    () => timerOf(it.client) === 2,
    () => 'the timer',
  )
})

test('createServerConnection().switchProtocols() passes what a client sent that had closed its side before', async () => {
  for (const early of ['', 'hello']) {
    await using it = await serve(silent)

    it.client.end(upgrade + early)
    await it.tells('request GET /1')
    await settle()
    it.connection.switchProtocols(['Connection', 'upgrade', 'Upgrade', 'x'])
    it.connection.write(Buffer.from('bye'))
    it.connection.end([])

    assert.equal(await it.receiveAll(), `${switched}bye`)
    assert.deepEqual(it.told, ['request GET /1', ...(early === '' ? [] : ['data hello']), 'end'])
  }
})

test('createServerConnection().switchProtocols() passes what came early, and that a client has ended, once, however often it is held back', async () => {
  await using it = await serve(switching())

  it.client.end(`${upgrade}hello`)
  await it.tells('end')
  for (let at = 0; at < 2; at += 1) {
    it.connection.pause()
    it.connection.resume()
    await settle()
  }

  assert.deepEqual(it.told, ['request GET /1', 'data hello', 'end'])
})

test('createServerConnection().switchProtocols() holds back a client as it does with a body', async () => {
  await using it = await serve(switching((connection) => connection.pause()))

  it.send(upgrade)
  await it.receive(/101/)
  it.send(large(20_000_000))
  await settle()

  assert.ok(it.near.bytesRead < 1_000_000)
  it.connection.resume()
  await until(
    () => it.told.at(-1)?.length === 20_000_005,
    () => 'all of it',
  )
})

test('createServerConnection().switchProtocols() resets a client that takes nothing', async () => {
  await using it = await serve(switching(), { reads: false })
  it.send(upgrade)
  await it.tells('request GET /1')

  for (let at = 0; at < 20; at += 1) it.connection.write(large(1_000_000))
  const error = once(it.client, 'error', { signal: AbortSignal.timeout(5000) })
  it.deadlines.pass(limits.writeMs)
  it.client.resume()

  assert.deepEqual(it.told, ['request GET /1', 'gone'])
  assert.equal((await error)[0].code, 'ECONNRESET')
})

test('createServerConnection().switchProtocols() gives up a client that speaks, and takes nothing', async () => {
  await using it = await serve(switching(), { reads: false })
  it.send(upgrade)
  await it.tells('request GET /1')

  assert.equal(it.connection.write(large(33_554_432)), false)
  it.deadlines.pass(limits.writeMs - 1)
  it.send('still here')
  await it.tells('data still here')
  it.deadlines.pass(1)

  assert.deepEqual(it.told, ['request GET /1', 'data still here', 'gone'])
})
