// What Prometheus reads, series by series, after a day on which one of everything happened.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { until } from '../support/until.ts'
import type { World } from './harness.ts'
import { openWorld } from './harness.ts'

/** Every series of a scrape, without the prefix, in the order of the page. */
async function scrape(world: World): Promise<ReadonlyMap<string, number>> {
  const response = await fetch(`http://127.0.0.1:${world.app.ports.health}/metrics`)
  const lines = (await response.text()).split('\n').filter((line) => line.startsWith('postern_'))
  return new Map(lines.map((line) => [line.slice(8, line.lastIndexOf(' ')), Number(/\S+$/.exec(line)?.[0])]))
}

/** An upstream that answers after 20 ms, or breaks off where the path says so. */
async function openUpstream(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      if (chunk.includes('/dead')) socket.resetAndDestroy()
      else setTimeout(() => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok'), 20)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  return {
    port,
    async [Symbol.asyncDispose]() {
      server.close()
    },
  }
}

const feed = { a: { blacklist: { url: 'ISS_A/blacklist' } }, more: { blacklist: { poll_interval: '100ms' } } }

test('the metrics of product.md §4 tell what happened: each counter, histogram and gauge once', async () => {
  await using upstream = await openUpstream()
  let losesLogs = false
  let polls = 0
  let lastPolledS = 0
  const [skewS, delayS] = [120, 40]
  const entry = { kind: 'jti', cause: 'client' }
  await using world = await openWorld({
    ...feed,
    upstream: upstream.port,
    losesLogs: () => losesLogs,
    before(a, b) {
      a.answer = ({ path }) => {
        if (path === '/introspect') return { json: { active: true, aud: 'api', scope: 'read' }, delay: 20 }
        if (path !== '/blacklist') return undefined
        polls += 1
        if (polls > 2) return { status: 500, json: {} }
        lastPolledS = Date.now() / 1000
        // The issuer's clock is behind ours; the second page is what came since the first.
        const server_time = Math.floor(a.nowS()) - skewS
        const [revoked_at, expires_at] = [server_time - delayS, server_time + 3600]
        const entries = [{ ...entry, seq: polls, value: `revoked-${polls}`, revoked_at, expires_at }]
        return {
          json: {
            epoch: 'e',
            cursor: String(polls),
            more: false,
            server_time,
            total_live: polls,
            reset: false,
            entries,
          },
        }
      }
      b.answer = ({ path }) => (path === '/introspect' ? { status: 500, json: {} } : undefined)
    },
  })
  const { a, b } = world
  await until(() => polls > 2, 'a poll that fails')
  const unknown = (kid: string) => world.ask({ path: '/any/1', token: world.mint({ kid }) })

  const got = [
    await world.ask({ path: '/any/1', token: world.mint() }),
    await world.ask({ path: '/any/1', token: 'opaque-token-of-the-metrics-test' }),
    await world.ask({ path: '/any/dead', token: world.mint() }),
    await world.ask({ path: '/any/1', token: world.mint({ claims: { jti: 'revoked-2' } }) }),
    await unknown('u1'),
    await unknown('u2'),
  ]
  for (let at = 0; at < 6; at += 1) got.push(await world.ask({ path: '/b/1', token: `opaque-token-for-b-${at}` }))
  losesLogs = true
  await world.ask({ path: '/public/1' })
  await until(() => world.count('postern_log_dropped_total{stream="stdout"}') > 0, 'a lost line')

  assert.deepEqual(
    got.map(({ reason }) => reason),
    [
      ...['ok', 'ok', 'upstream_reset', 'token_revoked', 'key_unknown', 'keys_unavailable'],
      ...Array.from({ length: 6 }, () => 'introspection_unavailable'),
    ],
  )
  const series = await scrape(world)
  const told = (name: string) => series.get(name.replaceAll('ISS_A', a.url).replaceAll('ISS_B', b.url))
  const exact: Readonly<Record<string, number>> = {
    'upstream_errors_total{kind="upstream_reset"}': 1,
    'upstream_errors_total{kind="upstream_connect"}': 0,
    'upstream_request_duration_seconds_count{code="2xx"}': 3,
    'upstream_request_duration_seconds_count{code="5xx"}': 1,
    'upstream_request_duration_seconds_count{code="aborted"}': 0,
    'jwks_refresh_total{issuer="ISS_A",result="success"}': 2,
    'jwks_refetch_suppressed_total{issuer="ISS_A"}': 1,
    'jwks_refetch_suppressed_total{issuer="ISS_B"}': 0,
    'jwks_keys{issuer="ISS_A"}': 3,
    'introspection_requests_total{issuer="ISS_A",result="active"}': 1,
    'introspection_requests_total{issuer="ISS_B",result="unavailable"}': 5,
    'introspection_requests_total{issuer="ISS_B",result="circuit_open"}': 1,
    'introspection_duration_seconds_count{issuer="ISS_A"}': 1,
    'introspection_duration_seconds_count{issuer="ISS_B"}': 6,
    'circuit_state{target="ISS_A"}': 0,
    'circuit_state{target="ISS_B"}': 2,
    'blacklist_entries{issuer="ISS_A"}': 2,
    'blacklist_polls_total{issuer="ISS_A",result="updated"}': 2,
    'blacklist_polls_total{issuer="ISS_A",result="refused"}': 0,
    'blacklist_hits_total{issuer="ISS_A",cause="client"}': 1,
    'blacklist_hits_total{issuer="ISS_A",cause="owner"}': 0,
    token_cache_entries: 4,
    config_last_reload_successful: 1,
    rules: 9,
    [`build_info{version="test",revision="of-the-test",node_version="${process.version}"}`]: 1,
  }
  assert.deepEqual(Object.fromEntries(Object.keys(exact).map((name) => [name, told(name)])), exact)
  const least: Readonly<Record<string, readonly [least: number, most: number]>> = {
    'upstream_request_duration_seconds_sum{code="2xx"}': [0.055, 10],
    'introspection_duration_seconds_sum{issuer="ISS_A"}': [0.015, 5],
    'blacklist_polls_total{issuer="ISS_A",result="unavailable"}': [1, 1000],
    'blacklist_last_success_timestamp_seconds{issuer="ISS_A"}': [lastPolledS - 5, lastPolledS],
    'jwks_last_success_timestamp_seconds{issuer="ISS_A"}': [lastPolledS - 5, Date.now() / 1000],
    // Of whole seconds of the issuer, and what a loaded machine took.
    'revocation_lag_seconds{issuer="ISS_A"}': [skewS + delayS, skewS + delayS + 3],
    'blacklist_clock_skew_seconds{issuer="ISS_A"}': [skewS, skewS + 3],
    'log_dropped_total{stream="stdout"}': [1, 1000],
  }
  for (const [name, [low, high]] of Object.entries(least)) {
    const value = told(name) ?? Number.NaN
    assert.ok(value >= low && value <= high, `${name} is ${value}, wanted ${low} to ${high}`)
  }
})

