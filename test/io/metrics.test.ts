import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { createMetrics } from '../../src/io/metrics.ts'

type Series = { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly value: number }

const sampleLine =
  /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,(?!\}))?)*)\})? (-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|\+Inf|NaN)$/

/** Reads the text format 0.0.4 strictly: what Prometheus would refuse a whole page for throws here. */
function parsePage(text: string): { series: Series[]; types: Map<string, string> } {
  assert.ok(text.endsWith('\n'), 'the last line has no line feed')
  const types = new Map<string, string>()
  const seen = new Set<string>()
  const series: Series[] = []
  for (const line of text.split('\n')) {
    if (line === '') continue
    const comment = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line)
    if (comment !== null) {
      const [, word, name = '', rest = ''] = comment
      if (word === 'TYPE') {
        assert.ok(!types.has(name), `two types of ${name}`)
        assert.match(rest, /^(counter|gauge|histogram|summary|untyped)$/)
        types.set(name, rest)
      }
      continue
    }
    const sample = sampleLine.exec(line)
    assert.ok(sample !== null, `not a sample: ${line}`)
    const [, name = '', pairs = '', value = ''] = sample
    const labels: Record<string, string> = {}
    for (const [, label = '', written = ''] of pairs.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      assert.ok(!Object.hasOwn(labels, label), `label ${label} twice`)
      labels[label] = written.replace(/\\(.)/g, (_, escaped) => (escaped === 'n' ? '\n' : escaped))
    }
    const identity = `${name}${JSON.stringify(Object.entries(labels).sort())}`
    assert.ok(!seen.has(identity), `series twice: ${line}`)
    seen.add(identity)
    const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')
    assert.ok(types.has(family), `no type before ${line}`)
    series.push({ name, labels, value: Number(value.replace('Inf', 'Infinity')) })
  }
  return { series, types }
}

test('createMetrics().scrape() answers valid Prometheus text, with Node’s own metrics, again and again', async () => {
  const metrics = createMetrics()
  const decisions = metrics.counter('decisions_total', 'Decisions\nby \\ reason.', ['decision', 'reason'])
  decisions.add(decisions.slot('deny', 'no_rule'))
  decisions.slot('allow', 'ok')
  metrics.gauge('rules', 'Rules.', [], () => [[[], 3]])

  await metrics.scrape()
  decisions.add(decisions.slot('deny', 'no_rule'))
  metrics.counterOf('log_dropped_total', 'Lines lost.', ['stream'], () => [[['main'], 7]])
  const { contentType, body } = await metrics.scrape()

  assert.equal(contentType, 'text/plain; version=0.0.4; charset=utf-8')
  const { series, types } = parsePage(body)
  const ours = series.filter(({ name }) => name.startsWith('postern_'))
  assert.deepEqual(ours, [
    { name: 'postern_decisions_total', labels: { decision: 'deny', reason: 'no_rule' }, value: 2 },
    { name: 'postern_decisions_total', labels: { decision: 'allow', reason: 'ok' }, value: 0 },
    { name: 'postern_rules', labels: {}, value: 3 },
    { name: 'postern_log_dropped_total', labels: { stream: 'main' }, value: 7 },
  ])
  assert.equal(types.get('postern_decisions_total'), 'counter')
  assert.equal(types.get('postern_rules'), 'gauge')
  assert.equal(types.get('postern_log_dropped_total'), 'counter')
  assert.ok(series.some(({ name, value }) => name === 'process_resident_memory_bytes' && value > 0))
  assert.ok(series.some(({ name }) => name === 'nodejs_eventloop_lag_seconds'))
})

test('createMetrics() keeps two sets of metrics apart, the library’s global registry included', async () => {
  const [one, two] = [createMetrics(), createMetrics()]
  one.counter('a_total', 'A.', []).slot()

  const [, body] = [await one.scrape(), (await two.scrape()).body]

  assert.doesNotMatch(body, /postern_a_total/)
  parsePage(body)
})

test('createMetrics().histogram() counts into cumulative buckets, bounds included, with sum and count', async () => {
  const metrics = createMetrics()
  const duration = metrics.histogram('decision_duration_seconds', 'Time to decide.', ['path'], [0.001, 0.01, 0.1])
  const slot = duration.slot('jwt_cached')
  const idle = duration.slot('none')

  for (const seconds of [0, 0.001, 0.0011, 0.1, 0.5]) duration.observe(slot, seconds)
  for (const seconds of [Number.NaN, -1, Number.POSITIVE_INFINITY]) duration.observe(slot, seconds)

  assert.notEqual(slot, idle)
  const { series } = parsePage((await metrics.scrape()).body)
  const seen = series
    .filter(({ name, labels }) => name.startsWith('postern_') && labels['path'] === 'jwt_cached')
    .map(
      ({ name, labels, value }) => `${name.slice('postern_decision_duration_seconds'.length)} ${labels['le']} ${value}`,
    )
  assert.deepEqual(seen, [
    '_bucket 0.001 2',
    '_bucket 0.01 3',
    '_bucket 0.1 4',
    '_bucket +Inf 5',
    '_sum undefined 0.6021',
    '_count undefined 5',
  ])
  const none = series.filter(({ labels }) => labels['path'] === 'none')
  assert.equal(none.length, 6)
  assert.ok(none.every(({ value }) => value === 0))
})

