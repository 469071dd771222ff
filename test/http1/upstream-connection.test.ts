import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import { timerOf } from '../support/tcp-timer.ts'
import { settle, until } from '../support/until.ts'
import type { Asked, Peer, Pool } from './upstream-peer.ts'
import { ask, ok, openPeer, openPool } from './upstream-peer.ts'

const post = { method: 'POST', repeatable: false } as const
const switching = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n'

const oddities = [
  { what: 'bytes come behind an answer with a length', bytes: `${ok}HTTP/1.1 200 OK\r\n` },
  {
    what: 'bytes come behind a chunked answer',
    bytes: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx',
  },
  { what: 'bytes come behind an answer without a body', bytes: 'HTTP/1.1 204 No Content\r\n\r\nok' },
  { what: 'an answer says that it closes', bytes: ok.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n') },
  { what: 'an answer says so among other options', bytes: ok.replace('\r\n\r\n', '\r\nConnection: x, CLOSE\r\n\r\n') },
  { what: 'an answer is HTTP/1.0', bytes: ok.replace('1.1', '1.0') },
  {
    what: 'an answer promises to keep it for no time',
    bytes: ok.replace('\r\n\r\n', '\r\nKeep-Alive: timeout=0\r\n\r\n'),
  },
] as const
for (const { what, bytes } of oddities) {
  test(`createUpstreamConnection() is used no more when ${what}`, async () => {
    await using peer = await openPeer((_, request) => (request === 1 ? bytes : ok))
    using pool = openPool([peer.endpoint])
    const first = ask(pool)
    assert.equal(await first.outcome, 'end')

    const second = ask(pool)

    assert.equal(await second.outcome, 'end')
    assert.equal(second.body(), 'ok')
    assert.deepEqual(
      peer.accepted.map(({ requests }) => requests),
      [1, 1],
    )
    await until(() => peer.accepted[0]?.isClosed === true, 'the end of the first connection')
  })
}

const kept = [
  {
    what: 'HTTP/1.0 with keep-alive',
    bytes: ok.replace('1.1', '1.0').replace('\r\n\r\n', '\r\nConnection: keep-alive\r\n\r\n'),
  },
  { what: 'an answer in chunks', bytes: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n' },
  { what: '204', bytes: 'HTTP/1.1 204 No Content\r\n\r\n' },
  { what: '204 that says it is empty', bytes: 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n' },
  { what: '304', bytes: 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n' },
  {
    what: 'an answer after 103 and 100',
    bytes: `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n${ok}`,
  },
] as const
for (const { what, bytes } of kept) {
  test(`createUpstreamConnection() is used again after ${what}`, async () => {
    await using peer = await openPeer(() => bytes)
    using pool = openPool([peer.endpoint])

    for (let at = 0; at < 3; at += 1) assert.equal(await ask(pool).outcome, 'end')

    assert.equal(peer.accepted.length, 1)
  })
}

test('createUpstreamConnection() is used no more when bytes come while nobody asks', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint])
  await ask(pool).outcome

  peer.accepted[0]?.socket.write(ok.replace('ok', 'no'))
  await until(() => peer.accepted[0]?.isClosed === true, 'the end of the connection')
  const next = ask(pool)

  assert.equal(await next.outcome, 'end')
  assert.equal(next.body(), 'ok')
  assert.equal(peer.accepted.length, 2)
})

test('createUpstreamConnection() that its upstream closes while nobody asks is not used', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint])
  await ask(pool).outcome

  peer.accepted[0]?.socket.end()
  await until(() => peer.accepted[0]?.isClosed === true, 'the end of the connection')
  const next = ask(pool, post)

  assert.equal(await next.outcome, 'end')
  assert.equal(next.opened(), 1)
})

test('createUpstreamConnection() is used no more when the answer comes before the end of the request', async () => {
  await using peer = await openPeer((_, request) =>
    request === 1 ? 'HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno' : ok,
  )
  using pool = openPool([peer.endpoint])
  const early = ask(
    pool,
    { ...post, framing: 1000 },
    {
      opened({ write, flush }) {
        write(Buffer.alloc(10))
        flush()
      },
    },
  )

  assert.equal(await early.outcome, 'end')
  assert.equal(early.head()?.status, 413)
  const next = ask(pool)

  assert.equal(await next.outcome, 'end')
  assert.equal(next.body(), 'ok')
  await until(() => peer.accepted[0]?.isClosed === true, 'the end of the first connection')
  assert.equal(peer.accepted.length, 2)
})

