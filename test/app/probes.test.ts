import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import type { Running } from '../../src/app/configuration.ts'
import { isFarOff } from '../../src/app/issuer-sources.ts'
import { createProbes } from '../../src/app/probes.ts'
import type { World } from '../acceptance/harness.ts'
import { openWorld } from '../acceptance/harness.ts'
import { until } from '../support/until.ts'

/** What /readyz?verbose says of one thing, behind its mark. */
async function lineOf(world: World, name: string): Promise<string | undefined> {
  const text = await (await fetch(`http://127.0.0.1:${world.app.ports.health}/readyz?verbose`)).text()
  const found = text.split('\n').find((line) => line.slice(4).startsWith(`${name}: `))
  return found?.replace(`${name}: `, '')
}

test('createProbes() is not ready before all workers have keys and lists, and then for as long as one serves', () => {
  let [serves, loaded, draining] = [true, false, false]
  const probes = createProbes({
    running: () => ({ sources: [] }) as unknown as Running, // an issuer less than one: all that is looked at
    isDraining: () => draining,
    refusal: () => undefined,
    restart: () => [],
    unreadable: () => [],
    workers: () => ({
      checks: () => [{ name: 'workers', ok: serves, said: '' }],
      loaded: () => [{ name: 'keys and lists of workers', ok: loaded, said: '' }],
      notes: () => [],
      status: () => undefined,
    }),
  })

  assert.equal(probes.isReady(), false)
  loaded = true
  assert.equal(probes.isReady(), true)
  // One that was started anew is being sent what it needs: the others serve.
  loaded = false
  assert.equal(probes.isReady(), true)
  serves = false
  assert.equal(probes.isReady(), false)
  serves = true
  draining = true
  assert.equal(probes.isReady(), false)
})

test('createProbes() marks keys and a list that are too old with what becomes of the tokens, and stays ready', async () => {
  await using world = await openWorld({ a: { blacklist: { url: 'ISS_A/blacklist' } } })
  const lines = async () => [
    await lineOf(world, `keys of ${world.a.url}`),
    await lineOf(world, `blacklist of ${world.a.url}`),
  ]
  assert.deepEqual(await lines(), ['[+] 3 keys', '[+] 0 entries'])

  world.pass(3_600_001)

  const [keys = '', list = ''] = await lines()
  assert.match(keys, /^\[-\] too old, last good fetch 20\S+Z \(jwks\.stale_max 1h\): its JWTs get 503 keys_unavailable/)
  assert.match(
    list,
    /^\[-\] too old, last good poll 20\S+Z \(1h(?:\ds)? ago, max_staleness 5m\): its tokens get 503 blacklist_stale/,
  )
  assert.equal((await world.ask({ path: '/read/x', token: world.mint() })).status, 503)
  assert.ok(world.app.isReady())
})

for (const { onStale, said } of [
  { onStale: 'introspect', said: 'its tokens are introspected (on_stale)' },
  { onStale: 'allow', said: 'what was revoked since is let in (on_stale)' },
]) {
  test(`createProbes() says of a list that is too old with on_stale: ${onStale}: ${said}`, async () => {
    await using world = await openWorld({
      a: { blacklist: { url: 'ISS_A/blacklist' } },
      more: { blacklist: { on_stale: onStale } },
    })

    world.pass(600_000)

    const line = await lineOf(world, `blacklist of ${world.a.url}`)
    assert.ok(line?.startsWith('[!] too old') === true && line.includes(said), said)
  })
}

test('createProbes() marks an issuer that is not required, and whose keys and list were never loaded', async () => {
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' }, required: false },
    before: (a) => {
      a.answer = () => ({ status: 502, json: {} })
    },
    ready: false,
  })
  await until(() => ['jwks_failed', 'poll_failed'].every((event) => world.logs().includes(event)), 'the failures')
  await until(() => world.app.isReady(), 'the other issuer')

  assert.equal(
    await lineOf(world, `blacklist of ${world.a.url}`),
    `[-] not loaded yet: its tokens get 503 blacklist_stale; Cannot read the blacklist at ${world.a.url}/blacklist: status is 502, wanted 200`,
  )
  assert.equal(
    await lineOf(world, `keys of ${world.a.url}`),
    `[-] not loaded yet: its JWTs get 503 keys_unavailable; Cannot load metadata from ${world.a.url}/.well-known/openid-configuration: status is 502, wanted 200`,
  )
})

