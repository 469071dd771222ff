// Keys and tokens to test with, made with node:crypto and nothing of ours.
import type { KeyObject } from 'node:crypto'
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto'

/** One ES256 key of an issuer. */
export type Signer = {
  readonly kid: string
  /** The public half as a member of a key set. */
  readonly jwk: Readonly<Record<string, unknown>>
  /** Signs a token; the header given goes over `alg`, `typ: at+jwt` and `kid`. */
  readonly sign: (claims: Readonly<Record<string, unknown>>, header?: Readonly<Record<string, unknown>>) => string
}

export function createSigner(kid: string): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    kid,
    jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' },
    sign: (claims, header = {}) => compact({ alg: 'ES256', typ: 'at+jwt', kid, ...header }, claims, privateKey),
  }
}

function compact(header: object, claims: object, key: KeyObject): string {
  const input = `${segment(header)}.${segment(claims)}`
  return `${input}.${sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

/** One segment of a token. */
export function segment(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

/** The claims RFC 9068 §2.2 asks for, good for an hour. */
export function accessClaims(
  issuer: string,
  nowS: number,
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  const times = { iat: nowS, exp: nowS + 3600 }
  const names = { sub: 'alice', client_id: 'web', jti: randomUUID(), scope: 'orders:read' }
  return { iss: issuer, aud: 'orders-api', ...times, ...names, ...more }
}
