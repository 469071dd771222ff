import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { createRandom, seedOfRun } from '../support/random.ts'
import type { Message } from '../support/strict-reader.ts'
import type { Connection } from './line.ts'
import { openConnection } from './line.ts'
import type { ScriptedUpstream } from './scripted-upstream.ts'
import { openScripted } from './scripted-upstream.ts'

// RFC 9110 §9.2.2; none of them with a body.
const methods = ['GET', 'GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'] as const
const hasty = { lanes: 32, each: 3025 } as const
const patient = { lanes: 400, each: 8 } as const
const idleMs = 1000

test('100,000 idempotent requests to an upstream that closes what is reused, or what is idle for 1 s: each gets its own 200', {
  timeout: 240_000,
}, async (t) => {
  const seed = seedOfRun()
  t.diagnostic(`seed ${seed}: POSTERN_TEST_SEED=${seed} repeats what is sent`)
  const random = createRandom(seed)
  const seen = { unanswered: 0, late: 0 }
  await using closing = await openScripted((socket, request, nth) => {
    if (nth === 1) return void socket.write(answerOf(request), 'latin1')
    switch (random.below(5)) {
      case 0:
        return void socket.end(answerOf(request), 'latin1')
      case 1:
        socket.write(answerOf(request), 'latin1')
        return void setTimeout(() => socket.end(), random.below(3))
      case 2:
        return void socket.write(answerOf(request), 'latin1', () => setTimeout(() => reset(socket), 1))
      case 3:
        seen.unanswered += 1
        return void socket.end()
      default:
        seen.unanswered += 1
        return void reset(socket)
    }
  })
  await using idling = await openScripted((socket, request) => {
    clearTimeout(idleTimers.get(socket))
    if (socket.writableEnded) seen.late += 1
    // Late enough for a connection each, which will be idle together.
    else setTimeout(() => socket.write(answerOf(request), 'latin1', () => idleOut(socket)), 150)
  })
  // Not by its own keep_alive, nor for want of connections.
  const options = { keep_alive: '30s', max_connections: patient.lanes + 100 }
  await using before = await startGateway(closing, options)
  await using beforeIdling = await startGateway(idling, options)
  const wrong: string[] = []

  const [one, other] = await Promise.all([
    run(before.proxyPort, hasty.lanes, hasty.each, () => undefined),
    run(beforeIdling.proxyPort, patient.lanes, patient.each, () => wait(idleMs - 20 + random.below(40))),
  ])

  t.diagnostic(JSON.stringify({ ...seen, connections: [closing.connections().ever, idling.connections().ever] }))
  assert.deepEqual(wrong, [])
  assert.equal(one + other, 100_000)
  // Enough of what is to be survived.
  assert.ok(seen.unanswered > 10_000 && closing.connections().ever > 30_000, JSON.stringify(seen))
  assert.ok(idling.connections().ever > patient.lanes + 100, 'connections were idle for too long, again and again')

  async function run(port: number, lanes: number, each: number, pause: () => unknown): Promise<number> {
    const counts = await Promise.all(Array.from({ length: lanes }, (_, lane) => runLane(port, lane, each, pause)))
    return counts.reduce((sum, count) => sum + count, 0)
  }

  async function runLane(port: number, lane: number, each: number, pause: () => unknown): Promise<number> {
    const picks = createRandom(seed + lane * 7919)
    using connection = await openConnection(port)
    let answered = 0
    for (; answered < each && wrong.length < 10; answered += 1) {
      if (answered > 0) await pause()
      const said = await askOnce(connection, picks.pick(methods), `/open/reused?${lane}-${answered}`)
      if (said !== undefined) wrong.push(said)
    }
    return answered
  }
})

/** What is wrong with the answer to one request. */
async function askOnce(connection: Connection, method: string, target: string): Promise<string | undefined> {
  await connection.write(`${method} ${target} HTTP/1.1\r\nHost: a.test\r\n\r\n`)
  const next = await connection.next(method)
  const wanted = method === 'HEAD' ? '' : target
  if (next.kind === 'answer' && next.answer.status === 200 && next.answer.body === wanted) return undefined
  return `${method} ${target}: ${JSON.stringify(next).slice(0, 500)}`
}

function answerOf({ method, target }: Message): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n${method === 'HEAD' ? '' : target}`
}

/** One that has been ended cannot be reset any more: its handle would be lost. */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}

const idleTimers = new WeakMap<Socket, NodeJS.Timeout>()

/** Ends a connection that is idle for so long, as most servers do: without a word. */
function idleOut(socket: Socket): void {
  idleTimers.set(
    socket,
    setTimeout(() => socket.end(), idleMs),
  )
}

async function startGateway({ port }: ScriptedUpstream, options: Readonly<Record<string, unknown>>) {
  return await startGatewayProcess({
    upstream: { url: `http://127.0.0.1:${port}`, ...options },
    rules: [{ id: 'open', match: { path: '/open/**' }, public: true }],
  })
}
