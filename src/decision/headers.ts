// Header lines travel as names and values alternating, every line as received.

import * as z from 'zod'
import { copyOf } from '../base/copy-of.ts'
import { fieldName } from '../base/field-name.ts'
import { list, mapUpTo } from '../base/list.ts'
import { unixAddress } from '../base/unix-address.ts'
import { claimOf } from './authorize.ts'
import type { Principal } from './decision.ts'
import type { AccessRequest } from './request.ts'
import type { Rule } from './rules.ts'

// With these an upstream may be told another path or method than the one judged (product.md §10).
const overrideNames = [
  'x-original-url',
  'x-rewrite-url',
  'x-original-uri',
  'x-original-method',
  'x-forwarded-uri',
  'x-forwarded-path',
  'x-forwarded-method',
  'x-forwarded-prefix',
  'x-envoy-original-path',
  'x-http-method-override',
  'x-method-override',
  'x-http-method',
] as const
// RFC 9110 §7.6.1 and §10.1.1, and the framing of a message: each connection has its own.
const connectionNames: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])
// Of these an answer keeps what tells of the message: its length, and which trailers follow (RFC 9110 §6.6.2).
const answered: ReadonlySet<string> = new Set(['content-length', 'trailer'])
const overrides: ReadonlySet<string> = new Set(overrideNames)
// RFC 9440 §2.4: who ends TLS lets no word about a certificate pass but his own, and ours is in the token.
const originNames: ReadonlySet<string> = new Set(['client-cert', 'client-cert-chain', 'forwarded', 'via', 'x-real-ip'])
const setByUs: ReadonlySet<string> = new Set(['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto'])
// Headers that mean something else to every upstream.
const takenNames: ReadonlySet<string> = new Set([
  ...connectionNames,
  ...originNames,
  ...setByUs,
  ...overrideNames,
  'accept',
  'accept-encoding',
  'authorization',
  'content-encoding',
  'content-type',
  'cookie',
  'date',
  'origin',
  'range',
  'user-agent',
])

const identityHeader = z
  .string()
  // One spelling only: `_` and `.` would fold into another header's name.
  .regex(/^[a-z][a-z0-9-]{0,63}$/, { error: 'expected a header name of lower-case letters, digits and hyphens' })
  .refine((name) => !takenNames.has(name), { error: 'expected a header without a meaning of its own' })

// Services read these without a word in the configuration: never the client's, also where others are set.
const defaultHeaders = { 'x-auth-subject': 'sub', 'x-auth-client': 'client_id', 'x-auth-scope': 'scope' } as const

/** The claims an upstream is told, by header. */
export const identityHeadersOptions = mapUpTo(100, identityHeader, z.string().min(1).max(256))
  .prefault(defaultHeaders)
  .describe('Header and claim: deleted from each request, then set from the token; the default ones always are.')

/** Headers of product.md §10 that pass. */
export const keepHeadersOptions = list(z.enum(overrideNames))
  .max(overrideNames.length)
  .prefault([])
  .describe('Headers that may tell the upstream another path or method than the one judged, and pass all the same.')

/** What the upstream of one configuration is told. */
export type HeaderOptions = {
  /** Claim by header name, lower-case. */
  readonly identityHeaders: ReadonlyMap<string, string>
  /** Names of product.md §10, lower-case. */
  readonly keepHeaders: readonly string[]
}

/** What a header filter needs from outside. */
export type HeaderDeps = {
  /** Whether an address is in `trusted_proxies`. An IPv4 address comes as one, also where the socket says `::ffff:…`. */
  readonly isTrustedProxy: (ip: string) => boolean
}

/** What is known of a request beside its headers. */
export type ForwardContext = {
  /** Address of whoever opened the connection. */
  readonly peer: string
  readonly proto: 'http' | 'https'
  readonly request: Pick<AccessRequest, 'authority'>
  readonly allow: {
    readonly rule: Pick<Rule, 'public' | 'forwardAuthorization'>
    /** Null on a public rule: nothing was read, so nothing is told. */
    readonly principal: Facts | null
  }
}

type Facts = Pick<Principal, 'claims'>

