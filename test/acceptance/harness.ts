// The whole gateway on real sockets: two scripted issuers, an upstream that records bytes, a client that sends them.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { connect as connectTls } from 'node:tls'
import type { App } from '../../src/app/app.ts'
import { startApp } from '../../src/app/app.ts'
import { formatProblem } from '../../src/config/problems.ts'
import { until } from '../support/until.ts'
import type { Members, Recipe } from './forge.ts'
import { forge, jwkOf, keys } from './forge.ts'
import type { StubIssuer } from './stub-issuer.ts'
import { openStubIssuer } from './stub-issuer.ts'

/** A request that reached the upstream. */
export type Seen = {
  readonly method: string
  readonly target: string
  /** Lines in order, names as sent. */
  readonly lines: readonly (readonly [string, string])[]
  /** Values of a name, any case. */
  readonly all: (name: string) => readonly string[]
}

/** What the client got. `reason` is the problem body's, or `ok` for what the upstream answered. */
export type Got = {
  readonly status: number
  readonly reason: string
  readonly challenge: string | undefined
  readonly retryAfter: string | undefined
  readonly text: string
}

export type Ask = {
  readonly path?: string
  readonly method?: string
  readonly token?: string
  /** Lines beside Host and the token's. */
  readonly lines?: readonly (readonly [string, string])[]
  /** How the client speaks TLS; undefined where it does not. */
  readonly tls?: ConnectionOptions
}

export type World = AsyncDisposable & {
  readonly app: App
  readonly a: StubIssuer
  readonly b: StubIssuer
  readonly seen: readonly Seen[]
  readonly ask: (ask: Ask) => Promise<Got>
  /** One request of any bytes; the client closes once it has its answer, unless it is to stay. */
  readonly send: (bytes: string | Buffer, then?: 'close' | 'stay', tls?: ConnectionOptions) => Promise<Got>
  /** Tells of an answer that was got another way than by `ask` and `send`; undefined: the request was not judged. */
  readonly gotElsewhere: (text: string | undefined) => void
  /** A token of issuer A, good but for the recipe. */
  readonly mint: (recipe?: Recipe) => string
  readonly mintB: (recipe?: Recipe) => string
  /** Moves both clocks. */
  readonly pass: (ms: number) => void
  /** Moves the wall clock alone. */
  readonly step: (ms: number) => void
  readonly nowS: () => number
  readonly logs: () => string
  readonly count: (series: string) => number
  /** Changes the configuration and has it loaded. */
  readonly reload: (change: (configuration: Record<string, unknown>) => void) => void
}

export type Setup = {
  /** Members of issuer A's section; undefined ones are removed. */
  readonly a?: Members
  /** The same of issuer B's; null: it is not configured. */
  readonly b?: Members | null
  readonly rules?: readonly Members[]
  readonly more?: Members
  readonly pathA?: string
  readonly pathB?: string
  /** Called before the gateway starts. */
  readonly before?: (a: StubIssuer, b: StubIssuer) => void
  /** Whether to wait until every source has loaded; default true. */
  readonly ready?: boolean
  /** The port of another upstream than the recording one: whoever opened it sends by itself, and keeps the books. */
  readonly upstream?: number
  /** Whether whoever reads the log reads no more. */
  readonly losesLogs?: () => boolean
}

export const secrets = { SECRET_A: 'secret-of-the-gateway-at-a', SECRET_B: 'secret-of-the-gateway-at-b' } as const

const defaultRules: readonly Members[] = [
  { id: 'public', match: { methods: ['GET'], path: '/public/**' }, public: true },
  { id: 'read', match: { path: '/read/**' }, scopes: ['read'] },
  { id: 'write', match: { path: '/write/**' }, scopes: ['write'] },
  { id: 'any', match: { path: '/any/**' } },
  { id: 'always', match: { path: '/always/**' }, freshness: 'always' },
  { id: 'aged', match: { path: '/aged/**' }, freshness: { max_age: '5s' } },
  { id: 'only-b', match: { path: '/b/**' }, issuers: ['ISS_B'] },
  { id: 'only-a', match: { path: '/a/**' }, issuers: ['ISS_A'] },
  { id: 'other-aud', match: { path: '/other/**' }, audience: 'other-api' },
]

