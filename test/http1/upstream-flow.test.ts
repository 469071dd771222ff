// What passes through, from a client's socket to the upstream's and back: no faster than the slower side takes it.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDoor, openRawUpstream } from '../gates/door.ts'
import { until } from '../support/until.ts'
import { ask, openPeer, openPool } from './upstream-peer.ts'

const mebibyte = 1_048_576
const size = 100 * mebibyte
// What two pairs of socket buffers take, and no more: far from the whole.
const highWater = 40 * mebibyte
const chunk = Buffer.alloc(65_536, 'postern ')
const wanted = createHash('sha256').update(Buffer.alloc(size, chunk)).digest('hex')

/** Writes 100 MiB as fast as they are taken. */
async function pour(socket: Socket, gone: (bytes: number) => void): Promise<void> {
  for (let sent = 0; sent < size; sent += chunk.length) {
    if (!socket.write(chunk)) await once(socket, 'drain')
    gone(sent + chunk.length)
  }
}

/** Resolves once a number has stayed the same for a while. */
async function still(read: () => number): Promise<number> {
  for (let before = -1; ; ) {
    const now = read()
    if (now === before && now > 0) return now
    before = now
    await sleep(300)
  }
}

for (const framing of ['Content-Length: 104857600', 'Transfer-Encoding: chunked'] as const) {
  test(`createUpstreamPool() takes a request of 100 MiB (${framing.split(':', 1)[0]}) no faster than the upstream reads it`, async () => {
    const hash = createHash('sha256')
    let head = ''
    let received = 0
    let reading: Socket | undefined
    await using upstream = await openRawUpstream((socket) => {
      reading = socket
      socket.on('data', (part: Buffer) => {
        if (head === '') {
          head = part.toString('latin1').split('\r\n\r\n', 1)[0] ?? ''
          socket.pause()
          socket.unshift(part.subarray(head.length + 4))
          return
        }
        received += part.length
        if (!framing.startsWith('T')) hash.update(part)
        if (framing.startsWith('T') ? part.toString('latin1').endsWith('0\r\n\r\n') : received === size)
          socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      })
    })
    await using it = await openDoor(upstream.port)
    const client = connect(it.door.port, '127.0.0.1')
    let answer = ''
    client.on('data', (part: Buffer) => {
      answer += part.toString('latin1')
    })
    client.write(`PUT /a HTTP/1.1\r\nHost: a.test\r\n${framing}\r\n\r\n`)
    let sent = 0
    const poured = framing.startsWith('T')
      ? pourChunks(client, (bytes) => {
          sent = bytes
        })
      : pour(client, (bytes) => {
          sent = bytes
        })

    const stuck = await still(() => sent)
    reading?.resume()
    await poured
    await until(() => answer.endsWith('ok'), 'the answer')

    assert.ok(stuck < highWater, `${stuck} bytes were taken in`)
    assert.ok(received >= size)
    if (!framing.startsWith('T')) assert.equal(hash.digest('hex'), wanted)
    client.destroy()
  })
}

async function pourChunks(socket: Socket, gone: (bytes: number) => void): Promise<void> {
  const wrapped = Buffer.concat([Buffer.from('10000\r\n'), chunk, Buffer.from('\r\n')])
  for (let sent = 0; sent < size; sent += chunk.length) {
    if (!socket.write(wrapped)) await once(socket, 'drain')
    gone(sent + chunk.length)
  }
  socket.write('0\r\n\r\n')
}

test('createUpstreamPool() takes an answer of 100 MiB no faster than the client reads it', async () => {
  let sent = 0
  await using upstream = await openRawUpstream((socket) => {
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`)
      void pour(socket, (bytes) => {
        sent = bytes
      }).catch(() => {})
    })
  })
  await using it = await openDoor(upstream.port)
  const client = connect(it.door.port, '127.0.0.1')
  client.pause()
  client.write('GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n')

  const stuck = await still(() => sent)
  const hash = createHash('sha256')
  let received = -1
  client.on('data', (part: Buffer) => {
    // The head is not what is counted.
    const at = received === -1 ? part.indexOf('\r\n\r\n') + 4 : 0
    received = Math.max(0, received) + part.length - at
    hash.update(part.subarray(at))
  })
  client.resume()
  await until(() => received === size, 'the whole answer')

  assert.ok(stuck < highWater, `${stuck} bytes were taken in`)
  assert.equal(hash.digest('hex'), wanted)
  client.destroy()
})

test('createUpstreamConnection() gives no more than what is being read once it is told to pause', async () => {
  await using peer = await openPeer(({ socket }) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`)
    void pour(socket, () => {}).catch(() => {})
    return undefined
  })
  using pool = openPool([peer.endpoint])
  let pauses = 0
  const asked = ask(
    pool,
    {},
    {
      data() {
        asked.exchange().pause()
        pauses += 1
      },
    },
  )
  await until(() => asked.bytes() > 0, 'the first part')

  await sleep(200)

  assert.equal(pauses, 1)
  assert.ok(asked.bytes() <= 65_536)
  asked.exchange().resume()
  await until(() => pauses === 2, 'the second part')
  asked.exchange().abort()
})

