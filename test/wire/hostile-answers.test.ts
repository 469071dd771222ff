import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { testVectors } from '../acceptance/vectors.ts'
import { until } from '../support/until.ts'
import { ask, assertBecame, assertClean } from './asking.ts'
import { judgeAnswer } from './judge-answer.ts'
import { answerOk, openScripted, openWorldBefore, poison } from './scripted-upstream.ts'

type Case = { readonly title: string; readonly meta: { readonly type: string }; readonly payload_b64: string }

// RFC 9112 §4 has a space there, and few who read answers insist.
const openTitles = ['No reason phrase']

for (const then of ['stays', 'closes'] as const)
  testVectors<{ cases: readonly Case[] }>(
    `every response of llhttp, from an upstream that ${then} behind it, is relayed or 502, and the next client is served`,
    'llhttp/cases.json',
    async ({ cases }, t) => {
      const found = cases.filter(({ meta }) => meta.type.startsWith('response'))
      let bytes = ''
      await using upstream = await openScripted((socket) => {
        if (then === 'stays') socket.write(bytes, 'latin1')
        else socket.end(bytes, 'latin1')
      })
      await using world = await openWorldBefore(upstream)
      const became: Record<string, number> = {}

      for (const { title, payload_b64 } of found)
        for (const method of ['GET', 'HEAD', 'POST']) {
          bytes = Buffer.from(payload_b64, 'base64').toString('latin1')
          const expected = judgeAnswer(bytes, method, then === 'closes')
          became[expected.kind] = (became[expected.kind] ?? 0) + 1
          // What waits for more would wait for the timeout, which has tests of its own.
          if (expected.kind === 'wait' || openTitles.includes(title)) continue
          const message = `${title}, ${method}: ${JSON.stringify(bytes)}`
          assertBecame(await ask(world, `/open/hostile?${method}`, method), expected, message)
          await assertClean(world, message)
        }

      t.diagnostic(JSON.stringify(became))
      assert.equal(found.length, 85)
      assert.ok((became['relay'] ?? 0) > 60 && (became['refuse'] ?? 0) > 60, JSON.stringify(became))
    },
  )

const good = {
  'of a length': 'HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 10\r\n\r\n0123456789',
  'in chunks':
    'HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n012\r\n7\r\n3456789\r\n0\r\nX-End: c\r\n\r\n',
  'until its end': 'HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n0123456789',
  'behind a 103': 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
}
for (const [name, bytes] of Object.entries(good))
  test(`an answer ${name}, cut off at any byte, is 502 or visibly no whole one`, async () => {
    let sent = 0
    let how: 'end' | 'reset' = 'end'
    await using upstream = await openScripted((socket) => {
      if (how === 'end') socket.end(bytes.slice(0, sent), 'latin1')
      else socket.write(bytes.slice(0, sent), 'latin1', () => setTimeout(() => socket.resetAndDestroy(), 2))
    })
    await using world = await openWorldBefore(upstream)

    for (const method of ['GET', 'POST'])
      for (sent = 0; sent <= bytes.length; sent += 1) {
        how = 'end'
        const message = `${method}, ${sent} of ${bytes.length} bytes`
        const expected = judgeAnswer(bytes.slice(0, sent), method, true)
        assertBecame(await ask(world, '/open/hostile', method), expected, message)
        if (sent % 3 !== 0) continue
        how = 'reset'
        const next = await ask(world, '/open/hostile', method)
        // A reset may overtake what came before it: there is no whole answer unless the upstream sent one.
        const isWhole = judgeAnswer(bytes.slice(0, sent), method, false).kind === 'relay'
        if (next.kind === 'answer' && next.answer.status === 200) assert.ok(isWhole, `${message}, then a reset`)
        else assert.ok(next.kind === 'closed' || (next.kind === 'answer' && next.answer.status === 502), message)
        await assertClean(world, message)
      }
  })

