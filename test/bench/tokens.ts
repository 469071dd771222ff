// Keys and tokens for a run, made with node:crypto and nothing of ours.
import type { KeyObject } from 'node:crypto'
import { generateKeyPairSync, sign } from 'node:crypto'

/** The issuer that every contestant trusts, and the audience it asks for. */
export const issuer = 'https://bench.example'
/** The audience of every good token. */
export const audience = 'api'

/** What signs tokens. */
export type Signer = {
  readonly algorithm: 'RS256' | 'ES256'
  readonly privateKey: KeyObject
  /** The public half as a member of a key set. */
  readonly jwk: Readonly<Record<string, unknown>>
  /** The public half, SPKI. */
  readonly pem: string
}

// What a signer keeps busy: Node's own pool has four threads.
const batch = 256

/** A new key: 2048 bits for RS256, P-256 for ES256. */
export function createSigner(algorithm: Signer['algorithm']): Signer {
  const { publicKey, privateKey } =
    algorithm === 'RS256'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: algorithm.toLowerCase(), use: 'sig', alg: algorithm }
  return { algorithm, privateKey, jwk, pem: publicKey.export({ format: 'pem', type: 'spki' }).toString() }
}

/**
 * Signs access tokens that are good for two hours (RFC 9068), each with a `jti` and a subject of its own.
 *
 * @param prefix What their `jti` begins with: no two calls may have the same.
 * @param more Claims that go over the usual ones.
 */
export async function mint(
  signer: Signer,
  count: number,
  prefix: string,
  more: Readonly<Record<string, unknown>> = {},
): Promise<readonly string[]> {
  const tokens: string[] = []
  while (tokens.length < count) {
    const from = tokens.length
    const wanted = Array.from({ length: Math.min(batch, count - from) }, (_, at) => from + at)
    tokens.push(...(await Promise.all(wanted.map((at) => signOne(signer, `${prefix}-${at}`, at, more)))))
  }
  return tokens
}

async function signOne(
  { algorithm, privateKey }: Signer,
  jti: string,
  at: number,
  more: Readonly<Record<string, unknown>>,
): Promise<string> {
  const iat = Math.floor(Date.now() / 1000)
  const times = { iat, exp: iat + 7200 }
  const names = { sub: `user-${at}`, client_id: 'web', scope: 'read write', jti }
  const header = segment({ typ: 'at+jwt', alg: algorithm, kid: algorithm.toLowerCase() })
  const input = `${header}.${segment({ iss: issuer, aud: audience, ...names, ...times, ...more })}`
  const signature = await new Promise<Buffer>((resolve, reject) => {
    sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' }, (error, made) =>
      error === null ? resolve(made) : reject(error),
    )
  })
  return `${input}.${signature.toString('base64url')}`
}

function segment(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
