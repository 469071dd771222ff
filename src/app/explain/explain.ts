import type { Clock } from '../../base/time.ts'
import type { GatewayOptions } from '../../config/schema.ts'
import type { Decision, Deny, DenyReason, TrailStep } from '../../decision/decision.ts'
import { deny, denyReasons } from '../../decision/decision.ts'
import type { RawRequest } from '../../decision/request.ts'
import { readAccessRequest } from '../../decision/request.ts'
import type { Running } from '../configuration.ts'
import { unseenStep, whyDenied } from './explain-why.ts'
import { findNearMiss } from './near-miss.ts'

/** One request to explain; the token, or its whole `Authorization` line, is undefined where none is sent. */
export type Question = {
  readonly method: string
  readonly url: string
  readonly token: string | undefined
  /** The thumbprint of the certificate that the client shows (RFC 8705 §3.1). */
  readonly certificate?: string | undefined
}

/**
 * One decision with every step of it. It holds claim values: for whoever holds the token, never for a log.
 *
 * @example { decision: 'deny', reason: 'scope_missing', status: 403, rule: 'read-orders', steps: […], hint: '…' }
 */
export type Explanation = {
  readonly decision: 'allow' | 'deny'
  readonly reason: DenyReason | 'ok' | 'public'
  /** What the client would get; null: what the upstream answers. */
  readonly status: number | null
  readonly rule: string | undefined
  readonly issuer: string | undefined
  readonly steps: readonly TrailStep[]
  /** What would make it pass; null for an allow. */
  readonly hint: string | null
}

/** What is wrong with a question, in one clause. */
export class QuestionRefused extends Error {
  override readonly name = 'QuestionRefused'
  readonly code = 'ERR_QUESTION_REFUSED'
}

