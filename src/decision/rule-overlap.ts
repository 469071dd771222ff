// Which patterns of rules have requests in common, found without comparing each with each, and a request to prove it by;
// and what is said where not all of that was found.
import type { AccessRequest } from './request.ts'
import type { Rule } from './rules.ts'
import { readTemplate } from './rules.ts'

/** Something to say about the rules, and where: the path begins at the list of rules. */
export type RuleFinding = { readonly path: readonly (string | number)[]; readonly message: string }

/** The methods that nearly every service knows. */
export const usualMethods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/** A segment, a label and a method that no rule can name. */
export const stranger = '\0'

/**
 * How much of thousands of rules is compared with each other. In steps: by the time, what is said would depend on the
 * machine.
 */
export type Effort = {
  /** Lets one of several rules, by its number from 0, take its share and what those before it left of theirs. */
  readonly share: (at: number, of: number) => void
  /** Takes steps; false: none was left. */
  readonly spend: (steps: number) => boolean
}

// Some seconds at the worst; each of three thousand rules with each.
const usualSteps = 10_000_000

/** What finding the rule for one request takes, beside a comparison of two hosts. */
export const matchSteps = 10

/**
 * Begins to count.
 *
 * @param maxSteps Of all rules together.
 */
export function createEffort(maxSteps = usualSteps): Effort {
  let spent = 0
  let allowed = maxSteps
  return {
    share(at, of) {
      allowed = (maxSteps / of) * (at + 1)
    },
    spend(steps) {
      if (spent >= allowed) return false
      spent += steps
      return true
    },
  }
}

/** Says of rules that were not compared with all others what is not told: the rest of `what`. One finding, at the first. */
export function describeUnfinished([rule, ...more]: readonly Rule[], what: string): readonly RuleFinding[] {
  if (rule === undefined) return []
  const others = more.length === 0 ? '' : `, and so were ${more.length} more`
  const message = `${rule.id} was compared with some rules only, since there are so many${others}: ${what} is not told in full`
  return [{ path: [rule.index, 'match', 'path'], message }]
}

/** Rules by their paths. */
export type PatternIndex = {
  /**
   * Those of which at least one path is one of the pattern, too, whatever their hosts and methods; undefined for each
   * step on the way to them.
   */
  readonly overlapping: (parts: readonly string[]) => Generator<Rule | undefined, undefined>
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

type Met = Generator<Rule | undefined, undefined>

function* meeting(branch: Branch, parts: readonly string[], depth: number): Met {
  yield undefined
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

function* everything(branch: Branch): Met {
  yield undefined
  yield* branch.rules
  for (const next of branch.next.values()) yield* everything(next)
}

/** The hosts whose rules have every request to one; undefined: every host. */
export function holdersOf(host: string | undefined): readonly (string | undefined)[] {
  if (host === undefined) return [undefined]
  // `*.` covers one label.
  return [...new Set([host, `*${host.slice(host.indexOf('.'))}`, undefined])]
}

/** Whether any request comes to a rule for a host where we answer for these names; for none of them: for all. */
export function reachOf(hosts: readonly string[]): (host: string | undefined) => boolean {
  const reached = new Set(hosts.flatMap(holdersOf))
  return (host) => host === undefined || hosts.length === 0 || reached.has(host)
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
