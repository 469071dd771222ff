// A feed as product specification §6 has it, in memory, and a gateway's end of it on clocks that stand still.

import assert from 'node:assert/strict'
import type { HttpCall, HttpCallLimits, HttpReply } from '../../src/io/http-client.ts'
import type { Blacklist, BlacklistDeps, BlacklistOptions } from '../../src/sources/blacklist.ts'
import { createBlacklist } from '../../src/sources/blacklist.ts'
import type { RevocableToken } from '../../src/spec/revocation.ts'
import { createTestLog } from '../support/log.ts'

export type FeedEntry = {
  seq: number
  kind: string
  value: string
  issued_before?: number
  revoked_at?: number
  expires_at: number
  cause: string
}

/** The second at which everything begins. */
export const t0 = 1_767_225_600

/** What an issuer lists; a test changes it as an issuer (or an attacker) would. */
export type FeedModel = {
  epoch: string
  entries: FeedEntry[]
  lastSeq: number
  pageSize: number
  serverTime: () => number
  /** Past their expiry, for how long entries are listed; seconds. */
  keptFor: number
  /** Members that replace those of an honest page. */
  twist: Record<string, unknown>
}

export type Setup = AsyncDisposable & {
  readonly feed: FeedModel
  /** The list in use: after a reload another one. */
  blacklist: Blacklist
  readonly calls: HttpCall[]
  /** What each call might cost. */
  readonly limits: HttpCallLimits[]
  readonly counts: string[]
  readonly events: string[]
  /** Names of those events that are warnings. */
  readonly warnings: string[]
  /** Moves both clocks. */
  readonly pass: (ms: number) => void
  readonly clock: { wallMs: number; monotonicMs: number }
  /** Instead of the feed's own answers, while set. */
  answer: ((call: HttpCall) => HttpReply | undefined | Promise<HttpReply | undefined>) | undefined
  secret: () => string
  /** From 0 to 1: how much of the jitter there may be. */
  random: number
  readonly revoke: (value: string, more?: Partial<FeedEntry>) => void
  /** Has another list take the place of the one in use, as a changed configuration does. */
  readonly reload: (changed: Partial<BlacklistOptions>) => void
}

export function json(body: unknown, headers: Record<string, string> = {}): HttpReply {
  return raw(200, typeof body === 'string' ? body : JSON.stringify(body), {
    'content-type': 'application/json',
    ...headers,
  })
}

export function raw(status: number, body: string | Buffer, headers: Record<string, string> = {}): HttpReply {
  const from = 'https://issuer.test/blacklist'
  return { from, status, header: (name) => headers[name.toLowerCase()], body: Buffer.from(body) }
}

export function token(claims: Partial<RevocableToken['claims']>, kid?: string): RevocableToken {
  const none = { jti: undefined, sub: undefined, client_id: undefined, sid: undefined, iat: t0 }
  return { claims: { ...none, ...claims }, kid }
}

export function answerOf(feed: FeedModel, call: HttpCall): HttpReply {
  const live = feed.entries.filter(({ expires_at }) => expires_at + feed.keptFor > feed.serverTime())
  const [path = '', query = ''] = call.url.split('?')
  if (path.endsWith('/lookup')) {
    const { jti } = JSON.parse(call.body ?? '') as { jti: string }
    const found = live.find(({ kind, value }) => kind === 'jti' && value === jti)
    return json({ revoked: found !== undefined, seq: found?.seq ?? feed.lastSeq })
  }
  const asked = Number(new URLSearchParams(query).get('cursor'))
  const reset = asked > feed.lastSeq
  const after = live.filter(({ seq }) => seq > (reset ? 0 : asked))
  const entries = after.slice(0, feed.pageSize)
  const cursor = entries.at(-1)?.seq ?? (reset ? 0 : asked)
  const etag = `W/"${feed.epoch}.${asked}.${cursor}.${live.length}"`
  if (call.headers?.['if-none-match'] === etag) return raw(304, '')
  const page = {
    epoch: feed.epoch,
    cursor: String(cursor),
    more: after.length > entries.length,
    server_time: feed.serverTime(),
    total_live: live.length,
    reset,
    entries,
  }
  return json({ ...page, ...feed.twist }, { etag })
}

