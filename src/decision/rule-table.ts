import { canonicalPath, withoutNeedlessEscapes } from './request.ts'

/** A path template's segments, where `{}` stands for any `{name}` and a closing `**` for zero or more of anything. */
export type PathTemplate = {
  readonly kind: 'template'
  readonly parts: readonly string[]
  /** The `encodedBits` its literals hold. */
  readonly encoded: number
}

const nameSegment = /^\{[A-Za-z_][A-Za-z0-9_-]{0,63}\}$/

/**
 * Reads a path template such as `/orders/{id}` or `/orders/**`.
 *
 * @returns The template, or what was wanted instead.
 */
export function parsePathTemplate(text: string): PathTemplate | { readonly kind: 'problem'; readonly message: string } {
  const problem = (message: string) => ({ kind: 'problem', message }) as const
  if (!text.startsWith('/')) return problem('expected a path that begins with /')
  const segments = text.slice(1).split('/')
  if (segments.slice(0, -1).includes('**')) return problem('expected ** as the last segment only')
  const parts = segments.map((segment) => (nameSegment.test(segment) ? '{}' : segment))
  const literals = segments.map((segment) => (segment === '**' || nameSegment.test(segment) ? 'x' : segment))
  if (segments.some((segment) => /^\{[^{}]+\}$/.test(segment) && !nameSegment.test(segment)))
    return problem('expected in {} at most 64 letters, digits, hyphens and underscores, and no digit or hyphen first')
  if (literals.some((literal) => /[*{}]/.test(literal)))
    return problem('expected {name} for one segment, or a closing ** for any number')
  const written = `/${literals.join('/')}`
  const canonical = canonicalPath(written)
  if (/%2e/i.test(written)) return problem('expected dots as they are, not escaped')
  if (canonical === undefined && text.isWellFormed() && canonicalPath(escapeRest(written)) !== undefined)
    return problem(`expected "${escapeRest(text)}", escaped as in a request`)
  if (canonical === undefined)
    return problem('expected a path without dot segments, empty segments, query, or characters that need an escape')
  if (canonical.path !== written)
    return problem('expected escapes in upper case, and none of letters, digits, hyphen, underscore and tilde')
  if (withoutNeedlessEscapes(canonical) !== undefined)
    return problem("expected each of !$&'()+,:;=@ as it is, not escaped, and no star")
  return { kind: 'template', parts, encoded: canonical.encoded }
}

/** Escapes what no request has as it is: spaces, and what is beyond ASCII. */
function escapeRest(path: string): string {
  return path.replaceAll(/[^!-~]+/g, encodeURIComponent)
}

/** Where a rule stands in the table. */
export type Pattern = {
  /** Undefined: every method. */
  readonly methods: readonly string[] | undefined
  /** Lower-case; exact, or `*.` and a name; undefined: every host. */
  readonly host: string | undefined
  readonly parts: readonly string[]
}

/** What a request is looked up by. */
export type Looked = { readonly method: string; readonly host: string; readonly segments: readonly string[] }

/** Finds the most specific entry for a request (product.md §2, "Which rule decides"). */
export type PatternTable<T> = { readonly find: (looked: Looked) => T | undefined }

// Of ten thousand rules most are not in the processor's caches, and a look-up costs what it touches: so there are no lists
// and maps for what is one most often.
type Branch<T> = {
  /** Also empty where the branch stands for no literal. */
  readonly literal: string
  /**
   * By a number: a text fresh from the wire would be interned before a map finds it, and that costs more than the rest of
   * a look-up. Undefined where there is none: most branches are the last of a path.
   */
  literals: Map<number, Branch<T>> | undefined
  /** The next literal of the same number. */
  next: Branch<T> | undefined
  name: Branch<T> | undefined
  here: Entry<T> | undefined
  rest: Entry<T> | undefined
}
type Entry<T> = {
  /** Undefined: every method; such an entry is the last. */
  readonly method: string | undefined
  readonly found: T
  next: Entry<T> | undefined
}

/** The method whose rules judge this one: HEAD is GET without the body (RFC 9110 §9.3.2). */
export function judgedMethod(method: string): string {
  return method === 'HEAD' ? 'GET' : method
}

/**
 * Builds one tree of segments per host, so that a look-up costs what the path is deep, not what the rules are many.
 * Of two entries with the same pattern and method the first counts.
 */
