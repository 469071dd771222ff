import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ToPrimary } from '../../src/app/workers/worker-messages.ts'
import type { WorkerProcess } from '../../src/app/workers/worker-process.ts'
import { startWorkerProcess } from '../../src/app/workers/worker-process.ts'

/** Starts an odd worker; resolves with all that became of it, in order. */
async function runOdd(kind: string, act: (worker: WorkerProcess, told: string) => void): Promise<readonly string[]> {
  cluster.setupPrimary({ exec: join(import.meta.dirname, 'odd-worker.ts') })
  process.env['ODD_WORKER'] = kind
  const events: string[] = []
  const ended = Promise.withResolvers<void>()
  const tell = (event: string) => {
    events.push(event)
    act(worker, event)
  }
  const worker = startWorkerProcess({
    lines: (bytes) => events.push(...bytes.toString().split('\n').slice(0, -1)),
    message: (message: ToPrimary) => tell(message.kind),
    unusable: (why) => tell(`unusable: ${why}`),
    ended({ code, signal, error }) {
      events.push(`ended: ${code} ${signal}${error === undefined ? '' : ` ${error}`}`)
      ended.resolve()
    },
  })
  await ended.promise
  return events
}

test('startWorkerProcess() tells the end of a worker after everything it has said', async () => {
  const events = await runOdd('talkative', () => {})

  assert.equal(events.length, 502)
  assert.deepEqual(events.slice(-2), ['drained', 'ended: 0 null'])
})

test('startWorkerProcess() tells every whole line that a worker has logged before its end, and no beginning of one', async () => {
  const events = await runOdd('logging', () => {})

  const lines = Array.from({ length: 5000 }, (_, at) => `line ${at} ${'x'.repeat(100)}`)
  assert.deepEqual([events.length, ...events.slice(-2)], [5001, lines.at(-1), 'ended: 0 null'])
  assert.deepEqual(events.slice(0, -1), lines)
})

test('startWorkerProcess() says once that a worker is unusable which says what is no message of ours', async () => {
  const events = await runOdd('nonsense', (worker, told) => {
    if (told.startsWith('unusable')) worker.kill()
  })

  assert.deepEqual(events, ['unusable: nonsense', 'ended: null SIGKILL'])
})

test('startWorkerProcess() says that a worker is unusable which does not read, before it costs much memory', async () => {
  const entries = Array.from({ length: 5000 }, (_, at) => ['jti', `token-${at}`, null, 1, 'owner'] as const)
  let posted = 0

  const events = await runOdd('deaf', (worker, told) => {
    if (told.startsWith('unusable')) worker.kill()
    if (told !== 'hello') return
    for (; posted < 200; posted += 1)
      worker.post({ kind: 'list_added', issuer: 'https://issuer.test', entries: entries.map((entry) => [...entry]) })
  })

  assert.deepEqual(events, ['hello', 'unusable: backlog', 'ended: null SIGKILL'])
})

test('startWorkerProcess() tells why there is no process', async () => {
  const { execPath } = process
  process.execPath = '/nonexistent/node'

  const events = await runOdd('talkative', () => {}).finally(() => {
    process.execPath = execPath
  })

  assert.deepEqual(events, ['ended: null null ENOENT'])
})
