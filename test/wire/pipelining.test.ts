import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { createRandom, seedOfRun } from '../support/random.ts'
import { until } from '../support/until.ts'
import { openConnection, reasonOf } from './line.ts'
import { openScripted, openWorldBefore } from './scripted-upstream.ts'

test('a hundred requests in one piece, with good, bad and no tokens, are answered in order, each by its own verdict', async (t) => {
  const seed = seedOfRun()
  t.diagnostic(`seed ${seed}`)
  const random = createRandom(seed)
  await using upstream = await openScripted((socket, { method, target, body }) => {
    const text = `${target} ${body}`
    const answer = `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${method === 'HEAD' ? '' : text}`
    // So that an answer in the wrong place would be there in time.
    setTimeout(() => socket.write(answer, 'latin1'), random.below(3))
  })
  await using world = await openWorldBefore(upstream)
  const good = world.mint()
  const kinds = [
    { path: '/orders/', lines: `Authorization: Bearer ${good}\r\n`, wanted: 'ok' },
    { path: '/orders/', lines: `Authorization: Bearer ${good.slice(0, -8)}AAAAAAAA\r\n`, wanted: 'signature_invalid' },
    { path: '/orders/', lines: '', wanted: 'token_missing' },
    { path: '/open/', lines: '', wanted: 'ok' },
    { path: '/nowhere/', lines: '', wanted: 'no_rule' },
    { path: '/open//', lines: '', wanted: 'path_rejected' },
  ] as const
  let refused = 0

  for (let round = 0; round < 10; round += 1) {
    const sent = Array.from({ length: 100 }, (_, at) => {
      const { path, lines, wanted } = random.pick(kinds)
      const method = random.pick(['GET', 'POST', 'HEAD'] as const)
      const body = method === 'POST' ? 'x'.repeat(random.below(300)) : ''
      const target = `${path}${round}-${at}`
      const length = method === 'POST' ? `Content-Length: ${body.length}\r\n` : ''
      const text = `${method} ${target} HTTP/1.1\r\nHost: a.test\r\n${lines}${length}\r\n${body}`
      return { method, body, target, wanted, text }
    })
    using connection = await openConnection(world.app.ports.proxy)
    await connection.write(sent.map(({ text }) => text).join(''))

    for (const { method, body, target, wanted } of sent) {
      const next = await connection.next(method)
      assert.ok(next.kind === 'answer', `${method} ${target}: ${JSON.stringify(next)}`)
      const { answer } = next
      assert.equal(answer.status === 200, wanted === 'ok', `${method} ${target}`)
      if (method === 'HEAD') assert.equal(answer.body, '')
      else if (wanted === 'ok') assert.equal(answer.body, `${target} ${body}`)
      else assert.equal(reasonOf(answer), wanted, target)
      refused += wanted === 'ok' ? 0 : 1
    }
  }

  assert.equal(upstream.asked.length, 1000 - refused)
})

test('an upstream that answers a long upload early, and reads no more of it, ends the upload', async () => {
  const upload = 1_073_741_824
  await using upstream = await openScripted(() => {})
  let stopped: Socket | undefined
  upstream.onHead = (socket) => {
    stopped = socket.pause()
    socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno', 'latin1')
  }
  await using world = await openWorldBefore(upstream)
  using connection = await openConnection(world.app.ports.proxy)
  const { socket } = connection
  const part = Buffer.alloc(65_536, 'x')
  const more = () => {
    while (!socket.destroyed && socket.bytesWritten < upload)
      if (!socket.write(part)) return void socket.once('drain', more)
  }
  socket.write(`POST /open/upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${upload}\r\n\r\n`)
  more()

  const next = await connection.next('POST')

  assert.ok(next.kind === 'answer' && next.answer.status === 413, JSON.stringify(next))
  assert.equal((await connection.next()).kind, 'closed')
  // What the buffers between us take.
  assert.ok(socket.bytesWritten < 33_554_432, `${socket.bytesWritten} bytes were taken`)
  // Only who reads learns of an end.
  stopped?.removeAllListeners('data').resume()
  await until(() => upstream.connections().now === 0, 'the upstream to be let go')
  assert.equal(upstream.asked.length, 0)
})

for (const { reads, bytes } of [
  { reads: 'nothing', bytes: 0 },
  { reads: 'a little', bytes: 100_000 },
  { reads: 'some megabytes', bytes: 3_000_000 },
])
  test(`an upstream that reads ${reads} of a long upload, refuses it, and closes, is heard out`, async () => {
    await using upstream = await openScripted(() => {})
    upstream.onConnection = (socket) => {
      const refuse = () => {
        if (socket.bytesRead <= bytes) return
        socket.off('data', refuse).pause()
        socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno', 'latin1')
        // With so much unread, the system resets the connection.
        socket.destroySoon()
      }
      socket.on('data', refuse)
    }
    await using world = await openWorldBefore(upstream)
    for (let nth = 0; nth < 20; nth += 1) {
      using connection = await openConnection(world.app.ports.proxy)
      const { socket } = connection
      let left = 20_000_000
      const part = Buffer.alloc(65_536, 'x')
      const more = () => {
        for (; left > 0 && !socket.destroyed; left -= part.length)
          if (!socket.write(part.subarray(0, left))) return void socket.once('drain', more)
      }
      socket.write(`POST /open/upload HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${left}\r\n\r\n`)
      more()

      const next = await connection.next('POST')

      assert.ok(next.kind === 'answer' && next.answer.status === 413, JSON.stringify(next).slice(0, 300))
    }
  })
