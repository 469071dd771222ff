// The series of one metric as rows of numbers, and how the rows of several processes become one.

/** One series: label values, in the order of the label names, and its numbers. */
export type Row = readonly [labelValues: readonly string[], cells: readonly number[]]

/** What one process counted, by the name of the metric. */
export type MetricsReport = readonly (readonly [name: string, rows: readonly Row[]])[]

/** How the rows of several processes are one: added up, the greatest of them, or those of the process that is asked. */
export type Combine = 'sum' | 'max' | 'own'

/** Most series of one metric. */
export const maxSeries = 2000
/** The value of every label of the series in which what comes later is counted. */
export const other = 'other'

/** Makes one row of all with the same labels, in the order in which they first came. */
export function combineRows(rows: Iterable<Row>, combine: Combine): readonly Row[] {
  const combined = new Map<string, [readonly string[], number[]]>()
  for (const [values, cells] of rows) {
    const known = combined.get(JSON.stringify(values))
    const isFull = known === undefined && combined.size >= maxSeries && values.some((value) => value !== other)
    const labels = isFull ? values.map(() => other) : values
    const key = JSON.stringify(labels)
    const held = combined.get(key)
    if (held === undefined) combined.set(key, [labels, [...cells]])
    else for (const [at, cell] of cells.entries()) held[1][at] = join(held[1][at] ?? 0, cell, combine)
  }
  return [...combined.values()]
}

function join(a: number, b: number, combine: Combine): number {
  return combine === 'max' ? Math.max(a, b) : a + b
}
