import type { Finding, Path } from './problems.ts'
import { formatPath, maxProblems } from './problems.ts'
import type { Span, Written } from './written.ts'

/** What expansion needs from outside. */
export type ExpandDeps = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The source text, to find a variable's own place in a value. */
  readonly text: string
  /** Reads a scalar without quotes as YAML does: a number, true, false, null or the text. */
  readonly resolvePlain: (text: string) => unknown
}

/** The plain value of a document, and everything that stood in the way of it. */
export type Expanded = {
  readonly value: unknown
  readonly findings: readonly Finding[]
  /** Paths whose value could not be told; what is found there is a consequence. */
  readonly unknown: readonly Path[]
  /** False when a limit was reached: the value is not worth looking at. */
  readonly complete: boolean
}

/** How deep a document may be nested (security.md §4.1). */
export const maxDepth = 20
// An alias is counted as often as it is followed, so that ten lines cannot become a billion.
const maxAliases = 50
// Nobody means more by 50 of them, and each may be wrong: a file of 64 KB is not to cost what one of 1 MiB does.
const maxAliasValues = 20_000
/** How many keys, values and commas a document may have: no rules of 1 MiB need as many, and they are read in about a second. */
export const maxValues = 300_000

/** Follows the aliases of a document and fills in `${NAME}` and `${NAME:-default}` inside its string values. */
export function expandWritten(root: Written, deps: ExpandDeps): Expanded {
  const findings: Finding[] = []
  const unknown: Path[] = []
  let aliases = 0
  let values = 0
  /** The one that is followed, and the others within it. */
  let alias: Span | undefined
  let complete = true
  const value = visit(root, [], 1)
  return { value, findings, unknown, complete }

  function visit(node: Written, path: Path, depth: number): unknown {
    if (!complete) return null
    if (alias !== undefined) {
      values += 1
      if (values > maxAliasValues) return refuse(alias, path, `aliases stand for more than ${maxAliasValues} values`)
    }
    switch (node.kind) {
      case 'alias': {
        aliases += 1
        if (aliases > maxAliases) return refuse(node.span, path, `more than ${maxAliases} aliases are followed`)
        const outer = alias
        alias ??= node.span
        const value = visit(node.target, path, depth)
        alias = outer
        return value
      }
      case 'scalar':
        return typeof node.value === 'string' && node.value.includes('${') ? expand(node, node.value, path) : node.value
      case 'list':
        if (depth > maxDepth) return refuse(node.span, path, `nested deeper than ${maxDepth}`)
        return node.items.map((item, at) => visit(item, [...path, at], depth + 1))
      default: {
        if (depth > maxDepth) return refuse(node.span, path, `nested deeper than ${maxDepth}`)
        const map: Record<string, unknown> = {}
        for (const [name, entry] of node.entries) {
          if (name === '__proto__') {
            // Refused rather than stored: not every copy made of this object would be careful with it.
            findings.push({ path: [...path, name], at: entry.key, message: cannotRead([...path, name], 'no such key') })
          } else map[name] = visit(entry.value, [...path, name], depth + 1)
        }
        return map
      }
    }
  }

  function refuse(span: Span, path: Path, why: string): null {
    complete = false
    findings.push({ path, at: span, message: cannotRead(path, why) })
    return null
  }

  function expand(node: Extract<Written, { kind: 'scalar' }>, written: string, path: Path): unknown {
    let failed = false
    const raw = deps.text.slice(node.span.start, node.span.end)
    let searched = 0
    const expanded = written.replaceAll(reference, (whole: string, name?: string, fallback?: string, end?: string) => {
      if (whole === '$${') return '${'
      const opening = name === undefined ? '${' : `\${${name}`
      const found = raw.indexOf(opening, searched)
      // One that is not there is written with escapes: from then on the value is what can be pointed at.
      searched = found === -1 ? raw.length : found + opening.length
      const start = node.span.start + found
      const at = found === -1 ? node.span : { start, end: start + opening.length }
      if (name === undefined) return fail(at, `expected \${NAME} or \${NAME:-default}; a literal \${ is written $\${`)
      // What would be left of it is a text that nobody meant.
      if (end === '${')
        return fail(at, `expected a default without \${ in it: no name is filled in there, and the first } ends it`)
      const held = Object.hasOwn(deps.env, name) ? deps.env[name] : undefined
      // As in a shell: `:-` also replaces what is set but empty.
      if (fallback !== undefined) return held === undefined || held === '' ? fallback : held
      return held ?? fail(at, `environment variable ${name} is not set and has no default`)
    })
    if (failed) {
      unknown.push(path)
      return expanded
    }
    const alone = node.plain && expanded !== '' && wholeReference.test(written)
    return alone ? deps.resolvePlain(expanded) : expanded

    function fail(at: Span, why: string): string {
      failed = true
      if (findings.length <= maxProblems) findings.push({ path, at, message: cannotRead(path, why) })
      return ''
    }
  }
}

/**
 * Puts the names of the variables that a text refers to in place of their values: what is said of an expanded value is not
 * to tell what only the environment has.
 */
export function variablesUnexpanded(text: string, env: ExpandDeps['env']): (said: string) => string {
  const names = new Map<string, string>()
  for (const [, name = ''] of text.matchAll(reference)) {
    const value = Object.hasOwn(env, name) ? (env[name] ?? '') : ''
    // A shorter one is no secret, and stands in words that have nothing to do with it.
    if (value.length < 4) continue
    for (const told of [value, JSON.stringify(value).slice(1, -1)]) names.set(told, `\${${name}}`)
  }
  // Of two that begin alike, the longer.
  const values = [...names].sort(([a], [b]) => b.length - a.length)
  return (said) => values.reduce((told, [value, name]) => told.replaceAll(value, () => name), said)
}

/** A sentence in our voice about a path: the action, a colon, the present state, what was wanted. */
export function cannotRead(path: Path, why: string): string {
  return `Cannot read ${path.length === 0 ? 'the document' : formatPath(path)}: ${why}`
}

// A default ends at the first `}` or `${`, so that thousands without an end are not each searched to the end of the text.
const reference = /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?:\}|:-([^}$]*(?:\$(?!\{)[^}$]*)*)(\}|\$\{)))?/g
const wholeReference = /^\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\}$/
