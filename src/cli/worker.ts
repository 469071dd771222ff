import { runWorker } from '../app/workers/worker.ts'
import type { Shell } from './shell.ts'
import { exitCodes } from './shell.ts'

/** Runs a worker of `serve`, which alone starts it. */
export async function worker(shell: Shell): Promise<number> {
  // A signal to the group is for the primary, which says what is to be done, and when.
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) shell.onSignal(name, () => {})
  const code = await runWorker(shell, shell.started)
  if (code !== undefined) {
    shell.exitNow(code) // the pipe to the primary would keep it
    return code
  }
  shell.say('postern: worker is no command to type: serve starts its workers\n')
  return exitCodes.usage
}
