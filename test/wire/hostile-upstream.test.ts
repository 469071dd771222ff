import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRandom, seedOfRun } from '../support/random.ts'
import type { Message } from '../support/strict-reader.ts'
import { until } from '../support/until.ts'
import { ask, assertBecame, assertClean, get } from './asking.ts'
import { judgeAnswer } from './judge-answer.ts'
import { openConnection, reasonOf } from './line.ts'
import { answerOk, openScripted, openWorldBefore, poison } from './scripted-upstream.ts'

for (const [name, piece] of [
  ['1xx', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'],
  ['lines of a head', 'X-A: b\r\n'],
  ['one line', 'aaaaaaaa'],
  ['chunk extension', ';a=bbbbb'],
  ['trailers', 'X-A: b\r\n'],
] as const)
  test(`a flood of ${name} without end is cut off, and what was taken in is bounded`, async () => {
    const starts: Readonly<Record<string, string>> = {
      '1xx': '',
      'chunk extension': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5',
      trailers: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n',
    }
    const block = Buffer.from(piece.repeat(2000), 'latin1')
    let written = 0
    let isClosed = false
    await using upstream = await openScripted((socket) => {
      socket.on('close', () => {
        isClosed = true
      })
      socket.write(starts[name] ?? 'HTTP/1.1 200 OK\r\nX: ', 'latin1')
      const more = () => {
        // A gateway that takes everything must not keep the test busy for ever.
        while (!socket.destroyed && written < 268_435_456) {
          written += block.length
          if (!socket.write(block)) return void socket.once('drain', more)
        }
      }
      more()
    })
    await using world = await openWorldBefore(upstream)

    const next = await ask(world, '/open/hostile', 'POST')

    assertBecame(next, { kind: 'cut', why: name }, name)
    await until(() => isClosed, 'the upstream to be let go')
    // What two sockets' buffers take.
    assert.ok(written < 33_554_432, `${written} bytes were taken in`)
    await assertClean(world, name)
  })

test('an upstream that says nothing is 504 after head_timeout, one that stops in a body is cut off after body_timeout', async () => {
  const starts = [
    '',
    'HTTP/1.1 200',
    'HTTP/1.1 103 Early Hints\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf',
  ]
  await using upstream = await openScripted((socket, { target }) => {
    socket.write(starts[Number(target.slice(-1))] ?? '', 'latin1')
  })
  await using world = await openWorldBefore(upstream, { head_timeout: '300ms', body_timeout: '300ms' })

  const became = await Promise.all(
    starts.map((_, at) => ask(world, `/open/hostile${at}`, at % 2 === 0 ? 'GET' : 'POST')),
  )

  for (const next of became.slice(0, 3)) {
    assert.ok(next.kind === 'answer', JSON.stringify(next))
    assert.deepEqual([next.answer.status, reasonOf(next.answer)], [504, 'upstream_timeout'])
  }
  assert.ok(became[3]?.kind === 'closed' && became[3].rest.endsWith('half'), JSON.stringify(became[3]))
  await until(() => upstream.connections().now === 0, 'the connections to be closed')
  await assertClean(world, 'after timeouts')
})

test('an upstream that sends byte by byte, slowly but never too slowly, is relayed as it is', async () => {
  const bytes =
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n012\r\n7\r\n3456789\r\n0\r\nX-End: c\r\n\r\n'
  await using upstream = await openScripted((socket) => {
    let at = 0
    const timer = setInterval(() => {
      socket.write(bytes.charAt(at), 'latin1')
      at += 1
      if (at === bytes.length) clearInterval(timer)
    }, 5)
  })
  await using world = await openWorldBefore(upstream)

  const next = await ask(world, '/open/hostile')

  assertBecame(next, judgeAnswer(bytes, 'GET', false), 'byte by byte')
})

test('a POST, and a GET of which a byte was answered, are not sent again when their kept connection closes', async () => {
  let dying = ''
  await using upstream = await openScripted((socket, { target }, nth) => {
    if (nth === 1) socket.write(answerOk, 'latin1')
    else if (target.includes('dies')) socket.end(dying, 'latin1')
    else socket.write(answerOk, 'latin1')
  })
  await using world = await openWorldBefore(upstream)

  for (const [method, bytes] of [
    ['POST', ''],
    ['PATCH', ''],
    ['GET', 'H'],
    ['GET', 'HTTP/1.1 200 OK\r\n'],
    ['PUT', 'HTTP/1.1 100 Continue\r\n\r\n'],
  ] as const) {
    dying = bytes
    await ask(world, '/open/warm')
    const before = upstream.asked.length
    const next = await ask(world, '/open/dies', method)
    assert.ok(next.kind === 'answer' && next.answer.status === 502, `${method} ${JSON.stringify(next)}`)
    assert.equal(upstream.asked.length, before + 1, `${method} was sent again`)
  }
})

test('a client that leaves ends its request at the upstream within a second', async () => {
  let closed = 0
  await using upstream = await openScripted((socket) => {
    socket.on('close', () => {
      closed += 1
    })
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf', 'latin1')
  })
  await using world = await openWorldBefore(upstream)
  const clients = await Promise.all(Array.from({ length: 50 }, () => openConnection(world.app.ports.proxy)))
  for (const client of clients) await client.write(get('/open/hostile'))
  await until(() => upstream.asked.length === 50, 'all to be asked')

  for (const [at, { socket }] of clients.entries()) at % 2 === 0 ? socket.destroy() : socket.resetAndDestroy()

  const leftMs = performance.now()
  await until(() => closed === 50, 'the upstream to be let go')
  assert.ok(performance.now() - leftMs < 1000)
  await until(() => world.count('postern_requests_in_flight{listener="proxy"}') === 0, 'nothing to be in flight')
})

/** What a fickle upstream may do to one request; the good answer names the request. */
const tricks: readonly ((answer: string, other: string) => { bytes: string; next: 'stay' | 'end' | 'reset' })[] = [
  (answer) => ({ bytes: answer, next: 'stay' }),
  (answer) => ({ bytes: answer, next: 'stay' }),
  (answer) => ({ bytes: answer, next: 'end' }),
  (answer, other) => ({ bytes: answer + other, next: 'stay' }),
  (answer, other) => ({ bytes: answer + other, next: 'end' }),
  (answer) => ({ bytes: answer.slice(0, answer.length / 2), next: 'end' }),
  (answer) => ({ bytes: answer.slice(0, -1), next: 'reset' }),
  () => ({ bytes: '', next: 'end' }),
  () => ({ bytes: 'garbage\r\n\r\n', next: 'stay' }),
  (answer) => ({ bytes: `HTTP/1.1 103 Early Hints\r\n\r\n${answer}`, next: 'stay' }),
]

test('4,000 requests at once to an upstream that plays every trick: each client gets its own answer, or none', async (t) => {
  const seed = seedOfRun()
  t.diagnostic(`seed ${seed}`)
  const random = createRandom(seed)
  await using upstream = await openScripted((socket, request) => {
    const { bytes, next } = random.pick(tricks)(answerFor(request), poison)
    const send = () => {
      if (next === 'end') socket.end(bytes, 'latin1')
      else socket.write(bytes, 'latin1', () => void (next === 'reset' && socket.resetAndDestroy()))
    }
    if (random.oneIn(3)) setTimeout(send, random.below(4))
    else send()
  })
  await using world = await openWorldBefore(upstream)
  const became: Record<string, number> = {}

  await Promise.all(Array.from({ length: 40 }, (_, lane) => run(lane)))

  t.diagnostic(JSON.stringify(became))
  assert.ok((became['own'] ?? 0) > 1000, JSON.stringify(became))
  await assertClean(world, 'at last')

  async function run(lane: number): Promise<void> {
    let connection = await openConnection(world.app.ports.proxy)
    for (let at = 0; at < 100; at += 1) {
      const target = `/open/trick?${lane}-${at}`
      await connection.write(get(target, at % 3 === 0 ? 'POST' : 'GET'))
      const next = await connection.next()
      const kind = next.kind !== 'answer' ? next.kind : next.answer.status === 200 ? 'own' : String(next.answer.status)
      became[kind] = (became[kind] ?? 0) + 1
      if (next.kind === 'answer' && next.answer.status === 200) assert.equal(next.answer.body, target)
      else if (next.kind === 'answer') assert.equal(next.answer.status, 502, next.answer.body)
      else assert.equal(next.kind, 'closed', JSON.stringify(next))
      assert.ok(!JSON.stringify(next).includes('poison'))
      if (connection.isOpen()) continue
      connection[Symbol.dispose]()
      connection = await openConnection(world.app.ports.proxy)
    }
    connection[Symbol.dispose]()
  }
})

function answerFor({ target }: Message): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n${target}`
}
