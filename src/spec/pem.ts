// RFC 7468 (PEM): certificates, looked at before node:tls has them. Of what it is to trust it passes over without a word
// what is none, and takes an empty text for none, which is to trust every public CA.
import { X509Certificate } from 'node:crypto'
import { codeOf } from '../base/errors.ts'

/** Why a text is not one certificate or several, in a clause that holds nothing of it; undefined where it is. */
export function findCertificateProblem(pem: string): string | undefined {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*(?:-----END CERTIFICATE-----)?/g) ?? []
  if (blocks.length === 0) return 'the file holds no -----BEGIN CERTIFICATE-----'
  for (const [at, block] of blocks.entries()) {
    try {
      new X509Certificate(block)
    } catch (cause) {
      return `certificate ${at + 1} of the file cannot be read (${codeOf(cause)})`
    }
  }
  return undefined
}