test('createMetrics().counter() keeps every count while its series grow in number', () => {
  const metrics = createMetrics()
  const counter = metrics.counter('grown_total', 'Grown.', ['n'])
  const slots = Array.from({ length: 100 }, (_, at) => {
    const slot = counter.slot(String(at))
    for (let count = 0; count < at; count += 1) counter.add(slot)
    return slot
  })

  for (const slot of slots) counter.add(slot)

  assert.equal(new Set(slots).size, 100)
  assert.equal(counter.slot('42'), slots[42])
  const values = metrics.snapshot()
  for (let at = 0; at < 100; at += 1) assert.equal(values.get(`postern_grown_total{n="${at}"}`), at + 1)
})

test('createMetrics().counter() puts the 2,001st series, and all after it, into one of other (cardinality attack)', async () => {
  const metrics = createMetrics()
  const counter = metrics.counter('rule_decisions_total', 'By rule.', ['rule', 'decision'])
  const first = counter.slot('r0', 'deny')
  for (let at = 1; at < 2000; at += 1) counter.slot(`r${at}`, 'deny')

  const past = [counter.slot('r2000', 'deny'), counter.slot('r2001', 'allow'), counter.slot('other', 'other')]
  for (const slot of past) counter.add(slot)

  assert.equal(new Set(past).size, 1)
  assert.equal(counter.slot('r0', 'deny'), first)
  const values = metrics.snapshot()
  assert.equal(values.size, 2001)
  assert.equal(values.get('postern_rule_decisions_total{rule="other",decision="other"}'), 3)
})

test('createMetrics().gauge() is read at every look, leaves NaN out, keeps the later of two equals and 2,000 in all', async () => {
  let reads = 0
  const metrics = createMetrics()
  metrics.gauge('circuit_state', 'State.', ['target'], () => {
    reads += 1
    return [
      [['a'], reads],
      [['b'], Number.NaN],
      [['a'], reads * 10],
    ]
  })
  metrics.gauge('many', 'Many.', ['n'], () => Array.from({ length: 2100 }, (_, at) => [[String(at)], at] as const))

  const values = metrics.snapshot()
  const { series } = parsePage((await metrics.scrape()).body)

  assert.equal(values.get('postern_circuit_state{target="a"}'), 10)
  assert.equal(values.has('postern_circuit_state{target="b"}'), false)
  assert.deepEqual(
    series.filter(({ name }) => name === 'postern_circuit_state').map(({ value }) => value),
    [20],
  )
  assert.equal(series.filter(({ name }) => name === 'postern_many').length, 2000)
})

test('createMetrics() refuses a name registered twice, a bad name, bad labels, bad buckets, too few label values', () => {
  const metrics = createMetrics()
  const counter = metrics.counter('a_total', 'A.', ['x', 'y'])

  assert.throws(() => metrics.counter('a_total', 'A.', []), TypeError)
  assert.throws(() => metrics.gauge('a_total', 'A.', [], () => []), TypeError)
  assert.throws(() => metrics.counter('a-b', 'A.', []), TypeError)
  assert.throws(() => metrics.counter('b_total', 'B.', ['__name__']), TypeError)
  assert.throws(() => metrics.counter('b_total', 'B.', ['x', 'x']), TypeError)
  assert.throws(() => metrics.histogram('h', 'H.', ['le'], [1]), TypeError)
  assert.throws(() => metrics.histogram('h', 'H.', [], [1, 1]), TypeError)
  assert.throws(() => metrics.histogram('h', 'H.', [], [Number.POSITIVE_INFINITY]), TypeError)
  assert.throws(() => counter.slot('only one'), TypeError)
  assert.equal(metrics.snapshot().size, 0)
})

