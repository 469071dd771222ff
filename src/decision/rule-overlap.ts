// Which patterns of rules have requests in common, found without comparing each with each, and a request to prove it by.
import type { AccessRequest } from './request.ts'
import type { Rule } from './rules.ts'
import { readTemplate } from './rules.ts'

/** The methods that nearly every service knows. */
export const usualMethods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/** A segment, a label and a method that no rule can name. */
export const stranger = '\0'

/** Rules by their paths. */
export type PatternIndex = {
  /** Those of which at least one path is one of the pattern, too, whatever their hosts and methods. */
  readonly overlapping: (parts: readonly string[]) => Iterable<Rule>
}

type Branch = { readonly rules: Rule[]; readonly next: Map<string, Branch> }

/** Puts rules into one tree of segments. */
export function createPatternIndex(rules: readonly Rule[]): PatternIndex {
  const root: Branch = { rules: [], next: new Map() }
  for (const rule of rules) {
    let branch = root
    for (const part of readTemplate(rule.path).parts) {
      const known = branch.next.get(part) ?? { rules: [], next: new Map() }
      branch.next.set(part, known)
      branch = known
    }
    branch.rules.push(rule)
  }
  return { overlapping: (parts) => meeting(root, parts, 0) }
}

function* meeting(branch: Branch, parts: readonly string[], depth: number): Generator<Rule, undefined> {
  const part = parts[depth]
  if (part === '**') return yield* everything(branch)
  yield* branch.next.get('**')?.rules ?? []
  if (part === undefined) return yield* branch.rules
  // A name is never an empty segment.
  for (const [name, next] of part === '{}' ? branch.next : literally(branch, part))
    if (name !== '**' && (part !== '{}' || name !== '')) yield* meeting(next, parts, depth + 1)
  return undefined
}

function* literally({ next }: Branch, part: string): Generator<readonly [string, Branch], undefined> {
  for (const name of part === '' ? [part] : [part, '{}']) {
    const found = next.get(name)
    if (found !== undefined) yield [name, found]
  }
}

function* everything(branch: Branch): Generator<Rule, undefined> {
  yield* branch.rules
  for (const next of branch.next.values()) yield* everything(next)
}

/** Whether a rule for one host has every request to another; undefined: every host. */
export function hostHolds(outer: string | undefined, inner: string | undefined): boolean {
  // `*.` covers one label.
  return (
    outer === undefined || outer === inner || (inner !== undefined && outer === `*${inner.slice(inner.indexOf('.'))}`)
  )
}

/** Paths of a pattern, each as segments, with strangers where it is open. */
export function samplePaths(parts: readonly string[]): readonly (readonly string[])[] {
  const filled = parts.filter((part) => part !== '**').map((part) => (part === '{}' ? stranger : part))
  if (parts.at(-1) !== '**') return [filled]
  return [[...filled, ''], [...filled, stranger], ...(filled.length > 0 ? [filled] : [])]
}

/** A request for a rule's host, a stranger's where it has none. */
export function sampleRequest(host: string | undefined, segments: readonly string[], method: string): AccessRequest {
  return {
    kind: 'request',
    method,
    host: host?.replace('*', stranger) ?? stranger,
    authority: '',
    path: '/',
    segments,
    query: '',
    encoded: 0,
    authorization: [],
    arrivedMs: 0,
    certificate: undefined,
  }
}
