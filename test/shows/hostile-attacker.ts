// Clients that mean no good, and the service behind the gateway, each in a process of its own: whoever measures the others
// shares no event loop with them. `node test/shows/hostile-attacker.ts KIND PORT COUNT` says `ready` once all are there,
// `done` where there is an end, and ends with its standard input.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { createRandom, seedOfRun } from '../support/random.ts'

/** Long answers of the service, by their paths. */
const lengths: ReadonlyMap<string, number> = new Map([
  ['/open/mebibyte', 1_048_576],
  ['/open/gibibyte', 1_073_741_824],
])
const head = (method: string, target: string, lines = '') =>
  `${method} ${target} HTTP/1.1\r\nHost: api.test\r\n${lines}\r\n`

/** What a client sends first, and what it does from then on. */
type Manner = {
  readonly first: string
  /** Called about every `everyMs` while it is connected. */
  readonly goesOn?: (socket: Socket) => void
  readonly everyMs?: number
  /** Whether to read what comes; one that does not is asked to by `goesOn`. */
  readonly reads: boolean
}

const manners: Readonly<Record<string, Manner>> = {
  'slow heads': { first: 'G', goesOn: (socket) => void socket.write('E'), everyMs: 10_000, reads: true },
  'slow bodies': {
    first: head('POST', '/open/slow', 'Content-Length: 1000000\r\n'),
    goesOn: (socket) => void socket.write('x'),
    everyMs: 10_000,
    reads: true,
  },
  'slow readers': { first: head('GET', '/open/gibibyte'), goesOn: readLittle, everyMs: 1000, reads: false },
  idle: { first: head('GET', '/open/a'), reads: true },
}

const [kind = '', port = 0, count = 0] = process.argv.slice(2).map((arg, at) => (at === 0 ? arg : Number(arg))) as [
  string?,
  number?,
  number?,
] // the first is not changed
process.stdin.resume()
process.stdin.on('end', () => process.exit())
const manner = manners[kind]
if (kind === 'service') await serve()
else if (kind === 'aborts') await abortAll()
else if (manner !== undefined) await behave(manner)

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** The service: a long answer where that is asked for, and else two bytes once the request has ended. */
async function serve(): Promise<void> {
  const part = Buffer.alloc(65_536, 'x')
  const server = createServer({ keepAliveTimeout: 60_000, requestTimeout: 0 }, (request, response) => {
    request.on('error', () => {})
    const length = lengths.get(request.url ?? '')
    if (length === undefined) {
      request.resume().on('end', () => response.writeHead(200, { 'content-length': 2 }).end('ok'))
      return
    }
    let left = length
    const more = () => {
      if (left === 0 || response.destroyed) return void response.end()
      left -= part.length
      // One at a time: the others' answers are to come from here, too.
      response.write(part, more)
    }
    response.writeHead(200, { 'content-length': length })
    more()
  })
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 })
  await once(server, 'listening')
  say(String((server.address() as AddressInfo).port)) // it listens on a port
}

/** Keeps so many clients of a manner: who is cut off comes again. */
async function behave({ first, goesOn, everyMs = 10_000, reads }: Manner): Promise<void> {
  const sockets = new Set<Socket>()
  for (let opened = 0; opened < count; opened += 1) {
    open()
    // No flood of connections: that is another test.
    if (opened % 50 === 49) await wait(5)
  }
  await wait(200)
  say('ready')
  // They know nothing of each other: each has a time of its own.
  const slices = 500
  for (let slice = 0; goesOn !== undefined; slice = (slice + 1) % slices) {
    await wait(everyMs / slices)
    let at = 0
    for (const socket of sockets) {
      if (at % slices === slice) goesOn(socket)
      at += 1
    }
  }

  function open(): void {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    sockets.add(socket)
    socket.on('connect', () => void socket.write(first))
    if (reads) socket.resume()
    else socket.pause()
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      setTimeout(open, 100)
    })
  }
}

function readLittle(socket: Socket): void {
  socket.read(16_384)
}

/** Breaks off so many requests, each at a byte of chance. */
async function abortAll(): Promise<void> {
  const random = createRandom(seedOfRun())
  const requests = [
    head('GET', '/open/a'),
    head('POST', '/open/a', 'Content-Length: 5000\r\n') + 'x'.repeat(5000),
    `${head('POST', '/open/a', 'Transfer-Encoding: chunked\r\n')}${`7d0\r\n${'x'.repeat(2000)}\r\n`.repeat(3)}0\r\n\r\n`,
    head('GET', '/open/a').repeat(5),
    head('GET', '/closed', 'Authorization: Bearer x\r\n'),
  ]
  // Seldom, and of a length that most get in a moment: a download at full speed is no small thing by itself, whole or not.
  const download = head('GET', '/open/mebibyte')
  let left = count
  say('ready')
  await Promise.all(Array.from({ length: 10 }, lane))
  say('done')

  async function lane(): Promise<void> {
    while (left > 0) {
      left -= 1
      const socket = connect({ port, host: '127.0.0.1', noDelay: true })
      socket.on('error', () => {})
      await once(socket, 'connect')
      const text = random.oneIn(30) ? download : random.pick(requests)
      socket.write(text.slice(0, random.below(text.length + 1)))
      if (random.oneIn(2)) socket.resume()
      await wait(random.below(20))
      if (random.oneIn(2) && !socket.destroyed) socket.resetAndDestroy()
      else socket.destroy()
    }
  }
}
