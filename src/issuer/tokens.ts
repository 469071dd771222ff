import { createHash } from 'node:crypto'
import { decodeBase64url, encodeBase64url } from '../base/base64url.ts'
import { unreachable } from '../base/errors.ts'
import type { Json, JsonObject } from '../base/json.ts'
import { parseJsonObject } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import { maxNumericDate, nowSeconds } from '../base/time.ts'
import { maxTokenLength } from '../spec/authorization.ts'
import { decodeObject } from '../spec/jws.ts'
import { mediaType } from '../spec/wrapped-token.ts'
import type { KeyRing } from './keys.ts'
import type { TokenFormat } from './options.ts'
import type { IssuerStore, RealmStore } from './store.ts'
import { latestExp } from './store.ts'

/** What a token is for: none but an access token opens a resource. */
export const tokenUses = ['access', 'refresh', 'nonce', 'id'] as const

/** One of them. */
export type TokenUse = (typeof tokenUses)[number]

/** What a token is to say. */
export type Grant = {
  readonly clientId: string
  readonly subject: string
  /** Space-separated; empty for none. */
  readonly scope: string
  readonly audience: readonly string[]
  readonly format: TokenFormat
  /** Absent: access. */
  readonly use?: TokenUse | undefined
  /** Seconds; negative for a token that is born expired. */
  readonly lifetime: number
  /** Laid over the claims; null takes one away. */
  readonly claims?: JsonObject | undefined
  /** Instead of `wo+jwt`, `at+jwt`, or, for what is no access token, `JWT`. */
  readonly typ?: string | undefined
}

/** A token that is one of ours; whether it is still good is another question. */
export type KnownToken = {
  readonly claims: ReadonlyMap<string, Json>
  /** The key that signed it; none signed an opaque one. */
  readonly kid: string | undefined
  /** Whether it is an access token by its `typ` or its record. */
  readonly isAccess: boolean
}

/** One realm's tokens. */
export type Tokens = {
  /** Makes a token; what the store has to know of it is on disk when this resolves. Rejects with StorageFailed. */
  readonly issue: (grant: Grant) => Promise<string>
  /** Recognises a token by its signature or its record; undefined for anything else. */
  readonly read: (token: string) => KnownToken | undefined
  /**
   * The latest `exp` that a token of this realm has, or gets within this second; by whatever clock and configuration it
   * was issued.
   */
  readonly latestExpiry: () => number
}

/** What its tokens have in common. */
export type TokensOptions = {
  readonly issuer: string
  /** Seconds an ordinary token lives. */
  readonly lifetime: number
}
/** What it needs. */
export type TokensDeps = {
  readonly store: IssuerStore
  readonly tables: RealmStore
  readonly keys: KeyRing
  readonly clock: Clock
  readonly random: (bytes: number) => Buffer
}

const typs = { jwt: 'at+jwt', wrapped_opaque: 'wo+jwt' } as const
// product.md §9: a shell carries no data.
const shellClaims = ['iss', 'exp', 'iat', 'jti', 'azp'] as const
// What a record holds was bounded when it was made: by the administration's body, and by what we add to it.
const recordLimits = { maxDepth: 32, maxMembers: 512 } as const
// 5 min: one write in that time and not one for each JWT, and after a restart an entry stands that much longer at most.
const noteAhead = 300

