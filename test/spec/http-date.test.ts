import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseHttpDate, parseRetryAfter } from '../../src/spec/http-date.ts'

for (const [value, ms] of [
  ['Sun, 06 Nov 1994 08:49:37 GMT', 784_111_777_000],
  ['Sun, 06 Nov 1994 08:49:37 UTC', undefined],
  ['Sun, 06 Abc 1994 08:49:37 GMT', undefined],
  ['1994-11-06T08:49:37Z', undefined],
  ['37', undefined],
  [undefined, undefined],
] as const)
  test(`parseHttpDate() reads ${value} as ${ms}`, () => {
    assert.equal(parseHttpDate(value), ms)
  })

for (const [headers, ms, because] of [
  [{ 'retry-after': '120' }, 120_000, 'it is in seconds'],
  [{ 'retry-after': '0' }, 0, 'at once'],
  [{ 'retry-after': '9'.repeat(400) }, Number.POSITIVE_INFINITY, 'the caller has a bound of its own'],
  [{ 'retry-after': 'Sun, 06 Nov 1994 08:50:07 GMT' }, 30_000, 'a date is measured by our clock'],
  [
    { 'retry-after': 'Sun, 06 Nov 1994 09:50:07 GMT', date: 'Sun, 06 Nov 1994 09:49:57 GMT' },
    10_000,
    'a date is measured by the clock of who says it, where that is told',
  ],
  [{ 'retry-after': 'Sun, 06 Nov 1994 08:49:00 GMT' }, 0, 'it has passed'],
  [{ 'retry-after': '-5' }, undefined, 'it is neither'],
  [{ 'retry-after': '1.5' }, undefined, 'it is neither'],
  [{ 'retry-after': 'soon' }, undefined, 'it is neither'],
  [{}, undefined, 'nothing is said'],
] as const)
  test(`parseRetryAfter() reads ${JSON.stringify(headers).slice(0, 100)} as ${ms} ms: ${because}`, () => {
    const header = (name: string) => (headers as Record<string, string>)[name] // its keys are names of headers

    assert.equal(parseRetryAfter(header, 784_111_777_000), ms)
  })