const seconds: readonly { name: string; bytes: string }[] = [
  { name: 'a second answer', bytes: poison },
  { name: 'half a second answer', bytes: poison.slice(0, 30) },
  { name: 'a 103 and an answer', bytes: `HTTP/1.1 103 Early Hints\r\n\r\n${poison}` },
  { name: 'one line end', bytes: '\r\n' },
  { name: 'one byte', bytes: 'x' },
  { name: 'a thousand answers', bytes: poison.repeat(1000) },
  { name: 'a 408', bytes: 'HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' },
]
for (const { name, bytes } of seconds)
  test(`${name} behind an answer, at once or later, is nobody's`, async () => {
    let lateMs: number | undefined
    await using upstream = await openScripted((socket) => {
      if (lateMs === undefined) socket.write(answerOk + bytes, 'latin1')
      else {
        socket.write(answerOk, 'latin1')
        setTimeout(() => socket.write(bytes, 'latin1'), lateMs)
      }
    })
    await using world = await openWorldBefore(upstream)

    for (lateMs of [undefined, 0, 1, 5, 20])
      for (const method of ['GET', 'POST', 'HEAD']) {
        const message = `${method}, ${lateMs} ms later`
        const next = await ask(world, '/open/hostile', method)
        assert.ok(next.kind === 'answer', message)
        assert.deepEqual([next.answer.status, next.answer.body], [200, method === 'HEAD' ? '' : 'ok'], message)
        // Bytes that cross a request on the way cannot be told from its answer by anybody: these are there before it.
        await wait((lateMs ?? 0) + 10)
        for (let asked = 0; asked < 3; asked += 1) await assertClean(world, message)
      }
  })

test('an upstream that speaks before it is asked, or to a bodiless answer adds a body, poisons nobody', async () => {
  let bytes = ''
  await using upstream = await openScripted((socket) => void socket.write(bytes, 'latin1'))
  await using world = await openWorldBefore(upstream)
  const bodiless: readonly (readonly [method: string, bytes: string, status: number])[] = [
    ['HEAD', `HTTP/1.1 200 OK\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`, 200],
    ['GET', `HTTP/1.1 204 No Content\r\n\r\n${poison}`, 204],
    ['GET', `HTTP/1.1 204 No Content\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`, 204],
    ['GET', `HTTP/1.1 304 Not Modified\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`, 304],
    ['GET', `HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n`, 304],
    ['DELETE', `HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 204],
  ]

  for (const [method, sent, status] of bodiless) {
    bytes = sent
    const next = await ask(world, '/open/hostile', method)
    assert.ok(next.kind === 'answer', sent)
    assert.deepEqual([next.answer.status, next.answer.body], [status, ''], sent)
    await assertClean(world, sent)
  }
  bytes = answerOk
  for (let at = 0; at < 20; at += 1) {
    upstream.onConnection = (socket) => void socket.write(poison, 'latin1')
    bytes = `HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok`
    await ask(world, '/open/hostile', 'POST')
    upstream.onConnection = () => {}
    // One more may have been opened meanwhile; whoever asks next is not told of it.
    await wait(2)
    await assertClean(world, 'spoken before it was asked')
  }
})

const refused: readonly { name: string; head: string }[] = [
  { name: 'a length twice', head: 'Content-Length: 2\r\nContent-Length: 2' },
  { name: 'two lengths', head: 'Content-Length: 2\r\nContent-Length: 3' },
  { name: 'a list of lengths', head: 'Content-Length: 2, 2' },
  { name: 'a length with a plus', head: 'Content-Length: +2' },
  { name: 'a negative length', head: 'Content-Length: -2' },
  { name: 'a length in hex', head: 'Content-Length: 0x2' },
  { name: 'a length with a space in it', head: 'Content-Length: 2 2' },
  { name: 'a length with a leading zero', head: 'Content-Length: 02' },
  { name: 'an empty length', head: 'Content-Length:' },
  { name: 'a fraction', head: 'Content-Length: 2.0' },
  { name: 'a length beyond 2^64', head: 'Content-Length: 18446744073709551618' },
  { name: 'a length and chunks', head: 'Content-Length: 2\r\nTransfer-Encoding: chunked' },
  { name: 'gzip and chunks', head: 'Transfer-Encoding: gzip, chunked' },
  { name: 'chunks twice', head: 'Transfer-Encoding: chunked, chunked' },
  { name: 'chunks on two lines', head: 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked' },
  { name: 'identity', head: 'Transfer-Encoding: identity' },
  { name: 'an unknown coding', head: 'Transfer-Encoding: x' },
  { name: 'no coding', head: 'Transfer-Encoding:' },
  { name: 'a space before a colon', head: 'Content-Length : 2' },
  { name: 'a fold', head: 'X-A: b\r\n c\r\nContent-Length: 2' },
  { name: 'a bare line feed', head: 'X-A: b\nX-B: c\r\nContent-Length: 2' },
  { name: 'a bare carriage return', head: 'X-A: b\rX-B: c\r\nContent-Length: 2' },
  { name: 'a zero byte', head: 'X-A: b\0c\r\nContent-Length: 2' },
  { name: 'a DEL', head: 'X-A: b\x7f\r\nContent-Length: 2' },
  { name: 'no name', head: ': b\r\nContent-Length: 2' },
  { name: 'no colon', head: 'X-A\r\nContent-Length: 2' },
  { name: 'a name beyond ASCII', head: 'X-\xe9: b\r\nContent-Length: 2' },
]
test('an answer with a wrong length, coding or line is 502 upstream_reset, and its connection is not used again', async () => {
  let head = ''
  await using upstream = await openScripted(
    (socket) => void socket.write(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n2\r\nok\r\n0\r\n\r\n${poison}`, 'latin1'),
  )
  await using world = await openWorldBefore(upstream)

  for (const { name, head: sent } of refused)
    for (const method of ['GET', 'POST']) {
      head = sent
      assertBecame(await ask(world, '/open/hostile', method), { kind: 'refuse', why: name }, `${name}, ${method}`)
      await assertClean(world, name)
      await until(() => upstream.connections().now <= 1, 'the connection to be closed')
    }
})

