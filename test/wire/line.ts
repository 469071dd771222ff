// A client's connection, read strictly: what the gateway answers is judged by the same grammar as what it is sent.
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { setImmediate as tick } from 'node:timers/promises'
import type { Message } from '../support/strict-reader.ts'
import { readResponse } from '../support/strict-reader.ts'

/** What came next: an answer, the end of the connection with what was left of one, nothing in time, or no HTTP. */
export type Next =
  | { readonly kind: 'answer'; readonly answer: Message; readonly interim: number }
  | { readonly kind: 'closed'; readonly rest: string; readonly reset: boolean }
  | { readonly kind: 'silent'; readonly rest: string }
  | { readonly kind: 'broken'; readonly why: string; readonly rest: string }

/** One connection. */
export type Connection = Disposable & {
  readonly socket: Socket
  /** The port it comes from. */
  readonly from: () => number
  readonly isOpen: () => boolean
  /** Writes bytes, in pieces that end at these places. */
  readonly write: (bytes: string, cuts?: readonly number[]) => Promise<void>
  /** The final answer to a request of this method; 1xx before it are counted. */
  readonly next: (method?: string, patienceMs?: number) => Promise<Next>
}

const usualPatienceMs = 10_000

/** Connects to a port on this machine. */
export async function openConnection(port: number, host = '127.0.0.1'): Promise<Connection> {
  const socket = connect({ port, host, noDelay: true })
  let text = ''
  let ended = false
  let reset = false
  let wake: (() => void) | undefined
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
    wake?.()
  })
  socket.on('end', () => {
    ended = true
    wake?.()
  })
  socket.on('error', (error: NodeJS.ErrnoException) => {
    reset ||= error.code === 'ECONNRESET'
  })
  socket.on('close', () => {
    ended = true
    wake?.()
  })
  await once(socket, 'connect')
  const from = socket.localPort ?? 0
  return {
    socket,
    from: () => from,
    isOpen: () => !ended && !socket.destroyed,
    async write(bytes, cuts = []) {
      let at = 0
      for (const cut of cuts) {
        socket.write(bytes.slice(at, cut), 'latin1')
        at = cut
        // A piece of its own for whoever reads it.
        await tick()
      }
      socket.write(bytes.slice(at), 'latin1')
    },
    async next(method = 'GET', patienceMs = usualPatienceMs) {
      let interim = 0
      const endMs = performance.now() + patienceMs
      for (;;) {
        const read = text === '' ? undefined : readResponse(text, 0, method, ended)
        if (read?.kind === 'broken') return { kind: 'broken', why: read.why, rest: text }
        if (read?.kind === 'message') {
          text = text.slice(read.end)
          if (read.status >= 200) return { kind: 'answer', answer: read, interim }
          interim += 1
          continue
        }
        if (ended) return { kind: 'closed', rest: text, reset }
        if (performance.now() >= endMs) return { kind: 'silent', rest: text }
        await more(endMs - performance.now())
      }
    },
    [Symbol.dispose]: () => void socket.destroy(),
  }

  function more(forMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, Math.max(1, forMs))
    wake = () => {
      wake = undefined
      clearTimeout(timer)
      resolve()
    }
    return promise
  }
}

/** The `reason` of a problem body; `ok` for any other answer. */
export function reasonOf({ lines, body }: Message): string {
  const isProblem = lines.some(([name, value]) => /^content-type$/i.test(name) && value === 'application/problem+json')
  return isProblem ? String((JSON.parse(body) as { reason?: unknown }).reason) : 'ok'
}