for (const { bytes, status, connections } of [
  { bytes: 16_385, status: 413, connections: 2 },
  { bytes: 16_385, status: 400, connections: 2 },
  { bytes: 16_385, status: 399, connections: 1 },
  { bytes: 16_384, status: 413, connections: 1 },
  { bytes: 16_385, status: 201, connections: 1 },
])
  test(`createUpstreamConnection() serves the next on ${connections === 1 ? 'the same' : 'another one'} when ${bytes} bytes were answered ${status}`, async () => {
    await using peer = await openPeer((_, request) =>
      request === 1 && peer.accepted.length === 1 ? ok.replace('200', String(status)) : ok,
    )
    using pool = openPool([peer.endpoint])
    const first = ask(
      pool,
      { ...post, framing: bytes },
      {
        opened({ write, end }) {
          write(Buffer.alloc(bytes))
          end([])
        },
      },
    )
    assert.equal(await first.outcome, 'end')
    assert.equal(first.head()?.status, status)

    const next = ask(pool)

    assert.equal(await next.outcome, 'end')
    assert.equal(next.body(), 'ok')
    assert.equal(peer.accepted.length, connections)
  })

test('createUpstreamConnection() counts what it has sent of each request apart, when one is refused', async () => {
  await using peer = await openPeer(() => ok.replace('200', '413'))
  using pool = openPool([peer.endpoint])

  for (let at = 0; at < 3; at += 1) {
    const refused = ask(
      pool,
      { ...post, framing: 9000 },
      {
        opened({ write, end }) {
          write(Buffer.alloc(9000))
          end([])
        },
      },
    )
    assert.equal(await refused.outcome, 'end')
  }

  assert.equal(peer.accepted.length, 1)
})

test('createUpstreamConnection() resets what refused more than it has surely read, though most came after the head of its answer', async () => {
  let code: string | undefined
  const { promise: whole, resolve } = Promise.withResolvers<void>()
  await using peer = await openPeer(({ socket }, request) => {
    if (request > 1) return ok
    socket.on('error', (error: NodeJS.ErrnoException) => {
      code = error.code
    })
    void whole.then(() => socket.write('no'))
    return 'HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n'
  })
  using pool = openPool([peer.endpoint])
  const refused = ask(
    pool,
    { ...post, framing: 20_000 },
    {
      opened({ write, flush, end }) {
        write(Buffer.alloc(5000))
        flush()
        void until(() => refused.head() !== undefined, 'the head').then(() => {
          write(Buffer.alloc(15_000))
          end([])
          resolve()
        })
      },
    },
  )
  assert.equal(await refused.outcome, 'end')

  const next = ask(pool)

  assert.equal(await next.outcome, 'end')
  assert.equal(peer.accepted.length, 2)
  await until(() => code === 'ECONNRESET', 'the reset')
})

test('createUpstreamConnection() is used again when the answer began before the end of the request, and ended after it', async () => {
  await using peer = await openPeer((_, request) =>
    request === 1 ? 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok' : ok,
  )
  using pool = openPool([peer.endpoint])
  const echo = ask(pool, { ...post, framing: 3 }, { opened: ({ flush }) => flush() })
  await until(() => echo.body() === 'ok', 'the first half')

  echo.exchange().write(Buffer.from('abc'))
  echo.exchange().end([])
  await until(() => peer.accepted[0]?.received.endsWith('abc') === true, 'the body')
  peer.accepted[0]?.socket.write('ay')

  assert.equal(await echo.outcome, 'end')
  assert.equal(await ask(pool).outcome, 'end')
  assert.equal(peer.accepted.length, 1)
})

test('createUpstreamConnection() is closed when an answer is given up in its middle', async () => {
  await using peer = await openPeer((_, request) =>
    request === 1 ? 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf' : ok,
  )
  using pool = openPool([peer.endpoint])
  const half = ask(pool)
  await until(() => half.body() === 'half', 'the first half')

  half.exchange().abort()
  const next = ask(pool)

  assert.equal(await next.outcome, 'end')
  assert.equal(next.body(), 'ok')
  assert.equal(half.isOver(), false)
  await until(() => peer.accepted[0]?.isClosed === true, 'the end of the first connection')
})

for (const told of ['head', 'data'] as const)
  test(`createUpstreamConnection() is over when an answer that came whole is given up at its ${told}, and serves nobody else`, async () => {
    await using peer = await openPeer()
    using pool = openPool([peer.endpoint], { connections: 1 })
    const given = ask(pool, {}, { [told]: () => given.exchange().abort() })
    await until(() => peer.accepted[0]?.isClosed === true, 'the end of the first connection')

    const next = ask(pool, post)

    assert.equal(await next.outcome, 'end')
    assert.equal(next.opened(), 1)
    assert.equal(given.isOver(), false)
    assert.equal(given.body(), told === 'head' ? '' : 'ok')
    assert.equal(peer.accepted.length, 2)
  })