test('config_info names the configuration in use by its hash, and rules counts its rules', async () => {
  await using world = await openWorld({ b: null })
  const hashOf = async () => {
    const names = [...(await scrape(world)).keys()].filter((name) => name.startsWith('config_info'))
    assert.equal(names.length, 1)
    assert.match(names[0] ?? '', /^config_info\{hash="[0-9a-f]{16}"\}$/)
    return names[0]
  }
  const before = await hashOf()

  world.reload((configuration) => {
    configuration['rules'] = [{ match: { path: '/**' } }]
  })

  assert.notEqual(await hashOf(), before)
  assert.equal((await scrape(world)).get('rules'), 1)
  assert.equal((await scrape(world)).get('config_reloads_total{result="success"}'), 1)
})

/** Name to labels: those of product.md §4, and below the empty line those that are ours besides. */
const wanted: Readonly<Record<string, readonly string[]>> = {
  decisions_total: ['decision', 'reason', 'issuer', 'mode'],
  rule_decisions_total: ['rule', 'decision'],
  decision_duration_seconds: ['path'],
  upstream_request_duration_seconds: ['code'],
  upstream_errors_total: ['kind'],
  requests_in_flight: ['listener'],
  connections: ['listener'],
  token_cache_requests_total: ['result'],
  token_cache_entries: [],
  jwks_refresh_total: ['issuer', 'result'],
  jwks_keys: ['issuer'],
  jwks_last_success_timestamp_seconds: ['issuer'],
  jwks_refetch_suppressed_total: ['issuer'],
  introspection_requests_total: ['issuer', 'result'],
  introspection_duration_seconds: ['issuer'],
  circuit_state: ['target'],
  blacklist_entries: ['issuer'],
  blacklist_polls_total: ['issuer', 'result'],
  blacklist_last_success_timestamp_seconds: ['issuer'],
  blacklist_hits_total: ['issuer', 'cause'],
  revocation_lag_seconds: ['issuer'],
  config_reloads_total: ['result'],
  config_last_reload_successful: [],
  config_info: ['hash'],
  rules: [],
  log_dropped_total: ['stream'],
  build_info: ['version', 'revision', 'node_version'],

  blacklist_clock_skew_seconds: ['issuer'],
  blacklist_lookup_failing: ['issuer'],
  connections_dropped_total: ['listener', 'cause'],
  streams_ended_total: ['kind', 'reason'],
  streams_open: ['kind'],
}

test("the metrics are those of product.md §4, each with its labels, and Node's own", async () => {
  await using world = await openWorld({ ...feed, more: {} })
  await world.ask({ path: '/public/1' })

  const response = await fetch(`http://127.0.0.1:${world.app.ports.health}/metrics`)
  const text = await response.text()

  const types = [...text.matchAll(/^# TYPE postern_(\S+) (\S+)$/gm)].map(([, name = '', type = '']) => ({ name, type }))
  const found = types.map(({ name, type }) => {
    const series = new RegExp(`^postern_${name}${type === 'histogram' ? '_count' : ''}(?:\\{(.*)\\})? `, 'm').exec(text)
    assert.ok(series !== null, `${name} has no series`)
    return [name, [...(series[1] ?? '').matchAll(/([a-z_]+)="/g)].map(([, label]) => label)]
  })
  assert.deepEqual(Object.fromEntries(found), wanted)
  assert.match(text, /^nodejs_eventloop_lag_seconds /m)
  const labels: readonly (readonly [string, RegExp, readonly string[]])[] = [
    [
      'path',
      /decision_duration_seconds_count\{path="(\w+)"/g,
      ['introspect_cached', 'introspect_remote', 'jwt_cached', 'jwt_verified', 'none'],
    ],
    ['cause', /blacklist_hits_total\{.*cause="(\w+)"/g, ['admin', 'client', 'local', 'owner', 'replay']],
  ]
  for (const [label, series, values] of labels)
    assert.deepEqual([...new Set([...text.matchAll(series)].map(([, value = '']) => value))].sort(), values, label)
})