/** Makes and recognises one realm's tokens. */
export function createTokens(options: TokensOptions, { store, tables, keys, clock, random }: TokensDeps): Tokens {
  // Of what was issued: at most this by the store, which a restart begins from; and exactly.
  let noted = tables.number(latestExp) ?? 0
  let latest = noted
  return { issue, read, latestExpiry: () => Math.max(latest, nowSeconds(clock) + options.lifetime) }

  /** Sees to it that a token with this `exp` is remembered: no clock set back, and no restart, makes it unknown. */
  async function note(exp: number): Promise<void> {
    // Before anything is waited for: who revokes meanwhile means this token, too.
    latest = Math.max(latest, exp)
    if (exp <= noted) return
    const ahead = Math.min(maxNumericDate, exp + noteAhead)
    await store.write(() => tables.putNumber(latestExp, Math.max(ahead, tables.number(latestExp) ?? 0)))
    noted = Math.max(noted, ahead)
  }

  async function issue(grant: Grant): Promise<string> {
    const now = nowSeconds(clock)
    const usualExp = now + grant.lifetime
    const claims = claimsOf(grant, now, usualExp)
    const written = claims.get('exp')
    const exp = Math.min(
      maxNumericDate,
      Math.ceil(typeof written === 'number' ? Math.max(written, usualExp) : usualExp),
    )
    await note(exp)
    const { format, typ, use = 'access' } = grant
    switch (format) {
      case 'jwt':
        return signed(typ ?? (use === 'access' ? typs.jwt : 'JWT'), claims, exp)
      case 'opaque': {
        // 256 bits, and nothing of it is kept but the hash: the store does not open a door.
        const token = encodeBase64url(random(32))
        await keep(opaqueId(token), use, claims, exp)
        return token
      }
      case 'wrapped_opaque': {
        const shell = new Map([...claims].map(([name, value]) => [name === 'client_id' ? 'azp' : name, value]))
        for (const name of shell.keys()) if (!(shellClaims as readonly string[]).includes(name)) shell.delete(name)
        await keep(wrappedId(claims.get('jti')), use, claims, exp)
        return signed(typ ?? typs.wrapped_opaque, shell, exp)
      }
      default:
        return unreachable(format)
    }
  }

  function claimsOf(grant: Grant, iat: number, exp: number): ReadonlyMap<string, Json> {
    const claims = new Map<string, Json>([
      ['iss', options.issuer],
      ['sub', grant.subject],
      ['client_id', grant.clientId],
      ['aud', grant.audience.length === 1 ? (grant.audience[0] ?? '') : grant.audience],
      ['exp', exp],
      ['iat', iat],
      ['jti', encodeBase64url(random(16))],
      ['scope', grant.scope],
    ])
    for (const [name, value] of Object.entries(grant.claims ?? {})) {
      if (value === null) claims.delete(name)
      else claims.set(name, value)
    }
    return claims
  }

  function keep(id: string, use: TokenUse, claims: ReadonlyMap<string, Json>, exp: number): Promise<void> {
    const record = { use, claims: JSON.stringify(Object.fromEntries(claims)) }
    return store.write(() => tables.putToken(id, record, exp))
  }

  function signed(typ: string, claims: ReadonlyMap<string, Json>, exp: number): string {
    const payload = encodeBase64url(JSON.stringify(Object.fromEntries(claims)))
    return keys.sign(exp, ({ kid, alg }) => `${encodeBase64url(JSON.stringify({ typ, alg, kid }))}.${payload}`)
  }

  function read(token: string): KnownToken | undefined {
    if (token.length > maxTokenLength) return undefined
    const parts = token.split('.')
    if (parts.length === 1) return stored(opaqueId(token), undefined)
    const [head = '', payload = '', signature = '', ...more] = parts
    const header = decodeObject(head)
    if (more.length > 0 || header === undefined) return undefined
    const { kid, alg, typ } = header
    const key = typeof kid === 'string' ? keys.find(kid) : undefined
    const bytes = decodeBase64url(signature)
    if (key === undefined || bytes === undefined || key.alg !== alg) return undefined
    if (!key.verifies(`${head}.${payload}`, bytes)) return undefined
    const claims = decodeObject(payload)
    if (claims === undefined || claims['iss'] !== options.issuer) return undefined
    const isAccess = typeof typ === 'string' && mediaType(typ) === typs.jwt
    // A shell is what stands in the store, whatever `typ` it was ordered with; no other claim in it counts.
    const shell = isAccess ? undefined : stored(wrappedId(claims['jti']), key.kid)
    return shell ?? { claims: new Map(Object.entries(claims)), kid: key.kid, isAccess }
  }

  function stored(id: string, kid: string | undefined): KnownToken | undefined {
    const record = tables.token(id)
    if (record === undefined) return undefined
    const claims = new Map(Object.entries(parseJsonObject(record.claims, recordLimits)))
    return { claims, kid, isAccess: record.use === 'access' }
  }
}

function opaqueId(token: string): string {
  return `opaque:${createHash('sha256').update(token).digest('base64url')}`
}

function wrappedId(jti: Json | undefined): string {
  return `wrapped:${typeof jti === 'string' ? jti : ''}`
}