const urlForm = /^(?:(https?):\/\/([^/?#\s]+))?(\/[^\s]*)?$/

// What stands before a credential in requests, whence tokens are copied; a token itself has no space.
const schemes = /^(?:bearer|basic|digest|dpop|negotiate|ntlm|mutual|oauth|hoba) +/i

/**
 * Decides a request that nobody sent, noting every step.
 *
 * @param front What the front door has since the start: a reload does not bring another.
 * @throws QuestionRefused (rejects) for a URL that is neither absolute nor a path.
 */
export async function explain(
  question: Question,
  running: Running,
  clock: Clock,
  front: Pick<GatewayOptions, 'limits' | 'listen'>,
): Promise<Explanation> {
  const { configuration, serving } = running
  const [matched, scheme, authority, path] = urlForm.exec(question.url) ?? []
  if (matched === undefined || matched === '')
    throw new QuestionRefused(
      'Cannot read URL: expected one like http://api.example.com/orders/1, or a path like /orders/1',
    )
  const raw = {
    method: question.method,
    target: asBytes(path ?? '/'),
    host: [authority ?? [...serving.hosts][0] ?? 'localhost'],
    authorization: question.token === undefined ? [] : [asBytes(authorizationOf(question.token))],
    arrivedMs: clock.monotonicMs(),
    certificate: question.certificate,
  }
  // As the front door has them: before anything else is read.
  const over = overLimit(raw, front.limits)
  if (over !== undefined) return describe(over.decision, [over.step], running)
  const request = readAccessRequest(raw, serving)
  if (request.kind === 'deny') return describe(request, [wrongPart(raw, serving.hosts)], running)
  const is = `${request.method} ${request.host} ${request.path}`
  const steps: TrailStep[] = [{ stage: 'request', passed: true, is, wanted: 'a request that we take' }]
  if (serving.requireHttps) {
    const step = judgeScheme(scheme, front.listen.tls !== undefined, configuration.options)
    steps.push(step)
    if (!step.passed) return describe(deny('transport_insecure'), steps, running)
  }
  const decision = await serving.gateway.decide(request, (step) => steps.push(step))
  const unseen = unseenStep(decision)
  const near = decision.reason === 'no_rule' ? findNearMiss(request, configuration.options.rules) : undefined
  return describe(decision, unseen === undefined ? steps : [...steps, unseen], running, near)
}

/** The header for what was given as a token, which may be the whole header as it stands in a request. */
function authorizationOf(token: string): string {
  const value = token.replace(/^authorization: */i, '')
  return value !== token || schemes.test(value) ? value : `Bearer ${value}`
}

/** As the wire has it: one character for each byte. */
function asBytes(text: string): string {
  return Buffer.from(text).toString('latin1')
}

/** Which limit this much of a request is over; the rest of its head comes on top. */
function overLimit(
  { target, host, authorization }: RawRequest,
  limits: GatewayOptions['limits'],
): { readonly decision: Deny; readonly step: TrailStep } | undefined {
  const credential = authorization.map((value) => 'authorization'.length + value.length)
  const all = [...credential, ...host.map((value) => 'host'.length + value.length)].reduce((sum, one) => sum + one, 0)
  const found = [
    { stage: 'request.target', bytes: target.length, key: 'target', status: 414 },
    { stage: 'request.authorization', bytes: Math.max(0, ...credential), key: 'header', status: 431 },
    { stage: 'request.headers', bytes: all, key: 'header_bytes', status: 431 },
  ] as const
  const over = found.find(({ bytes, key }) => bytes > limits[key])
  if (over === undefined) return undefined
  const { stage, bytes, key, status } = over
  const wanted = `at most ${limits[key]}, as limits.${key} says`
  return {
    decision: { ...deny('too_large'), status },
    step: { stage, passed: false, is: `${bytes} bytes`, wanted },
  }
}

/** Where https is wanted; a path alone does not say how its request came. */
function judgeScheme(scheme: string | undefined, hasTls: boolean, { trusted_proxies }: GatewayOptions): TrailStep {
  const step = { stage: 'transport', wanted: 'https, since require_https is set' }
  if (scheme === 'http') return { ...step, passed: false, is: 'plain HTTP' }
  if (!hasTls && trusted_proxies.length === 0)
    return { ...step, passed: false, is: 'plain HTTP: there is neither listen.tls nor a trusted proxy' }
  if (scheme === 'https') return { ...step, passed: true, is: 'https' }
  return { ...step, passed: true, is: 'not said by a path alone, taken for https; by http it is transport_insecure' }
}

/** The part of a refused request that is wrong: each is read beside others that are right, the path and the query last. */
function wrongPart(raw: RawRequest, hosts: ReadonlySet<string>): TrailStep {
  const host = raw.host.join(', ')
  const right = { ...raw, method: 'GET', target: '/' }
  const isRefused = (part: RawRequest, names: ReadonlySet<string>) =>
    readAccessRequest(part, { hosts: names }).kind === 'deny'
  if (isRefused(right, new Set()))
    return { stage: 'request.host', passed: false, is: host, wanted: 'a name or an address, with a port or without' }
  if (isRefused(right, hosts))
    return { stage: 'request.host', passed: false, is: host, wanted: `one of hosts: ${[...hosts].join(', ')}` }
  if (isRefused({ ...right, method: raw.method }, hosts))
    return {
      stage: 'request.method',
      passed: false,
      is: raw.method,
      wanted: 'a name in upper case, and neither CONNECT nor TRACE',
    }
  const [target = ''] = raw.target.split('?', 1)
  if (isRefused({ ...right, target }, hosts))
    return { stage: 'request.path', passed: false, is: Buffer.from(target, 'latin1').toString(), wanted: plainPaths }
  // Not the query itself, which is nobody's business and may hold a token.
  return { stage: 'request.query', passed: false, is: oddInQuery(raw.target), wanted: plainQueries }
}

function oddInQuery(target: string): string {
  if (target.includes('#')) return 'one with a # in it'
  return /[\x80-\xff]/.test(target) ? 'one with something beyond ASCII in it' : 'one with a control in it'
}

const plainQueries = 'one of visible ASCII without #: what else is meant is escaped, such as %23 for #'

const plainPaths =
  'one that reads in one way and has at most 256 segments: no . or .. segment, no //, nothing beyond ASCII, no escape that is broken or is of a dot, a backslash or a control'

function describe(
  decision: Decision,
  steps: readonly TrailStep[],
  { configuration, sources }: Running,
  near?: string,
): Explanation {
  const about = { reason: decision.reason, rule: decision.rule?.id, steps }
  if (decision.kind === 'allow') {
    return { ...about, decision: 'allow', status: null, issuer: decision.principal?.issuer.issuer, hint: null }
  }
  const { issuer } = decision
  const { status, help } = denyReasons[decision.reason]
  const failed = steps.findLast((step) => !step.passed)
  const compared = failed === undefined ? [] : [`${failed.stage}: is ${failed.is}; wanted ${failed.wanted}.`]
  const why = whyDenied(
    decision,
    failed,
    sources.find(({ trusted }) => trusted === issuer),
    configuration.options.blacklist,
  )
  const hint = [help, ...compared, ...why, ...(near === undefined ? [] : [near])].join(' ')
  return { ...about, decision: 'deny', status: decision.status ?? status, issuer: issuer?.issuer, hint }
}
