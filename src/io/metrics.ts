import type { Metric, Registry } from 'prom-client'

/** Counts by number: find a series' slot once, keep it, add to it. */
export type Counter = {
  /** The slot of a series, which exists, at 0, from now on. One value for each label name, in their order. */
  readonly slot: (...values: string[]) => number
  /** Adds `n`, default 1; what is not above 0 changes nothing. */
  readonly add: (slot: number, n?: number) => void
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
  /** A value that is read when somebody asks for it; `read` must not throw, and NaN leaves its series out. */
  readonly gauge: (name: string, help: string, labelNames: readonly string[], read: ReadSeries) => void
  /** The same for a value that only grows and that somebody else counts. */
  readonly counterOf: (name: string, help: string, labelNames: readonly string[], read: ReadSeries) => void
  /** Everything, Node's own metrics included, in Prometheus's text format 0.0.4. */
  readonly scrape: () => Promise<{ readonly contentType: string; readonly body: string }>
  /** Counters and gauges as they are, such as `postern_decisions_total{decision="deny"}` → 3. */
  readonly snapshot: () => Map<string, number>
}

type Sample = {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
  readonly metricName?: string
}

/** What prom-client's registry asks of a metric: the text is made of the answer of `get`. */
type Family = {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly get: () => Promise<{
    readonly name: string
    readonly help: string
    readonly type: string
    readonly values: readonly Sample[]
  }>
  readonly samples: () => Sample[]
}

const prefix = 'postern_'
const maxSeries = 2000
const other = 'other'

/** Makes an empty set of metrics. The library that formats them is loaded with the first scrape, not before. */
export function createMetrics(): Metrics {
  const families = new Map<string, Family>()
  let formatter: Promise<Registry> | undefined
  return {
    counter(name, help, labelNames) {
      const series = createSeries(labelNames, 1)
      register('counter', name, help, labelNames, () =>
        series.list().map(([labels, at]) => ({ labels, value: series.cells()[at] ?? 0 })),
      )
      return {
        slot: series.slot,
        add(slot, n = 1) {
          const cells = series.cells()
          if (n > 0) cells[slot] = (cells[slot] ?? 0) + n
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
      register('histogram', name, help, labelNames, () =>
        series.list().flatMap(([labels, at]) => histogramSamples(prefix + name, labels, bounds, series.cells(), at)),
      )
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
    gauge: (name, help, labelNames, read) =>
      register('gauge', name, help, labelNames, () => readSamples(labelNames, read)),
    counterOf: (name, help, labelNames, read) =>
      register('counter', name, help, labelNames, () => readSamples(labelNames, read)),
    async scrape() {
      formatter ??= loadFormatter()
      const registry = await formatter
      for (const family of families.values()) {
        // Of a metric the registry reads the name and awaits `get()`, as its registry.js shows; the test reads its text.
        if (registry.getSingleMetric(family.name) === undefined) registry.registerMetric(family as unknown as Metric)
      }
      const text = await registry.metrics()
      // prom-client 15 writes `Nan` (its util.js), which Go's parser takes and a strict one does not.
      return { contentType: registry.contentType, body: text.replaceAll(' Nan\n', ' NaN\n') }
    },
    snapshot() {
      const values = new Map<string, number>()
      for (const { name, type, samples } of families.values()) {
        if (type === 'histogram') continue
        for (const { labels, value } of samples()) values.set(seriesText(name, labels), value)
      }
      return values
    },
  }

  function register(
    type: Family['type'],
    bareName: string,
    help: string,
    labelNames: readonly string[],
    samples: () => Sample[],
  ): void {
    const name = prefix + bareName
    if (families.has(name)) throw new TypeError(`Cannot register ${name}: it is registered already`)
    if (!/^[a-z0-9_]+$/.test(bareName)) throw new TypeError(`Cannot register ${name}: wanted a name of a-z, 0-9 and _`)
    const ill = labelNames.find((label, at) => !/^[a-z][a-z0-9_]*$/.test(label) || labelNames.indexOf(label) !== at)
    if (ill !== undefined || (type === 'histogram' && labelNames.includes('le'))) {
      throw new TypeError(`Cannot register ${name}: wanted different label names of a-z, 0-9 and _, and le for us`)
    }
    families.set(name, { name, help, type, samples, get: async () => ({ name, help, type, values: samples() }) })
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
  readonly list: () => (readonly [Readonly<Record<string, string>>, number])[]
}

/** Rows of `width` numbers in one array; a slot is the index of a row's first. */
function createSeries(labelNames: readonly string[], width: number): Series {
  const slots = new Map<string, number>()
  const rows: (readonly [Readonly<Record<string, string>>, number])[] = []
  let cells = new Float64Array(8 * width)
  return { slot, cells: () => cells, list: () => rows }

  function slot(...values: string[]): number {
    const key = JSON.stringify(values)
    const held = slots.get(key)
    if (held !== undefined) return held
    const labels = labelsOf(labelNames, values)
    if (rows.length >= maxSeries && values.some((value) => value !== other)) return slot(...values.map(() => other))
    const at = rows.length * width
    if (at === cells.length) {
      const larger = new Float64Array(cells.length * 2)
      larger.set(cells)
      cells = larger
    }
    slots.set(key, at)
    rows.push([labels, at])
    return at
  }
}

function histogramSamples(
  name: string,
  labels: Readonly<Record<string, string>>,
  bounds: Float64Array,
  cells: Float64Array,
  at: number,
): Sample[] {
  const samples: Sample[] = []
  let count = 0
  for (let bucket = 0; bucket <= bounds.length; bucket += 1) {
    count += cells[at + bucket] ?? 0
    const le = bucket < bounds.length ? String(bounds[bucket]) : '+Inf'
    samples.push({ labels: { ...labels, le }, value: count, metricName: `${name}_bucket` })
  }
  samples.push({ labels, value: cells[at + bounds.length + 1] ?? 0, metricName: `${name}_sum` })
  samples.push({ labels, value: count, metricName: `${name}_count` })
  return samples
}

/** The series somebody else keeps; of two with the same labels the later, since Prometheus refuses a page with both. */
function readSamples(labelNames: readonly string[], read: ReadSeries): Sample[] {
  const samples = new Map<string, Sample>()
  for (const [values, value] of read()) {
    const key = JSON.stringify(values)
    if (Number.isNaN(value) || (samples.size >= maxSeries && !samples.has(key))) continue
    samples.set(key, { labels: labelsOf(labelNames, values), value })
  }
  return [...samples.values()]
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
