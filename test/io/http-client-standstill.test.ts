// A process that was stopped, or whose machine was, finds its timers due before it has read what came meanwhile.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHttpClient } from '../../src/io/http-client.ts'
import { failsWith, ok, peer } from './byte-peer.ts'

const limits = { maxBodyBytes: 10, deadlineMs: 600 }

/** What a stopped process does. */
function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

test('createHttpClient().send() takes the answer that came while this process stood still past the deadline', async () => {
  await using server = await peer((_, socket) => {
    socket.write(ok)
    standStill(800)
  })
  const client = createHttpClient({})

  const reply = await client.send({ method: 'GET', url: server.url }, limits)

  assert.equal(reply.body.toString(), 'ok')
  client.close()
})

test('createHttpClient().send() takes the answer also when the standstill falls on the end of the deadline', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  await using server = await peer((_, socket) => {
    // Timers are asked after the sockets, and so is this.
    setImmediate(() => {
      t.mock.timers.tick(limits.deadlineMs - 1)
      socket.write(ok)
      t.mock.timers.tick(limits.deadlineMs)
    })
  })
  const client = createHttpClient({})

  const reply = await client.send({ method: 'GET', url: server.url }, limits)

  assert.equal(reply.body.toString(), 'ok')
  client.close()
})

test('createHttpClient().send() has time for a call that a standstill kept from leaving', async () => {
  await using server = await peer((_, socket) => void socket.write(ok))
  const client = createHttpClient({})

  const sending = client.send({ method: 'GET', url: server.url }, limits)
  standStill(800)

  assert.equal((await sending).body.toString(), 'ok')
  client.close()
})

test('createHttpClient().send() fails all the same where nothing has come after a standstill', async () => {
  await using server = await peer(() => standStill(800))
  const client = createHttpClient({})

  const failure = await failsWith('timeout', client.send({ method: 'GET', url: server.url }, limits))

  assert.match(failure.message, /within 600 ms$/)
  client.close()
})
