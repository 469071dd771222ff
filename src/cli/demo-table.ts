import { messageOf } from '../base/errors.ts'
import type { Case, Seen } from './demo-cases.ts'

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

/** The table of cases, and how many differ. */
export function formatRows(rows: readonly Row[], { color }: { readonly color: boolean }): string {
  const columns = ['case', 'expected', 'seen', 'µs', ''] as const
  const cells = rows.map(({ name, expected, text, us, note }) => {
    return [name, expected, text, us === 0 ? '-' : String(us), note ?? '']
  })
  const widths = columns.map((title, at) => Math.max(title.length, ...cells.map((line) => line[at]?.length ?? 0)))
  const lineOf = (line: readonly string[]) =>
    line
      .map((cell, at) => (at === 3 ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd()
  const differing = rows.filter(({ ok }) => !ok).length
  const marks = color ? { ok: '\u001b[32m ok \u001b[0m', no: '\u001b[31mDIFF\u001b[0m' } : { ok: ' ok ', no: 'DIFF' }
  return [
    `      ${lineOf(columns)}`,
    ...cells.map((line, at) => `${rows[at]?.ok === true ? marks.ok : marks.no}  ${lineOf(line)}`),
    '',
    differing === 0 ? `${rows.length} cases, all as expected` : `${rows.length} cases, ${differing} not as expected`,
    '',
  ].join('\n')
}

/** The series whose value is another than before, with the difference; times are left out, they always move. */
export function formatMoved(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string {
  return [...after]
    .map(([series, value]) => ({ series, value, by: value - (before.get(series) ?? 0) }))
    .filter(({ series, by }) => by !== 0 && !/_(?:timestamp|lag|skew)_seconds/.test(series))
    .map(({ series, value, by }) => `${series} ${value} (${by > 0 ? '+' : ''}${by})\n`)
    .join('')
}