export function setup(options: Partial<BlacklistOptions> = {}): Setup {
  const clock = { wallMs: t0 * 1000, monotonicMs: 5000 }
  let elapsedMs = 0
  const feed: FeedModel = {
    epoch: 'e1',
    entries: [],
    lastSeq: 0,
    pageSize: 1000,
    serverTime: () => t0 + elapsedMs / 1000,
    keptFor: 60,
    twist: {},
  }
  const calls: HttpCall[] = []
  const limits: HttpCallLimits[] = []
  const counts: string[] = []
  const events: string[] = []
  const warnings: string[] = []
  let inUse: BlacklistOptions = {
    issuer: 'https://issuer.test',
    url: 'https://issuer.test/blacklist',
    client_id: 'gateway',
    wait: 0,
    poll_interval: 60_000,
    cache_size: 10_000,
    purge_delay: 60_000,
    max_staleness: 300_000,
    ...options,
  }
  const deps: BlacklistDeps = {
    clock: { wallMs: () => clock.wallMs, monotonicMs: () => clock.monotonicMs },
    random: () => it.random,
    secret: () => it.secret(),
    count: (result) => counts.push(result),
    log: createTestLog((event, fields, severity) => {
      events.push(`${event} ${JSON.stringify(fields)}`)
      if (severity === 'warn') warnings.push(event)
    }),
    send: async (call, limit) => {
      calls.push(call)
      limits.push(limit)
      return (await it.answer?.(call)) ?? answerOf(feed, call)
    },
  }
  const it: Setup = {
    secret: () => 's3cret',
    random: 0,
    feed,
    blacklist: createBlacklist(inUse, deps),
    calls,
    limits,
    counts,
    events,
    warnings,
    clock,
    answer: undefined,
    pass(ms) {
      clock.wallMs += ms
      clock.monotonicMs += ms
      elapsedMs += ms
    },
    revoke(value, more = {}) {
      feed.lastSeq += 1
      const entry = { kind: 'jti', value, revoked_at: feed.serverTime(), expires_at: t0 + 3600, cause: 'owner' }
      feed.entries.push({ seq: feed.lastSeq, ...entry, ...more })
    },
    reload(changed) {
      const before = it.blacklist
      inUse = { ...inUse, ...changed }
      it.blacklist = createBlacklist(inUse, deps, before.snapshot(), before.state().failure)
      before.close()
    },
    async [Symbol.asyncDispose]() {
      it.blacklist.close()
    },
  }
  return it
}

/** What is said of a token whose jti was asked for. */
export const foundByLookup = { kind: 'jti', cause: 'admin' }

/** What is said of a token whose jti is listed. */
export const revoked = { kind: 'jti', cause: 'owner' }

/** A gateway that holds jti `a` and `b` after one good poll. */
export async function loaded(options: Partial<BlacklistOptions> = {}): Promise<Setup> {
  const it = setup(options)
  it.revoke('a')
  it.revoke('b')
  await it.blacklist.poll()
  assert.deepEqual(it.blacklist.check(token({ jti: 'b' })), revoked)
  return it
}

/** A parameter of a request's URL. */
export function query(call: HttpCall | undefined, name: string): string | null {
  return new URLSearchParams(call?.url.split('?')[1]).get(name)
}

/** A gateway with room for two of three entries: `a` is not in memory. */
export async function crowded(): Promise<Setup> {
  const it = setup({ cache_size: 2 })
  for (const value of ['a', 'b', 'c']) it.revoke(value)
  await it.blacklist.poll()
  it.calls.length = 0
  return it
}
