import * as z from 'zod'
import { list, mapUpTo } from '../base/list.ts'
import { duration } from '../base/options.ts'
import type { Deny, Trail } from './decision.ts'
import { deny } from './decision.ts'
import type { AccessRequest } from './request.ts'
import { encodedBits, judgeEncoded, methodName, withoutNeedlessEscapes } from './request.ts'
import type { PathTemplate } from './rule-table.ts'
import { createPatternTable, parsePathTemplate } from './rule-table.ts'

const scope = z.string().regex(/^[!#-[\]-~]{1,256}$/, { error: 'expected a scope without spaces and quotes' })
const text = z.string().min(1).max(1024)
// RFC 7493 §2.2: a larger integer would be met by its neighbours.
const number = z.number().refine((value) => !Number.isInteger(value) || Number.isSafeInteger(value), {
  error: 'expected a number below 2^53',
})
const scalar = z.union([text, number, z.boolean()])
/** How many methods one rule may name, and all of them together: a look-up goes through those of a path. */
export const maxMethods = 64
const method = z
  .string()
  .regex(methodName, { error: 'expected a method in upper case, such as GET' })
  .refine((name) => name !== 'CONNECT' && name !== 'TRACE', { error: 'expected neither CONNECT nor TRACE' })
// As clients write it, since a host is compared letter by letter.
const isUsualAddress = (text: string) =>
  !/^\[[0-9a-f:.]{2,45}\]$/.test(text) || URL.parse(`http://${text}`)?.hostname === text
const unusual = { error: 'expected an IPv6 address in its shortest spelling, such as [::1]' }
/** A name as `Host` is compared with it: lower-case, without port. */
export const hostName = z
  .string()
  .regex(/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$|^\[[0-9a-f:.]{2,45}\]$/, {
    error: 'expected a host name in lower case without port',
  })
  .refine(isUsualAddress, unusual)
const host = z
  .string()
  .regex(/^(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$|^\[[0-9a-f:.]{2,45}\]$/, {
    error: 'expected a host name in lower case without port, or *. and one',
  })
  .refine(isUsualAddress, unusual)
const path = z
  .string()
  .regex(/^\//, { error: 'expected a path that begins with /' })
  .max(2048)
  .check((context) => {
    const template = parsePathTemplate(context.value)
    if (template.kind === 'problem')
      context.issues.push({ code: 'custom', message: template.message, input: context.value })
  })

const protocol = z
  .string()
  .regex(/^[a-z0-9!#$%&'*+.^_`|~-]+(?:\/[a-z0-9!#$%&'*+.^_`|~-]+)?$/, {
    error: 'expected a protocol in lower case, such as websocket',
  })
  // RFC 9113 §3.1: it is obsolete, and hides requests from who judges them.
  .refine((name) => !/^(?:h2c?|http(?:\/.*)?)$/.test(name), { error: 'expected another protocol than HTTP' })

/** One rule of the configuration: what it matches, and what it asks of a token. */
export const ruleOptions = z.strictObject({
  id: z
    .string()
    .regex(/^[A-Za-z0-9_.:-]{1,64}$/, { error: 'expected letters, digits and any of _ . : - (at most 64)' })
    .optional()
    .describe('The name in logs and metrics; absent: rule-1, rule-2 and so on, by place.'),
  match: z
    .strictObject({
      methods: list(method)
        .min(1)
        .max(maxMethods)
        .optional()
        .describe(`Absent: all. HEAD follows GET. At most ${maxMethods} different ones in all rules.`),
      host: host.optional().describe('A host name without port, or `*.` and a name for one label more. Absent: all.'),
      path: path.describe('Literal segments, `{name}` for exactly one, a closing `**` for zero or more.'),
    })
    .describe('What the rule is for; all of it must match.'),
  scopes: z
    .union([
      list(scope).max(1000),
      z.strictObject({
        all: list(scope).max(1000).prefault([]).describe('Every one of these.'),
        any: list(scope).max(1000).prefault([]).describe('At least one of these.'),
      }),
    ])
    .prefault([])
    .describe('Scopes the token must have: a list means all of them.'),
  claims: mapUpTo(100, text, z.union([scalar, list(scalar).min(1).max(1000)]))
    .prefault({})
    .describe('Claims and the values accepted; of an array one member must be among them.'),
  issuers: list(text).min(1).max(100).optional().describe('Issuers whose tokens are accepted. Absent: all configured.'),
  audience: z
    .union([text, list(text).min(1).max(1000)])
    .optional()
    .describe("Audience the token must be for, one of a list. Absent: the issuer's."),
  freshness: z
    .union([
      z.enum(['cached', 'always']),
      z.strictObject({ max_age: duration.describe("The oldest an issuer's answer may be.") }),
    ])
    .prefault('cached')
    .describe("How old an issuer's answer about the token may be; always: it is asked for every request."),
  public: z.boolean().prefault(false).describe('Whether everyone may, without a token.'),
  insecure: z
    .boolean()
    .prefault(false)
    .describe('Owns up to a public rule for every path: `/**`, or `/{name}/**`, however many names.'),
  allow_encoded: list(z.enum(['slash', 'semicolon', 'percent', 'question', 'hash']))
    .max(5)
    .prefault([])
    .describe('Escapes (%2F %3B %25 %3F %23; semicolon: also the raw one) that may pass, undecoded.'),
  upgrade: list(protocol)
    .max(100)
    .prefault([])
    .describe('Protocols a GET may switch to, such as websocket; none: it is answered as if it offered none.'),
  forward_authorization: z.boolean().prefault(false).describe('Whether the upstream gets the `Authorization` header.'),
  max_body: z
    .int()
    .min(0)
    .max(1_099_511_627_776)
    .optional()
    .describe('Bytes of the longest request body that may pass; over it 413. Absent: any.'),
})

/** The rules of a configuration; their order means nothing. */
export const rulesOptions = list(ruleOptions).min(1).max(10_000)

/** One rule as read: durations are milliseconds. */
export type RuleOptions = z.output<typeof ruleOptions>

/** One rule, ready for judging. A reload makes new ones. */
export type Rule = {
  readonly kind: 'rule'
  readonly id: string
  /** Its place in the file, from 0. */
  readonly index: number
  /** Undefined: all. */
  readonly methods: readonly string[] | undefined
  readonly host: string | undefined
  readonly path: string
  readonly public: boolean
  readonly scopes: { readonly all: readonly string[]; readonly any: readonly string[] }
  readonly claims: readonly { readonly name: string; readonly oneOf: readonly (string | number | boolean)[] }[]
  /** Undefined: all configured. */
  readonly issuers: ReadonlySet<string> | undefined
  /** Undefined: the issuer's. */
  readonly audience: readonly string[] | undefined
  readonly freshness:
    | { readonly kind: 'cached' }
    | { readonly kind: 'max_age'; readonly maxAgeMs: number }
    | { readonly kind: 'always' }
  /** A sum of `encodedBits`. */
  readonly allowEncoded: number
  /** Lower-case. */
  readonly upgrade: readonly string[]
  readonly forwardAuthorization: boolean
  /** Bytes of a request's body; undefined: any. */
  readonly maxBody: number | undefined
}

/** The rules of one configuration, and the one of them that decides a request. */
export type RuleTable = {
  readonly rules: readonly Rule[]
  /** The rule, or a denial: `no_rule`, or `path_rejected` for what the path holds and the rule does not allow. */
  readonly match: (request: AccessRequest, trail?: Trail) => Rule | Deny
}

const noRule = deny('no_rule')
const pathRejected = deny('path_rejected')

/**
 * Compiles rules that the schema has read and `findRuleConflicts` found nothing against.
 *
 * @throws RangeError for a path that is no template.
 */
export function compileRules(options: readonly RuleOptions[]): RuleTable {
  const share = createSharing()
  const rules = options.map((each, index) => compileRule(each, index, share))
  const table = createPatternTable(
    rules.map((rule) => {
      return [{ methods: rule.methods, host: rule.host, parts: readTemplate(rule.path).parts }, rule] as const
    }),
  )
  return { rules, match }

  function match(request: AccessRequest, trail?: Trail): Rule | Deny {
    const rule = table.find(request)
    trail?.({
      stage: 'rules.match',
      passed: rule !== undefined,
      is: `${request.method} ${request.host}${request.path}`,
      wanted: rule === undefined ? 'a rule for this method, host and path' : describe(rule),
    })
    if (rule === undefined) return request.encoded === 0 ? noRule : pathRejected
    const decoded = withoutNeedlessEscapes(request)
    if (decoded !== undefined) {
      // An upstream that decodes them first must not see what another rule is for.
      const other = table.find({ ...request, segments: decoded })
      const passed = other === rule
      const is = `/${decoded.join('/')}: ${other === undefined ? 'no rule' : describe(other)}`
      trail?.({
        stage: 'rules.escapes',
        passed,
        is,
        wanted: `${describe(rule)}, with what needs no escape decoded, too`,
      })
      if (!passed) return { ...pathRejected, rule }
    }
    if (request.encoded === 0) return rule
    const passed = judgeEncoded(request, rule.allowEncoded)
    const wanted = `at most these escapes: ${namesOf(rule.allowEncoded)}; dots and slashes unambiguous when decoded`
    trail?.({ stage: 'rules.allow_encoded', passed, is: namesOf(request.encoded), wanted })
    return passed ? rule : { ...pathRejected, rule }
  }
}

/** The name of a rule: its `id`, or one by its place (from 0). */
export function ruleId(options: RuleOptions, index: number): string {
  return options.id ?? `rule-${index + 1}`
}

/** A rule's path. @throws RangeError where the schema would have refused it. */
export function readTemplate(text: string): PathTemplate {
  const template = parsePathTemplate(text)
  if (template.kind === 'problem')
    throw new RangeError(`Cannot compile rule: its path is no template, ${template.message}`)
  return template
}

/** The bits of an `allow_encoded` list, as a sum. */
export function maskOf(names: RuleOptions['allow_encoded']): number {
  return names.reduce((mask, name) => mask | encodedBits[name], 0)
}

type Share = <T>(value: T) => T

/**
 * Keeps one of all equal values: thousands of rules want the same few things, which are then near when they are looked
 * at.
 */
function createSharing(): Share {
  const kept = new Map<string, unknown>()
  return <T>(value: T): T => {
    const key = value instanceof Set ? `set ${JSON.stringify([...value])}` : JSON.stringify(value)
    if (key === undefined) return value
    if (!kept.has(key)) kept.set(key, value)
    return kept.get(key) as T // what has the same key is the same value
  }
}

function compileRule(options: RuleOptions, index: number, share: Share): Rule {
  const { match, scopes, claims, issuers, audience, freshness } = options
  const conditions = Object.entries(claims).map(([name, value]) => {
    return { name, oneOf: Array.isArray(value) ? value : [value] }
  })
  return {
    kind: 'rule',
    id: ruleId(options, index),
    index,
    methods: share(match.methods),
    host: match.host,
    path: match.path,
    public: options.public,
    scopes: share(Array.isArray(scopes) ? { all: scopes, any: [] } : scopes),
    claims: share(conditions),
    issuers: issuers === undefined ? undefined : share(new Set(issuers)),
    audience: share(typeof audience === 'string' ? [audience] : audience),
    freshness: share(
      typeof freshness === 'string' ? { kind: freshness } : { kind: 'max_age', maxAgeMs: freshness.max_age },
    ),
    allowEncoded: maskOf(options.allow_encoded),
    upgrade: share(options.upgrade),
    forwardAuthorization: options.forward_authorization,
    maxBody: options.max_body,
  }
}

function describe({ id, methods, host, path }: Rule): string {
  return `${id}: ${methods?.join(', ') ?? 'any method'} ${host ?? ''}${path}`
}

function namesOf(mask: number): string {
  const names = Object.entries(encodedBits).flatMap(([name, bit]) => ((mask & bit) === 0 ? [] : [name]))
  return names.join(', ') || 'none'
}
