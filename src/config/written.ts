import type { Finding, Path, Place, Problem } from './problems.ts'
import { formatPath, printable } from './problems.ts'
import type { Shown } from './shown.ts'

/** A stretch of the text, in UTF-16 units from its start. */
export type Span = { readonly start: number; readonly end: number }

/** A document as somebody wrote it: values with the places they came from, nothing expanded yet. */
export type Written =
  | {
      readonly kind: 'scalar'
      readonly span: Span
      readonly value: unknown
      /** Without quotes or tag: what an environment variable puts here is read as a number where it looks like one. */
      readonly plain: boolean
    }
  | { readonly kind: 'list'; readonly span: Span; readonly items: readonly Written[] }
  | { readonly kind: 'map'; readonly span: Span; readonly entries: ReadonlyMap<string, Entry> }
  /** `*name`: points at what is written elsewhere, so that following it can be counted. */
  | { readonly kind: 'alias'; readonly span: Span; readonly target: Written }
/** One member of a map as written: where its key stands, and its value. */
export type Entry = { readonly key: Span; readonly value: Written }

/** Finds what is written at a path, through aliases. Undefined when nothing is. */
export function findWritten(root: Written, path: Path): Exclude<Written, { kind: 'alias' }> | undefined {
  let node = resolveAlias(root)
  for (const step of path) {
    const next = childOf(node, step)
    if (next === undefined) return undefined
    node = resolveAlias(next)
  }
  return node
}

/** Turns stretches of one file's text, and paths into it, into places a reader can go to. */
export type Places = {
  /** Where a path is written; what is missing stands at the key of the nearest thing that is there. */
  readonly ofPath: (path: Path, part: 'key' | 'value') => Place
  readonly problem: (finding: Finding) => Problem
}

/**
 * @param root What was read from the text, if it could be read at all.
 * @param shown What may be shown of it.
 */
export function createPlaces(file: string, text: string, root: Written | undefined, shown: Shown): Places {
  const lineStarts = [0]
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lineStarts.push(at + 1)
  return { ofPath, problem }

  function ofSpan({ start, end }: Span): Place {
    const index = lineOf(start)
    const lineStart = lineStarts[index] ?? 0
    const lineEnd = (lineStarts[index + 1] ?? text.length + 1) - 1
    // A line may be the whole file: nothing here goes through all of it.
    const writtenEnd = text[lineEnd - 1] === '\r' ? Math.max(lineStart, lineEnd - 1) : lineEnd
    const column = Math.min(start, writtenEnd) - lineStart
    const caretLength = Math.max(1, text.slice(lineStart + column, Math.min(end, writtenEnd)).trimEnd().length)
    const excerpt = printable(shown.line(lineStart, Math.min(writtenEnd, lineStart + 400)))
    return { file, line: index + 1, column: column + 1, excerpt, caretLength }
  }

  function ofPath(path: Path, part: 'key' | 'value'): Place {
    if (root === undefined) return ofSpan({ start: 0, end: 0 })
    let node = resolveAlias(root)
    let key: Span | undefined
    for (const step of path) {
      const next = childOf(node, step)
      // Missing: stands at the key of what should hold it.
      if (next === undefined) return ofSpan(key ?? headOf(node))
      key = node.kind === 'map' ? node.entries.get(String(step))?.key : undefined
      node = resolveAlias(next)
    }
    const empty = node.span.start === node.span.end
    return ofSpan(key !== undefined && (part === 'key' || empty) ? key : headOf(node))
  }

  function problem({ path, at, first, message: why }: Finding): Problem {
    const message = first === undefined ? why : `${why}, first in line ${lineOf(first.start) + 1}`
    const place = typeof at === 'object' ? ofSpan(at) : ofPath(path, at)
    const [whole, told] = [formatPath(path), formatPath(shown.path(path))]
    const said = whole === told ? message : message.replace(whole, () => told || 'the document')
    return { ...place, path: printable(told), message: printable(said) }
  }

  function lineOf(offset: number): number {
    let low = 0
    let high = lineStarts.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if ((lineStarts[middle] ?? 0) <= offset) low = middle
      else high = middle
    }
    return low
  }
}

function resolveAlias(node: Written): Exclude<Written, { kind: 'alias' }> {
  let target = node
  while (target.kind === 'alias') target = target.target
  return target
}

function childOf(node: Written, step: string | number): Written | undefined {
  if (node.kind === 'map') return node.entries.get(String(step))?.value
  if (node.kind === 'list' && typeof step === 'number') return node.items[step]
  return undefined
}

/** The part of a value worth a caret: a map's first key, everything else itself. */
function headOf(node: Written): Span {
  if (node.kind !== 'map') return node.span
  const [first] = node.entries.values()
  return first?.key ?? node.span
}
