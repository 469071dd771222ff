// What workers are handed: keys and lists that the primary alone fetches, and the configuration.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { directory } from '../cli/process.ts'
import { createSigner } from '../support/tokens.ts'
import { until } from '../support/until.ts'
import type { WorkersWorld } from './workers-world.ts'
import { askAll, openWorkers, reasonsOf, rules, statusesOf } from './workers-world.ts'

const pollMs = 500

/** Both workers must be among those who answer. */
async function lanesToBoth(world: WorkersWorld) {
  const lanes = world.lanes(16)
  await askAll(lanes, '/open', 'none')
  for (const { connections } of await world.workers()) assert.ok(connections >= 6, `${connections} connections`)
  return lanes
}

test('the primary alone fetches keys, and has them before a worker is asked', async () => {
  await using world = await openWorkers({ workers: 3 })
  await world.gateway.ready()

  const answers = await askAll(world.lanes(24), '/orders/1', world.token())

  assert.deepEqual(statusesOf(answers), [200])
  assert.equal(world.issuer.count('/jwks'), 1)
})

test('/status says nothing of introspection where workers ask, and how it is where this process does', async () => {
  for (const [workers, told] of [
    [2, undefined],
    [1, 'closed'],
  ] as const) {
    await using world = await openWorkers({ workers })
    await world.gateway.ready()

    const { issuers } = (await world.gateway.status()) as { issuers: [{ introspection?: { circuit: string } }] } // as app/probes.ts says it

    assert.equal(issuers[0].introspection?.circuit, told)
  }
})

test('a key that no worker knows is fetched once for all of them, and so is one that does not exist', async () => {
  await using world = await openWorkers({ issuer: { jwks: { cool_down: '30s' } } })
  await world.gateway.ready()
  const lanes = await lanesToBoth(world)
  const second = createSigner('second')
  world.issuer.keys = [world.signer.jwk, second.jwk]

  const answers = await askAll(lanes, '/orders/1', world.token({}, second))
  const unknown = await askAll(lanes, '/orders/1', world.token({}, createSigner('third')))

  assert.deepEqual(statusesOf(answers), [200])
  // It may be newer than that fetch, and the cool-down of all of them allows no other.
  assert.deepEqual(statusesOf(unknown), [503])
  assert.deepEqual(reasonsOf(unknown), ['keys_unavailable'])
  assert.equal(world.issuer.count('/jwks'), 2)
})

test('workers without keys answer 503 and are not ready; once ready, every one of them has the keys', async () => {
  let isDown = true
  await using world = await openWorkers({
    issuer: { jwks: { cool_down: '1s' } },
    prepare: (issuer) => {
      issuer.answer = ({ path }) => (isDown && path === '/jwks' ? { status: 500, json: {} } : undefined)
    },
  })
  const lanes = await lanesToBoth(world)

  const before = await askAll(lanes, '/orders/1', world.token())
  const unready = await world.gateway.health('/readyz')
  isDown = false
  await world.gateway.ready()
  const after = await askAll(lanes, '/orders/1', world.token())

  assert.deepEqual(statusesOf(before), [503])
  assert.deepEqual(reasonsOf(before), ['keys_unavailable'])
  assert.equal(unready.status, 503)
  assert.equal((await world.gateway.health('/startupz')).status, 200)
  assert.deepEqual(statusesOf(after), [200])
})

test('workers without the first complete blacklist answer 503 and are not ready; once ready, all of them have it', async () => {
  let isDown = true
  await using world = await openFeedWorld((path) => isDown && path === '/blacklist')
  world.issuer.revoked.push({ kind: 'jti', value: 'gone' })
  const lanes = await lanesToBoth(world)

  const before = await askAll(lanes, '/orders/1', world.token())
  const unready = await world.gateway.health('/readyz')
  isDown = false
  await world.gateway.ready()
  const after = await askAll(lanes, '/orders/1', world.token())
  const revoked = await askAll(lanes, '/orders/1', world.token({ jti: 'gone' }))

  assert.deepEqual(reasonsOf(before), ['blacklist_stale'])
  assert.equal(unready.status, 503)
  assert.deepEqual(statusesOf(after), [200])
  assert.deepEqual(reasonsOf(revoked), ['token_revoked'])
})

