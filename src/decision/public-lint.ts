// Public rules that take what another rule protects.
import type { RuleFinding } from './rule-lint.ts'
import { createPatternIndex, hostHolds, samplePaths, sampleRequest, stranger, usualMethods } from './rule-overlap.ts'
import { judgedMethod } from './rule-table.ts'
import type { Rule, RuleOptions } from './rules.ts'
import { compileRules, readTemplate } from './rules.ts'

/**
 * Public rules that take a whole subtree, or any one segment, out of what another rule protects, or, since a host comes
 * before every path, all of it: the scopes of the other are never asked for. A path that is spelled out where the other
 * is open is meant. Says only what it can prove.
 *
 * @param options Rules against which `findRuleConflicts` has nothing.
 */
export function lintPublic(options: readonly RuleOptions[]): readonly RuleFinding[] {
  const table = compileRules(options)
  const guarded = createPatternIndex(table.rules.filter((rule) => !rule.public))
  const rivalsOf = new Map<string, readonly Rule[]>()
  return table.rules.flatMap((rule) => {
    const outer = rule.public ? firstTaken(rule) : undefined
    if (outer === undefined) return []
    const shared = sharedMethods(rule, outer)
    const what = `${shared?.join(', ') ?? 'any method of'} ${rule.path}`
    const within = `${outer.id} (${outer.host ?? ''}${outer.path}), which wants one`
    const message =
      rule.host === outer.host || rule.host === undefined
        ? `${what} needs no token: ${rule.id} is public, and decides within ${within}`
        : `${what} needs no token at ${rule.host}: ${rule.id} is public, and its host comes before every path, so it decides within ${within}; which host it is the client says`
    return [{ path: [rule.index, 'match', 'path'], message }]
  })

  function firstTaken(rule: Rule): Rule | undefined {
    const { parts } = readTemplate(rule.path)
    return rivals(rule, parts).find((outer) => hostHolds(outer.host, rule.host) && takes(rule, parts, outer))
  }

  /** What a rule would take but for hosts; thousands of hosts may have the same. */
  function rivals(rule: Rule, parts: readonly string[]): readonly Rule[] {
    const key = JSON.stringify([parts, rule.methods])
    const known = rivalsOf.get(key)
    if (known !== undefined) return known
    const found: Rule[] = []
    for (const outer of guarded.overlapping(parts))
      if (sharedMethods(rule, outer)?.length !== 0 && !isSpelledOut(parts, readTemplate(outer.path).parts))
        found.push(outer)
    rivalsOf.set(key, found)
    return found
  }

  /** Whether a rule without token decides some request of another. */
  function takes(rule: Rule, parts: readonly string[], outer: Rule): boolean {
    const methods = sharedMethods(rule, outer) ?? [...usualMethods, stranger]
    return samplePaths(common(parts, readTemplate(outer.path).parts)).some((segments) =>
      methods.some((method) => table.match(sampleRequest(rule.host, segments, method)) === rule),
    )
  }
}

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
