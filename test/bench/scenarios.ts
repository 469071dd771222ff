// Who is measured with what: every row of the table, by group. The rows of a group are measured in turn.
import { apache } from './contestants/apache.ts'
import type { Contestant } from './contestants/contestant.ts'
import { envoy } from './contestants/envoy.ts'
import { gateway } from './contestants/gateway.ts'
import { haproxy } from './contestants/haproxy.ts'
import { nginx } from './contestants/nginx.ts'
import { nodeProgram } from './contestants/node-program.ts'
import type { Load } from './load/wrk.ts'
import type { ProofKind } from './measure/proof.ts'
import { coldTokens, manyRules, warmTokens } from './requests.ts'
import { bodySizes } from './upstream.ts'
import type { World } from './world.ts'

/** Whose row it is; also the word that selects it. */
export type By = 'gateway' | 'self' | 'haproxy' | 'nginx' | 'apache' | 'envoy' | 'express' | 'fastify'

/** One row of the table. */
export type Row = {
  /** Unique, and what verdicts find it by. */
  readonly id: string
  readonly name: string
  readonly by: By
  /** Rows that name the same one share its process. */
  readonly contestant: Contestant
  readonly proof: ProofKind
  readonly load: (world: World) => Load
  /** The row it is compared with; absent: the first of its group. */
  readonly against?: string
}

/** Rows that are measured in turn. */
export type Group = {
  readonly name: string
  readonly title: string
  readonly rows: readonly Row[]
  /** Processors of contestant and load; absent: one each. */
  readonly cpus?: string
  /**
   * Every round has processes of its own. Two of one program may differ by a tenth for as long as they live, which is
   * more than rows that are to be nearly the same may differ by.
   */
  readonly afresh?: true
  /** Of the time of a round; absent: all. */
  readonly share?: number
}

const connections = 64
// As much is on its way as with many small ones.
const largeConnections = 8
const self = (setting: Parameters<typeof nodeProgram>[2] = {}) => nodeProgram('thin/main.ts', 'undici', setting)

/** Every group of the bench, in the order of the table. */
export function listGroups(): readonly Group[] {
  return [
    warmGroup(),
    coldGroup(),
    opaqueGroup(),
    rulesGroup(),
    blacklistGroup(),
    bodiesGroup(),
    tlsGroup(),
    workersGroup(),
  ]
}

/** A file that is sent over and over. */
function cycle(file: (world: World) => string): Row['load'] {
  return (world) => ({ file: () => file(world), connections })
}

const warm = cycle(({ requests }) => requests.warm.rs256)

function warmGroup(): Group {
  const product = gateway()
  const thin = self()
  const open = cycle(({ requests }) => requests.open)
  const one = cycle(({ requests }) => requests.one)
  const es256 = cycle(({ requests }) => requests.warm.es256)
  const many = `${warmTokens} warm JWTs`
  return {
    name: 'warm',
    title: 'JWTs seen before, and no tokens at all',
    rows: [
      row('gateway-warm', `gateway, ${many}`, 'gateway', product, 'scoped', warm),
      row('gateway-one', 'gateway, 1 warm JWT', 'gateway', product, 'rs256', one),
      row('gateway-open', 'gateway, public rule', 'gateway', product, 'open', open),
      row('self-warm', `node:http + undici + cache, ${many}`, 'self', thin, 'rs256', warm),
      row('self-open', 'node:http + undici, public rule', 'self', thin, 'open', open),
      row('haproxy-rs256', 'HAProxy jwt_verify, RS256', 'haproxy', haproxy({ verify: 'rs256' }), 'rs256', warm),
      row('haproxy-es256', 'HAProxy jwt_verify, ES256', 'haproxy', haproxy({ verify: 'es256' }), 'es256', es256),
      row('envoy-cache', 'Envoy jwt_authn with its cache, RS256', 'envoy', envoy({ verify: 'cache' }), 'rs256', warm),
      row(
        'envoy-cache-scopes-log',
        'Envoy jwt_authn with its cache, RS256, scopes by its RBAC, and a log',
        'envoy',
        envoy({ verify: 'scopes', log: true }),
        'scoped',
        warm,
      ),
      row('apache-oidc', 'Apache mod_auth_openidc, RS256', 'apache', apache, 'rs256', warm),
      row(
        'fastify',
        'fastify + fast-jwt with its cache + http-proxy, RS256',
        'fastify',
        nodeProgram('contestants/fastify-stack.ts', 'fastify'),
        'rs256',
        warm,
      ),
      row(
        'express',
        'express + express-oauth2-jwt-bearer + http-proxy-middleware, RS256',
        'express',
        nodeProgram('contestants/express-stack.ts', 'express'),
        'rs256',
        warm,
      ),
      row('haproxy-bare', 'HAProxy, bare', 'haproxy', haproxy({ verify: 'bare' }), 'open', warm),
      row(
        'haproxy-bare-log',
        'HAProxy, bare, and a log',
        'haproxy',
        haproxy({ verify: 'bare', log: true }),
        'open',
        warm,
      ),
      row('nginx-bare', 'nginx, bare', 'nginx', nginx, 'open', warm),
      row('envoy-bare', 'Envoy, bare', 'envoy', envoy({ verify: 'bare' }), 'open', warm),
    ],
  }
}