test('createUpstreamConnection() tells an upstream that has switched protocols of the end, and hears of its own', async () => {
  await using peer = await openPeer(() => switching)
  using pool = openPool([peer.endpoint])
  const switched = ask(pool, { upgrade: 'echo' })
  await until(() => switched.switchedTo() !== undefined, 'the switch')

  switched.exchange().end([])
  await until(() => peer.accepted[0]?.socket.readableEnded === true, 'the end')

  assert.equal(await switched.outcome, 'end')
})

test('createUpstreamConnection() tells nothing of what came with a switch that is given up as it is told', async () => {
  await using peer = await openPeer(() => `${switching}hello`)
  using pool = openPool([peer.endpoint])

  const given = ask(pool, { upgrade: 'echo' }, { switched: () => given.exchange().abort() })
  await until(() => peer.accepted[0]?.isClosed === true, 'the end of the connection')

  assert.ok(given.switchedTo() !== undefined)
  assert.equal(given.body(), '')
  assert.equal(given.isOver(), false)
})

test('createUpstreamConnection() has the system ask whether an upstream that has switched protocols is still there', {
  skip: process.platform !== 'linux' && 'only Linux shows its timers',
}, async () => {
  await using peer = await openPeer(() => switching)
  using pool = openPool([peer.endpoint])
  const switched = ask(pool, { upgrade: 'echo' })
  await until(() => switched.switchedTo() !== undefined, 'the switch')

  const accepted = peer.accepted[0]
  assert.ok(accepted !== undefined)

  await until(() => timerOf(accepted.socket) === 2, 'the timer')
})

// Some upstreams send the body all the same, and late it would be the next client's answer.
const bodiless = [
  { method: 'HEAD', head: ok.slice(0, ok.indexOf('\r\n\r\n') + 4) },
  { method: 'HEAD', head: 'HTTP/1.1 200 OK\r\n\r\n' },
  { method: 'GET', head: 'HTTP/1.1 204 No Content\r\nContent-Length: 19\r\n\r\n' },
  { method: 'GET', head: 'HTTP/1.1 304 Not Modified\r\nContent-Length: 19\r\n\r\n' },
] as const
for (const { method, head } of bodiless)
  test(`createUpstreamConnection() resets what has answered ${method} with ${JSON.stringify(head)}`, async () => {
    let code: string | undefined
    await using peer = await openPeer(({ socket }, request) => {
      socket.on('error', (error: NodeJS.ErrnoException) => {
        code = error.code
      })
      return request === 1 && peer.accepted.length === 1 ? head : ok
    })
    using pool = openPool([peer.endpoint])
    const first = ask(pool, { method })
    assert.equal(await first.outcome, 'end')

    const next = ask(pool)

    assert.equal(await next.outcome, 'end')
    assert.equal(next.body(), 'ok')
    assert.equal(peer.accepted.length, 2)
    await until(() => code === 'ECONNRESET', 'the reset')
  })

for (const { what, sent, framing } of [
  { what: 'more than it has surely read', sent: 20_000, framing: 20_000 },
  { what: 'less than was announced', sent: 10, framing: 1000 },
])
  test(`createUpstreamConnection() ends, and does not reset, what has answered without a body when ${what} was sent to it`, async () => {
    let code: string | undefined
    await using peer = await openPeer(({ socket }) => {
      socket.on('error', (error: NodeJS.ErrnoException) => {
        code = error.code
      })
      return 'HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n'
    })
    using pool = openPool([peer.endpoint])
    const asked = ask(
      pool,
      { ...post, framing },
      {
        opened({ write, flush, end }) {
          write(Buffer.alloc(sent))
          flush()
          if (sent === framing) end([])
        },
      },
    )

    assert.equal(await asked.outcome, 'end')
    await until(() => peer.accepted[0]?.isClosed === true, 'the end of the connection')

    assert.equal(code, undefined)
  })

test('createUpstreamConnection() passes bytes both ways after a 101 that was asked for, and is used no more', async () => {
  await using peer = await openPeer((_, request) => (request === 1 ? `${switching}hello` : ok))
  using pool = openPool([peer.endpoint])
  const switched = ask(pool, { upgrade: 'echo' })
  await until(() => switched.body() === 'hello', 'the first words')

  switched.exchange().write(Buffer.from('good day'))
  switched.exchange().flush()
  await until(() => peer.accepted[0]?.received.endsWith('good day') === true, 'the answer')
  const next = ask(pool)

  assert.deepEqual(switched.switchedTo(), ['Connection', 'upgrade', 'Upgrade', 'echo'])
  assert.equal(await next.outcome, 'end')
  assert.equal(peer.accepted.length, 2)
  switched.exchange().abort()
  await until(() => peer.accepted[0]?.isClosed === true, 'the end of the first connection')
})