test('createProbes() marks with [!] keys that could not be fetched anew, while they are used', async () => {
  await using world = await openWorld({ a: { jwks: { refresh: '50ms' } } })

  world.a.answer = () => ({ status: 502, json: {} })
  await until(() => world.logs().includes('jwks_failed'), 'the failure')

  const line = await lineOf(world, `keys of ${world.a.url}`)
  assert.match(line ?? '', /^\[!\] 3 keys; Cannot load keys from http:\S+\/jwks: status is 502, wanted 200$/)
})

test('createProbes() marks keys with [!] while the cool-down forbids a fetch for a kid that is not among them', async () => {
  await using world = await openWorld({ a: { jwks: { cool_down: '30s' } } })
  const line = async () => (await lineOf(world, `keys of ${world.a.url}`)) ?? ''
  // Signed after the set was fetched, as far as anybody can tell.
  const invented = (kid: string) => world.ask({ path: '/read/x', token: world.mint({ kid }) })

  const first = await invented('no-1')
  const quiet = await line()
  const second = await invented('no-2')
  const during = await line()
  world.pass(30_000)
  const after = await line()

  assert.deepEqual([first.reason, second.reason], ['key_unknown', 'keys_unavailable'])
  assert.deepEqual([quiet, after], ['[+] 3 keys', '[+] 3 keys'])
  assert.equal(
    during,
    '[!] 3 keys; tokens of a key that may be newer get 503 keys_unavailable until jwks.cool_down is over',
  )
  assert.ok(world.app.isReady())
})

test('createProbes() says that questions to an issuer fail, and what becomes of the tokens, and stays ready', async () => {
  await using world = await openWorld()
  const line = async () => (await lineOf(world, `introspection of ${world.a.url}`)) ?? ''
  const before = await line()
  world.a.answer = ({ path }) => (path === '/introspect' ? { status: 500, json: {} } : undefined)

  const { reason } = await world.ask({ path: '/a/x', token: 'opaque-0' })
  const once = await line()
  for (let at = 1; at < 6; at += 1) await world.ask({ path: '/a/x', token: `opaque-${at}` })
  const open = await line()

  assert.equal(reason, 'introspection_unavailable')
  assert.match(before, /^\[\+\] /)
  assert.match(
    once,
    /^\[-\] the last question failed, and its token got 503 introspection_unavailable; Cannot introspect at \S+: status is 500, wanted 200$/,
  )
  assert.match(
    open,
    /^\[-\] circuit open: tokens it is asked about get 503 introspection_unavailable; Cannot introspect/,
  )
  assert.ok(world.app.isReady())
})

test('createProbes() marks a failed question with [-] for a minute, and an answer that is no verdict by its own reason', async () => {
  await using world = await openWorld()
  world.a.answer = ({ path }) =>
    path === '/introspect' ? { status: 401, json: { error: 'invalid_client' } } : undefined
  const line = async () => (await lineOf(world, `introspection of ${world.a.url}`)) ?? ''

  const { reason } = await world.ask({ path: '/a/x', token: 'opaque' })
  const soon = await line()
  world.pass(90_000)
  const late = await line()

  assert.equal(reason, 'introspection_invalid')
  assert.match(soon, /^\[-\] the last question failed, and its token got 503 introspection_invalid; Cannot use .*401/)
  assert.match(late, /^\[!\] the last question failed 1m30s ago, and its token got 503 introspection_invalid; /)
})

test('createProbes() marks with [!] a circuit that is half open: the next token is asked about', async () => {
  await using world = await openWorld()
  world.a.answer = ({ path }) => (path === '/introspect' ? { status: 500, json: {} } : undefined)
  for (let at = 0; at < 5; at += 1) await world.ask({ path: '/a/x', token: `opaque-${at}` })
  const state = () => world.count(`postern_circuit_state{target="${world.a.url}"}`)
  assert.equal(state(), 2)

  world.pass(5000)

  assert.match(
    (await lineOf(world, `introspection of ${world.a.url}`)) ?? '',
    /^\[!\] circuit half open: one question tries it, and others meanwhile get 503; Cannot introspect/,
  )
  assert.equal(state(), 1)
})

test('createProbes() marks with [-] an issuer that is left alone because it has asked for that', async () => {
  await using world = await openWorld()
  world.a.answer = ({ path }) =>
    path === '/introspect' ? { status: 429, headers: { 'retry-after': '30' }, json: {} } : undefined
  await world.ask({ path: '/a/x', token: 'opaque' })

  world.pass(29_000)

  const line = await lineOf(world, `introspection of ${world.a.url}`)
  assert.match(line ?? '', /^\[-\] circuit open: tokens it is asked about get 503 .* status is 429, wanted 200$/)
  assert.equal(world.count(`postern_circuit_state{target="${world.a.url}"}`), 2)
})