export function createPatternTable<T>(entries: Iterable<readonly [Pattern, T]>): PatternTable<T> {
  const everyHost: Branch<T> = emptyBranch('')
  const exactHosts = new Map<string, Branch<T>>()
  const oneLabelHosts = new Map<string, Branch<T>>() // by what follows the label, dot included
  for (const [pattern, entry] of entries) plant(rootOf(pattern.host), pattern, entry)

  return {
    find({ host, segments, method }) {
      const judged = judgedMethod(method)
      // The host outranks the path: a less specific host is looked at only where the more specific one has nothing.
      const exact = exactHosts.size === 0 ? undefined : exactHosts.get(host)
      if (exact !== undefined) {
        const found = climb(exact, segments, 0, judged)
        if (found !== undefined) return found
      }
      if (oneLabelHosts.size > 0) {
        const dot = host.indexOf('.')
        const oneLabel = dot === -1 ? undefined : oneLabelHosts.get(host.slice(dot))
        const found = oneLabel === undefined ? undefined : climb(oneLabel, segments, 0, judged)
        if (found !== undefined) return found
      }
      return climb(everyHost, segments, 0, judged)
    },
  }

  function rootOf(host: string | undefined): Branch<T> {
    if (host === undefined) return everyHost
    return host.startsWith('*.') ? child(oneLabelHosts, host.slice(1)) : child(exactHosts, host)
  }

  function child(branches: Map<string, Branch<T>>, name: string): Branch<T> {
    const known = branches.get(name)
    if (known !== undefined) return known
    const made = emptyBranch<T>('')
    branches.set(name, made)
    return made
  }
}

function branchOf<T>(literals: Map<number, Branch<T>>, segment: string): Branch<T> | undefined {
  for (let branch = literals.get(numberOf(segment)); branch !== undefined; branch = branch.next)
    if (branch.literal === segment) return branch
  return undefined
}

function addBranch<T>(literals: Map<number, Branch<T>>, literal: string): Branch<T> {
  const number = numberOf(literal)
  const branch = emptyBranch<T>(literal, literals.get(number))
  literals.set(number, branch)
  return branch
}

/** 30 bits of a segment. */
function numberOf(segment: string): number {
  let number = segment.length
  for (let at = 0; at < segment.length; at += 1) number = Math.imul(number ^ segment.charCodeAt(at), 0x01000193)
  return (number ^ (number >>> 15)) & 0x3fffffff
}

/** Literal before name before rest, left to right. Each branch is met at most once, since it has one way to it. */
function climb<T>(branch: Branch<T>, segments: readonly string[], depth: number, method: string): T | undefined {
  const segment = segments[depth]
  if (segment === undefined) {
    const found = pick(branch.here, method)
    if (found !== undefined) return found
  } else {
    const literal = branch.literals === undefined ? undefined : branchOf(branch.literals, segment)
    if (literal !== undefined) {
      const found = climb(literal, segments, depth + 1, method)
      if (found !== undefined) return found
    }
    if (branch.name !== undefined && segment !== '') {
      const found = climb(branch.name, segments, depth + 1, method)
      if (found !== undefined) return found
    }
  }
  return pick(branch.rest, method)
}

function pick<T>(first: Entry<T> | undefined, method: string): T | undefined {
  for (let entry = first; entry !== undefined; entry = entry.next)
    if (entry.method === method || entry.method === undefined) return entry.found
  return undefined
}

function plant<T>(root: Branch<T>, { parts, methods }: Pattern, entry: T): void {
  let branch = root
  let place: 'here' | 'rest' = 'here'
  for (const part of parts) {
    if (part === '**') place = 'rest'
    else if (part === '{}') {
      branch.name ??= emptyBranch('')
      branch = branch.name
    } else {
      branch.literals ??= new Map()
      branch = branchOf(branch.literals, part) ?? addBranch(branch.literals, part)
    }
  }
  const judged = methods === undefined ? [undefined] : methods.map(judgedMethod)
  for (const method of judged) branch[place] = withEntry(branch[place], method, entry)
}

/** Of two for one method the first counts, and one for every method comes behind those for some. */
function withEntry<T>(first: Entry<T> | undefined, method: string | undefined, found: T): Entry<T> {
  let before: Entry<T> | undefined
  let next = first
  for (; next !== undefined && next.method !== method; next = next.next) {
    if (next.method === undefined) break
    before = next
  }
  if (next !== undefined && next.method === method) return first ?? next
  const made = { method, found, next }
  if (before === undefined) return made
  before.next = made
  return first ?? made
}

function emptyBranch<T>(literal: string, next?: Branch<T>): Branch<T> {
  return { literal, literals: undefined, next, name: undefined, here: undefined, rest: undefined }
}
