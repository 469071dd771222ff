// The two halves of one exchange, whatever protocol each speaks: HTTP/1.1 here, HTTP/2 beside it.
import type { Framing, HeadProblem, RequestHead } from './request-head.ts'

/**
 * Where an answer goes: the client's half. One exchange is served at a time; once it is over, its owner calls nothing
 * of it any more.
 */
export type AnswerSink = {
  /** Tells the client to send its body (100). */
  readonly sendContinue: () => void
  /**
   * Begins the answer. The head waits for the first of the body, to travel with it; `flush` sends it alone.
   *
   * @param lines Names and values alternating, without framing and `Connection`: those are the sink's.
   * @param framing Of the body that follows; `none` also where the head declares a length that is not sent (HEAD).
   * @param neverIndexed As of the answer's head.
   */
  readonly begin: (
    status: number,
    reason: string,
    lines: readonly string[],
    framing: Framing,
    neverIndexed?: readonly string[],
  ) => void
  /**
   * Sends a part of the body; for the answer to a HEAD it is dropped, or it would be taken for the next answer.
   *
   * @param chunk Of up to `copiedBytes`: only lent, for the time of the call; a larger one is given away.
   * @returns Whether more is welcome; if not, `drained` tells when it is.
   */
  readonly write: (chunk: Buffer) => boolean
  /** Ends the answer. */
  readonly end: (trailers: readonly string[]) => void
  /** Sends what has been begun and waits for nothing more. */
  readonly flush: () => void
  /**
   * Cuts the connection (or stream) off, so that nobody takes what was sent for the whole.
   *
   * @param last Trailers that say why, for a protocol that can end an answer without calling it whole.
   */
  readonly abort: (last?: readonly string[]) => void
  /**
   * Forgets the answer that was begun, for another one in its place.
   *
   * @returns False where some of it has left: then it can only be cut off.
   */
  readonly takeBack: () => boolean
  /** Has the client told that this is the last answer on its connection. */
  readonly closeAfter: () => void
  /** Stops, and goes on, reading the request's body. */
  readonly pause: () => void
  readonly resume: () => void
  /** Answers 101 with these lines: from now on bytes pass both ways as they are, until both sides have ended. */
  readonly switchProtocols: (lines: readonly string[]) => void
}

/** What the client's half tells while it is served. */
export type RequestEvents = {
  readonly data: (chunk: Buffer) => void
  readonly end: (trailers: readonly string[]) => void
  /** The body is broken by the grammar, or came too slowly; nothing more of it follows. */
  readonly broken: (why: 'malformed' | 'timeout') => void
  /** More of the answer is welcome. */
  readonly drained: () => void
  /** The client has left: there is nobody to answer. */
  readonly gone: () => void
}

/** What a connection tells whoever serves it. */
export type ServerEvents = RequestEvents & {
  /** A whole head, the answer before it being out. Its body is read once `resume` is called. */
  readonly request: (head: RequestHead) => void
  /** Something that is no request we read; the answer to it is the last one. */
  readonly refused: (problem: HeadProblem) => void
  /** The connection begins as HTTP/2 does (RFC 9113 §3.4); `bytes` are what came. Left out: that is malformed. */
  readonly preface?: ((bytes: Buffer) => void) | undefined
  /** The first head has not come in time, or too many wait for theirs with too much of it; the connection ends. */
  readonly late?: (why: 'timeout' | 'crowded') => void
}

/** Why an upstream gave no answer, or no end of it. */
export type UpstreamProblem = 'connect' | 'reset' | 'timeout' | 'overloaded'

/** What an upstream tells about one request. After `end` or `failed` nothing more comes, nor after an `abort`. */
export type AnswerEvents = {
  /** The request is on its way: at once, or when a connection is free; a second time when it is sent again. */
  readonly opened: (exchange: UpstreamExchange) => void
  /** The final head; 101 goes to `switched`. */
  readonly head: (head: AnswerHead) => void
  /** @param chunk Lent or given away, as for `AnswerSink.write`. */
  readonly data: (chunk: Buffer) => void
  readonly end: (trailers: readonly string[]) => void
  /** Nothing more is there at the moment: what waits for company need not. */
  readonly flush: () => void
  /** More of the request's body is welcome. */
  readonly drained: () => void
  readonly failed: (problem: UpstreamProblem) => void
  /** It switches protocols (101), as the request asked: bytes pass both ways as they are, also after its `end`. */
  readonly switched: (lines: readonly string[]) => void
}

/** The head of an answer, as far as it matters on the way through. */
export type AnswerHead = {
  readonly status: number
  readonly reason: string
  /** Names and values alternating, as received. */
  readonly lines: readonly string[]
  readonly framing: Framing
  /** `text/event-stream` and the like: lower-case, without parameters; empty where there is none. */
  readonly mediaType: string
  /** Whether its lines are the very ones that were told before, which hold no secret, and are frozen. */
  readonly isKnown: boolean
  /** As of a request's head: who passes these on must not have them remembered either. */
  readonly neverIndexed?: readonly string[]
}

/** Lines that come again, names and values alternating, and their text as HTTP/1.1 has it: each ends in CR LF. */
export type ReadyLines = { readonly lines: readonly string[]; readonly text: string }

/** One request to an upstream. */
export type UpstreamRequest = {
  readonly method: string
  /** Path and query, in origin form. */
  readonly target: string
  readonly authority: string
  /** `Host` first. */
  readonly own: ReadyLines
  /** What follows those: names and values alternating, without framing and hop-by-hop lines. */
  readonly lines: readonly string[]
  /** And those. */
  readonly identity?: ReadyLines | undefined
  readonly framing: Framing
  /** As of a request's head: who passes these on must not have them remembered either. */
  readonly neverIndexed?: readonly string[] | undefined
  /** The protocol to switch to, where the rule lets that pass. */
  readonly upgrade: string | undefined
  /** Whether it may be sent a second time (RFC 9110 §9.2.2), and has no body. */
  readonly repeatable: boolean
}

/** Where requests go. */
export type Upstream = {
  readonly open: (request: UpstreamRequest, events: AnswerEvents) => void
  /** Gives up a request that waits to be opened. */
  readonly cancel: (events: AnswerEvents) => void
  /** Whether another request would be turned away. */
  readonly isFull: () => boolean
  readonly close: () => void
}

/** A request under way to an upstream. */
export type UpstreamExchange = {
  /** Sends a part of the request's body. @returns Whether more is welcome; `drained` tells when it is. */
  readonly write: (chunk: Buffer) => boolean
  readonly end: (trailers: readonly string[]) => void
  /** Sends what has been given and waits for nothing more. */
  readonly flush: () => void
  /** Gives the request up: nobody is interested in the answer any more. */
  readonly abort: () => void
  /** Stops, and goes on, reading the answer. */
  readonly pause: () => void
  readonly resume: () => void
}

/** Chunks up to here are lent, not given away: as text they join what is written before them. */
export const copiedBytes = 4096