/** Switches protocols with a peer that reads nothing then, and sends more than there is room for. */
async function holdBack(peer: Peer, pool: Pool): Promise<{ readonly asked: Asked; readonly drained: () => boolean }> {
  let drained = false
  const asked = ask(
    pool,
    { upgrade: 'echo' },
    {
      drained() {
        drained = true
      },
    },
  )
  await until(() => asked.switchedTo() !== undefined, 'the switch')
  peer.accepted[0]?.socket.removeAllListeners('data').pause()
  assert.equal(asked.exchange().write(Buffer.alloc(33_554_432)), false)
  return { asked, drained: () => drained }
}

test('createUpstreamConnection() gives up an upstream that has switched protocols and takes nothing more', async () => {
  await using peer = await openPeer(() => switching)
  using pool = openPool([peer.endpoint], { bodyMs: 60_000 })
  const { asked } = await holdBack(peer, pool)

  pool.time.pass(59_999)
  assert.equal(asked.isOver(), false)
  pool.time.pass(1)

  assert.equal(asked.isOver(), true)
  assert.equal(await asked.outcome, 'timeout')
})

for (const first of ['client', 'upstream'] as const)
  test(`createUpstreamConnection() lets go of an upstream that has switched protocols, and takes nothing more once both sides have ended, the ${first} first`, async () => {
    await using peer = await openPeer(() => switching)
    using pool = openPool([peer.endpoint], { bodyMs: 60_000 })
    const { asked } = await holdBack(peer, pool)
    const ends = { client: () => asked.exchange().end([]), upstream: () => void peer.accepted[0]?.socket.end() }

    pool.time.pass(30_000)
    ends[first]()
    if (first === 'upstream') await asked.outcome
    ends[first === 'client' ? 'upstream' : 'client']()
    assert.equal(await asked.outcome, 'end')
    pool.time.pass(59_999)
    const before = pool.time.watched()
    pool.time.pass(1)

    assert.equal(before, 1)
    assert.equal(pool.time.watched(), 0)
  })

test('createUpstreamConnection() waits for ever on an upstream that has switched protocols, once it has taken what it had no room for', async () => {
  await using peer = await openPeer(() => switching)
  using pool = openPool([peer.endpoint], { bodyMs: 60_000 })
  const { asked, drained } = await holdBack(peer, pool)

  peer.accepted[0]?.socket.resume()
  await until(drained, 'room for more')
  pool.time.pass(86_400_000)

  assert.equal(asked.isOver(), false)
})

test('createUpstreamConnection() waits for ever on an upstream that has switched protocols, also once it was not read for a while', async () => {
  await using peer = await openPeer(() => switching)
  using pool = openPool([peer.endpoint], { bodyMs: 60_000 })
  const asked = ask(pool, { upgrade: 'echo' })
  await until(() => asked.switchedTo() !== undefined, 'the switch')

  asked.exchange().pause()
  asked.exchange().resume()
  pool.time.pass(86_400_000)
  peer.accepted[0]?.socket.write('still here')
  await until(() => asked.isOver() || asked.body() !== '', 'what it says')

  assert.equal(asked.body(), 'still here')
})

test('createUpstreamConnection() goes on for ever with a client that speaks on after an upstream that has switched protocols has ended', async () => {
  await using peer = await openPeer(() => switching)
  using pool = openPool([peer.endpoint], { bodyMs: 60_000 })
  const { asked, drained } = await holdBack(peer, pool)
  const [accepted] = peer.accepted
  accepted?.socket.end()
  await asked.outcome
  let heard = ''

  accepted?.socket.on('data', (chunk: Buffer) => {
    heard = chunk.toString('latin1')
  })
  accepted?.socket.resume()
  await until(drained, 'room for more', 5000)
  pool.time.pass(86_400_000)
  asked.exchange().write(Buffer.from('still here'))
  asked.exchange().flush()
  await until(() => heard.endsWith('still here'), 'what the client says', 5000)

  assert.equal(accepted?.isClosed, false)
})

