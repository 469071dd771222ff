// What connections and messages may cost (security.md §4.1). Times are milliseconds, sizes bytes.

/** What the field lines of a head, or the trailers, may hold. */
export type FieldLimits = {
  /** Field lines together, line ends included. */
  readonly bytes: number
  /** Field lines. */
  readonly count: number
  /** One name with its value. */
  readonly one: number
}

/** What the trailers of a request may hold, in HTTP/1.1 and in HTTP/2; those of an answer as much as its head. */
export const trailerLimits: FieldLimits = { bytes: 8192, count: 50, one: 4096 }

/** Interim answers (1xx) before the final one. */
export const maxInterim = 16

/** Of a body that nobody wants, what is read all the same where that keeps a connection for the next request. */
export const maxUnreadBytes = 65_536

/** Of requests that came together no more are read in one turn of the event loop: the others' would wait for all of them. */
export const requestsPerTurn = 100

/** A client that has closed its side may still read so long; one that is gone must not hold an upstream. */
export const halfClosedMs = 500

/** Time enough to read a refusal. */
export const lingerMs = 1000

/**
 * How long, and how much, is read and thrown away of a client that goes on sending behind its last answer (RFC 9112 §9.6).
 * Many (urllib3, Apache HttpClient, HAProxy) look at an answer only when they have sent everything: closed on before that,
 * they get a reset and no answer. It takes no memory; whoever sends more can ask first (`Expect: 100-continue`).
 */
export const maxLingerMs = 5000
/** How many bytes are read and thrown away so (`maxLingerMs`); who sends more is reset. */
export const maxLingerBytes = 8 * 1_048_576

/** What a request's head may cost. */
export type RequestLimits = { readonly target: number; readonly fields: FieldLimits }

/** What an answer's head may cost. */
export type ResponseLimits = { readonly fields: FieldLimits }

/** What a client's connection may cost. */
export type ServerLimits = {
  readonly request: RequestLimits
  /** For a head, from its first byte, or from the connection's beginning. */
  readonly headMs: number
  /** For a whole request; a longer one must keep `minBodyRate`. */
  readonly requestMs: number
  /** Bytes a second below which a body is too slow, once `requestMs` has passed. */
  readonly minBodyRate: number
  /** Between two requests. */
  readonly idleMs: number
  /** How long a client may take to make room for more of its answer. */
  readonly writeMs: number
  readonly requestsPerConnection: number
}

/** What a connection to an upstream may cost. */
export type UpstreamLimits = {
  readonly response: ResponseLimits
  /** Until a connection is there, TLS included. */
  readonly connectMs: number
  /** Until the head of the answer, from the last byte of the request. */
  readonly headMs: number
  /** Between two parts of an answer. */
  readonly bodyMs: number
  /** How long a connection is kept that nobody uses; shorter where the upstream says so. */
  readonly keepAliveMs: number
}

/** How many connections to an upstream there may be, and how many requests may wait for one, for how long. */
export type PoolLimits = UpstreamLimits & {
  readonly connections: number
  readonly queued: number
  readonly queuedMs: number
}
