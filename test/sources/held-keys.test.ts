// What a set that is held says of a key, at once and without asking anybody.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import type { HeldKeys } from '../../src/sources/held-keys.ts'
import { createHeldKeys, maxKeySetBytes, readKeySet } from '../../src/sources/held-keys.ts'
import type { KeyWanted, VerificationKey } from '../../src/spec/jwk.ts'
import type { TestClock } from '../support/clock.ts'
import { createTestClock } from '../support/clock.ts'
import { setOf, signerA, signerB } from './key-endpoint.ts'

const staleMaxMs = 60_000
const weak = { kty: 'RSA', kid: 'weak', n: 'AQAB', e: 'AQAB' }
const both = JSON.stringify({ keys: [signerA.jwk, weak] })

function holding(document: string): { readonly clock: TestClock; readonly keys: HeldKeys } {
  const clock = createTestClock()
  const keys = createHeldKeys({ stale_max: staleMaxMs, leeway: 30_000 }, { clock })
  keys.take(Buffer.from(document), clock.monotonicMs(), clock.wallMs())
  return { clock, keys }
}

function wanted(clock: TestClock, kid: string | undefined, iatS?: number): KeyWanted {
  const iat = iatS ?? Math.floor(clock.wallMs() / 1000)
  return { kid, algorithm: 'ES256', iat, arrivedMs: clock.monotonicMs(), verifies: () => true }
}

function keyOf(keys: HeldKeys, clock: TestClock, kid: string): VerificationKey {
  const found = keys.find(wanted(clock, kid))
  assert.ok(found?.kind === 'key')
  return found.key
}

test('heldKeys.find() and holds() know a key up to stale_max, and tell nothing after it, whoever asks meanwhile', () => {
  const { clock, keys } = holding(setOf(signerA))
  const key = keyOf(keys, clock, 'a')

  clock.pass(staleMaxMs)
  assert.deepEqual([keys.isUsable(), keys.holds(key), keys.state().stale], [true, true, false])
  assert.equal(keys.find(wanted(clock, 'a'))?.kind, 'key')

  clock.pass(1)
  assert.deepEqual([keys.isUsable(), keys.holds(key), keys.state().stale], [false, false, true])
  for (const kid of ['a', 'b', undefined]) assert.equal(keys.find(wanted(clock, kid)), undefined, String(kid))

  keys.confirm(clock.monotonicMs(), clock.wallMs())
  assert.deepEqual([keys.isUsable(), keys.holds(key), keys.state().stale], [true, true, false])
})

test('heldKeys knows nothing before it has taken a set, and is confirmed in nothing', () => {
  const clock = createTestClock()
  const keys = createHeldKeys({ stale_max: staleMaxMs, leeway: 30_000 }, { clock })
  const { keys: others } = holding(setOf(signerA))
  keys.confirm(clock.monotonicMs(), clock.wallMs())

  assert.equal(keys.find(wanted(clock, 'a')), undefined)
  assert.equal(keys.holds(keyOf(others, clock, 'a')), false)
  assert.equal(keys.held(), undefined)
  assert.deepEqual(keys.state(), { loaded: false, keys: 0, stale: true, lastSuccessWallMs: undefined })
})

test('heldKeys.find() calls the kid of a key it has dropped unknown, and of no other says that', () => {
  const { clock, keys } = holding(both)
  clock.pass(1000)

  assert.deepEqual(keys.find(wanted(clock, 'weak')), { kind: 'unknown' })
  assert.equal(keys.find(wanted(clock, 'b')), undefined, 'it may be newer')
})

test('heldKeys.find() has a token be older than the set by more than the leeway and a second, on both clocks', () => {
  const { clock, keys } = holding(setOf(signerA))
  clock.pass(10_000)
  const fetchedS = clock.wallMs() / 1000 - 10

  assert.equal(keys.find(wanted(clock, 'b', fetchedS - 31)), undefined)
  assert.deepEqual(keys.find(wanted(clock, 'b', fetchedS - 31.001)), { kind: 'unknown' })
})

test('heldKeys.find() has a token without kid be of a newer key, also where a key without kid was dropped', () => {
  const { clock, keys } = holding(JSON.stringify({ keys: [signerA.jwk, { ...weak, kid: undefined }] }))
  clock.pass(1000)

  assert.equal(keys.find({ ...wanted(clock, undefined), verifies: () => false }), undefined)
})

test('heldKeys.find() takes no token for older than a set that was fetched while the clock was ahead', () => {
  const clock = createTestClock()
  const keys = createHeldKeys({ stale_max: staleMaxMs, leeway: 30_000 }, { clock })
  keys.take(Buffer.from(setOf(signerA)), clock.monotonicMs(), clock.wallMs() + 3_600_000)
  clock.pass(40_000)

  assert.equal(keys.find(wanted(clock, 'b')), undefined)
})

