// Public rules that take what another rule protects.
import type { PatternIndex, RuleFinding } from './rule-overlap.ts'
import {
  createEffort,
  createPatternIndex,
  describeUnfinished,
  holdersOf,
  matchSteps,
  reachOf,
  samplePaths,
  sampleRequest,
  stranger,
  usualMethods,
} from './rule-overlap.ts'
import { judgedMethod } from './rule-table.ts'
import type { Rule, RuleOptions } from './rules.ts'
import { compileRules, readTemplate } from './rules.ts'

/**
 * Public rules that take a whole subtree, or any one segment, out of what another rule protects, or, since a host comes
 * before every path, all of it: the scopes of the other are never asked for. A path that is spelled out where the other
 * is open is meant. Says only what it can prove.
 *
 * @param options Rules against which `findRuleConflicts` has nothing.
 * @param effort Of thousands of rules, not each is compared with each; it is said where.
 * @param hosts The names we answer for; none: all. What is for another takes nothing.
 */
export function lintPublic(
  options: readonly RuleOptions[],
  effort = createEffort(),
  hosts: readonly string[] = [],
): readonly RuleFinding[] {
  const table = compileRules(options)
  const partsOf = new Map(table.rules.map((rule) => [rule, readTemplate(rule.path).parts]))
  const guarded = Map.groupBy(
    table.rules.filter((rule) => !rule.public),
    ({ host }) => host,
  )
  const indexOf = new Map([...guarded].map(([host, rules]) => [host, createPatternIndex(rules)]))
  const rivalsOf = new Map<string, Rivals>()
  const unfinished: Rule[] = []
  const isReached = reachOf(hosts)
  const open = table.rules.filter((rule) => rule.public && isReached(rule.host))
  const found = open.flatMap((rule, at) => {
    effort.share(at, open.length)
    const outer = firstTaken(rule)
    if (outer === 'unknown') unfinished.push(rule)
    if (outer === undefined || outer === 'unknown') return []
    const shared = sharedMethods(rule, outer)
    const what = `${shared?.join(', ') ?? 'any method of'} ${rule.path}`
    const within = `${outer.id} (${outer.host ?? ''}${outer.path}), which wants one`
    const message =
      rule.host === outer.host || rule.host === undefined
        ? `${what} needs no token: ${rule.id} is public, and decides within ${within}`
        : `${what} needs no token at ${rule.host}: ${rule.id} is public, and its host comes before every path, so it decides within ${within}; which host it is the client says`
    return [{ path: [rule.index, 'match', 'path'], message }]
  })
  return [...found, ...describeUnfinished(unfinished, 'what it takes of them')]

  /** The first, by hosts and paths, of which a rule without token takes something; 'unknown' where no steps are left. */
  function firstTaken(rule: Rule): Rule | 'unknown' | undefined {
    const parts = pathOf(rule)
    for (const host of holdersOf(rule.host))
      for (const outer of rivals(rule, parts, host)) {
        if (!effort.spend(1)) return 'unknown'
        if (outer !== undefined && takes(rule, parts, outer)) return outer
      }
    return undefined
  }

  /** What a rule would take of those for a host, but for other rules; thousands of rules may have the same. */
  function* rivals(rule: Rule, parts: readonly string[], host: string | undefined) {
    const key = JSON.stringify([parts, rule.methods, host])
    const met = indexOf.get(host)?.overlapping(parts)
    const known = rivalsOf.get(key) ?? (met && { found: [], met })
    if (known === undefined) return
    rivalsOf.set(key, known)
    yield* known.found
    for (let next = known.met.next(); next.done !== true; next = known.met.next()) {
      const outer = next.value
      // The methods of two are compared in as many looks.
      effort.spend(Math.ceil(((rule.methods?.length ?? 0) * (outer?.methods?.length ?? 0)) / 8))
      const isRival =
        outer !== undefined && sharedMethods(rule, outer)?.length !== 0 && !isSpelledOut(parts, pathOf(outer))
      if (isRival) known.found.push(outer)
      yield isRival ? outer : undefined
    }
  }

  /** Whether a rule without token decides some request of another. */
  function takes(rule: Rule, parts: readonly string[], outer: Rule): boolean {
    const methods = sharedMethods(rule, outer) ?? [...usualMethods, stranger]
    return samplePaths(common(parts, pathOf(outer))).some((segments) =>
      methods.some((method) => {
        effort.spend(matchSteps)
        return table.match(sampleRequest(rule.host, segments, method)) === rule
      }),
    )
  }

  function pathOf(rule: Rule): readonly string[] {
    return partsOf.get(rule) ?? [] // each of the table is there
  }
}

/** Those found so far, and the search for more, which goes on where it was left. */
type Rivals = { readonly found: Rule[]; readonly met: ReturnType<PatternIndex['overlapping']> }

/** The methods that both have; undefined: all. */
function sharedMethods({ methods }: Rule, outer: Rule): readonly string[] | undefined {
  const others = outer.methods?.map(judgedMethod)
  return (methods ?? outer.methods)?.filter((one) => others?.includes(judgedMethod(one)) ?? true)
}

/** Whether a pattern is the first, from left to right, to name what another that overlaps with it leaves open. */
function isSpelledOut(parts: readonly string[], others: readonly string[]): boolean {
  const isOpen = (part: string | undefined) => part === '{}' || part === '**'
  for (const [at, part] of parts.entries()) {
    const other = others[at] ?? '**'
    if (other === '**') return !parts.slice(at).every(isOpen)
    if (isOpen(part) !== isOpen(other)) return isOpen(other)
    if (part === '**') return false
  }
  // `/a` is what `/a/**` would have, too.
  return others[parts.length] === '**'
}

/** The pattern of what two that overlap both match. */
function common(parts: readonly string[], others: readonly string[]): readonly string[] {
  const made: string[] = []
  for (const [at, part] of parts.entries()) {
    const other = others[at]
    if (part === '**') return [...made, ...others.slice(at)]
    if (other === undefined || other === '**') return [...made, ...parts.slice(at)]
    made.push(part === '{}' ? other : part)
  }
  return made
}
