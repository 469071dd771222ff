// `postern serve` with `workers: 2` and the signals it may get: to itself, or to its group, as a terminal sends them.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { membersOf } from '../support/processes.ts'
import { until } from '../support/until.ts'
import type { Started } from './process.ts'
import { directory, start } from './process.ts'

const local = '127.0.0.1:0'

function configuration(rule: string, { proxy = local, health = local, drain = '{ delay: 0s }' } = {}): string {
  return `version: 1
workers: 2
listen: { proxy: '${proxy}', health: '${health}', admin: '127.0.0.1:0' }
upstream: { url: 'http://127.0.0.1:9' }
drain: ${drain}
rules:
  - { id: ${rule}, match: { path: /${rule} }, public: true }
`
}

type Group = Started & { readonly pid: number; readonly count: (event: string) => number }

/** Starts it in a group of its own. */
function startGroup(file: string): Group {
  const started = start(['serve', '--config', file], { group: true })
  const count = (event: string) =>
    started
      .stdout()
      .split('\n')
      .filter((line) => line.includes(`"${event}"`)).length
  return { ...started, pid: started.child.pid ?? 0, count }
}

async function untilServing(group: Group): Promise<void> {
  await until(() => group.count('started') > 0 || group.child.exitCode !== null, 'the gateway to start')
  assert.equal(membersOf(group.pid).length, 3, group.stderr())
}

const targets = [
  { name: 'it alone', of: (pid: number) => pid },
  { name: 'its group', of: (pid: number) => -pid },
] as const

for (const { name, of } of targets) {
  test(`SIGTERM to ${name} ends a gateway with workers with 0, and nobody is left`, async () => {
    using files = directory()
    using group = startGroup(files.write('gateway.yaml', configuration('a')))
    await untilServing(group)

    process.kill(of(group.pid), 'SIGTERM')

    assert.equal(await group.ended, 0, group.stderr())
    assert.deepEqual(membersOf(group.pid), [])
    assert.equal(group.count('worker_exited'), 0, 'no worker ended before it was told to')
    assert.equal(group.count('stopped'), 1)
  })

  test(`a second SIGTERM to ${name} ends all of them at once`, async () => {
    using files = directory()
    using group = startGroup(files.write('gateway.yaml', configuration('a', { drain: '{ delay: 1h }' })))
    await untilServing(group)
    process.kill(of(group.pid), 'SIGTERM')
    await until(() => group.count('draining') > 0, 'the first to be heard')

    process.kill(of(group.pid), 'SIGTERM')

    assert.equal(await group.ended, 1)
    await until(() => membersOf(group.pid).length === 0, 'the workers to end')
  })

  test(`SIGTERM to ${name} while workers are being started ends with 0, and nobody is left`, async () => {
    using files = directory()
    using group = startGroup(files.write('gateway.yaml', configuration('a')))
    await until(() => membersOf(group.pid).length > 1, 'the first worker')

    process.kill(of(group.pid), 'SIGTERM')

    assert.equal(await group.ended, 0, group.stderr())
    assert.deepEqual(membersOf(group.pid), [])
  })

  test(`SIGTERM to ${name} during a reload ends with 0, and nobody is left`, async () => {
    using files = directory()
    using group = startGroup(files.write('gateway.yaml', configuration('a')))
    await untilServing(group)

    files.write('gateway.yaml', configuration('b'))
    process.kill(of(group.pid), 'SIGHUP')
    process.kill(of(group.pid), 'SIGTERM')

    assert.equal(await group.ended, 0, group.stderr())
    assert.deepEqual(membersOf(group.pid), [])
    assert.equal(group.count('worker_exited'), 0)
  })
}

for (const { signals, drain, code } of [
  { signals: 1, drain: '{ delay: 0s, timeout: 200ms }', code: 0 },
  { signals: 2, drain: '{ delay: 1h }', code: 1 },
]) {
  test(`a worker that hangs is no reason to stay, nor stays itself, after ${signals} SIGTERM`, async () => {
    using files = directory()
    using group = startGroup(files.write('gateway.yaml', configuration('a', { drain })))
    await untilServing(group)
    const stuck = Math.max(...membersOf(group.pid))
    process.kill(stuck, 'SIGSTOP')

    for (let sent = 1; sent <= signals; sent += 1) {
      process.kill(group.pid, 'SIGTERM')
      await until(() => group.count('draining') > 0, 'the first to be heard')
    }

    assert.equal(await group.ended, code)
    await until(() => membersOf(group.pid).length === 0, 'the workers to end')
  })
}

test('SIGHUP to the group of a gateway with workers is a reload, and ends none of them', async () => {
  using files = directory()
  using group = startGroup(files.write('gateway.yaml', configuration('a')))
  await untilServing(group)

  files.write('gateway.yaml', configuration('b'))
  process.kill(-group.pid, 'SIGHUP')

  // The primary's line, and one of each worker.
  await until(() => group.count('config_reloaded') === 3, 'the reload')
  assert.equal(membersOf(group.pid).length, 3)
  process.kill(group.pid, 'SIGTERM')
  assert.equal(await group.ended, 0)
})

test('postern serve with workers exits with 1 and leaves none when its address is taken', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  using files = directory()
  using group = startGroup(files.write('gateway.yaml', configuration('a', { proxy: `127.0.0.1:${port}` })))

  const code = await group.ended
  server.close()

  assert.equal(code, 1)
  assert.match(group.stderr(), /Cannot listen on listen\.proxy 127\.0\.0\.1:\d+: it is in use \(EADDRINUSE\)/)
  assert.deepEqual(membersOf(group.pid), [])
})

test('postern serve with workers says why it cannot start, and exits with 1, also where a SIGTERM came meanwhile', async () => {
  await using taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo // it listens on a port
  using files = directory()
  using group = startGroup(files.write('gateway.yaml', configuration('a', { health: `127.0.0.1:${port}` })))
  await until(() => membersOf(group.pid).length > 1, 'the first worker')

  process.kill(group.pid, 'SIGTERM')

  assert.equal(await group.ended, 1)
  assert.match(
    group.stderr(),
    /^postern: Cannot listen on listen\.health 127\.0\.0\.1:\d+: it is in use \(EADDRINUSE\)$/m,
  )
  assert.deepEqual(membersOf(group.pid), [])
})

test('postern worker is no command to type', async () => {
  using started = start(['worker'])

  assert.equal(await started.ended, 2)
  assert.match(started.stderr(), /serve starts its workers/)
})