test('heldKeys.take() returns what is newly left out of a set, or for another reason, and counts what is left in', () => {
  const { clock, keys } = holding(both)
  const take = (...more: readonly object[]) =>
    keys
      .take(Buffer.from(JSON.stringify({ keys: [signerA.jwk, ...more] })), clock.monotonicMs(), clock.wallMs())
      .map(({ kid }) => kid)

  assert.deepEqual(take(weak), [])
  assert.deepEqual(take(weak, { ...weak, kid: 'weaker' }), ['weaker'])
  assert.deepEqual(take({ ...weak, n: 1 }), ['weak'], 'for another reason')
  assert.deepEqual(take(weak, { ...signerB.jwk, kid: undefined }), ['weak'])
  assert.deepEqual([keys.state().loaded, keys.state().keys], [true, 2])
})

test('readKeySet() reads as many bytes as a set may have, and not one more', () => {
  const padded = (bytes: number) => Buffer.from(setOf(signerA).padEnd(bytes))

  assert.equal(readKeySet(padded(maxKeySetBytes)).byKid.size, 1)
  assert.throws(() => readKeySet(padded(maxKeySetBytes + 1)), /262145 bytes, at most 262144 wanted/)
})

const hourMs = 3_600_000

/** What is said of a key that is not in the set, of a token that was issued some seconds after the set was fetched. */
const fetchedThen = [
  { wrongByMs: 0, afterS: -32, says: 'unknown', because: 'the set is newer than the token by more than clocks differ' },
  { wrongByMs: 0, afterS: 1, says: undefined, because: 'the key may be newer than the set' },
  {
    wrongByMs: hourMs,
    afterS: 1,
    says: undefined,
    because: 'our clock was an hour ahead at the fetch, and is right again',
  },
  { wrongByMs: hourMs, afterS: -32, says: 'unknown', because: 'by the clock of now the set is newer, whatever it was' },
  { wrongByMs: -hourMs, afterS: 1, says: undefined, because: 'our clock was an hour behind at the fetch' },
  { wrongByMs: -hourMs, afterS: -32, says: undefined, because: 'by the earlier of two times the set may be older' },
] as const
for (const { wrongByMs, afterS, says, because } of fetchedThen)
  test(`heldKeys.find() says ${says ?? 'nothing'} of a key that is not held, of a token of ${afterS} s later: ${because}`, () => {
    const right = createTestClock()
    let wrongMs: number = wrongByMs
    const clock = { ...right, wallMs: () => right.wallMs() + wrongMs }
    const held = createHeldKeys({ stale_max: hourMs, leeway: 30_000 }, { clock })
    const fetchedS = right.wallMs() / 1000
    held.take(Buffer.from(setOf(signerA)), clock.monotonicMs(), clock.wallMs())

    wrongMs = 0
    right.pass(5000)
    const arrivedMs = clock.monotonicMs()
    const wanted = { algorithm: 'ES256', iat: fetchedS + afterS, arrivedMs, verifies: () => false } as const

    assert.equal(held.find({ ...wanted, kid: 'b' })?.kind, says)
    assert.equal(held.find({ ...wanted, kid: 'a' })?.kind, 'key')
  })

test('heldKeys.confirm() makes the set as new as its fetch: a key of a token that is older than that is unknown', () => {
  const { clock, keys } = holding(setOf(signerA))
  const fetchedS = clock.wallMs() / 1000
  clock.pass(100_000)
  assert.equal(keys.find(wanted(clock, 'b', fetchedS + 50)), undefined)

  keys.confirm(clock.monotonicMs(), clock.wallMs())
  clock.pass(1000)

  assert.deepEqual(keys.find(wanted(clock, 'b', fetchedS + 50)), { kind: 'unknown' })
  assert.equal(keys.state().lastSuccessWallMs, fetchedS * 1000 + 100_000)
})

test('heldKeys.holds() no key in whose place another one is, or the same one for another algorithm, named or not', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' })
  for (const kid of ['a', undefined]) {
    const document = (jwk: object) => Buffer.from(JSON.stringify({ keys: [{ ...jwk, kid }] }))
    const { clock, keys } = holding(document({ ...rsa, alg: 'RS256' }).toString())
    const found = keys.find({ ...wanted(clock, kid), algorithm: 'RS256' })
    assert.ok(found?.kind === 'key')
    const holds = (jwk: object) => {
      keys.take(document(jwk), clock.monotonicMs(), clock.wallMs())
      return keys.holds(found.key)
    }

    assert.equal(holds(signerA.jwk), false)
    assert.equal(holds({ ...rsa, alg: 'PS256' }), false)
    assert.equal(holds({ ...rsa, alg: 'RS256' }), true)
  }
})
