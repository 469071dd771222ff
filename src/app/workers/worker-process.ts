// One worker process as its primary sees it.
import type { Worker } from 'node:cluster'
import cluster from 'node:cluster'
import { Socket } from 'node:net'
import { codeOf } from '../../base/errors.ts'
import { lendAllReads } from '../../http1/lent-reads.ts'
import type { LineWriter } from '../../io/log.ts'
import { createLineReader } from '../../io/log.ts'
import type { ToPrimary, ToWorker } from './worker-messages.ts'
import { parseToPrimary } from './worker-messages.ts'

/** A process that was started, and may have ended. */
export type WorkerProcess = {
  readonly pid: number
  /** Sends a message; of one that is gone nothing is said. */
  readonly post: (message: ToWorker, socket?: Socket) => void
  /** Ends it at once. */
  readonly kill: () => void
}

/** How it ended; `error` where there was no process to begin with, such as `EMFILE`. */
export type WorkerEnd = { readonly code: number | null; readonly signal: string | null; readonly error?: string }

/** None of the workers of a start came to serve. */
export class NoWorkerServes extends Error {
  override readonly name = 'NoWorkerServes'
  readonly code = 'ERR_NO_WORKER_SERVES'
}

/** What a worker process makes known. */
export type WorkerProcessEvents = {
  /** What it logs: whole lines. */
  readonly lines: LineWriter['lines']
  readonly message: (message: ToPrimary) => void
  /** It said what is no message of ours, or reads so little of what it is told that it must be ended. */
  readonly unusable: (why: 'nonsense' | 'backlog') => void
  /** The last thing that is told: everything it has said was told before. */
  readonly ended: (how: WorkerEnd) => void
}

// What waits in our memory for a worker to read it. An issuer's list goes a slice at a time, and of configurations, of up to
// half as much, one is under way: it is nowhere near.
const maxUnsentBytes = 67_108_864

/** Starts a worker: this program, once more, with the command that only we give it. Throws when no process can be made. */
export function startWorkerProcess(events: WorkerProcessEvents): WorkerProcess {
  cluster.setupPrimary({ args: ['worker'], stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  const worker: Worker = cluster.fork()
  const { stdout } = worker.process
  let unsentBytes = 0
  let exited: WorkerEnd | undefined
  let hasEnded = false
  let isUnusable = false
  worker.on('message', (received: unknown) => {
    const message = parseToPrimary(received)
    if (message === undefined) refuse('nonsense')
    else if (!isUnusable) events.message(message)
  })
  // What goes wrong with the pipe ends in the end of the worker, and that is told. Of one that never was nothing is.
  worker.on('error', (error) => {
    if (worker.process.pid === undefined) end({ code: null, signal: null, error: codeOf(error) })
  })
  worker.on('exit', (code: number | null, signal: string | null) => end({ code, signal }))
  worker.on('disconnect', () => end(exited))
  // A new buffer for each piece would cost more than the lines: collections of garbage, at every load.
  if (stdout instanceof Socket) lendAllReads(stdout)
  stdout?.on('data', createLineReader(events.lines))
  stdout?.on('close', () => end(exited))
  return {
    pid: worker.process.pid ?? 0,
    post,
    kill: () => void worker.process.kill('SIGKILL'),
  }

  /** All of it must have been told: the process is gone, and what it said and logged was read to the end. */
  function end(told: typeof exited): void {
    exited = told
    const isHeard = worker.process.pid === undefined || !(worker.isConnected() || stdout?.closed === false)
    if (exited === undefined || hasEnded || !isHeard) return
    hasEnded = true
    events.ended(exited)
  }

  function post(message: ToWorker, socket?: Socket): void {
    if (!worker.isConnected()) return
    const bytes = sizeOf(message)
    unsentBytes += bytes
    const sent = () => {
      unsentBytes -= bytes
    }
    // Ours stays open until the worker says that it has its own: it could not be closed if the worker died before.
    if (socket === undefined) worker.process.send(message, sent)
    else worker.process.send(message, socket, { keepOpen: true }, sent)
    if (unsentBytes > maxUnsentBytes) refuse('backlog')
  }

  function refuse(why: 'nonsense' | 'backlog'): void {
    if (!isUnusable) events.unusable(why)
    isUnusable = true
  }
}

/** About as many bytes as it takes; what is short is 200. */
function sizeOf(message: ToWorker): number {
  if ('entries' in message) return message.entries.length * 100 + 200
  if (message.kind === 'keys') return message.document.length + 200
  if (message.kind !== 'configure') return 200
  const { text, startedText, files } = message
  return files.reduce((sum, { base64 }) => sum + base64.length, text.length + startedText.length + 200)
}
