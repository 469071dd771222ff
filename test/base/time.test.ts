import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatSpan } from '../../src/base/time.ts'

for (const [ms, text] of [
  [0, '0ms'],
  [250, '250ms'],
  [10_000, '10s'],
  [183_000, '3m3s'],
  [5_400_000, '1h30m'],
  [86_400_000, '1d'],
  [86_460_000, '24h1m'],
  [180_000_000, '2d2h'],
] as const) {
  test(`formatSpan() says ${text} of ${ms} ms`, () => {
    assert.equal(formatSpan(ms), text)
  })
}
