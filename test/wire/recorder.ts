// An upstream that believes nothing: what does not parse strictly, or does not carry the gateway's mark once, is kept as
// a violation; what does is recorded and answered.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import type { Message } from '../support/strict-reader.ts'
import { readRequest, valuesOf } from '../support/strict-reader.ts'

export type Recorder = AsyncDisposable & {
  readonly port: number
  /** Heads that came whole: every one of them must stand for a verdict of allow. */
  readonly heads: () => number
  /** Whole requests so far. */
  readonly count: () => number
  /** Hands over a request by the number its answer names in `X-Seen`, once. */
  readonly take: (number: number) => Message | undefined
  /** Requests that nobody has taken. */
  readonly left: () => readonly Message[]
  /** Asserts that everything was strict, and marked. */
  readonly assertClean: () => void
}

// RFC 9110 §7.6.1 and §10.1.1: of the client's connection, not of ours.
const hopByHop = ['te', 'upgrade', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'trailer', 'expect']
const identity = ['x-auth-subject', 'x-auth-client', 'x-auth-scope']

/** Opens one on loopback; it answers `200`, and to every request but HEAD `ok`. */
export async function openRecorder(): Promise<Recorder> {
  const sockets = new Set<Socket>()
  const recorded = new Map<number, Message>()
  const violations: string[] = []
  let heads = 0
  let count = 0
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    let text = ''
    let headSeen = false
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      let answers = ''
      let at = 0
      while (at < text.length) {
        const read = readRequest(text, at)
        if (read.kind === 'broken') violate(`${read.why} is broken`, text.slice(at))
        if (read.kind === 'broken') return void socket.destroy()
        if (!headSeen && (read.kind === 'message' || read.head !== undefined)) heads += 1
        headSeen = read.kind === 'unfinished' && read.head !== undefined
        if (read.kind === 'unfinished') break
        answers += answer(read)
        at = read.end
      }
      text = text.slice(at)
      if (answers !== '') socket.write(answers, 'latin1')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port, // it listens on a port
    heads: () => heads,
    count: () => count,
    take(number) {
      const found = recorded.get(number)
      recorded.delete(number)
      return found
    },
    left: () => [...recorded.values()],
    assertClean: () => assert.deepEqual(violations, []),
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }

  function answer(request: Message): string {
    const why = wrongIn(request)
    if (why !== undefined) violate(why, JSON.stringify(request))
    recorded.set(count, request)
    const head = `HTTP/1.1 200 OK\r\nX-Seen: ${count}\r\nContent-Length: 2\r\n\r\n`
    count += 1
    return request.method === 'HEAD' ? head : `${head}ok`
  }

  function violate(why: string, text: string): void {
    if (violations.length < 20) violations.push(`${why}: ${JSON.stringify(text.slice(0, 1000))}`)
  }
}

/** What is not as the gateway promises of every request it forwards; undefined when all of it is. */
function wrongIn(request: Message): string | undefined {
  const { method, target, lines, trailers } = request
  if (!/^[A-Z!#$%&'*+.^_`|~0-9a-z-]+$/.test(method) || /^(?:connect|trace)$/i.test(method)) return 'the method'
  if (!/^\/[!-~]*$/.test(target) || target.includes('#')) return 'the target'
  if (valuesOf(request, 'host').length !== 1) return 'the number of Host lines'
  for (const [name, value] of [
    ['x-forwarded-for', '127.0.0.1'],
    ['x-forwarded-proto', 'http'],
  ] as const) {
    const told = lines.filter(([each]) => fold(each) === name)
    if (told.length !== 1 || told[0]?.[1] !== value) return `the mark ${name}`
  }
  for (const [name] of lines) if (hopByHop.includes(fold(name))) return `a line of another connection, ${name}`
  // Set by the gateway in one spelling, or not there.
  for (const name of identity) {
    const told = lines.filter(([each]) => fold(each) === name)
    if (told.length > 1 || told.some(([each]) => each !== name)) return `an alias of ${name}`
    if (told.some(([, value]) => value.includes('attacker'))) return `an identity of the client's own making, ${name}`
  }
  if (trailers.some(([name]) => /^(?:content-length|transfer-encoding|host|authorization)$/i.test(name)))
    return 'framing in a trailer'
  return undefined
}

/** Header names as the laxest upstream compares them. */
function fold(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-')
}
