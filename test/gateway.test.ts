import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Deny, DenyReason, TrailStep } from '../src/decision/decision.ts'
import { denyReasons } from '../src/decision/decision.ts'
import type { AccessRequest } from '../src/decision/request.ts'
import type { TrustedIssuer } from '../src/decision/verify.ts'
import { startS } from './support/clock.ts'
import type { World } from './support/gateway-world.ts'
import {
  answer,
  bearer,
  demo,
  jwt,
  listed,
  main,
  other,
  requestFor,
  shell,
  stranger,
  world,
} from './support/gateway-world.ts'
import { accessClaims, segment } from './support/tokens.ts'

const shown = 'bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2'
const forged = stranger.sign(accessClaims(main, startS))
const stages: readonly {
  reason: DenyReason
  request: AccessRequest
  where?: (it: World) => void
  stage: string
  change?: Partial<TrustedIssuer>
}[] = [
  { reason: 'no_rule', request: bearer(jwt(), '/nothing'), stage: 'rules.match' },
  { reason: 'path_rejected', request: bearer(jwt(), '/orders/a%2Fb'), stage: 'rules.allow_encoded' },
  { reason: 'path_rejected', request: bearer(jwt(), '/orders/%40all'), stage: 'rules.escapes' },
  { reason: 'token_missing', request: requestFor('/orders/7', []), stage: 'extract' },
  { reason: 'token_repeated', request: requestFor('/orders/7', [`Bearer ${jwt()}`, 'Bearer x']), stage: 'extract' },
  { reason: 'token_malformed', request: bearer('x'.repeat(8193)), stage: 'extract' },
  { reason: 'token_malformed', request: bearer('a b'), stage: 'classify' },
  { reason: 'token_malformed', request: bearer('x'.repeat(4097)), stage: 'classify' },
  { reason: 'jwt_malformed', request: bearer('eyJhbGciOiJub25lIn0'), stage: 'classify' },
  {
    reason: 'decryption_failed',
    request: bearer(`${segment({ alg: 'dir', enc: 'A256GCM' })}.a.b.c.d`),
    stage: 'classify',
  },
  { reason: 'issuer_unknown', request: bearer(jwt({ iss: 'https://attacker.test' })), stage: 'verify.iss' },
  { reason: 'issuer_unknown', request: bearer(jwt({ iss: other })), stage: 'verify.iss' },
  { reason: 'jwt_malformed', request: bearer(jwt({ iss: 7 })), stage: 'verify.iss' },
  { reason: 'alg_not_allowed', request: bearer(jwt({}, { alg: 'HS256' })), stage: 'verify.alg' },
  { reason: 'alg_not_allowed', request: bearer(jwt({}, { alg: 'RS256' })), stage: 'verify.key' },
  {
    // The key fits it: only the issuer's own list is against it.
    reason: 'alg_not_allowed',
    request: bearer(jwt()),
    change: { algorithms: ['RS256'] },
    stage: 'verify.alg',
  },
  { reason: 'type_mismatch', request: bearer(jwt({}, { typ: 'JWT' })), stage: 'verify.typ' },
  { reason: 'key_unknown', request: bearer(jwt({}, { kid: undefined })), stage: 'verify.kid' },
  { reason: 'key_unknown', request: bearer(jwt({}, { kid: 'z' })), stage: 'verify.key' },
  { reason: 'demo_key', request: bearer(demo.sign(accessClaims(main, startS))), stage: 'verify.demo' },
  {
    reason: 'keys_unavailable',
    request: bearer(jwt()),
    where: (it) => {
      it.key = () => ({ kind: 'unavailable', retryAfterS: 7 })
    },
    stage: 'verify.key',
  },
  { reason: 'signature_invalid', request: bearer(forged), stage: 'verify.signature' },
  { reason: 'jwt_malformed', request: bearer(jwt({ exp: 'soon' })), stage: 'verify.claims' },
  { reason: 'claim_missing', request: bearer(jwt({ jti: undefined })), stage: 'verify.claims' },
  {
    reason: 'type_mismatch',
    request: bearer(jwt({ nonce: 'n' }, { typ: 'JWT' })),
    change: { tokenProfile: 'lenient' },
    stage: 'verify.kind',
  },
  { reason: 'token_lifetime', request: bearer(jwt({ exp: startS + 86_401 })), stage: 'verify.lifetime' },
  { reason: 'token_expired', request: bearer(jwt({ exp: startS - 30 })), stage: 'verify.exp' },
  { reason: 'token_not_yet_valid', request: bearer(jwt({ nbf: startS + 31 })), stage: 'verify.nbf' },
  { reason: 'wrapper_invalid', request: bearer(shell({ exp: undefined })), stage: 'verify.claims' },
  { reason: 'wrapper_invalid', request: bearer(shell({ sub: 'bob' })), stage: 'introspect.agrees' },
  { reason: 'issuer_unknown', request: bearer('opaque', '/other'), stage: 'introspect' },
  {
    reason: 'token_inactive',
    request: bearer('opaque'),
    where: (it) => {
      it.introspect = () => answer({ active: false })
    },
    stage: 'introspect.active',
  },
  {
    reason: 'issuer_unknown',
    request: bearer('opaque'),
    where: (it) => {
      it.introspect = () => answer({ active: true, iss: other })
    },
    stage: 'introspect.agrees',
  },
  {
    reason: 'type_mismatch',
    request: bearer('opaque'),
    where: (it) => {
      it.introspect = () => answer({ active: true, token_use: 'refresh' })
    },
    stage: 'introspect.use',
  },
  {
    reason: 'introspection_unavailable',
    request: bearer('opaque'),
    where: (it) => {
      it.introspect = () => ({ kind: 'unavailable', retryAfterS: 3 })
    },
    stage: 'introspect',
  },
  {
    reason: 'introspection_invalid',
    request: bearer('opaque'),
    where: (it) => {
      it.introspect = () => ({ kind: 'invalid', retryAfterS: 3 })
    },
    stage: 'introspect',
  },
  {
    reason: 'overloaded',
    request: bearer('opaque'),
    where: (it) => {
      it.introspect = () => ({ kind: 'overloaded', retryAfterS: 3 })
    },
    stage: 'introspect',
  },
  { reason: 'audience_mismatch', request: bearer(jwt({ aud: 'another-api' })), stage: 'verify.aud' },
  { reason: 'audience_mismatch', request: bearer(jwt(), '/report'), stage: 'verify.aud' },
  { reason: 'proof_missing', request: bearer(jwt({ cnf: { jkt: 'x' } })), stage: 'confirm' },
  { reason: 'proof_missing', request: bearer(jwt({ cnf: { 'x5t#S256': shown } })), stage: 'confirm' },
  {
    reason: 'certificate_mismatch',
    request: bearer(jwt({ cnf: { 'x5t#S256': shown } }), '/orders/7', 'another'),
    stage: 'confirm',
  },
  {
    reason: 'token_revoked',
    request: bearer(jwt()),
    where: (it) => {
      it.revoked = () => listed
    },
    stage: 'revocation',
  },
  {
    reason: 'blacklist_stale',
    request: bearer(jwt()),
    where: (it) => {
      it.revoked = () => Promise.resolve('stale')
    },
    stage: 'revocation',
  },
  { reason: 'scope_missing', request: bearer(jwt({ scope: 'orders:write' })), stage: 'authorize.scope' },
  { reason: 'claim_mismatch', request: bearer(jwt(), '/web'), stage: 'authorize.claims.client_id' },
]
for (const { reason, request, where, stage, change } of stages) {
  test(`decide() says ${reason} at ${stage}, and its trail ends there`, async () => {
    const it = world(change)
    where?.(it)
    const trail: TrailStep[] = []

    const decision = await it.gateway.decide(request, (step) => trail.push(step))

    assert.equal(decision.reason, reason)
    assert.deepEqual(
      trail.filter(({ passed }) => !passed).map((step) => step.stage),
      [stage],
    )
    for (const step of trail) assert.ok(step.is !== '' && step.wanted !== '', step.stage)
    // Nothing but a verified fact is ever kept.
    assert.equal(it.facts.size > 0, it.asked.includes('remember'))
    if (decision.kind === 'deny' && decision.path === undefined) assert.equal(it.facts.size, 0)

    const again = world(change)
    where?.(again)
    assert.equal((await again.gateway.decide(request)).reason, reason, 'a trail changes nothing')
  })
}