for (const hasLength of [true, false]) {
  test(`createUpstreamPool() relays an early 413 while 1 GiB ${hasLength ? 'of a known length' : 'in chunks'} is uploaded: it stops, and little is held`, async () => {
    const gibibyte = 1024 * mebibyte
    let connections = 0
    let read = 0
    let first: Socket | undefined
    const closed = Promise.withResolvers<void>()
    await using upstream = await openRawUpstream((socket) => {
      connections += 1
      const isFirst = connections === 1
      socket.on('close', () => isFirst && closed.resolve())
      socket.on('data', (part: Buffer) => {
        read += part.length
        // Of the first nothing more is read, and its connection is left open: whoever waits for its end waits for long.
        if (isFirst && first === undefined) socket.pause()
        if (isFirst) first = socket
        socket.write(
          isFirst
            ? 'HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\n\r\ntoo big'
            : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
        )
      })
    })
    await using it = await openDoor(upstream.port)
    const client = connect(it.door.port, '127.0.0.1')
    let answer = ''
    let isOpen = true
    client.on('data', (part: Buffer) => {
      answer += part.toString('latin1')
    })
    client.on('error', () => {})
    client.on('close', () => {
      isOpen = false
    })
    const framing = hasLength ? `Content-Length: ${gibibyte}` : 'Transfer-Encoding: chunked'
    client.write(`POST /a HTTP/1.1\r\nHost: a.test\r\n${framing}\r\n\r\n`)
    const before = process.memoryUsage().external
    let most = 0
    let sent = 0
    // It does not care for the answer, and goes on for as long as it is let.
    while (isOpen && sent < gibibyte) {
      if (!hasLength) client.write('10000\r\n')
      const hasRoom = client.write(chunk)
      if (!hasLength) client.write('\r\n')
      sent += chunk.length
      most = Math.max(most, process.memoryUsage().external - before)
      if (!hasRoom) await Promise.race([once(client, 'drain'), once(client, 'close')]).catch(() => {})
    }
    // Only who reads sees the end.
    first?.resume()
    await closed.promise

    assert.match(answer, /^HTTP\/1\.1 413 [\s\S]*too big$/)
    assert.ok(sent < highWater, `${sent} bytes were taken in`)
    assert.ok(read < highWater, `${read} bytes were sent on`)
    assert.ok(most < highWater, `${most} bytes were held`)
    assert.match(await it.send('GET /b HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 200 /)
    assert.equal(connections, 2)
    assert.deepEqual(
      it.exchanges.map(({ status, upstreamFailure }) => [status, upstreamFailure]),
      [
        [413, undefined],
        [200, undefined],
      ],
    )
  })
}

const leaves = [
  { when: 'before an answer', sends: 'GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n', answer: '' },
  {
    when: 'within an answer',
    sends: 'GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n',
    answer: 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf',
  },
  {
    when: 'within its request',
    sends: 'PUT /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nhalf',
    answer: '',
  },
] as const
for (const { when, sends, answer } of leaves) {
  for (const how of ['closes', 'resets'] as const) {
    test(`createUpstreamPool() ends a request within a second when its client ${how} ${when}`, async () => {
      const came = Promise.withResolvers<void>()
      const left = Promise.withResolvers<number>()
      await using upstream = await openRawUpstream((socket) => {
        socket.on('data', () => {
          if (answer !== '') socket.write(answer)
          came.resolve()
        })
        socket.on('close', () => left.resolve(performance.now()))
      })
      await using it = await openDoor(upstream.port)
      const client = connect(it.door.port, '127.0.0.1')
      client.write(sends)
      await came.promise
      await sleep(50)

      const leftMs = performance.now()
      if (how === 'closes') client.destroy()
      else client.resetAndDestroy()
      const seenMs = await left.promise

      // security.md L-2; what is over it is the machine's.
      assert.ok(seenMs - leftMs < 1500, `${seenMs - leftMs} ms`)
      await until(() => it.exchanges.length === 1, 'the end of the exchange')
      assert.equal(it.door.inFlight(), 0)
    })
  }
}
