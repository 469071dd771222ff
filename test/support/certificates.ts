// Certificates of a CA of our own, made by the openssl tool.
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A certificate and its key, PEM. */
export type Pair = { readonly cert: string; readonly key: string }

/** The same, and the files they are in. */
export type Certificate = Pair & { readonly certFile: string; readonly keyFile: string }

type IssueOptions = {
  /** Negative: it has expired. */
  readonly days?: number
  readonly rsa?: boolean
  /** As in `subjectAltName`: `DNS:a.test,IP:127.0.0.1`; else it is for this machine. */
  readonly names?: string
}

/** A CA, and what it is in; gone with the test. */
export type Authority = Disposable & {
  readonly ca: string
  readonly caFile: string
  /** Makes a certificate; its files hold the last one of its name. */
  readonly issue: (name: string, options?: IssueOptions) => Certificate
}

/** Why a test that needs certificates is skipped: where it counts, a missing openssl fails it instead. */
export const skipWithoutOpenssl: string | false =
  process.env['CI'] === 'true' || has() ? false : 'openssl is not on the PATH'

/** Makes a CA. */
export function createAuthority(): Authority {
  const directory = mkdtempSync(join(tmpdir(), 'postern-ca-'))
  const at = (name: string) => join(directory, name)
  const read = (name: string) => readFileSync(at(name), 'utf8')
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' })
  const ecKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...ecKey, '-days', '2', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Test CA')
  return {
    ca: read('ca.pem'),
    caFile: at('ca.pem'),
    issue(name, { days = 2, rsa = false, names = 'IP:127.0.0.1,DNS:localhost' } = {}) {
      const [cert, key] = [`${name}.pem`, `${name}.key`]
      writeFileSync(at('leaf.cnf'), `subjectAltName=${names}\n`)
      const newKey = rsa ? ['-newkey', 'rsa:2048', '-nodes'] : ecKey
      openssl('req', ...newKey, '-keyout', key, '-out', 'leaf.csr', '-subj', `/CN=${name}`)
      openssl(
        ...['x509', '-req', '-in', 'leaf.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
        ...['-days', `${days}`, '-extfile', 'leaf.cnf', '-out', cert],
      )
      return { cert: read(cert), key: read(key), certFile: at(cert), keyFile: at(key) }
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}

/** The thumbprint of a certificate, as tokens name it (RFC 8705 §3.1). */
export function thumbprintOf({ cert }: Pair): string {
  return Buffer.from(new X509Certificate(cert).fingerprint256.replaceAll(':', ''), 'hex').toString('base64url')
}

function has(): boolean {
  try {
    execFileSync('openssl', ['version'])
    return true
  } catch {
    return false
  }
}
