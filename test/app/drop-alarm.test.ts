import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { createDropAlarm } from '../../src/app/drop-alarm.ts'
import { openWorld } from '../acceptance/harness.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestLog } from '../support/log.ts'
import { until } from '../support/until.ts'

test('createDropAlarm() warns of each cause of ours once a minute, and of none that is a fault of the client', () => {
  const clock = createTestClock()
  const warned: string[] = []
  const log = createTestLog((event, { cause, count }, severity) => {
    warned.push(`${severity} ${event} ${cause} ${count}`)
  })
  const alarm = createDropAlarm({ clock, log })

  for (let at = 0; at < 3; at += 1) {
    for (const cause of ['limit', 'tls', 'timeout', 'proxy_protocol', 'client_certificate', 'crowded'] as const)
      alarm.dropped(cause)
    clock.pass(20_000)
  }
  for (const cause of ['limit', 'memory', 'no_worker'] as const) alarm.dropped(cause)

  assert.deepEqual(warned, [
    'warn connections_dropped limit 1',
    'warn connections_dropped limit 3',
    'warn connections_dropped memory 1',
    'warn connections_dropped no_worker 1',
  ])
})

test('startApp() says on /readyz?verbose and in the log that clients are dropped, and for a minute after', async () => {
  await using world = await openWorld({ more: { limits: { connections: 2 } } })
  const readyz = `http://127.0.0.1:${world.app.ports.health}/readyz?verbose`
  const line = async () => (await (await fetch(readyz)).text()).split('\n').find((each) => each.includes('front door'))
  const before = await line()
  const sockets = [1, 2, 3].map(() => connect(world.app.ports.proxy, '127.0.0.1').on('error', () => {}))

  await Promise.race(sockets.map((socket) => once(socket, 'close')))
  await until(() => world.logs().includes('"event.name":"connections_dropped"'), 'the warning')
  const during = await line()
  world.pass(60_000)
  const after = await line()
  for (const socket of sockets) socket.destroy()

  assert.deepEqual([before, after], [undefined, undefined])
  assert.equal(during, '[-] front door: connections of clients were dropped within the last minute (limit)')
  assert.match(world.logs(), /"listener":"proxy","cause":"limit","count":1/)
  assert.ok(world.app.isReady())
})
