// The bundled issuer on a file, its feed through a relay that can be cut, the gateway, and tokens that are replayed.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLog } from '../../src/io/log.ts'
import type { RunningIssuer } from '../../src/issuer/issuer.ts'
import { startIssuer } from '../../src/issuer/issuer.ts'
import { parseIssuerOptions } from '../../src/issuer/options.ts'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import type { Lane, LaneAnswer } from '../support/raw-lane.ts'
import { openLane } from '../support/raw-lane.ts'
import { sendJson, startStub } from '../support/stub-server.ts'

/** How often the gateway polls, and how often each token is replayed. */
export const pollIntervalMs = 1000
const replayMs = 50

/** One token and all that became of it, in order. */
export type Replayed = {
  readonly form: string
  readonly token: string
  readonly answers: (Pick<LaneAnswer, 'status' | 'sentMs' | 'receivedMs'> & { readonly reason: string | undefined })[]
  /** When the issuer's 200 to its revocation came. */
  revokedMs: number | undefined
}

/** What the relay does with a poll: hands it on, cuts the connection, or says that the list is reset and empty. */
export type RelayMode = 'open' | 'closed' | 'void'

export type RevocationScene = AsyncDisposable & {
  readonly gateway: GatewayProcess
  readonly tokens: readonly Replayed[]
  relay: RelayMode
  /** When polls reached the relay that were answered well (`performance.now`). */
  readonly goodPolls: number[]
  /** Revokes at the issuer; resolves when it has said that it did. */
  readonly revoke: (replayed: Replayed) => Promise<void>
  /** Stops the issuer, does something to its store, and starts it at the same address. */
  readonly restart: (
    meanwhile?: (store: { readonly copy: () => void; readonly restore: () => void }) => void,
  ) => Promise<void>
  /** Replays every token every 50 ms from now on, each on a connection of its own. */
  readonly replay: () => { readonly stop: () => Promise<void> }
}

type SceneOptions = {
  readonly maxStaleness?: string
  readonly maxAge?: string
  readonly workers?: number
  /** Polls are held for so long, and are due once a minute otherwise. */
  readonly longPoll?: string
}