/** Starts everything; disposing ends it, once the books are found to balance. */
export async function openWorld(setup: Setup = {}): Promise<World> {
  const a = await openStubIssuer(setup.pathA)
  const b = await openStubIssuer(setup.pathB)
  a.keys = [jwkOf(keys.good, { kid: 'k1' }), jwkOf(keys.rs, { kid: 'rs1' }), jwkOf(keys.ed, { kid: 'ed1' })]
  b.keys = [jwkOf(keys.b, { kid: 'kb' })]
  let wallShift = 0
  let monotonicShift = 0
  const nowS = () => Math.floor((Date.now() + wallShift) / 1000)
  a.nowS = nowS
  b.nowS = nowS
  setup.before?.(a, b)
  const upstream = await openUpstream()
  const elsewhere = setup.upstream !== undefined
  const configuration: Record<string, unknown> = {
    version: 1,
    listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' },
    upstream: { url: `http://127.0.0.1:${setup.upstream ?? upstream.port}` },
    drain: { delay: '0s', timeout: '1s' },
    issuers: [issuerSection(a, 'A', setup.a), ...(setup.b === null ? [] : [issuerSection(b, 'B', setup.b)])],
    rules: setup.rules ?? defaultRules.filter(({ id }) => setup.b !== null || id !== 'only-b'),
    ...setup.more,
  }
  let text = write()
  let logs = ''
  const app = await startApp(
    { file: 'gateway.yaml', read: () => text },
    {
      clock: { wallMs: () => Date.now() + wallShift, monotonicMs: () => performance.now() + monotonicShift },
      random: () => 0,
      randomBytes,
      env: secrets,
      readFile: (path) => readFileSync(path),
      fileMode: (path) => statSync(path).mode,
      write(chunk, done) {
        if (setup.losesLogs?.() === true) return void done(new Error('nobody reads'))
        // Of a hundred thousand requests, only what went wrong.
        if (!elsewhere || chunk.includes('internal_error')) logs += chunk
        done()
      },
      version: 'test',
      revision: 'of-the-test',
    },
  )
  if (app.kind === 'refused')
    throw new Error(app.problems.map((problem) => formatProblem(problem, { color: false })).join('\n'))
  const sentTokens = new Set<string>()
  const answers: string[] = []
  let sent = 0
  const world: World = {
    app,
    a,
    b,
    seen: upstream.seen,
    nowS,
    mint: (recipe) =>
      forge({ iss: a.url, key: keys.good, kid: recipe?.key === keys.rs ? 'rs1' : 'k1', nowS: nowS() }, recipe),
    mintB: (recipe) => forge({ iss: b.url, key: keys.b, kid: 'kb', nowS: nowS() }, recipe),
    logs: () => logs,
    async ask({ path = '/read/x', method = 'GET', token, lines = [], tls }) {
      if (token !== undefined) sentTokens.add(token)
      const authorization = token === undefined ? [] : [['Authorization', `Bearer ${token}`] as const]
      const head = [['Host', 'gateway.test'] as const, ...authorization, ...lines]
      const text = head.map(([name, value]) => `${name}: ${value}\r\n`).join('')
      return await world.send(Buffer.from(`${method} ${path} HTTP/1.1\r\n${text}\r\n`, 'utf8'), 'close', tls)
    },
    async send(bytes, then = 'close', tls) {
      sent += 1
      const got = await exchange(app.ports.proxy, bytes, then, tls)
      answers.push(got.text)
      return got
    },
    gotElsewhere(text) {
      if (text === undefined) return
      sent += 1
      answers.push(text)
    },
    pass(ms) {
      wallShift += ms
      monotonicShift += ms
    },
    step(ms) {
      wallShift += ms
    },
    count: (series) => app.counters().get(series) ?? 0,
    reload(change) {
      change(configuration)
      text = write()
      assert.equal(app.reload(), 'reloaded', logs)
    },
    async [Symbol.asyncDispose]() {
      const counters = app.counters()
      await app.close()
      await Promise.all([upstream.close(), a[Symbol.asyncDispose](), b[Symbol.asyncDispose]()])
      balance(counters)
      keepSecrets(counters)
    },
  }
  if (setup.ready !== false) await until(() => app.isReady(), 'the gateway to be ready')
  return world

  function write(): string {
    return JSON.stringify(configuration).replaceAll('ISS_A', a.url).replaceAll('ISS_B', b.url)
  }

  /** Every request was counted once, allowed ones reached the upstream, and nothing was a bug of ours. */
  function balance(counters: ReadonlyMap<string, number>): void {
    let total = 0
    let allowed = 0
    for (const [series, value] of counters) {
      if (!series.startsWith('postern_decisions_total')) continue
      total += value
      if (series.includes('decision="allow"')) allowed += value
      if (series.includes('"internal_error"')) assert.equal(value, 0, `internal_error: ${logs}`)
    }
    assert.doesNotMatch(logs, /internal_error/)
    if (elsewhere) return
    assert.equal(total, sent, 'decisions counted, requests sent')
    assert.equal(allowed, upstream.seen.length, 'requests allowed, requests at the upstream')
  }

  /** No token, secret or subject stands in a log line, a metric or an answer. */
  function keepSecrets(counters: ReadonlyMap<string, number>): void {
    const written = [logs, ...counters.keys(), ...answers].join('\n')
    for (const secret of [...Object.values(secrets), 'alice']) assert.ok(!written.includes(secret), 'a secret is told')
    for (const token of sentTokens)
      for (const part of token.split('.'))
        if (part.length >= 16) assert.ok(!written.includes(part), `a part of a token is told: ${part}`)
  }
}

