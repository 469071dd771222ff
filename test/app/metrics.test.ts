import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { listMetrics } from '../../src/app/listed-metrics.ts'
import { createGatewayMetrics } from '../../src/app/metrics.ts'
import { preflightAllow } from '../../src/decision/cors.ts'
import type { Decision } from '../../src/decision/decision.ts'
import { decisionPaths, tokenForms } from '../../src/decision/decision.ts'
import type { Rule } from '../../src/decision/rules.ts'
import { compileRules, rulesOptions } from '../../src/decision/rules.ts'

const rulesOf = (ids: readonly string[]) =>
  compileRules(rulesOptions.parse(ids.map((id) => ({ id, match: { path: `/${id}` } })))).rules
const allow = (rule: Rule): Decision => ({ kind: 'allow', reason: 'ok', rule, principal: null, path: 'jwt_cached' })
const deny = (rule: Rule): Decision => ({ kind: 'deny', reason: 'scope_missing', rule })

function countedBy(decisions: readonly Decision[]): Readonly<Record<string, number>> {
  const { metrics, decided } = createGatewayMetrics()
  for (const decision of decisions) decided(decision, 0)
  const wanted = /^postern_rule_decisions_total\{rule="(.*)",decision="(.*)"\}$/
  return Object.fromEntries(
    [...metrics.snapshot()].flatMap(([series, count]) => {
      const [, rule, decision] = wanted.exec(series) ?? []
      return rule === undefined || count === 0 ? [] : [[`${rule} ${decision}`, count]]
    }),
  )
}

test('decided() counts by the rule and what was decided, also of rules that a reload has moved', () => {
  const [orders, users] = rulesOf(['orders', 'users']) as [Rule, Rule] // one for each id
  const [movedUsers, movedOrders, added] = rulesOf(['users', 'orders', 'added']) as [Rule, Rule, Rule] // the same
  const before = [allow(users), deny(users), allow(orders)]
  // A request may end under the rules it began with.
  const after = [allow(movedUsers), allow(movedOrders), allow(users), deny(added), deny(movedOrders)]

  assert.deepEqual(countedBy([...before, ...after]), {
    'users allow': 3,
    'users deny': 1,
    'orders allow': 2,
    'orders deny': 1,
    'added deny': 1,
  })
})

test('decided() counts a preflight by itself, whatever stands first among the rules', () => {
  const [first] = rulesOf(['first']) as [Rule] // one for the id

  assert.deepEqual(countedBy([allow(first), preflightAllow, preflightAllow]), { 'first allow': 1, 'cors allow': 2 })
})

test('decided() counts by name for 999 rules, and the others together (cardinality attack)', () => {
  const rules = rulesOf(Array.from({ length: 1002 }, (_, at) => `r${at}`))
  const counted = countedBy([...rules, ...rules].map(allow))

  assert.equal(Object.keys(counted).length, 1000)
  assert.equal(counted['r998 allow'], 2)
  assert.equal(counted['other allow'], 6)
})

test('decided() counts by name what had one among the first, where a reload moves it', () => {
  const ids = Array.from({ length: 1002 }, (_, at) => `r${at}`)
  const counted = countedBy([...rulesOf(ids), ...rulesOf(ids.toReversed())].map(allow))

  assert.equal(counted['r0 allow'], 2)
  assert.equal(counted['r998 allow'], 2)
})

test('decided() counts the time to a decision by every path there is', async () => {
  const { metrics, decided } = createGatewayMetrics()
  const [rule] = rulesOf(['orders']) as [Rule] // one for the id

  for (const path of decisionPaths) decided({ kind: 'allow', reason: 'ok', rule, principal: null, path }, 0)

  const { body } = await metrics.scrape()
  for (const path of decisionPaths)
    assert.ok(body.includes(`postern_decision_duration_seconds_count{path="${path}"} 1\n`), path)
})

test('introduce() has the series of an issuer exist before anything is counted, decisions and durations too', async () => {
  const { metrics, introduce } = createGatewayMetrics()

  introduce('https://issuer.test')

  const { body } = await metrics.scrape()
  const series = [
    ...tokenForms.map(
      (mode) => `decisions_total{decision="allow",reason="ok",issuer="https://issuer.test",mode="${mode}"} 0`,
    ),
    'introspection_duration_seconds_count{issuer="https://issuer.test"} 0',
    'introspection_requests_total{issuer="https://issuer.test",result="active"} 0',
  ]
  for (const each of series) assert.ok(body.includes(`postern_${each}\n`), each)
})

test('listMetrics() has every metric that the source registers, with its labels and what it means', () => {
  const root = join(import.meta.dirname, '../../src')
  const registers = /(?:\.(?:counter|gauge|histogram|counterOf)|feedGauge)\(\s*'([a-z_]+)'/g
  const written = globSync('app/**/*.ts', { cwd: root }).flatMap((file) =>
    [...readFileSync(join(root, file), 'utf8').matchAll(registers)].map(([, name]) => `postern_${name}`),
  )

  const listed = listMetrics()

  assert.ok(written.length > 30)
  assert.deepEqual(
    listed.map(({ name }) => name),
    written.toSorted(),
  )
  assert.deepEqual(
    listed.find(({ name }) => name === 'postern_connections_dropped_total'),
    {
      name: 'postern_connections_dropped_total',
      type: 'counter',
      labelNames: ['listener', 'cause'],
      help: 'Connections closed before a request, by cause.',
    },
  )
})
