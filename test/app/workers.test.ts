// `workers: 2`, with the real program and real processes: who serves, and what becomes of it when one of them ends.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { connect } from 'node:net'
import { availableParallelism } from 'node:os'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { isAlive } from '../support/processes.ts'
import type { Lane, LaneAnswer } from '../support/raw-lane.ts'
import { until } from '../support/until.ts'
import type { WorkersWorld } from './workers-world.ts'
import { askAll, counted, openWorkers, statusesOf } from './workers-world.ts'

/** All that was decided, whatever it was. */
async function decisions({ gateway }: WorkersWorld): Promise<number> {
  const series = [...(await gateway.metrics())].filter(([name]) => name.startsWith('postern_decisions_total{'))
  return series.reduce((sum, [, value]) => sum + value, 0)
}

/** Sends one request after another on each connection until told to stop. */
function load(lanes: readonly Lane[]): { readonly stop: () => Promise<readonly (readonly LaneAnswer[])[]> } {
  let isOver = false
  const all = lanes.map(async (lane) => {
    const answers: LaneAnswer[] = []
    while (!isOver) {
      answers.push(await lane.get('/open', 'none'))
      await wait(5)
    }
    return answers
  })
  return {
    stop() {
      isOver = true
      return Promise.all(all)
    },
  }
}

test('startWorkers() shares 64 kept connections evenly, and their counters add up to the requests sent', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const lanes = world.lanes(64)

  for (let round = 0; round < 5; round += 1) assert.deepEqual(statusesOf(await askAll(lanes, '/open', 'none')), [200])

  const shares = (await world.workers()).map(({ connections }) => connections)
  assert.equal(shares.length, 2)
  for (const share of shares) assert.ok(Math.abs(share - 32) <= 3, shares.join(' and '))
  const metrics = await world.gateway.metrics()
  assert.equal(await decisions(world), 320)
  assert.equal(metrics.get('postern_decision_duration_seconds_count{path="none"}'), 320)
  assert.equal(metrics.get('postern_connections{listener="proxy"}'), 64)
  assert.equal(metrics.get('postern_workers'), 2)
})

test('workers: auto is one for each processor that may be used, and on a single one the gateway serves by itself', async () => {
  await using world = await openWorkers({ workers: 'auto' })
  await world.gateway.ready()

  const { workers } = (await world.gateway.status()) as { workers?: readonly unknown[] } // as app/probes.ts says it

  const count = availableParallelism()
  assert.equal(workers?.length, count === 1 ? undefined : count)
  assert.deepEqual(statusesOf(await askAll(world.lanes(4), '/open', 'none')), [200])
})

test('startWorkers() shares evenly again after connections were closed on one side', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const first = world.lanes(40)
  // One after the other, so that it is known who has which: they take turns.
  for (const lane of first) assert.equal((await lane.get('/open', 'none')).status, 200)
  for (const [at, lane] of first.entries()) if (at % 2 === 0) lane[Symbol.dispose]()
  await until(
    async () => (await world.workers()).reduce((sum, { connections }) => sum + connections, 0) === 20,
    'twenty connections',
  )

  await askAll(world.lanes(40), '/open', 'none')

  const shares = (await world.workers()).map(({ connections }) => connections)
  for (const share of shares) assert.ok(Math.abs(share - 30) <= 3, shares.join(' and '))
})

test('a worker answers a client that has closed its side behind its request', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const client = connect({ port: world.gateway.proxyPort, host: '127.0.0.1', allowHalfOpen: true })

  client.end('GET /open HTTP/1.1\r\nHost: api.test\r\n\r\n')

  assert.match(await text(client), /^HTTP\/1\.1 200 /)
})

test('connections over the limit of each worker are dropped, and counted together', async () => {
  await using world = await openWorkers({ more: { limits: { connections: 4 } } })
  await world.gateway.ready()

  const answers = await askAll(world.lanes(12), '/open', 'none')

  assert.equal(answers.filter(({ status }) => status === 200).length, 8)
  const metrics = await world.gateway.metrics()
  assert.equal(metrics.get('postern_connections_dropped_total{listener="proxy",cause="limit"}'), 4)
  // A worker's lines come a little later than its answers.
  await until(() => world.gateway.logged('connections_dropped').length > 0, 'the log to say so')
})

test('workers without a free descriptor lose what they are handed: it is closed and counted, and once they have some they serve', {
  skip: process.platform !== 'linux' && 'prlimit is of Linux',
}, async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  for (const pid of await world.serving(2)) execFileSync('prlimit', ['--pid', String(pid), '--nofile=48:48'])
  let closed = 0
  const flood = Array.from({ length: 300 }, () => connect(world.gateway.proxyPort, '127.0.0.1').resume())
  for (const socket of flood) socket.on('error', () => {}).on('close', () => (closed += 1))
  const open = async () => (await world.workers()).reduce((sum, { connections }) => sum + connections, 0)
  await until(async () => closed > 0 && closed + (await open()) === flood.length, 'each to be open or closed')

  assert.equal(
    await counted(world.gateway, 'postern_connections_dropped_total{listener="proxy",cause="no_worker"}'),
    closed,
  )
  for (const socket of flood) socket.destroy()
  await until(async () => (await open()) === 0, 'the last of them to be closed')

  assert.deepEqual(statusesOf(await askAll(world.lanes(10), '/open', 'none')), [200])
})

