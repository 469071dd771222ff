// The product's decision with its own caches, on the least wiring: one issuer, no blacklist.
import { readFileSync } from 'node:fs'
import type { Clock } from '../../../src/base/time.ts'
import type { Principal } from '../../../src/decision/decision.ts'
import type { HeaderFilter } from '../../../src/decision/headers.ts'
import { createHeaderFilter } from '../../../src/decision/headers.ts'
import { createPolicy } from '../../../src/decision/policy.ts'
import { compileRules, rulesOptions } from '../../../src/decision/rules.ts'
import { keepMs } from '../../../src/decision/unwrap.ts'
import { trustIssuer, trustOptions } from '../../../src/decision/verify.ts'
import type { Gateway } from '../../../src/gateway.ts'
import { createGateway } from '../../../src/gateway.ts'
import { createHttpClient } from '../../../src/io/http-client.ts'
import { createIntrospection } from '../../../src/sources/introspection.ts'
import { createJwks } from '../../../src/sources/jwks.ts'
import { createKnownTokens } from '../../../src/sources/known-tokens.ts'
import type { NodeSettings } from '../contestants/node-program.ts'
import { audience, issuer } from '../tokens.ts'

/** What a request is judged with. */
export type Judge = { readonly gateway: Gateway; readonly headers: HeaderFilter; readonly hosts: ReadonlySet<string> }

const hourMs = 3_600_000
const rules = Array.from({ length: 10 }, (_, at) => ({
  match: { methods: ['GET', 'POST'], path: `/r${at}/{id}` },
  scopes: ['read'],
}))

/** Makes the judge; resolves when the keys are read. */
export async function createJudge(settings: NodeSettings, clock: Clock): Promise<Judge> {
  const { jwksFile, introspection: endpoint } = settings
  const ignore = () => {}
  const log = { info: ignore, warn: ignore }
  const jwks = createJwks(
    { issuer, refresh: hourMs, cool_down: 30_000, stale_max: 2 * hourMs, leeway: 30_000 },
    { clock, random: Math.random, log, count: ignore, origin: { kind: 'file', read: () => readFileSync(jwksFile) } },
  )
  await jwks.refresh()
  const introspection = createIntrospection(
    { issuer, client_id: 'bench' },
    {
      clock,
      log,
      send: createHttpClient({}).send,
      endpoint: async () => endpoint ?? '',
      doubt() {},
      secret: () => 'bench-secret',
      observe: ignore,
    },
  )
  const known = createKnownTokens<Principal>(clock.monotonicMs)
  const trusted = trustIssuer(trustOptions.parse({ issuer, audience }), {
    answersMaxAgeMs: endpoint === undefined ? undefined : hourMs,
    pollIntervalMs: undefined,
  })
  const open = { match: { path: '/open/{id}' }, public: true }
  const policy = createPolicy(compileRules(rulesOptions.parse([...rules, open])), [trusted])
  const gateway = createGateway(
    policy,
    {
      known: (token, opaqueIssuer) => known.find(token, opaqueIssuer?.issuer),
      remember: (token, principal) =>
        known.remember(token, principal, keepMs(principal, clock.wallMs(), clock.monotonicMs())),
      forget: (token, from) => known.forget(token, from.issuer),
      holdsKey: ({ key }) => key === undefined || jwks.holds(key),
      keysAreStale: () => jwks.state().stale,
      key: (_issuer, wanted) => jwks.key(wanted),
      introspect: (_issuer, token, afterMs) => introspection.ask(token, afterMs),
      revoked: () => 'clear',
    },
    clock,
  )
  const identityHeaders = new Map([
    ['x-auth-subject', 'sub'],
    ['x-auth-client', 'client_id'],
    ['x-auth-scope', 'scope'],
  ])
  const headers = createHeaderFilter({ identityHeaders, keepHeaders: [] }, { isTrustedProxy: () => false })
  return { gateway, headers, hosts: new Set() }
}
