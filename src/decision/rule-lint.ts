import { nearest } from '../base/nearest.ts'
import type { RuleFinding } from './rule-overlap.ts'
import {
  createEffort,
  createPatternIndex,
  describeUnfinished,
  holdersOf,
  matchSteps,
  reachOf,
  samplePaths,
  sampleRequest,
  usualMethods,
} from './rule-overlap.ts'
import { judgedMethod } from './rule-table.ts'
import type { Rule, RuleOptions } from './rules.ts'
import { compileRules, maskOf, maxMethods, readTemplate, ruleId } from './rules.ts'

/**
 * What makes rules that the schema accepts unfit to load; empty when nothing does.
 *
 * @param placeOf Where a rule stands in the file; undefined where this part of it was refused, so that nothing can be
 *   compared with it. Default: where it stands here.
 */
export function findRuleConflicts(
  options: readonly RuleOptions[],
  placeOf: (at: number, part: 'id' | 'match') => number | undefined = (at) => at,
): readonly RuleFinding[] {
  const found: RuleFinding[] = []
  const ids = new Map<string, number>()
  const taken = createMethodIndex()
  const methods = new Set<string>()
  for (const [at, rule] of options.entries()) {
    for (const method of rule.match.methods ?? []) methods.add(method)
    const named = placeOf(at, 'id')
    if (named !== undefined) {
      const id = ruleId(rule, named)
      if (ids.has(id)) {
        const path = rule.id === undefined ? [at] : [at, 'id']
        // Any other is written, and may come from a variable that holds a secret.
        const why = /^rule-\d+$/.test(id) ? `is ${id}` : 'has it'
        found.push({ path, message: `expected an id of its own, and rules.${ids.get(id)} ${why} already` })
      }
      ids.set(id, named)
    }
    found.push(...findMatchConflicts(rule, at))
    const place = placeOf(at, 'match')
    const earlier = place === undefined ? undefined : taken.claim(rule, place)
    if (earlier !== undefined) {
      const message = `expected a pattern and method of its own, and rules.${earlier} has the same`
      found.push({ path: [at, 'match', 'path'], message })
    }
    if (rule.public) found.push(...findPublicConflicts(rule, at))
    if (methods.size > maxMethods) {
      found.push({ path: [at, 'match', 'methods'], message: `expected at most ${maxMethods} methods in all rules` })
      break
    }
  }
  return found
}

/**
 * What `check` warns of: rules that load, and may not do what was meant. Says only what it can prove.
 *
 * @param options Rules against which `findRuleConflicts` has nothing.
 * @param effort Of thousands of rules, not each is compared with each; it is said where.
 * @param hosts The names we answer for; none: all. What is for another leaves nothing open, and protects nothing.
 */