const refused = [
  {
    what: 'a 101 nobody asked for',
    bytes: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
  },
  { what: 'seventeen interim answers', bytes: 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(17) + ok },
  { what: 'a head of 70 KiB', bytes: `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(12_000)}` },
  { what: 'two lengths', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok' },
  { what: 'a length and chunks', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n' },
  { what: 'another protocol', bytes: 'SSH-2.0-x\r\n' },
] as const
for (const { what, bytes } of refused) {
  test(`createUpstreamConnection() takes ${what} for no answer, and closes`, async () => {
    await using peer = await openPeer((_, request) => (request === 2 ? bytes : ok))
    using pool = openPool([peer.endpoint])
    await ask(pool).outcome

    const asked = ask(pool)

    assert.equal(await asked.outcome, 'reset')
    assert.equal(asked.head(), undefined)
    // A kept connection, and a request that may be repeated: but there were bytes of an answer.
    assert.equal(peer.requests(), 2)
    await until(() => peer.accepted[0]?.isClosed === true, 'the end of the connection')
    assert.equal(await ask(pool).outcome, 'end')
  })
}

test('createUpstreamConnection() takes sixteen interim answers to each request', async () => {
  await using peer = await openPeer(() => 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(16) + ok)
  using pool = openPool([peer.endpoint])

  assert.equal(await ask(pool).outcome, 'end')
  assert.equal(await ask(pool).outcome, 'end')
  assert.equal(peer.accepted.length, 1)
})

const broken = [
  { what: 'chunks that are none', bytes: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', closes: false },
  { what: 'a length that is not reached', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf', closes: true },
  {
    what: 'chunks without a last one',
    bytes: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n',
    closes: true,
  },
] as const
for (const { what, bytes, closes } of broken) {
  test(`createUpstreamConnection() tells an answer with ${what} as broken, and asks nobody again`, async () => {
    await using peer = await openPeer(({ socket }, request) => {
      if (request !== 2) return ok
      socket.write(bytes)
      if (closes) socket.end()
      return undefined
    })
    using pool = openPool([peer.endpoint])
    await ask(pool).outcome

    const asked = ask(pool)

    assert.equal(await asked.outcome, 'reset')
    assert.equal(asked.head()?.status, 200)
    assert.equal(peer.requests(), 2)
  })
}

test('createUpstreamConnection() takes the end of the connection for the end of an answer without a length', async () => {
  await using peer = await openPeer(({ socket }) => {
    socket.end('HTTP/1.1 200 OK\r\n\r\nall of it')
    return undefined
  })
  using pool = openPool([peer.endpoint])

  const asked = ask(pool)

  assert.equal(await asked.outcome, 'end')
  assert.equal(asked.body(), 'all of it')
})

test('createUpstreamConnection() reads one answer after another that comes byte by byte', async () => {
  const bytes = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n'
  await using peer = await openPeer(({ socket }) => {
    void (async () => {
      for (const byte of bytes) {
        socket.write(byte)
        await sleep(0)
      }
    })()
    return undefined
  })
  using pool = openPool([peer.endpoint])

  // The second as the first: nothing of that is the end of this.
  for (let at = 0; at < 2; at += 1) {
    const asked = ask(pool)

    assert.equal(await asked.outcome, 'end')
    assert.equal(asked.body(), 'ok')
    assert.deepEqual(asked.trailers(), ['X-Sum', '7'])
  }
  assert.equal(peer.accepted.length, 1)
})

const longHint = `HTTP/1.1 103 Early Hints\r\nLink: ${'x'.repeat(100)}\r\n\r\n`
const inPieces = [
  { what: 'an answer', pieces: [`${ok.slice(0, -6)}\r\nX-Long: ${'x'.repeat(100)}`, '\r\n\r\nok'] },
  { what: 'the interim one before it', pieces: [longHint.slice(0, -2), `\r\n${ok}`] },
]
for (const { what, pieces } of inPieces)
  test(`createUpstreamConnection() reads a short head behind a longer one of which pieces came, that of ${what}`, async () => {
    await using peer = await openPeer(({ socket }, request) => {
      if (request > 1) return ok
      void (async () => {
        for (const piece of pieces) {
          socket.write(piece)
          await settle()
        }
      })()
      return undefined
    })
    using pool = openPool([peer.endpoint])

    for (let at = 0; at < 2; at += 1) {
      const asked = ask(pool)
      await until(asked.isOver, 'the answer', 5000)

      assert.equal(await asked.outcome, 'end')
      assert.equal(asked.body(), 'ok')
    }
    assert.equal(peer.accepted.length, 1)
  })

const promises = [
  { says: '', keptMs: 4000 },
  { says: 'Keep-Alive: timeout=60\r\n', keptMs: 4000 },
  { says: 'Keep-Alive: timeout=3, max=100\r\n', keptMs: 2000 },
  { says: 'Keep-Alive: max=5, timeout=2\r\n', keptMs: 1000 },
  { says: 'Keep-Alive: nonsense\r\n', keptMs: 4000 },
] as const
for (const { says, keptMs } of promises) {
  test(`createUpstreamConnection() is kept for ${keptMs} ms where the upstream says ${JSON.stringify(says)}`, async () => {
    await using peer = await openPeer(() => ok.replace('\r\n\r\n', `\r\n${says}\r\n`))
    using pool = openPool([peer.endpoint], { keepAliveMs: 4000 })
    await ask(pool).outcome

    pool.time.pass(keptMs - 1)
    await ask(pool).outcome
    const before = peer.accepted.length
    pool.time.pass(keptMs)
    await until(() => peer.accepted[0]?.isClosed === true, 'the end of the connection')
    await ask(pool).outcome

    assert.equal(before, 1)
    assert.equal(peer.accepted.length, 2)
  })
}

for (const { bytes, outcome } of [
  { bytes: 32_768, outcome: 'end' },
  { bytes: 32_769, outcome: 'reset' },
])
  test(`createUpstreamConnection() takes trailers as long as heads may be: ${bytes} bytes of one is ${outcome}`, async () => {
    const value = 'a'.repeat(bytes - 1)
    await using peer = await openPeer(
      () => `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: ${value}\r\n\r\n`,
    )
    using pool = openPool([peer.endpoint])

    const asked = ask(pool)

    assert.equal(await asked.outcome, outcome)
    assert.deepEqual(asked.trailers(), outcome === 'end' ? ['X', value] : [])
  })

test('createUpstreamConnection() is kept no longer where the last of an answer had to wait for the client', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint], { keepAliveMs: 4000, bodyMs: 60_000 })
  const asked = ask(pool, {}, { data: () => asked.exchange().pause() })
  assert.equal(await asked.outcome, 'end')

  pool.time.pass(4000)

  await until(() => peer.open() === 0, 'the end of the connection')
})

test('createUpstreamConnection() reads the next answer, where the last of one had to wait for the client', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint])
  const asked = ask(pool, {}, { data: () => asked.exchange().pause() })
  assert.equal(await asked.outcome, 'end')

  const next = ask(pool)
  await until(() => next.isOver(), 'the next answer')

  assert.equal(next.body(), 'ok')
  assert.equal(peer.accepted.length, 1)
})

