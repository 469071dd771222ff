// The demo's client, and the line between gateway and issuer: sockets, so that what is sent is what was written.
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import type { Clock } from '../base/time.ts'

/** A part of the demo that does not do what the others need to show anything. */
export class DemoFailed extends Error {
  override readonly name = 'DemoFailed'
  readonly code = 'ERR_DEMO_FAILED'
}

/** One request to the gateway; the path goes onto the wire as it is. */
export type Ask = {
  /** Default GET. */
  readonly method?: string
  readonly path: string
  readonly token?: string
  /** Whole header lines beside Host and the token's. */
  readonly lines?: readonly string[]
}

/** What a client sees of an answer. */
export type Answer = {
  readonly status: number
  /** The problem's `reason`; `ok` for what the service answered. */
  readonly reason: string
  readonly body: string
  /** Microseconds from the request's last byte to the answer's. */
  readonly us: number
}

const host = '127.0.0.1'
const answerMs = 5000

/** Sends one request on a connection of its own. Rejects with DemoFailed when there is no whole answer within 5 s. */
export function askOnce(port: number, { method = 'GET', path, token, lines = [] }: Ask, clock: Clock): Promise<Answer> {
  const head = [
    `${method} ${path} HTTP/1.1`,
    'Host: api.demo.test',
    ...(token === undefined ? [] : [`Authorization: Bearer ${token}`]),
    ...lines,
    ...(method === 'POST' ? ['Content-Length: 0'] : []),
    'Connection: close',
  ]
  return new Promise((resolve, reject) => {
    let sentMs = 0
    let received = ''
    const socket = connect(port, host)
    socket.setEncoding('latin1')
    socket.setTimeout(answerMs, () => socket.destroy())
    socket.on('connect', () => {
      sentMs = clock.monotonicMs()
      socket.write(`${head.join('\r\n')}\r\n\r\n`)
    })
    socket.on('data', (text: string) => {
      received += text
      const answer = readAnswer(received)
      if (answer === undefined) return
      resolve({ ...answer, us: Math.round((clock.monotonicMs() - sentMs) * 1000) })
      socket.destroy()
    })
    socket.on('error', (cause) => reject(new DemoFailed('Cannot ask the gateway: the connection failed', { cause })))
    socket.on('close', () => reject(new DemoFailed('Cannot ask the gateway: closed or silent, wanted a whole answer')))
  })
}

function readAnswer(received: string): Omit<Answer, 'us'> | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end === -1) return undefined
  const head = received.slice(0, end)
  const body = received.slice(end + 4)
  // Gateway and service both send a length.
  if (body.length < Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)) return undefined
  const isProblem = /\r\ncontent-type: *application\/problem\+json/i.test(head)
  const reason = isProblem ? (/"reason":"([a-z_]+)"/.exec(body)?.[1] ?? 'no reason') : 'ok'
  return { status: Number(head.slice(9, 12)), reason, body }
}

/** A TCP relay that can be cut and mended: how an issuer goes down for the gateway and for nobody else. */
export type Line = AsyncDisposable & {
  readonly port: number
  /** Says which port is at the other end. */
  readonly lead: (to: number) => void
  readonly cut: () => Promise<void>
  readonly mend: () => Promise<void>
}

/** Opens a line on any free port; it leads nowhere yet. */
export async function openLine(): Promise<Line> {
  const sockets = new Set<Socket>()
  let to = 0
  const server = createServer((near) => {
    const far = connect(to, host)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => {}) // its close is what counts
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  })
  await listen(0)
  const { port } = server.address() as AddressInfo // not a pipe: it was given a port
  return {
    port,
    lead(target) {
      to = target
    },
    cut,
    async mend() {
      if (!server.listening) await listen(port)
    },
    [Symbol.asyncDispose]: cut,
  }

  function listen(at: number): Promise<void> {
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(at, host, () => {
        server.off('error', reject)
        resolve()
      })
    })
  }

  function cut(): Promise<void> {
    return new Promise((resolve) => {
      server.close(() => resolve())
      for (const socket of sockets) socket.destroy()
    })
  }
}