function coldGroup(): Group {
  const [product, thin] = [gateway(), self()]
  const cold =
    (algorithm: 'rs256' | 'es256'): Row['load'] =>
    ({ requests }) => ({ file: (round) => requests.cold[algorithm][round] ?? '', connections, once: true })
  return {
    name: 'cold',
    title: `JWTs never seen before, ${coldTokens} a round`,
    rows: [
      row('gateway-cold-rs256', 'gateway, RS256', 'gateway', product, 'rs256', cold('rs256')),
      row('gateway-cold-es256', 'gateway, ES256', 'gateway', product, 'es256', cold('es256')),
      row('self-cold-rs256', 'node:http + undici, RS256', 'self', thin, 'rs256', cold('rs256')),
      row('self-cold-es256', 'node:http + undici, ES256', 'self', thin, 'es256', cold('es256')),
    ],
  }
}

function opaqueGroup(): Group {
  const load = cycle(({ requests }) => requests.opaque)
  return {
    name: 'opaque',
    title: `${warmTokens} opaque tokens, introspected before`,
    rows: [
      row('gateway-opaque', 'gateway', 'gateway', gateway({ opaque: true }), 'opaque', load),
      row('self-opaque', 'node:http + undici + cache', 'self', self({ opaque: true }), 'opaque', load),
    ],
  }
}

function rulesGroup(): Group {
  const many = gateway({ rules: 'many' })
  const spread = cycle(({ requests }) => requests.spread)
  return {
    name: 'rules',
    afresh: true,
    title: `${warmTokens} warm JWTs, against rules`,
    rows: [
      row('rules-few', '10 rules, all of them asked for', 'gateway', gateway(), 'rs256', warm),
      row('rules-many', `${manyRules} rules, 10 of them asked for`, 'gateway', many, 'rs256', warm),
      row('rules-spread', `${manyRules} rules, ${warmTokens} of them asked for`, 'gateway', many, 'rs256', spread),
    ],
  }
}

function blacklistGroup(): Group {
  return {
    name: 'blacklist',
    afresh: true,
    title: `${warmTokens} warm JWTs, against a blacklist`,
    rows: [
      row('blacklist-none', '0 entries', 'gateway', gateway({ blacklist: 0 }), 'rs256', warm),
      row('blacklist-million', '1000000 entries', 'gateway', gateway({ blacklist: 1_000_000 }), 'rs256', warm),
    ],
  }
}

function bodiesGroup(): Group {
  const bare = (upstream: 'answers' | 'sink') => haproxy({ verify: 'bare', upstream })
  const contestants = [
    { by: 'gateway', name: 'gateway', answers: gateway(), sink: gateway({ upstream: 'sink' }) },
    { by: 'self', name: 'node:http + undici', answers: self(), sink: self({ upstream: 'sink' }) },
    { by: 'haproxy', name: 'HAProxy, bare', answers: bare('answers'), sink: bare('sink') },
  ] as const
  const rows = Object.entries(bodySizes).flatMap(([size, bytes]) => {
    const several = bytes > 1_000_000 ? largeConnections : connections
    const answered: Row['load'] = ({ requests }) => ({
      file: () => requests.sized.get(size) ?? '',
      connections: several,
    })
    const sent: Row['load'] = ({ requests }) => ({
      file: () => requests.sent,
      connections: several,
      bodyBytes: bytes,
    })
    return [
      ...contestants.map(({ by, name, answers }) =>
        row(
          `${by}-answer-${bytes}`,
          `answer of ${size}, ${name}`,
          by,
          answers,
          proofOf(by),
          answered,
          `gateway-answer-${bytes}`,
        ),
      ),
      ...contestants.map(({ by, name, sink }) =>
        row(`${by}-body-${bytes}`, `request of ${size}, ${name}`, by, sink, proofOf(by), sent, `gateway-body-${bytes}`),
      ),
    ]
  })
  return { name: 'bodies', title: 'bodies, warm JWTs', rows, share: 0.5 }
}

function tlsGroup(): Group {
  const bare = haproxy({ verify: 'bare', tls: true })
  return {
    name: 'tls',
    title: `${warmTokens} warm JWTs over TLS 1.3, kept connections`,
    rows: [
      row('gateway-tls', 'gateway', 'gateway', gateway({ tls: true }), 'rs256', warm),
      row('haproxy-tls', 'HAProxy, bare', 'haproxy', bare, 'open', warm),
    ],
  }
}

function workersGroup(): Group {
  return {
    name: 'workers',
    afresh: true,
    title: `${warmTokens} warm JWTs, two processors shared with the load`,
    cpus: '0,1',
    rows: [
      row('workers-one', '1 worker', 'gateway', gateway(), 'rs256', warm),
      row('workers-two', '2 workers', 'gateway', gateway({ workers: 2 }), 'rs256', warm),
      // What a second processor costs here, whoever uses it.
      row('haproxy-one', 'HAProxy, bare, 1 thread', 'haproxy', haproxy({ verify: 'bare' }), 'open', warm),
      row(
        'haproxy-two',
        'HAProxy, bare, 2 threads',
        'haproxy',
        haproxy({ verify: 'bare', threads: 2 }),
        'open',
        warm,
        'haproxy-one',
      ),
    ],
  }
}

function row(
  id: string,
  name: string,
  by: By,
  contestant: Contestant,
  proof: ProofKind,
  load: Row['load'],
  against?: string,
): Row {
  return { id, name, by, contestant, proof, load, ...(against === undefined ? {} : { against }) }
}

function proofOf(by: By): ProofKind {
  return by === 'haproxy' ? 'open' : 'rs256'
}
