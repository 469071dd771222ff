// The certificate of the front door, kept current: its files are read when it starts, and anew when one of them changes.
import type { Check } from '../admin/health.ts'
import { messageOf } from '../base/errors.ts'
import type { CrossFinding, LoadDeps } from '../config/load.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { ListenTlsOptions } from '../gates/options.ts'
import type { TlsMaterial } from '../gates/tls.ts'
import { readValidity, vetTlsMaterial } from '../gates/tls.ts'
import { readSecret } from '../io/files.ts'
import type { Log } from '../io/log.ts'
import type { Metrics } from '../io/metrics.ts'
import { findCertificateProblem } from '../spec/pem.ts'
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
  readonly close: () => void
}

/** What reading certificates needs from outside. */
export type CertificatesDeps = Pick<Powers, 'clock' | 'env' | 'readFile' | 'fileMode'> & {
  readonly log: Log
  readonly metrics: Metrics
  readonly changed: (material: TlsMaterial) => void
}

/**
 * Reads the certificate; while what its files hold cannot be used, or has ended, the last good one stays in use. At the
 * start there is none: one that has ended is used then, and warned of.
 *
 * @throws when the files hold nothing that can be used, and what an unreadable file throws.
 */
export function createCertificates(options: ListenTlsOptions, deps: CertificatesDeps): Certificates {
  const { clock, log, metrics, changed } = deps
  let current = read(options, deps)
  const reloaded = registerCertificate(metrics, () => readValidity(current).toMs)
  let refusal: string | undefined
  let timer: NodeJS.Timeout | undefined
  warnOf(current)
  const { cert, key, client_ca } = options
  return {
    current: () => current,
    files: [cert, key, client_ca].flatMap((source) => source?.file ?? []),
    reload() {
      try {
        const next = read(options, deps)
        refusal = undefined
        if (JSON.stringify(next) === JSON.stringify(current)) return
        const [held, offered] = [validityOf(current, clock.wallMs()), validityOf(next, clock.wallMs())]
        if (offered.state === 'ended' && held.state !== 'ended') {
          // Whom we trust is another matter: a CA that was taken out is to be trusted no more.
          trust(next.clientCa)
          throw new Error(`${cannotUse}: ${offered.said}`)
        }
        const expires = new Date(readValidity(next).toMs).toISOString()
        current = next
        reloaded('success')
        log.info('certificate_reloaded', { expires })
        warnOf(current)
      } catch (error) {
        refusal = messageOf(error)
        reloaded('failure')
        log.error('certificate_refused', { error: refusal })
        return
      }
      changed(current)
    },
    notes() {
      const { state, said } = validityOf(current, clock.wallMs())
      const mark = state === 'good' ? (refusal === undefined ? '+' : '!') : state === 'ends_soon' ? '!' : '-'
      const inUse = refusal === undefined ? `in use, ${said}` : `${refusal}; of the one in use: ${said}`
      return [{ name: 'certificate files', ok: refusal === undefined, said: inUse, mark }]
    },
    close: () => clearTimeout(timer),
  }

  function trust(clientCa: string | undefined): void {
    const next = { ...current, clientCa }
    if (clientCa === current.clientCa || vetTlsMaterial(next) !== undefined) return
    current = next
    changed(current)
  }

  /** Again and again: what renews it may have stopped long ago, and nobody else says so. */
  function warnOf(material: TlsMaterial): void {
    const nowMs = clock.wallMs()
    const { state, said } = validityOf(material, nowMs)
    if (state !== 'good') log.warn('certificate_validity', { state, said })
    clearTimeout(timer)
    const isUsable = state === 'good' || state === 'ends_soon'
    // 1 ms: at the moment itself it is still good.
    const nextMs = isUsable ? Math.min(usableMs, readValidity(material).toMs + 1 - nowMs) : refusedMs
    timer = setTimeout(() => warnOf(current), nextMs).unref()
  }
}

/** Registers what is told of a certificate that ends at a time (ms); returns what counts its changes. */
export function registerCertificate(metrics: Metrics, endsMs: () => number): (result: 'success' | 'failure') => void {
  const help = 'Changes of the certificate of listen.tls by result.'
  const reloads = metrics.counter('certificate_reloads_total', help, ['result'])
  const slots = { success: reloads.slot('success'), failure: reloads.slot('failure') }
  metrics.gauge('certificate_expires_timestamp_seconds', 'When the certificate in use ends.', [], () => [
    [[], endsMs() / 1000],
  ])
  return (result) => reloads.add(slots[result])
}

// How long until its validity is looked at again, and while every client refuses it.
const usableMs = 3_600_000
const refusedMs = 60_000

const cannotUse = 'Cannot use certificate and key'

type Validity = { readonly state: 'good' | 'ends_soon' | 'ended' | 'not_begun'; readonly said: string }

// Longer than a weekend: what renews it is a day's work to mend.
const soonMs = 7 * 86_400_000

/** Whether a certificate is good at a time, and a clause about that. */
function validityOf(material: Pick<TlsMaterial, 'cert'>, nowMs: number): Validity {
  const { fromMs, toMs } = readValidity(material)
  const [from, to] = [fromMs, toMs].map((ms) => new Date(ms).toISOString().slice(0, 10))
  if (toMs < nowMs) return { state: 'ended', said: `it ended ${to}` }
  if (fromMs > nowMs) return { state: 'not_begun', said: `it does not begin before ${from}` }
  return { state: toMs - nowMs < soonMs ? 'ends_soon' : 'good', said: `it ends ${to}` }
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
  if (wrong !== undefined) throw new Error(`${cannotUse}: ${wrong}`)
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
  const key = text(tls.key)
  // And so is one that is empty.
  if (key.trim() === '') return found
  const wrong = vetTlsMaterial({ cert: text(tls.cert), key, clientCa })
  const path = ['listen', 'tls', ...(key.includes('PRIVATE KEY-----') ? [] : ['key', 'file'])]
  return wrong === undefined ? [] : [{ path, message: wrong }]
}

/** What is to be warned of in a certificate that can be used: it has ended, has not begun, or ends within seven days. */
export function lintCertificate(
  { listen: { tls } }: GatewayOptions,
  readFile: NonNullable<LoadDeps['readFile']>,
  nowMs: number,
): readonly CrossFinding[] {
  if (tls === undefined || problemOf(tls.cert.file, readFile) !== undefined) return []
  const cert = readFile(tls.cert.file).toString('utf8')
  if (findCertificateProblem(cert) !== undefined) return []
  const { state, said } = validityOf({ cert }, nowMs)
  if (state === 'good') return []
  const message =
    state === 'ends_soon' ? `the certificate: ${said}, in less than 7 days` : `clients refuse the certificate: ${said}`
  return [{ path: ['listen', 'tls', 'cert', 'file'], message }]
}
