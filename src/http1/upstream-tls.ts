// What an upstream must show, and what we show it: PEM, turned into what connections are made with.
import type { SecureContext } from 'node:tls'
import { codeOf } from '../base/errors.ts'
import { findCertificateProblem } from './certificates.ts'

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
