// The whole path behind the gate, with look-ups that a test answers: no socket, no waiting.
import assert from 'node:assert/strict'
import type { Json } from '../../src/base/json.ts'
import type { Principal } from '../../src/decision/decision.ts'
import type { Lookups } from '../../src/decision/lookups.ts'
import { createPolicy } from '../../src/decision/policy.ts'
import type { AccessRequest } from '../../src/decision/request.ts'
import { readAccessRequest } from '../../src/decision/request.ts'
import { compileRules, rulesOptions } from '../../src/decision/rules.ts'
import type { TrustedIssuer } from '../../src/decision/verify.ts'
import { trustIssuer, trustOptions } from '../../src/decision/verify.ts'
import type { Gateway } from '../../src/gateway.ts'
import { createGateway } from '../../src/gateway.ts'
import type { AskedAnswer } from '../../src/spec/introspection.ts'
import { parseIntrospectionAnswer } from '../../src/spec/introspection.ts'
import type { VerificationKey } from '../../src/spec/jwk.ts'
import { vetJwk } from '../../src/spec/jwk.ts'
import type { RevocationHit } from '../../src/spec/revocation.ts'
import type { TestClock } from './clock.ts'
import { createTestClock, startS } from './clock.ts'
import type { Signer } from './tokens.ts'
import { accessClaims, createSigner } from './tokens.ts'

/** The first issuer's key, somebody else's by the same name, and one for demonstration. */
export const signer: Signer = createSigner('a')
export const stranger: Signer = createSigner('a')
export const demo: Signer = createSigner('demo-1')
/** The issuer most rules accept, which can be introspected; and one that cannot. */
export const main = 'https://main.test'
export const other = 'https://other.test'

const rules = rulesOptions.parse([
  { id: 'read', match: { methods: ['GET'], path: '/orders/**' }, scopes: ['orders:read'], issuers: [main] },
  { id: 'live', match: { path: '/live' }, freshness: 'always', issuers: [main] },
  { id: 'web', match: { path: '/web' }, claims: { client_id: ['mobile'] } },
  { id: 'report', match: { path: '/report' }, audience: 'reports-api', issuers: [main] },
  { id: 'other', match: { path: '/other' }, issuers: [other] },
  { id: 'admin', match: { path: '/orders/@all' } },
  { id: 'open', match: { path: '/open' }, public: true },
])

/** What a list says of a token that is revoked by its `jti`. */
export const listed: RevocationHit = { kind: 'jti', cause: 'admin' }

/** What the gateway asks for on the way, in order, and what a test has it told. */
export type World = {
  readonly gateway: Gateway
  readonly clock: TestClock
  readonly main: TrustedIssuer
  readonly asked: string[]
  readonly facts: Map<string, Principal>
  key: Lookups['key']
  introspect: (token: string) => AskedAnswer | Promise<AskedAnswer>
  revoked: Lookups['revoked']
  holds: boolean
  areStale: boolean
}

/** Makes one, where the first issuer may be told to be different. */
export function world(change: Partial<TrustedIssuer> = {}): World {
  const clock = createTestClock()
  const asked: string[] = []
  const facts = new Map<string, Principal>()
  const can = { answersMaxAgeMs: 30_000, pollIntervalMs: 60_000 }
  const trusted = {
    ...trustIssuer(trustOptions.parse({ issuer: main, audience: 'orders-api', opaque: true }), can),
    ...change,
  }
  const second = trustIssuer(trustOptions.parse({ issuer: other, audience: 'orders-api' }), {
    ...can,
    answersMaxAgeMs: undefined,
  })
  const policy = createPolicy(compileRules(rules), [trusted, second])
  const it: World = {
    clock,
    asked,
    facts,
    main: trusted,
    key: (_issuer, { kid, verifies }) => {
      const key = [signer, demo]
        .map(({ jwk }) => keyOf(jwk))
        .find((each) => (kid === undefined ? verifies(each) : each.kid === kid))
      return key === undefined ? { kind: 'unknown' } : { kind: 'key', key }
    },
    introspect: () => answer({ active: true, ...accessClaims(main, startS) }),
    revoked: () => 'clear',
    holds: true,
    areStale: false,
    gateway: createGateway(
      policy,
      {
        known(token, opaqueIssuer) {
          asked.push('known')
          return facts.get(token) ?? facts.get(`${opaqueIssuer?.issuer} ${token}`)
        },
        remember(token, principal) {
          asked.push('remember')
          facts.set(principal.form === 'opaque' ? `${principal.issuer.issuer} ${token}` : token, principal)
        },
        forget(token, issuer) {
          asked.push('forget')
          for (const key of [token, `${issuer.issuer} ${token}`]) facts.delete(key)
        },
        holdsKey: () => it.holds,
        keysAreStale: () => it.areStale,
        key(issuer, wanted) {
          asked.push(`key ${issuer.issuer}`)
          return it.key(issuer, wanted)
        },
        introspect(issuer, token) {
          asked.push(`introspect ${issuer.issuer}`)
          return it.introspect(token)
        },
        revoked(principal) {
          asked.push('revoked')
          return it.revoked(principal)
        },
      },
      clock,
    ),
  }
  return it
}

function keyOf(jwk: Readonly<Record<string, unknown>>): VerificationKey {
  const key = vetJwk(jwk as Json) // what node:crypto exported
  assert.ok(typeof key !== 'string', String(key))
  return key
}

/** What an issuer says of a token. */
export function answer(body: Record<string, unknown>): AskedAnswer {
  const parsed = parseIntrospectionAnswer(body as Json) // written here
  assert.ok(typeof parsed !== 'string', String(parsed))
  return { kind: 'answer', answer: parsed, askedMs: 50_000 }
}

/** A GET of a path, with these Authorization lines, from a client that has shown this certificate. */
export function requestFor(path: string, authorization: readonly string[], certificate?: string): AccessRequest {
  const raw = { method: 'GET', target: path, host: ['api.test'], authorization, arrivedMs: 50_000, certificate }
  const request = readAccessRequest(raw, { hosts: new Set() })
  assert.ok(request.kind === 'request', path)
  return request
}

/** A GET with this token, from a client that has shown this certificate. */
export function bearer(token: string, path = '/orders/7', certificate?: string): AccessRequest {
  return requestFor(path, [`Bearer ${token}`], certificate)
}

/** A good access token of the first issuer, with claims and header changed. */
export function jwt(more: Record<string, unknown> = {}, header: Record<string, unknown> = {}): string {
  return signer.sign(accessClaims(main, startS, more), header)
}

/** A good wrapper of the first issuer, with claims changed. */
export function shell(more: Record<string, unknown> = {}): string {
  return jwt({ scope: undefined, jti: 'w', ...more }, { typ: 'wo+jwt' })
}
