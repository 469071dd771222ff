import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JsonObject } from '../../src/base/json.ts'
import type { WrappedMark } from '../../src/spec/wrapped-token.ts'
import { isWrapped } from '../../src/spec/wrapped-token.ts'

const cases: readonly {
  readonly mark: WrappedMark
  readonly header?: { readonly typ?: string; readonly kid?: string }
  readonly claims?: JsonObject
  readonly wrapped: boolean
}[] = [
  { mark: { typ: ['wo+jwt'] }, header: { typ: 'wo+jwt' }, wrapped: true },
  { mark: { typ: ['wo+jwt'] }, header: { typ: 'application/WO+jwt' }, wrapped: true },
  { mark: { typ: ['Application/WO+JWT'] }, header: { typ: 'wo+jwt' }, wrapped: true },
  { mark: { typ: ['x', 'wo+jwt'] }, header: { typ: 'wo+jwt' }, wrapped: true },
  { mark: { typ: ['wo+jwt'] }, header: { typ: 'at+jwt' }, wrapped: false },
  { mark: { typ: ['wo+jwt'] }, header: {}, wrapped: false },
  { mark: { kid: ['w1', 'w2'] }, header: { kid: 'w2' }, wrapped: true },
  { mark: { kid: ['w1', 'w2'] }, header: { kid: 'W2' }, wrapped: false },
  { mark: { kid: ['w1', 'w2'] }, header: {}, wrapped: false },
  { mark: { claim_present: 'ref' }, claims: { ref: '' }, wrapped: true },
  { mark: { claim_present: 'ref' }, claims: { ref: false }, wrapped: true },
  { mark: { claim_present: 'ref' }, claims: { ref: null }, wrapped: false },
  { mark: { claim_present: 'ref' }, claims: {}, wrapped: false },
  { mark: { claim_absent: 'scope' }, claims: {}, wrapped: true },
  { mark: { claim_absent: 'scope' }, claims: { scope: null }, wrapped: true },
  { mark: { claim_absent: 'scope' }, claims: { scope: '' }, wrapped: false },
  // Every mark that is given has to be there.
  { mark: { typ: ['w'], kid: ['k'] }, header: { typ: 'w', kid: 'k' }, wrapped: true },
  { mark: { typ: ['w'], kid: ['k'] }, header: { typ: 'w', kid: 'x' }, wrapped: false },
  { mark: { typ: ['w'], kid: ['k'] }, header: { typ: 'x', kid: 'k' }, wrapped: false },
  { mark: { kid: ['k'], claim_present: 'ref' }, header: { kid: 'k' }, wrapped: false },
  { mark: { claim_present: 'ref', claim_absent: 'scope' }, claims: { ref: 1 }, wrapped: true },
  { mark: { claim_present: 'ref', claim_absent: 'scope' }, claims: { ref: 1, scope: 'a' }, wrapped: false },
]
for (const { mark, header = {}, claims = {}, wrapped } of cases) {
  test(`isWrapped() is ${wrapped} by ${JSON.stringify(mark)} of ${JSON.stringify(header)} and ${JSON.stringify(claims)}`, () => {
    const { typ, kid } = header

    assert.equal(isWrapped(mark, { alg: 'ES256', typ, kid, carriesKey: false }, claims), wrapped)
  })
}
