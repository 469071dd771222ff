import type { AccessRequest } from '../../decision/request.ts'
import type { RuleOptions } from '../../decision/rules.ts'
import { compileRules } from '../../decision/rules.ts'

/**
 * For a request that no rule matches: a rule that would with another method, host, closing slash or with letters of the
 * other case, in a sentence; nothing where there is none.
 */
export function findNearMiss(request: AccessRequest, rules: readonly RuleOptions[]): string | undefined {
  const table = compileRules(rules)
  const ruleFor = (changed: Partial<AccessRequest>) => {
    const found = table.match({ ...request, ...changed })
    return found.kind === 'rule' ? found.id : undefined
  }
  const methods = new Set(rules.flatMap(({ match }) => match.methods ?? []))
  for (const method of methods) {
    const id = ruleFor({ method })
    if (id !== undefined) return `Near: ${id} has this path, for ${method}.`
  }
  const { segments, path } = request
  const isClosed = segments.at(-1) === ''
  const toggled = isClosed ? segments.slice(0, -1) : [...segments, '']
  const slashed = toggled.length === 0 ? undefined : ruleFor({ segments: toggled })
  if (slashed !== undefined)
    return `Near: ${slashed} has ${isClosed ? path.slice(0, -1) : `${path}/`}, another path than this.`
  for (const { match } of rules) {
    const id = match.host === undefined ? undefined : ruleFor({ host: match.host.replace('*', 'any') })
    if (id !== undefined) return `Near: ${id} has this path, for the host ${match.host}.`
  }
  const folded = compileRules(rules.map((rule) => ({ ...rule, match: { ...rule.match, path: fold(rule.match.path) } })))
  const found = folded.match({ ...request, segments: segments.map(fold) })
  const cased = found.kind === 'rule' ? rules[found.index] : undefined
  if (found.kind === 'rule' && cased !== undefined)
    return `Near: ${found.id} has ${cased.match.path}, and an upper-case letter is another than a lower-case one.`
  return undefined
}

/** In lower case, but for escapes. */
function fold(path: string): string {
  return path.toLowerCase().replaceAll(/%[0-9a-f]{2}/g, (triplet) => triplet.toUpperCase())
}
