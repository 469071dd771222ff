// A revocation that was answered 200 holds until every token it names has run out, whatever the issuer's clock did.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { World, WorldTime, Written } from './realms.ts'
import {
  epochStart,
  grant,
  introspect,
  mint,
  page,
  postJson,
  setAhead,
  startWorld,
  temporaryDirectory,
  twoRealms,
} from './realms.ts'

const hour = 3600
const day = 24 * hour
const named = [
  { kind: 'client', value: 'web' },
  { kind: 'sub', value: 'alice' },
  { kind: 'sid', value: 's1' },
  { kind: 'issued_before', issued_before: epochStart + 10 * day },
] as const

/** Starts a realm with a URL, whose tokens outlive a restart, on a store of its own. */
function starter(time: WorldTime) {
  const directory = temporaryDirectory()
  const [{ name: _, ...realm } = { audience: '' }] = twoRealms().realms
  return {
    start: (change: Partial<Written['realms'][number]> = {}) =>
      startWorld(
        twoRealms({
          store: { sqlite: `${directory.path}/issuer.db` },
          realms: [{ ...realm, ...change, issuer: 'https://login.test/realm' }],
        }),
        time,
      ),
    [Symbol.dispose]: directory[Symbol.dispose],
  }
}

/** Lets time pass, by looks that are half an hour apart. */
async function pass({ a, time }: World, seconds: number): Promise<void> {
  for (const end = time.now + seconds; time.now < end; ) {
    time.now = Math.min(end, time.now + hour / 2)
    await page(a)
  }
}

/** A token that every entry of `named` names. */
function made({ a }: World): Promise<string> {
  return mint(a, { sub: 'alice', claims: { sid: 's1' }, lifetime: hour })
}

async function assertRevoked(world: World, token: string, when: string): Promise<void> {
  // Any write purges.
  await mint(world.a, { format: 'opaque', client_id: 'other' })
  assert.notEqual((await page(world.a)).total_live, 0, `the feed lists it ${when}`)
  assert.deepEqual(await introspect(world.a, token), { active: false }, `inactive ${when}`)
}

for (const entry of named) {
  for (const since of ['its start', 'an hour']) {
    test(`clocks: ${entry.kind} names what was issued while the clock was ahead since ${since}, until that has run out`, async () => {
      const time: WorldTime = { now: epochStart }
      if (since === 'its start') Object.assign(time, { now: epochStart + 2 * hour, ahead: 2 * hour })
      await using world = await startWorld(twoRealms(), time)
      if (since === 'an hour') await pass(world, hour)
      setAhead(world, 2 * hour)
      const token = await made(world)
      setAhead(world, 0)

      assert.equal((await postJson(`${world.a.url}/admin/revoke`, entry)).status, 200)

      await assertRevoked(world, token, 'at once')
      await pass(world, 3 * hour - 120)
      await assertRevoked(world, token, 'for as long as the token lives')
    })
  }
}

test('clocks: what was issued while the clock was ahead is named after a restart, too', async () => {
  const time: WorldTime = { now: epochStart + 2 * hour, ahead: 2 * hour }
  using issuer = starter(time)
  let token = ''
  {
    await using world = await issuer.start()
    token = await grant(world.a)
    setAhead(world, 0)
  }
  await using world = await issuer.start()

  assert.equal((await postJson(`${world.a.url}/admin/revoke`, { kind: 'client', value: 'web' })).status, 200)
  await postJson(`${world.a.url}/admin/keys/rotate?revoke=true`, undefined)

  const { entries } = await page(world.a)
  assert.deepEqual(
    entries.map(({ kind, expires_at }) => [kind, expires_at >= epochStart + 3 * hour]),
    [
      ['client', true],
      ['kid', true],
    ],
  )
  await pass(world, 3 * hour - 120)
  await assertRevoked(world, token, 'for as long as the token lives')
})