/** What an upstream is told: `Host` and who is connected, what of the client's lines may pass, and whose request it is. */
export type Forwarding = {
  readonly own: OurLines
  readonly lines: readonly string[]
  readonly identity: OurLines
}

/** Lines of ours, and their text, made once: those of a connection and of a principal come again with their requests. */
export type OurLines = { readonly lines: readonly string[]; readonly text: string }

/** Removes and adds headers, on the way to the upstream and back. */
export type HeaderFilter = {
  /**
   * The lines for the upstream: `Host`, `X-Forwarded-*`, what of the client's may pass, identity. Framing is the caller's
   * to add.
   */
  readonly forward: (rawHeaders: readonly string[], context: ForwardContext) => Forwarding
  /** Whether the client came by https: as a trusted proxy says, else as it came to us. */
  readonly cameByHttps: (rawHeaders: readonly string[], client: Pick<ForwardContext, 'peer' | 'proto'>) => boolean
  /**
   * The upstream's lines for the client: without those of its connection, with its `Content-Length`.
   *
   * @param isKnown Whether the very same list will come again, and may be kept; what is returned is frozen then.
   */
  readonly backward: (rawHeaders: readonly string[], isKnown?: boolean) => readonly string[]
  /** Of what stands behind a body, what may pass (RFC 9110 §6.5.1), to the upstream and back. */
  readonly forwardTrailers: (lines: readonly string[]) => string[]
  readonly backwardTrailers: (lines: readonly string[]) => string[]
}

/** What becomes of a client's header: `origin` passes from a trusted proxy only, `credential` where the rule says so. */
type Fate = 'pass' | 'drop' | 'connection' | 'origin' | 'forwarded_for' | 'credential'
type Name = { readonly lower: string; readonly fate: Fate }

// RFC 9110 §6.5.1: what says how to take a message must come before it.
const neverTrailing =
  /^(?:age|authorization|cache-control|content-(?:encoding|length|range|type)|cookie|date|expires|host|if-.*|location|max-forwards|pragma|range|retry-after|set-cookie|vary|www-authenticate)$/
const maxKnownNames = 1000
const maxKnownLength = 64
// Visible ASCII, spaces only inside: nothing else survives every server and every log.
const sendable = /^[!-~](?:[ -~]*[!-~])?$/

const nobody: OurLines = { lines: [], text: '' }
const maxKnownPeers = 1000

