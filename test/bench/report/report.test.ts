import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { draw } from './draw.ts'
import { formatReport, readReport } from './kept.ts'
import type { MeasuredRow, Report, Run } from './report.ts'
import { formatGroup, formatVerdicts } from './table.ts'
import { judge } from './verdicts.ts'

const run: Run = { rate: 1000, cpuUs: 50, p50: 1, p99: 4, mbPerS: 1, busy: 1, others: 0, shares: [1] }

function row(id: string, runs: readonly Partial<Run>[], more: Partial<MeasuredRow> = {}): MeasuredRow {
  const each = runs.map((figures) => ({ ...run, ...figures }))
  return {
    group: 'warm',
    id,
    name: id,
    by: 'gateway',
    against: 'gateway-warm',
    missing: undefined,
    runs: each,
    ...more,
  }
}

function report(rows: readonly MeasuredRow[], more: Partial<Report> = {}): Report {
  const machine = { made: '2026-11-25T00:00:00.000Z', node: '26.10.0', processor: 'a processor', pinned: true }
  const kept = { rounds: 1, seconds: 1, versions: {}, others: 0, start: undefined, verdicts: [] }
  return { ...machine, ...kept, rows, ...more }
}

test('judge() takes the median of the quotients round by round, not the quotient of the medians', () => {
  // A slow machine in the second round is slow for both.
  const rows = [
    row('gateway-warm', [{ rate: 4000 }, { rate: 1000 }, { rate: 4400 }]),
    row('haproxy-rs256', [{ rate: 1000 }, { rate: 400 }, { rate: 2000 }]),
  ]

  const verdict = judge({ rows, start: undefined }).find(({ claim }) => claim.endsWith('HAProxy jwt_verify RS256'))

  assert.equal(verdict?.seen, '2.50')
  assert.equal(verdict?.ok, true)
})

const bounds = [
  {
    rows: [row('gateway-warm', [{ rate: 1790 }]), row('self-warm', [{}])],
    claim: 'node:http + undici + cache',
    ok: false,
  },
  { rows: [row('gateway-warm', [{ p99: 8 }]), row('haproxy-bare', [{}])], claim: "bare HAProxy's", ok: true },
  { rows: [row('gateway-warm', [{ p99: 8.1 }]), row('haproxy-bare', [{}])], claim: "bare HAProxy's", ok: false },
  { rows: [row('rules-many', [{ cpuUs: 53 }]), row('rules-few', [{}])], claim: '10000 rules : 10', ok: false },
  { rows: [row('workers-two', [{ shares: [0.02, 0.51, 0.47] }])], claim: 'shares : mean', ok: true },
  { rows: [row('workers-two', [{ shares: [0.02, 0.53, 0.45] }])], claim: 'shares : mean', ok: false },
] as const
for (const { rows, claim, ok } of bounds) {
  test(`judge() finds "${claim}" ${ok ? 'kept' : 'broken'} by ${rows.map(({ id }) => id).join(' and ')}`, () => {
    const verdict = judge({ rows, start: undefined }).find((each) => each.claim.endsWith(claim))

    assert.equal(verdict?.ok, ok)
  })
}

test('judge() says of what was not measured neither ok nor not ok', () => {
  const verdicts = judge({ rows: [row('gateway-warm', [{}])], start: undefined })

  assert.ok(verdicts.length > 10)
  for (const { seen, ok } of verdicts) assert.deepEqual({ seen, ok }, { seen: 'not measured', ok: undefined })
})

test('formatGroup() names a contestant that cannot be had, and why', () => {
  const missing = row('haproxy-bare', [], { missing: 'missing: haproxy is not installed' })

  const text = formatGroup('a group', [row('gateway-warm', [{}]), missing])

  assert.match(text, /haproxy-bare +missing: haproxy is not installed/)
})

test('formatVerdicts() warns when others kept the machine busy', () => {
  assert.match(formatVerdicts(report([], { others: 0.31 })), /too many to judge anything/)
  assert.doesNotMatch(formatVerdicts(report([], { others: 0.3 })), /too many to judge anything/)
})

test('draw() leaves out what is missing, and lets no name become markup', () => {
  const drawn = draw(
    report([row('gateway-warm', [{}], { name: 'a <b> & c' }), row('nginx-bare', [], { missing: 'no' })]),
  )

  assert.ok(drawn.includes('a &lt;b&gt; &amp; c'))
  assert.ok(!drawn.includes('nginx-bare'))
})

test('formatReport() writes what readReport() reads', () => {
  const kept = report([row('gateway-warm', [{}, { rate: 1234 }]), row('nginx-bare', [])])

  assert.deepEqual(readReport(formatReport(kept)), JSON.parse(JSON.stringify(kept)))
})

test('results/latest.svg is drawn from results/latest.json', () => {
  const read = (name: string) => readFileSync(join(import.meta.dirname, '../results', name), 'utf8')

  assert.equal(read('latest.svg'), draw(readReport(read('latest.json'))))
})