function issuerSection(issuer: StubIssuer, name: 'A' | 'B', members: Members = {}): Members {
  return {
    issuer: issuer.url,
    audience: 'api',
    algorithms: ['ES256', 'RS256', 'EdDSA'],
    introspection: { client_id: `gateway-${name}`, client_secret: { env: `SECRET_${name}` } },
    ...(name === 'A' ? { opaque: true } : {}),
    ...members,
  }
}

async function openUpstream(): Promise<{ port: number; seen: Seen[]; close: () => Promise<void> }> {
  const sockets = new Set<Socket>()
  const seen: Seen[] = []
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {})
    let received = ''
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      for (let end = received.indexOf('\r\n\r\n'); end !== -1; end = received.indexOf('\r\n\r\n')) {
        const request = read(received.slice(0, end))
        received = received.slice(end + 4)
        seen.push(request)
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${request.method === 'HEAD' ? '' : 'ok'}`)
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  return {
    port,
    seen,
    async close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

function read(head: string): Seen {
  const [first = '', ...rest] = head.split('\r\n')
  const [, method = '', target = ''] = /^(\S+) (.*) HTTP\/1\.1$/s.exec(first) ?? []
  const lines = rest.map((line) => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon), line.slice(colon + 1).trim()] as const
  })
  const all = (name: string) => lines.filter(([each]) => each.toLowerCase() === name).map(([, value]) => value)
  return { method, target, lines, all }
}

/** Sends bytes on a connection of their own and reads one answer. */
async function exchange(
  port: number,
  bytes: string | Buffer,
  then: 'close' | 'stay',
  tls: ConnectionOptions | undefined,
): Promise<Got> {
  const at = { port, host: '127.0.0.1' }
  const socket = tls === undefined ? connect({ ...at, allowHalfOpen: then === 'stay' }) : connectTls({ ...at, ...tls })
  socket.setNoDelay(true)
  try {
    return await new Promise<Got>((resolve, reject) => {
      let received = ''
      socket.on('data', (chunk) => {
        received += chunk.toString('latin1')
        const got = readAnswer(received)
        if (got !== undefined) resolve(got)
      })
      socket.on('error', reject)
      socket.on('close', () => reject(new Error(`closed without an answer, after ${JSON.stringify(received)}`)))
      socket.setTimeout(30_000, () => reject(new Error('no answer within 30 s')))
      socket.write(bytes)
    })
  } finally {
    socket.on('error', () => {})
    // One that stays is the gateway's to end: it keeps no test from ending.
    if (then === 'close') socket.destroy()
    else socket.unref()
  }
}

function readAnswer(received: string): Got | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end === -1) return undefined
  const head = received.slice(0, end)
  const text = received.slice(end + 4)
  const header = (name: string) => new RegExp(`\\r\\n${name}: ([^\\r]*)`, 'i').exec(head)?.[1]
  if (text.length < Number(header('content-length') ?? 0)) return undefined
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1])
  const isProblem = header('content-type') === 'application/problem+json'
  const reason = isProblem ? String((JSON.parse(text) as { reason?: unknown }).reason) : 'ok'
  return { status, reason, challenge: header('www-authenticate'), retryAfter: header('retry-after'), text: head + text }
}

/** Asserts status and reason, the challenge of product.md §1 that belongs to them, and that nothing was forwarded. */
export async function denied(
  world: World,
  ask: Ask,
  status: number,
  reason: string,
  message = describe(ask),
): Promise<Got> {
  const before = world.seen.length
  const got = await world.ask(ask)
  assert.deepEqual([got.status, got.reason], [status, reason], message)
  checkChallenge(got)
  assert.equal(world.seen.length, before, 'the upstream saw a refused request')
  return got
}

/** Asserts that a request is let through, and returns what the upstream saw of it. */
export async function allowed(world: World, ask: Ask, message = describe(ask)): Promise<Seen> {
  const before = world.seen.length
  const got = await world.ask(ask)
  assert.deepEqual([got.status, got.reason], [200, 'ok'], message)
  assert.equal(world.seen.length, before + 1)
  const seen = world.seen.at(-1)
  assert.ok(seen !== undefined)
  return seen
}

/** The challenge and Retry-After that a denial must have, or must not. */
export function checkChallenge({ status, reason, challenge, retryAfter }: Got): void {
  assert.equal(retryAfter !== undefined, status === 503, `Retry-After on ${status} ${reason}`)
  if (reason === 'token_missing') {
    assert.match(challenge ?? '', /^Bearer realm="[^"]+"/)
    assert.doesNotMatch(challenge ?? '', /error/)
  } else if (reason === 'token_malformed' || reason === 'token_repeated') {
    assert.match(challenge ?? '', /^Bearer .*error="invalid_request"/)
  } else if (status === 401) {
    assert.match(challenge ?? '', /^Bearer .*error="invalid_token", error_description="[^"]+"/)
  } else if (reason === 'scope_missing' || reason === 'claim_mismatch') {
    assert.match(challenge ?? '', /^Bearer .*error="insufficient_scope"/)
    if (reason === 'scope_missing') assert.match(challenge ?? '', /scope="[^"]+"/)
  } else {
    assert.equal(challenge, undefined, `WWW-Authenticate on ${status} ${reason}`)
  }
}

function describe({ method = 'GET', path = '/read/x' }: Ask): string {
  return `${method} ${path}`
}

/** The world in which the table of headers is judged. */
export const headerSetup = {
  rules: [
    { id: 'admin', match: { path: '/admin/**' }, scopes: ['read'] },
    { id: 'open', match: { path: '/public/**' }, public: true },
  ],
  more: {
    identity_headers: {
      'x-user': 'sub',
      'x-scope': 'scope',
      'x-client-id': 'client_id',
      'x-token-claims': 'groups',
      'x-gw-id': 'jti',
    },
  },
}
