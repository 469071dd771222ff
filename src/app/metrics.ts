// What is counted as it happens, by its name in product.md §4; what is read at a scrape, and what is told of workers: gauges.ts. A
// certificate's are in certificates.ts; all together, for the reference: listed-metrics.ts.
import type { Decision, TokenForm } from '../decision/decision.ts'
import { decisionPaths, denyReasons, tokenForms } from '../decision/decision.ts'
import type { Rule } from '../decision/rules.ts'
import type { TrustedIssuer } from '../decision/verify.ts'
import type { Exchange } from '../gates/gate.ts'
import { upstreamFailures } from '../gates/gate.ts'
import type { CutReason, StreamKind } from '../gates/streams.ts'
import { streamKinds } from '../gates/streams.ts'
import type { Metrics } from '../io/metrics.ts'
import { createMetrics } from '../io/metrics.ts'
import { pollResults } from '../sources/blacklist.ts'
import type { IntrospectionResult } from '../sources/introspection.ts'
import { introspectionResults } from '../sources/introspection.ts'
import { blacklistCauses } from '../spec/blacklist-feed.ts'

// From a warm token (tens of microseconds) to an issuer's deadline (2 s).
const decisionBuckets = [0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2]
const upstreamBuckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30]
// product.md §4: 2,000 series, two for each rule, and two for the others together.
const maxRules = 999

/** The gateway's counters. What is counted per request is a number in an array. */
export type GatewayMetrics = {
  readonly metrics: Metrics
  readonly decided: (decision: Decision, seconds: number) => void
  readonly finished: (exchange: Exchange, nowMs: number) => void
  readonly streamOpened: (kind: StreamKind) => void
  readonly streamEnded: (kind: StreamKind, reason: CutReason | 'finished') => void
  readonly tokenCache: (hit: boolean) => void
  readonly jwksRefresh: (issuer: string, result: 'success' | 'failure') => void
  readonly jwksSuppressed: (issuer: string) => void
  readonly introspected: (issuer: string, result: IntrospectionResult, seconds: number) => void
  readonly polled: (issuer: string, result: (typeof pollResults)[number]) => void
  readonly revoked: (issuer: string, cause: (typeof blacklistCauses)[number]) => void
  readonly reloaded: (success: boolean) => void
  /** Has every series of an issuer exist, at 0; of decisions, those that allow. */
  readonly introduce: (issuer: string) => void
}

