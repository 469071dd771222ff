import type { Finding, Path } from './problems.ts'
import { formatPath } from './problems.ts'
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
// As many as 1 MiB could hold without aliases.
const maxValues = 524_288

/** Follows the aliases of a document and fills in `${NAME}` and `${NAME:-default}` inside its string values. */
export function expandWritten(root: Written, deps: ExpandDeps): Expanded {
  const findings: Finding[] = []
  const unknown: Path[] = []
  let aliases = 0
  let values = 0
  let complete = true
  const value = visit(root, [], 1)
  return { value, findings, unknown, complete }

  function visit(node: Written, path: Path, depth: number): unknown {
    if (!complete) return null
    values += 1
    if (values > maxValues) return refuse(node.span, path, `aliases make more than ${maxValues} values of it`)
    switch (node.kind) {
      case 'alias':
        aliases += 1
        if (aliases > maxAliases) return refuse(node.span, path, `more than ${maxAliases} aliases are followed`)
        return visit(node.target, path, depth)
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
    let searched = node.span.start
    const expanded = written.replaceAll(reference, (whole: string, name?: string, fallback?: string) => {
      if (whole === '$${') return '${'
      const opening = name === undefined ? '${' : `\${${name}`
      const found = deps.text.indexOf(opening, searched)
      const inside = found !== -1 && found < node.span.end
      const at = inside ? { start: found, end: found + opening.length } : node.span
      if (inside) searched = at.end
      if (name === undefined) return fail(at, `expected \${NAME} or \${NAME:-default}; a literal \${ is written $\${`)
      // What would be left of it is a text that nobody meant.
      if (fallback?.includes('${') === true)
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
      findings.push({ path, at, message: cannotRead(path, why) })
      return ''
    }
  }
}

/** A sentence in our voice about a path: the action, a colon, the present state, what was wanted. */
export function cannotRead(path: Path, why: string): string {
  return `Cannot read ${path.length === 0 ? 'the document' : formatPath(path)}: ${why}`
}

const reference = /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?/g
const wholeReference = /^\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\}$/
