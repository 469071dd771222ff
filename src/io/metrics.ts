import type { Metric, Registry } from 'prom-client'
import type { Combine, MetricsReport, Row } from './metrics-rows.ts'
import { combineRows, maxSeries, other } from './metrics-rows.ts'

/** Counts by number: find a series' slot once, keep it, add to it. */
export type Counter = {
  /** The slot of a series, which exists, at 0, from now on. One value for each label name, in their order. */
  readonly slot: (...values: string[]) => number
  /** Adds one. */
  readonly add: (slot: number) => void
}

/** Durations, sorted into buckets. */
export type Histogram = {
  readonly slot: (...values: string[]) => number
  readonly observe: (slot: number, seconds: number) => void
}

/** The series of a metric at the moment: label values, in the order of the label names, and a number. */
export type ReadSeries = () => Iterable<readonly [labelValues: readonly string[], value: number]>

/**
 * The process's metrics. Names are given without their prefix `postern_`. A metric has at most 2,000 series; what
 * comes later is counted in one whose labels are all `other`.
 *
 * @throws TypeError, each of those that register: a name used twice or not of Prometheus's form.
 */
export type Metrics = {
  readonly counter: (name: string, help: string, labelNames: readonly string[]) => Counter
  /** `bucketsSeconds`: upper bounds, ascending, without the infinite one. */
  readonly histogram: (
    name: string,
    help: string,
    labelNames: readonly string[],
    bucketsSeconds: readonly number[],
  ) => Histogram
  /**
   * A value that is read when somebody asks for it; `read` must not throw, and NaN leaves its series out. `combine`: what
   * it is with the values of other processes; default `own`.
   */
  readonly gauge: (
    name: string,
    help: string,
    labelNames: readonly string[],
    read: ReadSeries,
    combine?: Combine,
  ) => void
  /** The same for a value that only grows and that somebody else counts. */
  readonly counterOf: (name: string, help: string, labelNames: readonly string[], read: ReadSeries) => void
  /** Everything, Node's own metrics included, in Prometheus's text format 0.0.4. */
  readonly scrape: () => Promise<{ readonly contentType: string; readonly body: string }>
  /** What is registered. */
  readonly list: () => readonly MetricMeaning[]
  /** Counters and gauges as they are, such as `postern_decisions_total{decision="deny"}` → 3. */
  readonly snapshot: () => Map<string, number>
  /** What this process counted, and its gauges that make one with those of others. */
  readonly report: () => MetricsReport
  /** Has what other processes reported told together with our own, from now on; of what is registered here. */
  readonly include: (others: () => Iterable<MetricsReport>) => void
  /** Keeps for good what a process counted that is gone, so that no counter goes backwards; its gauges end. */
  readonly absorb: (last: MetricsReport) => void
}

/** A metric as it is registered: its whole name, and what its numbers mean. */
export type MetricMeaning = {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labelNames: readonly string[]
  readonly help: string
}

type Sample = {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
  readonly metricName?: string
}

/** What prom-client's registry asks of a metric: the text is made of the answer of `get`. */
type Family = MetricMeaning & {
  readonly get: () => Promise<{
    readonly name: string
    readonly help: string
    readonly type: string
    readonly values: readonly Sample[]
  }>
  readonly samples: () => Sample[]
  readonly combine: Combine
  /** Of this process; each of `width` numbers. */
  readonly rows: () => readonly Row[]
  /** Its rows in another process's report, as far as they are of its form. */
  readonly rowsIn: (report: MetricsReport) => readonly Row[]
  /** Counted by processes that are gone. */
  gone: readonly Row[]
}

const prefix = 'postern_'

