import { median, medianRatio } from '../measure/statistics.ts'
import type { MeasuredRow, Report, Run } from './report.ts'
import { wasQuiet } from './report.ts'

const heads = ['', 'requests/s', '(min-max)', 'CPU µs/request', '(min-max)', 'p50 ms', 'p99 ms', 'first : this']

/** The rows of one group as text, aligned; a contestant that is missing says why. */
export function formatGroup(title: string, rows: readonly MeasuredRow[]): string {
  return `${title}\n${align([heads, ...rows.map((row) => cellsOf(row, rows))])}`
}

/** The verdicts and what they depend on, as text. */
export function formatVerdicts(report: Report): string {
  const lines = report.verdicts.map(({ claim, seen, wanted, ok }) => [
    claim,
    seen,
    wanted,
    ok === undefined ? '-' : ok ? 'ok' : 'not ok',
  ])
  const { node, pinned, rounds, seconds, others } = report
  const pins = pinned ? 'contestants on CPU 0, load and upstream on CPU 1' : 'nothing pinned'
  const how = `medians of ${rounds} rounds of ${seconds} s, ratios round by round; Node ${node}; ${pins}`
  const noise = `others kept ${others.toFixed(2)} processors busy meanwhile`
  const warning = wasQuiet(report) ? '' : ': too many to judge anything by this run'
  return `${align([['promise', 'seen', 'wanted', ''], ...lines])}\n${how}\n${noise}${warning}\n`
}

function cellsOf({ name, runs, missing, against }: MeasuredRow, rows: readonly MeasuredRow[]): readonly string[] {
  if (missing !== undefined || runs.length === 0) return [name, missing ?? 'not measured']
  const rates = runs.map(({ rate }) => rate)
  const first = rows.find(({ id }) => id === against)?.runs.map(({ rate }) => rate) ?? []
  const ratio = medianRatio(first, rates)
  return [
    name,
    median(rates).toFixed(0),
    spread(rates, 0),
    figure(runs, 'cpuUs', 1),
    spread(
      runs.map(({ cpuUs }) => cpuUs),
      1,
    ),
    figure(runs, 'p50', 2),
    figure(runs, 'p99', 2),
    Number.isNaN(ratio) ? '' : ratio.toFixed(2),
  ]
}

function figure(runs: readonly Run[], name: 'cpuUs' | 'p50' | 'p99', digits: number): string {
  return median(runs.map((run) => run[name])).toFixed(digits)
}

function spread(values: readonly number[], digits: number): string {
  return `${Math.min(...values).toFixed(digits)}-${Math.max(...values).toFixed(digits)}`
}

/** Columns of one width, the first to the left; a row of two cells says a sentence and widens nothing. */
function align(rows: readonly (readonly string[])[]): string {
  const full = rows.filter((row) => row.length > 2)
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...(column === 0 ? rows : full).map((row) => row[column]?.length ?? 0)),
  )
  return rows
    .map((row) =>
      row
        .map((cell, column) => {
          const width = widths[column] ?? 0
          return column === 0 || row.length === 2 ? cell.padEnd(column === 0 ? width : 0) : cell.padStart(width)
        })
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `  ${line}\n`)
    .join('')
}