test('a revocation reaches every worker within a poll and a second, and a worker that comes later knows of it', async () => {
  await using world = await openFeedWorld(() => false)
  await world.gateway.ready()
  const lanes = await lanesToBoth(world)
  const token = world.token({ jti: 'gone' })
  assert.deepEqual(statusesOf(await askAll(lanes, '/orders/1', token)), [200])

  world.issuer.revoked.push({ kind: 'jti', value: 'gone' })
  const revokedMs = performance.now()
  await until(
    async () => statusesOf(await askAll(lanes, '/orders/1', token)).join() === '401',
    'the revocation to hold in every worker',
  )
  const lagMs = performance.now() - revokedMs
  const polled = world.issuer.count('/blacklist')
  for (const pid of await world.serving(2)) process.kill(pid, 'SIGKILL')
  await until(() => world.gateway.logged('worker_exited').length === 2, 'both to be told of as ended')
  await world.serving(2)
  const later = await askAll(world.lanes(16), '/orders/1', token)

  assert.ok(lagMs < pollMs + 1000, `${lagMs} ms`)
  assert.deepEqual(reasonsOf(later), ['token_revoked'])
  assert.ok(polled >= 2)
})

test('each worker asks an issuer about an opaque token by itself, and once for all who wait', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const lanes = await lanesToBoth(world)
  const nowS = Math.floor(Date.now() / 1000)
  const claims = { sub: 'alice', scope: 'orders:read', client_id: 'web', aud: 'orders-api', exp: nowS + 3600 }
  world.issuer.tokens.set('opaque', { active: true, iss: world.issuer.url, jti: 'o', iat: nowS, ...claims })

  for (let round = 0; round < 3; round += 1)
    assert.deepEqual(statusesOf(await askAll(lanes, '/orders/1', 'opaque')), [200])

  assert.equal(world.issuer.count('/introspect'), 2)
})

test('a secret that is gone is held by the workers, missed by one that comes later, and /readyz?verbose says so', async () => {
  using files = directory()
  const file = files.write('secret', 'a-secret')
  await using world = await openWorkers({
    issuer: { introspection: { client_id: 'gateway', client_secret: { file } } },
  })
  await world.gateway.ready()
  const before = await lanesToBoth(world)

  rmSync(file)
  // A secret is looked at once a second.
  await sleep(1000)
  const held = await askAll(before, '/orders/1', 'opaque-held')
  const [victim = 0] = await world.serving(2)
  process.kill(victim, 'SIGKILL')
  await until(() => world.gateway.logged('worker_exited').length === 1, 'it to be told of as ended')
  await world.serving(2)
  const later = await askAll(await lanesToBoth(world), '/orders/1', 'opaque-later')
  const { text } = await world.gateway.health('/readyz?verbose')

  assert.deepEqual(reasonsOf(held), ['token_inactive'])
  assert.deepEqual(reasonsOf(later).toSorted(), ['introspection_unavailable', 'token_inactive'])
  assert.match(text, /^\[!\] secrets: .*tokens that a worker started anew asks about get 503 .*: Cannot read secret/m)
})

test('polls of two workers are those of one: the primary polls', async () => {
  await using world = await openFeedWorld(() => false)
  await world.gateway.ready()
  const [before, startMs] = [world.issuer.count('/blacklist'), performance.now()]

  await until(() => performance.now() - startMs > pollMs * 4, 'four polls to be due')

  // Jitter makes an interval shorter by a tenth at most.
  const polls = world.issuer.count('/blacklist') - before
  const mostPolls = (performance.now() - startMs) / (pollMs * 0.9) + 1
  assert.ok(polls >= 2 && polls <= mostPolls, `${polls} polls, at most ${mostPolls} wanted`)
})

test('a list that the primary holds grows old in the workers, too, while its issuer is silent', async () => {
  let isDown = false
  await using world = await openFeedWorld((path) => isDown && path === '/blacklist', { max_staleness: '2s' })
  await world.gateway.ready()
  const lanes = await lanesToBoth(world)
  assert.deepEqual(statusesOf(await askAll(lanes, '/orders/1', world.token())), [200])

  isDown = true

  await until(
    async () => reasonsOf(await askAll(lanes, '/orders/1', world.token())).join() === 'blacklist_stale',
    'the list to be too old in every worker',
  )
})

test('workers that cannot ask about tokens beyond their list say so in a metric, until a poll after they can', async () => {
  let isDown = true
  await using world = await openFeedWorld(() => false, { cache_size: 1 })
  world.issuer.answer = ({ path }) =>
    path === '/blacklist/lookup' ? { status: isDown ? 500 : 200, json: { revoked: false, seq: 2 } } : undefined
  for (const value of ['one', 'two']) world.issuer.revoked.push({ kind: 'jti', value })
  const lanes = await lanesToBoth(world)
  await world.gateway.ready()
  const failing = async () =>
    (await world.gateway.metrics()).get(`postern_blacklist_lookup_failing{issuer="${world.issuer.url}"}`)
  assert.equal(await failing(), 0)

  const token = world.token()
  const refused = () => askAll(lanes, '/orders/1', token)
  await until(
    async () => reasonsOf(await refused()).join() === 'blacklist_stale' && (await failing()) === 1,
    'both to refuse, and the metric to say so',
  )
  isDown = false

  await until(
    async () => statusesOf(await refused()).join() === '200' && (await failing()) === 0,
    'both to serve, and the metric to say so',
  )
})