test('an answer longer than its length ends with it, one that is shorter has no end', async () => {
  let bytes = ''
  await using upstream = await openScripted((socket) => void socket.end(bytes, 'latin1'))
  await using world = await openWorldBefore(upstream)

  bytes = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0123456789'
  const longer = await ask(world, '/open/hostile')
  bytes = 'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n0123456789'
  const shorter = await ask(world, '/open/hostile')

  assert.ok(longer.kind === 'answer' && longer.answer.body === '01234', JSON.stringify(longer))
  assertBecame(shorter, { kind: 'cut', why: 'half a body' }, 'shorter')
})

for (const [bytes, status] of [
  ['HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'.repeat(16) + answerOk, 200],
  ['HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'.repeat(17) + answerOk, 502],
  [`HTTP/1.1 100 Continue\r\n\r\n${answerOk}`, 200],
  ['HTTP/1.1 100 Continue\r\n\r\n'.repeat(5000) + answerOk, 502],
  [`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n${answerOk}`, 502],
  [`HTTP/1.1 101 Switching Protocols\r\n\r\n`, 502],
  [`HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nok${answerOk}`, 502],
  [`HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(30_000)}\r\nContent-Length: 2\r\n\r\nok`, 200],
  [`HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(70_000)}\r\nContent-Length: 2\r\n\r\nok`, 502],
  [`HTTP/1.1 200 OK\r\n${`X-A: ${'a'.repeat(2000)}\r\n`.repeat(30)}Content-Length: 2\r\n\r\nok`, 200],
  [`HTTP/1.1 200 OK\r\n${`X-A: ${'a'.repeat(2000)}\r\n`.repeat(35)}Content-Length: 2\r\n\r\nok`, 502],
  ['HTTP/1.1 599 x\r\nContent-Length: 2\r\n\r\nok', 599],
  ['HTTP/1.1 600 x\r\nContent-Length: 2\r\n\r\nok', 502],
  [`HTTP/1.1 200 ${'a'.repeat(70_000)}\r\nContent-Length: 2\r\n\r\nok`, 502],
] as const)
  test(`an answer of ${bytes.length} bytes that begins ${JSON.stringify(bytes.slice(0, 50))} is ${status}`, async () => {
    await using upstream = await openScripted((socket) => void socket.write(bytes, 'latin1'))
    await using world = await openWorldBefore(upstream)

    for (const method of ['GET', 'POST']) {
      const next = await ask(world, '/open/hostile', method)
      assert.ok(next.kind === 'answer', JSON.stringify(next))
      assert.equal(next.answer.status, status, next.answer.body)
      await assertClean(world, method)
    }
  })
