import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import type { HttpCallFailure } from '../../src/io/http-client.ts'
import { createHttpClient, HttpCallFailed } from '../../src/io/http-client.ts'
import { failsWith, ok, peer } from './byte-peer.ts'

const limits = { maxBodyBytes: 1000, deadlineMs: 2000 }

type Attack = { because: string; kind: HttpCallFailure; answer: (socket: Socket) => void; deadlineMs?: number }
const gzipped = gzipSync(Buffer.alloc(100_000))
const attacks: Attack[] = [
  { because: 'nothing comes before the head', kind: 'timeout', answer: () => {}, deadlineMs: 50 },
  {
    because: 'the head never ends',
    kind: 'timeout',
    answer: (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-'),
    deadlineMs: 50,
  },
  {
    because: 'the body never ends',
    kind: 'timeout',
    answer: (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf'),
    deadlineMs: 50,
  },
  {
    because: 'the body drips, so that no idle timeout sees it',
    kind: 'timeout',
    answer: (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
      const drip = setInterval(() => socket.write('x'), 10)
      socket.on('close', () => clearInterval(drip))
    },
    deadlineMs: 150,
  },
  {
    because: 'informational answers never end',
    kind: 'timeout',
    answer: (socket) => {
      const drip = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 5)
      socket.on('close', () => clearInterval(drip))
    },
    deadlineMs: 60,
  },
  {
    because: 'it says its body is too long',
    kind: 'too_large',
    answer: (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n'),
  },
  {
    because: 'its chunked body is too long',
    kind: 'too_large',
    answer: (socket) =>
      socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n${'x'.repeat(1001)}\r\n`),
  },
  {
    because: 'its body of no stated length is too long',
    kind: 'too_large',
    answer: (socket) => socket.write(`HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(1001)}`),
  },
  {
    because: 'its head is too long',
    kind: 'too_large',
    answer: (socket) => socket.write(`HTTP/1.1 200 OK\r\nX-A: ${'x'.repeat(17_000)}\r\n\r\n`),
  },
  {
    because: 'a gzip bomb is in it',
    kind: 'encoded',
    answer: (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${gzipped.length}\r\n\r\n`)
      socket.write(gzipped)
    },
  },
  {
    because: 'its encoding hides behind identity',
    kind: 'encoded',
    answer: (socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx',
      ),
  },
  {
    because: 'its transfer is encoded',
    kind: 'encoded',
    answer: (socket) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n'),
  },
  {
    because: 'its encoding comes after 2,500 other headers',
    kind: 'encoded',
    answer: (socket) =>
      socket.write(`HTTP/1.1 200 OK\r\n${'a:b\r\n'.repeat(2500)}Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx`),
  },
  {
    because: 'the connection is reset in the middle of the body',
    kind: 'reset',
    answer: (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf')
      setTimeout(() => socket.resetAndDestroy(), 20)
    },
  },
  {
    because: 'the connection ends in the middle of the body',
    kind: 'reset',
    answer: (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf'),
  },
  {
    because: 'the connection ends before the last chunk',
    kind: 'reset',
    answer: (socket) => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'),
  },
  { because: 'the connection ends without an answer', kind: 'reset', answer: (socket) => socket.end() },
  { because: 'it is not HTTP', kind: 'protocol', answer: (socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n') },
  {
    because: 'a chunk size is no number',
    kind: 'protocol',
    answer: (socket) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'),
  },
  {
    because: 'it has two lengths',
    kind: 'protocol',
    answer: (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc'),
  },
  {
    because: 'it switches protocols',
    kind: 'protocol',
    answer: (socket) => socket.write('HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'),
  },
]
for (const { because, kind, answer, deadlineMs = 2000 } of attacks) {
  test(`createHttpClient().send() fails as ${kind}, in one try, and hangs up, when ${because}`, async () => {
    const hungUp = Promise.withResolvers<void>()
    await using server = await peer((_, socket) => {
      socket.on('close', hungUp.resolve)
      answer(socket)
    })
    const client = createHttpClient({})
    const startedMs = performance.now()

    const call = { method: 'GET', url: server.url, headers: { authorization: 'Bearer secret' } } as const
    const failure = await failsWith(kind, client.send(call, { maxBodyBytes: 1000, deadlineMs }))

    assert.ok(performance.now() - startedMs < 1000)
    await hungUp.promise
    assert.equal(server.heads.length, 1)
    assert.doesNotMatch(JSON.stringify(failure.cause ?? {}), /secret|rawPacket/)
    client.close()
  })
}

const badCalls = [
  { url: '', because: 'it is empty' },
  { url: '/jwks?secret', because: 'it is relative' },
  { url: 'file:///etc/secret', because: 'its scheme is another' },
  { url: 'http://user:secret@127.0.0.1/', because: 'it holds a password' },
  { url: 'http://127.0.0.1:99999/secret', because: 'its port is none' },
]
for (const { url, because } of badCalls) {
  test(`createHttpClient().send() rejects the URL ${JSON.stringify(url)}: ${because}`, async () => {
    const client = createHttpClient({})

    const sending = client.send({ method: 'GET', url }, limits)

    await failsWith('protocol', sending)
    client.close()
  })
}

test('createHttpClient().send() rejects a header that would split the request (CRLF injection)', async () => {
  await using server = await peer((_, socket) => socket.write(ok))
  const client = createHttpClient({})
  const headers = { authorization: 'Bearer secret\r\nX-Injected: 1' }

  const failure = await failsWith('protocol', client.send({ method: 'GET', url: server.url, headers }, limits))

  assert.doesNotMatch(String((failure.cause as Error).stack), /secret/) // it failed, so it has one
  assert.equal(server.heads.length, 0)
  client.close()
})

test('createHttpClient().send() answers any bytes with a reply or an HttpCallFailed, never otherwise', async () => {
  let answer = Buffer.alloc(0)
  await using server = await peer((_, socket) => socket.end(answer))
  const client = createHttpClient({})
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
    fc
      .array(
        fc.constantFrom(
          'HTTP/1.1 ',
          '200 OK',
          '101 ',
          '\r\n',
          'Content-Length: 3',
          'Transfer-Encoding: chunked',
          'abc',
          '3',
        ),
      )
      .map((parts) => Buffer.from(`HTTP/1.1 200 OK\r\n${parts.join('')}`)),
  )
  await fc.assert(
    fc.asyncProperty(bytes, async (given) => {
      answer = given
      try {
        const { body } = await client.send({ method: 'GET', url: server.url }, limits)
        assert.ok(body.length <= 1000)
      } catch (error) {
        assert.ok(error instanceof HttpCallFailed)
      }
    }),
  )
  client.close()
})
