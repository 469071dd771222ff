import type { Clock } from '../base/time.ts'
import type { Decision, DenyReason, TrailStep } from '../decision/decision.ts'
import { deny, denyReasons } from '../decision/decision.ts'
import { readAccessRequest } from '../decision/request.ts'
import type { Serving } from '../gates/gate.ts'

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
 * @throws QuestionRefused (rejects) for a URL that is neither absolute nor a path.
 */
export async function explain(question: Question, served: Serving, clock: Clock): Promise<Explanation> {
  const [matched, scheme, authority, path] = urlForm.exec(question.url) ?? []
  if (matched === undefined || matched === '')
    throw new QuestionRefused(
      'Cannot read URL: expected one like http://api.example.com/orders/1, or a path like /orders/1',
    )
  const steps: TrailStep[] = []
  // What the front door's parser takes; it asks for a method's exact spelling.
  const known = process.getBuiltinModule('node:http').METHODS.includes(question.method)
  const request = !known
    ? deny('request_malformed')
    : readAccessRequest(
        {
          method: question.method,
          target: path ?? '/',
          host: [authority ?? [...served.hosts][0] ?? 'localhost'],
          authorization: question.token === undefined ? [] : [`Bearer ${question.token}`],
          arrivedMs: clock.monotonicMs(),
          certificate: question.certificate,
        },
        served,
      )
  const passed = request.kind !== 'deny'
  const is = request.kind === 'deny' ? request.reason : `${request.method} ${request.host} ${request.path}`
  steps.push({ stage: 'request', passed, is, wanted: 'a method, a Host and an unambiguous path that we take' })
  if (passed && served.requireHttps && scheme === 'http') {
    steps.push({ stage: 'transport', passed: false, is: 'plain HTTP', wanted: 'https, since require_https is set' })
    return describe(deny('transport_insecure'), steps)
  }
  const decision = request.kind === 'deny' ? request : await served.gateway.decide(request, (step) => steps.push(step))
  return describe(decision, steps)
}

function describe(decision: Decision, steps: readonly TrailStep[]): Explanation {
  const about = { reason: decision.reason, rule: decision.rule?.id, steps }
  if (decision.kind === 'allow') {
    return { ...about, decision: 'allow', status: null, issuer: decision.principal?.issuer.issuer, hint: null }
  }
  const { status, help } = denyReasons[decision.reason]
  const failed = steps.findLast((step) => !step.passed)
  const hint = failed === undefined ? help : `${help} ${failed.stage}: is ${failed.is}; wanted ${failed.wanted}.`
  return { ...about, decision: 'deny', status: decision.status ?? status, issuer: decision.issuer?.issuer, hint }
}