/** Makes the filter of one configuration. */
export function createHeaderFilter(options: HeaderOptions, { isTrustedProxy }: HeaderDeps): HeaderFilter {
  const identityNames = new Set([...Object.keys(defaultHeaders), ...options.identityHeaders.keys()].map(fold))
  const kept = new Set(options.keepHeaders)
  const names = new Map<string, Name>()
  // Keyed by the facts themselves: they live as long as the cache that holds them.
  const rendered = new WeakMap<Facts, OurLines>()
  // What most requests of one address are told with.
  const origins = new Map<string, { readonly proto: string; readonly authority: string; readonly own: OurLines }>()
  let lastAnswer: { readonly given: readonly string[]; readonly passed: readonly string[] } = { given: [], passed: [] }
  return {
    forward,
    cameByHttps,
    backward,
    forwardTrailers: (lines) => keepTrailers(lines, (fate) => fate === 'pass'),
    backwardTrailers: (lines) => keepTrailers(lines, (fate) => fate !== 'connection'),
  }

  function forward(rawHeaders: readonly string[], { peer, proto, request, allow }: ForwardContext): Forwarding {
    const ip = plainAddress(peer)
    const trusted = isTrustedProxy(ip)
    const credentials = allow.rule.public || allow.rule.forwardAuthorization
    const listed = connectionOptions(rawHeaders)
    const lines: string[] = []
    let forwardedFor = ''
    let hasProto = false
    let hasHost = false
    for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
      const raw = rawHeaders[at] ?? ''
      const value = rawHeaders[at + 1] ?? ''
      const { lower, fate } = nameOf(raw)
      // First of all, and before anything of ours is added: a client must not make us drop that.
      if (listed?.has(lower)) continue
      if (fate === 'forwarded_for' && trusted && value !== '') forwardedFor += `${value}, `
      if (fate === 'origin' && trusted) {
        hasProto ||= lower === 'x-forwarded-proto'
        hasHost ||= lower === 'x-forwarded-host'
      }
      if (fate === 'pass' || (fate === 'origin' && trusted) || (fate === 'credential' && credentials))
        lines.push(raw, value)
    }
    const { authority } = request
    const isUsual = forwardedFor === '' && !hasProto && !hasHost
    return {
      own: isUsual
        ? originOf(ip, proto, authority)
        : ours(tellOrigin(ip, proto, authority, { forwardedFor, hasProto, hasHost })),
      lines,
      identity: allow.principal === null || allow.rule.public ? nobody : identityOf(allow.principal),
    }
  }

  function originOf(ip: string, proto: string, authority: string): OurLines {
    const known = origins.get(ip)
    if (known?.authority === authority && known.proto === proto) return known.own
    const host = copyOf(authority)
    const made = ours(tellOrigin(ip, proto, host, saysNothing))
    const own = { lines: made.lines, text: copyOf(made.text) }
    if (origins.size >= maxKnownPeers) origins.clear()
    origins.set(ip, { proto, authority: host, own })
    return own
  }

  function cameByHttps(
    rawHeaders: readonly string[],
    { peer, proto }: Pick<ForwardContext, 'peer' | 'proto'>,
  ): boolean {
    let said = ''
    // What is meant for one connection only is not passed on, and says nothing here either.
    const isListed = connectionOptions(rawHeaders)?.has('x-forwarded-proto') === true
    if (!isListed && isTrustedProxy(plainAddress(peer))) {
      for (let at = 0; at + 1 < rawHeaders.length; at += 2)
        if (nameOf(rawHeaders[at] ?? '').lower === 'x-forwarded-proto') said += `,${rawHeaders[at + 1]}`
    }
    if (said === '') return proto === 'https'
    // Of several proxies each has to say so.
    return said
      .slice(1)
      .split(',')
      .every((each) => each.trim().toLowerCase() === 'https')
  }

  function backward(rawHeaders: readonly string[], isKnown = false): readonly string[] {
    if (rawHeaders === lastAnswer.given) return lastAnswer.passed
    const listed = connectionOptions(rawHeaders)
    const lines: string[] = []
    for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
      const raw = rawHeaders[at] ?? ''
      const { lower, fate } = nameOf(raw)
      if (fate === 'connection' && !answered.has(lower)) continue
      if (!listed?.has(lower)) lines.push(raw, rawHeaders[at + 1] ?? '')
    }
    if (isKnown) lastAnswer = { given: rawHeaders, passed: Object.freeze(lines) }
    return lines
  }

  function keepTrailers(lines: readonly string[], mayPass: (fate: Fate) => boolean): string[] {
    const kept: string[] = []
    for (let at = 0; at + 1 < lines.length; at += 2) {
      const { lower, fate } = nameOf(lines[at] ?? '')
      if (mayPass(fate) && !neverTrailing.test(lower)) kept.push(lines[at] ?? '', lines[at + 1] ?? '')
    }
    return kept
  }

  function nameOf(raw: string): Name {
    const known = names.get(raw)
    if (known !== undefined) return known
    const own = copyOf(raw)
    const lower = own.toLowerCase()
    const name = { lower, fate: fateOf(lower) }
    if (raw.length > maxKnownLength) return name
    // Whoever sends a thousand names makes us forget, not grow.
    if (names.size >= maxKnownNames) names.clear()
    names.set(own, name)
    return name
  }

  function fateOf(lower: string): Fate {
    if (!fieldName.test(lower)) return 'drop'
    // Under every alias: CGI, WSGI and others turn `x-user`, `x_user` and `x.user` into one name.
    const folded = fold(lower)
    if (identityNames.has(folded)) return 'drop'
    if (overrides.has(folded)) return kept.has(lower) ? 'pass' : 'drop'
    if (connectionNames.has(folded)) return folded === lower ? 'connection' : 'drop'
    if (folded === 'authorization') return 'credential'
    if (folded === 'x-forwarded-for') return folded === lower ? 'forwarded_for' : 'drop'
    if (originNames.has(folded) || folded.startsWith('x-forwarded-')) return folded === lower ? 'origin' : 'drop'
    return 'pass'
  }

  function identityOf(principal: Facts): OurLines {
    const known = rendered.get(principal)
    if (known !== undefined) return known
    const lines: string[] = []
    for (const [header, claim] of options.identityHeaders) {
      const value = renderClaim(principal, claim)
      if (value !== undefined && sendable.test(value)) lines.push(header, value)
    }
    const made = { lines, text: copyOf(ours(lines).text) }
    rendered.set(principal, made)
    return made
  }
}

