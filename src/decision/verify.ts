import * as z from 'zod'
import { list } from '../base/list.ts'
import { duration, httpUrl, isLoopbackUrl } from '../base/options.ts'
import type { Claims } from '../spec/claims.ts'
import { readClaims } from '../spec/claims.ts'
import type { KeyWanted, VerificationKey } from '../spec/jwk.ts'
import type { SignatureAlgorithm } from '../spec/jws.ts'
import { algorithmOf, signatureAlgorithms, verifySignature } from '../spec/jws.ts'
import { saidKind } from '../spec/token-kind.ts'
import type { WrappedMark } from '../spec/wrapped-token.ts'
import { mediaType } from '../spec/wrapped-token.ts'
import type { SignedToken } from './classify.ts'
import type { Deny, Principal, TokenForm, Trail } from './decision.ts'
import { deny, quoted } from './decision.ts'
import type { Rule } from './rules.ts'

const algorithm = z
  .enum(signatureAlgorithms.names)
  .or(z.literal('EdDSA').transform((): SignatureAlgorithm => 'Ed25519'))
const audience = z.string().min(1).max(1024)
const words = list(z.string().min(1).max(256)).min(1).max(100)

/** What the gateway is told about one issuer, as far as judging its tokens goes. */
export const trustOptions = z.strictObject({
  issuer: httpUrl
    .max(512)
    // It is told wherever its tokens are: in messages, logs and metrics.
    .refine((text) => !text.includes('?'), { error: 'expected an issuer without a query' })
    .describe('The issuer identifier, exactly as in `iss`, without a query (RFC 8414 §2).'),
  audience: z
    .union([audience, list(audience).min(1).max(1000)])
    .describe('What `aud` must name: this service. One of a list is enough.'),
  algorithms: list(algorithm)
    .min(1)
    .max(signatureAlgorithms.names.length + 1)
    .prefault(['ES256', 'RS256'])
    .describe('Signature algorithms accepted; there is no symmetric one (RFC 8725 §3.1). EdDSA means Ed25519.'),
  token_profile: z
    .enum(['rfc9068', 'lenient'])
    .prefault('rfc9068')
    .describe(
      'rfc9068: `typ: at+jwt` and every claim RFC 9068 §2.2 requires. lenient: for issuers that send `typ: JWT` or none.',
    ),
  required: z.boolean().prefault(true).describe('Whether readiness waits for this issuer.'),
  revocation: z
    .enum(['blacklist', 'introspect'])
    .prefault('blacklist')
    .describe("introspect: JWTs are introspected too, within the rule's freshness."),
  leeway: duration.prefault('30s').describe('How far clocks may differ, for `exp`, `nbf` and `iat`.'),
  max_token_lifetime: duration.prefault('24h').describe('Longest `exp` - `iat` accepted.'),
  require_kid: z.boolean().prefault(true).describe('Whether a token must name its key.'),
  require_aud: z
    .boolean()
    .prefault(true)
    .describe(
      'Whether an introspection answer must name an audience. false: whatever its issuer calls active is for this service, a refresh token too where the answer does not say what kind it is of.',
    ),
  opaque: z.boolean().prefault(false).describe("Opaque tokens are this issuer's, where several could be asked."),
  opaque_may_contain_dots: z.boolean().prefault(false).describe("This issuer's opaque tokens may look like JWTs."),
  access_token_form: z
    .enum(['mixed', 'wrapped'])
    .prefault('mixed')
    .describe('wrapped: every signed token is a wrapper, and is asked about with introspection.'),
  wrapped: z
    .strictObject({
      typ: words.optional().describe('Header `typ`, one of these.'),
      kid: words.optional().describe('Header `kid`, one of these.'),
      claim_present: z.string().min(1).optional().describe('A claim that only wrappers have.'),
      claim_absent: z.string().min(1).optional().describe('A claim that only self-contained tokens have.'),
    })
    .refine((mark) => Object.values(mark).some((value) => value !== undefined), { error: 'expected at least one mark' })
    .prefault({ typ: ['wo+jwt'] })
    .describe('How wrapped opaque tokens are told from JWTs; every member given must match.'),
})
type TrustOptions = z.output<typeof trustOptions>