test('createUpstreamConnection() whose upstream keeps it for no time is not used again, though somebody waits for it', async () => {
  await using peer = await openPeer(() => ok.replace('\r\n\r\n', '\r\nKeep-Alive: timeout=0\r\n\r\n'))
  using pool = openPool([peer.endpoint], { connections: 1 })

  assert.deepEqual(await Promise.all([ask(pool).outcome, ask(pool).outcome]), ['end', 'end'])

  assert.equal(peer.accepted.length, 2)
})

test('createUpstreamConnection() whose upstream keeps it for a second is not kept', async () => {
  await using peer = await openPeer(() => ok.replace('\r\n\r\n', '\r\nKeep-Alive: timeout=1\r\n\r\n'))
  using pool = openPool([peer.endpoint])

  for (let at = 0; at < 3; at += 1) await ask(pool).outcome

  assert.equal(peer.accepted.length, 3)
})

test('createUpstreamConnection() is closed when it was kept long enough, though nobody asks', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint], { keepAliveMs: 4000 })
  await Promise.all([ask(pool).outcome, ask(pool).outcome])
  assert.equal(peer.open(), 2)

  pool.time.pass(4000)

  await until(() => peer.open() === 0, 'the end of both')
  assert.equal(pool.time.watched(), 0)
})

test('createUpstreamConnection() is used no more once its time is over, though nobody has looked since, and takes nobody a place', async () => {
  await using peer = await openPeer()
  using pool = openPool([peer.endpoint], { connections: 1, keepAliveMs: 4000 })
  await ask(pool).outcome

  pool.time.slip(4000)
  const asked = ask(pool, post)
  await until(() => asked.isOver(), 'the answer')

  assert.equal(await asked.outcome, 'end')
  assert.equal(peer.accepted.length, 2)
  await until(() => peer.accepted[0]?.isClosed === true, 'the end of the first connection')
})

test('createUpstreamConnection() is sent a request again that may be repeated, when it closes before a byte of an answer', async () => {
  await using peer = await openPeer(({ socket }, request) => {
    if (request !== 2) return ok
    socket.destroy()
    return undefined
  })
  using pool = openPool([peer.endpoint])
  await ask(pool).outcome

  const asked = ask(pool)

  assert.equal(await asked.outcome, 'end')
  assert.equal(asked.opened(), 2)
  assert.equal(peer.requests(), 3)
})