/** Makes an empty set of metrics. The library that formats them is loaded with the first scrape, not before. */
export function createMetrics(): Metrics {
  const families = new Map<string, Family>()
  let formatter: Promise<Registry> | undefined
  let others: () => Iterable<MetricsReport> = () => []
  return {
    counter(name, help, labelNames) {
      const series = createSeries(labelNames, 1)
      register('counter', name, help, labelNames, 'sum', 1, series.rows)
      return {
        slot: series.slot,
        add(slot) {
          const cells = series.cells()
          cells[slot] = (cells[slot] ?? 0) + 1
        },
      }
    },
    histogram(name, help, labelNames, bucketsSeconds) {
      const bounds = Float64Array.from(bucketsSeconds)
      if (!bounds.every((bound, at) => Number.isFinite(bound) && (at === 0 || bound > (bounds[at - 1] ?? 0)))) {
        throw new TypeError(`Cannot register ${name}: its buckets are not ascending, wanted finite, ascending bounds`)
      }
      // Per series: one cell for each bound, one for what is above them all, one for the sum.
      const sumAt = bounds.length + 1
      const series = createSeries(labelNames, bounds.length + 2)
      register('histogram', name, help, labelNames, 'sum', bounds.length + 2, series.rows, bounds)
      return {
        slot: series.slot,
        observe(slot, seconds) {
          // NaN, too: one would make the sum NaN for good.
          if (!(seconds >= 0 && seconds < Number.POSITIVE_INFINITY)) return
          const cells = series.cells()
          let at = 0
          while (at < bounds.length && seconds > (bounds[at] ?? 0)) at += 1
          cells[slot + at] = (cells[slot + at] ?? 0) + 1
          cells[slot + sumAt] = (cells[slot + sumAt] ?? 0) + seconds
        },
      }
    },
    gauge: (name, help, labelNames, read, combine = 'own') =>
      register('gauge', name, help, labelNames, combine, 1, () => readRows(read)),
    counterOf: (name, help, labelNames, read) =>
      register('counter', name, help, labelNames, 'sum', 1, () => readRows(read)),
    async scrape() {
      formatter ??= loadFormatter().catch((error: unknown) => {
        // As when descriptors have run out: the next scrape tries again.
        formatter = undefined
        throw error
      })
      const registry = await formatter
      for (const family of families.values()) {
        // Of a metric the registry reads the name and awaits `get()`, as its registry.js shows; the test reads its text.
        if (registry.getSingleMetric(family.name) === undefined) registry.registerMetric(family as unknown as Metric)
      }
      const text = await registry.metrics()
      // prom-client 15 writes `Nan` (its util.js), which Go's parser takes and a strict one does not.
      return { contentType: registry.contentType, body: text.replaceAll(' Nan\n', ' NaN\n') }
    },
    list: () => [...families.values()].map(({ name, type, labelNames, help }) => ({ name, type, labelNames, help })),
    snapshot() {
      const values = new Map<string, number>()
      for (const { name, type, samples } of families.values()) {
        if (type === 'histogram') continue
        for (const { labels, value } of samples()) values.set(seriesText(name, labels), value)
      }
      return values
    },
    report: () =>
      [...families.values()].filter(({ combine }) => combine !== 'own').map(({ name, rows }) => [name, rows()]),
    include(reports) {
      others = reports
    },
    absorb(last) {
      for (const family of families.values())
        if (family.type !== 'gauge') family.gone = combineRows([...family.gone, ...family.rowsIn(last)], family.combine)
    },
  }

  function register(
    type: Family['type'],
    bareName: string,
    help: string,
    labelNames: readonly string[],
    combine: Combine,
    width: number,
    rows: () => readonly Row[],
    bounds?: Float64Array,
  ): void {
    const name = prefix + bareName
    if (families.has(name)) throw new TypeError(`Cannot register ${name}: it is registered already`)
    if (!/^[a-z0-9_]+$/.test(bareName)) throw new TypeError(`Cannot register ${name}: wanted a name of a-z, 0-9 and _`)
    const ill = labelNames.find((label, at) => !/^[a-z][a-z0-9_]*$/.test(label) || labelNames.indexOf(label) !== at)
    if (ill !== undefined || (type === 'histogram' && labelNames.includes('le'))) {
      throw new TypeError(`Cannot register ${name}: wanted different label names of a-z, 0-9 and _, and le for us`)
    }
    const family: Family = { name, help, type, labelNames, combine, rows, rowsIn, gone: [], samples, get }
    families.set(name, family)

    async function get() {
      return { name, help, type, values: samples() }
    }

    function samples(): Sample[] {
      return allRows().flatMap(([values, cells]) => {
        const labels = labelsOf(labelNames, values)
        return bounds === undefined ? [{ labels, value: cells[0] ?? 0 }] : histogramSamples(name, labels, bounds, cells)
      })
    }

    function allRows(): readonly Row[] {
      if (combine === 'own') return rows()
      const foreign = [...others()].flatMap(rowsIn).concat(family.gone)
      return foreign.length === 0 ? rows() : combineRows([...rows(), ...foreign], combine)
    }

    function rowsIn(report: MetricsReport): readonly Row[] {
      const reported = report.find(([of]) => of === name)?.[1] ?? []
      return reported.filter(([values, cells]) => values.length === labelNames.length && cells.length === width)
    }
  }
}

