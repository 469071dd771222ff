// The one path canonicaliser: rules, logs, cache keys and the upstream see the bytes it returns, and no others.
import { copyOf } from '../base/copy-of.ts'
import type { Deny } from './decision.ts'
import { deny } from './decision.ts'

/**
 * One request, as rules and upstream see it.
 *
 * @example { kind: 'request', method: 'GET', host: 'api.example.com', authority: 'api.example.com:8080',
 *   path: '/orders/7', segments: ['orders', '7'], query: '?full=1', encoded: 0, authorization: [], arrivedMs: 0,
 *   certificate: undefined }
 */
export type AccessRequest = {
  readonly kind: 'request'
  readonly method: string
  /** Lower-case, without port; an IPv6 address keeps its brackets. */
  readonly host: string
  /** `Host` as sent. */
  readonly authority: string
  /** Canonical (product.md §10). */
  readonly path: string
  /** The path split at `/`, without the empty one before the first: `/` is `['']`, `/a/` is `['a', '']`. */
  readonly segments: readonly string[]
  /** From the `?` on, byte for byte; empty where there is none. */
  readonly query: string
  /** What the path holds that only a rule can allow: a sum of `encodedBits`. */
  readonly encoded: number
  /** Every `Authorization` line, in order. */
  readonly authorization: readonly string[]
  /** Monotonic milliseconds. */
  readonly arrivedMs: number
  /** The thumbprint of the certificate that the client has shown (RFC 8705 §3.1); undefined where it has shown none. */
  readonly certificate: string | undefined
}

/** What the wire had; strings hold one character per byte (latin1). */
export type RawRequest = {
  readonly method: string
  readonly target: string
  /** Every `Host` line. */
  readonly host: readonly string[]
  readonly authorization: readonly string[]
  readonly arrivedMs: number
  readonly certificate?: string | undefined
}

/** What a rule's `allow_encoded` may name, and its bit: the escaped character, and for `semicolon` the raw one too. */
export const encodedBits = { slash: 1, semicolon: 2, percent: 4, question: 8, hash: 16 } as const

/** A path that can be read in one way only. */
export type CanonicalPath = {
  readonly path: string
  readonly segments: readonly string[]
  readonly encoded: number
}

const maxSegments = 256
const maxHostBytes = 261 // a name of 255 and a port
// The layers of escaping judged where a rule allows `%25`; nobody's URL has more.
const maxLayers = 4

const malformed = deny('request_malformed')
const rejected = deny('path_rejected')

/**
 * The methods there are, in requests and in the configuration alike: to an upstream that folds case, `post` would be a
 * POST that no rule for POST has judged.
 */
