import { load, loadFile } from '../config/load.ts'
import { readSecret } from '../io/files.ts'
import type { Log } from '../io/log.ts'
import { createLineWriter, createLog } from '../io/log.ts'
import { startIssuer } from '../issuer/issuer.ts'
import { findIssuerConflicts, issuerOptions, resolveSecrets } from '../issuer/options.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure, sayRefused, untilSignal } from './shell.ts'

/** Runs the bundled issuer until a signal, or its store failing, ends it. A second SIGTERM or SIGINT ends at once. */
export async function issuer(options: { readonly config: string; readonly dev?: true }, shell: Shell): Promise<number> {
  const { config: file } = options
  const dev = options.dev === true
  const { clock, env, readFile, fileMode } = shell
  const stopped = untilSignal(shell)
  let log: Log | undefined
  // It is how the gateway beside it is reloaded: who sends it to both must not be left without an issuer.
  shell.onSignal('SIGHUP', () => log?.info('issuer_signal_ignored', { signal: 'SIGHUP' }))
  try {
    const loaded = loadFile(file, readFile, (text) =>
      load(issuerOptions, { file, text }, { env, readFile, fileMode }, findIssuerConflicts),
    )
    if (loaded.kind === 'refused') return sayRefused(shell, loaded.problems)
    const resolved = resolveSecrets(loaded.value, {
      dev,
      readSecret: (source) => readSecret(source, { env, readFile, mode: fileMode }),
    })
    const writer = createLineWriter({}, { write: shell.write })
    log = createLog({ stream: 'issuer' }, { writer, clock })
    await using running = await startIssuer(resolved, { clock, random: shell.randomBytes, log, dev })
    const failure = await Promise.race([stopped, running.failed])
    await writer.flush()
    return failure === undefined ? exitCodes.ok : sayFailure(shell, failure)
  } catch (error) {
    return sayFailure(shell, error)
  }
}