test('decide() reaches every reason there is, but for those of the listener', () => {
  const atTheDoor = ['request_malformed', 'transport_insecure', 'too_large', 'internal_error']
  const reached = new Set<string>([...stages.map(({ reason }) => reason), ...atTheDoor])

  assert.deepEqual(
    Object.keys(denyReasons).filter((reason) => !reached.has(reason)),
    [],
  )
})

const seconds = [
  { what: 'keys', reason: 'keys_unavailable', retryAfterS: 7 },
  { what: 'an answer', reason: 'introspection_unavailable', retryAfterS: 3 },
] as const
for (const { what, reason, retryAfterS } of seconds) {
  test(`decide() hands on when to come again for ${what}`, async () => {
    const row = stages.find((each) => each.reason === reason)
    assert.ok(row !== undefined)
    const it = world()
    row.where?.(it)

    assert.equal(((await it.gateway.decide(row.request)) as Deny).retryAfterS, retryAfterS) // the table says it denies
  })
}

test('decide() says how it came by the facts it judged by, the first time and again', async () => {
  const it = world()
  const token = jwt()
  const paths = async (each: string) => [
    (await it.gateway.decide(bearer(each))).path,
    (await it.gateway.decide(bearer(each))).path,
  ]

  assert.deepEqual(await paths(token), ['jwt_verified', 'jwt_cached'])
  assert.deepEqual(await paths('opaque'), ['introspect_remote', 'introspect_cached'])
})

const forms = [
  { token: 'opaque', form: 'opaque' },
  { token: shell(), form: 'wrapped' },
  { token: jwt(), form: 'jwt' },
] as const
for (const said of [{ kind: 'unavailable', retryAfterS: 3 }, answer({ active: false })] as const) {
  for (const { token, form } of forms) {
    test(`decide() says that a token was ${form} whose issuer is asked, where its answer is ${said.kind}`, async () => {
      const it = world({ revocation: 'introspect' })
      it.introspect = () => said

      const decision = await it.gateway.decide(bearer(token))

      assert.ok(decision.kind === 'deny')
      assert.deepEqual([decision.form, decision.path, decision.issuer?.issuer], [form, 'introspect_remote', main])
    })
  }
}
