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
  revoke,
  segment,
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
  const file = `${directory.path}/issuer.db`
  return {
    file,
    start: (change: Partial<Written['realms'][number]> = {}) =>
      startWorld(
        twoRealms({
          store: { sqlite: file },
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

/** Revokes a token, and closes the issuer; returns the token. */
async function revokeAndClose(starting: Promise<World>): Promise<string> {
  await using world = await starting
  const token = await grant(world.a)
  assert.equal(await revoke(world.a, token), 200)
  return token
}

test('clocks: a restart with a shorter lifetime forgets nothing of before while the clock is ahead', async () => {
  const time: WorldTime = { now: epochStart }
  using issuer = starter(time)
  const token = await revokeAndClose(issuer.start({ access_token: { lifetime: '23h' } }))

  await using world = await issuer.start({ access_token: { lifetime: '1m' }, purge_delay: '0s' })
  setAhead(world, 25 * hour)
  await pass(world, hour)
  await assertRevoked(world, token, 'an hour later')
  setAhead(world, 0)

  await assertRevoked(world, token, 'when the clock is right again')
})

test('clocks: a restart while the clock is ahead forgets nothing, whichever way it is set right', async () => {
  for (const setRight of ['running', 'stopped']) {
    const time: WorldTime = { now: epochStart }
    using issuer = starter(time)
    const token = await revokeAndClose(issuer.start())
    Object.assign(time, { now: time.now + 30 * day, ahead: 30 * day })
    {
      await using world = await issuer.start()
      await assertRevoked(world, token, 'while the clock is ahead')
      await pass(world, hour / 2)
      await assertRevoked(world, token, 'a while later')
      if (setRight === 'running') setAhead(world, 0)
    }
    Object.assign(time, { now: time.now - (time.ahead ?? 0), ahead: 0 })

    await using world = await issuer.start()

    await assertRevoked(world, token, `set right while ${setRight}`)
  }
})

test('clocks: two leaps, and restarts between them, forget nothing', async () => {
  const time: WorldTime = { now: epochStart }
  using issuer = starter(time)
  const token = await revokeAndClose(issuer.start({ access_token: { lifetime: '2d' } }))
  for (const ahead of [3, 0, 4, 8]) {
    await using world = await issuer.start()
    setAhead(world, ahead * day)
    await pass(world, 11 * hour)
    await assertRevoked(world, token, `at ${ahead} days ahead`)
  }

  await using world = await issuer.start()
  setAhead(world, 0)

  await assertRevoked(world, token, 'when the clock is right again')
})

test('clocks: a token minted to live longer than any holds up the forgetting', async () => {
  await using world = await startWorld()
  const token = await mint(world.a, { lifetime: 10 * day })
  assert.equal(await revoke(world.a, token), 200)

  setAhead(world, 20 * day)
  await pass(world, 5 * day)
  await assertRevoked(world, token, 'five days ahead')
  setAhead(world, 0)

  await assertRevoked(world, token, 'when the clock is right again')
})

test('clocks: what is revoked and runs out while the clock is ahead is there when that is set right within a day', async () => {
  await using world = await startWorld()
  setAhead(world, 20 * day)
  const token = await made(world)
  assert.equal(await revoke(world.a, token), 200)

  await pass(world, 23 * hour)
  await assertRevoked(world, token, 'while ahead')
  setAhead(world, 0)

  await assertRevoked(world, token, 'when the clock is right again')
})

test('clocks: a clock set back after a longer purge delay was configured revives nothing', async () => {
  const time: WorldTime = { now: epochStart }
  using issuer = starter(time)
  const token = await revokeAndClose(issuer.start({ purge_delay: '0s' }))
  {
    await using world = await issuer.start()
    await pass(world, 2 * hour)
    await mint(world.a, { format: 'opaque' }) // any write purges
  }
  await using world = await issuer.start({ purge_delay: '1d' })

  time.now = epochStart + hour / 2

  assert.deepEqual(await introspect(world.a, token), { active: false })
})

test('clocks: an issuer that was down for a week forgets a day later, not never', async () => {
  const time: WorldTime = { now: epochStart }
  using issuer = starter(time)
  await revokeAndClose(issuer.start())
  Object.assign(time, { now: epochStart + 7 * day, ahead: 7 * day })

  await using world = await issuer.start()

  assert.equal((await page(world.a)).total_live, 1)
  await pass(world, hour + 60)
  assert.equal((await page(world.a)).total_live, 0)
  await pass(world, day)
  assert.equal((await page(world.a)).server_time, time.now)
})

test('clocks: revoked_at is by the wall clock, and only server_time by the one that forgets', async () => {
  await using world = await startWorld()
  setAhead(world, hour)

  await postJson(`${world.a.url}/admin/revoke`, { kind: 'sub', value: 'alice' })

  const { server_time, entries } = await page(world.a)
  assert.deepEqual([server_time, entries[0]?.revoked_at], [epochStart, epochStart + hour])
})

test('clocks: what was set right again before a restart, in the same second, is no leap of before it', async () => {
  const time: WorldTime = { now: epochStart }
  using issuer = starter(time)
  let token = ''
  {
    await using world = await issuer.start({ access_token: { lifetime: '5d' } })
    setAhead(world, 20 * day)
    await postJson(`${world.a.url}/admin/revoke`, { kind: 'jti', value: 'x' }) // any write keeps the clock
    setAhead(world, 0)
    token = await grant(world.a)
    assert.equal(await revoke(world.a, token), 200)
  }
  await using world = await issuer.start({ access_token: { lifetime: '5d' } })

  setAhead(world, 20 * day)
  await pass(world, 2 * day)

  await mint(world.a, { format: 'opaque' }) // any write purges
  setAhead(world, 0)
  const { jti } = segment(token, 1)
  assert.ok((await page(world.a)).entries.some(({ value }) => value === jti))
})