/** What a trusted proxy says of who is connected to it. */
type OriginSaid = { readonly forwardedFor: string; readonly hasProto: boolean; readonly hasHost: boolean }

const saysNothing: OriginSaid = { forwardedFor: '', hasProto: false, hasHost: false }

/** `Host`, and what is told of where a request is from. */
function tellOrigin(ip: string, proto: string, authority: string, says: OriginSaid): string[] {
  const { forwardedFor, hasProto, hasHost } = says
  const lines = ['Host', authority]
  // Who comes on a Unix socket has no address, and nobody could make anything of a word in its place.
  if (ip !== unixAddress) lines.push('X-Forwarded-For', forwardedFor + ip)
  else if (forwardedFor !== '') lines.push('X-Forwarded-For', forwardedFor.slice(0, -2))
  if (!hasProto) lines.push('X-Forwarded-Proto', proto)
  if (!hasHost) lines.push('X-Forwarded-Host', authority)
  return lines
}

function ours(lines: readonly string[]): OurLines {
  let text = ''
  for (let at = 0; at + 1 < lines.length; at += 2) text += `${lines[at]}: ${lines[at + 1]}\r\n`
  return { lines, text }
}

/** Header names as the laxest upstream compares them. */
function fold(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-')
}

// Not hop-by-hop whatever a client says (RFC 9110 §7.6.1): without them the request would be another.
const neverListed: ReadonlySet<string> = new Set([
  'authorization',
  'content-length',
  'cookie',
  'host',
  'transfer-encoding',
])

/** The names, lower-case, that the Connection lines make hop-by-hop; undefined where there are none. */
function connectionOptions(rawHeaders: readonly string[]): ReadonlySet<string> | undefined {
  let listed: Set<string> | undefined
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? ''
    if (name.length !== 10 || name.toLowerCase() !== 'connection') continue
    const value = (rawHeaders[at + 1] ?? '').toLowerCase()
    if (value === 'keep-alive' || value === 'close') continue
    for (const part of value.split(',')) {
      const option = part.trim()
      if (option === '' || neverListed.has(option)) continue
      listed ??= new Set()
      listed.add(option)
    }
  }
  return listed
}

/** An IPv4 client of a socket that listens on both looks like `::ffff:192.0.2.1`. */
export function plainAddress(ip: string): string {
  return ip.startsWith('::ffff:') && ip.includes('.') ? ip.slice(7) : ip
}

/** A claim as text; undefined where it is absent, or cannot be told in one line without doubt. */
function renderClaim({ claims }: Facts, name: string): string | undefined {
  // A member of a list with a space in it is no scope (RFC 6749 §3.3), and would read as two.
  if (name === 'scope') return [...claims.scopes].filter((scope) => !scope.includes(' ')).join(' ')
  const value = claimOf(claims, name)
  if (typeof value === 'string') return value
  // RFC 7493 §2.2: no double tells an integer beyond 2^53 from its neighbours, and whose it is may hang on it.
  if (typeof value === 'number')
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? undefined : String(value)
  if (typeof value === 'boolean') return String(value)
  if (!Array.isArray(value)) return undefined
  return value.every((member) => typeof member === 'string' && memberOfList.test(member)) ? value.join(',') : undefined
}

// One that would read as another, or as two: the groups "a,admin" and " admin" are not the group "admin".
const memberOfList = /^[^\s,](?:[^,]*[^\s,])?$/
