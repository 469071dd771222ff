// The way to the upstream and back, streaming. The permit is an Allow: there is no other way in.
import type { Allow } from '../decision/decision.ts'
import { deny } from '../decision/decision.ts'
import type { HeaderFilter } from '../decision/headers.ts'
import type { AccessRequest } from '../decision/request.ts'
import type {
  AnswerEvents,
  AnswerHead,
  AnswerSink,
  RequestEvents,
  Upstream,
  UpstreamExchange,
  UpstreamProblem,
} from '../http1/exchange.ts'
import { mediaTypeOf, withoutLength } from '../http1/field-lines.ts'
import type { Framing } from '../http1/request-head.ts'
import { closeCodes } from '../spec/websocket.ts'
import type { Peer, UpstreamFailure } from './gate.ts'
import { upstreamFailures } from './gate.ts'
import type { Denial } from './respond.ts'
import { bodyTooLarge, grpcTrailers, isGrpcType, respond, respondUpstream, send } from './respond.ts'
import type { CutReason, StreamKind, Streams } from './streams.ts'
import type { Switched } from './switched.ts'
import { joinSides } from './switched.ts'

/** An allowed request, as it came. */
export type Forwarded = {
  readonly request: AccessRequest
  /** Names and values alternating, as received. */
  readonly lines: readonly string[]
  readonly framing: Framing
  readonly expectsContinue: boolean
  /** The one protocol it may switch to, lower-case. */
  readonly upgrade: string | undefined
  /** Of its head. */
  readonly neverIndexed: readonly string[] | undefined
  /** Whether it is to be refused in gRPC's words. */
  readonly isGrpc: boolean
}

/**
 * Told once how a forwarded request ended. `status` is the answer's, 0 where the client got none; `cut` is why we ended
 * it ourselves.
 */
