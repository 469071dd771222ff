// What people are told of an answer from elsewhere, beside the denial it is for a request.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TrailStep } from '../../src/decision/decision.ts'
import type { Revocation } from '../../src/decision/lookups.ts'
import { checkRevocation, denyIntrospection } from '../../src/decision/lookups.ts'

const said: readonly { readonly revocation: Revocation; readonly is: string; readonly reason: string | undefined }[] = [
  { revocation: 'clear', is: 'clear', reason: undefined },
  { revocation: 1000, is: 'list too old, issuer asked instead', reason: undefined },
  { revocation: 'stale', is: 'stale', reason: 'blacklist_stale' },
  {
    revocation: { kind: 'sub', cause: 'owner' },
    is: "revoked by its sub, on the issuer's list (cause owner)",
    reason: 'token_revoked',
  },
  {
    revocation: { kind: 'kid', cause: 'local' },
    is: "revoked by its kid, on the operator's own list",
    reason: 'token_revoked',
  },
]
for (const { revocation, is, reason } of said) {
  test(`checkRevocation() says ${reason ?? 'nothing'} and tells the trail: ${is}`, () => {
    const trail: TrailStep[] = []
    const found = checkRevocation(revocation, (step) => trail.push(step))

    assert.equal(found?.reason, reason)
    assert.deepEqual(trail, [{ stage: 'revocation', passed: reason === undefined, is, wanted: 'clear' }])
  })
}

test('denyIntrospection() tells an issuer that did not answer from one that nobody could ask', () => {
  const trail: TrailStep[] = []
  const told = (step: TrailStep) => trail.push(step)

  assert.equal(denyIntrospection('impossible', told).reason, 'issuer_unknown')
  assert.equal(denyIntrospection({ kind: 'unavailable', retryAfterS: 3 }, told).reason, 'introspection_unavailable')
  assert.deepEqual(
    trail.map(({ is }) => is),
    ['no issuer of this rule that can be asked', 'unavailable'],
  )
})