export function lintRules(
  options: readonly RuleOptions[],
  effort = createEffort(),
  hosts: readonly string[] = [],
): readonly RuleFinding[] {
  const table = compileRules(options)
  const index = createMethodIndex()
  for (const [at, rule] of options.entries()) index.claim(rule, at)
  const methods = [...new Set([...usualMethods, ...options.flatMap(({ match }) => match.methods ?? [])])].map(
    judgedMethod,
  )
  const isReached = reachOf(hosts)
  const limited = table.rules.filter((rule) => rule.methods !== undefined && isReached(rule.host))
  // Without methods it has all of the path, and then the other decides none of it.
  const open = createPatternIndex(limited.filter((rule) => rule.public && rule.host !== undefined))
  const gaps = new Map<string, Gap>()
  const found = table.rules.flatMap((rule) => {
    const found: RuleFinding[] = []
    const here = [rule.index]
    const { all, any } = rule.scopes
    if (!rule.public && all.length + any.length + rule.claims.length === 0)
      found.push({
        path: here,
        message: `${rule.id} asks for no scope and no claim: any valid token of its issuers passes`,
      })
    if (takenIds.has(rule.id))
      found.push({
        path: [...here, 'id'],
        message: `${rule.id} stands for something else in logs and metrics: ${takenIds.get(rule.id)}`,
      })
    if (isShadowed(rule, index))
      found.push({
        path: [...here, 'match'],
        message: `${rule.id} is never reached: more specific rules take all it matches`,
      })
    if (options[rule.index]?.insecure === true && !isCatchAll(rule))
      found.push({
        path: [...here, 'insecure'],
        message: `${rule.id} needs no insecure: it is not a public rule for every path, such as /** or /{name}/**`,
      })
    for (const [at, method] of rule.methods?.entries() ?? []) {
      const message = oddMethod(method)
      if (message !== undefined) found.push({ path: [...here, 'match', 'methods', at], message })
    }
    const colon = readTemplate(rule.path).parts.find((part) => /^:[A-Za-z_]/.test(part))
    if (colon !== undefined)
      found.push({
        path: [...here, 'match', 'path'],
        message: `${colon} matches only these very characters; {${colon.slice(1)}} would match any one segment`,
      })
    if (readTemplate(rule.path).parts.some((part) => /.\$$|\.\+/.test(part)))
      found.push({
        path: [...here, 'match', 'path'],
        message: 'this matches only these very characters: a path is compared as a whole, and is no regular expression',
      })
    for (const [at, protocol] of rule.upgrade.entries())
      if (protocol !== 'websocket' && nearest(protocol, ['websocket']) !== undefined)
        found.push({
          path: [...here, 'upgrade', at],
          message: `${protocol} is no usual protocol, did you mean "websocket"?`,
        })
    return found
  })
  const tried = new Set(methods)
  const guarded = limited.filter((rule) => !rule.public)
  const unfinished = guarded.filter((rule, at) => {
    effort.share(at, guarded.length)
    return !fallThrough(rule, rule.methods ?? [])
  })
  return [
    ...found,
    ...[...gaps.values()].map(describeGap),
    ...describeUnfinished(unfinished, 'what public rules take of it'),
  ]

  /** Enters the methods with which a path that this rule protects reaches a public one; false: not all were tried. */
  function fallThrough(rule: Rule, named: readonly string[]): boolean {
    const own = new Set(named.map(judgedMethod))
    for (const segments of samplePaths(readTemplate(rule.path).parts))
      for (const host of hostsWithin(rule.host, segments, own)) {
        if (!effort.spend(1)) return false
        if (host === null) continue
        const decides = (method: string) => {
          effort.spend(matchSteps)
          return table.match(sampleRequest(host, segments, method))
        }
        if (!named.some((method) => decides(method) === rule)) continue
        for (const method of tried) {
          if (!effort.spend(1)) return false
          const other = own.has(method) ? undefined : decides(method)
          if (other?.kind !== 'rule' || !other.public) continue
          // Hundreds of hosts may be open in the same way.
          const key = `${other.path} ${other.methods}`
          const gap = gaps.get(key) ?? { rule, open: other, methods: new Set(), alike: new Set(), opened: new Set() }
          gaps.set(key, gap)
          gap.alike.add(rule)
          gap.opened.add(other)
          if (gap.rule === rule) gap.methods.add(method)
        }
      }
    return true
  }

  /** A host, and those within it of which public rules have other methods of a path; null for a step between them. */
  function* hostsWithin(host: string | undefined, segments: readonly string[], own: ReadonlySet<string>) {
    yield host
    if (host !== undefined && !host.startsWith('*.')) return
    const told = new Set([host])
    for (const each of open.overlapping(segments)) {
      const hasOther = each?.methods?.some((method) => !own.has(judgedMethod(method))) === true
      const isNew = hasOther && !told.has(each.host) && holdersOf(each.host).includes(host)
      if (isNew) told.add(each.host)
      yield isNew ? each.host : null
    }
  }
}

/** What a protected rule leaves to a public one, and which others do so. */
type Gap = {
  readonly rule: Rule
  readonly open: Rule
  readonly methods: Set<string>
  /** Protected, the first with them. */
  readonly alike: Set<Rule>
  /** Public, with the same path and methods for other hosts, the first with them. */
  readonly opened: Set<Rule>
}

function describeGap({ rule, open, methods, alike, opened }: Gap): RuleFinding {
  const others = opened.size === 1 ? '' : `, and ${opened.size - 1} more for other hosts`
  const more = alike.size === 1 ? '' : `; so it is with ${alike.size - 1} more`
  const message = `${rule.id} does not cover ${[...methods].join(', ')}: the public rule ${open.id} does${others}${more}`
  return { path: [rule.index], message }
}

// And those of WebDAV (RFC 4918, RFC 3253, RFC 5323), CalDAV and caches.
const knownMethods: ReadonlySet<string> = new Set([
  ...usualMethods,
  'HEAD',
  'QUERY',
  'PROPFIND',
  'PROPPATCH',
  'MKCOL',
  'MKCALENDAR',
  'COPY',
  'MOVE',
  'LOCK',
  'UNLOCK',
  'REPORT',
  'SEARCH',
  'ACL',
  'BIND',
  'REBIND',
  'UNBIND',
  'LINK',
  'UNLINK',
  'LABEL',
  'MERGE',
  'PURGE',
])

const takenIds: ReadonlyMap<string, string> = new Map([
  ['cors', 'preflights that cors: answers'],
  ['other', 'rules that have no series of their own'],
])

// What other gateways and their users write.
const otherWords: Readonly<Record<string, string>> = {
  DEL: 'DELETE',
  REMOVE: 'DELETE',
  READ: 'GET',
  WRITE: 'POST',
  CREATE: 'POST',
  UPDATE: 'PUT" or "PATCH',
}

