// What the lists say of a token, its wrapper and its key, and what holds while they cannot speak.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { until } from '../support/until.ts'
import type { Members } from './forge.ts'
import { keys } from './forge.ts'
import type { World } from './harness.ts'
import { allowed, denied, openWorld } from './harness.ts'

const minuteMs = 60_000
// Nothing is polled while a test lasts, and what is listed lives for an hour.
const slow = { poll_interval: '10m', max_staleness: '20m' }

/** A wrapper with a `jti`, and what its issuer answers about it, with another one; undefined: none. */
function wrap(world: World, outer: string | undefined, inner: string | undefined, more: Members = {}): string {
  const exp = world.nowS() + 6 * 3600
  const claims = { sub: undefined, scope: undefined, client_id: undefined, aud: undefined, jti: outer, exp, ...more }
  const token = world.mint({ typ: 'wo+jwt', claims })
  world.a.tokens.set(token, { active: true, aud: 'api', scope: 'read', jti: inner })
  return token
}

/** A gateway beside an issuer that lists two names, of which one has room in memory. */
async function withLookups(
  more: Members,
  lookup: { readonly status: number } | { readonly json: unknown },
): Promise<World> {
  const world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { ...slow, cache_size: 1, ...more } },
    before: (a) => void a.revoked.push({ kind: 'jti', value: 'listed' }, { kind: 'sid', value: 's1' }),
  })
  world.a.answer = ({ path: to }) => (to === '/blacklist/lookup' ? { json: {}, ...lookup } : undefined)
  return world
}

test('a key that is listed revokes every token it has signed, cached ones too: in the feed and on the local list', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-'))
  const file = path.join(folder, 'denied.json')
  const write = (entries: readonly Members[]) => writeFileSync(file, JSON.stringify({ version: 1, entries }))
  try {
    write([])
    await using world = await openWorld({
      a: { blacklist: { url: 'ISS_A/blacklist' } },
      more: { blacklist: { poll_interval: '100ms', local: { file } } },
    })
    const byK1 = world.mint()
    const byRs = world.mint({ key: keys.rs })
    const wrapped = wrap(world, 'outer', undefined)
    const opaque = 'opaque-token-that-no-key-has-signed'
    world.a.tokens.set(opaque, { active: true, aud: 'api', scope: 'read', jti: 'opaque' })
    for (const token of [byK1, byRs, wrapped, opaque]) await allowed(world, { token })

    write([{ kind: 'kid', value: 'rs1' }])
    world.app.reload()
    await denied(world, { token: byRs }, 401, 'token_revoked')
    for (const token of [byK1, wrapped, opaque]) await allowed(world, { token })
    world.a.revoked.push({ kind: 'kid', value: 'k1' })
    await until(() => world.count(`postern_blacklist_entries{issuer="${world.a.url}"}`) === 1, 'the list to load')

    for (const token of [byK1, wrapped]) await denied(world, { token }, 401, 'token_revoked')
    await allowed(world, { token: opaque })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test("the operator's local list revokes a wrapped token by its inner name and by its wrapper's", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-'))
  const file = path.join(folder, 'denied.json')
  try {
    writeFileSync(file, JSON.stringify({ version: 1, entries: [{ kind: 'jti', value: 'stolen' }] }))
    await using world = await openWorld({ more: { blacklist: { local: { file } } } })

    await denied(world, { token: wrap(world, 'stolen', undefined) }, 401, 'token_revoked')
    await denied(world, { token: wrap(world, undefined, 'stolen') }, 401, 'token_revoked')
    await allowed(world, { token: wrap(world, 'other', 'other') })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

for (const [outer, inner] of [
  ['listed', undefined],
  [undefined, 'listed'],
])
  test(`a wrapped token (${outer ?? 'no'} jti) with an answer (${inner ?? 'no'} jti) is revoked by a list that is too old, too`, async () => {
    await using world = await openWorld({
      a: { blacklist: { url: 'ISS_A/blacklist' } },
      more: { blacklist: slow },
      before: (a) => void a.revoked.push({ kind: 'jti', value: 'listed' }),
    })
    world.pass(21 * minuteMs)

    await denied(world, { token: wrap(world, outer, inner) }, 401, 'token_revoked')
    await denied(world, { token: wrap(world, 'a', 'a') }, 503, 'blacklist_stale')
  })

for (const [outer, inner] of [
  ['unknown', undefined],
  [undefined, 'unknown'],
  ['unknown', 'unknown'],
])
  test(`a wrapped token (${outer ?? 'no'} jti) with an answer (${inner ?? 'no'} jti) is not clear where one of its names cannot be asked for`, async () => {
    await using world = await withLookups({}, { status: 500 })

    await denied(world, { token: wrap(world, outer, inner) }, 503, 'blacklist_stale')
    // Another name that is known to be revoked is enough.
    await denied(world, { token: wrap(world, outer, inner, { sid: 's1' }) }, 401, 'token_revoked')
  })

test('on_stale: allow is for a list that is too old: a look-up that fails while it is not allows nothing', async () => {
  for (const on_stale of ['allow', 'introspect']) {
    await using world = await withLookups({ on_stale }, { status: 500 })

    await denied(world, { token: world.mint({ claims: { jti: 'unknown' } }) }, 503, 'blacklist_stale')
  }
})

test('on_stale: introspect takes an answer that is not older than a list may be, and asks again for an older one', async () => {
  const introspection = { client_id: 'gateway-A', client_secret: { env: 'SECRET_A' }, max_age: '1h' }
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' }, introspection },
    more: { blacklist: { ...slow, on_stale: 'introspect' } },
  })
  world.a.tokens.set('opaque', { active: true, aud: 'api', scope: 'read', jti: 'j' })
  const asked = async () => {
    await allowed(world, { token: 'opaque' })
    return world.a.count('/introspect')
  }

  world.pass(19 * minuteMs)
  assert.equal(await asked(), 1)
  // The list is too old now, the answer is not.
  world.pass(2 * minuteMs)
  assert.equal(await asked(), 1)
  world.pass(17 * minuteMs)
  assert.equal(await asked(), 1)
  world.pass(2 * minuteMs)
  assert.equal(await asked(), 2)
  assert.equal(await asked(), 2)
})
