// A whole gateway before a service of the test's own, with one issuer whose list is polled every second.
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import type { App } from '../../src/app/app.ts'
import { startApp } from '../../src/app/app.ts'
import { formatProblem } from '../../src/config/problems.ts'
import type { Members } from '../acceptance/forge.ts'
import { forge, jwkOf, keys } from '../acceptance/forge.ts'
import { openStubIssuer } from '../acceptance/stub-issuer.ts'
import { until } from '../support/until.ts'

export type Scene = AsyncDisposable & {
  readonly app: App
  readonly port: number
  readonly mint: (claims?: Members) => string
  /** Puts a token, by its jti, on the list. */
  readonly revoke: (jti: string) => void
  /** Takes the key of every token out of the set, and has it fetched: by a token with another key. */
  readonly dropKeys: () => Promise<void>
  /** Moves both clocks. */
  readonly pass: (ms: number) => void
  readonly reload: (change: Members) => void
  readonly count: (series: string) => number
  /** Access lines of a path. */
  readonly lines: (path: string) => readonly Record<string, unknown>[]
}

const rules = [
  { id: 'ws', match: { path: '/ws/**' }, scopes: ['read'], upgrade: ['websocket', 'echo'] },
  { id: 'open', match: { path: '/open/**' }, public: true, upgrade: ['websocket'] },
  { id: 'plain', match: { path: '/plain/**' }, scopes: ['read'] },
]

/** Starts it; `more` are members of the configuration. */
export async function openScene(upstreamPort: number, more: Members = {}): Promise<Scene> {
  const issuer = await openStubIssuer()
  issuer.keys = [jwkOf(keys.good, { kid: 'k1' })]
  let shiftMs = 0
  let logs = ''
  const nowS = () => Math.floor((Date.now() + shiftMs) / 1000)
  issuer.nowS = nowS
  let configuration: Members = {
    version: 1,
    listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' },
    upstream: { url: `http://127.0.0.1:${upstreamPort}` },
    drain: { delay: '0s', timeout: '0s' },
    issuers: [
      {
        issuer: issuer.url,
        audience: 'api',
        leeway: '1s',
        jwks: { cool_down: '0s' },
        introspection: { client_id: 'gateway', client_secret: { env: 'SECRET' } },
        blacklist: { url: `${issuer.url}/blacklist` },
      },
    ],
    blacklist: { poll_interval: '1s', max_staleness: '1h' },
    rules,
    ...more,
  }
  const app = await startApp(
    { file: 'gateway.yaml', read: () => JSON.stringify(configuration) },
    {
      clock: { wallMs: () => Date.now() + shiftMs, monotonicMs: () => performance.now() + shiftMs },
      random: () => 0,
      randomBytes,
      env: { SECRET: 'secret-of-the-gateway' },
      readFile: (path) => readFileSync(path),
      fileMode: (path) => statSync(path).mode,
      write(chunk, done) {
        logs += chunk
        done()
      },
      version: 'test',
      revision: '',
    },
  )
  if (app.kind === 'refused') {
    await issuer[Symbol.asyncDispose]()
    throw new Error(app.problems.map((problem) => formatProblem(problem, { color: false })).join('\n'))
  }
  await until(() => app.isReady(), 'the gateway to be ready')
  return {
    app,
    port: app.ports.proxy,
    mint: (claims = {}) => forge({ iss: issuer.url, key: keys.good, kid: 'k1', nowS: nowS() }, { claims }),
    revoke: (value) => void issuer.revoked.push({ kind: 'jti', value }),
    async dropKeys() {
      issuer.keys = [jwkOf(keys.b, { kid: 'k2' })]
      const token = forge({ iss: issuer.url, key: keys.b, kid: 'k2', nowS: nowS() }, { claims: { iat: nowS() } })
      await fetch(`http://127.0.0.1:${app.ports.proxy}/plain/x`, { headers: { authorization: `Bearer ${token}` } })
    },
    pass(ms) {
      shiftMs += ms
    },
    reload(change) {
      configuration = { ...configuration, ...change }
      if (app.reload() !== 'reloaded') throw new Error(logs)
    },
    count: (series) => app.counters().get(series) ?? 0,
    lines: (path) =>
      logs
        .split('\n')
        .filter((line) => line.includes('"event.name":"request"') && line.includes(`"url.path":"${path}"`))
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    async [Symbol.asyncDispose]() {
      await app.close()
      await issuer[Symbol.asyncDispose]()
    },
  }
}
