// argv → command. Here, and nowhere below, the process is touched: arguments, environment, clocks, streams, exit code.
import { randomBytes } from 'node:crypto'
import { constants, fstatSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { startLean } from './cli/lean-start.ts'
import type { Shell } from './cli/shell.ts'

type Signal = Parameters<Shell['onSignal']>[0]

// Libuv has four threads, and lets names take two of them: two names whose servers are silent would keep every other name
// from being found. Read when the first of them is needed.
process.env['UV_THREADPOOL_SIZE'] ??= '16'

const [, , command] = process.argv
// A signal that nobody listens for yet is lost to PID 1, and the end of any other process.
const early = command === 'serve' || command === 'issuer' ? noteSignals() : undefined
// Before anything else is loaded, and for what runs for months: the gateway, and each worker of it.
const lean = command === 'serve' || command === 'worker' ? startLean() : undefined
const { runCommand } = await import('./cli/program.ts')
const { createFileReader } = await import('./io/files.ts')
const { createOutput } = await import('./io/log.ts')

const { env, stdin, stdout, stderr } = process
const output = createOutput(1)

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string } // our own

// Taken once: as a global it is looked up, through a getter of Node's, every time.
const { performance } = globalThis
// What a worker is told of an age is a time on its primary's clock, so both count from the same moment: the machine's
// start. The least of a few differences: a pause between the two readings only ever makes one larger.
const machineMs = Math.min(...[1, 2, 3, 4].map(machineOffsetMs))

// How long a write of the log may be with the kernel at the end before it counts as one that never comes back.
const stuckMs = 1000

const mayColor = (env['NO_COLOR'] ?? '') === ''
const shell: Shell = {
  clock: { wallMs: Date.now, monotonicMs: () => machineMs + performance.now() },
  random: Math.random,
  randomBytes,
  env,
  readFile: createFileReader(),
  fileMode: (path) => statSync(path).mode,
  write: output.write,
  version: manifest.version,
  revision: env['POSTERN_REVISION'] ?? '',
  runtime: { nodeVersion: process.versions.node, execArgv: process.execArgv, nodeOptions: env['NODE_OPTIONS'] ?? '' },
  out: (text) => void stdout.write(text),
  say: (text) => void stderr.write(text),
  isTerminal: stderr.isTTY === true,
  columns: stdout.columns,
  color: stdout.isTTY === true && mayColor,
  sayColor: stderr.isTTY === true && mayColor,
  readStdin,
  stdinIsTerminal: stdin.isTTY === true,
  writeFile: (path, text) => writeFileSync(path, text),
  onSignal(name, listener) {
    process.on(name, listener)
    for (let count = early?.take(name) ?? 0; count > 0; count -= 1) listener()
  },
  exitNow: endSoon,
  started: () => lean?.end(),
}

// What nobody foresaw ends the process, loudly: half-working, it might allow. The supervisor starts it anew.
process.on('uncaughtException', (error) => {
  sayLast(`postern: ${error.stack ?? error.message}\n`)
  end(1)
})

// `postern check … | head`: nobody reads on, which is no bug and needs no stack.
stdout.on('error', () => end(1))

process.exitCode = await runCommand(process.argv.slice(2), shell)
// A log that was flushed is written now, or stuck, and a stuck write would keep the process. The last lines of a command
// that failed are written 50 ms after they were told.
setTimeout(() => {
  if (isStuck()) end(1)
}, stuckMs).unref()

/** Keeps the signals of a start until the command listens. */
function noteSignals(): { readonly take: (name: Signal) => number } {
  const noted: Signal[] = []
  const note = (name: Signal) => noted.push(name)
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, note)
  return {
    take(name) {
      process.off(name, note)
      return noted.filter((each) => each === name).length
    },
  }
}

/** Ends the process at once; while a write of the log is with the kernel, when that is done, or stuck. */
function endSoon(code: number): void {
  if (!isStuck()) end(code)
  const atMs = performance.now() + stuckMs
  setInterval(() => {
    if (!isStuck() || performance.now() > atMs) end(code)
  }, 10)
}

/**
 * Ends the process at once. While a write of the log is with the kernel, only SIGKILL does: `process.exit` waits for the
 * thread it is on, for ever where nobody reads the terminal or the pipe, with listeners open that serve nobody.
 */
function end(code: number): never {
  if (isStuck()) process.kill(process.pid, 'SIGKILL')
  process.exit(code)
}

/** A disk may be slow, and comes back. */
function isStuck(): boolean {
  return output.isWriting() && !fstatSync(1).isFile()
}

/** Says the last words: they are lost, rather than waited for, where stderr is the terminal that nobody reads. */
function sayLast(text: string): void {
  if (stderr.isTTY !== true && !output.isWriting()) return void stderr.write(text)
  let fd: number
  try {
    // The descriptor we have would wait, and whether it does is not ours to change: others may share it.
    fd = openSync('/dev/fd/2', constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch {
    return void stderr.write(text) // a socket, or a pipe of somebody else's
  }
  try {
    writeSync(fd, text)
  } catch {
    // It is full.
  }
}

/** The machine's clock less this process's, which begins with it. */
function machineOffsetMs(): number {
  const ownMs = performance.now()
  return Number(process.hrtime.bigint()) / 1e6 - ownMs
}

async function readStdin(maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > maxBytes) throw new RangeError(`Cannot read stdin: more than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
