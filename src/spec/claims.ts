// RFC 7519 §4.1 and RFC 9068 §2.2: the claims of an access token, the same for a JWT and for an introspection answer
// (RFC 7662 §2.2), read once into one shape.

import type { Json, JsonObject } from '../base/json.ts'
import { isJsonObject } from '../base/json.ts'
import type { NumericDate } from '../base/time.ts'
import { maxNumericDate } from '../base/time.ts'
import type { Binding } from './mtls.ts'
import { readBinding } from './mtls.ts'
import { needsProof } from './token-kind.ts'

/** The claims we read, each of its right type or absent. `all` is the whole object, for rules and headers. */
export type Claims = {
  readonly iss: string | undefined
  readonly sub: string | undefined
  readonly aud: readonly string[]
  readonly exp: NumericDate | undefined
  readonly nbf: NumericDate | undefined
  readonly iat: NumericDate | undefined
  readonly jti: string | undefined
  readonly sid: string | undefined
  /** `client_id`, else `azp`. */
  readonly client_id: string | undefined
  /** `scope`, else `scp`; a string is split at spaces, an empty one is none. */
  readonly scopes: ReadonlySet<string>
  /** What `cnf` binds the token to (RFC 7800): it is worthless without a proof. Undefined for a bearer token. */
  readonly binding: Binding | undefined
  readonly all: JsonObject
}

const textLimits = { iss: 512, sub: 1024, jti: 256, sid: 256, client_id: 256, azp: 256 } as const

/** Claims that are text, or a list of texts, in every token that we take: no number and no boolean equals them. */
export const textClaims: readonly string[] = [...Object.keys(textLimits), 'aud', 'scope', 'scp']

const noScopes: ReadonlySet<string> = new Set()
// Tokens are many, and what they may do is one of few things: they share it, so that it is near when it is asked for.
const knownScopes = new Map<string, ReadonlySet<string>>()
const maxKnownScopes = 1000
const maxKnownLength = 512

/**
 * Reads the claims of one token.
 *
 * @returns The claims, or the name of the first claim of the wrong type, size or range.
 */
export function readClaims(all: JsonObject): Claims | string {
  for (const name in textLimits) {
    const value = all[name]
    if (value === undefined) continue
    // in range: name is a key of textLimits
    if (typeof value !== 'string' || Buffer.byteLength(value) > textLimits[name as keyof typeof textLimits]) return name
  }
  for (const name of ['exp', 'nbf', 'iat']) {
    const value = all[name]
    if (value !== undefined && !(typeof value === 'number' && value >= 0 && value <= maxNumericDate)) return name
  }
  const aud = readStrings(all['aud'])
  if (aud === undefined) return 'aud'
  const { cnf, scope, scp } = all
  if (cnf !== undefined && !isJsonObject(cnf)) return 'cnf'
  const scopes = readScopes(scope === undefined ? scp : scope)
  if (scopes === undefined) return scope === undefined ? 'scp' : 'scope'
  return {
    iss: all['iss'] as string | undefined, // the types of all these were checked above
    sub: all['sub'] as string | undefined,
    aud,
    exp: all['exp'] as number | undefined,
    nbf: all['nbf'] as number | undefined,
    iat: all['iat'] as number | undefined,
    jti: all['jti'] as string | undefined,
    sid: all['sid'] as string | undefined,
    client_id: (all['client_id'] ?? all['azp']) as string | undefined,
    scopes,
    binding: cnf === undefined ? unnamedBinding(all) : readBinding(cnf),
    all,
  }
}

/** Of a token that is of a type to be proven, but does not say by what: no proof is good. */
function unnamedBinding({ token_type: type, typ }: JsonObject): Binding | undefined {
  return needsProof(type) || needsProof(typ) ? { certificate: undefined } : undefined
}

function readStrings(value: Json | undefined): readonly string[] | undefined {
  if (value === undefined) return []
  if (typeof value === 'string') return [value]
  if (!Array.isArray(value)) return undefined
  return value.every((member) => typeof member === 'string') ? (value as readonly string[]) : undefined
}

function readScopes(value: Json | undefined): ReadonlySet<string> | undefined {
  if (value === undefined) return noScopes
  // In JSON a text is never a list, and a list with a space in a member not one of two members.
  const key = JSON.stringify(value)
  const known = knownScopes.get(key)
  if (known !== undefined) return known
  const names = typeof value === 'string' ? value.split(' ') : readStrings(value)
  if (names === undefined) return undefined
  const scopes = new Set(names)
  scopes.delete('')
  // Whoever is given a thousand combinations makes us forget, not grow.
  if (knownScopes.size >= maxKnownScopes) knownScopes.clear()
  if (key.length <= maxKnownLength) knownScopes.set(key, scopes)
  return scopes
}
