// Where a line of YAML begins, beside those that are written above it.
import type { Span } from './written.ts'

// Upwards, until a key in the first column; a file may have no such.
const maxLines = 1000

/**
 * Says of a line that it begins in another column than all that it could go on from: the parser tells of what it then
 * takes it for. Undefined where it is as it should be, or no key and no item of a list.
 *
 * @param from Where the line begins, or those without a value that stand above it.
 */
export function findMisaligned(text: string, from: number): { readonly at: Span; readonly why: string } | undefined {
  noValue.lastIndex = from
  const start = from + (noValue.exec(text)?.[0].length ?? 0)
  const line = lineAt(text, start)
  const [column = 1] = line.dashes.length > 0 ? line.dashes : [line.key]
  if (line.dashes.length === 0 && !/:(?:\s|$)/.test(line.text)) return undefined
  const above = columnsAbove(text, start)
  // A key without a value may have all of it below.
  if (above.opened !== undefined && column >= above.opened) return undefined
  const beside = line.dashes.length > 0 ? above.dashes : above.keys
  // Of two that are as near, the deeper: it is the first.
  const [nearest] = beside.toSorted((a, b) => Math.abs(a - column) - Math.abs(b - column))
  if (nearest === undefined || beside.includes(column)) return undefined
  const at = { start: start + column - 1, end: start + column }
  return { at, why: `the line begins in column ${column}, those beside it in column ${nearest}` }
}

const noValue = /(?:[ \t\r]*(?:#[^\n]*)?\n)*/y

/** The columns in which something is open above a line, the deepest first, and that of the key right above it if that has no value. */
function columnsAbove(text: string, start: number) {
  const [keys, dashes]: [number[], number[]] = [[], []]
  let opened: number | undefined
  let deepest = Number.POSITIVE_INFINITY
  let end = start - 1
  for (let lines = 0; lines < maxLines && end >= 0 && deepest > 1; lines += 1) {
    const from = text.lastIndexOf('\n', end - 1) + 1
    const line = lineAt(text, from)
    end = from - 1
    const said = line.text.replace(/(?:^|\s)#.*/, '').trimEnd()
    if (said === '') continue
    if (deepest === Number.POSITIVE_INFINITY && said.endsWith(':')) opened = line.key
    if (line.key < deepest) keys.push(line.key)
    dashes.push(...line.dashes.filter((column) => column < deepest).reverse())
    deepest = Math.min(deepest, line.dashes[0] ?? line.key)
  }
  return { keys, dashes, opened }
}

/** A line, with the columns of what it begins with: hyphens of lists, and what follows them. */
function lineAt(text: string, start: number) {
  const end = text.indexOf('\n', start)
  const line = text.slice(start, end === -1 ? text.length : end)
  const [beginning] = /^ *(?:-(?: +|\s*$))*/.exec(line) ?? ['']
  const dashes = [...beginning.matchAll(/-/g)].map(({ index }) => index + 1)
  return { text: line, dashes, key: beginning.length + 1 }
}
