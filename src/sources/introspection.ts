import * as z from 'zod'
import { JsonRefused, parseJson } from '../base/json.ts'
import { createBoundedCache, createSingleFlight } from '../base/lookup-cache.ts'
import { duration, secretSource } from '../base/options.ts'
import { createReminder } from '../base/reminder.ts'
import type { Clock } from '../base/time.ts'
import { SecretRefused } from '../io/files.ts'
import type { HttpClient, HttpReply } from '../io/http-client.ts'
import { HttpCallFailed } from '../io/http-client.ts'
import type { Log } from '../io/log.ts'
import type { BreakerState } from '../io/resilience.ts'
import { createBoundedQueue, createBreaker, QueueFull } from '../io/resilience.ts'
import { formatBasic } from '../spec/authorization.ts'
import { parseRetryAfter } from '../spec/http-date.ts'
import type { AskedAnswer, IntrospectionAnswer } from '../spec/introspection.ts'
import { formatIntrospectionRequest, parseIntrospectionAnswer } from '../spec/introspection.ts'
import { describeRefusal } from '../spec/token-error.ts'
import { queueOf } from './issuer-queue.ts'
import { isSameFailure, SourceFailed } from './source-failed.ts'

/** How one issuer is asked about tokens. */
export const introspectionOptions = z.strictObject({
  client_id: z.string().min(1).max(256).describe('Our identity at the issuer (RFC 6749 §2.3.1).'),
  client_secret: secretSource.describe('Where our secret is read from.'),
  max_age: duration.prefault('30s').describe('How long an active answer is used; never beyond `exp`.'),
})

/** What asking an issuer needs from outside. */
export type IntrospectionDeps = {
  readonly clock: Clock
  readonly send: HttpClient['send']
  /** The address of the endpoint; rejects with SourceFailed when it cannot be had. */
  readonly endpoint: () => Promise<string>
  /** Told when there is no answer, or not of what was looked for: the address may be an old one. */
  readonly doubt: () => void
  /** The client secret as it is now. Throws when it cannot be read. */
  readonly secret: () => string
  readonly log: Pick<Log, 'info' | 'warn'>
  /** Told once per question that was sent, or refused by our own limits, with its duration. */
  readonly observe: (result: IntrospectionResult, seconds: number) => void
}

/** How one question ended; a metric label. */
export const introspectionResults = [
  'active',
  'inactive',
  'unavailable',
  'invalid',
  'overloaded',
  'circuit_open',
] as const
/** How one question ended. */
export type IntrospectionResult = (typeof introspectionResults)[number]

/** One issuer's introspection endpoint (RFC 7662). Active answers are kept by the caller, as facts; inactive ones here. */
export type Introspection = {
  /** An answer to a question sent after `afterMs` (monotonic): one kept, one under way, or a new one. */
  readonly ask: (token: string, afterMs: number) => AskedAnswer | Promise<AskedAnswer>
  readonly state: () => {
    /** `open`: the issuer is left alone, because questions failed or it has asked for that (429). */
    readonly circuit: BreakerState
    readonly inFlight: number
    /** Why the last question was not answered; undefined where it was. */
    readonly failure: string | undefined
    /** What its token got for it; undefined where it was answered. */
    readonly result: TroubleResult | undefined
    /** How long ago that was; undefined where it was answered. */
    readonly failedAgoMs: number | undefined
    /** The HTTP status of the endpoint's answer, where that is what failed; undefined where there was no such answer. */
    readonly status: number | undefined
    /** Whether questions are refused for want of room, or were within the last minute. */
    readonly overload: 'now' | 'lately' | undefined
  }
}

type TroubleResult = Extract<IntrospectionResult, 'unavailable' | 'invalid'>

const limits = { maxBodyBytes: 65_536, deadlineMs: 2000 } as const
// A user may be in more groups than the 256 members that a token's claims may have; what 64 KiB hold of short names.
const jsonLimits = { maxMembers: 4096 } as const
const inactiveBounds = { maxEntries: 10_000, maxBytes: 8 * 1024 * 1024 } as const
// Briefly: a token that was just activated, or a replica that lagged, is not refused for long.
const inactiveMaxAgeMs = 5000
const unusable: ReadonlySet<string> = new Set(['too_large', 'encoded', 'protocol'])
const repeatMs = 60_000
// For how long an endpoint is left alone that says nothing of it, and at most.
const leastWaitMs = 1000
const mostWaitMs = 60_000
const breakerLimits = { failures: 5, openMs: 5000 } as const

