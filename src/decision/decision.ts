import type { Claims } from '../spec/claims.ts'
import type { VerificationKey } from '../spec/jwk.ts'
import type { Rule } from './rules.ts'
import type { TrustedIssuer } from './verify.ts'

/** What a reason means: HTTP status, RFC 6750 §3.1 error code (null: none is sent), and the sentence for people. */
export type DenyMeaning = {
  readonly status: number
  readonly error: 'invalid_request' | 'invalid_token' | 'insufficient_scope' | null
  readonly help: string
}

/**
 * Every way to say no, in one table: the metric label, the log field, the word in `explain` and in the docs.
 * It holds only what this build can produce.
 */
export const denyReasons = {
  request_malformed: {
    status: 400,
    error: null,
    help: 'The request is not HTTP by the strict grammar, or its Host is bad or not one of ours.',
  },
  path_rejected: {
    status: 400,
    error: null,
    help: 'The path can be read in two ways, or holds an escape its rule does not allow.',
  },
  too_large: { status: 431, error: null, help: 'The head, the target or the body is over its limit.' },
  transport_insecure: {
    status: 403,
    error: null,
    help: 'The request came by plain HTTP, and the configuration says `require_https`.',
  },
  no_rule: { status: 403, error: null, help: 'No rule matches this method, host and path.' },
  // RFC 6750 §3.1: a request without credentials gets a challenge, but no error code.
  token_missing: { status: 401, error: null, help: 'The rule needs a token and none was sent.' },
  token_malformed: { status: 400, error: 'invalid_request', help: 'The credential is not token68, or too long.' },
  token_repeated: { status: 400, error: 'invalid_request', help: 'The request has more than one Authorization line.' },
  jwt_malformed: {
    status: 401,
    error: 'invalid_token',
    help: 'The token looks like a JWT and is not one by the strict grammar.',
  },
  alg_not_allowed: {
    status: 401,
    error: 'invalid_token',
    help: 'The token is signed with an algorithm this issuer is not configured for, or that does not fit its key.',
  },
  issuer_unknown: { status: 401, error: 'invalid_token', help: 'The token is not from an issuer this rule accepts.' },
  key_unknown: {
    status: 401,
    error: 'invalid_token',
    help: "The issuer's key set, fetched lately, has no usable key of this kid.",
  },
  signature_invalid: { status: 401, error: 'invalid_token', help: 'The signature is not by the key the token names.' },
  token_expired: { status: 401, error: 'invalid_token', help: '`exp` has passed.' },
  token_not_yet_valid: { status: 401, error: 'invalid_token', help: '`nbf` or `iat` is in the future.' },
  token_lifetime: { status: 401, error: 'invalid_token', help: 'The token lives longer than `max_token_lifetime`.' },
  audience_mismatch: { status: 401, error: 'invalid_token', help: 'The token is for another audience.' },
  type_mismatch: { status: 401, error: 'invalid_token', help: 'The token is not an access token by its `typ` or use.' },
  claim_missing: {
    status: 401,
    error: 'invalid_token',
    help: 'A claim that every token of this issuer needs is absent.',
  },
  wrapper_invalid: {
    status: 401,
    error: 'invalid_token',
    help: "The wrapper is broken, or contradicts its issuer's answer.",
  },
  decryption_failed: {
    status: 401,
    error: 'invalid_token',
    help: 'The token is encrypted, and no key here decrypts it.',
  },
  demo_key: {
    status: 401,
    error: 'invalid_token',
    help: 'A demonstration key signed the token, and its issuer is not on this machine.',
  },
  token_inactive: {
    status: 401,
    error: 'invalid_token',
    help: 'The issuer says the token is not active, or says other things of it than the token itself.',
  },
  token_revoked: { status: 401, error: 'invalid_token', help: 'The token is on the blacklist.' },
  proof_missing: {
    status: 401,
    error: 'invalid_token',
    help: 'The token is bound (by `cnf` or by its type, as DPoP), and came without its certificate, or bound in a way this build does not check.',
  },
  certificate_mismatch: {
    status: 401,
    error: 'invalid_token',
    help: "The token is bound to another certificate (`cnf`) than the client's.",
  },
  scope_missing: { status: 403, error: 'insufficient_scope', help: 'A scope that the rule needs is absent.' },
  claim_mismatch: { status: 403, error: 'insufficient_scope', help: 'A claim condition of the rule is not met.' },
  keys_unavailable: {
    status: 503,
    error: null,
    help: "The issuer's keys could not be loaded, are too old, or the key may be newer than our last look.",
  },
  introspection_unavailable: {
    status: 503,
    error: null,
    help: "The issuer's introspection endpoint is down or slow.",
  },
  introspection_invalid: {
    status: 503,
    error: null,
    help: "The issuer's introspection answer is no verdict, as when it refuses the gateway's own credentials, or is over 64 KiB or 4096 JSON members.",
  },
  blacklist_stale: {
    status: 503,
    error: null,
    help: "The issuer's blacklist was never loaded, is too old, or could not be asked.",
  },
  overloaded: {
    status: 503,
    error: null,
    help: 'A queue of ours is full: for the service behind the gateway, or of questions about tokens to their issuer.',
  },
  internal_error: { status: 500, error: null, help: 'A bug of ours.' },
} as const satisfies Record<string, DenyMeaning>

