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
import { bodyLength } from '../http1/request-head.ts'
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
  readonly allow: Allow
  /** Of the configuration that allowed it. */
  readonly headers: HeaderFilter
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
  /**
   * Told once how it ended. `status` is the answer's, 0 where the client got none; `cut` is why we ended it ourselves.
   */
  readonly done: (status: number, failure: UpstreamFailure | undefined, cut: CutReason | undefined) => void
}

/** Forwards the requests of one client, one at a time. */
export type Forwarder = {
  readonly forward: (forwarded: Forwarded) => void
  /** Ends what is under way with a denial, or, where an answer has begun, by cutting it off. Nothing is told. */
  readonly giveUp: (denial: Denial) => void
  /** What the client's half tells meanwhile. */
  readonly events: RequestEvents
}

/** One of them, and what has become of it so far. */
type Underway = {
  readonly forwarded: Forwarded
  readonly hasBody: boolean
  /** Bytes of the body, until it is too much for its rule. */
  room: number
  /** Undefined while no connection is there for it. */
  exchange: UpstreamExchange | undefined
  /** Of the answer; 0 while there is none. */
  status: number
  /** Whether the answer declares its length. */
  hasLength: boolean
  switched: Switched | undefined
  stream: { readonly kind: StreamKind; readonly over: () => void } | undefined
  cutFor: CutReason | undefined
}