/** One issuer we take tokens from, ready for judging. A reload makes a new object, so that old facts die with the old one. */
export type TrustedIssuer = {
  readonly kind: 'issuer'
  readonly issuer: string
  readonly audience: readonly string[]
  readonly algorithms: readonly SignatureAlgorithm[]
  readonly tokenProfile: TrustOptions['token_profile']
  readonly revocation: TrustOptions['revocation']
  readonly leewayS: number
  readonly maxLifetimeS: number
  readonly requireKid: boolean
  readonly requireAud: boolean
  readonly opaque: boolean
  readonly opaqueMayContainDots: boolean
  /** Null: every signed token is one. */
  readonly wrapped: WrappedMark | null
  /** Whether demonstration keys are taken: on this machine only. */
  readonly demoKeys: boolean
  /** How long introspection answers are kept, milliseconds; undefined where the issuer cannot be asked. */
  readonly answersMaxAgeMs: number | undefined
  /** How often its blacklist is polled where it has news all the time, milliseconds; undefined where it has none. */
  readonly pollIntervalMs: number | undefined
}

/** Makes the form for judging out of the options and what the lookups of this issuer can do. */
export function trustIssuer(
  options: TrustOptions,
  can: { readonly answersMaxAgeMs: number | undefined; readonly pollIntervalMs: number | undefined },
): TrustedIssuer {
  return {
    kind: 'issuer',
    issuer: options.issuer,
    audience: typeof options.audience === 'string' ? [options.audience] : options.audience,
    algorithms: options.algorithms,
    tokenProfile: options.token_profile,
    revocation: options.revocation,
    leewayS: options.leeway / 1000,
    maxLifetimeS: options.max_token_lifetime / 1000,
    requireKid: options.require_kid,
    requireAud: options.require_aud,
    opaque: options.opaque,
    opaqueMayContainDots: options.opaque_may_contain_dots,
    wrapped: options.access_token_form === 'wrapped' ? null : options.wrapped,
    demoKeys: isLoopbackUrl(options.issuer),
    ...can,
  }
}

/**
 * Checks what the header says, before any key is looked for.
 *
 * @param form A wrapper's `typ` is its issuer's mark, not an access token's.
 * @returns The key to look for, or a denial.
 * @see RFC 8725 §3.1, §3.10, §3.11; RFC 9068 §4
 */
export function checkHeader(
  signed: SignedToken,
  form: TokenForm,
  issuer: TrustedIssuer,
  trail?: Trail,
): { readonly kind: 'header'; readonly wanted: Omit<KeyWanted, 'arrivedMs'> } | Deny {
  const { alg, kid, typ, carriesKey } = signed.jws.header
  const strict = issuer.tokenProfile === 'rfc9068'
  if (strict && carriesKey) {
    trail?.({ stage: 'verify.header', passed: false, is: 'a key in the header', wanted: 'none (RFC 8725 §3.10)' })
    return deny('jwt_malformed')
  }
  const algorithm = algorithmOf(alg)
  const allowed = algorithm !== undefined && issuer.algorithms.includes(algorithm)
  trail?.({ stage: 'verify.alg', passed: allowed, is: alg, wanted: `one of ${issuer.algorithms.join(', ')}` })
  if (algorithm === undefined || !allowed) return deny('alg_not_allowed')
  const type = typ === undefined ? undefined : mediaType(typ)
  const typed = form === 'wrapped' || type === 'at+jwt' || (!strict && (type === undefined || type === 'jwt'))
  const accepted = strict ? 'at+jwt (token_profile: lenient also takes JWT or none)' : 'at+jwt, JWT or none'
  trail?.({ stage: 'verify.typ', passed: typed, is: typ ?? 'absent', wanted: accepted })
  if (!typed) return deny('type_mismatch')
  // No key is called by the empty string: looking for one would be a fetch for everybody who asks.
  const named = kid === undefined ? !issuer.requireKid : kid !== ''
  trail?.({ stage: 'verify.kid', passed: named, is: kid ?? 'absent', wanted: 'the name of a key' })
  if (!named) return deny('key_unknown')
  if (isRefusedDemo(kid, issuer, trail)) return deny('demo_key')
  const verifies = (key: VerificationKey) => checkSignature(signed, algorithm, key) === undefined
  return { kind: 'header', wanted: { kid, algorithm, iat: signed.unverified['iat'], verifies } }
}

/** Whether a key is one of a demonstration, and its issuer is not on this machine: everybody may hold it. */
function isRefusedDemo(kid: string | undefined, issuer: TrustedIssuer, trail?: Trail): boolean {
  const refused = kid?.startsWith('demo-') === true && !issuer.demoKeys
  if (refused)
    trail?.({ stage: 'verify.demo', passed: false, is: 'a demonstration key', wanted: 'an issuer on this machine' })
  return refused
}

