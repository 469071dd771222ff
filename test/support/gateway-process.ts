// The gateway as a process of its own, so that whoever loads it does not share its event loop.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endChild } from './processes.ts'
import { image, program } from './program.ts'
import { until } from './until.ts'

/** A gateway that serves, until disposed of. */
export type GatewayProcess = AsyncDisposable & {
  readonly proxyPort: number
  readonly pid: number
  readonly signal: (name: NodeJS.Signals) => void
  /** Resolves with its exit code; null after a signal that ended it. */
  readonly exited: Promise<number | null>
  /** Writes another configuration, which it will notice. */
  readonly configure: (configuration: Readonly<Record<string, unknown>>) => void
  /** What `GET /status` of its admin listener says. */
  readonly status: () => Promise<unknown>
  /** What its health listener answers. */
  readonly health: (path: string) => Promise<{ readonly status: number; readonly text: string }>
  /** Resolves when /readyz says so. */
  readonly ready: () => Promise<void>
  /** What Prometheus would read: `name{labels}` and value. */
  readonly metrics: () => Promise<ReadonlyMap<string, number>>
  /** Log lines of an event. */
  readonly logged: (event: string) => readonly string[]
}

/**
 * Starts `postern serve`, by Node's options of the image, with a configuration; listeners and drain are filled in. The secret `POSTERN_SECRET` in the
 * environment is `gateway-secret`. Rejects when it does not start.
 *
 * @param env More of its environment.
 */
export async function startGatewayProcess(
  configuration: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string>> = {},
): Promise<GatewayProcess> {
  const directory = mkdtempSync(join(tmpdir(), 'postern-gateway-'))
  const [file, log] = [join(directory, 'gateway.yaml'), join(directory, 'log')]
  const any = '127.0.0.1:0'
  const listen = { proxy: any, health: any, admin: any }
  configure(configuration)
  // To a file: reading an access log through a pipe would cost the loader more than the load.
  const output = openSync(log, 'w')
  const child = spawn(process.execPath, [...image.options, program, 'serve', '--config', file], {
    stdio: ['ignore', output, 'inherit'],
    env: { ...process.env, POSTERN_SECRET: 'gateway-secret', ...env },
  })
  closeSync(output)
  // A test that fails must be able to end.
  child.unref()
  const exited = once(child, 'exit').then(([code]) => code as number | null) // exit tells the code
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  try {
    const started = await startedLine()
    const at = (port: number, path: string) => fetch(`http://127.0.0.1:${port}${path}`)
    return {
      proxyPort: started.proxy_port,
      pid: child.pid ?? 0,
      signal: (name) => void child.kill(name),
      exited,
      configure,
      status: async () => await (await at(started.admin_port, '/status')).json(),
      async health(path) {
        const answer = await at(started.health_port, path)
        return { status: answer.status, text: await answer.text() }
      },
      ready: () =>
        until(async () => (await at(started.health_port, '/readyz')).status === 200, 'the gateway to be ready'),
      metrics: async () => readMetrics(await (await at(started.health_port, '/metrics')).text()),
      logged: (event) => lines().filter((line) => line.includes(`"${event}"`)),
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }

  function configure(wanted: Readonly<Record<string, unknown>>): void {
    // Every JSON document is a YAML document.
    writeFileSync(file, JSON.stringify({ version: 1, listen, drain: { delay: '0s', timeout: '1s' }, ...wanted }))
  }

  function lines(): readonly string[] {
    return readFileSync(log, 'utf8').split('\n')
  }

  async function startedLine(): Promise<{ proxy_port: number; health_port: number; admin_port: number }> {
    let line: string | undefined
    await until(
      async () => {
        assert.equal(child.exitCode, null, `the gateway exited: ${lines().join('\n')}`)
        line = lines().find((each) => each.includes('"proxy_port"'))
        return line !== undefined
      },
      () => `the gateway to start; it said: ${lines().join('\n')}`,
      60_000,
    )
    return JSON.parse(line ?? '') // found above; a line of its log is JSON
  }

  async function stop(): Promise<void> {
    process.off('exit', kill)
    await endChild(child)
    rmSync(directory, { recursive: true, force: true })
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