test('createUpstreamConnection() repeats once, and on a new connection, though others are kept', async () => {
  const dead = new Set<number>()
  await using peer = await openPeer(({ socket }, request) => {
    if (request <= 3) return ok
    dead.add(socket.remotePort ?? 0)
    socket.destroy()
    return undefined
  })
  using pool = openPool([peer.endpoint])
  await Promise.all([ask(pool).outcome, ask(pool).outcome, ask(pool).outcome])
  assert.equal(peer.accepted.length, 3)

  const asked = ask(pool)

  assert.equal(await asked.outcome, 'reset')
  assert.equal(peer.requests(), 5)
  assert.equal(dead.size, 2)
  assert.equal(peer.accepted.length, 4)
})

for (const { what, change, outcome } of [
  { what: 'a POST without a body again', change: post, outcome: 'end' },
  { what: 'a POST with an empty body again', change: { ...post, framing: 0 }, outcome: 'end' },
  { what: 'no POST with a body again', change: { ...post, framing: 4 }, outcome: 'reset' },
] as const)
  test(`createUpstreamConnection() is sent ${what} of which not a byte was written when it turns out to be of no use`, async () => {
    await using peer = await openPeer()
    using pool = openPool([peer.endpoint])
    await ask(pool).outcome
    await sleep(5)

    // Both in one turn: what has come is read before anything is written.
    peer.accepted[0]?.socket.write('HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n')
    const asked = ask(pool, change)

    assert.equal(await asked.outcome, outcome)
    assert.equal(peer.accepted[0]?.requests, 1)
    assert.equal(peer.requests(), outcome === 'end' ? 2 : 1)
  })

const unrepeated = [
  { what: 'that is not idempotent', change: post, warm: true, bytes: '' },
  { what: 'with a body', change: { method: 'PUT', framing: 4, repeatable: false } as const, warm: true, bytes: '' },
  { what: 'after a byte of its answer', change: {}, warm: true, bytes: 'H' },
  { what: 'after an interim answer', change: {}, warm: true, bytes: 'HTTP/1.1 103 Early Hints\r\n\r\n' },
  { what: 'on a fresh connection', change: {}, warm: false, bytes: '' },
] as const
for (const { what, change, warm, bytes } of unrepeated) {
  test(`createUpstreamConnection() is sent no request again ${what}`, async () => {
    await using peer = await openPeer(({ socket }, request) => {
      if (warm && request === 1) return ok
      socket.end(bytes)
      return undefined
    })
    using pool = openPool([peer.endpoint])
    if (warm) await ask(pool).outcome
    const before = peer.requests()

    const asked = ask(pool, change, {
      opened({ write, end }) {
        if (!('framing' in change)) return
        write(Buffer.alloc(4))
        end([])
      },
    })

    assert.equal(await asked.outcome, 'reset')
    assert.equal(asked.opened(), 1)
    assert.equal(peer.requests(), before + 1)
  })
}

test('createUpstreamConnection() tells of a request that timed out, and sends it not again', async () => {
  await using peer = await openPeer((_, request) => (request === 1 ? ok : undefined))
  using pool = openPool([peer.endpoint], { headMs: 30_000, keepAliveMs: 60_000 })
  await ask(pool).outcome
  const asked = ask(pool)
  await until(() => peer.requests() === 2, 'the request')

  pool.time.pass(29_999)
  assert.equal(asked.isOver(), false)
  pool.time.pass(1)

  assert.equal(await asked.outcome, 'timeout')
  assert.equal(peer.requests(), 2)
  await until(() => peer.open() === 0, 'the end of the connection')
})

test('createUpstreamConnection() lets interim answers and single bytes put off nothing', async () => {
  await using peer = await openPeer(() => 'HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 2')
  using pool = openPool([peer.endpoint], { headMs: 30_000 })
  const asked = ask(pool)
  await until(() => peer.requests() === 1, 'the request')
  pool.time.pass(29_000)
  peer.accepted[0]?.socket.write('00 ')
  await settle()

  pool.time.pass(1000)

  assert.equal(await asked.outcome, 'timeout')
})

test('createUpstreamConnection() counts the time for a head from the last byte of the request', async () => {
  await using peer = await openPeer(() => undefined)
  using pool = openPool([peer.endpoint], { headMs: 30_000 })
  const asked = ask(pool, { ...post, framing: 'chunked' }, { opened: ({ flush }) => flush() })
  await until(() => peer.requests() === 1, 'the request')
  // A client that is slow has times of its own.
  pool.time.pass(40_000)
  pool.time.pass(40_000)
  asked.exchange().write(Buffer.from('abc'))
  pool.time.pass(29_000)
  asked.exchange().end([])
  pool.time.pass(29_999)
  assert.equal(asked.isOver(), false)

  pool.time.pass(1)

  assert.equal(await asked.outcome, 'timeout')
})

