import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Json } from '../../src/base/json.ts'
import { maxNumericDate } from '../../src/base/time.ts'
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

const longest = { iss: 512, sub: 1024, jti: 256, sid: 256, client_id: 256, azp: 256 } as const
for (const [name, bytes] of Object.entries(longest)) {
  test(`readClaims() reads ${name} of ${bytes} bytes, and refuses it a byte longer or of another type`, () => {
    for (const value of ['', 'x'.repeat(bytes), 'é'.repeat(bytes / 2)])
      assert.equal(typeof readClaims({ [name]: value }), 'object', value)
    for (const value of ['x'.repeat(bytes + 1), `${'é'.repeat(bytes / 2)}x`, 1, null, true, ['x'], {}])
      assert.equal(readClaims({ [name]: value }), name)
  })
}

for (const name of ['exp', 'nbf', 'iat'] as const) {
  test(`readClaims() reads ${name} from 1970 to the end of the year 9999, fractions too, and nothing else`, () => {
    for (const value of [0, 0.5, 1_767_225_600, maxNumericDate]) {
      const claims = readClaims({ [name]: value })
      assert.equal(typeof claims === 'string' ? claims : claims[name], value)
    }
    for (const value of [-0.1, maxNumericDate + 1, '1767225600', null, true, [1], {}])
      assert.equal(readClaims({ [name]: value }), name)
  })
}

const wrong = [
  { all: { aud: 1 }, by: 'aud' },
  { all: { aud: null }, by: 'aud' },
  { all: { aud: ['a', 1] }, by: 'aud' },
  { all: { aud: { a: 1 } }, by: 'aud' },
  { all: { cnf: null }, by: 'cnf' },
  { all: { cnf: 'x' }, by: 'cnf' },
  { all: { cnf: [] }, by: 'cnf' },
  { all: { scope: null, scp: 'a' }, by: 'scope' },
  { all: { scope: ['a', 1] }, by: 'scope' },
  { all: { scp: 1 }, by: 'scp' },
  { all: { scp: null }, by: 'scp' },
] as const
for (const { all, by } of wrong) {
  test(`readClaims() refuses ${JSON.stringify(all)} by its ${by}`, () => {
    assert.equal(readClaims(all as Record<string, Json>), by)
  })
}

test('readClaims() has scp for scope only where there is no scope, and azp for client_id likewise', () => {
  assert.deepEqual(scopesOf({ scp: 'a b' }), ['a', 'b'])
  assert.deepEqual(scopesOf({ scope: '', scp: 'a' }), [])
  const clientOf = (all: Record<string, Json>) => {
    const claims = readClaims(all)
    return typeof claims === 'string' ? claims : claims.client_id
  }
  assert.equal(clientOf({ azp: 'app' }), 'app')
  assert.equal(clientOf({ client_id: 'web', azp: 'app' }), 'web')
})

test('readClaims() keeps a thousand scopes to share at most, and none of more than 512 characters', () => {
  const read = (scope: string) => {
    const claims = readClaims({ scope })
    assert.ok(typeof claims !== 'string')
    return claims.scopes
  }
  const quotes = 2
  const kept = 'k'.repeat(512 - quotes)

  const before = read(kept)
  assert.equal(read(kept), before)
  assert.notEqual(read(`${kept}k`), read(`${kept}k`))
  for (let count = 0; count < 1000; count += 1) read(`of its own ${count}`)
  assert.notEqual(read(kept), before)
})