test('kill -9 of a worker under load costs what it had under way, and it is replaced; no counter goes backwards', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const [victim = 0, other = 0] = await world.serving(2)
  const lanes = world.lanes(16)
  const running = load(lanes)
  await until(async () => (await decisions(world)) > 100, 'a hundred decisions')

  const before = await decisions(world)
  process.kill(victim, 'SIGKILL')
  await until(async () => !(await world.workers()).some(({ pid }) => pid === victim), 'the victim to be gone')
  const after = await decisions(world)
  const pids = await world.serving(2)
  await wait(300)
  const answers = await running.stop()

  assert.ok(after >= before, `${before}, then ${after}`)
  assert.ok((await decisions(world)) >= after)
  assert.ok(pids.includes(other) && !pids.includes(victim), 'the other one goes on')
  await until(() => world.gateway.logged('worker_exited').length === 1, 'it to be told of as ended')
  const lost = answers.map((each) => each.filter(({ status }) => status !== 200).length)
  // Twice: its next connection may have been handed over before anybody knew.
  assert.ok(Math.max(...lost) <= 2, `${lost.join()}: a client is served again at once`)
  assert.ok(lost.filter((count) => count > 0).length <= 9, `${lost.join()}: no more than its share`)
  assert.equal((await world.gateway.metrics()).get('postern_worker_restarts_total'), 1)
})

test('a worker that ends again and again is replaced ever later', async () => {
  await using world = await openWorkers()
  for (const count of [1, 2, 3, 4]) {
    const [victim] = (await world.workers()).filter(({ worker }) => worker === 1)
    process.kill(victim?.pid ?? 0, 'SIGKILL')
    await until(() => world.gateway.logged('worker_exited').length === count, 'it to be told of as ended')
    await world.serving(2)
  }

  const waits = world.gateway.logged('worker_exited').map((line) => JSON.parse(line)['restart_in'])

  assert.deepEqual(waits, ['100ms', '200ms', '400ms', '800ms'])
})

test('a gateway none of whose workers is left is not ready, and serves those who wait once one is back', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  for (const pid of await world.serving(2)) process.kill(pid, 'SIGKILL')
  await until(async () => (await world.gateway.metrics()).get('postern_workers') === 0, 'none to serve')

  const asked = askAll(world.lanes(8), '/open', 'none')
  const ready = await world.gateway.health('/readyz')

  assert.equal(ready.status, 503)
  assert.match(ready.text, /workers: 0 of 2 serve/)
  assert.deepEqual(statusesOf(await asked), [200])
  await world.serving(2)
  assert.equal((await world.gateway.health('/readyz')).status, 200)
})

test('a worker that is started while the gateway drains announces the end of connections, as the others do', async () => {
  await using world = await openWorkers({ more: { drain: { delay: '5s' } } })
  await world.gateway.ready()
  world.gateway.signal('SIGTERM')
  await until(async () => (await world.gateway.health('/readyz')).status === 503, 'it to be unready')
  for (const pid of await world.serving(2)) process.kill(pid, 'SIGKILL')
  await until(async () => (await world.gateway.metrics()).get('postern_workers') === 0, 'none to serve')

  const answers = await askAll(world.lanes(8), '/open', 'none')

  assert.deepEqual(statusesOf(answers), [200])
  for (const { head } of answers) assert.match(head, /\r\nconnection: close/i)
})

test('a worker that hangs is handed nothing more, found out, and replaced', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const [stuck = 0, other = 0] = await world.serving(2)
  process.kill(stuck, 'SIGSTOP')
  // In the middle of its being silent, after 3 turns of the primary, and stuck, after 11.
  await wait(6000)

  const answers = await askAll(world.lanes(16), '/open', 'none')
  await until(() => !isAlive(stuck), 'the stuck one to be killed', 60_000)
  const pids = await world.serving(2)

  assert.deepEqual(statusesOf(answers), [200])
  assert.ok(pids.includes(other))
  await until(() => world.gateway.logged('worker_stuck').length === 1, 'the log to say so')
})

test('kill -9 of the primary leaves no worker, though requests are under way', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const pids = await world.serving(2)
  const asked = askAll(world.lanes(8), '/orders/held', world.token())
  await until(
    async () => (await world.gateway.metrics()).get('postern_requests_in_flight{listener="proxy"}') === 8,
    'eight requests to be under way',
  )

  world.gateway.signal('SIGKILL')

  await until(() => !pids.some(isAlive), 'the workers to be gone')
  assert.deepEqual(statusesOf(await asked), [0])
})
