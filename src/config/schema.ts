import * as z from 'zod'
import { list } from '../base/list.ts'
import { nearest } from '../base/nearest.ts'
import { durationBetween, httpUrl, isLoopbackUrl, secretSource } from '../base/options.ts'
import { formatDuration, formatSpan } from '../base/time.ts'
import { maxSocketPath, unixAddress } from '../base/unix-address.ts'
import { corsOptions, findCorsConflicts } from '../decision/cors.ts'
import { identityHeadersOptions, keepHeadersOptions } from '../decision/headers.ts'
import { findRuleConflicts } from '../decision/rule-lint.ts'
import { hostName, rulesOptions } from '../decision/rules.ts'
import { trustedProxiesOptions } from '../decision/trusted-proxies.ts'
import { trustOptions } from '../decision/verify.ts'
import { limitsOptions, listenTlsOptions, upstreamOptions } from '../gates/options.ts'
import { blacklistOptions } from '../sources/blacklist.ts'
import { callMs } from '../sources/blacklist-pages.ts'
import { introspectionOptions } from '../sources/introspection.ts'
import { jwksOptions } from '../sources/jwks.ts'
import { leastGapMs } from '../sources/poll-times.ts'
import { everyHost, isAddressOrName, readAddress } from './addresses.ts'
import type { CrossFinding, Whole } from './load.ts'
import { nothingLeftOut } from './load.ts'
import { maxProblems } from './problems.ts'

const address = z
  .string()
  .regex(/^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, {
    error: 'expected an address like 127.0.0.1:8080',
    abort: true,
  })
  .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, { error: 'expected a port up to 65535' })

const unixPath = z
  .string()
  .regex(/^unix:\/[^\s?#]+$/, {
    error: 'expected an address like 127.0.0.1:8080, or unix:/run/postern.sock',
    abort: true,
  })
  .refine((text) => Buffer.byteLength(text.slice(unixAddress.length)) <= maxSocketPath, {
    error: `expected a path of at most ${maxSocketPath} bytes`,
  })

const issuer = trustOptions.extend({
  metadata_url: httpUrl.optional().describe('Where the metadata is (RFC 8414), if not under the issuer.'),
  jwks_uri: httpUrl.optional().describe('Where the keys are (RFC 7517); absent: as the metadata says.'),
  jwks: jwksOptions.prefault({}).describe('How the keys are kept.'),
  introspection_endpoint: httpUrl
    .optional()
    .describe('Where tokens are asked about (RFC 7662); absent: as the metadata says.'),
  introspection: introspectionOptions
    .optional()
    .describe('How we ask; absent: this issuer has no opaque tokens for us.'),
  blacklist: z
    .strictObject({
      url: httpUrl.describe('The feed of revoked tokens.'),
      wait: durationBetween('0s', '25s')
        .refine((ms) => ms % 1000 === 0, { error: 'expected whole seconds' })
        .prefault('0s')
        .describe(
          'For how long the feed is asked to hold a poll that has nothing to tell, at least 3 s less than poll_interval, and no longer than it may; 0s: not at all. Where it does, a revocation takes effect within 2 s.',
        ),
      client_id: z.string().min(1).max(256).optional().describe("Absent: introspection's."),
      client_secret: secretSource.optional().describe("Absent: introspection's."),
    })
    .optional()
    .describe('Where its revoked tokens are listed; absent: nowhere.'),
  http: z
    .strictObject({
      ca: z
        .strictObject({ file: z.string().min(1) })
        .optional()
        .describe('Certificates trusted beside the usual ones, PEM.'),
      proxy: httpUrl
        .optional()
        .describe('The HTTP proxy on the way, such as http://egress:3128; https goes through its CONNECT.'),
    })
    .prefault({})
    .describe('How we reach this issuer.'),
  insecure_http: z
    .boolean()
    .prefault(false)
    .describe('Accepts plain http to other machines. Tokens and secrets then travel unprotected.'),
})

