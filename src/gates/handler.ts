// One client's requests, one at a time: read, decided, and done what the decision says. The same for every protocol.
import type { Bagged } from '../base/bag.ts'
import type { Clock } from '../base/time.ts'
import type { Cors } from '../decision/cors.ts'
import { preflightAllow } from '../decision/cors.ts'
import type { Allow, Decision, Deny } from '../decision/decision.ts'
import { deny } from '../decision/decision.ts'
import type { AccessRequest } from '../decision/request.ts'
import { readAccessRequest } from '../decision/request.ts'
import type { Rule } from '../decision/rules.ts'
import type { Deadlines } from '../http1/deadlines.ts'
import type { AnswerSink, RequestEvents, Upstream } from '../http1/exchange.ts'
import type { HeadProblem, RequestHead } from '../http1/request-head.ts'
import type { GateReports, Peer, Serving, UpstreamFailure } from './gate.ts'
import { createForwarder } from './proxy.ts'
import { bodyTooLarge, isGrpcCall, respond, send } from './respond.ts'
import type { CutReason, Streams } from './streams.ts'

/** What a handler asks and tells. */
export type HandlerDeps = GateReports & {
  readonly clock: Clock
  readonly serving: () => Serving
  readonly upstream: Upstream
  readonly streams: Pick<Streams, 'open'>
}

/** What the front door needs, in whatever protocol it serves. */
export type FrontDoorDeps = HandlerDeps & { readonly deadlines: Deadlines }

/** A client's connection, whatever it speaks, served until it closes. */
export type Served = {
  /** Every answer from now on says that it is the last, where the protocol has words for that: HTTP/2 has none. */
  readonly announceClose: () => void
  /** Ends it as soon as nothing is under way. */
  readonly closeIdle: () => void
  readonly destroy: () => void
  /** Requests under way. */
  readonly inFlight: () => number
}

/** Serves the requests of one client. */
export type Handler = Bagged & {
  /** A request; the one before is over. */
  readonly request: (head: RequestHead) => void
  /**
   * Something that is no request we read: answered, and counted, all the same.
   *
   * @param fields What it said in HTTP/2, where that is known in any case; names and values alternating.
   */
  readonly refused: (problem: HeadProblem, fields?: readonly string[]) => void
  /** What else the client's half tells. */
  readonly events: RequestEvents
  readonly isBusy: () => boolean
}

/** One request on its way; what is known of it grows. */
type Handled = {
  readonly head: RequestHead | undefined
  /** Whether it is answered in gRPC's words. */
  readonly isGrpc: boolean
  readonly served: Serving
  readonly arrivedMs: number
  request: AccessRequest | undefined
  decision: Decision | undefined
  decidedMs: number
  isForwarded: boolean
  /** Whether the client left before there was a decision. */
  isGone: boolean
}

const problems: Readonly<Record<HeadProblem['kind'], Deny>> = {
  malformed: deny('request_malformed'),
  target_too_large: { ...deny('too_large'), status: 414 },
  head_too_large: deny('too_large'),
}