test('a reload reaches every worker, a refused one none, and one that starts later runs what the others run', async () => {
  await using world = await openWorkers()
  await world.gateway.ready()
  const lanes = await lanesToBoth(world)
  const renamed = rules.map((rule) => (rule.id === 'open' ? { ...rule, match: { path: '/new' } } : rule))
  const hashes = async () => new Set((await world.workers()).map(({ config_hash }) => config_hash))
  const [before] = await hashes()

  world.gateway.configure({ nonsense: true })
  world.gateway.signal('SIGHUP')
  await until(() => world.gateway.logged('config_refused').length > 0, 'the configuration to be refused')
  assert.deepEqual([...(await hashes())], [before])
  assert.deepEqual(statusesOf(await askAll(lanes, '/open', 'none')), [200])

  world.configure({ rules: renamed })
  world.gateway.signal('SIGHUP')
  await until(
    async () => [...(await hashes())].length === 1 && !(await hashes()).has(before ?? ''),
    'every worker to run the new configuration',
  )
  assert.deepEqual(statusesOf(await askAll(lanes, '/open', 'none')), [403])
  assert.deepEqual(statusesOf(await askAll(lanes, '/new', 'none')), [200])

  for (const pid of await world.serving(2)) process.kill(pid, 'SIGKILL')
  await until(() => world.gateway.logged('worker_exited').length === 2, 'both to be told of as ended')
  assert.deepEqual(statusesOf(await askAll(world.lanes(8), '/new', 'none')), [200])
})

test("workers judge by the operator's list as the primary has read it, whatever the file holds by then", async () => {
  using files = directory()
  const file = files.write('denied.yaml', 'version: 1\nentries: []\n')
  await using world = await openWorkers({ more: { blacklist: { local: { file } } } })
  await world.gateway.ready()
  const lanes = await lanesToBoth(world)
  const token = world.token({ sub: 'mallory' })
  assert.deepEqual(statusesOf(await askAll(lanes, '/orders/1', token)), [200])

  files.write('denied.yaml', 'version: 1\nentries: [{ kind: sub, value: mallory }]\n')
  world.gateway.signal('SIGHUP')
  await until(
    async () => reasonsOf(await askAll(lanes, '/orders/1', token)).join() === 'token_revoked',
    'the list to hold in every worker',
  )
  files.write('denied.yaml', 'version: 1\nentries: nonsense\n')
  world.gateway.signal('SIGHUP')
  await until(() => world.gateway.logged('config_refused').length > 0, 'the configuration to be refused')
  for (const pid of await world.serving(2)) process.kill(pid, 'SIGKILL')
  await until(() => world.gateway.logged('worker_exited').length === 2, 'both to be told of as ended')
  await world.serving(2)

  assert.deepEqual(reasonsOf(await askAll(world.lanes(8), '/orders/1', token)), ['token_revoked'])
})

test("workers judge by the operator's list that came into force alone, also one that comes later, and with the latest of dates", async () => {
  using files = directory()
  const file = files.write('denied.yaml', 'version: 1\nentries: [{ kind: sub, value: eve }]\n')
  const blacklist = { local: { file } }
  await using world = await openWorkers({ more: { blacklist } })
  await world.gateway.ready()
  const lanes = await lanesToBoth(world)
  const token = world.token({ sub: 'mallory' })
  world.configure({ rules: 'a slip' })
  await until(() => world.gateway.logged('config_refused').length > 0, 'the configuration to be refused')

  const latest = '{ kind: sub, value: mallory, expires_at: 9999-12-31T23:59:59.9999999Z }'
  files.write('denied.yaml', `version: 1\nentries: [${latest}]\n`)
  world.gateway.signal('SIGHUP')
  await until(
    async () => reasonsOf(await askAll(lanes, '/orders/1', token)).join() === 'token_revoked',
    'the list to hold in every worker',
  )
  for (const pid of await world.serving(2)) process.kill(pid, 'SIGKILL')
  await until(() => world.gateway.logged('worker_exited').length === 2, 'both to be told of as ended')
  await world.serving(2)

  const kept = world.token({ sub: 'eve' })
  for (const each of [token, kept])
    assert.deepEqual(reasonsOf(await askAll(world.lanes(8), '/orders/1', each)), ['token_revoked'])
})

/** With a feed that fails when it is said to. */
async function openFeedWorld(fails: (path: string) => boolean, blacklist: Readonly<Record<string, unknown>> = {}) {
  return await openWorkers({
    prepare(issuer) {
      issuer.answer = ({ path }) => (fails(path) ? { status: 500, json: {} } : undefined)
    },
    hasFeed: true,
    more: { blacklist: { poll_interval: `${pollMs}ms`, ...blacklist } },
  })
}