test('createUpstreamConnection() times out an upstream that stops reading a request', async () => {
  await using peer = await openPeer(({ socket }) => {
    socket.pause()
    return undefined
  })
  using pool = openPool([peer.endpoint], { headMs: 30_000 })
  let drained = false
  const asked = ask(
    pool,
    { ...post, framing: 1e9 },
    {
      opened: ({ flush }) => flush(),
      drained() {
        drained = true
      },
    },
  )
  await until(() => peer.requests() === 1, 'the request')
  // Until the buffers between us are full, too.
  for (let isFull = false; !isFull; ) {
    asked.exchange().write(Buffer.alloc(4_194_304))
    drained = false
    await settle()
    isFull = !drained
  }

  pool.time.pass(30_000)

  assert.equal(await asked.outcome, 'timeout')
})

test('createUpstreamConnection() counts the time for a body from the last part of it', async () => {
  await using peer = await openPeer(() => 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na')
  using pool = openPool([peer.endpoint], { bodyMs: 60_000 })
  const asked = ask(pool)
  await until(() => asked.body() === 'a', 'the first part')
  pool.time.pass(59_999)
  peer.accepted[0]?.socket.write('b')
  await until(() => asked.body() === 'ab', 'the second part')

  pool.time.pass(59_999)
  assert.equal(asked.isOver(), false)
  pool.time.pass(1)

  assert.equal(await asked.outcome, 'timeout')
  assert.equal(asked.head()?.status, 200)
})

test('createUpstreamConnection() counts the time for the first part of a body from the head', async () => {
  await using peer = await openPeer(() => 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n')
  using pool = openPool([peer.endpoint], { headMs: 1000, bodyMs: 60_000 })
  const asked = ask(pool)
  await until(() => asked.head() !== undefined, 'the head')

  pool.time.pass(59_999)
  assert.equal(asked.isOver(), false)
  pool.time.pass(1)

  assert.equal(await asked.outcome, 'timeout')
})

test('createUpstreamConnection() counts no time against an upstream that has begun to answer while the request still comes', async () => {
  await using peer = await openPeer(() => 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n')
  using pool = openPool([peer.endpoint], { headMs: 1000, bodyMs: 60_000 })
  const asked = ask(pool, { ...post, framing: 'chunked' }, { opened: ({ flush }) => flush() })
  await until(() => asked.head() !== undefined, 'the head')
  // A client that is slow has times of its own.
  pool.time.pass(70_000)
  assert.equal(asked.isOver(), false)
  asked.exchange().write(Buffer.from('abc'))
  pool.time.pass(59_000)
  asked.exchange().end([])
  pool.time.pass(59_999)
  assert.equal(asked.isOver(), false)

  pool.time.pass(1)

  assert.equal(await asked.outcome, 'timeout')
})

test('createUpstreamConnection() counts no time against an upstream while it is not read', async () => {
  await using peer = await openPeer(() => 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na')
  using pool = openPool([peer.endpoint], { bodyMs: 60_000 })
  const asked = ask(pool)
  await until(() => asked.body() === 'a', 'the first part')
  asked.exchange().pause()
  for (let at = 0; at < 5; at += 1) pool.time.pass(59_000)
  assert.equal(asked.isOver(), false)

  asked.exchange().resume()
  pool.time.pass(59_999)
  assert.equal(asked.isOver(), false)
  pool.time.pass(1)

  assert.equal(await asked.outcome, 'timeout')
})

test('createUpstreamConnection() gives up a place that cannot be reached in time, and asks there once more', async () => {
  // Documentation addresses (RFC 5737) would need a network: a socket that never connects is the same to a connection.
  let opened = 0
  const silent = {
    name: 'silent',
    open() {
      opened += 1
      return { socket: new Socket(), ready: 'connect' as const }
    },
  }
  using pool = openPool([silent], { connectMs: 2000 })
  const asked = ask(pool)

  pool.time.pass(1999)
  assert.equal(opened, 1)
  pool.time.pass(1)
  assert.equal(opened, 2)
  pool.time.pass(2000)

  assert.equal(await asked.outcome, 'connect')
  assert.equal(opened, 2)
  assert.equal(pool.time.watched(), 0)
})

test('createUpstreamConnection() reaches a Unix socket', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-'))
  const path = join(directory, 'app.sock')
  const server = createServer((socket) => socket.on('data', () => socket.write(ok)))
  await new Promise<void>((resolve) => void server.listen(path, resolve))
  const pool = openPool([{ name: path, open: createSocketOpener({ path }, undefined, 'http1') }])

  assert.equal(await ask(pool).outcome, 'end')
  assert.equal(await ask(pool).outcome, 'end')

  pool.close()
  server.close()
  rmSync(directory, { recursive: true })
})
