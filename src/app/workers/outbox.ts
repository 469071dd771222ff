import type { ToWorker } from './worker-messages.ts'

/** What waits to be told to one worker: short things at once, long ones in turn, a slice at a time. */
export type Outbox = {
  readonly send: (message: ToWorker) => void
  /** Runs when everything queued before is done. */
  readonly queue: (job: (deliver: Deliver) => Promise<void> | void) => void
  /** The worker has taken a slice. */
  readonly took: () => void
  /** Nothing is sent any more; what waits for an answer is let go of. */
  readonly close: () => void
}

/**
 * Sends a slice and waits until the worker has taken it: neither end's event loop, nor the pipe between them, ever has more
 * than that to do at a stretch.
 */
export type Deliver = (slice: ToWorker) => Promise<void>

/** Makes one; `onError` is told what a job throws. */
export function createOutbox(post: (message: ToWorker) => void, onError: (error: unknown) => void): Outbox {
  let last: Promise<void> | undefined
  let taken: (() => void) | undefined
  let closed = false
  return { send, queue, took: () => taken?.(), close }

  function send(message: ToWorker): void {
    if (!closed) post(message)
  }

  function queue(job: Parameters<Outbox['queue']>[0]): void {
    // What nothing is before goes out now, and not a turn later.
    const done = last === undefined ? run() : last.then(run)
    last = done
    void done.finally(() => {
      if (last === done) last = undefined
    })

    async function run(): Promise<void> {
      if (closed) return
      try {
        await job(deliver)
      } catch (error) {
        onError(error)
      }
    }
  }

  function deliver(message: ToWorker): Promise<void> {
    return new Promise((resolve) => {
      taken = resolve
      send(message)
    })
  }

  function close(): void {
    closed = true
    taken = undefined
  }
}