test('createProbes() and the log say that an issuer was so slow that tokens were refused as overloaded', async () => {
  await using world = await openWorld()
  world.a.answer = ({ path }) => (path === '/introspect' ? { delay: 1200, json: { active: false } } : undefined)
  const line = async () => (await lineOf(world, `introspection of ${world.a.url}`)) ?? ''

  const asked = Array.from({ length: 80 }, (_, at) => world.ask({ path: '/a/x', token: `opaque-${at}` }))
  const reasons = (await Promise.all(asked)).map(({ reason }) => reason)

  assert.ok(reasons.includes('overloaded'))
  assert.match(await line(), /^\[!\] tokens got 503 overloaded within the last minute, .*; 0 are now$/)
  assert.equal(world.logs().match(/"event\.name":"introspection_overloaded"/g)?.length, 1)
  world.pass(60_000)
  assert.match(await line(), /^\[\+\] /)
  assert.ok(world.app.isReady())
})

test('createProbes() marks with [-] an issuer that has as many questions as it gets, where others were refused for it', () => {
  const state = () => ({ circuit: 'closed', inFlight: 64, overload: 'now' })
  const source = { options: { issuer: 'https://issuer.test' }, introspection: { state } }
  const probes = createProbes({
    running: () => ({ sources: [source] }) as unknown as Running, // an issuer as far as notes look at one
    isDraining: () => false,
    refusal: () => undefined,
    restart: () => [],
    unreadable: () => [],
    workers: () => undefined,
  })

  const note = probes.notes().find(({ name }) => name === 'introspection of https://issuer.test')

  assert.deepEqual([note?.ok, note?.mark], [false, '-'])
  assert.equal(
    note?.said,
    '64 questions under way, as many as it gets at a time: others wait, and get 503 overloaded after 500ms',
  )
})

test('createProbes() marks a list whose issuer cannot be asked about the tokens that have no room in it, and stays ready', async () => {
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { cache_size: 1, on_stale: 'allow' } },
    before(a) {
      for (const value of ['one', 'two']) a.revoked.push({ kind: 'jti', value })
      a.answer = ({ path }) => (path === '/blacklist/lookup' ? { status: 500, json: {} } : undefined)
    },
  })
  const line = () => lineOf(world, `blacklist of ${world.a.url}`)
  const failing = () => world.count(`postern_blacklist_lookup_failing{issuer="${world.a.url}"}`)
  assert.deepEqual([await line(), failing()], ['[+] 1 entries', 0])

  const { reason } = await world.ask({ path: '/read/x', token: world.mint() })

  assert.equal(reason, 'blacklist_stale')
  assert.match(
    (await line()) ?? '',
    /^\[-\] 1 entries; tokens that it has to be asked about get 503 blacklist_stale; Cannot read .* status is 500/,
  )
  assert.equal(failing(), 1)
  assert.ok(world.app.isReady())
})

test('createProbes() says by how much the clock is off, where an issuer has a list that tells', async () => {
  const page = { epoch: 'e', cursor: '0', more: false, total_live: 0, reset: true, entries: [] }
  let aheadS = 0
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { poll_interval: '1s' } },
    before(a) {
      a.answer = ({ path }) =>
        path === '/blacklist' ? { json: { ...page, server_time: Math.floor(a.nowS()) + aheadS } } : undefined
    },
  })
  const before = await lineOf(world, `clock beside ${world.a.url}`)
  const warnings = () => world.logs().match(/"event\.name":"clock_skew"/g)?.length ?? 0

  aheadS = 3600
  await until(() => warnings() > 0, 'the warning')
  const off = await lineOf(world, `clock beside ${world.a.url}`)
  const polls = world.a.count('/blacklist')
  await until(() => world.a.count('/blacklist') > polls + 1, 'another poll')
  assert.equal(warnings(), 1, 'once a minute')
  world.pass(60_000)

  await until(() => warnings() > 1, 'the second warning, with no good moment between')
  assert.match(before ?? '', /^\[\+\] \d\.\d s (?:ahead|behind)$/)
  assert.match(off ?? '', /^\[!\] (?:3599|3600)\.\d s behind: times in its tokens are misjudged$/)
  assert.ok(world.app.isReady())
})