function oddMethod(method: string): string | undefined {
  if (knownMethods.has(method)) return undefined
  if (method === 'ANY' || method === 'ALL')
    return `${method} is a method that nobody sends; without methods a rule is for all of them`
  const guess = otherWords[method] ?? nearest(method, knownMethods)
  return guess === undefined ? undefined : `${method} is no usual method, did you mean "${guess}"?`
}

function findMatchConflicts({ match, allow_encoded, upgrade }: RuleOptions, at: number): RuleFinding[] {
  const found: RuleFinding[] = []
  const { methods, path } = match
  if (methods?.includes('HEAD') && !methods.includes('GET'))
    found.push({ path: [at, 'match', 'methods'], message: 'expected GET beside HEAD, which is judged as GET' })
  if (upgrade.length > 0 && methods?.includes('GET') === false)
    found.push({ path: [at, 'upgrade'], message: 'expected GET among the methods: nothing else is upgraded' })
  if ((readTemplate(path).encoded & ~maskOf(allow_encoded)) !== 0)
    found.push({
      path: [at, 'match', 'path'],
      message: 'expected its escapes in allow_encoded, else nothing can match',
    })
  return found
}

function findPublicConflicts(rule: RuleOptions, at: number): RuleFinding[] {
  const { scopes, claims, issuers, audience, freshness } = rule
  const asks = {
    scopes: (Array.isArray(scopes) ? scopes : [...scopes.all, ...scopes.any]).length > 0,
    claims: Object.keys(claims).length > 0,
    issuers: issuers !== undefined,
    audience: audience !== undefined,
    freshness: freshness !== 'cached',
  }
  const found: RuleFinding[] = Object.entries(asks).flatMap(([name, asked]) => {
    return asked ? [{ path: [at, name], message: `expected no ${name} on a public rule, which reads no token` }] : []
  })
  if (isCatchAll({ public: true, path: rule.match.path }) && !rule.insecure)
    found.push({ path: [at, 'public'], message: 'expected insecure: true beside a public rule for every path' })
  return found
}

/** Whether a rule is public for every path, or for every one that has so many segments. */
function isCatchAll(rule: { readonly public: boolean; readonly path: string }): boolean {
  const { parts } = readTemplate(rule.path)
  return rule.public && parts.at(-1) === '**' && parts.slice(0, -1).every((part) => part === '{}')
}

/** Which rule has which pattern and method, the names in braces counted as equal. */
type MethodIndex = {
  /** Enters a rule; returns the place of an earlier one that has the pattern with one of its methods. */
  readonly claim: (rule: RuleOptions, at: number) => number | undefined
  /** Whether a rule has exactly this pattern with this method; `'*'` is every method. */
  readonly has: (host: string | undefined, parts: readonly string[], method: string) => boolean
}

function createMethodIndex(): MethodIndex {
  const patterns = new Map<string, Map<string, number>>()
  return {
    claim({ match }, at) {
      const key = keyOf(match.host, readTemplate(match.path).parts)
      const held = patterns.get(key) ?? new Map<string, number>()
      patterns.set(key, held)
      const methods = new Set(match.methods?.map(judgedMethod) ?? ['*'])
      const [any] = held.values()
      let earlier = methods.has('*') ? any : held.get('*')
      for (const method of methods) {
        earlier ??= held.get(method)
        if (!held.has(method)) held.set(method, at)
      }
      return earlier
    },
    has(host, parts, method) {
      const held = patterns.get(keyOf(host, parts))
      return held !== undefined && (held.has('*') || held.has(method))
    },
  }

  function keyOf(host: string | undefined, parts: readonly string[]): string {
    return `${host ?? ''}/${parts.join('/')}`
  }
}

/**
 * Whether other rules take every request this one matches. Only a closing `**` can be covered so: there is always one
 * more literal than the rules name, for a segment as for a host.
 */
function isShadowed(rule: Rule, index: MethodIndex): boolean {
  const { parts } = readTemplate(rule.path)
  if (parts.at(-1) !== '**') return false
  const methods = rule.methods?.map(judgedMethod) ?? ['*']
  return methods.every((method) => isCovered(parts.slice(0, -1), method))

  /** The path itself, with a closing slash, and with a segment more, by a `**` of its own or again so. */
  function isCovered(parts: readonly string[], method: string): boolean {
    const named = [...parts, '{}']
    if (parts.length > 0 && !index.has(rule.host, parts, method)) return false
    if (!index.has(rule.host, [...parts, ''], method)) return false
    return index.has(rule.host, [...named, '**'], method) || isCovered(named, method)
  }
}