/** The gateway's configuration file: the type, the validation, the JSON Schema and the reference. */
export const gatewayOptions = z.strictObject({
  version: z.literal(1).describe('The version of this file format.'),
  workers: z
    .union([z.int().min(1).max(64), z.literal('auto')], { error: 'expected a number from 1 to 64, or auto' })
    .prefault(1)
    .describe(
      'Processes that serve requests, each up to the limits of `limits` and `upstream`; auto: one for each CPU we may use. A change needs a restart.',
    ),
  listen: z
    .strictObject({
      proxy: z
        .union([address, unixPath], { error: 'expected an address like 127.0.0.1:8080, or unix:/run/postern.sock' })
        .prefault('0.0.0.0:8080')
        .describe('The front door: an address, or unix: and a path. A change needs a restart, as for all listeners.'),
      health: address.prefault('0.0.0.0:9464').describe('/livez /startupz /readyz /metrics /upstreamz.'),
      admin: address.prefault('127.0.0.1:9465').describe('explain and the state of the sources; loopback only.'),
      tls: listenTlsOptions.optional().describe('The front door speaks TLS, 1.2 or newer; absent: plain HTTP.'),
      proxy_protocol: z
        .boolean()
        .prefault(false)
        .describe(
          'Every connection must begin with a PROXY protocol header, version 1 or 2; its address is believed, whoever sends it.',
        ),
      http2: z
        .boolean()
        .prefault(true)
        .describe('Whether the front door speaks HTTP/2, too: by ALPN with TLS, by prior knowledge without.'),
    })
    .prefault({})
    .describe('Addresses to listen on; port 0 takes any free one.'),
  upstream: upstreamOptions.describe('Where allowed requests go. A change needs a restart.'),
  limits: limitsOptions.prefault({}).describe('What a client may cost. A change needs a restart.'),
  issuers: list(issuer).max(100).prefault([]).describe('Whose tokens are taken.'),
  blacklist: blacklistOptions.prefault({}).describe('How lists of revoked tokens are kept, for all issuers together.'),
  drain: z
    .strictObject({
      delay: durationBetween('0s', '1d').prefault('5s').describe('How long to keep serving once asked to stop.'),
      timeout: durationBetween('0s', '1d').prefault('20s').describe('How long what is in flight may take after that.'),
    })
    .prefault({})
    .describe('What happens at SIGTERM. A change needs a restart.'),
  stream_grace: durationBetween('0s', '1d')
    .prefault('0s')
    .describe('How long a WebSocket, an event stream or a gRPC call may go on once its token is no longer good.'),
  cors: corsOptions
    .optional()
    .describe(
      'Answers preflights of browsers and lets their scripts read answers; absent: OPTIONS is like any method.',
    ),
  trusted_proxies: trustedProxiesOptions,
  require_https: z
    .boolean()
    .prefault(false)
    .describe('Plain HTTP is refused, public rules included; of trusted proxies `X-Forwarded-Proto` decides.'),
  hosts: list(hostName).max(1000).prefault([]).describe('Names we answer for; none: any valid Host.'),
  rules: rulesOptions.describe(
    'Which requests pass with which token. Of several rules that match host, path and method the most specific decides, by host (exact, `*.`, none), then segment by segment (literal, `{name}`, `**`); their order in the file never matters. HEAD follows GET. What no rule matches is denied.',
  ),
  identity_headers: identityHeadersOptions,
  keep_headers: keepHeadersOptions,
})

/** A configuration as read: durations are milliseconds. */
export type GatewayOptions = z.output<typeof gatewayOptions>
/** One entry of `issuers`, as read. */
export type IssuerOptions = GatewayOptions['issuers'][number]

/** What is wrong with a configuration as a whole, each with its place. */
export function findGatewayConflicts(options: GatewayOptions, whole: Whole = nothingLeftOut): readonly CrossFinding[] {
  const { original, isWhole } = whole
  const placeOfRule = (at: number, part: string) => {
    const [, place] = original(['rules', at])
    return typeof place === 'number' && isWhole(['rules', place, part]) ? place : undefined
  }
  return [
    ...findRuleConflicts(options.rules, placeOfRule).map(({ path, message }) => ({
      path: ['rules', ...path],
      message,
    })),
    ...options.issuers.flatMap((each, at) => findIssuerConflicts(options, each, at, whole)),
    // An issuer that is refused for another reason is not unknown.
    ...(isWhole(['issuers']) ? findRuleIssuerConflicts(options) : []),
    ...findListenConflicts(options),
    ...(options.cors === undefined ? [] : findCorsConflicts(options.cors)).map(({ path, message }) => ({
      path: ['cors', ...path],
      message,
    })),
    ...findUpstreamConflicts(options),
  ]
}

