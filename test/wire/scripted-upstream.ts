// An upstream that answers as a test says, byte for byte, on connections whose requests it reads strictly.
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import type { World } from '../acceptance/harness.ts'
import { openWorld } from '../acceptance/harness.ts'
import type { Message } from '../support/strict-reader.ts'
import { readRequest } from '../support/strict-reader.ts'
import { rules as usualRules } from './world.ts'

/** Answers one request; `nth` counts those of its connection from 1. */
export type Script = (socket: Socket, request: Message, nth: number) => void

export type ScriptedUpstream = AsyncDisposable & {
  readonly port: number
  /** Whole requests, in order. */
  readonly asked: readonly Message[]
  /** Connections ever, and now. */
  readonly connections: () => { readonly ever: number; readonly now: number }
  /** Called with every connection, before it asks. */
  onConnection: (socket: Socket) => void
  /** Called with a head whose body has not come yet. */
  onHead: (socket: Socket, head: { readonly target: string }) => void
}

/** Opens one on loopback. Requests for `/open/clean…` are answered with their target whatever the script says. */
export async function openScripted(script: Script): Promise<ScriptedUpstream> {
  const sockets = new Set<Socket>()
  const asked: Message[] = []
  let ever = 0
  const server = createServer({ noDelay: true, allowHalfOpen: false }, (socket) => {
    sockets.add(socket)
    ever += 1
    let nth = 0
    let text = ''
    let isTold = false
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    upstream.onConnection(socket)
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      for (;;) {
        const read = text === '' ? undefined : readRequest(text, 0)
        if (read?.kind === 'unfinished' && read.head !== undefined && !isTold) {
          isTold = true
          upstream.onHead(socket, read.head)
        }
        if (read?.kind !== 'message') return
        text = text.slice(read.end)
        isTold = false
        nth += 1
        asked.push(read)
        if (read.target.startsWith('/open/clean')) socket.write(cleanAnswer(read), 'latin1')
        else script(socket, read, nth)
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const upstream: ScriptedUpstream = {
    port: (server.address() as AddressInfo).port, // it listens on a port
    asked,
    connections: () => ({ ever, now: sockets.size }),
    onConnection: () => {},
    onHead: () => {},
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
  return upstream
}

function cleanAnswer({ method, target }: Message): string {
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${target.length}\r\n\r\n`
  return method === 'HEAD' ? head : head + target
}

/** The whole gateway in front of one. */
export async function openWorldBefore(
  { port }: ScriptedUpstream,
  options: Readonly<Record<string, unknown>> = {},
  rules: readonly Readonly<Record<string, unknown>>[] = usualRules,
  others: Readonly<Record<string, unknown>> = {},
): Promise<World> {
  const more = { ...others, upstream: { url: `http://127.0.0.1:${port}`, ...options } }
  return await openWorld({ rules, b: null, upstream: port, more })
}

/** An answer, and one that nobody may get. */
export const answerOk = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
export const poison = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Poison: yes\r\n\r\npoison'
