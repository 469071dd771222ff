// The gateway as a process of its own, so that whoever loads it does not share its event loop.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { program } from './program.ts'

/** A gateway that serves, until disposed of. */
export type GatewayProcess = AsyncDisposable & {
  readonly proxyPort: number
  /** Resolves when /readyz says so. */
  readonly ready: () => Promise<void>
  /** What Prometheus would read: `name{labels}` and value. */
  readonly metrics: () => Promise<ReadonlyMap<string, number>>
  /** Log lines of an event. */
  readonly logged: (event: string) => readonly string[]
}

const startMs = 10_000

/**
 * Starts `postern serve` with a configuration; listeners and drain are filled in. The secret `POSTERN_SECRET` in the
 * environment is `gateway-secret`. Rejects when it does not start within ten seconds.
 */
export async function startGatewayProcess(configuration: Readonly<Record<string, unknown>>): Promise<GatewayProcess> {
  const directory = mkdtempSync(join(tmpdir(), 'postern-gateway-'))
  const [file, log] = [join(directory, 'gateway.yaml'), join(directory, 'log')]
  const any = '127.0.0.1:0'
  const listen = { proxy: any, health: any, admin: any }
  // Every JSON document is a YAML document.
  writeFileSync(file, JSON.stringify({ version: 1, listen, drain: { delay: '0s', timeout: '1s' }, ...configuration }))
  // To a file: reading an access log through a pipe would cost the loader more than the load.
  const output = openSync(log, 'w')
  const child = spawn(process.execPath, [program, 'serve', '--config', file], {
    stdio: ['ignore', output, 'inherit'],
    env: { ...process.env, POSTERN_SECRET: 'gateway-secret' },
  })
  closeSync(output)
  // A test that fails must be able to end.
  child.unref()
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  try {
    const started = await startedLine()
    return {
      proxyPort: started.proxy_port,
      ready: () => until(async () => (await fetch(`http://127.0.0.1:${started.health_port}/readyz`)).status === 200),
      metrics: async () => readMetrics(await (await fetch(`http://127.0.0.1:${started.health_port}/metrics`)).text()),
      logged: (event) => lines().filter((line) => line.includes(`"${event}"`)),
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }

  function lines(): readonly string[] {
    return readFileSync(log, 'utf8').split('\n')
  }

  async function startedLine(): Promise<{ proxy_port: number; health_port: number }> {
    let line: string | undefined
    await until(async () => {
      assert.equal(child.exitCode, null, `the gateway exited: ${lines().join('\n')}`)
      line = lines().find((each) => each.includes('"proxy_port"'))
      return line !== undefined
    })
    return JSON.parse(line ?? '') // found above; a line of its log is JSON
  }

  async function stop(): Promise<void> {
    process.off('exit', kill)
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit')
      kill()
      await exited
    }
    rmSync(directory, { recursive: true, force: true })
  }
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + startMs
  while (!(await holds())) {
    assert.ok(performance.now() < endMs, `not within ${startMs} ms`)
    await wait(20)
  }
}

function readMetrics(text: string): ReadonlyMap<string, number> {
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    samples.map((line) => {
      const space = line.lastIndexOf(' ')
      return [line.slice(0, space), Number(line.slice(space + 1))]
    }),
  )
}