// RFC 9110 §9.2.2.
const idempotent: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/** Joins a client's half and an upstream's. What either tells when nothing is under way is told too late. */
export function createForwarder(
  sink: AnswerSink,
  { address, proto }: Peer,
  upstream: Upstream,
  streams: Pick<Streams, 'open'>,
): Forwarder {
  let now: Underway | undefined
  const answer: AnswerEvents = {
    opened,
    head,
    data(chunk) {
      if (now === undefined) return
      if (now.switched !== undefined) now.switched.fromUpstream(chunk)
      else if (!sink.write(chunk)) now?.exchange?.pause()
    },
    end(trailers) {
      if (now === undefined) return
      if (now.switched !== undefined) {
        if (now.switched.upstreamEnded()) finish(now)
        return
      }
      const passed = trailers.length === 0 ? trailers : now.forwarded.headers.backwardTrailers(trailers)
      // First: the end of this answer may be the beginning of the next request.
      finish(now)
      sink.end(passed)
    },
    flush: () => sink.flush(),
    drained: () => sink.resume(),
    failed,
    switched: switchTo,
  }
  const events: RequestEvents = {
    data(chunk) {
      if (now === undefined) return
      if (now.switched !== undefined) {
        now.switched.fromClient(chunk)
        return
      }
      now.room -= chunk.length
      if (now.room < 0) exceed(now)
      else if (now.exchange?.write(chunk) === false) sink.pause()
      // Who sends little by little wants it to arrive so.
      else now?.exchange?.flush()
    },
    end(trailers) {
      if (now?.switched === undefined)
        now?.exchange?.end(trailers.length === 0 ? trailers : now.forwarded.headers.forwardTrailers(trailers))
      else if (now.switched.clientEnded()) finish(now)
    },
    broken(why) {
      if (now === undefined) {
        sink.abort()
        return
      }
      leave(now)
      // Who is too slow for us gets no answer.
      if (why !== 'timeout' && takeBack(now)) refuse(now, respond(deny('request_malformed')))
      else {
        finish(now)
        sink.abort()
      }
    },
    drained: () => now?.exchange?.resume(),
    gone() {
      if (now === undefined) return
      leave(now)
      finish(now)
    },
  }
  return { forward, giveUp, events }

  function forward(forwarded: Forwarded): void {
    const { request, allow, headers, lines, framing, neverIndexed, upgrade } = forwarded
    const hasBody = bodyLength(framing) > 0
    now = {
      forwarded,
      hasBody,
      room: allow.rule.maxBody ?? Number.POSITIVE_INFINITY,
      exchange: undefined,
      status: 0,
      hasLength: false,
      switched: undefined,
      stream: undefined,
      cutFor: undefined,
    }
    if (request.method === 'POST' && isGrpcType(mediaTypeOf(lines))) watch(now, 'grpc')
    const told = headers.forward(lines, { peer: address, proto, request, allow })
    upstream.open(
      {
        method: request.method,
        target: request.path + request.query,
        authority: request.authority,
        own: told.own,
        lines: told.lines,
        identity: told.identity,
        framing,
        neverIndexed,
        upgrade,
        repeatable: !hasBody && idempotent.has(request.method),
      },
      answer,
    )
  }

  function opened(exchange: UpstreamExchange): void {
    const underway = now
    if (underway === undefined) return
    underway.exchange = exchange
    if (!underway.hasBody) return
    if (underway.forwarded.expectsContinue) sink.sendContinue()
    sink.resume()
    if (now === underway) exchange.flush()
  }

  function head({ status, reason, lines, framing, mediaType, isKnown, neverIndexed }: AnswerHead): void {
    if (now === undefined) return
    const { headers, upgrade } = now.forwarded
    now.status = status
    now.hasLength = typeof framing === 'number'
    // RFC 9931 §5: what the client may have sent after its head was meant for the other protocol.
    if (upgrade !== undefined) sink.closeAfter()
    if (mediaType === 'text/event-stream') watch(now, 'event_stream')
    else if (isGrpcType(mediaType)) watch(now, 'grpc')
    const passed = headers.backward(lines, isKnown)
    // RFC 9110 §8.6: a 204 has no length, whatever its head says.
    sink.begin(status, reason, status === 204 ? withoutLength(passed) : passed, framing, neverIndexed)
  }

  function switchTo(lines: readonly string[]): void {
    if (now === undefined) return
    const { exchange } = now
    const { headers, upgrade } = now.forwarded
    const named = lines.filter((_, at) => lines[at - 1]?.toLowerCase() === 'upgrade' && at % 2 === 1)
    // Both sides must mean the same protocol, or each reads what the other never said.
    if (exchange === undefined || upgrade === undefined || named.length !== 1 || named[0]?.toLowerCase() !== upgrade) {
      leave(now)
      refuse(now, respondUpstream('upstream_reset'), 'upstream_reset')
      return
    }
    now.status = 101
    now.switched = joinSides(upgrade, sink, exchange)
    watch(now, 'upgrade')
    sink.switchProtocols(switchLines(headers.backward(lines), upgrade))
  }

  function watch(underway: Underway, kind: StreamKind): void {
    if (underway.stream !== undefined) return
    const { allow } = underway.forwarded
    const over = streams.open({ kind, allow, cut: (why) => cut(underway, why), abort: () => cutOff(underway) })
    underway.stream = { kind, over }
  }

  /** Ends a stream in the words of its protocol, as far as it has any. */
  function cut(underway: Underway, why: CutReason): void {
    underway.cutFor = why
    if (underway.switched?.close !== undefined)
      underway.switched.close(why === 'shutdown' ? closeCodes.going_away : closeCodes.policy_violation)
    else if (takeBack(underway)) {
      leave(underway)
      refuse(underway, denialOf(why))
    } else cutOff(underway)
  }

  function cutOff(underway: Underway): void {
    const { cutFor } = underway
    leave(underway)
    breakOff(underway, { ...denialOf(cutFor), reason: cutFor ?? 'internal_error' })
  }

  /** Ends an answer that has begun, and will not be whole; a gRPC call can still be told why, where no length forbids it. */
  function breakOff(underway: Underway, denial: Denial, failure?: UpstreamFailure): void {
    finish(underway, failure)
    sink.abort(underway.forwarded.isGrpc && !underway.hasLength ? grpcTrailers(denial) : undefined)
  }

  function failed(problem: UpstreamProblem): void {
    if (now === undefined) return
    const failure = upstreamFailures[problem]
    if (takeBack(now)) refuse(now, respondUpstream(failure), failure)
    else breakOff(now, respondUpstream(failure), failure)
  }

  /** The upstream never gets the end of it, so that it cannot take what it has for the whole. */
  function exceed(underway: Underway): void {
    leave(underway)
    const denial = respond(bodyTooLarge(underway.forwarded.allow.rule))
    if (takeBack(underway)) refuse(underway, denial)
    else breakOff(underway, denial)
  }

  /** Takes back an answer that has begun. @returns Whether there is room for a denial now: what has left is only cut off. */
  function takeBack({ status }: Underway): boolean {
    return status === 0 || sink.takeBack()
  }

  function refuse(underway: Underway, denial: Denial, failure?: UpstreamFailure): void {
    const { upgrade, isGrpc } = underway.forwarded
    underway.status = denial.status
    if (upgrade !== undefined) sink.closeAfter()
    finish(underway, failure)
    send(sink, denial, isGrpc)
  }

  function giveUp(denial: Denial): void {
    const underway = now
    now = undefined
    if (underway === undefined) {
      sink.abort()
      return
    }
    leave(underway)
    underway.stream?.over()
    if (takeBack(underway)) send(sink, denial, underway.forwarded.isGrpc)
    else sink.abort()
  }

  function leave({ exchange }: Underway): void {
    exchange?.abort()
    // It may wait a second time, for what was lost.
    upstream.cancel(answer)
  }

  function finish(underway: Underway, failure?: UpstreamFailure): void {
    now = undefined
    underway.stream?.over()
    underway.forwarded.done(underway.status, failure, underway.cutFor)
  }
}

/** The lines of a 101: what the upstream says, and the two that make it one (RFC 9110 §7.8). */
function switchLines(passed: readonly string[], protocol: string): readonly string[] {
  return [...withoutLength(passed), 'Connection', 'upgrade', 'Upgrade', protocol]
}

/** What the client of a stream that we end is told, as far as it can be told anything. */
function denialOf(why: CutReason | undefined): Denial {
  if (why === 'shutdown') return respond(deny('overloaded'))
  return respond(deny(why ?? 'internal_error'))
}
