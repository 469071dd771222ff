// The file a result is kept in.
import type { Report } from './report.ts'

/** Short numbers, and a run of a row on a line of its own: what changes between two results can be read. */
export function formatReport(report: Report): string {
  const rounded = (_name: string, value: unknown) =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
  const { rows, ...rest } = report
  const lines = rows.map(({ runs, ...row }) => {
    const head = JSON.stringify(row).slice(0, -1)
    return `    ${head}, "runs": [${runs.map((run) => `\n      ${JSON.stringify(run, rounded)}`).join(',')}] }`
  })
  const body = JSON.stringify(rest, rounded, 2).slice(0, -2)
  return `${body},\n  "rows": [\n${lines.join(',\n')}\n  ]\n}\n`
}

/** Reads such a file. */
export function readReport(text: string): Report {
  return JSON.parse(text) as Report // written by the function above
}
