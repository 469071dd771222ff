import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Running } from '../../src/app/configuration.ts'
import { createProbes } from '../../src/app/probes.ts'
import type { World } from '../acceptance/harness.ts'
import { openWorld, until } from '../acceptance/harness.ts'

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
