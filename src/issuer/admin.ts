// One realm's administration: keys, the blacklist, and, with --dev, tokens made to order.
import { createHash, timingSafeEqual } from 'node:crypto'
import type { JsonObject } from '../base/json.ts'
import { isJsonObject } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import { maxNumericDate, nowSeconds } from '../base/time.ts'
import type { HttpAnswer, HttpHandler, HttpRequest } from '../io/http-server.ts'
import { problem } from '../io/http-server.ts'
import type { Log } from '../io/log.ts'
import { blacklistCauses, blacklistKinds } from '../spec/blacklist-feed.ts'
import { json, readJson, stringMember } from './answers.ts'
import type { Blacklist, NewEntry } from './blacklist.ts'
import type { KeyRing, ListedKey } from './keys.ts'
import type { RealmOptions } from './options.ts'
import { tokenFormats } from './options.ts'
import type { Grant, Tokens } from './tokens.ts'
import { tokenUses } from './tokens.ts'

/** What the administration needs. */
export type AdminDeps = {
  readonly keys: KeyRing
  readonly tokens: Tokens
  readonly blacklist: Blacklist
  readonly clock: Clock
  /** By this revocations run out. */
  readonly carefulClock: Clock
  readonly jwksFetches: () => number
  readonly introspections: () => number
  readonly log: Pick<Log, 'info'>
}

/** The administration's endpoints, below `/admin`; each asks for the bearer token of the configuration first. */
export type Admin = {
  readonly keys: HttpHandler
  readonly rotate: HttpHandler
  readonly revoke: HttpHandler
  /** Undefined without `dev`. */
  readonly mint: HttpHandler | undefined
}

const listable = blacklistCauses.filter((cause) => cause !== 'local')

