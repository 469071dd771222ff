// Tokens from recipes with node:crypto alone: neither the product's code nor a JOSE library has a hand in them.
import type { KeyObject } from 'node:crypto'
import { constants, createHmac, generateKeyPairSync, randomUUID, sign } from 'node:crypto'

export type KeyPair = { readonly publicKey: KeyObject; readonly privateKey: KeyObject }
export type Members = Readonly<Record<string, unknown>>

function ec(namedCurve: string): KeyPair {
  return generateKeyPairSync('ec', { namedCurve })
}

/** One key of each kind for the whole process; `attacker` is in no issuer's set, `second` in none at first. */
export const keys = {
  good: ec('P-256'),
  rs: generateKeyPairSync('rsa', { modulusLength: 2048 }) as KeyPair,
  ed: generateKeyPairSync('ed25519') as KeyPair,
  p384: ec('P-384'),
  p521: ec('P-521'),
  b: ec('P-256'),
  second: ec('P-256'),
  attacker: ec('P-256'),
} as const

/** The public members of a key, as a set publishes them. */
export function jwkOf({ publicKey }: KeyPair, members: Members = {}): Members {
  return { ...publicKey.export({ format: 'jwk' }), use: 'sig', ...members }
}

/** What a token is made of; what is left out is that of a good token. */
export type Recipe = {
  readonly key?: KeyPair
  readonly alg?: string | null
  readonly kid?: unknown
  readonly typ?: string | null
  /** Members beside the usual ones. */
  readonly header?: Members
  /** The header's own bytes. */
  readonly headerText?: string | Buffer
  /** Replaces claims; undefined removes one. */
  readonly claims?: Members
  /** The payload's own bytes. */
  readonly payload?: string | Buffer
  readonly hmac?: string | Buffer
  /** Changes the signature once it is made. */
  readonly signature?: (signature: Buffer) => Buffer
}

/** Who signs what, when nothing else is said. */
export type Base = { readonly iss: string; readonly key: KeyPair; readonly kid: string; readonly nowS: number }

/** The claims of a good token. */
export function goodClaims({ iss, nowS }: Base): Record<string, unknown> {
  return {
    iss,
    aud: 'api',
    sub: 'alice',
    exp: nowS + 300,
    iat: nowS - 5,
    jti: randomUUID(),
    scope: 'read',
    client_id: 'web',
  }
}

/** Makes a token; whatever the recipe says is done, however wrong it is. */
export function forge(base: Base, recipe: Recipe = {}): string {
  const key = recipe.key ?? base.key
  const alg = recipe.alg === undefined ? algOf(key) : recipe.alg
  const { kid = base.kid, typ = 'at+jwt' } = recipe
  const header = {
    ...(alg === null ? {} : { alg }),
    ...(kid === null ? {} : { kid }),
    ...(typ === null ? {} : { typ }),
  }
  const headerText = recipe.headerText ?? JSON.stringify({ ...header, ...recipe.header })
  const payload = recipe.payload ?? JSON.stringify({ ...goodClaims(base), ...recipe.claims })
  const input = `${encode(headerText)}.${encode(payload)}`
  const signature = recipe.hmac === undefined ? signWith(key, alg, input) : hmac(recipe.hmac, alg, input)
  return `${input}.${encode(recipe.signature?.(signature) ?? signature)}`
}

export function encode(text: string | Buffer): string {
  return Buffer.from(text as string).toString('base64url') // a string or a Buffer: from() takes both
}

function algOf({ publicKey }: KeyPair): string {
  if (publicKey.asymmetricKeyType === 'rsa') return 'RS256'
  if (publicKey.asymmetricKeyType === 'ed25519') return 'EdDSA'
  const curve = publicKey.asymmetricKeyDetails?.namedCurve
  return curve === 'secp384r1' ? 'ES384' : curve === 'secp521r1' ? 'ES512' : 'ES256'
}

function signWith({ privateKey }: KeyPair, alg: string | null, input: string): Buffer {
  const type = privateKey.asymmetricKeyType
  if (type === 'ed25519') return sign(null, Buffer.from(input), privateKey)
  const bits = /(256|384|512)$/.exec(alg ?? '')?.[1] ?? '256'
  const padding = alg?.startsWith('PS') === true ? constants.RSA_PKCS1_PSS_PADDING : constants.RSA_PKCS1_PADDING
  const options = type === 'rsa' ? { padding, saltLength: Number(bits) / 8 } : ({ dsaEncoding: 'ieee-p1363' } as const)
  return sign(`sha${bits}`, Buffer.from(input), { key: privateKey, ...options })
}

function hmac(key: string | Buffer, alg: string | null, input: string): Buffer {
  return createHmac(`sha${/(256|384|512)$/.exec(alg ?? '')?.[1] ?? '256'}`, key)
    .update(input)
    .digest()
}

// The order of P-256's base point (FIPS 186-5): (r, n - s) is as good a signature as (r, s).
const p256Order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

/** The other valid ES256 signature of the same bytes. */
export function malleate(signature: Buffer): Buffer {
  const s = BigInt(`0x${signature.subarray(32).toString('hex')}`)
  return Buffer.concat([signature.subarray(0, 32), Buffer.from((p256Order - s).toString(16).padStart(64, '0'), 'hex')])
}
