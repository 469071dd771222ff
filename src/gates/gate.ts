// What every front door has in common: whom it asks, and whom it tells.
import type { Cors } from '../decision/cors.ts'
import type { Decision } from '../decision/decision.ts'
import type { HeaderFilter } from '../decision/headers.ts'
import type { AccessRequest } from '../decision/request.ts'
import type { Gateway } from '../gateway.ts'
import type { UpstreamProblem } from '../http1/exchange.ts'
import type { CutReason } from './streams.ts'

/** One configuration at work. A request keeps the one it started with, whatever is loaded meanwhile. */
export type Serving = {
  readonly gateway: Gateway
  readonly headers: HeaderFilter
  /** Names we answer for; empty: any valid `Host`. */
  readonly hosts: ReadonlySet<string>
  /** Whether plain HTTP is refused, public rules included. */
  readonly requireHttps: boolean
  /** How long a stream may go on once its token is no longer good. */
  readonly streamGraceMs: number
  /** Undefined: answers say nothing of other origins, and OPTIONS is a method like any other. */
  readonly cors: Cors | undefined
}

/** The word for what an upstream did. */
export const upstreamFailures = {
  connect: 'upstream_connect',
  reset: 'upstream_reset',
  timeout: 'upstream_timeout',
  overloaded: 'overloaded',
} as const satisfies Readonly<Record<UpstreamProblem, string>>

/** Why the upstream gave no answer, or only a part of one. */
export type UpstreamFailure = (typeof upstreamFailures)[UpstreamProblem]

/** Whoever is at the other end of a connection. */
export type Peer = {
  /** Its address; of a PROXY protocol header, where one is wanted; `unix:` on a Unix socket. */
  readonly address: string
  readonly proto: 'http' | 'https'
  /** The thumbprint of its certificate, where it has shown a good one (RFC 8705 §3.1). */
  readonly certificate?: string | undefined
}

/** One request, from its head to the last byte of its answer. Times are monotonic milliseconds. */
export type Exchange = {
  readonly method: string
  /** Undefined when what came was no request we could read. */
  readonly request: AccessRequest | undefined
  readonly peer: string
  readonly arrivedMs: number
  readonly decidedMs: number
  readonly decision: Decision
  /** Whether it was sent on its way to the upstream. Not all that is allowed is: a preflight, one whose client has left. */
  readonly isForwarded: boolean
  /** What the client got; 0 when it left before. */
  readonly status: number
  readonly upstreamFailure: UpstreamFailure | undefined
  /** Why a long answer was ended by us. */
  readonly cut: CutReason | undefined
}

/** Told what happened; none of them may throw. */
export type GateReports = {
  /** Once per request, at its decision. */
  readonly decided: (decision: Decision, seconds: number) => void
  /** Once per request, at its end. */
  readonly finished: (exchange: Exchange) => void
  /** Something that should not be: a bug of ours, or of the listening socket. */
  readonly failed: (error: unknown) => void
}