/** Makes the administration of one realm. */
export function createAdmin(
  options: { readonly realm: RealmOptions; readonly token: string; readonly dev: boolean },
  deps: AdminDeps,
): Admin {
  const { keys, tokens, blacklist, clock, carefulClock, jwksFetches, introspections, log } = deps
  const wanted = digest(options.token)
  return {
    keys: guarded(() =>
      json(200, { keys: keys.list(), jwks_fetches: jwksFetches(), introspections: introspections() }),
    ),
    rotate: guarded(rotate),
    revoke: guarded(revoke),
    mint: options.dev ? guarded(mint) : undefined,
  }

  function guarded(handle: HttpHandler): HttpHandler {
    return (request) => {
      const lines = request.headers.get('authorization') ?? []
      const [, token = ''] = /^bearer +(\S+)$/i.exec(lines[0] ?? '') ?? []
      if (lines.length === 1 && timingSafeEqual(digest(token), wanted)) return handle(request)
      const { headers, ...refused } = problem(401, 'The administration needs its token')
      return { ...refused, headers: { ...headers, 'WWW-Authenticate': 'Bearer realm="issuer admin"' } }
    }
  }

  function rotate(request: HttpRequest): HttpAnswer {
    const query = new URLSearchParams(request.query)
    const type = query.get('type') ?? undefined
    if (type !== undefined && type !== 'rsa' && type !== 'ec') return problem(400, 'type is rsa or ec')
    const revokes = query.get('revoke') === 'true'
    const rotated = keys.rotate({ type, revoke: revokes, force: query.get('force') === 'true' }, listKey)
    if (rotated.kind === 'conflict')
      return problem(409, 'The oldest key would be dropped while tokens it signed live; force=true drops it')
    if (rotated.revoked !== undefined) blacklist.wake()
    log.info('issuer_key_rotated', { type: type ?? null, revoked: revokes, dropped: rotated.dropped.length })
    const { kid, revoked, dropped } = rotated
    return json(200, { kid, alg: keys.list().find((key) => key.kid === kid)?.alg, revoked: revoked ?? null, dropped })
  }

  /** A withdrawn key leaves the key set; the feed tells those who still hold it. */
  function listKey({ kid, needed_until }: ListedKey): void {
    const expires_at = Math.max(needed_until, tokens.latestExpiry())
    blacklist.put({ kind: 'kid', value: kid, issued_before: null, expires_at, cause: 'admin' })
  }

  async function revoke(request: HttpRequest): Promise<HttpAnswer> {
    const entry = readEntry(readJson(request) ?? {})
    if (typeof entry === 'string') return problem(400, entry)
    const key = entry.kind === 'kid' ? keys.list().find(({ kid }) => kid === entry.value) : undefined
    if (key?.state === 'current' || key?.state === 'announced')
      return problem(409, 'The key still signs, or is about to: rotate with revoke=true')
    if (key?.state === 'rotated') keys.revokeRotated(key.kid, listKey)
    const seq = await blacklist.add(entry)
    log.info('issuer_revoked', { kind: entry.kind, cause: entry.cause, seq })
    return json(200, { seq })
  }

  function readEntry(body: JsonObject): NewEntry | string {
    const kind = blacklistKinds.find((known) => known === body['kind'])
    if (kind === undefined) return `kind is one of ${blacklistKinds.join(', ')}`
    const value = stringMember(kind === 'issued_before' ? '*' : body['value'])
    if (value === 'wrong' || value.value === undefined) return 'value is a string'
    const cause = listable.find((known) => known === (body['cause'] ?? 'admin'))
    if (cause === undefined) return `cause is one of ${listable.join(', ')}`
    const issuedBefore = body['issued_before'] ?? (kind === 'issued_before' ? nowSeconds(clock) : null)
    const expiresAt = body['expires_at'] ?? tokens.latestExpiry()
    if (!isSeconds(expiresAt) || !(issuedBefore === null || isSeconds(issuedBefore)))
      return 'issued_before and expires_at are whole seconds since 1970'
    // An entry that has run out would be acknowledged, and revoke nothing.
    if (expiresAt <= nowSeconds(carefulClock)) return 'expires_at has passed'
    return { kind, value: value.value, issued_before: issuedBefore, expires_at: expiresAt, cause }
  }

  async function mint(request: HttpRequest): Promise<HttpAnswer> {
    const grant = readGrant(readJson(request))
    if (typeof grant === 'string') return problem(400, grant)
    const token = await tokens.issue(grant)
    return json(200, { access_token: token, token_type: 'bearer', expires_in: grant.lifetime, scope: grant.scope })
  }

  function readGrant(body: JsonObject | undefined): Grant | string {
    if (body === undefined) return 'The body is not a JSON object'
    const clientId = stringMember(body['client_id'])
    const subject = stringMember(body['sub'])
    const typ = stringMember(body['typ'])
    if (clientId === 'wrong' || clientId.value === undefined) return 'client_id is a string'
    if (subject === 'wrong' || typ === 'wrong') return 'sub and typ are strings'
    const scope = body['scope'] ?? ''
    if (typeof scope !== 'string') return 'scope is a string'
    const audience = body['audience'] ?? options.realm.audience
    const audiences = typeof audience === 'string' ? [audience] : audience
    if (!Array.isArray(audiences) || !audiences.every((each): each is string => typeof each === 'string'))
      return 'audience is a string or a list of strings'
    const format = tokenFormats.find((known) => known === (body['format'] ?? options.realm.access_token.format))
    if (format === undefined) return `format is one of ${tokenFormats.join(', ')}`
    const lifetime = body['lifetime'] ?? Math.floor(options.realm.access_token.lifetime / 1000)
    if (typeof lifetime !== 'number' || !Number.isInteger(lifetime) || Math.abs(lifetime) > 1e9)
      return 'lifetime is in whole seconds'
    const use = tokenUses.find((known) => known === (body['token_use'] ?? 'access'))
    if (use === undefined) return `token_use is one of ${tokenUses.join(', ')}`
    const claims = body['claims'] ?? undefined
    if (claims !== undefined && !isJsonObject(claims)) return 'claims is an object'
    const sub = subject.value ?? clientId.value
    return {
      clientId: clientId.value,
      subject: sub,
      scope,
      audience: audiences,
      format,
      use,
      lifetime,
      claims,
      typ: typ.value,
    }
  }
}

function isSeconds(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= maxNumericDate
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