/** Checks that a key fits the algorithm and made the signature; if not, a denial `alg_not_allowed` or `signature_invalid`. */
export function checkSignature(
  { jws }: SignedToken,
  algorithm: SignatureAlgorithm,
  key: VerificationKey,
  trail?: Trail,
): Deny | undefined {
  const fits = key.algorithms.includes(algorithm)
  trail?.({
    stage: 'verify.key',
    passed: fits,
    is: `a key for ${key.algorithms.join(', ')}`,
    wanted: `one for ${algorithm}`,
  })
  if (!fits) return deny('alg_not_allowed')
  const passed = verifySignature(jws, algorithm, key)
  trail?.({ stage: 'verify.signature', passed, is: passed ? 'by this key' : 'not by this key', wanted: 'by this key' })
  return passed ? undefined : deny('signature_invalid')
}

const requiredClaims = ['exp', 'sub', 'client_id', 'iat', 'jti'] as const
// OpenID Connect Core §2 and §3.3.2.11: what only ID tokens carry.
const idTokenMarkers = ['nonce', 'at_hash', 'c_hash', 's_hash'] as const

/**
 * Reads the claims of a token whose signature was verified, and checks what does not depend on the rule.
 *
 * @param form A wrapper's claims are metadata: only its lifetime is asked for.
 * @returns The facts, or a denial: `demo_key`, `jwt_malformed`, `claim_missing`, `type_mismatch`, `token_lifetime`, one
 *   of `checkTimes`, or `wrapper_invalid` for a wrapper without `exp`.
 */
export function checkClaims(
  { unverified }: SignedToken,
  form: 'jwt' | 'wrapped',
  issuer: TrustedIssuer,
  key: VerificationKey,
  wallMs: number,
  trail?: Trail,
): Principal | Deny {
  // A token without kid does not say which key it will turn out to be.
  if (isRefusedDemo(key.kid, issuer, trail)) return deny('demo_key')
  const claims = readClaims(unverified)
  if (typeof claims === 'string') {
    const is = `${claims} has the wrong type, size or range`
    trail?.({ stage: 'verify.claims', passed: false, is, wanted: 'claims as RFC 7519 §4.1 has them' })
    return deny('jwt_malformed')
  }
  const missing = missingClaim(claims, form, issuer)
  const is = missing === undefined ? 'complete' : `no ${missing}`
  trail?.({ stage: 'verify.claims', passed: missing === undefined, is, wanted: 'every claim this issuer owes' })
  if (missing !== undefined) return deny(form === 'wrapped' ? 'wrapper_invalid' : 'claim_missing')
  const other = form === 'jwt' && issuer.tokenProfile === 'lenient' ? otherKind(claims) : undefined
  if (other !== undefined) {
    trail?.({ stage: 'verify.kind', passed: false, is: `another kind, by ${other}`, wanted: 'an access token' })
    return deny('type_mismatch')
  }
  // A token that names no start is at least measured from now on: from the latest that `iat` may be, so that one that is
  // as long as it may be is not refused while it is new. One with an `iat` may last as long from now on, and no longer.
  const lifeS = (claims.exp ?? 0) - (claims.iat ?? wallMs / 1000 + issuer.leewayS)
  const passed = lifeS <= issuer.maxLifetimeS
  trail?.({
    stage: 'verify.lifetime',
    passed,
    is: `${Math.round(lifeS)} s`,
    wanted: `at most ${issuer.maxLifetimeS} s`,
  })
  if (!passed) return deny('token_lifetime')
  // What goes on is judged, and told, with every request.
  return (
    checkUntold(claims, issuer, wallMs, trail) ?? {
      kind: 'principal',
      issuer,
      form,
      claims,
      wrapper: undefined,
      key,
      askedMs: undefined,
    }
  )
}

function missingClaim(claims: Claims, form: TokenForm, issuer: TrustedIssuer): string | undefined {
  if (claims.exp === undefined) return 'exp'
  if (form === 'wrapped') return undefined
  // product.md §6: what the feed could not name, it could not revoke.
  if (issuer.pollIntervalMs !== undefined && claims.iat === undefined) return 'iat'
  if (issuer.pollIntervalMs !== undefined && claims.jti === undefined) return 'jti'
  if (issuer.tokenProfile !== 'rfc9068') return undefined
  if (claims.aud.length === 0) return 'aud'
  return requiredClaims.find((name) => claims[name] === undefined)
}

