// RFC 8705 §3: access tokens bound to a client's certificate.
import { timingSafeEqual } from 'node:crypto'
import type { JsonObject } from '../base/json.ts'

/** What a token's `cnf` (RFC 7800) binds it to. */
export type Binding = {
  /** The thumbprint of a certificate, as written; undefined where it is something else, or that beside it. */
  readonly certificate: string | undefined
}

/** Reads a `cnf`. */
export function readBinding(cnf: JsonObject): Binding {
  const { 'x5t#S256': thumbprint } = cnf
  // Of several proofs each would be needed, and one is all that is checked.
  const isAlone = Object.keys(cnf).length === 1
  return { certificate: isAlone && typeof thumbprint === 'string' ? thumbprint : undefined }
}

/** Whether a thumbprint that a token names is that of the certificate shown; base64url without padding, nothing else. */
export function isThumbprint(named: string, shown: string): boolean {
  const [a, b] = [Buffer.from(named, 'utf8'), Buffer.from(shown, 'utf8')]
  return a.length === b.length && timingSafeEqual(a, b)
}
