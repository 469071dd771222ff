// What an upstream must show, and what we show it: PEM, turned into what connections are made with.
import { X509Certificate } from 'node:crypto'
import type { SecureContext } from 'node:tls'

/** PEM texts; undefined where there are none. */
export type UpstreamMaterial = {
  /** Certificates trusted instead of the usual ones. */
  readonly ca: string | undefined
  /** Our certificate, with what stands between it and its CA. */
  readonly cert: string | undefined
  readonly key: string | undefined
}

/** Certificates trusted and shown, ready for connections. */
export type UpstreamContext = SecureContext

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
 * Makes what connections share: TLS 1.2 or newer, and no certificate goes unverified.
 *
 * @throws MaterialRefused
 */
export function createUpstreamContext({ ca, cert, key }: UpstreamMaterial): UpstreamContext {
  // Node takes a CA that is none without a word, and then trusts nobody.
  if (ca !== undefined) vetCertificates('ca', ca)
  if (cert !== undefined) vetCertificates('cert', cert)
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

function vetCertificates(part: 'ca' | 'cert', pem: string): void {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*(?:-----END CERTIFICATE-----)?/g) ?? []
  if (blocks.length === 0) throw new MaterialRefused(part, 'the file holds no -----BEGIN CERTIFICATE-----')
  for (const [at, block] of blocks.entries()) {
    try {
      new X509Certificate(block)
    } catch (cause) {
      throw new MaterialRefused(part, `certificate ${at + 1} of the file cannot be read (${codeOf(cause)})`, { cause })
    }
  }
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : 'unknown error'
}