/** Loads prom-client, and begins to collect Node's own metrics in a registry that is not the library's global one. */
async function loadFormatter(): Promise<Registry> {
  const { Registry, collectDefaultMetrics } = await import('prom-client')
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  return registry
}

type Series = {
  readonly slot: (...values: string[]) => number
  /** The numbers; a new array once it has grown, so not to be kept. */
  readonly cells: () => Float64Array
  readonly rows: () => readonly Row[]
}

/** Rows of `width` numbers in one array; a slot is the index of a row's first. */
function createSeries(labelNames: readonly string[], width: number): Series {
  const slots = new Map<string, number>()
  const rows: (readonly string[])[] = []
  let cells = new Float64Array(8 * width)
  return {
    slot,
    cells: () => cells,
    rows: () => rows.map((values, at) => [values, [...cells.subarray(at * width, (at + 1) * width)]]),
  }

  function slot(...values: string[]): number {
    const key = JSON.stringify(values)
    const held = slots.get(key)
    if (held !== undefined) return held
    labelsOf(labelNames, values) // refuses what does not fit
    if (rows.length >= maxSeries && values.some((value) => value !== other)) return slot(...values.map(() => other))
    const at = rows.length * width
    if (at === cells.length) {
      const larger = new Float64Array(cells.length * 2)
      larger.set(cells)
      cells = larger
    }
    slots.set(key, at)
    rows.push(values)
    return at
  }
}

function histogramSamples(
  name: string,
  labels: Readonly<Record<string, string>>,
  bounds: Float64Array,
  cells: readonly number[],
): Sample[] {
  const samples: Sample[] = []
  let count = 0
  for (let bucket = 0; bucket <= bounds.length; bucket += 1) {
    count += cells[bucket] ?? 0
    const le = bucket < bounds.length ? String(bounds[bucket]) : '+Inf'
    samples.push({ labels: { ...labels, le }, value: count, metricName: `${name}_bucket` })
  }
  samples.push({ labels, value: cells[bounds.length + 1] ?? 0, metricName: `${name}_sum` })
  samples.push({ labels, value: count, metricName: `${name}_count` })
  return samples
}

/** The series somebody else keeps; of two with the same labels the later, since Prometheus refuses a page with both. */
function readRows(read: ReadSeries): readonly Row[] {
  const rows = new Map<string, Row>()
  for (const [values, value] of read()) {
    const key = JSON.stringify(values)
    if (!Number.isNaN(value) && (rows.size < maxSeries || rows.has(key))) rows.set(key, [values, [value]])
  }
  return [...rows.values()]
}

function labelsOf(names: readonly string[], values: readonly string[]): Readonly<Record<string, string>> {
  if (values.length !== names.length) {
    throw new TypeError(`Cannot find the series: ${values.length} label values, wanted ${names.length}`)
  }
  return Object.fromEntries(names.map((name, at) => [name, values[at] ?? '']))
}

/** The text of one series, escaped as in the text format. */
function seriesText(name: string, labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([label, value]) => {
    return `${label}="${value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')}"`
  })
  return pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`
}
