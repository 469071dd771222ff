// An upstream of bytes on a real socket, and somebody who asks it through a pool.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import { poolLimits, upstreamOptions } from '../../src/gates/options.ts'
import type { AnswerEvents, AnswerHead, Upstream, UpstreamExchange, UpstreamRequest } from '../../src/http1/exchange.ts'
import type { PoolLimits } from '../../src/http1/limits.ts'
import type { Endpoint } from '../../src/http1/places.ts'
import { createUpstreamPool } from '../../src/http1/upstream-pool.ts'
import { createSocketOpener } from '../../src/http1/upstream-socket.ts'
import type { TestDeadlines } from '../support/deadlines.ts'
import { createTestDeadlines } from '../support/deadlines.ts'

/** A connection as the upstream sees it. */
export type Accepted = {
  readonly socket: Socket
  /** Everything that came, as latin1. */
  received: string
  requests: number
  isClosed: boolean
}

/** An upstream, until disposed of. */
export type Peer = AsyncDisposable & {
  readonly port: number
  readonly endpoint: Endpoint
  readonly accepted: readonly Accepted[]
  /** Requests so far. */
  readonly requests: () => number
  /** Connections that are open. */
  readonly open: () => number
}

/** The least of an answer. */
export const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** Answers each head that comes with what `answer` writes, or returns; undefined: nothing. */
export async function openPeer(
  answer: (connection: Accepted, request: number) => string | undefined = () => ok,
): Promise<Peer> {
  const accepted: Accepted[] = []
  let requests = 0
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const connection: Accepted = { socket, received: '', requests: 0, isClosed: false }
    let heads = 0
    accepted.push(connection)
    socket.on('error', () => {})
    socket.on('end', () => socket.end())
    socket.on('close', () => {
      connection.isClosed = true
    })
    socket.on('data', (chunk: Buffer) => {
      connection.received += chunk.toString('latin1')
      const found = connection.received.split(/[A-Z]+ \/\S* HTTP\/1\.1\r\n/).length - 1
      while (heads < found && connection.received.includes('\r\n\r\n')) {
        heads += 1
        requests += 1
        connection.requests += 1
        const bytes = answer(connection, requests)
        if (bytes !== undefined) socket.write(bytes, 'latin1')
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  return {
    port,
    endpoint: { name: `peer ${port}`, open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'http1') },
    accepted,
    requests: () => requests,
    open: () => accepted.filter(({ isClosed }) => !isClosed).length,
    async [Symbol.asyncDispose]() {
      server.close()
      for (const { socket } of accepted) socket.destroy()
    },
  }
}

/** A port nobody listens on. */
export async function closedPort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  server.close()
  await once(server, 'close')
  return port
}

/** A place where nobody is. */
export async function deserted(): Promise<Endpoint> {
  const port = await closedPort()
  return { name: `nobody ${port}`, open: createSocketOpener({ host: '127.0.0.1', port }, undefined, 'http1') }
}

/** A pool of some places, with the default limits but for some, and the time it goes by. */
export type Pool = Upstream & Disposable & { readonly time: TestDeadlines; readonly failed: readonly string[] }

/** Makes one. */
export function openPool(places: readonly Endpoint[], change: Partial<PoolLimits> = {}): Pool {
  const time = createTestDeadlines()
  const failed: string[] = []
  const limits = { ...poolLimits(upstreamOptions.parse({})), ...change }
  const endpoints = { list: () => places, failed: ({ name }: Endpoint) => void failed.push(name) }
  const pool = createUpstreamPool(endpoints, limits, time)
  return { ...pool, time, failed, [Symbol.dispose]: pool.close }
}

/** A request on its way, and what came of it. */
export type Asked = {
  readonly events: AnswerEvents
  /** How often it was sent. */
  readonly opened: () => number
  readonly exchange: () => UpstreamExchange
  readonly head: () => AnswerHead | undefined
  readonly body: () => string
  readonly bytes: () => number
  readonly trailers: () => readonly string[]
  readonly switchedTo: () => readonly string[] | undefined
  /** `end`, or what went wrong. */
  readonly outcome: Promise<string>
  readonly isOver: () => boolean
}

/** A request without a body, of the most usual kind. */
export const plain: UpstreamRequest = {
  method: 'GET',
  target: '/a',
  authority: 'a.test',
  own: { lines: ['Host', 'a.test'], text: 'Host: a.test\r\n' },
  lines: [],
  framing: 'none',
  upgrade: undefined,
  repeatable: true,
}

/** Asks for something. */
export function ask(pool: Upstream, change: Partial<UpstreamRequest> = {}, more: Partial<AnswerEvents> = {}): Asked {
  const { promise, resolve } = Promise.withResolvers<string>()
  let opened = 0
  let exchange: UpstreamExchange | undefined
  let head: AnswerHead | undefined
  let body = ''
  let bytes = 0
  let trailers: readonly string[] = []
  let lines: readonly string[] | undefined
  let isOver = false
  const over = (outcome: string) => {
    assert.ok(!isOver, 'told twice how it ended')
    isOver = true
    resolve(outcome)
  }
  const events: AnswerEvents = {
    opened(given) {
      opened += 1
      exchange = given
      more.opened?.(given)
    },
    head(given) {
      head = given
      more.head?.(given)
    },
    data(chunk) {
      bytes += chunk.length
      if (chunk.length < 4096) body += chunk.toString('latin1')
      more.data?.(chunk)
    },
    end(found) {
      trailers = found
      over('end')
      more.end?.(found)
    },
    flush: () => more.flush?.(),
    drained: () => more.drained?.(),
    failed: over,
    switched(given) {
      lines = given
      more.switched?.(given)
    },
  }
  pool.open({ ...plain, ...change }, events)
  return {
    events,
    opened: () => opened,
    exchange() {
      assert.ok(exchange !== undefined, 'it was not sent')
      return exchange
    },
    head: () => head,
    body: () => body,
    bytes: () => bytes,
    trailers: () => trailers,
    switchedTo: () => lines,
    outcome: promise,
    isOver: () => isOver,
  }
}