export type Done = (status: number, failure: UpstreamFailure | undefined, cut: CutReason | undefined) => void

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
export function createForwarder(sink: AnswerSink, upstream: Upstream, streams: Pick<Streams, 'open'>): Forwarder {
  let exchange: UpstreamExchange | undefined
  let permit: Allow | undefined
  let headers: HeaderFilter | undefined
  let done: Done | undefined
  let expectsContinue = false
  let hasBody = false
  // Of the body, until it is too much for its rule.
  let room = Number.POSITIVE_INFINITY
  let isGrpc = false
  let hasLength = false
  let status = 0
  let upgrade: string | undefined
  let switched: Switched | undefined
  let stream: { readonly kind: StreamKind; readonly over: () => void } | undefined
  let cutFor: CutReason | undefined

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
      if (switched !== undefined) switched.fromUpstream(chunk)
      else if (!sink.write(chunk)) exchange?.pause()
    },
    end(trailers) {
      if (switched !== undefined) {
        if (switched.upstreamEnded()) finish(undefined)
        return
      }
      const passed = trailers.length === 0 ? trailers : (headers?.backwardTrailers(trailers) ?? [])
      // First: the end of this answer may be the beginning of the next request.
      finish(undefined)
      sink.end(passed)
    },
    flush: () => sink.flush(),
    drained: () => sink.resume(),
    failed,
    switched: switchTo,
  }
  const events: RequestEvents = {
    data(chunk) {
      if (switched !== undefined) {
        switched.fromClient(chunk)
        return
      }
      room -= chunk.length
      if (room < 0) exceed()
      else if (exchange?.write(chunk) === false) sink.pause()
      // Who sends little by little wants it to arrive so.
      else exchange?.flush()
    },
    end(trailers) {
      if (switched !== undefined) {
        if (switched.clientEnded()) finish(undefined)
        return
      }
      exchange?.end(trailers.length === 0 ? trailers : (headers?.forwardTrailers(trailers) ?? []))
    },
    broken(why) {
      leave()
      // Who is too slow for us gets no answer.
      if (why !== 'timeout' && takeBack()) refuse(respond(deny('request_malformed')), undefined)
      else {
        finish(undefined)
        sink.abort()
      }
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
    permit = allow
    done = whenDone
    status = 0
    exchange = undefined
    room = allow.rule.maxBody ?? Number.POSITIVE_INFINITY
    upgrade = forwarded.upgrade
    expectsContinue = forwarded.expectsContinue
    isGrpc = forwarded.isGrpc
    hasBody = framing !== 'none' && framing !== 0
    if (request.method === 'POST' && isGrpcType(mediaTypeOf(lines))) watch('grpc')
    const told = filter.forward(lines, { peer: address, proto, request, allow })
    upstream.open(
      {
        method: request.method,
        target: request.path + request.query,
        authority: request.authority,
        lines: told.lines,
        identity: told.identity,
        framing,
        neverIndexed: forwarded.neverIndexed,
        upgrade,
        repeatable: !hasBody && idempotent.has(request.method),
      },
      answer,
    )
  }

  function head({ status: found, reason, lines, framing, mediaType, isKnown, neverIndexed }: AnswerHead): void {
    status = found
    hasLength = typeof framing === 'number'
    // RFC 9931 §5: what the client may have sent after its head was meant for the other protocol.
    if (upgrade !== undefined) sink.closeAfter()
    if (mediaType === 'text/event-stream') watch('event_stream')
    else if (isGrpcType(mediaType)) watch('grpc')
    const passed = headers?.backward(lines, isKnown) ?? []
    // RFC 9110 §8.6: a 204 has no length, whatever its head says.
    sink.begin(found, reason, found === 204 ? withoutLength(passed) : passed, framing, neverIndexed)
  }

  function switchTo(lines: readonly string[]): void {
    const named = lines.filter((_, at) => lines[at - 1]?.toLowerCase() === 'upgrade' && at % 2 === 1)
    // Both sides must mean the same protocol, or each reads what the other never said.
    if (exchange === undefined || upgrade === undefined || named.length !== 1 || named[0]?.toLowerCase() !== upgrade) {
      leave()
      refuse(respondUpstream('upstream_reset'), 'upstream_reset')
      return
    }
    status = 101
    switched = joinSides(upgrade, sink, exchange)
    watch('upgrade')
    sink.switchProtocols(switchLines(lines, upgrade, headers))
  }

  function watch(kind: StreamKind): void {
    if (permit === undefined || stream !== undefined) return
    stream = { kind, over: streams.open({ kind, allow: permit, cut, abort: cutOff }) }
  }

  /** Ends a stream in the words of its protocol, as far as it has any. */
  function cut(why: CutReason): void {
    cutFor = why
    if (switched?.close !== undefined) {
      switched.close(why === 'shutdown' ? closeCodes.going_away : closeCodes.policy_violation)
      return
    }
    if (!takeBack()) {
      cutOff()
      return
    }
    leave()
    refuse(denialOf(why), undefined)
  }

  function cutOff(): void {
    const denial = { ...denialOf(cutFor), reason: cutFor ?? 'internal_error' }
    leave()
    breakOff(denial, undefined)
  }

  /** Ends an answer that has begun, and will not be whole; a gRPC call can still be told why, where no length forbids it. */
  function breakOff(denial: Denial, failure: UpstreamFailure | undefined): void {
    finish(failure)
    sink.abort(isGrpc && !hasLength ? grpcTrailers(denial) : undefined)
  }

  function failed(problem: UpstreamProblem): void {
    const failure = upstreamFailures[problem]
    if (takeBack()) refuse(respondUpstream(failure), failure)
    else breakOff(respondUpstream(failure), failure)
  }

  /** The upstream never gets the end of it, so that it cannot take what it has for the whole. */
  function exceed(): void {
    leave()
    if (permit === undefined) return
    const denial = respond(bodyTooLarge(permit.rule))
    if (takeBack()) refuse(denial, undefined)
    else breakOff(denial, undefined)
  }

  /** Takes back an answer that has begun. @returns Whether there is room for a denial now: what has left is only cut off. */
  function takeBack(): boolean {
    return status === 0 || sink.takeBack()
  }

  function refuse(denial: Denial, failure: UpstreamFailure | undefined): void {
    status = denial.status
    if (upgrade !== undefined) sink.closeAfter()
    finish(failure)
    send(sink, denial, isGrpc)
  }

  function giveUp(denial: Denial): void {
    done = undefined
    leave()
    finish(undefined)
    if (takeBack()) send(sink, denial, isGrpc)
    else sink.abort()
  }

  function leave(): void {
    exchange?.abort()
    // It may wait a second time, for what was lost.
    upstream.cancel(answer)
  }

  function finish(failure: UpstreamFailure | undefined): void {
    const tell = done
    const over = stream?.over
    const why = cutFor
    done = undefined
    exchange = undefined
    switched = undefined
    stream = undefined
    cutFor = undefined
    over?.()
    tell?.(status, failure, why)
  }
}

/** The lines of a 101: what the upstream says, and the two that make it one (RFC 9110 §7.8). */
function switchLines(lines: readonly string[], protocol: string, headers: HeaderFilter | undefined): readonly string[] {
  return [...withoutLength(headers?.backward(lines) ?? []), 'Connection', 'upgrade', 'Upgrade', protocol]
}

/** What the client of a stream that we end is told, as far as it can be told anything. */
function denialOf(why: CutReason | undefined): Denial {
  if (why === 'shutdown') return respond(deny('overloaded'))
  return respond(deny(why ?? 'internal_error'))
}
