// One worker process as its primary sees it.
import type { Worker } from 'node:cluster'
import cluster from 'node:cluster'
import type { Socket } from 'node:net'
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

/** What a worker process makes known. */
export type WorkerProcessEvents = {
  readonly message: (message: ToPrimary) => void
  /** It said what is no message of ours. */
  readonly nonsense: () => void
  readonly ended: (code: number | null, signal: string | null) => void
}

/** Starts a worker: this program, once more, with the command that only we give it. */
export function startWorkerProcess(events: WorkerProcessEvents): WorkerProcess {
  cluster.setupPrimary({ args: ['worker'] })
  const worker: Worker = cluster.fork()
  worker.on('message', (received: unknown) => {
    const message = parseToPrimary(received)
    if (message === undefined) events.nonsense()
    else events.message(message)
  })
  // What goes wrong with the pipe ends in the end of the worker, and that is told.
  worker.on('error', () => {})
  worker.on('exit', (code: number | null, signal: string | null) => events.ended(code, signal))
  return {
    pid: worker.process.pid ?? 0,
    post(message, socket) {
      if (!worker.isConnected()) return
      // Ours stays open until the worker says that it has its own: it could not be closed if the worker died before.
      if (socket === undefined) worker.process.send(message, ignore)
      else worker.process.send(message, socket, { keepOpen: true }, ignore)
    },
    kill: () => void worker.process.kill('SIGKILL'),
  }
}

function ignore(): void {}
