import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Json } from '../../src/base/json.ts'
import { readClaims } from '../../src/spec/claims.ts'

function scopesOf(all: Record<string, Json>): readonly string[] | string {
  const claims = readClaims(all)
  return typeof claims === 'string' ? claims : [...claims.scopes]
}

const scopes = [
  { scope: 'a b', are: ['a', 'b'], because: 'a text is split at spaces (RFC 6749 §3.3)' },
  { scope: ['a b'], are: ['a b'], because: 'a member of a list is one scope, and none that a rule can name' },
  { scope: ['a', 'b'], are: ['a', 'b'], because: 'a list has a scope a member' },
  { scope: '["a","b"]', are: ['["a","b"]'], because: 'a text that looks like a list is none' },
  { scope: ' a  b ', are: ['a', 'b'], because: 'what stands between two spaces is nothing' },
  { scope: '', are: [], because: 'an empty text is none' },
  { scope: 1, are: 'scope', because: 'a number is no scope' },
] as const
test('readClaims() reads the scopes of a token for what they are, whatever other tokens had', () => {
  void fc.assert(
    fc.property(fc.array(fc.constantFrom(...scopes)), (tokens) => {
      for (const { scope, are, because } of tokens) assert.deepEqual(scopesOf({ scope }), are, because)
    }),
  )
})

test('readClaims() reads the scopes of ten thousand tokens with scopes of their own', () => {
  for (let count = 0; count < 10_000; count += 1)
    assert.deepEqual(scopesOf({ scope: `a s${count}` }), ['a', `s${count}`])
})
