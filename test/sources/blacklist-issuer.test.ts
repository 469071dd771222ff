import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createHttpClient } from '../../src/io/http-client.ts'
import { createBlacklist } from '../../src/sources/blacklist.ts'
import type { World } from '../issuer/realms.ts'
import { grant, postJson, ref, setAhead, startWorld, twoRealms } from '../issuer/realms.ts'
import { createTestLog } from '../support/log.ts'
import { token } from './feed-server.ts'

/** The gateway's end of the bundled issuer's feed; the issuer may be replaced by another on another port. */
function gatewayOf(current: () => World, cache_size = 10) {
  const client = createHttpClient({})
  const results: string[] = []
  const blacklist = createBlacklist(
    {
      issuer: 'https://issuer.test',
      url: `${current().a.url}/blacklist`,
      client_id: 'orders',
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
  using gateway = gatewayOf(() => world, 2)
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