/** Makes the handler of one client, whose answers go to `sink`. */
export function createHandler(client: AnswerSink, peer: Peer, deps: HandlerDeps): Handler {
  const { clock, serving, upstream, decided, finished, failed } = deps
  let cors: Cors | undefined
  let origin: string | undefined
  // Whatever is answered, and by whom: scripts may read a denial, too.
  const sink: AnswerSink = {
    ...client,
    begin: (status, reason, lines, framing, neverIndexed) =>
      client.begin(status, reason, cors === undefined ? lines : cors.answer(origin, lines), framing, neverIndexed),
  }
  const forwarder = createForwarder(sink, peer, upstream, deps.streams)
  let current: Handled | undefined
  const events: RequestEvents = {
    ...forwarder.events,
    gone() {
      if (current?.decision === undefined) leave()
      else forwarder.events.gone()
    },
  }
  return { request, refused, events, isBusy: () => current !== undefined }

  function request(head: RequestHead): void {
    const handled = begin(head, head)
    try {
      const decision = decide(handled, head)
      if (decision instanceof Promise)
        decision.then((made) => act(handled, made)).catch((error) => act(handled, bug(error)))
      else act(handled, decision)
    } catch (error) {
      act(handled, bug(error))
    }
  }

  function refused({ kind }: HeadProblem, fields?: readonly string[]): void {
    act(begin(undefined, fields && { version: '2', lines: fields }), problems[kind])
  }

  /** @param said What is known of the one who asks, to be answered in its words. */
  function begin(head: RequestHead | undefined, said: Pick<RequestHead, 'version' | 'lines'> | undefined): Handled {
    const arrivedMs = clock.monotonicMs()
    const served = serving()
    const isGrpc = said !== undefined && isGrpcCall(said)
    const handled = {
      head,
      isGrpc,
      served,
      arrivedMs,
      request: undefined,
      decision: undefined,
      decidedMs: 0,
      isForwarded: false,
      isGone: false,
    }
    current = handled
    cors = said === undefined ? undefined : served.cors
    origin = said === undefined ? undefined : cors?.originOf(said.lines)
    return handled
  }

  function decide(handled: Handled, head: RequestHead): Decision | Promise<Decision> {
    const { served, arrivedMs } = handled
    const { method, target, host, authorization } = head
    const { certificate } = peer
    const read = readAccessRequest({ method, target, host, authorization, arrivedMs, certificate }, served)
    if (read.kind === 'deny') return read
    handled.request = read
    if (served.requireHttps && !served.headers.cameByHttps(head.lines, { peer: peer.address, proto: peer.proto }))
      return deny('transport_insecure')
    if (served.cors?.isPreflight(method, head.lines) === true) return preflightAllow
    return served.gateway.decide(read)
  }

  function act(handled: Handled, made: Decision): void {
    if (handled.decision !== undefined) {
      // A bug after the verdict, which was counted.
      if (current === handled && made.kind === 'deny') {
        const denial = respond(made)
        report(handled, handled.decision, denial.status)
        if (handled.isForwarded) forwarder.giveUp(denial)
        else send(sink, denial, handled.isGrpc)
      }
      return
    }
    const decision = made.kind === 'allow' && made !== preflightAllow ? admit(made, handled) : made
    handled.decision = decision
    handled.decidedMs = clock.monotonicMs()
    decided(decision, (handled.decidedMs - handled.arrivedMs) / 1000)
    // The client left while we asked: there is nobody to serve, and the upstream sees nothing.
    if (handled.isGone) report(handled, decision, 0)
    else if (decision === preflightAllow) answerPreflight(handled, decision)
    else if (decision.kind === 'allow') forward(handled, decision)
    else {
      const denial = respond(decision)
      // Who speaks no proper HTTP may not have meant what comes next either; nor who meant to speak something else.
      if (decision.reason === 'request_malformed' || upgradeOf(handled.head, decision.rule) !== undefined)
        sink.closeAfter()
      report(handled, decision, denial.status)
      send(sink, denial, handled.isGrpc)
    }
  }

  /** What is allowed may still be too much: of a body, or of requests. */
  function admit(allow: Allow, { head }: Handled): Decision {
    const { rule } = allow
    const length = typeof head?.framing === 'number' ? head.framing : 0
    if (length > (rule.maxBody ?? Number.POSITIVE_INFINITY)) return bodyTooLarge(rule)
    return upstream.isFull() ? { kind: 'deny', reason: 'overloaded', rule } : allow
  }

  function answerPreflight(handled: Handled, decision: Decision): void {
    report(handled, decision, 204)
    client.begin(204, 'No Content', cors?.answerPreflight(origin) ?? [], 'none')
    client.end([])
  }

  function forward(handled: Handled, allow: Allow): void {
    const { head, isGrpc, request: allowed, served } = handled
    if (head === undefined || allowed === undefined) throw new TypeError('Cannot forward: the request was not read')
    const { lines, framing, expectsContinue, neverIndexed } = head
    handled.isForwarded = true
    forwarder.forward({
      request: allowed,
      allow,
      headers: served.headers,
      lines,
      framing,
      expectsContinue,
      upgrade: upgradeOf(head, allow.rule),
      neverIndexed,
      isGrpc,
      done: (status, failure, cut) => report(handled, allow, status, failure, cut),
    })
  }

  function leave(): void {
    if (current !== undefined) current.isGone = true
    current = undefined
  }

  function bug(error: unknown): Deny {
    failed(error)
    return deny('internal_error')
  }

  function report(
    handled: Handled,
    decision: Decision,
    status: number,
    upstreamFailure?: UpstreamFailure,
    cut?: CutReason,
  ): void {
    if (current === handled) current = undefined
    const { head, request, arrivedMs, decidedMs, isForwarded } = handled
    try {
      finished({
        method: head?.method ?? '',
        request,
        peer: peer.address,
        arrivedMs,
        decidedMs,
        isForwarded,
        decision,
        status,
        upstreamFailure,
        cut,
      })
    } catch (error) {
      // A line that cannot be written keeps no answer back.
      failed(error)
    }
  }
}

/** The protocol a GET may switch to: the one it offers, where its rule lists that (RFC 9110 §7.8). */
function upgradeOf(head: RequestHead | undefined, rule: Rule | undefined): string | undefined {
  if (head?.upgrade === undefined || rule?.upgrade.includes(head.upgrade) !== true) return undefined
  return head.method === 'GET' ? head.upgrade : undefined
}
