// An issuer that says whatever a test has it say, byte for byte.
import { once } from 'node:events'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer } from 'node:net'
import type { Members } from './forge.ts'

/** One answer: a value is sent as JSON; `raw` is sent as it is; `hang` ends in the middle and never closes. */
export type Reply = {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly json?: unknown
  readonly body?: string | Buffer
  readonly raw?: string | Buffer
  readonly hang?: 'head' | 'body'
  /** Milliseconds until it is sent. */
  readonly delay?: number
}

/** A request the issuer got. */
export type Asked = { readonly path: string; readonly authorization: string | undefined; readonly token: string }

export type StubIssuer = AsyncDisposable & {
  readonly url: string
  readonly origin: string
  /** Every request, in order. */
  readonly asked: Asked[]
  readonly connections: () => number
  /** How often a path was asked for. */
  readonly count: (path: string) => number
  /** The members of the key set. */
  keys: readonly unknown[]
  /** What is known of tokens; of others it says that they are not active. */
  readonly tokens: Map<string, Members>
  /** What the feed lists. */
  readonly revoked: { kind: string; value: string; issued_before?: number }[]
  /** Instead of the usual answer, while it returns one. */
  answer: (asked: Asked) => Reply | undefined
  nowS: () => number
}

/** Opens an issuer on loopback; `path` is what its identifier has beside the origin. */
export async function openStubIssuer(path = ''): Promise<StubIssuer> {
  const sockets = new Set<Socket>()
  let connections = 0
  const server: Server = createServer((socket) => {
    connections += 1
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    let received = ''
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      for (;;) {
        const end = received.indexOf('\r\n\r\n')
        if (end === -1) return
        const head = received.slice(0, end)
        const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0)
        if (received.length < end + 4 + length) return
        const body = received.slice(end + 4, end + 4 + length)
        received = received.slice(end + 4 + length)
        receive(head, body, socket)
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // it listens on a port
  const issuer: StubIssuer = {
    url: origin + path,
    origin,
    asked: [],
    connections: () => connections,
    count: (wanted) => issuer.asked.filter((each) => each.path === wanted).length,
    keys: [],
    tokens: new Map(),
    revoked: [],
    answer: () => undefined,
    nowS: () => Date.now() / 1000,
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
  return issuer

  function receive(head: string, body: string, socket: Socket): void {
    const target = /^\S+ (\S+)/.exec(head)?.[1] ?? ''
    const authorization = /\r\nauthorization: ([^\r]*)/i.exec(head)?.[1]
    const token = new URLSearchParams(body).get('token') ?? ''
    const asked = { path: target.replace(/\?.*/, ''), authorization, token }
    issuer.asked.push(asked)
    const reply = issuer.answer(asked) ?? usual(asked)
    if (reply.delay === undefined) send(reply, socket)
    else setTimeout(send, reply.delay, reply, socket)
  }

  function usual({ path: wanted, token }: Asked): Reply {
    const { url } = issuer
    if (wanted === '/jwks') return { json: { keys: issuer.keys } }
    if (wanted === '/introspect') return { json: issuer.tokens.get(token) ?? { active: false } }
    if (wanted === '/blacklist') return { json: feed() }
    if (wanted.includes('/.well-known/'))
      return { json: { issuer: url, jwks_uri: `${origin}/jwks`, introspection_endpoint: `${origin}/introspect` } }
    return { status: 404, json: {} }
  }

  function feed(): unknown {
    const server_time = Math.floor(issuer.nowS())
    const entries = issuer.revoked.map((entry, at) => {
      return { seq: at + 1, ...entry, revoked_at: server_time, expires_at: server_time + 3600, cause: 'owner' }
    })
    const cursor = String(entries.length)
    return { epoch: 'e', cursor, more: false, server_time, total_live: entries.length, reset: true, entries }
  }
}

function send(reply: Reply, socket: Socket): void {
  if (reply.raw !== undefined) return void socket.end(reply.raw)
  const { status = 200, headers = {}, hang } = reply
  const body = Buffer.from((reply.body ?? JSON.stringify(reply.json)) as string) // a string or a Buffer
  const lines = Object.entries({
    'Content-Type': 'application/json',
    'Content-Length': String(body.length),
    ...headers,
  })
  const head = `HTTP/1.1 ${status} X\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
  if (hang === 'head') return void socket.write(head.slice(0, 20))
  if (hang === 'body') return void socket.write(Buffer.concat([Buffer.from(head), body.subarray(0, body.length - 2)]))
  socket.write(Buffer.concat([Buffer.from(head), body]))
}
