// A terminal that nobody reads keeps a write of the log, and the thread it is on, for ever.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { isAlive } from '../support/processes.ts'
import { program } from '../support/program.ts'
import { until } from '../support/until.ts'
import { directory } from './process.ts'

const skip =
  process.env['CI'] === 'true' || spawnSync('script', ['--version']).status === 0 ? false : 'script is not on the PATH'

const configuration = (delay: string) => `version: 1
listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' }
upstream: { url: 'http://127.0.0.1:9' }
drain: { delay: ${delay}, timeout: 1s }
rules:
  - { id: r, match: { path: /r } }
`

type Unread = Disposable & {
  readonly pid: number
  readonly isReady: () => Promise<boolean>
  /** Has the terminal read again; resolves to what the gateway ends with. */
  readonly readOn: () => Promise<number | null>
}

/** Serves on a terminal, whose other end is not read from when it has said where it listens, and logs more than that takes. */
async function serveUnread(file: string): Promise<Unread> {
  const crash = `data:text/javascript,process.on('SIGUSR2',()=>{throw(Error('a%20bug'))})`
  const command = `echo pid=$$; exec '${process.execPath}' --import "${crash}" '${program}' serve --config '${file}'`
  const terminal = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const numberIn = (pattern: RegExp) => Number(pattern.exec(said)?.[1])
  const stop = () => {
    if (isAlive(numberIn(/pid=(\d+)/))) process.kill(numberIn(/pid=(\d+)/), 'SIGKILL')
    terminal.kill('SIGKILL')
  }
  await until(() => said.includes('"proxy_port"'), 'the gateway to start').catch((error: unknown) => {
    terminal.kill('SIGHUP')
    throw error
  })
  terminal.kill('SIGSTOP')
  const [proxy, health] = [numberIn(/"proxy_port":(\d+)/), numberIn(/"health_port":(\d+)/)]
  const statusOf = async (port: number, path: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`)
    await answer.arrayBuffer()
    return answer.status
  }
  for (let at = 0; at < 500; at += 1) await statusOf(proxy, '/r')
  return {
    pid: numberIn(/pid=(\d+)/),
    isReady: async () => (await statusOf(health, '/readyz')) === 200,
    async readOn() {
      const ended = once(terminal, 'close')
      terminal.kill('SIGCONT')
      const [code] = await ended
      return code as number | null // close tells the exit code
    },
    [Symbol.dispose]: stop,
  }
}

const ends = [
  { signals: ['SIGTERM'], because: 'it has drained' },
  { signals: ['SIGTERM', 'SIGTERM'], because: 'it is asked twice' },
  { signals: ['SIGUSR2'], because: 'of a bug, which it cannot tell either' },
] as const
for (const { signals, because } of ends) {
  test(`postern serve ends on a terminal that nobody reads, when ${because}`, { skip }, async () => {
    using files = directory()
    using gateway = await serveUnread(files.write('gateway.yaml', configuration('0s')))
    assert.ok(isAlive(gateway.pid))

    for (const signal of signals) process.kill(gateway.pid, signal)

    await until(() => !isAlive(gateway.pid), 'the gateway to end')
  })
}

test('postern serve ends with 1 when it is asked twice, though a line of its log is just being written', {
  skip,
}, async () => {
  using files = directory()
  using gateway = await serveUnread(files.write('gateway.yaml', configuration('1h')))
  process.kill(gateway.pid, 'SIGTERM')
  while (await gateway.isReady());

  process.kill(gateway.pid, 'SIGTERM')
  const isReady = await gateway.isReady()

  assert.equal(isReady, false)
  assert.equal(await gateway.readOn(), 1)
})
