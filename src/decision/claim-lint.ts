// Claim conditions that no token meets as they are read, or hardly any.
import type { RuleFinding } from './rule-overlap.ts'
import type { RuleOptions } from './rules.ts'

/** What `check` warns of in the claim conditions of rules: those that look like something else than a value. */
export function lintClaims(options: readonly RuleOptions[]): readonly RuleFinding[] {
  return options.flatMap(({ claims }, rule) =>
    Object.entries(claims).flatMap(([name, wanted]) => {
      const here = [rule, 'claims', name]
      if (times.has(name))
        return [{ path: here, message: `each token has a time of its own in ${name}: hardly any is asked for here` }]
      const isList = Array.isArray(wanted)
      return (isList ? wanted : [wanted]).flatMap((value, at) => {
        const message = typeof value === 'string' ? oddText(name, value) : undefined
        return message === undefined ? [] : [{ path: isList ? [...here, at] : here, message }]
      })
    }),
  )
}

const times: ReadonlySet<string> = new Set(['exp', 'iat', 'nbf', 'auth_time'])

// Of a star in these more is said where values are looked through.
const names: ReadonlySet<string> = new Set(['client_id', 'azp', 'aud', 'jti', 'sid'])

function oddText(name: string, text: string): string | undefined {
  if ((name === 'scope' || name === 'scp') && !text.includes(' '))
    return `most tokens have all their scopes in one text, and meet this only where they have no other; list it in scopes`
  const sign = /^(?:[<>]=?|[!=]=?|\^)/.exec(text)?.[0] ?? (/^[^/]*\*[^/]*$/.test(text) ? '*' : undefined)
  if (sign === undefined || (sign === '*' && names.has(name))) return undefined
  return `${sign} means nothing here: a claim is compared as it stands with each value listed`
}
