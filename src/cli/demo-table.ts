import { messageOf } from '../base/errors.ts'
import type { Case, Seen } from './demo-cases.ts'

// A mark and the space behind it.
const markWidth = 6

/** A case that was run; `ok` when what was seen is what was expected. */
export type Row = Seen & { readonly name: string; readonly expected: string; readonly ok: boolean }

/**
 * Runs cases one after the other. A case that cannot be run is a difference, and does not end the others.
 *
 * @param begin Told the name of each case before it runs.
 */
export async function runCases(
  cases: readonly Case[],
  begin: (name: string, index: number) => void = () => {},
): Promise<readonly Row[]> {
  const rows: Row[] = []
  for (const [index, { name, expected, run }] of cases.entries()) {
    begin(name, index)
    const seen = await run().catch((error: unknown) => {
      return { text: messageOf(error), us: 0 }
    })
    rows.push({ name, expected, ...seen, ok: seen.text === expected })
  }
  return rows
}

/** How rows are shown: `columns` is the width of the terminal, undefined where it is none. */
export type RowStyle = { readonly color: boolean; readonly columns: number | undefined }

/** The cases as a table, or below each other where the terminal is narrower than that; and how many differ. */
export function formatRows(rows: readonly Row[], { color, columns }: RowStyle): string {
  const { head, lines } = layOut(rows)
  const widest = Math.max(head.length, ...lines.map((line) => line.length))
  const isWide = columns === undefined || markWidth + widest <= columns
  const marks = color ? { ok: '\u001b[32m ok \u001b[0m', no: '\u001b[31mDIFF\u001b[0m' } : { ok: ' ok ', no: 'DIFF' }
  const indent = ' '.repeat(markWidth)
  const nameWidth = Math.max(...rows.map(({ name }) => name.length))
  const shown = rows.map((row, at) => {
    const text = isWide ? lines[at] : stack(row, nameWidth).join(`\n${indent}`)
    return `${row.ok ? marks.ok : marks.no}  ${text}`
  })
  const differing = rows.filter(({ ok }) => !ok).length
  return [
    ...(isWide ? [`${indent}${head}`] : []),
    ...shown,
    '',
    differing === 0 ? `${rows.length} cases, all as expected` : `${rows.length} cases, ${differing} not as expected`,
    '',
  ].join('\n')
}

/** A line of cells for each row, all as wide as the widest. */
function layOut(rows: readonly Row[]): { readonly head: string; readonly lines: readonly string[] } {
  const titles = ['case', 'expected', 'seen', 'µs', ''] as const
  const cells = rows.map((row) => [row.name, row.expected, row.text, timeOf(row), row.note ?? ''])
  const widths = titles.map((title, at) => Math.max(title.length, ...cells.map((line) => line[at]?.length ?? 0)))
  const lineOf = (line: readonly string[]) =>
    line
      .map((cell, at) => (at === 3 ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd()
  return { head: lineOf(titles), lines: cells.map(lineOf) }
}

/** One row below each other. */
function stack(row: Row, nameWidth: number): readonly string[] {
  const { name, expected, text, us, ok, note } = row
  const title = us === 0 ? name : `${name.padEnd(nameWidth)}  ${timeOf(row).padStart(6)} µs`
  const verdict = ok ? [`as expected: ${text}`] : [`expected: ${expected}`, `    seen: ${text}`]
  return [title, ...verdict, ...(note === undefined ? [] : [note])]
}

function timeOf({ us }: Row): string {
  return us === 0 ? '-' : String(us)
}

/** The series whose value is another than before, with the difference; times are left out, they always move. */
export function formatMoved(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string {
  return [...after]
    .map(([series, value]) => ({ series, value, by: value - (before.get(series) ?? 0) }))
    .filter(({ series, by }) => by !== 0 && !/_(?:timestamp|lag|skew)_seconds/.test(series))
    .map(({ series, value, by }) => `${series} ${value} (${by > 0 ? '+' : ''}${by})\n`)
    .join('')
}
