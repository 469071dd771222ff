// The certificate of the front door, kept current: its files are read when it starts, and anew when one of them changes.
import type { Check } from '../admin/health.ts'
import { messageOf } from '../base/errors.ts'
import type { CrossFinding, LoadDeps } from '../config/load.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { ListenTlsOptions } from '../gates/options.ts'
import type { TlsMaterial } from '../gates/tls.ts'
import { notAfterS, vetTlsMaterial } from '../gates/tls.ts'
import { findCertificateProblem } from '../http1/certificates.ts'
import { readSecret } from '../io/files.ts'
import type { Log } from '../io/log.ts'
import type { Metrics } from '../io/metrics.ts'
import type { Powers } from './app.ts'
import { problemOf } from './configuration.ts'

/** The certificate in use. */
export type Certificates = {
  readonly current: () => TlsMaterial
  readonly files: readonly string[]
  /** Reads the files; tells `changed` what they hold if that is another certificate, and a good one. */
  readonly reload: () => void
  /** Whether the certificate in its files is the one in use. */
  readonly notes: () => readonly Check[]
}

/** What reading certificates needs from outside. */
export type CertificatesDeps = Pick<Powers, 'env' | 'readFile' | 'fileMode'> & {
  readonly log: Log
  readonly metrics: Metrics
  readonly changed: (material: TlsMaterial) => void
}

/**
 * Reads the certificate; while what its files hold cannot be used, the last good one stays in use.
 *
 * @throws when the files hold nothing that can be used, and what an unreadable file throws.
 */
export function createCertificates(options: ListenTlsOptions, deps: CertificatesDeps): Certificates {
  const { log, metrics, changed } = deps
  const reloads = metrics.counter('certificate_reloads_total', 'Changes of the certificate by result.', ['result'])
  const slots = { success: reloads.slot('success'), failure: reloads.slot('failure') }
  let current = read(options, deps)
  let refusal: string | undefined
  metrics.gauge('certificate_expires_timestamp_seconds', 'When the certificate in use ends.', [], () => [
    [[], notAfterS(current)],
  ])
  const { cert, key, client_ca } = options
  return {
    current: () => current,
    files: [cert, key, client_ca].flatMap((source) => source?.file ?? []),
    reload() {
      try {
        const next = read(options, deps)
        refusal = undefined
        if (JSON.stringify(next) === JSON.stringify(current)) return
        const expires = new Date(notAfterS(next) * 1000).toISOString()
        current = next
        reloads.add(slots.success)
        log.info('certificate_reloaded', { expires })
      } catch (error) {
        refusal = messageOf(error)
        reloads.add(slots.failure)
        log.error('certificate_refused', { error: refusal })
        return
      }
      changed(current)
    },
    notes: () => [{ name: 'certificate files', ok: refusal === undefined, said: refusal ?? 'in use' }],
  }
}

function read({ cert, key, client_ca }: ListenTlsOptions, deps: CertificatesDeps): TlsMaterial {
  const { env, readFile, fileMode } = deps
  const text = ({ file }: { readonly file: string }) => readFile(file).toString('utf8')
  const material = {
    cert: text(cert),
    key: readSecret(key, { env, readFile, mode: fileMode }),
    clientCa: client_ca && text(client_ca),
  }
  const wrong = vetTlsMaterial(material)
  if (wrong !== undefined) throw new Error(`Cannot use certificate and key: ${wrong}`)
  return material
}

/** What is wrong with the certificate, key and CA a configuration names, each at its place; none where files are not looked at. */
export function findTlsConflicts(
  { listen: { tls } }: GatewayOptions,
  readFile: LoadDeps['readFile'],
): readonly CrossFinding[] {
  if (tls === undefined || readFile === undefined) return []
  const text = ({ file }: { readonly file: string }) => readFile(file).toString('utf8')
  const found = (['cert', 'client_ca'] as const).flatMap((name): readonly CrossFinding[] => {
    const source = tls[name]
    const message = source && (problemOf(source.file, readFile) ?? findCertificateProblem(text(source)))
    return message === undefined ? [] : [{ path: ['listen', 'tls', name, 'file'], message }]
  })
  // A key that cannot be read is told as every secret is.
  if (found.length > 0 || problemOf(tls.key.file, readFile) !== undefined) return found
  const clientCa = tls.client_ca && text(tls.client_ca)
  const wrong = vetTlsMaterial({ cert: text(tls.cert), key: text(tls.key), clientCa })
  return wrong === undefined ? [] : [{ path: ['listen', 'tls'], message: wrong }]
}