function findIssuerConflicts(
  options: GatewayOptions,
  each: IssuerOptions,
  at: number,
  { original, isWhole }: Whole,
): readonly CrossFinding[] {
  const found: CrossFinding[] = []
  const here = ['issuers', at]
  // What was refused has its default here, which nobody wrote: nothing is compared with that.
  const isKnown = (...path: readonly (string | number)[]) => isWhole(original(path))
  if (options.issuers.findIndex(({ issuer }) => issuer === each.issuer) !== at)
    found.push({ path: [...here, 'issuer'], message: 'expected another issuer than the one above' })
  const urls = {
    issuer: each.issuer,
    metadata_url: each.metadata_url,
    jwks_uri: each.jwks_uri,
    introspection_endpoint: each.introspection_endpoint,
    'blacklist.url': each.blacklist?.url,
  }
  for (const [name, url] of Object.entries(urls)) {
    if (url === undefined || url.startsWith('https:') || isLoopbackUrl(url) || each.insecure_http) continue
    const message = 'expected https (plain http only to loopback, or with insecure_http: true)'
    found.push({ path: [...here, ...name.split('.')], message })
  }
  if (each.jwks.file !== undefined && each.jwks_uri !== undefined)
    found.push({ path: [...here, 'jwks_uri'], message: 'expected either jwks_uri or jwks.file' })
  // Between two fetches that succeed, a set must not grow too old; a file is read as often.
  if (each.jwks.stale_max < each.jwks.refresh)
    found.push({
      path: [...here, 'jwks', 'stale_max'],
      message: `expected at least the refresh of ${formatDuration(each.jwks.refresh)}`,
      unwritten: {
        path: [...here, 'jwks', 'refresh'],
        message: `expected at most the stale_max of ${formatDuration(each.jwks.stale_max)}`,
      },
    })
  const asking = {
    revocation: each.revocation === 'introspect' ? 'introspect' : undefined,
    opaque: each.opaque ? 'opaque tokens' : undefined,
    // Each of its tokens is asked about, so that nobody would ever get in.
    access_token_form: each.access_token_form === 'wrapped' ? 'wrapped tokens' : undefined,
  }
  for (const [name, what] of Object.entries(asking))
    if (what !== undefined && each.introspection === undefined)
      found.push({ path: [...here, name], message: `expected introspection to be configured for ${what}` })
  // product.md §6: an entry purged within the leeway would bring a revoked token back.
  if (options.blacklist.purge_delay < each.leeway && isKnown(...here, 'leeway'))
    found.push({
      path: ['blacklist', 'purge_delay'],
      message: `expected at least the leeway of ${formatDuration(each.leeway)} (of ${each.issuer})`,
      unwritten: {
        path: [...here, 'leeway'],
        message: `expected at most the blacklist.purge_delay of ${formatDuration(options.blacklist.purge_delay)}`,
      },
    })
  if (each.blacklist === undefined) return found
  const { client_id, client_secret } = each.blacklist
  if ((client_id === undefined) !== (client_secret === undefined))
    found.push({ path: [...here, 'blacklist'], message: 'expected client_id and client_secret, or neither' })
  if (client_id === undefined && each.introspection === undefined)
    found.push({
      path: [...here, 'blacklist'],
      message: 'expected client_id and client_secret, here or in introspection',
    })
  if (options.blacklist.on_stale === 'introspect' && each.introspection === undefined && isKnown(...here))
    found.push({
      path: ['blacklist', 'on_stale'],
      message: 'expected every issuer with a blacklist to have introspection',
    })
  if (!isKnown('blacklist', 'poll_interval')) return found
  if (options.blacklist.max_staleness < options.blacklist.poll_interval)
    found.push({
      path: ['blacklist', 'max_staleness'],
      message: `expected at least the poll_interval of ${formatDuration(options.blacklist.poll_interval)}`,
      unwritten: {
        path: ['blacklist', 'poll_interval'],
        message: `expected at most the max_staleness of ${formatDuration(options.blacklist.max_staleness)}`,
      },
    })
  else found.push(...findWaitConflicts(options, each.blacklist.wait, [...here, 'blacklist', 'wait']))
  return found
}

/**
 * A held poll is over, answered or not, when the next one is due. And a list must not grow too old while the issuer is
 * well: it is as old as the beginning of its last poll until the next one is answered, which may begin an interval later
 * and be held, or be cut then, and be answered when it is repeated.
 */
function findWaitConflicts(
  { blacklist: { poll_interval, max_staleness } }: GatewayOptions,
  wait: number,
  path: CrossFinding['path'],
): readonly CrossFinding[] {
  if (wait === 0) return []
  const interval = formatDuration(poll_interval)
  // Of one that gets no answer the next that may be held starts this much later, and is to fail within the interval, too.
  const takesMs = callMs + leastGapMs
  if (wait > poll_interval - takesMs) {
    const mostMs = Math.floor((poll_interval - takesMs) / 1000) * 1000
    const most = mostMs > 0 ? `at most ${formatDuration(mostMs)}` : 'none'
    const why = `a held poll is to be over, ${formatDuration(callMs)} for the call included, ${formatDuration(leastGapMs)} before the next is due`
    const message = `expected ${most} beside a blacklist.poll_interval of ${interval}, or a poll_interval of at least ${formatSpan(wait + takesMs)}: ${why}`
    return [{ path, message }]
  }
  const least = poll_interval + wait + 2 * callMs
  if (max_staleness >= least) return []
  const sum = `the poll_interval of ${interval}, a wait of ${formatDuration(wait)} and ${formatDuration(2 * callMs)}`
  return [
    {
      path: ['blacklist', 'max_staleness'],
      message: `expected at least ${formatSpan(least)}: ${sum}`,
      unwritten: { path, message: `expected a blacklist.max_staleness of at least ${formatSpan(least)}: ${sum}` },
    },
  ]
}

