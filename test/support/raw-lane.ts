// One keep-alive connection that sends one request at a time: cheap enough for thousands of requests a second.
import type { Socket } from 'node:net'
import { connect } from 'node:net'

/** An answer, and when its request went out and its last byte came in (`performance.now`). */
export type LaneAnswer = {
  /** 0: the connection ended before the answer did. */
  readonly status: number
  /** The head, as received. */
  readonly head: string
  readonly body: string
  readonly sentMs: number
  readonly receivedMs: number
}

export type Lane = Disposable & {
  /** Sends a GET with a token; one at a time. Never rejects. */
  readonly get: (path: string, token: string) => Promise<LaneAnswer>
  readonly isBusy: () => boolean
}

const patienceMs = 10_000

/** Opens a lane to a port on this machine; it connects when it first sends, and again after a close. */
export function openLane(port: number): Lane {
  let socket: Socket | undefined
  let received = ''
  let answered: ((status: number, head: string, body: string) => void) | undefined
  return {
    get(path, token) {
      const { promise, resolve } = Promise.withResolvers<LaneAnswer>()
      const sentMs = performance.now()
      answered = (status, head, body) => {
        answered = undefined
        resolve({ status, head, body, sentMs, receivedMs: performance.now() })
      }
      socket ??= open()
      socket.write(`GET ${path} HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer ${token}\r\n\r\n`)
      return promise
    },
    isBusy: () => answered !== undefined,
    [Symbol.dispose]: () => void socket?.destroy(),
  }

  function open(): Socket {
    received = ''
    const opened = connect({ port, host: '127.0.0.1', noDelay: true })
    opened.setEncoding('latin1')
    opened.on('data', (chunk) => {
      received += chunk
      read()
    })
    // A gateway that never answers must not keep a test for ever.
    opened.setTimeout(patienceMs, () => opened.destroy())
    opened.on('error', () => {})
    opened.on('close', () => {
      if (socket !== opened) return
      socket = undefined
      answered?.(0, '', '')
    })
    return opened
  }

  function read(): void {
    const end = received.indexOf('\r\n\r\n')
    if (end === -1) return
    const head = received.slice(0, end)
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0)
    if (received.length < end + 4 + length) return
    const body = received.slice(end + 4, end + 4 + length)
    received = ''
    if (/\r\nconnection: close/i.test(head)) {
      socket?.destroy()
      socket = undefined
    }
    answered?.(Number(head.slice(9, 12)), head, body)
  }
}

/** The value of `Retry-After` in seconds; undefined where there is none. */
export function retryAfterS({ head }: LaneAnswer): number | undefined {
  const value = /\r\nretry-after: (\d+)/i.exec(head)?.[1]
  return value === undefined ? undefined : Number(value)
}
