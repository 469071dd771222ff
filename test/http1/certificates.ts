// Certificates to test with: made by openssl, and gone with the test.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** PEM of one certificate and its key, and the files they are in. */
export type Certificate = {
  readonly cert: string
  readonly key: string
  readonly certFile: string
  readonly keyFile: string
}

/** A certification authority, until disposed of. */
export type Authority = Disposable & {
  readonly ca: string
  readonly caFile: string
  /** @param names As in `subjectAltName`: `DNS:a.test,IP:127.0.0.1`. */
  readonly issue: (name: string, names: string) => Certificate
}

/** False where openssl is there, or its absence has to be a failure; else why a test is left out. */
export const skip = process.env['CI'] === 'true' || hasOpenssl() ? false : 'openssl is not on the PATH'

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'] as const

/** Makes one. */
export function createAuthority(): Authority {
  const directory = mkdtempSync(join(tmpdir(), 'postern-ca-'))
  const file = (name: string) => join(directory, name)
  const openssl = (...args: readonly string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' })
  const read = (name: string) => readFileSync(file(name), 'utf8')
  openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Test CA')
  return {
    ca: read('ca.pem'),
    caFile: file('ca.pem'),
    issue(name, names) {
      writeFileSync(file(`${name}.ext`), `subjectAltName=${names}\n`)
      openssl(
        'req',
        ...newKey.slice(0, 4),
        '-nodes',
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.csr`,
        '-subj',
        `/CN=${name}`,
      )
      const issuing = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'] as const
      openssl('x509', '-req', '-in', `${name}.csr`, ...issuing, '-extfile', `${name}.ext`, '-out', `${name}.pem`)
      const [certFile, keyFile] = [file(`${name}.pem`), file(`${name}.key`)]
      return { cert: read(`${name}.pem`), key: read(`${name}.key`), certFile, keyFile }
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'])
    return true
  } catch {
    return false
  }
}
