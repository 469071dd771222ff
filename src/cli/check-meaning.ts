// What a configuration means that no single line of it says.
import { isLoopbackUrl } from '../base/options.ts'
import { formatSpan } from '../base/time.ts'
import { unixAddress } from '../base/unix-address.ts'
import { everyHost, readAddress, sameAddress } from '../config/addresses.ts'
import type { CrossFinding } from '../config/load.ts'
import type { GatewayOptions, IssuerOptions } from '../config/schema.ts'
import { upstreamPlaces } from '../config/schema.ts'
import { reachOf } from '../decision/rule-overlap.ts'
import type { RuleOptions } from '../decision/rules.ts'
import { ruleId } from '../decision/rules.ts'

/** Settings of the front door that leave nobody in, or have nobody to hold for. */
export function lintListeners(options: GatewayOptions): readonly CrossFinding[] {
  const { listen, require_https, trusted_proxies } = options
  const warnings: CrossFinding[] = []
  if (require_https && listen.tls === undefined && trusted_proxies.length === 0)
    warnings.push({
      path: ['require_https'],
      message: 'every request is refused: there is no listen.tls, and no trusted proxy that could tell of https',
    })
  if (trusted_proxies.includes(unixAddress) && !listen.proxy.startsWith(unixAddress) && !listen.proxy_protocol)
    warnings.push({ path: ['trusted_proxies'], message: 'nobody comes on a Unix socket: listen.proxy is none' })
  for (const { path, url } of upstreamPlaces(options.upstream))
    for (const name of ['proxy', 'health', 'admin'] as const) {
      if (!isOwnAddress(url, listen[name])) continue
      const what =
        name === 'proxy'
          ? 'requests come back to this gateway, again and again'
          : 'requests come to this gateway itself, not to the service'
      warnings.push({ path, message: `${what}: ${listen[name]} is its own listen.${name}` })
    }
  return warnings
}

/** Whether what is sent to a place of the upstream arrives at a listener of ours, as far as its name tells. */
function isOwnAddress(place: string, listener: string): boolean {
  if (place.startsWith(unixAddress) || listener.startsWith(unixAddress)) return place === listener
  const url = URL.parse(place)
  if (url === null) return false
  const { host, port } = readAddress(listener)
  if (Number(url.port || (url.protocol === 'https:' ? 443 : 80)) !== port) return false
  return sameAddress(url.hostname) === host || (everyHost.has(host) && isLoopbackUrl(place))
}

/** Rules that let nobody in, whatever a request has. */
export function lintReach({ hosts, issuers, rules }: GatewayOptions): readonly CrossFinding[] {
  const warnings: CrossFinding[] = []
  if (issuers.length === 0 && rules.some((rule) => !rule.public))
    warnings.push({
      path: ['issuers'],
      message: 'only public rules let anybody in: there is no issuer to take tokens of',
    })
  const isReached = reachOf(hosts)
  for (const [at, rule] of rules.entries()) {
    const { host } = rule.match
    if (!isReached(host))
      warnings.push({
        path: ['rules', at, 'match', 'host'],
        message: `${ruleId(rule, at)} is never reached: no name in hosts is ${host}`,
      })
  }
  return warnings
}

