// Signals to what runs until one ends it: before it listens for them, and after.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { image, program } from '../support/program.ts'
import { until } from '../support/until.ts'
import { directory, start } from './process.ts'

const local = "'127.0.0.1:0'"
const commands = {
  serve: `version: 1
listen: { proxy: ${local}, health: ${local}, admin: ${local} }
upstream: { url: 'http://127.0.0.1:9' }
drain: { delay: 0s }
rules: [{ id: any, match: { path: /any }, public: true }]
`,
  issuer: `version: 1
listen: ${local}
store: memory
realms: [{ name: main, audience: api }]
`,
} as const

/** Sends the process a signal as it loads its command, from within: from outside the moment cannot be met. */
function signalWhileLoading(signal: string): string {
  return `data:text/javascript,${encodeURIComponent(`
    import { registerHooks } from 'node:module'
    registerHooks({
      load(url, context, next) {
        if (/\\/program\\.[jt]s$/.test(url)) process.kill(process.pid, '${signal}')
        return next(url, context)
      },
    })`)}`
}

for (const [command, text] of Object.entries(commands)) {
  const args = (file: string) => [command, '--config', file, ...(command === 'issuer' ? ['--dev'] : [])]

  test(`postern ${command} ends with 0 on a SIGTERM that comes before it listens for one`, async () => {
    using files = directory()
    const options = `--import=${signalWhileLoading('SIGTERM')}`
    using started = start(args(files.write('it.yaml', text)), { env: { NODE_OPTIONS: options } })

    assert.equal(await started.ended, 0, started.stderr())
  })

  test(`postern ${command} starts as ever after a SIGHUP that comes before it listens for one`, async () => {
    using files = directory()
    const options = `--import=${signalWhileLoading('SIGHUP')}`
    using started = start(args(files.write('it.yaml', text)), { env: { NODE_OPTIONS: options } })

    await until(() => started.stdout().includes('started') || started.child.exitCode !== null, 'it to start')
    started.child.kill('SIGTERM')

    assert.equal(await started.ended, 0, started.stderr())
  })
}

test('the image ignores SIGUSR1, which would open a debugger to every container of the pod', async () => {
  using files = directory()
  const file = files.write('it.yaml', commands.serve)
  const child = spawn(process.execPath, [...image.options, program, 'serve', '--config', file], { stdio: 'pipe' })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (said += String(text)))
  await until(() => said.includes('"started"') || child.exitCode !== null, 'it to start')

  child.kill('SIGUSR1')
  await sleep(500)
  child.kill('SIGTERM')

  assert.deepEqual(await once(child, 'close'), [0, null])
  assert.doesNotMatch(said, /Debugger listening/)
})
