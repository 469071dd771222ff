// Bounds to the second, and what one profile or form of token forgives and another does not.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TrustedIssuer } from '../../src/decision/verify.ts'
import { startS } from '../support/clock.ts'
import { answer, bearer, jwt, shell, world } from '../support/gateway-world.ts'

const lenient = { tokenProfile: 'lenient' } as const
const rows: readonly {
  readonly what: string
  readonly token: string
  readonly change?: Partial<TrustedIssuer>
  readonly reason: string
}[] = [
  { what: 'that begins as long from now as the clocks may differ', token: jwt({ nbf: startS + 30 }), reason: 'ok' },
  { what: 'that begins a second later', token: jwt({ nbf: startS + 31 }), reason: 'token_not_yet_valid' },
  {
    what: 'that was issued as long from now as the clocks may differ',
    token: jwt({ iat: startS + 30 }),
    reason: 'ok',
  },
  { what: 'that was issued a second later', token: jwt({ iat: startS + 31 }), reason: 'token_not_yet_valid' },
  { what: 'that has ended a second less ago than that', token: jwt({ exp: startS - 29 }), reason: 'ok' },
  { what: 'that has ended as long ago as that', token: jwt({ exp: startS - 30 }), reason: 'token_expired' },
  { what: 'that lives as long as one may', token: jwt({ exp: startS + 86_400 }), reason: 'ok' },
  { what: 'that lives a second longer', token: jwt({ exp: startS + 86_401 }), reason: 'token_lifetime' },
  {
    what: 'that lives as long as one may, from as late as it may have been issued',
    token: jwt({ iat: startS + 30, exp: startS + 86_430 }),
    reason: 'ok',
  },
  {
    what: 'without iat that lasts as long from now on',
    token: jwt({ iat: undefined, exp: startS + 86_430 }),
    change: { ...lenient, pollIntervalMs: undefined },
    reason: 'ok',
  },
  {
    what: 'without iat that lasts a second longer than that',
    token: jwt({ iat: undefined, exp: startS + 86_431 }),
    change: { ...lenient, pollIntervalMs: undefined },
    reason: 'token_lifetime',
  },
  {
    what: 'without iat, which no list could name by its time',
    token: jwt({ iat: undefined }),
    change: lenient,
    reason: 'claim_missing',
  },
  {
    what: 'without jti, which no list could name',
    token: jwt({ jti: undefined }),
    change: lenient,
    reason: 'claim_missing',
  },
  {
    what: 'without jti and iat where there is no list',
    token: jwt({ iat: undefined, jti: undefined }),
    change: { ...lenient, pollIntervalMs: undefined },
    reason: 'ok',
  },
  {
    what: 'without aud, whatever answers about opaque ones may leave out',
    token: jwt({ aud: undefined }),
    change: { ...lenient, requireAud: false },
    reason: 'audience_mismatch',
  },
  {
    what: 'for another audience, whatever answers about opaque ones may leave out',
    token: jwt({ aud: 'another-api' }),
    change: { requireAud: false },
    reason: 'audience_mismatch',
  },
  {
    what: 'of type at+jwt with a nonce, which only a lenient issuer needs to be told from an ID token by',
    token: jwt({ nonce: 'n' }),
    reason: 'ok',
  },
  {
    what: 'without a client, which its scope marks as an access token',
    token: jwt({ client_id: undefined }),
    change: lenient,
    reason: 'ok',
  },
]
for (const { what, token, change, reason } of rows) {
  test(`decide() says ${reason} of a JWT ${what}`, async () => {
    const it = world(change)

    assert.equal((await it.gateway.decide(bearer(token))).reason, reason)
  })
}

test('decide() takes a JWT without iat that lives as long as one may, however new it is and however clocks differ', async () => {
  for (const aheadS of [-30, 0, 30]) {
    const it = world({ ...lenient, pollIntervalMs: undefined })
    const token = jwt({ iat: undefined, exp: startS + aheadS + 86_400 })

    for (let passed = 0; passed < 120; passed += 10) {
      it.facts.clear()
      assert.equal((await it.gateway.decide(bearer(token))).reason, 'ok')
      it.clock.pass(10_000)
    }
  }
})

const named = [
  { aud: undefined, requireAud: true, reason: 'audience_mismatch' },
  { aud: undefined, requireAud: false, reason: 'ok' },
  { aud: 'another-api', requireAud: false, reason: 'audience_mismatch' },
  { aud: ['another-api', 'orders-api'], requireAud: false, reason: 'ok' },
] as const
for (const { aud, requireAud, reason } of named) {
  test(`decide() says ${reason} of an opaque token for ${JSON.stringify(aud) ?? 'nobody'} with require_aud: ${requireAud}`, async () => {
    const it = world({ requireAud })
    const body = { active: true, scope: 'orders:read', jti: 'j' }
    it.introspect = () => answer(aud === undefined ? body : { ...body, aud })

    assert.equal((await it.gateway.decide(bearer('opaque'))).reason, reason)
  })
}

test('decide() asks for no mark of an access token in a wrapper, also of a lenient issuer', async () => {
  const it = world(lenient)
  it.introspect = () => answer({ active: true, aud: 'orders-api', scope: 'orders:read', jti: 'w' })

  assert.equal((await it.gateway.decide(bearer(shell({ client_id: undefined })))).reason, 'ok')
})