type Answered = AskedAnswer & { readonly kind: 'answer' }

/** Makes the source; nothing is sent before a token is asked about. */
export function createIntrospection(
  options: {
    readonly issuer: string
    readonly client_id: string
    /** Questions at a time, where there may be fewer than usual. */
    readonly maxInFlight?: number | undefined
  },
  deps: IntrospectionDeps,
): Introspection {
  const { clock, log, observe } = deps
  const inactive = createBoundedCache<Answered>(inactiveBounds)
  const underWay = new Map<string, { questions: number; latest: Answered | undefined }>()
  const flights = createSingleFlight<AskedAnswer>(clock.monotonicMs)
  const room = queueOf(options.maxInFlight)
  const queue = createBoundedQueue(room, { clock })
  const breaker = createBreaker(breakerLimits, { clock })
  let lastTrouble: Trouble | undefined
  const isTroubleDue = createReminder(repeatMs, { clock })
  const isOverloadDue = createReminder(repeatMs, { clock })
  let refusedMs = Number.NEGATIVE_INFINITY
  let pausedUntilMs = Number.NEGATIVE_INFINITY
  return { ask, state }

  function state(): ReturnType<Introspection['state']> {
    const nowMs = clock.monotonicMs()
    const { said, result, atMs, status } = lastTrouble ?? {}
    const overload = queue.inFlight() >= room.maxInFlight ? 'now' : 'lately'
    return {
      circuit: nowMs < pausedUntilMs ? 'open' : breaker.state(),
      inFlight: queue.inFlight(),
      failure: said,
      result,
      failedAgoMs: atMs === undefined ? undefined : nowMs - atMs,
      status,
      overload: nowMs - refusedMs < repeatMs ? overload : undefined,
    }
  }

  function ask(token: string, afterMs: number): AskedAnswer | Promise<AskedAnswer> {
    const kept = inactive.get(token, clock.monotonicMs())
    if (kept !== undefined && kept.askedMs > afterMs) return kept
    return flights.run(
      token,
      (startedMs) => startedMs > afterMs,
      () => question(token),
    )
  }

  /** One question, from start to end. It belongs to nobody who waits for it: who leaves cancels nothing. */
  async function question(token: string): Promise<AskedAnswer> {
    const askedMs = clock.monotonicMs()
    const about = underWay.get(token) ?? { questions: 0, latest: undefined }
    underWay.set(token, about)
    about.questions += 1
    try {
      const { answer, result } = await outcome(token, askedMs)
      observe(result, (clock.monotonicMs() - askedMs) / 1000)
      // Two questions about one token may overlap: what was asked later is what holds, also for who asked before, and
      // where that first question was not answered at all.
      if (about.latest !== undefined && about.latest.askedMs > askedMs) return about.latest
      if (answer.kind !== 'answer') return answer
      about.latest = answer
      if (answer.answer.active) inactive.delete(token)
      else inactive.set(token, answer, askedMs + inactiveMaxAgeMs, token.length)
      return answer
    } finally {
      about.questions -= 1
      if (about.questions === 0) underWay.delete(token)
    }
  }

  type Outcome = { readonly answer: AskedAnswer; readonly result: IntrospectionResult }

  async function outcome(token: string, askedMs: number): Promise<Outcome> {
    if (askedMs < pausedUntilMs) return { answer: none('unavailable', pausedUntilMs - askedMs), result: 'circuit_open' }
    const refused = breaker.admit()
    if (refused !== undefined) return { answer: none('unavailable', refused.retryAfterMs), result: 'circuit_open' }
    try {
      const reply = await queue.run(() => send(token))
      return judge(reply, askedMs)
    } catch (error) {
      if (error instanceof QueueFull) {
        breaker.released()
        noRoom()
        return { answer: none('overloaded', 1000), result: 'overloaded' }
      }
      const isOurs = error instanceof SecretRefused
      const answered = error instanceof HttpCallFailed && unusable.has(error.kind)
      // A secret of ours that cannot be read says nothing about the issuer, nor does an answer about one token that is
      // too long: it must not shut out the others.
      if (isOurs) breaker.released()
      else if (answered) breaker.succeeded()
      else breaker.failed()
      if (!(isOurs || error instanceof HttpCallFailed || error instanceof SourceFailed)) throw error
      // No usable answer, or no address at all.
      if (!isOurs) deps.doubt()
      // product.md §1: down or slow is one thing, an answer that cannot be used another.
      const result = answered ? 'invalid' : 'unavailable'
      trouble(result, error.message)
      return { answer: none(result, 1000), result }
    }
  }

  async function send(token: string): Promise<HttpReply> {
    const url = await deps.endpoint().catch(refuseAddress)
    const headers = {
      accept: 'application/json',
      'cache-control': 'no-cache',
      'content-type': 'application/x-www-form-urlencoded',
      authorization: formatBasic(options.client_id, deps.secret()),
    }
    return await deps.send({ method: 'POST', url, headers, body: formatIntrospectionRequest(token) }, limits)
  }

  function judge(reply: HttpReply, askedMs: number): Outcome {
    const { status, from } = reply
    if (status >= 500 || status === 408 || status === 429) {
      breaker.failed()
      if (status >= 500) deps.doubt()
      trouble('unavailable', `Cannot introspect at ${from}: status is ${status}, wanted 200`, status)
      const waitMs = Math.min(parseRetryAfter(reply.header, clock.wallMs()) ?? leastWaitMs, mostWaitMs)
      // RFC 6585 §4: who asks for less gets less, also where a later answer says nothing of it.
      if (status === 429) pausedUntilMs = Math.max(pausedUntilMs, clock.monotonicMs() + waitMs)
      return { answer: none('unavailable', waitMs), result: 'unavailable' }
    }
    // It answers: what is wrong with the answer is not mended by leaving it alone.
    breaker.succeeded()
    const read = status === 200 ? readAnswer(reply) : describeRefusal(reply)
    if (typeof read === 'string') {
      // An address that the issuer has left behind says anything: a page, that it does not know us, that it is not there.
      deps.doubt()
      trouble('invalid', `Cannot use introspection answer of ${from}: ${read}`, status)
      return { answer: none('invalid', 1000), result: 'invalid' }
    }
    if (lastTrouble !== undefined) log.info('introspection_recovered', { issuer: options.issuer })
    lastTrouble = undefined
    return { answer: { kind: 'answer', answer: read, askedMs }, result: read.active ? 'active' : 'inactive' }
  }

  /** Says what is wrong once, and once a minute while it lasts, not once per request. */
  function trouble(result: TroubleResult, said: string, status?: number): void {
    if (isTroubleDue(!isSameFailure(said, lastTrouble?.said)))
      log.warn('introspection_failed', { issuer: options.issuer, error: said })
    lastTrouble = { result, said, atMs: clock.monotonicMs(), status }
  }

  /** Every answer ends what failed before it, and between answers others find no room: so this is told of by itself. */
  function noRoom(): void {
    refusedMs = clock.monotonicMs()
    if (isOverloadDue()) log.warn('introspection_overloaded', { issuer: options.issuer, in_flight: queue.inFlight() })
  }
}

type Trouble = {
  readonly result: TroubleResult
  readonly said: string
  readonly atMs: number
  readonly status: number | undefined
}

/** What is wrong with the metadata is no answer about a token: it counts against the issuer, whatever it is. */
function refuseAddress(cause: unknown): never {
  throw cause instanceof HttpCallFailed ? new SourceFailed(cause.message, { cause }) : cause
}

function readAnswer({ header, body }: HttpReply): IntrospectionAnswer | string {
  // RFC 9701 answers (signed) and error pages are other media types.
  if (!/^application\/json\s*(?:;|$)/i.test(header('content-type') ?? ''))
    return 'its media type is not application/json'
  try {
    return parseIntrospectionAnswer(parseJson(body, jsonLimits))
  } catch (error) {
    if (error instanceof JsonRefused) return error.message
    throw error
  }
}

function none(kind: 'unavailable' | 'invalid' | 'overloaded', retryAfterMs: number): AskedAnswer {
  return { kind, retryAfterS: Math.max(1, Math.ceil(retryAfterMs / 1000)) }
}