/** Registers what is counted here; what others hold is registered by them as gauges. */
export function createGatewayMetrics(): GatewayMetrics {
  const metrics = createMetrics()
  const decisions = metrics.counter('decisions_total', 'Decisions by reason.', ['decision', 'reason', 'issuer', 'mode'])
  const byRule = metrics.counter('rule_decisions_total', 'Decisions by rule.', ['rule', 'decision'])
  const durations = metrics.histogram('decision_duration_seconds', 'Time to a decision.', ['path'], decisionBuckets)
  const upstream = metrics.histogram(
    'upstream_request_duration_seconds',
    'Time from the decision to the end of the answer.',
    ['code'],
    upstreamBuckets,
  )
  const upstreamErrors = metrics.counter('upstream_errors_total', 'Requests the upstream did not answer.', ['kind'])
  const cache = metrics.counter('token_cache_requests_total', 'Look-ups of known tokens.', ['result'])
  const refreshes = metrics.counter('jwks_refresh_total', 'Fetches of key sets.', ['issuer', 'result'])
  const suppressed = metrics.counter(
    'jwks_refetch_suppressed_total',
    'Fetches for unknown keys the cool-down forbade.',
    ['issuer'],
  )
  const asked = metrics.counter('introspection_requests_total', 'Introspections by result.', ['issuer', 'result'])
  const askedSeconds = metrics.histogram(
    'introspection_duration_seconds',
    'Time of one introspection.',
    ['issuer'],
    upstreamBuckets.slice(0, 10),
  )
  const polls = metrics.counter('blacklist_polls_total', 'Polls of blacklists by result.', ['issuer', 'result'])
  const hits = metrics.counter('blacklist_hits_total', 'Requests with a revoked token.', ['issuer', 'cause'])
  const reloads = metrics.counter('config_reloads_total', 'Reloads of the configuration.', ['result'])
  const streamsEnded = metrics.counter('streams_ended_total', 'Long answers by what ended them.', ['kind', 'reason'])
  const streamsOpen = new Map<StreamKind, number>(streamKinds.map((kind) => [kind, 0]))
  const countStreams = () => [...streamsOpen].map(([kind, count]) => [[kind], count] as const)
  metrics.gauge('streams_open', 'Upgraded connections, event streams and gRPC calls.', ['kind'], countStreams, 'sum')
  let reloadedWell = 1
  metrics.gauge('config_last_reload_successful', 'Whether the configuration in its file is the one in use.', [], () => [
    [[], reloadedWell],
  ])

  const durationSlots = new Map(decisionPaths.map((path) => [path, durations.slot(path)]))
  const codeSlots = [0, 1, 2, 3, 4, 5].map((hundreds) => upstream.slot(hundreds === 0 ? 'aborted' : `${hundreds}xx`))
  const cacheSlots = { hit: cache.slot('hit'), miss: cache.slot('miss') }
  const failureSlots = new Map(Object.values(upstreamFailures).map((kind) => [kind, upstreamErrors.slot(kind)]))
  for (const reason of Object.keys(denyReasons)) decisions.slot('deny', reason, '', 'none')
  decisions.slot('allow', 'public', '', 'none')
  for (const kind of streamKinds)
    for (const reason of ['finished', 'shutdown', 'token_expired', 'token_revoked']) streamsEnded.slot(kind, reason)
  for (const result of ['success', 'failure']) reloads.slot(result)

  // By place: among ten thousand rules a map of objects touches more memory than the count itself.
  const ruleSlots: (RuleSlots | undefined)[] = []
  const ruleNames = new Set<string>()
  // Facts of one issuer, by reason and form: found with two look-ups, and no string made.
  const issuerSlots = new WeakMap<TrustedIssuer, Map<string, Map<TokenForm, number>>>()
  const plainSlots = new Map<string, number>()

  return {
    metrics,
    decided(decision, seconds) {
      decisions.add(decisionSlot(decision))
      durations.observe(durationSlots.get(decision.path ?? 'none') ?? 0, seconds)
      if (decision.rule !== undefined) byRule.add(slotsOfRule(decision.rule)[decision.kind])
    },
    finished({ isForwarded, decidedMs, status, upstreamFailure }, nowMs) {
      if (!isForwarded) return
      upstream.observe(codeSlots[Math.floor(status / 100)] ?? codeSlots[0] ?? 0, (nowMs - decidedMs) / 1000)
      if (upstreamFailure !== undefined) upstreamErrors.add(failureSlots.get(upstreamFailure) ?? 0)
    },
    streamOpened: (kind) => void streamsOpen.set(kind, (streamsOpen.get(kind) ?? 0) + 1),
    streamEnded(kind, reason) {
      streamsOpen.set(kind, (streamsOpen.get(kind) ?? 0) - 1)
      streamsEnded.add(streamsEnded.slot(kind, reason))
    },
    tokenCache: (hit) => cache.add(hit ? cacheSlots.hit : cacheSlots.miss),
    jwksRefresh: (issuer, result) => refreshes.add(refreshes.slot(issuer, result)),
    jwksSuppressed: (issuer) => suppressed.add(suppressed.slot(issuer)),
    introspected(issuer, result, seconds) {
      asked.add(asked.slot(issuer, result))
      askedSeconds.observe(askedSeconds.slot(issuer), seconds)
    },
    polled: (issuer, result) => polls.add(polls.slot(issuer, result)),
    revoked: (issuer, cause) => hits.add(hits.slot(issuer, cause)),
    reloaded(success) {
      reloadedWell = success ? 1 : 0
      reloads.add(reloads.slot(success ? 'success' : 'failure'))
    },
    introduce(issuer) {
      for (const result of ['success', 'failure']) refreshes.slot(issuer, result)
      suppressed.slot(issuer)
      for (const result of introspectionResults) asked.slot(issuer, result)
      askedSeconds.slot(issuer)
      for (const form of tokenForms) decisions.slot('allow', 'ok', issuer, form)
      for (const result of pollResults) polls.slot(issuer, result)
      for (const cause of blacklistCauses) hits.slot(issuer, cause)
    },
  }

  function decisionSlot(decision: Decision): number {
    const issuer = decision.kind === 'allow' ? decision.principal?.issuer : decision.issuer
    const form = decision.kind === 'allow' ? decision.principal?.form : decision.form
    const { kind, reason } = decision
    if (issuer === undefined || form === undefined) {
      const key = `${reason} ${form} ${issuer?.issuer}`
      return kept(plainSlots, key, () => decisions.slot(kind, reason, issuer?.issuer ?? '', form ?? 'none'))
    }
    const known = issuerSlots.get(issuer)?.get(reason)?.get(form)
    if (known !== undefined) return known
    const byReason = kept(issuerSlots, issuer, () => new Map<string, Map<TokenForm, number>>())
    const byForm = kept(byReason, reason, () => new Map<TokenForm, number>())
    return kept(byForm, form, () => decisions.slot(kind, reason, issuer.issuer, form))
  }

  function slotsOfRule(rule: Rule): RuleSlots {
    // The rule of preflights stands before the first.
    const place = rule.index + 1
    const known = ruleSlots[place]
    // After a reload another one stands there.
    if (known?.id === rule.id) return known
    const name = ruleNames.has(rule.id) || ruleNames.size < maxRules ? rule.id : 'other'
    ruleNames.add(name)
    const slots = { id: rule.id, allow: byRule.slot(name, 'allow'), deny: byRule.slot(name, 'deny') }
    while (ruleSlots.length <= place) ruleSlots.push(undefined)
    ruleSlots[place] = slots
    return slots
  }
}

/** Of a rule, by its id. */
type RuleSlots = { readonly id: string; readonly allow: number; readonly deny: number }

/** What a map holds for a key, made first where it holds nothing. */
function kept<K, V>(held: { get(key: K): V | undefined; set(key: K, value: V): unknown }, key: K, make: () => V): V {
  const known = held.get(key)
  if (known !== undefined) return known
  const made = make()
  held.set(key, made)
  return made
}