export const methodName = /^[A-Z][A-Z0-9_-]{0,31}$/
const plainMethods: ReadonlySet<string> = new Set(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'])
const refusedMethods: ReadonlySet<string> = new Set(['CONNECT', 'TRACE'])
const controlOrSpace = /[^!-\xff]|\x7f/
const absoluteForm = /^(https?):\/\/([^/?#]*)(.*)$/i
const authorityForm = /^([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?$/
// What nearly every target is, so that one look does for it.
const plainTarget = /^\/[A-Za-z0-9\-._~/]*(?:\?[!"$-~]*)?$/
const fragmentOrBeyondAscii = /[^!"$-~]/
// RFC 3986 §3.3, without and with what needs a closer look.
const plainPath = /^[A-Za-z0-9\-._~!$&'()*+,=:@/]*$/
const legalPath = /^[A-Za-z0-9\-._~!$&'()*+,=:@/;%]*$/
const escapes = /%[0-9A-Fa-f]{2}/g
const escapeRuns = /(?:%[0-9A-Fa-f]{2})+/g

/**
 * Reads the method, target and `Host` of one request. How long a target may be is the caller's to judge.
 *
 * @param options `hosts`: the names we answer for, lower-case, without port; empty for any valid one.
 * @returns The request, or a denial: `request_malformed` or `path_rejected`.
 * @see RFC 9112 §3.2 and product.md §10
 */
export function readAccessRequest(
  raw: RawRequest,
  options: { readonly hosts: ReadonlySet<string> },
): AccessRequest | Deny {
  const { method, authorization, arrivedMs } = raw
  if (!plainMethods.has(method) && (!methodName.test(method) || refusedMethods.has(method))) return malformed
  const authority = raw.host[0]
  if (authority === undefined || raw.host.length !== 1) return malformed
  const named = parseAuthority(authority)
  if (named === undefined || (options.hosts.size > 0 && !options.hosts.has(named.host))) return malformed
  const target = originForm(raw.target, named)
  if (target === undefined) return malformed
  const isPlain = plainTarget.test(target)
  if (!isPlain) {
    if (controlOrSpace.test(target)) return malformed
    // No fragment is ever sent (RFC 9112 §3.2); an upstream that cuts one off would see another path.
    if (fragmentOrBeyondAscii.test(target)) return rejected
  }
  const mark = target.indexOf('?')
  const query = mark === -1 ? '' : target.slice(mark)
  const canonical = canonicalPath(mark === -1 ? target : target.slice(0, mark), isPlain)
  if (canonical === undefined) return rejected
  const { path, segments, encoded } = canonical
  return {
    kind: 'request',
    method,
    host: named.host,
    authority,
    path,
    segments,
    query,
    encoded,
    authorization,
    arrivedMs,
    certificate: raw.certificate,
  }
}

/**
 * Brings a path that begins with `/` into the one spelling: escapes of unreserved characters decoded, the hex of the
 * others in upper case, nothing else changed.
 *
 * @param isPlain Whether every character of it is known to stand for itself.
 * @returns Undefined for a path that can be read in two ways, or has more than 256 segments.
 */
export function canonicalPath(raw: string, isPlain = plainPath.test(raw)): CanonicalPath | undefined {
  let path = raw
  let encoded = 0
  if (!isPlain) {
    const decoded = decodeUnreserved(raw)
    if (decoded === undefined) return undefined
    path = decoded.path
    encoded = decoded.encoded
  }
  const segments: string[] = []
  for (let from = 1; ; ) {
    const slash = path.indexOf('/', from)
    const segment = slash === -1 ? path.slice(from) : path.slice(from, slash)
    if (segment === '.' || segment === '..' || (segment === '' && slash !== -1)) return undefined
    if (segments.push(segment) > maxSegments) return undefined
    if (slash === -1) return { path, segments, encoded }
    from = slash + 1
  }
}

/**
 * Whether a path is unambiguous under a rule that allows these `encodedBits`: it holds none besides, and neither dot
 * segments nor empty ones appear once the allowed ones are decoded, as often as they can be, and parameters cut off.
 */
export function judgeEncoded(request: Pick<AccessRequest, 'path' | 'encoded'>, allowed: number): boolean {
  if (request.encoded === 0) return true
  if ((request.encoded & ~allowed) !== 0) return false
  let text = request.path
  for (let layer = 0; layer < maxLayers; layer += 1) {
    const decoded = decodeOnce(text)
    if (decoded === undefined || !isUnambiguous(decoded)) return false
    if (decoded === text) return true
    // What `%25` hid is held to the same rules; and no encoder escapes an unreserved character, so `%2561` is a disguise.
    for (const [triplet] of decoded.matchAll(escapes)) {
      const bit = escapeBit(escapedChar(triplet))
      if (bit === undefined || (bit & ~allowed) !== 0 || unreserved.test(escapedChar(triplet))) return false
    }
    text = decoded
  }
  return false
}

type Authority = { readonly host: string; readonly port: string | undefined }

const maxKnownAuthorities = 1000
// Those that come again and again, and are short.
const knownAuthorities = new Map<string, Authority>()

/** `Host` by a grammar narrower than RFC 3986 §3.2: no user, no escapes, no empty label, so no closing dot. */
function parseAuthority(text: string): Authority | undefined {
  const known = knownAuthorities.get(text)
  if (known !== undefined) return known
  const authority = readAuthority(text)
  if (authority === undefined || text.length > 64) return authority
  // Whoever sends a thousand names makes us forget, not grow.
  if (knownAuthorities.size >= maxKnownAuthorities) knownAuthorities.clear()
  knownAuthorities.set(copyOf(text), authority)
  return authority
}

function readAuthority(text: string): Authority | undefined {
  if (text.length > maxHostBytes) return undefined
  const match = authorityForm.exec(text)
  if (match === null) return undefined
  const [, host = '', port] = match
  if (port !== undefined && Number(port) > 65_535) return undefined
  if (host.startsWith('[') && !isIpv6(host.slice(1, -1))) return undefined
  return { host: copyOf(host.toLowerCase()), port }
}

function isIpv6(text: string): boolean {
  // RFC 3986 §3.2.2: a closing IPv4 address stands for two groups.
  const halves = text.replace(/(?<=:)\d{1,3}(?:\.\d{1,3}){3}$/, '0:0').split('::')
  let count = 0
  for (const half of halves) {
    if (half === '') continue
    const groups = half.split(':')
    if (!groups.every((group) => /^[0-9A-Fa-f]{1,4}$/.test(group))) return false
    count += groups.length
  }
  return halves.length === 1 ? count === 8 : halves.length === 2 && count <= 7
}

/** The target from its path on; undefined where it has none, or names another authority than `Host` does. */
function originForm(target: string, named: Authority): string | undefined {
  if (target.startsWith('/')) return target
  const match = absoluteForm.exec(target)
  if (match === null) return undefined
  const [, scheme = '', written = '', rest = ''] = match
  const authority = parseAuthority(written)
  const defaultPort = scheme.length === 5 ? '443' : '80'
  if (authority?.host !== named.host) return undefined
  if ((authority.port ?? defaultPort) !== (named.port ?? defaultPort)) return undefined
  return rest.startsWith('/') ? rest : `/${rest}`
}

// RFC 3986 §2.3, but for the dot: `%2E` is refused, not decoded.
const unreserved = /^[A-Za-z0-9\-_~]$/

function decodeUnreserved(raw: string): { path: string; encoded: number } | undefined {
  if (!legalPath.test(raw)) return undefined
  // Undefined for a broken escape too: it throws for both.
  if (decodeUtf8(raw) === undefined) return undefined
  let encoded = raw.includes(';') ? encodedBits.semicolon : 0
  let refused = false
  const path = raw.replace(escapes, (triplet) => {
    const char = escapedChar(triplet)
    if (unreserved.test(char)) return char
    const bit = escapeBit(char)
    if (bit === undefined) refused = true
    else encoded |= bit
    return triplet.toUpperCase()
  })
  return refused ? undefined : { path, encoded }
}

function escapedChar(triplet: string): string {
  return String.fromCharCode(Number.parseInt(triplet.slice(1), 16))
}

/** The bit a rule must allow for this character to be escaped, 0 where any rule may; undefined where none can. */
function escapeBit(char: string): number | undefined {
  switch (char) {
    case '/':
      return encodedBits.slash
    case ';':
      return encodedBits.semicolon
    case '%':
      return encodedBits.percent
    case '?':
      return encodedBits.question
    case '#':
      return encodedBits.hash
    case '.':
    case '\\':
    case '\x7f':
      return undefined
    default:
      return char < ' ' ? undefined : 0
  }
}

// RFC 3986 §3.3: of characters that may stand in a segment as they are. To most upstreams it is one whether they do.
const needlessEscape = /%(?:2[146789ABC]|3[ABD]|40)/
const needlessEscapes = new RegExp(needlessEscape, 'g')

/** The segments of a path with its needless escapes (`%3A` for `:`) decoded; undefined where it has none. */
export function withoutNeedlessEscapes({ path, segments }: CanonicalPath): readonly string[] | undefined {
  if (!path.includes('%') || !needlessEscape.test(path)) return undefined
  return segments.map((segment) => segment.replace(needlessEscapes, escapedChar))
}

/** Decodes every escape once, as a lenient upstream would: a `%` without two hex digits stays. */
function decodeOnce(text: string): string | undefined {
  let refused = false
  const decoded = text.replace(escapeRuns, (run) => {
    const chars = decodeUtf8(run)
    if (chars === undefined) refused = true
    return chars ?? ''
  })
  return refused ? undefined : decoded
}

/** Undefined for what is not UTF-8: overlong, a surrogate, beyond U+10FFFF, cut short. */
function decodeUtf8(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** No dot segment, and none empty but a closing one, once each is cut at what may end it. */
function isUnambiguous(path: string): boolean {
  const segments = path.slice(1).split('/')
  const last = segments.length - 1
  return segments.every((segment, at) => {
    const name = segment.replace(/[;?#].*$/s, '')
    return name === '' ? segment === '' && at === last : name !== '.' && name !== '..'
  })
}
