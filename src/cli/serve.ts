import type { App } from '../app/app.ts'
import { startApp } from '../app/app.ts'
import { codeOf } from '../base/errors.ts'
import { sleep } from '../base/time.ts'
import { refuseRuntime } from './runtime.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure, sayRefused, untilSignal } from './shell.ts'

/** Runs the gateway until a signal ends it. SIGHUP reads the configuration anew; a second SIGTERM or SIGINT ends at once. */
export async function serve(file: string, shell: Shell): Promise<number> {
  const refused = refuseRuntime(shell.runtime)
  if (refused !== undefined) return sayFailure(shell, new Error(refused))
  let app: Awaited<ReturnType<typeof startApp>> | undefined
  let isToStop = false
  const stopped = untilSignal(shell, () => {
    if (app?.kind === 'running') app.abandon()
  }).then(() => {
    isToStop = true
  })
  // At a start it is being read, and what has changed meanwhile is taken up at its end.
  shell.onSignal('SIGHUP', () => {
    if (app?.kind === 'running') app.reload()
  })
  try {
    app = await startApp({ file, read: () => shell.readFile(file).toString('utf8') }, shell)
    if (app.kind === 'refused') return sayRefused(shell, app.problems)
    void settle(app).then(shell.started)
    await stopped
    await app.drain()
    return exitCodes.ok
  } catch (error) {
    // A signal to the group ends workers that are not up yet, and no start can be made without them.
    if (isToStop && codeOf(error) === 'ERR_NO_WORKER_SERVES') return exitCodes.ok
    return sayFailure(shell, error)
  }
}

// A start is over when every source has what it is for, or is not going to have it soon.
const startMs = 10_000
const pollMs = 100

async function settle(app: App): Promise<void> {
  for (let waitedMs = 0; waitedMs < startMs && !app.isReady(); waitedMs += pollMs) await sleep(pollMs)
}
