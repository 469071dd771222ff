// Whose an opaque token is, which says nothing about that itself: a wrong choice shows one issuer's tokens to another.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPolicy } from '../../src/decision/policy.ts'
import { compileRules, rulesOptions } from '../../src/decision/rules.ts'
import { trustIssuer, trustOptions } from '../../src/decision/verify.ts'

const asked = 'https://asked.test'
const second = 'https://second.test'
const silent = 'https://silent.test'

const rows: readonly {
  readonly what: string
  /** Every issuer, whether it is marked. */
  readonly issuers: Readonly<Record<string, boolean>>
  readonly accepted?: readonly string[]
  readonly found: string | undefined
}[] = [
  { what: 'the one that can be asked, marked or not', issuers: { [asked]: false, [silent]: false }, found: asked },
  { what: 'nobody where nobody can be asked', issuers: { [silent]: true }, found: undefined },
  {
    what: 'nobody where several can, and none is marked',
    issuers: { [asked]: false, [second]: false },
    found: undefined,
  },
  { what: 'of several the one that is marked', issuers: { [asked]: false, [second]: true }, found: second },
  { what: 'the one the rule accepts', issuers: { [asked]: false, [second]: true }, accepted: [asked], found: asked },
  {
    what: 'nobody where the rule accepts none of them',
    issuers: { [asked]: true },
    accepted: [silent],
    found: undefined,
  },
]
for (const { what, issuers, accepted, found } of rows) {
  test(`policy.opaqueIssuer() is ${what}`, () => {
    const table = compileRules(rulesOptions.parse([{ match: { path: '/' }, issuers: accepted }]))
    const trusted = Object.entries(issuers).map(([issuer, opaque]) =>
      trustIssuer(trustOptions.parse({ issuer, audience: 'api', opaque }), {
        answersMaxAgeMs: issuer === silent ? undefined : 30_000,
        pollIntervalMs: undefined,
      }),
    )
    const [rule] = table.rules
    assert.ok(rule !== undefined)

    const policy = createPolicy(table, trusted)

    assert.equal(policy.opaqueIssuer(rule)?.issuer, found)
  })
}
