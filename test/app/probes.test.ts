import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Running } from '../../src/app/configuration.ts'
import { createProbes } from '../../src/app/probes.ts'
import type { World } from '../acceptance/harness.ts'
import { openWorld, until } from '../acceptance/harness.ts'

/** What /readyz?verbose says of one thing. */
async function saidOf(world: World, name: string): Promise<string | undefined> {
  const text = await (await fetch(`http://127.0.0.1:${world.app.ports.health}/readyz?verbose`)).text()
  const found = text.split('\n').find((line) => line.slice(4).startsWith(`${name}: `))
  return found?.slice(`[+] ${name}: `.length)
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

test('readiness() says of keys, as of a list, that they are too old to be used', async () => {
  await using world = await openWorld({ a: { blacklist: { url: 'ISS_A/blacklist' } } })
  const said = async () => [
    await saidOf(world, `keys of ${world.a.url}`),
    await saidOf(world, `blacklist of ${world.a.url}`),
  ]
  assert.deepEqual(await said(), ['3 keys', '0 entries'])

  world.pass(3_600_001)

  assert.deepEqual(await said(), ['3 keys, too old', '0 entries, too old'])
})

test('readiness() says why keys and a list could not be loaded, beside what is held', async () => {
  const failed = { status: 502, json: {} }
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    before: (a) => {
      a.answer = () => failed
    },
    ready: false,
  })
  await until(() => ['jwks_failed', 'poll_failed'].every((event) => world.logs().includes(event)), 'the failures')

  assert.equal(
    await saidOf(world, `blacklist of ${world.a.url}`),
    'not loaded yet; Cannot read the blacklist: status is 502, wanted 200',
  )
  assert.equal(
    await saidOf(world, `keys of ${world.a.url}`),
    'not loaded yet; Cannot load metadata: status is 502, wanted 200',
  )
})
