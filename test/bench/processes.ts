// Everything the bench starts: pinned where the system allows it, and gone when the bench is.
import type { ChildProcess } from 'node:child_process'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

/** A started program and all it started itself, until stopped. */
export type Started = {
  readonly pid: number
  /** The first line of its stdout that says something to `find`. Rejects when it exits before, or after ten seconds. */
  readonly line: <T>(find: (line: string) => T | undefined) => Promise<T>
  /** What it wrote to stderr so far, the last 2,000 characters. */
  readonly said: () => string
  readonly exited: () => boolean
  readonly stop: () => Promise<void>
}

/** What a program is started with. */
export type StartOptions = {
  /** Processors it may use, such as `0` or `0,1`. */
  readonly cpus: string
  readonly env?: Readonly<Record<string, string>>
}

const groups = new Set<number>()
process.on('exit', () => {
  for (const pid of groups) killGroup(pid)
})
for (const [signal, code] of [['SIGINT', 130] as const, ['SIGTERM', 143] as const])
  process.on(signal, () => process.exit(code))

/** Whether processes can be bound to processors here, and there are two. */
export const canPin = availableParallelism() >= 2 && spawnSync('taskset', ['-c', '0,1', 'true']).status === 0

/** Binds this process; what it starts says for itself. */
export function pinSelf(cpus: string): void {
  if (canPin) spawnSync('taskset', ['-acp', cpus, String(process.pid)])
}

/** Whether a program is installed. */
export function isInstalled(command: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$0"', command]).status === 0
}

/** Starts a program in a process group of its own. */
export function start(command: readonly string[], { cpus, env }: StartOptions): Started {
  const child = spawnPinned(command, { cpus, env: { ...process.env, ...env } })
  let head = ''
  let errors = ''
  let look = () => {}
  child.stdout?.on('data', (chunk: Buffer) => {
    // Read on, as a log collector would; only the start of it is looked at.
    if (head.length > 65_536) return
    head += chunk.toString('utf8')
    look()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString('utf8')).slice(-2000)
  })
  const exit = once(child, 'close').catch(() => {}) // a command that is not there has no exit
  const exited = () => child.exitCode !== null || child.signalCode !== null
  const { pid = 0 } = child
  return { pid, line, said: () => errors, exited, stop }

  async function line<T>(find: (line: string) => T | undefined): Promise<T> {
    const found = Promise.withResolvers<T>()
    look = () => {
      for (const each of head.split('\n').slice(0, -1)) {
        const value = find(each)
        if (value !== undefined) return found.resolve(value)
      }
    }
    look()
    const late = sleep(10_000, undefined, { ref: false })
    const none = Promise.race([exit, late]).then(() => {
      throw new Error(`Cannot start ${command.join(' ')}: ${exited() ? 'it exited' : 'it says nothing'}: ${errors}`)
    })
    return await Promise.race([found.promise, none])
  }

  async function stop(): Promise<void> {
    killGroup(pid)
    groups.delete(pid)
    await exit
  }
}

/** Runs a program to its end. */
export async function run(
  command: readonly string[],
  options: { readonly cpus: string; readonly timeoutMs: number },
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const child = spawnPinned(command, { cpus: options.cpus, env: process.env })
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8')
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8')
  })
  const timer = setTimeout(() => killGroup(child.pid ?? 0), options.timeoutMs)
  const [code] = (await once(child, 'close')) as [number | null] // what close tells
  clearTimeout(timer)
  groups.delete(child.pid ?? 0)
  return { code, stdout, stderr }
}

function spawnPinned(
  command: readonly string[],
  { cpus, env }: { readonly cpus: string; readonly env: NodeJS.ProcessEnv },
): ChildProcess {
  const [program = '', ...args] = canPin ? ['taskset', '-c', cpus, ...command] : command
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env })
  child.on('error', () => {}) // told by close
  if (child.pid !== undefined) groups.add(child.pid)
  return child
}

/** A program and its workers. */
function killGroup(pid: number): void {
  try {
    if (pid > 0) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}