test('createMetrics() writes every label value so that a strict reader gets the same back, and snapshot() agrees', async () => {
  const anyText = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom('"', '\\', '\n', '\r', 'n', ',', '{', '}', ' ') }),
  )
  const metrics = createMetrics()
  const values = fc.sample(fc.tuple(anyText, anyText), 100)
  const counter = metrics.counter('hostile_total', 'Hostile.', ['a', 'b'])
  for (const [a, b] of values) counter.add(counter.slot(a, b))

  const { body } = await metrics.scrape()

  const { series } = parsePage(body)
  const seen = series.filter(({ name }) => name === 'postern_hostile_total')
  const wanted = new Map<string, number>()
  for (const pair of values) wanted.set(JSON.stringify(pair), (wanted.get(JSON.stringify(pair)) ?? 0) + 1)
  assert.deepEqual(
    new Map(seen.map(({ labels, value }) => [JSON.stringify([labels['a'], labels['b']]), value])),
    wanted,
  )
  for (const [text, value] of metrics.snapshot()) assert.ok(body.includes(`${text} ${value}\n`))
})

/** What a worker, and its primary, register. */
function registerAll(inFlight: number) {
  const metrics = createMetrics()
  const decisions = metrics.counter('decisions_total', 'Decisions.', ['reason'])
  const seconds = metrics.histogram('seconds', 'Seconds.', [], [1, 2])
  metrics.gauge('in_flight', 'Requests.', [], () => (inFlight < 0 ? [] : [[[], inFlight]]), 'sum')
  metrics.gauge('circuit', 'Worst state.', [], () => (inFlight < 0 ? [] : [[[], inFlight % 3]]), 'max')
  metrics.gauge('keys', 'Of whoever is asked.', [], () => [[[], inFlight]])
  metrics.counterOf('lines_total', 'Lines.', [], () => [[[], 1]])
  return { metrics, decisions, seconds }
}

test('createMetrics().include() adds counters and histograms of other processes, and combines gauges as they say', async () => {
  const [primary, one, two] = [registerAll(-1), registerAll(4), registerAll(5)]
  for (const { decisions, seconds } of [one, two]) {
    for (let count = 0; count < 2; count += 1) decisions.add(decisions.slot('ok'))
    seconds.observe(seconds.slot(), 1.5)
  }
  two.decisions.add(two.decisions.slot('no_rule'))
  primary.decisions.add(primary.decisions.slot('ok'))

  primary.metrics.include(() => [one.metrics.report(), two.metrics.report()])

  const seen = primary.metrics.snapshot()
  assert.deepEqual(Object.fromEntries(seen), {
    'postern_decisions_total{reason="ok"}': 5,
    'postern_decisions_total{reason="no_rule"}': 1,
    postern_in_flight: 9,
    postern_circuit: 2,
    postern_keys: -1,
    postern_lines_total: 3,
  })
  const { body } = await primary.metrics.scrape()
  const { series } = parsePage(body)
  const bucket = (le: string) =>
    series.find(({ name, labels }) => name === 'postern_seconds_bucket' && labels['le'] === le)
  assert.deepEqual([bucket('1')?.value, bucket('2')?.value, bucket('+Inf')?.value], [0, 2, 2])
  assert.equal(series.find(({ name }) => name === 'postern_seconds_sum')?.value, 3)
})

test('createMetrics().absorb() keeps what a process counted that is gone, and lets go of its gauges', () => {
  const [primary, worker] = [registerAll(-1), registerAll(4)]
  for (let count = 0; count < 7; count += 1) worker.decisions.add(worker.decisions.slot('ok'))

  primary.metrics.absorb(worker.metrics.report())
  primary.metrics.absorb(worker.metrics.report())

  const seen = primary.metrics.snapshot()
  assert.equal(seen.get('postern_decisions_total{reason="ok"}'), 14)
  assert.equal(seen.get('postern_lines_total'), 3)
  assert.equal(seen.get('postern_in_flight'), undefined)
})

test('createMetrics().include() ignores series that are not of its form, and metrics it does not have', () => {
  const primary = registerAll(-1)

  primary.metrics.include(() => [
    [
      [
        'postern_decisions_total',
        [
          [['ok', 'more'], [1]],
          [['ok'], [1, 2]],
          [['ok'], [5]],
        ],
      ],
      ['postern_strange_total', [[[], [1]]]],
    ],
  ])

  assert.equal(primary.metrics.snapshot().get('postern_decisions_total{reason="ok"}'), 5)
  assert.equal(primary.metrics.snapshot().get('postern_strange_total'), undefined)
})

test('createMetrics().include() has at most 2,000 series, and counts the rest in one whose labels are other', () => {
  const primary = registerAll(-1)
  const rows = Array.from({ length: 2100 }, (_, at) => [[`r${at}`], [1]] as const)

  primary.metrics.include(() => [[['postern_decisions_total', rows]]])

  const decisions = [...primary.metrics.snapshot()].filter(([name]) => name.startsWith('postern_decisions_total'))
  assert.equal(decisions.length, 2001)
  assert.equal(new Map(decisions).get('postern_decisions_total{reason="other"}'), 100)
})
