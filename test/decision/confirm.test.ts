import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '../../src/base/json.ts'
import { confirm } from '../../src/decision/confirm.ts'
import type { Principal } from '../../src/decision/decision.ts'
import { readClaims } from '../../src/spec/claims.ts'

const shown = 'bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2'
const another = 'awcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2'

function claims(cnf: unknown) {
  const read = readClaims((cnf === undefined ? {} : { cnf }) as JsonObject) // written here
  assert.ok(typeof read !== 'string')
  return read
}

const rows = [
  { cnf: undefined, certificate: undefined, reason: undefined },
  { cnf: undefined, certificate: shown, reason: undefined },
  { cnf: { 'x5t#S256': shown }, certificate: shown, reason: undefined },
  { cnf: { 'x5t#S256': shown }, certificate: undefined, reason: 'proof_missing' },
  { cnf: { 'x5t#S256': shown }, certificate: another, reason: 'certificate_mismatch' },
  { cnf: { 'x5t#S256': `${shown}=` }, certificate: shown, reason: 'certificate_mismatch' },
  { cnf: { 'x5t#S256': shown.slice(0, -1) }, certificate: shown, reason: 'certificate_mismatch' },
  { cnf: { 'x5t#S256': shown.toLowerCase() }, certificate: shown, reason: 'certificate_mismatch' },
  { cnf: { 'x5t#S256': '' }, certificate: shown, reason: 'certificate_mismatch' },
  { cnf: { 'x5t#S256': '\u20ac'.repeat(43) }, certificate: shown, reason: 'certificate_mismatch' },
  { cnf: { 'x5t#S256': [shown] }, certificate: shown, reason: 'proof_missing' },
  { cnf: { x5t: shown }, certificate: shown, reason: 'proof_missing' },
  { cnf: { jkt: shown }, certificate: shown, reason: 'proof_missing' },
  { cnf: { 'x5t#S256': shown, jkt: 'x' }, certificate: shown, reason: 'proof_missing' },
  { cnf: {}, certificate: shown, reason: 'proof_missing' },
] as const
for (const { cnf, certificate, reason } of rows) {
  const named = `${JSON.stringify(cnf) ?? 'no cnf'} with ${certificate === undefined ? 'no certificate' : certificate === shown ? 'one' : 'another one'}`
  for (const place of ['the token', 'its wrapper'] as const) {
    test(`confirm() says ${reason ?? 'nothing'} for ${named} in ${place}`, () => {
      const bound = claims(cnf)
      const principal = {
        claims: place === 'the token' ? bound : claims(undefined),
        wrapper: place === 'the token' ? undefined : bound,
      } as Principal // all that is looked at
      const passed: boolean[] = []

      const refused = confirm(principal, certificate, (step) => passed.push(step.passed))

      assert.equal(refused?.reason, reason)
      assert.deepEqual(passed, [reason === undefined])
    })
  }
}

test('confirm() tells of a token without cnf, which is of a type to be proven, that it needs a proof, and not of what it lacks', () => {
  const read = readClaims({ token_type: 'DPoP' })
  const told: string[] = []

  const refused = confirm({ claims: read } as Principal, shown, (step) => told.push(step.is))

  assert.equal(refused?.reason, 'proof_missing')
  assert.match(told.join(), /^a token that needs another proof than a certificate \(by its cnf or type\), with /)
})

test('confirm() wants the binding of a wrapper and that of its answer, both', () => {
  const both = { claims: claims({ 'x5t#S256': shown }), wrapper: claims({ 'x5t#S256': another }) } as Principal

  for (const certificate of [shown, another]) assert.equal(confirm(both, certificate)?.reason, 'certificate_mismatch')
})
