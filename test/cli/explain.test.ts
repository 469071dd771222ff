import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatExplanation } from '../../src/cli/explain.ts'

const hostile = [
  { what: 'ANSI sequences', text: 'a\u001b[2Jb', shown: 'a\ufffd[2Jb' },
  { what: 'C1 controls', text: 'a\u009b2Jb', shown: 'a\ufffd2Jb' },
  { what: 'line breaks', text: 'a\r\n  ok  scope\u2028b', shown: 'a\ufffd\ufffd  ok  scope\ufffdb' },
  { what: 'bidirectional overrides', text: 'a\u202eb\u2066\u061c', shown: 'a\ufffdb\ufffd\ufffd' },
] as const
for (const { what, text, shown } of hostile) {
  test(`formatExplanation() lets no ${what} of a claim through to the terminal`, () => {
    const said = formatExplanation({
      ...{ decision: 'deny', reason: 'audience_mismatch', status: 401, rule: 'r', issuer: 'https://a.example' },
      steps: [{ stage: 'claims', passed: false, is: text, wanted: text }],
      hint: text,
    })

    assert.equal(said.split(shown).length, 4)
    assert.ok(!said.includes(text))
  })
}
