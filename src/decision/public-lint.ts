// Public rules that take what another rule protects, and rules for a host that take it for less.
import type { Effort, PatternIndex, RuleFinding } from './rule-overlap.ts'
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
 * is open is meant, unless it is for a host, which the client says. Says only what it can prove.
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
  const isChosen = choiceOf(hosts)
  const whyAt = whyOf(hosts)
  const { taken, unfinished } = findTaken(options, effort, hosts, {
    isTaker: (rule) => rule.public,
    holders: ({ host }) => holdersOf(host),
    keyOf: ({ host, methods }) => [methods, isChosen(host)],
    isRival: (rule, parts, _outer, others) =>
      !isSpelledOut(parts, others) || (isChosen(rule.host) && isWithin(parts, others)),
    decidesElse: (parts, others) => isSpelledOut(parts, others),
    elsewhere: hosts,
  })
  const found = taken.map(({ rule, outer }) => {
    const shared = sharedMethods(rule, outer)
    const what = `${shared?.join(', ') ?? 'any method of'} ${rule.path}`
    const within = `${outer.id} (${outer.host ?? ''}${outer.path}), which wants one`
    const message =
      rule.host === outer.host || rule.host === undefined
        ? `${what} needs no token: ${rule.id} is public, and decides within ${within}`
        : `${what} needs no token at ${rule.host}: ${rule.id} is public, and its host comes before every path, so it decides within ${within}; ${whyAt(rule, outer)}`
    return { path: [rule.index, 'match', 'path'], message }
  })
  return [...found, ...describeUnfinished(unfinished, 'what it takes of them')]
}

/** Whether a client can say the host of a rule or another: where all of ours have it, there is no choice. */
function choiceOf(hosts: readonly string[]): (host: string | undefined) => boolean {
  return (host) => hosts.length === 0 || !hosts.every((name) => holdersOf(name).includes(host))
}

/** Why a rule for a host takes what another one has. */
function whyOf(hosts: readonly string[]): (rule: Rule, outer: Rule) => string {
  const isChosen = choiceOf(hosts)
  return (rule, outer) =>
    isChosen(rule.host) ? 'which host it is the client says' : `no other of hosts is left for ${outer.id}`
}

// Under a second: what is said of public rules matters more.
const maxHostSteps = 2_000_000

/**
 * Rules for a host that, since that comes before every path, hide a stricter rule which spells out a path that they leave
 * open: they ask for less, and which host it is the client says. Says only what it can prove.
 *
 * @param options Rules against which `findRuleConflicts` has nothing.
 * @param effort Of thousands of rules, not each is compared with each; it is said where.
 * @param hosts The names we answer for; none: all. What is for another takes nothing.
 */
export function lintHosts(
  options: readonly RuleOptions[],
  effort = createEffort(maxHostSteps),
  hosts: readonly string[] = [],
): readonly RuleFinding[] {
  const { taken, unfinished } = findTaken(options, effort, hosts, {
    isTaker: (rule) => !rule.public && rule.host !== undefined,
    holders: ({ host }) => holdersOf(host).filter((each) => each !== host),
    keyOf: ({ methods, scopes, claims }) => [methods, scopes, claims],
    isRival: (rule, parts, outer, others) => isSpelledOut(others, parts) && missingFrom(rule, outer) !== undefined,
    decidesElse: () => true,
    elsewhere: [],
  })
  const whyAt = whyOf(hosts)
  // Hundreds of hosts may hide the same in the same way.
  const alike = Map.groupBy(taken, ({ rule, outer }) => JSON.stringify([rule.path, rule.methods, outer.index]))
  const found = [...alike.values()].flatMap(([first, ...more]) => {
    if (first === undefined) return []
    const { rule, outer } = first
    const what = `${sharedMethods(rule, outer)?.join(', ') ?? 'any method of'} ${outer.path}`
    const others = more.length === 0 ? '' : `; so it is with ${more.length} more for other hosts`
    const needs = missingFrom(outer, rule) === undefined ? 'less' : 'something else'
    const message = `${what} needs ${needs} at ${rule.host}: ${rule.id} lacks a ${missingFrom(rule, outer)} that ${outer.id} wants, and its host comes before every path; ${whyAt(rule, outer)}${others}`
    return [{ path: [rule.index, 'match', 'host'], message }]
  })
  return [...found, ...describeUnfinished(unfinished, 'what it takes of them')]
}

