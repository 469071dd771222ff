import type { Clock } from '../../base/time.ts'
import type { Decision, DenyReason, TrailStep } from '../../decision/decision.ts'
import { deny, denyReasons } from '../../decision/decision.ts'
import type { RawRequest } from '../../decision/request.ts'
import { readAccessRequest } from '../../decision/request.ts'
import type { Running } from '../configuration.ts'
import { unseenStep, whyDenied } from './explain-why.ts'
import { findNearMiss } from './near-miss.ts'

/** One request to explain; the token is undefined where none is sent. */
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

/**
 * Decides a request that nobody sent, noting every step.
 *
 * @param maxTargetBytes The `limits.target` in force: a reload does not bring another.
 * @throws QuestionRefused (rejects) for a URL that is neither absolute nor a path.
 */
export async function explain(
  question: Question,
  running: Running,
  clock: Clock,
  maxTargetBytes: number,
): Promise<Explanation> {
  const { configuration, serving } = running
  const [matched, scheme, authority, path] = urlForm.exec(question.url) ?? []
  if (matched === undefined || matched === '')
    throw new QuestionRefused(
      'Cannot read URL: expected one like http://api.example.com/orders/1, or a path like /orders/1',
    )
  const raw = {
    method: question.method,
    target: path ?? '/',
    host: [authority ?? [...serving.hosts][0] ?? 'localhost'],
    authorization: question.token === undefined ? [] : [`Bearer ${question.token}`],
    arrivedMs: clock.monotonicMs(),
    certificate: question.certificate,
  }
  // As the front door has it: before anything else is read.
  if (raw.target.length > maxTargetBytes) {
    const is = `${raw.target.length} bytes`
    const wanted = `at most ${maxTargetBytes}, as limits.target says`
    const step = { stage: 'request.target', passed: false, is, wanted }
    return describe({ ...deny('too_large'), status: 414 }, [step], running)
  }
  const request = readAccessRequest(raw, serving)
  if (request.kind === 'deny') return describe(request, [wrongPart(raw, serving.hosts)], running)
  const is = `${request.method} ${request.host} ${request.path}`
  const steps: TrailStep[] = [{ stage: 'request', passed: true, is, wanted: 'a request that we take' }]
  if (serving.requireHttps && scheme === 'http') {
    steps.push({ stage: 'transport', passed: false, is: 'plain HTTP', wanted: 'https, since require_https is set' })
    return describe(deny('transport_insecure'), steps, running)
  }
  const decision = await serving.gateway.decide(request, (step) => steps.push(step))
  const unseen = unseenStep(decision)
  const near = decision.reason === 'no_rule' ? findNearMiss(request, configuration.options.rules) : undefined
  return describe(decision, unseen === undefined ? steps : [...steps, unseen], running, near)
}

/** The part of a refused request that is wrong: each is read beside others that are right, and the path after all of them. */
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
  // Without the query, which is nobody's business and may hold a token.
  return { stage: 'request.path', passed: false, is: raw.target.split('?', 1)[0] ?? '', wanted: plainPaths }
}

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