/** The word for one way to say no. */
export type DenyReason = keyof typeof denyReasons

/** Every way in which the facts about a token are come by; the values of the `path` label of the duration metric. */
export const decisionPaths = ['jwt_cached', 'jwt_verified', 'introspect_cached', 'introspect_remote', 'none'] as const

/** How the facts about a token were come by. */
export type DecisionPath = (typeof decisionPaths)[number]

/**
 * A no. It carries what the client may learn and what the metrics need; what was compared goes into the trail only.
 *
 * @example { kind: 'deny', reason: 'scope_missing', rule, issuer, form: 'jwt', path: 'jwt_cached' }
 */
export type Deny = {
  readonly kind: 'deny'
  readonly reason: DenyReason
  /** The rule that matched, once one did. */
  readonly rule?: Rule | undefined
  /** The configured issuer the token is of, once that is known. */
  readonly issuer?: TrustedIssuer | undefined
  /** Seconds until asking again may help (503). */
  readonly retryAfterS?: number | undefined
  /** Instead of the table's status: 413 and 414 are `too_large` too. */
  readonly status?: number | undefined
  /** The form of the token, once that is known. */
  readonly form?: TokenForm | undefined
  readonly path?: DecisionPath | undefined
}

/** A yes: the permit without which nothing reaches the upstream. */
export type Allow = {
  readonly kind: 'allow'
  readonly reason: 'ok' | 'public'
  readonly rule: Rule
  /** Null on a public rule, where nothing was read. */
  readonly principal: Principal | null
  readonly path: DecisionPath
}

/** What becomes of one request. */
export type Decision = Allow | Deny

/** Everything that a token may be (product.md §9). */
export const tokenForms = ['jwt', 'wrapped', 'opaque'] as const

/** What a token turned out to be. */
export type TokenForm = (typeof tokenForms)[number]

/** The verified facts of one token. Facts, never a verdict: every request judges them anew. */
export type Principal = {
  readonly kind: 'principal'
  readonly issuer: TrustedIssuer
  readonly form: TokenForm
  readonly claims: Claims
  /** What the wrapper itself says: it can get the token revoked, never let it in. Undefined where there is none. */
  readonly wrapper: Claims | undefined
  /** The key that signed the token or its wrapper; undefined for an opaque token. */
  readonly key: VerificationKey | undefined
  /** When the issuer was last asked about it (monotonic ms); undefined when it never was. */
  readonly askedMs: number | undefined
}

/** One comparison on the way to a decision, for `explain`: holds claim values, so it is never logged. */
export type TrailStep = {
  /** A stage's name, such as `verify.aud`. */
  readonly stage: string
  readonly passed: boolean
  /** What was found. */
  readonly is: string
  /** What would pass. */
  readonly wanted: string
}

/** Where the steps of one decision are put down, when somebody asks for them. */
export type Trail = (step: TrailStep) => void

/** Makes a denial that knows nothing but its reason. */
export function deny(reason: DenyReason): Deny {
  return { kind: 'deny', reason }
}

/** Values as a trail tells them: each in quotes, so that no two differ that look alike; `none` of no values. */
export function quoted(values: readonly (string | number | boolean)[]): string {
  return values.map((each) => JSON.stringify(each)).join(', ') || 'none'
}
