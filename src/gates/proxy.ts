// The way to the upstream and back, streaming. The permit is an Allow: there is no other way in.
import type { Allow } from '../decision/decision.ts'
import { deny } from '../decision/decision.ts'
import type { HeaderFilter } from '../decision/headers.ts'
import type { AccessRequest } from '../decision/request.ts'
import type { Rule } from '../decision/rules.ts'
import type {
  AnswerEvents,
  AnswerHead,
  AnswerSink,
  RequestEvents,
  Upstream,
  UpstreamExchange,
  UpstreamProblem,
} from '../http1/exchange.ts'
import type { Framing } from '../http1/request-head.ts'
import type { Peer, UpstreamFailure } from './gate.ts'
import { upstreamFailures } from './gate.ts'
import type { Denial } from './respond.ts'
import { bodyTooLarge, respond, respondUpstream, send } from './respond.ts'

/** An allowed request, as it came. */
export type Forwarded = {
  readonly request: AccessRequest
  /** Names and values alternating, as received. */
  readonly lines: readonly string[]
  readonly framing: Framing
  readonly expectsContinue: boolean
  readonly upgrade: string | undefined
}

/** Told once how a forwarded request ended. `status` is the answer's, 0 where the client got none. */
export type Done = (status: number, failure: UpstreamFailure | undefined) => void

/** Forwards the requests of one client, one at a time. */
export type Forwarder = {
  readonly forward: (forwarded: Forwarded, allow: Allow, headers: HeaderFilter, peer: Peer, done: Done) => void
  /** Ends what is under way with a denial, or, where an answer has begun, by cutting it off. Nothing is told. */
  readonly giveUp: (denial: Denial) => void
  /** What the client's half tells meanwhile. */
  readonly events: RequestEvents
}

// RFC 9110 §9.2.2.
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/** Joins a client's half and an upstream's. */
export function createForwarder(sink: AnswerSink, upstream: Upstream): Forwarder {
  let exchange: UpstreamExchange | undefined
  let headers: HeaderFilter | undefined
  let done: Done | undefined
  let expectsContinue = false
  let hasBody = false
  let rule: Rule | undefined
  // Of the body, until it is too much for its rule.
  let room = Number.POSITIVE_INFINITY
  let status = 0

  const answer: AnswerEvents = {
    opened(opened) {
      exchange = opened
      if (!hasBody) return
      if (expectsContinue) sink.sendContinue()
      sink.resume()
      exchange?.flush()
    },
    head,
    data(chunk) {
      if (!sink.write(chunk)) exchange?.pause()
    },
    end(trailers) {
      const passed = trailers.length === 0 ? trailers : (headers?.backwardTrailers(trailers) ?? [])
      // First: the end of this answer may be the beginning of the next request.
      finish(undefined)
      sink.end(passed)
    },
    flush: () => sink.flush(),
    drained: () => sink.resume(),
    failed,
    switched(lines) {
      status = 101
      // From now on these are no bytes of a request.
      room = Number.POSITIVE_INFINITY
      sink.switchProtocols(switchLines(lines, headers))
    },
  }
  const events: RequestEvents = {
    data(chunk) {
      room -= chunk.length
      if (room < 0) exceed()
      else if (exchange?.write(chunk) === false) sink.pause()
    },
    end(trailers) {
      exchange?.end(trailers.length === 0 ? trailers : (headers?.forwardTrailers(trailers) ?? []))
    },
    broken(why) {
      leave()
      // What has begun cannot be taken back, only cut off; and who is too slow for us gets no answer.
      if (status !== 0 || why === 'timeout') {
        finish(undefined)
        sink.abort()
      } else refuse(respond(deny('request_malformed')), undefined)
    },
    drained: () => exchange?.resume(),
    gone() {
      leave()
      finish(undefined)
    },
  }
  return { forward, giveUp, events }

  function forward(
    forwarded: Forwarded,
    allow: Allow,
    filter: HeaderFilter,
    { address, proto }: Peer,
    whenDone: Done,
  ): void {
    const { request, lines, framing } = forwarded
    headers = filter
    done = whenDone
    status = 0
    exchange = undefined
    rule = allow.rule
    room = rule.maxBody ?? Number.POSITIVE_INFINITY
    expectsContinue = forwarded.expectsContinue
    hasBody = framing !== 'none' && framing !== 0
    upstream.open(
      {
        method: request.method,
        target: request.path + request.query,
        authority: request.authority,
        lines: filter.forward(lines, { peer: address, proto, request, allow }),
        framing,
        upgrade: forwarded.upgrade,
        repeatable: !hasBody && idempotent.has(request.method),
      },
      answer,
    )
  }

  function head({ status: found, reason, lines, framing }: AnswerHead): void {
    status = found
    const passed = headers?.backward(lines) ?? []
    // RFC 9110 §8.6: a 204 has no length, whatever its head says.
    sink.begin(found, reason, found === 204 ? withoutLength(passed) : passed, framing)
  }

  function failed(problem: UpstreamProblem): void {
    const failure = upstreamFailures[problem]
    if (status === 0) {
      refuse(respondUpstream(failure), failure)
      return
    }
    finish(failure)
    sink.abort()
  }

  /** The upstream never gets the end of it, so that it cannot take what it has for the whole. */
  function exceed(): void {
    leave()
    if (status === 0 && rule !== undefined) refuse(respond(bodyTooLarge(rule)), undefined)
    else {
      finish(undefined)
      sink.abort()
    }
  }

  function refuse(denial: Denial, failure: UpstreamFailure | undefined): void {
    status = denial.status
    finish(failure)
    send(sink, denial)
  }

  function giveUp(denial: Denial): void {
    done = undefined
    leave()
    if (status === 0) send(sink, denial)
    else sink.abort()
  }

  function leave(): void {
    exchange?.abort()
    // It may wait a second time, for what was lost.
    upstream.cancel(answer)
  }

  function finish(failure: UpstreamFailure | undefined): void {
    const tell = done
    done = undefined
    exchange = undefined
    tell?.(status, failure)
  }
}

/** The lines of a 101: what the upstream says, and the two that make it one (RFC 9110 §7.8). */
function switchLines(lines: readonly string[], headers: HeaderFilter | undefined): readonly string[] {
  const at = lines.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === 'upgrade')
  return [...(headers?.backward(lines) ?? []), 'Connection', 'upgrade', 'Upgrade', lines[at + 1] ?? '']
}

function withoutLength(lines: readonly string[]): readonly string[] {
  return lines.filter((_, at) => lines[at - (at % 2)]?.toLowerCase() !== 'content-length')
}
