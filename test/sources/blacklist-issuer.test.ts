import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as passed } from 'node:timers/promises'
import { createHttpClient } from '../../src/io/http-client.ts'
import { createBlacklist } from '../../src/sources/blacklist.ts'
import type { World } from '../issuer/realms.ts'
import { grant, postJson, ref, setAhead, startWorld, twoRealms } from '../issuer/realms.ts'
import { createTestLog } from '../support/log.ts'
import { token } from './feed-server.ts'

/** The gateway's end of the bundled issuer's feed; the issuer may be replaced by another on another port. */
function gatewayOf(current: () => World, { cache_size = 10, wait = 0 } = {}) {
  const client = createHttpClient({})
  const results: string[] = []
  const blacklist = createBlacklist(
    {
      issuer: 'https://issuer.test',
      url: `${current().a.url}/blacklist`,
      client_id: 'orders',
      wait,
      poll_interval: 60_000,
      cache_size,
      purge_delay: 60_000,
      max_staleness: 300_000,
    },
    {
      clock: { wallMs: () => current().time.now * 1000, monotonicMs: () => performance.now() },
      random: () => 0,
      send: (call, limits) =>
        client.send({ ...call, url: call.url.replace(/:\d+\//, `:${current().issuer.port}/`) }, limits),
      secret: () => 'rs-secret-4444',
      log: createTestLog(),
      count: (result) => results.push(result),
    },
  )
  return {
    blacklist,
    results,
    [Symbol.dispose]() {
      blacklist.close()
      client.close()
    },
  }
}

function revoke(world: World, entry: Record<string, unknown>) {
  return postJson(`${world.a.url}/admin/revoke`, { expires_at: world.time.now + 3600, ...entry })
}

test('poll() reads the bundled issuer: every kind, what is new, 304, and look-ups past cache_size', async () => {
  await using world = await startWorld()
  using gateway = gatewayOf(() => world, { cache_size: 2 })
  const { blacklist, results } = gateway
  for (const value of ['a', 'b', 'c']) await revoke(world, { kind: 'jti', value })
  await blacklist.poll()
  await revoke(world, { kind: 'sub', value: 'alice', issued_before: world.time.now })
  await blacklist.poll()
  await blacklist.poll()
  await blacklist.poll()

  assert.deepEqual(results, ['updated', 'updated', 'updated', 'unchanged'])
  assert.deepEqual(await blacklist.check(token({ jti: 'a' })), { kind: 'jti', cause: 'admin' })
  assert.equal(await blacklist.check(token({ jti: 'z' })), undefined)
  assert.deepEqual(blacklist.check(token({ sub: 'alice', iat: world.time.now })), { kind: 'sub', cause: 'admin' })
  assert.equal(await blacklist.check(token({ sub: 'alice', iat: world.time.now + 1 })), undefined)
})

test('poll() follows the bundled issuer through a restart from its file, and from an empty one', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-'))
  try {
    const file = (name: string) => twoRealms({ store: { sqlite: join(folder, name) } })
    let world = await startWorld(file('first.db'))
    using gateway = gatewayOf(() => world)
    const { blacklist, results } = gateway
    for (const value of ['a', 'b']) await revoke(world, { kind: 'jti', value })
    await blacklist.poll()
    await world[Symbol.asyncDispose]()
    await blacklist.poll()

    world = await startWorld(file('first.db'))
    await blacklist.poll()
    assert.equal(blacklist.state().entries, 2)
    await world[Symbol.asyncDispose]()

    world = await startWorld(file('second.db'))
    await revoke(world, { kind: 'jti', value: 'c' })
    await blacklist.poll()
    await world[Symbol.asyncDispose]()

    assert.deepEqual(results, ['updated', 'unavailable', 'updated', 'updated'])
    for (const jti of ['a', 'b', 'c'])
      assert.deepEqual(blacklist.check(token({ jti })), { kind: 'jti', cause: 'admin' }, jti)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('poll() forgets nothing when both clocks are ahead for a while, nor does a gateway that starts meanwhile', async () => {
  await using world = await startWorld()
  using gateway = gatewayOf(() => world)
  await revoke(world, { kind: 'jti', value: 'a', expires_at: world.time.now + 100 })
  await gateway.blacklist.poll()

  setAhead(world, 86_400)
  await grant(world.a, ref) // any write purges
  using late = gatewayOf(() => world)
  for (const { blacklist } of [gateway, late]) await blacklist.poll()
  setAhead(world, 0)

  for (const { blacklist } of [gateway, late])
    assert.deepEqual(blacklist.check(token({ jti: 'a' })), { kind: 'jti', cause: 'admin' })
})

for (const values of [[], ['a']])
  test(`poll() that waits at the bundled issuer, whose list has ${values.length} entries, brings a revocation at once, and again`, async () => {
    await using world = await startWorld()
    using gateway = gatewayOf(() => world, { wait: 25_000 })
    const { blacklist, results } = gateway
    for (const value of values) await revoke(world, { kind: 'jti', value })
    await blacklist.poll()

    for (const jti of ['x', 'y']) {
      const held = blacklist.poll()
      await passed(100)
      const revokedMs = performance.now()
      await revoke(world, { kind: 'jti', value: jti })
      await held
      const lagMs = performance.now() - revokedMs

      assert.ok(lagMs < 1000, `${lagMs} ms`)
      assert.deepEqual(blacklist.check(token({ jti })), { kind: 'jti', cause: 'admin' })
    }
    assert.deepEqual(results, ['updated', 'updated', 'updated'])
  })

test('poll() that waits at the bundled issuer brings nothing when that is the case, and the next waits as well', async () => {
  await using world = await startWorld()
  using gateway = gatewayOf(() => world, { wait: 1000 })
  const { blacklist, results } = gateway
  await blacklist.poll()
  const startMs = performance.now()

  await blacklist.poll()
  await blacklist.poll()

  assert.ok(performance.now() - startMs >= 1990)
  assert.deepEqual(results, ['updated', 'unchanged', 'unchanged'])
})

test('close() ends a poll that waits at the bundled issuer at once, and nothing else that goes there', async () => {
  await using world = await startWorld()
  using gateway = gatewayOf(() => world, { wait: 25_000, cache_size: 1 })
  const { blacklist, results } = gateway
  for (const value of ['a', 'b']) await revoke(world, { kind: 'jti', value })
  await blacklist.poll()
  const held = blacklist.poll()
  await passed(100)

  const closedMs = performance.now()
  const lookedUp = blacklist.check(token({ jti: 'a' }))
  blacklist.close()
  await held

  assert.ok(performance.now() - closedMs < 1000)
  assert.deepEqual(results, ['updated'])
  assert.deepEqual(await lookedUp, { kind: 'jti', cause: 'admin' })
})
