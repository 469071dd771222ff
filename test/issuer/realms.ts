// Two realms to test with: `a` issues JWTs signed with ES256, `b` opaque tokens and RS256.
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LogFields } from '../../src/io/log.ts'
import type { RunningIssuer, RunningRealm } from '../../src/issuer/issuer.ts'
import { startIssuer } from '../../src/issuer/issuer.ts'
import { parseIssuerOptions } from '../../src/issuer/options.ts'

/** What a file of options may say. */
export type Written = Parameters<typeof parseIssuerOptions>[0]

/** Every secret below, for tests that look for them where they must not be. */
export const secrets = [
  'web-secret-1',
  'ref-secret-22',
  'shell-secret-333',
  'rs-secret-4444',
  'other-secret-5',
  'admin-token-66',
]

/** The options, with any top-level member replaced. */
export function twoRealms(change: Partial<Written> = {}): Written {
  const clients = [
    { client_id: 'web', client_secret: 'web-secret-1', scopes: ['orders:read', 'orders:write'] },
    {
      client_id: 'ref',
      client_secret: 'ref-secret-22',
      scopes: ['orders:read'],
      access_token_type: 'reference' as const,
    },
    {
      client_id: 'shell',
      client_secret: 'shell-secret-333',
      scopes: ['orders:read'],
      access_token_type: 'wrapped' as const,
    },
  ]
  const resource_servers = [
    { client_id: 'orders', client_secret: 'rs-secret-4444', audience: 'orders-api' },
    { client_id: 'other', client_secret: 'other-secret-5', audience: 'other-api' },
  ]
  const admin = { token: 'admin-token-66' }
  return {
    version: 1,
    listen: '127.0.0.1:0',
    store: 'memory',
    realms: [
      { name: 'a', audience: 'orders-api', clients, resource_servers, admin },
      {
        name: 'b',
        audience: 'orders-api',
        preset: 'workforce',
        access_token: { format: 'opaque' },
        clients,
        resource_servers,
        admin,
      },
    ],
    ...change,
  }
}

/** The second it is (settable), and how much of it is a clock that is ahead: no time has passed then. */
export type WorldTime = { now: number; ahead?: number }

/** A running issuer, its realms by letter, its time, and what it logged. */
export type World = AsyncDisposable & {
  readonly issuer: RunningIssuer
  readonly a: RunningRealm
  readonly b: RunningRealm
  readonly time: WorldTime
  readonly logged: string[]
}

/** The second the tests begin in, unless they say another. */
export const epochStart = 1_767_225_600

/** Starts what `twoRealms` says, with `--dev`. */
export async function startWorld(
  written: Written = twoRealms(),
  time: WorldTime = { now: epochStart },
  dev = true,
): Promise<World> {
  const logged: string[] = []
  const note = (event: string, fields?: LogFields) => void logged.push(JSON.stringify({ event, ...fields }))
  const issuer = await startIssuer(parseIssuerOptions(written), {
    clock: { wallMs: () => time.now * 1000, monotonicMs: () => (time.now - (time.ahead ?? 0)) * 1000 },
    random: randomBytes,
    log: { info: note, warn: note, error: note },
    dev,
  })
  const [a, b = a] = issuer.realms
  if (a === undefined || b === undefined) throw new TypeError('Cannot start world: it has no realm')
  return { issuer, a, b, time, logged, [Symbol.asyncDispose]: issuer.close }
}

/** Sets the clock of a world ahead, or right again: no time passes. */
export function setAhead({ time }: World, seconds: number): void {
  time.now += seconds - (time.ahead ?? 0)
  time.ahead = seconds
}

/** Basic credentials. */
export function basic(id: string, secret: string): string {
  return `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`
}

export const web = basic('web', 'web-secret-1')
export const ref = basic('ref', 'ref-secret-22')
export const shell = basic('shell', 'shell-secret-333')
export const orders = basic('orders', 'rs-secret-4444')
export const other = basic('other', 'other-secret-5')
export const administrator = 'Bearer admin-token-66'

/** Posts a form. */
export function postForm(url: string, form: Record<string, string>, authorization?: string): Promise<Response> {
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
  return fetch(url, { method: 'POST', headers, body: new URLSearchParams(form) })
}

/** Posts JSON. */
export function postJson(url: string, body: unknown, authorization = administrator): Promise<Response> {
  return fetch(url, { method: 'POST', headers: { authorization }, body: JSON.stringify(body) })
}

/** The JSON object an answer holds. */
export async function object(answer: Response | Promise<Response>): Promise<Record<string, unknown>> {
  return (await (await answer).json()) as Record<string, unknown> // every answer asked for here is one
}

/** A token by client_credentials. */
export async function grant(
  realm: RunningRealm,
  authorization = web,
  form: Record<string, string> = {},
): Promise<string> {
  const answer = await object(
    postForm(`${realm.url}/token`, { grant_type: 'client_credentials', ...form }, authorization),
  )
  return String(answer['access_token'])
}

/** A token made to order. */
export async function mint(realm: RunningRealm, order: Record<string, unknown>): Promise<string> {
  return String((await object(postJson(`${realm.url}/admin/mint`, { client_id: 'web', ...order })))['access_token'])
}

/** What a resource server is told of a token. */
export function introspect(
  realm: RunningRealm,
  token: string,
  authorization = orders,
): Promise<Record<string, unknown>> {
  return object(postForm(`${realm.url}/introspect`, { token }, authorization))
}

/** The status of a revocation. */
export async function revoke(realm: RunningRealm, token: string, authorization = web): Promise<number> {
  return (await postForm(`${realm.url}/revoke`, { token }, authorization)).status
}

/** One page of a feed. */
export type Page = {
  readonly epoch: string
  readonly cursor: string
  readonly more: boolean
  readonly server_time: number
  readonly total_live: number
  readonly reset: boolean
  readonly entries: readonly {
    readonly seq: number
    readonly kind: string
    readonly value: string
    readonly issued_before?: number
    readonly revoked_at: number
    readonly expires_at: number
    readonly cause: string
  }[]
}

/** Fetches a page. */
export async function page(realm: RunningRealm, query = ''): Promise<Page> {
  const answer = await fetch(`${realm.url}/blacklist${query}`, { headers: { authorization: orders } })
  return (await answer.json()) as Page // what its tests then look at, member by member
}

/** One segment of a token, decoded. */
export function segment(token: string, at: number): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[at] ?? '', 'base64url').toString()) as Record<string, unknown>
}

/** A directory that goes with the test. */
export function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'postern-issuer-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}