/** Sets it up, with `count` good tokens of the three forms in turn. */
export async function setScene(
  count: number,
  { maxStaleness = '30s', maxAge = '30s', workers = 1, longPoll }: SceneOptions = {},
): Promise<RevocationScene> {
  await using stack = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'postern-revocation-'))
  stack.defer(() => rmSync(directory, { recursive: true, force: true }))
  const [database, old] = [join(directory, 'issuer.db'), join(directory, 'old.db')]
  let issuer = await start(0)
  stack.defer(() => issuer.close())
  const { port } = issuer
  const base = `http://127.0.0.1:${port}/main`
  let epoch = ''
  const script = { relay: 'open' as RelayMode, goodPolls: [] as number[], tokens: [] as Replayed[] }

  const relay = stack.use(await startStub({}, (response, request) => void pass(request, response)))
  const upstream = stack.use(await startStub({}, (response) => sendJson(response, {})))
  const secret = { client_id: 'gateway', client_secret: { env: 'POSTERN_SECRET' } }
  const gateway = stack.use(
    await startGatewayProcess({
      workers,
      upstream: { url: upstream.url },
      issuers: [
        {
          issuer: base,
          audience: 'orders-api',
          introspection: { ...secret, max_age: maxAge },
          blacklist: { url: `${relay.url}/main/blacklist`, ...(longPoll && { wait: longPoll }) },
        },
      ],
      blacklist: longPoll
        ? { poll_interval: '60s', max_staleness: '5m' }
        : { poll_interval: `${pollIntervalMs}ms`, max_staleness: maxStaleness },
      rules: [{ match: { path: '/orders/**' }, scopes: ['orders:read'] }],
    }),
  )
  await gateway.ready()
  for (let at = 0; at < count; at += 1) {
    const form = ['jwt', 'opaque', 'wrapped_opaque'][at % 3] ?? 'jwt'
    const order = { client_id: 'web', sub: `user-${at}`, scope: 'orders:read', format: form }
    const headers = { authorization: 'Bearer admin-secret' }
    const minted = await fetch(`${base}/admin/mint`, { method: 'POST', headers, body: JSON.stringify(order) })
    const { access_token: token } = (await minted.json()) as { access_token: string } // what mint answers
    script.tokens.push({ form, token, answers: [], revokedMs: undefined })
  }
  const held = stack.move()
  return Object.assign(script, { gateway, revoke, restart, replay, [Symbol.asyncDispose]: () => held.disposeAsync() })

  function start(onPort: number): Promise<RunningIssuer> {
    const options = parseIssuerOptions({
      version: 1,
      listen: `127.0.0.1:${onPort}`,
      store: { sqlite: database },
      realms: [
        {
          name: 'main',
          audience: 'orders-api',
          clients: [{ client_id: 'web', client_secret: 'web-secret', scopes: ['orders:read'] }],
          resource_servers: [{ client_id: 'gateway', client_secret: 'gateway-secret', audience: 'orders-api' }],
          admin: { token: 'admin-secret' },
        },
      ],
    })
    const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
    return startIssuer(options, { clock, random: randomBytes, log: silentLog, dev: true })
  }

  async function pass({ url, method, headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    const arrivedMs = performance.now()
    if (script.relay === 'closed') return void response.destroy()
    if (script.relay === 'void') {
      const nowS = Math.floor(Date.now() / 1000)
      const list = { epoch, cursor: '0', more: false, server_time: nowS, total_live: 0, reset: true, entries: [] }
      script.goodPolls.push(arrivedMs)
      return sendJson(response, list)
    }
    try {
      const { authorization = '', 'if-none-match': condition } = headers
      const answer = await fetch(`http://127.0.0.1:${port}${url}`, {
        ...(method && { method }),
        headers: { authorization, ...(condition && { 'if-none-match': condition }) },
      })
      const body = Buffer.from(await answer.arrayBuffer())
      epoch = /"epoch":"([^"]*)"/.exec(body.toString())?.[1] ?? epoch
      const [etag, type] = ['etag', 'content-type'].map((name) => answer.headers.get(name))
      response.writeHead(answer.status, { ...(etag && { etag }), ...(type && { 'content-type': type }) })
      response.end(answer.status === 304 ? undefined : body)
      if (answer.status === 200 || answer.status === 304) script.goodPolls.push(arrivedMs)
    } catch {
      // The issuer is being restarted.
      response.destroy()
    }
  }

  async function revoke(replayed: Replayed): Promise<void> {
    const authorization = `Basic ${Buffer.from('web:web-secret').toString('base64')}`
    const body = new URLSearchParams({ token: replayed.token })
    const { status } = await fetch(`${base}/revoke`, { method: 'POST', headers: { authorization }, body })
    assert.equal(status, 200)
    replayed.revokedMs = performance.now()
  }

  async function restart(meanwhile?: Parameters<RevocationScene['restart']>[0]): Promise<void> {
    await issuer.close()
    meanwhile?.({
      copy: () => copyFileSync(database, old),
      restore() {
        for (const suffix of ['-wal', '-shm']) rmSync(database + suffix, { force: true })
        copyFileSync(old, database)
      },
    })
    issuer = await start(port)
  }

  function replay(): { stop: () => Promise<void> } {
    const lanes: Lane[] = script.tokens.map(() => openLane(gateway.proxyPort))
    const under = new Set<Promise<void>>()
    const parts = 5
    let turn = 0
    // Spread over the 50 ms: all at once would be a queue of our own making.
    const timer = setInterval(() => {
      turn += 1
      for (let at = turn % parts; at < lanes.length; at += parts) send(at)
    }, replayMs / parts)
    // A test that fails does not get to its own stop.
    held.defer(stop)
    return { stop }

    async function stop(): Promise<void> {
      clearInterval(timer)
      await Promise.all(under)
      for (const lane of lanes) lane[Symbol.dispose]()
    }

    function send(at: number): void {
      const [lane, replayed] = [lanes[at], script.tokens[at]]
      if (lane === undefined || replayed === undefined || lane.isBusy()) return
      const sent = lane.get('/orders/7', replayed.token).then(({ status, body, sentMs, receivedMs }) => {
        const reason = /"reason":"(\w+)"/.exec(body)?.[1]
        replayed.answers.push({ status, reason, sentMs, receivedMs })
        under.delete(sent)
      })
      under.add(sent)
    }
  }
}

/** The longest time from an acknowledged revocation to the last 200, in ms; fails on a 200 after a 401. */
export function slowestRevocationMs(tokens: readonly Replayed[]): number {
  let slowest = 0
  for (const { form, answers, revokedMs } of tokens) {
    const refusedAt = answers.findIndex(({ status }) => status === 401)
    const revived = refusedAt === -1 ? undefined : answers.slice(refusedAt).find(({ status }) => status === 200)
    assert.equal(revived, undefined, `a revoked token (${form}) was accepted again`)
    assert.equal(refusedAt !== -1, revokedMs !== undefined, `${form}: refused is not what was revoked`)
    const last = answers.findLast(({ status }) => status === 200)
    if (revokedMs !== undefined && last !== undefined) slowest = Math.max(slowest, last.receivedMs - revokedMs)
  }
  return slowest
}
