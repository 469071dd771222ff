// Values that the schema takes, and that no token is likely to have. None is quoted: the line is shown, without what may be
// a secret in it, and a value may come from the environment.
import type { CrossFinding } from '../config/load.ts'
import type { Path } from '../config/problems.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { RuleOptions } from '../decision/rules.ts'
import { textClaims } from '../spec/claims.ts'

/** Audiences, scopes and claim values that look like several, or like a pattern, and are compared as they stand. */
export function lintValues(options: GatewayOptions): readonly CrossFinding[] {
  const { issuers, rules, identity_headers } = options
  return [
    ...lintReferences([], options),
    ...Object.entries(identity_headers).flatMap(([header, claim]) => lintIdentityHeader(header, claim)),
    ...issuers.flatMap(({ audience }, at) => lintNames(['issuers', at, 'audience'], audience)),
    ...rules.flatMap((rule, at) => {
      const here = ['rules', at]
      return [
        ...(rule.audience === undefined ? [] : lintNames([...here, 'audience'], rule.audience)),
        ...lintScopes([...here, 'scopes'], rule),
        ...Object.entries(rule.claims).flatMap(([name, wanted]) => lintClaim([...here, 'claims', name], name, wanted)),
      ]
    }),
  ]
}

/** Names of variables as other programs write them. */
function lintReferences(path: Path, value: unknown): readonly CrossFinding[] {
  if (typeof value === 'string') {
    if (!reference.test(value)) return []
    return [{ path, message: `this is taken as it stands; an environment variable is written \${NAME}` }]
  }
  if (typeof value !== 'object' || value === null) return []
  if (Array.isArray(value)) return value.flatMap((each, at) => lintReferences([...path, at], each))
  return Object.entries(value).flatMap(([key, each]) => lintReferences([...path, key], each))
}

const reference = /^\$[A-Z_][A-Z0-9_]{2,}$|\$\([A-Z_][A-Z0-9_]*\)|%[A-Z_][A-Z0-9_]{2,}%/

/** A header and a claim in each other's place. */
function lintIdentityHeader(header: string, claim: string): readonly CrossFinding[] {
  if (header.startsWith('x-') || !/^x-/i.test(claim)) return []
  const message = 'the claim looks like a header, and the header like a claim; the header comes first: x-subject: sub'
  return [{ path: ['identity_headers', header], message }]
}

function lintScopes(path: Path, { scopes, claims }: RuleOptions): readonly CrossFinding[] {
  if (Array.isArray(scopes)) return lintNames(path, scopes)
  // Of one that asks for no claim either, more is said.
  if (scopes.all.length + scopes.any.length === 0 && Object.keys(claims).length > 0)
    return [{ path, message: 'no scope is asked for, since none is listed' }]
  return [...lintNames([...path, 'all'], scopes.all), ...lintNames([...path, 'any'], scopes.any)]
}

/** Names that are one word each, as a rule. */
function lintNames(path: Path, names: string | readonly string[]): readonly CrossFinding[] {
  return lintMembers(path, names, oddInName)
}

function oddInName(name: string): string | undefined {
  if (/[\s,]/.test(name)) return 'this is one value, with a space or comma in it; several are written [a, b]'
  if (name.includes('*')) return 'this matches only these very characters: * stands for nothing else here'
  if (/[\u2018-\u201f]/.test(name)) return 'this has typographic quotes in it'
  return undefined
}

function lintClaim(path: Path, name: string, wanted: RuleOptions['claims'][string]): readonly CrossFinding[] {
  if (times.has(name))
    return [{ path, message: `each token has a time of its own in ${name}: hardly any is asked for here` }]
  // `com.example.role` and `https://api.test/roles` are names that issuers give.
  if (name.includes('.') && objects.has(name.slice(0, name.indexOf('.'))))
    return [{ path, message: 'this is one name: no claim within another is looked for' }]
  return lintMembers(path, wanted, (value) => oddInClaim(name, value))
}

function oddInClaim(name: string, value: string | number | boolean): string | undefined {
  if (typeof value !== 'string')
    return textClaims.includes(name) ? `no token has this: ${name} is text, so quote it` : undefined
  if ((name === 'scope' || name === 'scp') && !value.includes(' '))
    return 'most tokens have all their scopes in one text, and meet this only where they have no other; list it in scopes'
  const odd = oneWord.has(name) ? oddInName(value) : undefined
  if (odd !== undefined) return odd
  const sign = /^(?:[<>]=?|[!=]=?|\^)/.exec(value)?.[0] ?? (/^[^/]*\*[^/]*$/.test(value) ? '*' : undefined)
  if (sign !== undefined) return `${sign} means nothing here: a claim is compared as it stands with each value listed`
  // Sentences and names of people have commas and spaces; words in a row are meant as a list.
  const isRow = /^[a-z][\w.:-]*(?:, ?[a-z][\w.:-]*)+$/.test(value)
  return isRow ? 'this is one value; several are written [a, b]' : undefined
}

const times: ReadonlySet<string> = new Set(['exp', 'iat', 'nbf', 'auth_time'])

// Of Keycloak, and of OpenID Connect Core §5.1.1, RFC 7800 §3.1, RFC 8693 §4.1 and §4.4.
const objects: ReadonlySet<string> = new Set(['realm_access', 'resource_access', 'address', 'cnf', 'act', 'may_act'])

const oneWord: ReadonlySet<string> = new Set(['client_id', 'azp', 'aud', 'jti', 'sid'])

/** What is odd about a value, or about members of a list, each where it stands. */
function lintMembers<T>(
  path: Path,
  written: T | readonly T[],
  oddIn: (value: T) => string | undefined,
): readonly CrossFinding[] {
  const members = isList(written)
    ? written.map((each, at) => [[...path, at], each] as const)
    : [[path, written] as const]
  return members.flatMap(([at, value]) => {
    const message = oddIn(value)
    return message === undefined ? [] : [{ path: at, message }]
  })
}

function isList<T>(written: T | readonly T[]): written is readonly T[] {
  return Array.isArray(written)
}
