// A connection that is served on real sockets, by a clock that stands still until it is moved.
import type { Socket } from 'node:net'
import type { Deadline, Deadlines } from '../../src/http1/deadlines.ts'
import { lendAcceptedReads } from '../../src/http1/lent-reads.ts'
import type { ServerLimits } from '../../src/http1/limits.ts'
import type { RequestHead } from '../../src/http1/request-head.ts'
import type { ServerConnection } from '../../src/http1/server-connection.ts'
import { createServerConnection } from '../../src/http1/server-connection.ts'
import { until } from '../support/until.ts'
import { openPair } from './pair.ts'

/** What a connection may cost in these tests; every time is another, so that none is taken for another. */
export const limits: ServerLimits = {
  request: { target: 8192, fields: { bytes: 16_384, count: 100, one: 12_288 } },
  headMs: 10_000,
  requestMs: 60_000,
  minBodyRate: 1000,
  idleMs: 65_000,
  writeMs: 30_000,
  requestsPerConnection: 1000,
}

/** Deadlines that are looked at when a test says so. */
export type HeldDeadlines = Deadlines & {
  readonly pass: (ms: number) => void
  readonly watched: () => number
  /** Milliseconds until the next one. */
  readonly nextMs: () => number
}

/** Who serves: told of every request, and of every refusal, by its head or the kind of what is wrong. */
export type Answer = (connection: ServerConnection, head: RequestHead | string) => void

/** A connection that is served, and its client. */
export type Served = AsyncDisposable & {
  readonly near: Socket
  readonly client: Socket
  readonly connection: ServerConnection
  readonly deadlines: HeldDeadlines
  /** What the connection told, in order; parts of a body that follow each other are one. */
  readonly told: string[]
  /** What came of HTTP/2, as it is now: whoever serves it keeps these bytes. */
  readonly prefaces: readonly Buffer[]
  /** Sends bytes as a client. */
  readonly send: (text: string | Buffer) => void
  /** What the client received so far. */
  readonly text: () => string
  /** Resolves with it when it matches, and rejects after five seconds. */
  readonly receive: (pattern: RegExp) => Promise<string>
  /** Resolves with it when the connection has ended for the client. */
  readonly receiveAll: () => Promise<string>
  /** Resolves when the connection has told it. */
  readonly tells: (what: string) => Promise<void>
}

function holdDeadlines(): HeldDeadlines {
  const watched = new Set<Deadline>()
  let nowMs = 5000
  return {
    nowMs: () => nowMs,
    watch: (deadline) => void watched.add(deadline),
    unwatch: (deadline) => void watched.delete(deadline),
    pass(ms) {
      nowMs += ms
      for (const deadline of watched) if (deadline.atMs <= nowMs) deadline.expire()
    },
    watched: () => watched.size,
    nextMs: () => Math.min(...[...watched].map(({ atMs }) => atMs)) - nowMs,
  }
}

/** How a connection is served, beside its limits. */
export type ServeOptions = {
  /** Whether the client takes what comes; if not, until it is resumed. */
  readonly reads?: boolean
  /** Whether HTTP/2 has somebody who serves it. */
  readonly preface?: boolean
  /** Whether its socket is one that lends what it reads, as those of the front door are; else it is as under TLS. */
  readonly lends?: boolean
  /** Hears what is told while it is told. */
  readonly hears?: (what: string, connection: ServerConnection) => void
}

/** Serves one connection. */
export async function serve(
  answer: Answer,
  { reads = true, preface = false, lends = true, hears, ...changed }: Partial<ServerLimits> & ServeOptions = {},
): Promise<Served> {
  const pair = await openPair()
  const deadlines = holdDeadlines()
  const told: string[] = []
  const prefaces: Buffer[] = []
  let lastIsData = false
  let received = ''
  let hasEnded = false
  const tell = (what: string, isData = false) => {
    lastIsData = isData
    told.push(what)
    hears?.(what, connection)
  }
  const { far } = pair
  const near = lends ? lendAcceptedReads(pair.near) : pair.near
  const connection = createServerConnection(near, { ...limits, ...changed }, deadlines, (made) => ({
    request(head) {
      tell(`request ${head.method} ${head.target}`)
      answer(made, head)
    },
    refused({ kind }) {
      tell(`refused ${kind}`)
      answer(made, kind)
    },
    data(chunk) {
      const text = chunk.toString('latin1')
      if (lastIsData) told[told.length - 1] += text
      else tell(`data ${text}`, true)
    },
    end: (trailers) => tell(trailers.length === 0 ? 'end' : `end ${trailers.join(' ')}`),
    broken: (why) => tell(`broken ${why}`),
    drained: () => tell('drained'),
    gone: () => tell('gone'),
    preface: preface
      ? (bytes) => {
          prefaces.push(bytes)
          tell('preface')
        }
      : undefined,
  }))
  far.on('end', () => {
    hasEnded = true
  })
  far.on('close', () => {
    hasEnded = true
  })
  if (reads)
    far.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1')
    })
  return {
    near,
    client: far,
    connection,
    deadlines,
    told,
    prefaces,
    send: (text) => void far.write(text, 'latin1'),
    text: () => received,
    async receive(pattern) {
      await until(
        () => pattern.test(received),
        () => `${pattern} in ${JSON.stringify(received.slice(0, 500))}`,
      )
      return received
    },
    async receiveAll() {
      await until(
        () => hasEnded,
        () => `the end of ${JSON.stringify(received.slice(0, 500))}`,
      )
      return received
    },
    async tells(what) {
      await until(
        () => told.includes(what),
        () => `${what} in ${told.join(', ').slice(0, 500)}`,
      )
    },
    async [Symbol.asyncDispose]() {
      near.destroy()
      await pair[Symbol.asyncDispose]()
    },
  }
}

/** Sends an answer, whole. */
export function reply(connection: ServerConnection, body: string, status = 200): void {
  connection.begin(status, 'Said', ['Content-Length', String(body.length)], body.length)
  connection.write(Buffer.from(body))
  connection.end([])
}

/** A request without a body. */
export const get = (path: string, lines = '') => `GET ${path} HTTP/1.1\r\nHost: a\r\n${lines}\r\n`

/** A request with the beginning of a body. */
export const post = (path: string, framing: string, begun = '') =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n${begun}`