/** What makes a token no access token: an ID, refresh, userinfo or generic one; undefined where it may be one. */
function otherKind(claims: Claims): string | undefined {
  const { all, aud } = claims
  const said = saidKind(claims)
  if (said?.isAccess === false) return said.by
  const isSaid = said !== undefined
  // Keycloak copies the nonce into access tokens, too, where it is told to.
  const marker = idTokenMarkers.find((name) => name in all && !(name === 'nonce' && isSaid))
  if (marker !== undefined) return marker
  // `azpacr`: how the client has proven itself, in Entra's access tokens.
  if ('scope' in all || 'scp' in all || 'client_id' in all || 'azpacr' in all) return undefined
  const { azp } = all
  if (typeof azp !== 'string') return 'having neither scope nor client'
  // OpenID Connect Core §2: an ID token is for the client it was made for.
  return !isSaid && aud.includes(azp) ? 'having its client for its audience' : undefined
}

/**
 * Checks the times of a token, and its wrapper's, on the wall clock: on every request, also where its facts are known.
 *
 * @returns A denial `token_expired` or `token_not_yet_valid`, or undefined.
 * @see RFC 7519 §4.1.4, §4.1.5, §4.1.6
 */
export function checkTimes(principal: Principal, wallMs: number, trail?: Trail): Deny | undefined {
  const { claims, wrapper, issuer } = principal
  const untimely = checkTimesOf(claims, issuer, wallMs, trail)
  return wrapper === undefined ? untimely : (untimely ?? checkUntold(wrapper, issuer, wallMs, trail))
}

/** The same, told only where the token's way ends by it. */
function checkUntold(claims: Claims, issuer: TrustedIssuer, wallMs: number, trail?: Trail): Deny | undefined {
  const untimely = checkTimesOf(claims, issuer, wallMs)
  return untimely && checkTimesOf(claims, issuer, wallMs, trail)
}

function checkTimesOf(claims: Claims, issuer: TrustedIssuer, wallMs: number, trail?: Trail): Deny | undefined {
  const now = wallMs / 1000
  const { exp, nbf, iat } = claims
  const { leewayS } = issuer
  const expired = exp !== undefined && now >= exp + leewayS
  const early = (nbf !== undefined && now < nbf - leewayS) || (iat !== undefined && now < iat - leewayS)
  if (trail !== undefined) {
    trail({ stage: 'verify.exp', passed: !expired, is: at(exp, now), wanted: `later than ${leewayS} s ago` })
    const is = `nbf ${at(nbf, now)}, iat ${at(iat, now)}`
    trail({ stage: 'verify.nbf', passed: !early, is, wanted: `not later than ${leewayS} s from now` })
  }
  if (expired) return deny('token_expired')
  return early ? deny('token_not_yet_valid') : undefined
}

/** Checks that a token is for the audience its rule asks for, or else its issuer's; if not, a denial `audience_mismatch`. */
export function checkAudience(rule: Rule, principal: Principal, trail?: Trail): Deny | undefined {
  const { claims, wrapper, issuer, form } = principal
  const accepted = rule.audience ?? issuer.audience
  // An issuer may say that its introspection names no audience; a JWT that names none is for nobody.
  const unnamed = claims.aud.length === 0 && form !== 'jwt' && !issuer.requireAud
  const shell = wrapper === undefined || wrapper.aud.length === 0 || isFor(wrapper.aud, accepted)
  const passed = shell && (unnamed || isFor(claims.aud, accepted))
  trail?.({
    stage: 'verify.aud',
    passed,
    is: shell ? quoted(claims.aud) : `${quoted(wrapper.aud)} in the wrapper`,
    wanted: `one of ${quoted(accepted)}`,
  })
  return passed ? undefined : deny('audience_mismatch')
}

/** Whether one of the names is accepted. Every request comes by here: two loops, and nothing is made. */
function isFor(names: readonly string[], accepted: readonly string[]): boolean {
  for (const name of names) for (const each of accepted) if (name === each) return true
  return false
}

function at(seconds: number | undefined, now: number): string {
  if (seconds === undefined) return 'absent'
  const away = Math.round(seconds - now)
  return `${new Date(seconds * 1000).toISOString()} (${Math.abs(away)} s ${away < 0 ? 'ago' : 'from now'})`
}
