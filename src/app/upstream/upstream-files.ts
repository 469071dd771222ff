// The files of `upstream.tls`: read at the start, and again when they change.
import { messageOf } from '../../base/errors.ts'
import type { Clock } from '../../base/time.ts'
import type { CrossFinding } from '../../config/load.ts'
import type { UpstreamOptions } from '../../gates/options.ts'
import type { UpstreamContext } from '../../http1/upstream-tls.ts'
import { createUpstreamContext, MaterialRefused } from '../../http1/upstream-tls.ts'
import { watchFiles } from '../../io/files.ts'
import type { Log } from '../../io/log.ts'

type TlsOptions = NonNullable<UpstreamOptions['tls']>

/** What reading and watching them needs. */
export type UpstreamFilesDeps = {
  readonly clock: Clock
  /** The bytes of a file. Throws when it cannot be read. */
  readonly readFile: (path: string) => Buffer
  readonly log: Pick<Log, 'info' | 'error'>
}

/** What the files hold, under watch until closed. */
export type UpstreamFiles = {
  /** For new connections; of the last files that were good. */
  readonly context: () => UpstreamContext
  readonly close: () => void
}

/**
 * Reads the files, and watches them.
 *
 * @throws MaterialRefused, and what a file that cannot be read throws: at the start there are none that were good.
 */
export function createUpstreamFiles(options: TlsOptions, { clock, readFile, log }: UpstreamFilesDeps): UpstreamFiles {
  const paths = [options.ca, options.cert, options.key].flatMap((each) => (each === undefined ? [] : [each.file]))
  // Before they are read: what changes in between is seen.
  const watched = paths.length === 0 ? undefined : watchFiles(() => paths, { clock, onChange })
  let context: UpstreamContext
  try {
    context = read()
  } catch (error) {
    watched?.close()
    throw error
  }
  return { context: () => context, close: () => watched?.close() }

  function read(): UpstreamContext {
    try {
      return readContext(options, readFile)
    } catch (error) {
      if (!(error instanceof MaterialRefused)) throw error
      // Of up to three files, whoever mends one must know which.
      const file = `upstream.tls.${error.part}.file ${options[error.part]?.file}`
      throw new MaterialRefused(error.part, `Cannot use ${file}: ${error.message}`, { cause: error })
    }
  }

  function onChange(): void {
    try {
      context = read()
      log.info('upstream_tls_renewed')
    } catch (error) {
      // Certificate and key are two files: between the two changes they do not fit. What was good stays in use.
      log.error('upstream_tls_refused', { error: messageOf(error) })
    }
  }
}

/**
 * What is wrong with the files, at the key that names it; they can be read.
 *
 * @param readSecret Reads the key.
 */
export function findUpstreamFileConflicts(
  { tls }: Pick<UpstreamOptions, 'tls'>,
  readFile: (path: string) => Buffer,
  readSecret = readFile,
): readonly CrossFinding[] {
  if (tls === undefined) return []
  try {
    readContext(tls, readFile, readSecret)
    return []
  } catch (error) {
    // What cannot be read at all is told of each file.
    return error instanceof MaterialRefused
      ? [{ path: ['upstream', 'tls', error.part, 'file'], message: error.message }]
      : []
  }
}

function readContext(
  { ca, cert, key }: TlsOptions,
  readFile: (path: string) => Buffer,
  readSecret = readFile,
): UpstreamContext {
  const text = (source: TlsOptions['ca'], read: (path: string) => Buffer) =>
    source && read(source.file).toString('utf8')
  return createUpstreamContext({ ca: text(ca, readFile), cert: text(cert, readFile), key: text(key, readSecret) })
}
