import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Json } from '../../src/base/json.ts'
import { authorize, scopesOf } from '../../src/decision/authorize.ts'
import type { Principal } from '../../src/decision/decision.ts'
import type { Rule } from '../../src/decision/rules.ts'
import { compileRules, rulesOptions } from '../../src/decision/rules.ts'
import { readClaims } from '../../src/spec/claims.ts'

function ruleOf(asked: Readonly<Record<string, unknown>>): Rule {
  const rule = compileRules(rulesOptions.parse([{ match: { path: '/' }, ...asked }])).rules[0]
  assert.ok(rule !== undefined)
  return rule
}

function principalOf(all: Readonly<Record<string, Json>>): Principal {
  const claims = readClaims(all)
  assert.ok(typeof claims !== 'string', String(claims))
  return { claims } as Principal // all that is looked at
}

const scoped = [
  { scopes: { any: ['a', 'b'] }, held: 'a', passes: true, because: 'one of any is enough' },
  { scopes: { any: ['a', 'b'] }, held: 'x b', passes: true, because: 'it may be any of them' },
  { scopes: { any: ['a', 'b'] }, held: 'x', passes: false, because: 'none of any is too few' },
  { scopes: { any: ['a'] }, held: '', passes: false, because: 'of one, that one is needed' },
  { scopes: { all: ['a', 'b'] }, held: 'b a', passes: true, because: 'both are there' },
  { scopes: { all: ['a', 'b'] }, held: 'b', passes: false, because: 'the first of all is not there' },
  { scopes: { all: ['a', 'b'] }, held: 'a', passes: false, because: 'the last of all is not there' },
  { scopes: { all: ['a'], any: ['b', 'c'] }, held: 'a c', passes: true, because: 'all, and one of any' },
  { scopes: { all: ['a'], any: ['b', 'c'] }, held: 'a', passes: false, because: 'all do not make up for any' },
  { scopes: { all: ['a'], any: ['b', 'c'] }, held: 'b c', passes: false, because: 'any do not make up for all' },
  { scopes: [], held: '', passes: true, because: 'nothing is asked for' },
] as const
for (const { scopes, held, passes, because } of scoped) {
  test(`authorize() ${passes ? 'passes' : 'says scope_missing of'} "${held}" for ${JSON.stringify(scopes)}: ${because}`, () => {
    const refused = authorize(ruleOf({ scopes }), principalOf({ scope: held }))

    assert.equal(refused?.reason, passes ? undefined : 'scope_missing')
  })
}

const conditions: readonly {
  readonly claims: Readonly<Record<string, unknown>>
  readonly held: Readonly<Record<string, Json>>
  readonly passes: boolean
  readonly because: string
}[] = [
  { claims: { tenant: 'a' }, held: { tenant: 'a' }, passes: true, because: 'it is equal' },
  { claims: { tenant: ['a', 'b'] }, held: { tenant: 'b' }, passes: true, because: 'it is one of those listed' },
  { claims: { tenant: ['a', 'b'] }, held: { tenant: 'c' }, passes: false, because: 'it is none of those listed' },
  { claims: { tenant: 'a' }, held: {}, passes: false, because: 'what is absent meets nothing' },
  { claims: { tenant: 'a' }, held: { tenant: null }, passes: false, because: 'nor does null' },
  { claims: { groups: 'a' }, held: { groups: ['x', 'a'] }, passes: true, because: 'of an array one member is enough' },
  { claims: { groups: 'a' }, held: { groups: [] }, passes: false, because: 'an empty array has none' },
  { claims: { groups: 'a' }, held: { groups: [['a']] }, passes: false, because: 'an array is no text' },
  { claims: { level: 1 }, held: { level: '1' }, passes: false, because: 'a text is no number' },
  { claims: { staff: true }, held: { staff: 'true' }, passes: false, because: 'a text is no boolean' },
  { claims: { tenant: 'a', level: 1 }, held: { tenant: 'a', level: 1 }, passes: true, because: 'both are met' },
  { claims: { tenant: 'a', level: 1 }, held: { tenant: 'a' }, passes: false, because: 'each has to be met' },
  { claims: { client_id: 'web' }, held: { azp: 'web' }, passes: true, because: 'client_id is azp where it is absent' },
]
for (const { claims, held, passes, because } of conditions) {
  test(`authorize() ${passes ? 'passes' : 'says claim_mismatch of'} ${JSON.stringify(held)} for ${JSON.stringify(claims)}: ${because}`, () => {
    assert.equal(authorize(ruleOf({ claims }), principalOf(held))?.reason, passes ? undefined : 'claim_mismatch')
  })
}

const wanted = [
  { scopes: ['a', 'b'], told: 'all of a b' },
  { scopes: { any: ['a', 'b'] }, told: 'one of a b' },
  { scopes: { all: ['a'], any: ['b', 'c'] }, told: 'all of a and one of b c' },
  { scopes: [], told: 'any' },
] as const
for (const { scopes, told } of wanted) {
  test(`authorize() tells the trail that ${told} is wanted, and scopesOf() names each for the challenge`, () => {
    const rule = ruleOf({ scopes })
    const seen: string[] = []

    authorize(rule, principalOf({}), (step) => seen.push(step.wanted))

    assert.deepEqual(seen, [told])
    assert.deepEqual(scopesOf(rule), told.match(/\b[abc]\b/g) ?? [])
  })
}