/** Traps of real issuers, and settings that work against each other. */
export function lintIssuers({ issuers, rules, blacklist }: GatewayOptions): readonly CrossFinding[] {
  const warnings: CrossFinding[] = []
  for (const [at, each] of issuers.entries()) {
    const here = ['issuers', at]
    if (/\/\.well-known\//.test(each.issuer))
      warnings.push({
        path: [...here, 'issuer'],
        message:
          'no token says this: an issuer is what stands in iss, without /.well-known and what follows; metadata_url is for another place of its metadata',
      })
    if (each.max_token_lifetime === 0)
      warnings.push({
        path: [...here, 'max_token_lifetime'],
        message: 'every JWT is refused (token_lifetime): each lives longer than that',
      })
    if (each.insecure_http)
      warnings.push({
        path: [...here, 'insecure_http'],
        message: 'tokens and secrets travel to this issuer unprotected',
      })
    if (!each.require_aud && each.introspection !== undefined)
      warnings.push({
        path: [...here, 'require_aud'],
        message:
          'opaque and wrapped tokens whose introspection names no audience are taken, whoever they were issued for, and refresh tokens too where it names no kind',
      })
    if (each.blacklist === undefined && !isAskedAboutJwts(each))
      warnings.push({
        path: here,
        message:
          'a revoked JWT of this issuer is accepted until it expires: it has no blacklist, and revocation is not introspect',
      })
    if (each.blacklist !== undefined && each.max_token_lifetime > 86_400_000)
      warnings.push({
        path: [...here, 'max_token_lifetime'],
        message: 'every revocation is held for as long as a token may live',
      })
  }
  const named = [
    ...issuers.map(({ audience }, at) => ({ path: ['issuers', at, 'audience'], audience })),
    ...rules.map(({ audience }, at) => ({ path: ['rules', at, 'audience'], audience })),
  ]
  for (const { path, audience } of named)
    if (audience === 'account' || (Array.isArray(audience) && audience.includes('account')))
      warnings.push({
        path,
        message: 'account is in nearly every token that Keycloak issues to users, for whatever client',
      })
  const opaque = issuers.filter(({ introspection }) => introspection !== undefined)
  const isUndecided = (rule: RuleOptions) => {
    const candidates = opaque.filter(({ issuer }) => rule.issuers?.includes(issuer) ?? true)
    return !rule.public && candidates.length > 1 && !candidates.some((each) => each.opaque)
  }
  const undecided = rules.filter(isUndecided).length
  if (undecided > 0)
    warnings.push({
      path: ['rules', rules.findIndex(isUndecided)],
      message: `opaque tokens are refused: several issuers could be asked, and none is marked opaque: true${alsoWith(undecided - 1)}`,
    })
  for (const each of issuers) {
    const { issuer } = each
    const isFresh = ({ freshness, issuers: named }: RuleOptions) =>
      freshness !== 'cached' && (named?.includes(issuer) ?? true)
    const fresh = isAskedAboutJwts(each) ? 0 : rules.filter(isFresh).length
    if (fresh > 0)
      warnings.push({
        path: ['rules', rules.findIndex(isFresh), 'freshness'],
        message: `this does nothing for JWTs of ${issuer}: it is asked about them only with revocation: introspect${alsoWith(fresh - 1)}`,
      })
  }
  if (blacklist.on_stale === 'allow')
    warnings.push({ path: ['blacklist', 'on_stale'], message: 'once a list is too old, revoked tokens are accepted' })
  return warnings
}

function alsoWith(more: number): string {
  return more > 0 ? `; so it is with ${more} more of the rules` : ''
}

/** Whether every JWT of an issuer is introspected, too. */
function isAskedAboutJwts({ revocation, access_token_form }: IssuerOptions): boolean {
  return revocation === 'introspect' || access_token_form === 'wrapped'
}

/** What the numbers mean together, in sentences for whoever is on call. */
export function meaning({ issuers, blacklist, rules, stream_grace }: GatewayOptions): readonly string[] {
  return [
    `${counted(rules.length, 'rule')}, ${counted(issuers.length, 'issuer')}; what no rule matches is denied`,
    ...(issuers.length === 0 ? [] : ['nothing was asked over the network: this is what the settings say']),
    ...(stream_grace === 0
      ? []
      : [
          `If a token ends or is revoked: a WebSocket, an event stream or a gRPC call goes on for up to ${formatSpan(stream_grace)} (stream_grace)`,
        ]),
    ...issuers.flatMap((each) => {
      const { issuer, jwks, introspection, leeway, token_profile, revocation } = each
      const lines = [
        `If ${issuer} is unreachable: ${outage(each, blacklist)}`,
        `If ${issuer} revokes a token: ${revoked(each, blacklist, rules)}`,
      ]
      if (leeway > 0)
        lines.push(`If a token of ${issuer} expires: it is accepted for up to ${formatSpan(leeway)} more (leeway)`)
      if (token_profile === 'lenient')
        lines.push(
          `If ${issuer} issues other tokens of typ JWT: these are told from access tokens by their claims only (token_profile)`,
        )
      if (revocation === 'introspect')
        lines.push(
          `If ${issuer} answers 400 about its own JWTs: 503, since every JWT is introspected (revocation); some issuers do (node-oidc-provider)`,
        )
      if (introspection !== undefined && each.require_aud)
        lines.push(
          `If ${issuer} answers inactive, or 401 audience_mismatch: some issuers (Keycloak) want introspection.client_id in the token's aud, others name no aud at all (require_aud: false)`,
        )
      lines.push(
        `If ${issuer} rotates its key: the first token with it is accepted after one fetch, under attack within ${formatSpan(jwks.cool_down)} (503 until then)`,
      )
      if (jwks.file === undefined)
        lines.push(
          `If ${issuer} withdraws a key: tokens signed with it are accepted for up to ${formatSpan(jwks.refresh)} (jwks.refresh), while no keys can be fetched up to ${formatSpan(jwks.stale_max)} (jwks.stale_max)`,
        )
      return lines
    }),
  ]
}

/** For how long a token is taken that its issuer has revoked. */
function revoked(
  each: IssuerOptions,
  { poll_interval, purge_delay }: GatewayOptions['blacklist'],
  rules: GatewayOptions['rules'],
): string {
  const { issuer, introspection, blacklist: feed, max_token_lifetime } = each
  if (feed !== undefined) {
    const held = feed.wait > 0 ? '2s where it holds polls, else within ' : ''
    return `refused everywhere within ${held}${formatSpan(poll_interval)} and one fetch; remembered for up to ${formatSpan(max_token_lifetime + purge_delay)}`
  }
  const untilItEnds = `until it expires, up to ${formatSpan(max_token_lifetime)} (max_token_lifetime)`
  if (introspection === undefined) return `a JWT is accepted ${untilItEnds}`
  const isFresher = rules.some(
    ({ freshness, issuers }) => freshness !== 'cached' && (issuers?.includes(issuer) ?? true),
  )
  const asked = `accepted for up to ${formatSpan(introspection.max_age)} (introspection.max_age)${isFresher ? ', or as the freshness of the rule says' : ''}`
  return isAskedAboutJwts(each) ? `it is ${asked}` : `an opaque one is ${asked}, a JWT ${untilItEnds}`
}

/** How long something that an issuer said is used, and the key that says so. */
type Term = { readonly ms: number; readonly key: string }

/** What becomes of an issuer's tokens while nothing can be had of it. */
function outage(each: IssuerOptions, { max_staleness, on_stale }: GatewayOptions['blacklist']): string {
  const { jwks, introspection, blacklist: feed } = each
  const after = ({ ms, key }: Term) => `after ${formatSpan(ms)} (${key})`
  const list: Term = { ms: max_staleness, key: 'blacklist.max_staleness' }
  // To introspect where the list is too old is to ask the same issuer.
  const lists = feed === undefined || on_stale === 'allow' ? [] : [list]
  const keys = jwks.file === undefined ? [{ ms: jwks.stale_max, key: 'jwks.stale_max' }] : []
  const asked = (terms: readonly Term[]) => {
    if (introspection === undefined) return 'at once'
    const answer = { ms: introspection.max_age, key: 'introspection.max_age' }
    return `at once, known ones ${after(soonest(answer, ...terms))}`
  }
  const opaque = (verb = '') =>
    introspection === undefined ? 'no opaque tokens' : `opaque tokens ${verb}${asked(lists)}`
  if (isAskedAboutJwts(each)) return `JWTs refused with 503 ${asked([...lists, ...keys])}, ${opaque()}`
  const [first, ...others] = [...lists, ...keys]
  const end = first && soonest(first, ...others)
  const isUnchecked = feed !== undefined && on_stale === 'allow' && (end === undefined || max_staleness < end.ms)
  const accepted = isUnchecked ? `accepted unchecked ${after(list)}` : 'accepted as before'
  if (end === undefined) return `JWTs ${accepted}, ${opaque('refused with 503 ')}`
  return `JWTs ${isUnchecked ? `${accepted}, ` : ''}refused with 503 ${after(end)}, ${opaque()}`
}

function soonest(first: Term, ...others: readonly Term[]): Term {
  return others.reduce((one, other) => (other.ms < one.ms ? other : one), first)
}

/** So many things, such as `1 rule`, `2 rules`. */
export function counted(count: number, name: string): string {
  return `${count} ${name}${count === 1 ? '' : 's'}`
}
