import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHeldKeys } from '../../src/sources/held-keys.ts'
import { createTestClock } from '../support/clock.ts'
import { setOf, signerA } from './key-endpoint.ts'

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