/** What a rule does not ask for, and another does; undefined where there is nothing. */
function missingFrom(rule: Rule, { scopes: { all, any }, claims }: Rule): 'scope' | 'claim' | undefined {
  const isOne = (each: string) => any.includes(each)
  const hasOne = rule.scopes.all.some(isOne) || (rule.scopes.any.length > 0 && rule.scopes.any.every(isOne))
  if (!all.every((each) => rule.scopes.all.includes(each)) || (any.length > 0 && !hasOne)) return 'scope'
  const isAsked = ({ name, oneOf }: Rule['claims'][number]) =>
    rule.claims.some((each) => each.name === name && each.oneOf.every((value) => oneOf.includes(value)))
  return claims.every(isAsked) ? undefined : 'claim'
}

/** Which rules may take something from which others. */
type Way = {
  readonly isTaker: (rule: Rule) => boolean
  /** The hosts of the others, the closest first. */
  readonly holders: (rule: Rule) => readonly (string | undefined)[]
  /** What `isRival` hangs on beside the rule's path. */
  readonly keyOf: (rule: Rule) => readonly unknown[]
  readonly isRival: (rule: Rule, parts: readonly string[], outer: Rule, others: readonly string[]) => boolean
  /** Whether the other must be what decides for another host. */
  readonly decidesElse: (parts: readonly string[], others: readonly string[]) => boolean
  /** For one of which names it must be; none: for any of its own. */
  readonly elsewhere: readonly string[]
}

type Taken = { readonly rule: Rule; readonly outer: Rule }

/** Of each rule that takes something from a protected one the first of those, by hosts and paths. */
function findTaken(
  options: readonly RuleOptions[],
  effort: Effort,
  hosts: readonly string[],
  way: Way,
): { readonly taken: readonly Taken[]; readonly unfinished: readonly Rule[] } {
  const table = compileRules(options)
  const partsOf = new Map(table.rules.map((rule) => [rule, readTemplate(rule.path).parts]))
  const guarded = Map.groupBy(
    table.rules.filter((rule) => !rule.public),
    ({ host }) => host,
  )
  const indexOf = new Map([...guarded].map(([host, rules]) => [host, createPatternIndex(rules)]))
  const rivalsOf = new Map<string, Rivals>()
  const decidedElse = new Map<string, boolean>()
  const unfinished: Rule[] = []
  const isReached = reachOf(hosts)
  const takers = table.rules.filter((rule) => way.isTaker(rule) && isReached(rule.host))
  const taken = takers.flatMap((rule, at) => {
    effort.share(at, takers.length)
    const outer = firstTaken(rule)
    if (outer === 'unknown') unfinished.push(rule)
    return outer === undefined || outer === 'unknown' ? [] : [{ rule, outer }]
  })
  return { taken, unfinished }

  /** The first, by hosts and paths, of which a rule takes something; 'unknown' where no steps are left. */
  function firstTaken(rule: Rule): Rule | 'unknown' | undefined {
    const parts = pathOf(rule)
    for (const host of way.holders(rule))
      for (const outer of rivals(rule, parts, host)) {
        if (!effort.spend(1)) return 'unknown'
        if (outer !== undefined && takes(rule, parts, outer)) return outer
      }
    return undefined
  }

  /** What a rule would take of those for a host, but for other rules; thousands of rules may have the same. */
  function* rivals(rule: Rule, parts: readonly string[], host: string | undefined) {
    const key = JSON.stringify([parts, way.keyOf(rule), host])
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
        outer !== undefined &&
        sharedMethods(rule, outer)?.length !== 0 &&
        way.isRival(rule, parts, outer, pathOf(outer))
      if (isRival) known.found.push(outer)
      yield isRival ? outer : undefined
    }
  }

  /** Whether a rule decides some request that another would have. */
  function takes(rule: Rule, parts: readonly string[], outer: Rule): boolean {
    const others = pathOf(outer)
    const methods = sharedMethods(rule, outer) ?? [...usualMethods, stranger]
    const decides = (by: Rule, segments: readonly string[], method: string, host = by.host) => {
      effort.spend(matchSteps)
      return table.match(sampleRequest(host, segments, method)) === by
    }
    const decidesElse = (segments: readonly string[], method: string) => {
      if (way.elsewhere.length === 0) return decides(outer, segments, method)
      // Whoever takes it: a thousand hosts may have the same path.
      const key = JSON.stringify([outer.index, method, segments])
      const isDecided = decidedElse.get(key) ?? way.elsewhere.some((host) => decides(outer, segments, method, host))
      decidedElse.set(key, isDecided)
      return isDecided
    }
    return samplePaths(common(parts, others)).some((segments) =>
      methods.some(
        (method) =>
          decides(rule, segments, method) && (!way.decidesElse(parts, others) || decidesElse(segments, method)),
      ),
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

/** Whether all that a pattern matches another that overlaps with it matches, too. */
function isWithin(parts: readonly string[], others: readonly string[]): boolean {
  return common(parts, others).join('/') === parts.join('/')
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
