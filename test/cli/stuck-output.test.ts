// A terminal that nobody reads keeps a write of the log, and the thread it is on, for ever.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { isAlive } from '../support/processes.ts'
import { program } from '../support/program.ts'
import { directory, until } from './process.ts'

const skip =
  process.env['CI'] === 'true' || spawnSync('script', ['--version']).status === 0 ? false : 'script is not on the PATH'

const configuration = `version: 1
listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' }
upstream: { url: 'http://127.0.0.1:9' }
drain: { delay: 0s, timeout: 1s }
rules:
  - { id: r, match: { path: /r } }
`

/** Serves on a terminal, whose other end is not read from when it has said where it listens, and logs more than that takes. */
async function serveUnread(file: string): Promise<Disposable & { readonly pid: number }> {
  const crash = `data:text/javascript,process.on('SIGUSR2',()=>{throw(Error('a%20bug'))})`
  const command = `echo pid=$$; exec '${process.execPath}' --import "${crash}" '${program}' serve --config '${file}'`
  const terminal = spawn('script', ['-qc', command, '/dev/null'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const numberIn = (pattern: RegExp) => Number(pattern.exec(said)?.[1])
  const stop = () => {
    process.kill(numberIn(/pid=(\d+)/), 'SIGKILL')
    terminal.kill('SIGKILL')
  }
  await until(() => said.includes('"proxy_port"'), 'the gateway to start').catch((error: unknown) => {
    terminal.kill('SIGHUP')
    throw error
  })
  terminal.kill('SIGSTOP')
  const url = `http://127.0.0.1:${numberIn(/"proxy_port":(\d+)/)}/r`
  for (let at = 0; at < 500; at += 1) await (await fetch(url)).arrayBuffer()
  return { pid: numberIn(/pid=(\d+)/), [Symbol.dispose]: stop }
}

const ends = [
  { signals: ['SIGTERM'], because: 'it has drained' },
  { signals: ['SIGTERM', 'SIGTERM'], because: 'it is asked twice' },
  { signals: ['SIGUSR2'], because: 'of a bug, which it cannot tell either' },
] as const
for (const { signals, because } of ends) {
  test(`postern serve ends on a terminal that nobody reads, when ${because}`, { skip }, async () => {
    using files = directory()
    using gateway = await serveUnread(files.write('gateway.yaml', configuration))
    assert.ok(isAlive(gateway.pid))

    for (const signal of signals) process.kill(gateway.pid, signal)

    await until(() => !isAlive(gateway.pid), 'the gateway to end')
  })
}