for (const { skewS, purge_delay, far } of [
  { skewS: 0.999, purge_delay: 30_000, far: false },
  { skewS: 1.001, purge_delay: 30_000, far: true },
  { skewS: -0.001, purge_delay: 30_000, far: true },
  { skewS: 31, purge_delay: 60_000, far: false },
  { skewS: 31.001, purge_delay: 60_000, far: true },
  { skewS: -30, purge_delay: 60_000, far: false },
  { skewS: -30.001, purge_delay: 60_000, far: true },
]) {
  test(`isFarOff() ${far ? 'warns' : 'does not warn'} of a clock ${skewS} s ahead of whole seconds, with 30 s of leeway and ${purge_delay} ms of delay`, () => {
    assert.equal(isFarOff(skewS, { leeway: 30_000 }, { purge_delay }), far)
  })
}

test('createProbes() says that a secret cannot be read any more, while the one from before is used, by the first token too', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'postern-probes-'))
  const file = path.join(directory, 'secret')
  writeFileSync(file, 'a-secret', { mode: 0o600 })
  await using world = await openWorld({ a: { introspection: { client_id: 'gateway', client_secret: { file } } } })

  rmSync(directory, { recursive: true })
  world.pass(1000)
  const { reason } = await world.ask({ path: '/a/x', token: 'opaque' })
  const line = await lineOf(world, 'secrets')

  assert.equal(reason, 'token_inactive', 'the issuer was asked')
  assert.match(line ?? '', /^\[!\] a restart would fail, and what was read before is used: Cannot read secret: file /)
  assert.ok(world.app.isReady())
})

const missed = {
  'introspection.client_secret, and of a list that has room for all': {
    options: { introspection: { client_secret: { file: '/run/secret' } }, blacklist: {} },
    lookups: false,
    said: 'tokens that a worker started anew asks about get 503 introspection_unavailable: ',
  },
  'blacklist.client_secret': {
    options: { blacklist: { client_secret: { file: '/run/secret' } } },
    lookups: false,
    said: 'what was read before is used: ',
  },
  'blacklist.client_secret, of a list beyond its cache_size': {
    options: {
      introspection: { client_secret: { env: 'SECRET' } },
      blacklist: { client_secret: { file: '/run/secret' } },
    },
    lookups: true,
    said: 'tokens that a worker started anew asks about get 503 blacklist_stale: ',
  },
  'introspection.client_secret, of a list beyond its cache_size, too': {
    options: { introspection: { client_secret: { file: '/run/secret' } }, blacklist: {} },
    lookups: true,
    said: 'tokens that a worker started anew asks about get 503 introspection_unavailable or blacklist_stale: ',
  },
}
for (const [what, { options, lookups, said }] of Object.entries(missed)) {
  test(`createProbes() says what becomes of tokens in a worker started anew without ${what}`, () => {
    const source = { options, blacklist: { state: () => ({ lookups }) } }
    const probes = createProbes({
      running: () => ({ sources: [source] }) as unknown as Running, // an issuer as far as notes look at one
      isDraining: () => false,
      refusal: () => undefined,
      restart: () => [],
      unreadable: (sources) =>
        sources.flatMap((each) => ('file' in each ? [{ failure: 'Cannot read secret', isHeld: true }] : [])),
      workers: () => ({ checks: () => [], loaded: () => [], notes: () => [], status: () => undefined }),
    })

    const secrets = probes.notes().find(({ name }) => name === 'secrets')

    assert.equal(secrets?.said, `a restart would fail, and ${said}Cannot read secret`)
    assert.equal(secrets?.mark, undefined)
  })
}

test('createProbes() marks with [-] a secret that was never read: what needs it is refused', () => {
  const client_secret = { file: '/run/secret' }
  const options = { introspection: { client_id: 'gateway', client_secret } }
  const source = { options, introspection: { state: () => ({ circuit: 'closed' }) } }
  const probes = createProbes({
    running: () => ({ sources: [source] }) as unknown as Running, // an issuer as far as notes look at one
    isDraining: () => false,
    refusal: () => undefined,
    restart: () => [],
    unreadable: (sources) => sources.map(() => ({ failure: 'Cannot read secret', isHeld: false })),
    workers: () => undefined,
  })

  const secrets = probes.notes().find(({ name }) => name === 'secrets')

  assert.deepEqual([secrets?.ok, secrets?.mark], [false, '-'])
  assert.match(secrets?.said ?? '', /none was read before, and what the issuer has to be asked with it is 503/)
})
