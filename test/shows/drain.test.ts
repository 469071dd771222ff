// SIGTERM under load: a client that does as it is told never sees a connection refused, reset or closed on its request.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { startGatewayProcess } from '../support/gateway-process.ts'
import type { LaneAnswer } from '../support/raw-lane.ts'
import { openLane } from '../support/raw-lane.ts'
import { sendJson, startStub } from '../support/stub-server.ts'

const slowMs = 4000
const polledMs = 50
// A balancer hears of it late, and its clients later.
const hearsayMs = 500

for (const workers of [1, 2]) {
  test(`SIGTERM under load refuses, resets and fails nothing, with ${workers === 1 ? 'one process' : 'two workers'}`, async () => {
    using upstream = await startStub({
      '/slow': (response) => void setTimeout(() => sendJson(response, { slow: true }), slowMs),
      '/fast': (response) => sendJson(response, { fast: true }),
    })
    await using gateway = await startGatewayProcess({
      workers,
      upstream: { url: upstream.url },
      drain: { delay: '1500ms', timeout: '10s' },
      rules: ['/slow', '/fast'].map((path) => ({ match: { path }, public: true })),
    })
    await gateway.ready()
    let unreadyMs = Number.POSITIVE_INFINITY
    const isSentTo = () => performance.now() < unreadyMs + hearsayMs
    const clients = Array.from({ length: 24 }, (_, at) =>
      client(gateway.proxyPort, at < 4 ? '/slow' : '/fast', isSentTo),
    )
    const idle = openIdle(gateway.proxyPort)
    await wait(1000)

    gateway.signal('SIGTERM')
    const signalledMs = performance.now()
    while ((await gateway.health('/readyz')).status === 200) await wait(polledMs)
    unreadyMs = performance.now()
    const answers = (await Promise.all(clients)).flat()
    const code = await gateway.exited

    assert.deepEqual(
      answers.filter(({ status }) => status !== 200).map(({ status, body }) => `${status} ${body}`),
      [],
    )
    assert.ok(unreadyMs - signalledMs < 1400, 'unready before the door closes')
    const late = answers.filter(({ sentMs }) => sentMs > unreadyMs + 100)
    assert.ok(late.length > 20, `${late.length} requests while it drained`)
    for (const { head } of late) assert.match(head, /\r\nconnection: close/i)
    const slow = answers.filter(({ body }) => body.includes('slow'))
    assert.ok(
      slow.some(({ receivedMs }) => receivedMs > signalledMs + 1600),
      'some were under way when the door closed',
    )
    assert.equal(await idle, '', 'a connection that nobody uses is closed without a word')
    assert.equal(code, 0)
    assert.match(gateway.logged('stopped')[0] ?? '', /"cut_off":0/)
  })
}

/** Keeps its connection as long as it may, and sends while it is sent to. */
async function client(port: number, path: string, isSentTo: () => boolean): Promise<readonly LaneAnswer[]> {
  using lane = openLane(port)
  const answers: LaneAnswer[] = []
  while (isSentTo()) {
    answers.push(await lane.get(path, 'none'))
    await wait(4)
  }
  return answers
}

/** Connects, sends nothing, and resolves with what it is told when it is closed; rejects when it is reset. */
function openIdle(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let told = ''
    const socket = connect({ port, host: '127.0.0.1' })
    socket.on('data', (chunk) => {
      told += String(chunk)
    })
    socket.on('end', () => resolve(told))
    socket.on('error', reject)
  })
}
