// The command as a user starts it, and a shell for commands called in this process.
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Shell } from '../../src/cli/shell.ts'
import { program } from '../support/program.ts'

/** A command that runs, or ran. */
export type Started = Disposable & {
  readonly child: ChildProcess
  readonly stdout: () => string
  readonly stderr: () => string
  /** Resolves with the exit code once all output is read; null after a signal that ended it. */
  readonly ended: Promise<number | null>
}

type StartOptions = {
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  /** In a process group of its own, whose number is that of the process. */
  readonly group?: boolean
  /** How many descriptors it may have; Linux only. */
  readonly descriptors?: number
}

/** Starts `postern` with arguments; what is on stdin is `input`, and nothing after it. */
export function start(args: readonly string[], options: StartOptions = {}): Started {
  const env = { PATH: process.env['PATH'], ...options.env }
  const command = [process.execPath, program, ...args]
  const { descriptors } = options
  const [name = '', ...rest] = descriptors === undefined ? command : ['prlimit', `--nofile=${descriptors}`, ...command]
  const child = spawn(name, rest, { env, stdio: 'pipe', detached: options.group === true })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.on('error', () => {}) // a command that does not read it may be gone
  child.stdin.end(options.input ?? '')
  const ended = once(child, 'close').then(([code]) => code as number | null) // close tells the exit code
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  }
}

/** Runs `postern` to its end. */
export async function runToEnd(
  args: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  using started = start(args, options)
  const code = await started.ended
  return { code, stdout: started.stdout(), stderr: started.stderr() }
}

/** A directory that goes with the test. */
export function directory(): Disposable & {
  path: string
  write: (name: string, text: string, mode?: number) => string
} {
  const path = mkdtempSync(join(tmpdir(), 'postern-cli-'))
  return {
    path,
    write(name, text, mode = 0o600) {
      const file = join(path, name)
      writeFileSync(file, text, { mode })
      return file
    },
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  }
}

/** A shell in this process: what it was told is kept, and signals are sent by hand. */
export function fakeShell(env: Record<string, string> = {}): Shell & {
  readonly told: { out: string; say: string }
  readonly signal: (name: string) => void
} {
  const told = { out: '', say: '' }
  const listeners = new Map<string, () => void>()
  return {
    told,
    signal: (name) => listeners.get(name)?.(),
    clock: { wallMs: Date.now, monotonicMs: () => performance.now() },
    random: Math.random,
    randomBytes,
    env,
    readFile: (path) => readFileSync(path),
    fileMode: (path) => statSync(path).mode,
    write: (_chunk, done) => done(),
    version: 'test',
    revision: '',
    runtime: { nodeVersion: process.versions.node, execArgv: [], nodeOptions: '' },
    out: (text) => {
      told.out += text
    },
    say: (text) => {
      told.say += text
    },
    isTerminal: false,
    columns: undefined,
    color: false,
    sayColor: false,
    readStdin: async () => '',
    stdinIsTerminal: false,
    writeFile: () => {},
    onSignal: (name, listener) => void listeners.set(name, listener),
    started: () => {},
    exitNow: (code) => {
      throw new Error(`the process ends with ${code}`)
    },
  }
}
