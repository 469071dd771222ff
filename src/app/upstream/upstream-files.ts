// The files of `upstream.tls`: read at the start, and again when they change.
import type { SecureContext } from 'node:tls'
import { codeOf, messageOf } from '../../base/errors.ts'
import type { Clock } from '../../base/time.ts'
import type { CrossFinding } from '../../config/load.ts'
import type { UpstreamOptions } from '../../gates/options.ts'
import { watchFiles } from '../../io/files.ts'
import type { Log } from '../../io/log.ts'
import { findCertificateProblem } from '../../spec/pem.ts'

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
  readonly context: () => SecureContext
  readonly close: () => void
}

/** PEM texts; undefined where there are none. */
export type UpstreamMaterial = {
  /** Certificates trusted instead of the usual ones. */
  readonly ca: string | undefined
  /** Our certificate, with what stands between it and its CA. */
  readonly cert: string | undefined
  readonly key: string | undefined
}

/** What cannot be used, and a clause that says why; it holds nothing of the texts. */
export class MaterialRefused extends Error {
  override readonly name = 'MaterialRefused'
  readonly code = 'ERR_MATERIAL_REFUSED'
  readonly part: keyof UpstreamMaterial
  constructor(part: keyof UpstreamMaterial, message: string, options?: ErrorOptions) {
    super(message, options)
    this.part = part
  }
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
  let context: SecureContext
  try {
    context = read()
  } catch (error) {
    watched?.close()
    throw error
  }
  return { context: () => context, close: () => watched?.close() }

  function read(): SecureContext {
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
): SecureContext {
  const text = (source: TlsOptions['ca'], read: (path: string) => Buffer) =>
    source && read(source.file).toString('utf8')
  return createUpstreamContext({ ca: text(ca, readFile), cert: text(cert, readFile), key: text(key, readSecret) })
}

/**
 * Makes what connections share: TLS 1.2 or newer, and no certificate goes unverified.
 *
 * @throws MaterialRefused
 */
export function createUpstreamContext({ ca, cert, key }: UpstreamMaterial): SecureContext {
  for (const [part, pem] of [['ca', ca] as const, ['cert', cert] as const]) {
    const wrong = pem === undefined ? undefined : findCertificateProblem(pem)
    if (wrong !== undefined) throw new MaterialRefused(part, wrong)
  }
  try {
    return process.getBuiltinModule('node:tls').createSecureContext({
      minVersion: 'TLSv1.2',
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
    })
  } catch (cause) {
    throw new MaterialRefused('key', `the file holds no key for the certificate (${codeOf(cause)})`, { cause })
  }
}