/** Why a name cannot stand for a configured issuer, in a clause; undefined where it does. */
export function problemOfIssuer(name: string, { issuers }: GatewayOptions): string | undefined {
  const known = issuers.map((each) => each.issuer)
  if (known.includes(name)) return undefined
  const guess = nearest(name, known)
  return `expected a configured issuer${guess === undefined ? '' : `, perhaps ${guess}`}`
}

function findRuleIssuerConflicts(options: GatewayOptions): readonly CrossFinding[] {
  const { rules, issuers } = options
  const found: CrossFinding[] = []
  const known = new Set(issuers.map((each) => each.issuer))
  for (const [at, rule] of rules.entries()) {
    // What a name was to be is searched for among all of them, and more is not told.
    if (found.length > maxProblems) break
    for (const [index, name] of (rule.issuers ?? []).entries()) {
      if (known.has(name)) continue
      const message = problemOfIssuer(name, options)
      if (message !== undefined) found.push({ path: ['rules', at, 'issuers', index], message })
    }
    if (rule.public) continue
    const marked = issuers.filter((each) => each.opaque && (rule.issuers?.includes(each.issuer) ?? true))
    if (marked.length > 1)
      found.push({ path: ['rules', at], message: 'expected one issuer with opaque: true among those it accepts' })
  }
  return found
}

function findListenConflicts({ listen }: GatewayOptions): readonly CrossFinding[] {
  const found: CrossFinding[] = []
  if (!isLoopbackUrl(`http://${listen.admin}`))
    found.push({ path: ['listen', 'admin'], message: 'expected a loopback address, such as 127.0.0.1:9465' })
  const taken: { readonly name: string; readonly host: string; readonly port: number }[] = []
  for (const name of ['proxy', 'health', 'admin'] as const) {
    const text = listen[name]
    // It takes no port, and there is one of them.
    if (text.startsWith(unixAddress)) continue
    const { written, host, port } = readAddress(text)
    if (!isAddressOrName(written))
      found.push({ path: ['listen', name], message: 'expected an address or a name before the port' })
    // One for every address takes its port on each of them.
    const other = taken.find(
      (each) => each.port === port && (each.host === host || everyHost.has(each.host) || everyHost.has(host)),
    )
    if (other !== undefined && port !== 0)
      found.push({ path: ['listen', name], message: `expected another address than ${other.name}` })
    taken.push({ name, host, port })
  }
  const { client_ca, client_certificate } = listen.tls ?? {}
  if (client_certificate !== undefined && (client_certificate === 'none') !== (client_ca === undefined))
    found.push({
      path: ['listen', 'tls', 'client_certificate'],
      message:
        client_ca === undefined
          ? 'expected client_ca beside it'
          : 'expected optional or required, since client_ca is given',
    })
  return found
}

/** Every place of the upstream, and where it is written. */
export function upstreamPlaces({ url, urls = [] }: GatewayOptions['upstream']) {
  const places = [...urls.entries()].map(([at, each]) => ({ path: ['upstream', 'urls', at], url: each }))
  return url === undefined ? places : [...places, { path: ['upstream', 'url'], url }]
}

function findUpstreamConflicts({ upstream, rules }: GatewayOptions): readonly CrossFinding[] {
  const { url, urls = [], tls } = upstream
  const found: CrossFinding[] = []
  if ((url === undefined) === (upstream.urls === undefined))
    found.push({ path: ['upstream'], message: 'expected either url or urls' })
  const plain = urls.map((each) => each.replace(/\/$/, ''))
  for (const [at, each] of plain.entries())
    if (plain.indexOf(each) !== at)
      found.push({ path: ['upstream', 'urls', at], message: 'expected another url than one above' })
  for (const [at, { upgrade }] of rules.entries())
    if (upgrade.length > 0 && upstream.protocol === 'h2')
      found.push({ path: ['rules', at, 'upgrade'], message: 'expected upstream.protocol: http1 for an upgrade' })
  if (tls === undefined) return found
  // Whoever writes tls means that nothing goes without it.
  for (const { path, url } of upstreamPlaces(upstream))
    if (!url.startsWith('https:')) found.push({ path, message: 'expected an https url beside upstream.tls' })
  if (tls.cert !== undefined && tls.key === undefined)
    found.push({ path: ['upstream', 'tls', 'cert'], message: 'expected key beside cert' })
  if (tls.key !== undefined && tls.cert === undefined)
    found.push({ path: ['upstream', 'tls', 'key'], message: 'expected cert beside key' })
  return found
}
