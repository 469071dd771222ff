import { load, loadFile } from '../config/load.ts'
import { formatProblem } from '../config/problems.ts'
import { readSecret } from '../io/files.ts'
import { createLineWriter, createLog } from '../io/log.ts'
import { startIssuer } from '../issuer/issuer.ts'
import { findIssuerConflicts, issuerOptions, resolveSecrets } from '../issuer/options.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure } from './shell.ts'

/** Runs the bundled issuer until a signal, or its store failing, ends it. A second SIGTERM or SIGINT ends at once. */
export async function issuer(options: { readonly config: string; readonly dev?: true }, shell: Shell): Promise<number> {
  const { config: file } = options
  const dev = options.dev === true
  const { clock, env, readFile, fileMode } = shell
  const stopped = Promise.withResolvers<'stopped'>()
  let asked = 0
  const stop = () => {
    asked += 1
    if (asked > 1) shell.exitNow(exitCodes.failure)
    stopped.resolve('stopped')
  }
  shell.onSignal('SIGTERM', stop)
  shell.onSignal('SIGINT', stop)
  try {
    const loaded = loadFile(
      file,
      () => readFile(file).toString('utf8'),
      (text) => load(issuerOptions, { file, text }, { env, readFile, fileMode }, findIssuerConflicts),
    )
    if (loaded.kind === 'refused') {
      for (const problem of loaded.problems) shell.say(`${formatProblem(problem, { color: shell.color })}\n`)
      return exitCodes.configuration
    }
    const resolved = resolveSecrets(loaded.value, {
      dev,
      readSecret: (source) => readSecret(source, { env, readFile, mode: fileMode }),
    })
    const writer = createLineWriter({}, { write: shell.write })
    const log = createLog({ stream: 'issuer' }, { writer, clock })
    await using running = await startIssuer(resolved, {
      clock,
      random: shell.randomBytes,
      log: (event, fields) => log.info(event, textOf(fields)),
      dev,
    })
    const ended = await Promise.race([stopped.promise, running.failed])
    await writer.flush()
    return ended === 'stopped' ? exitCodes.ok : sayFailure(shell, ended)
  } catch (error) {
    return sayFailure(shell, error)
  }
}

function textOf(fields: Record<string, unknown>): Record<string, string | number | boolean | null> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      const plain = value === null || typeof value === 'number' || typeof value === 'boolean'
      return [name, plain ? value : String(value)]
    }),
  )
}
