// What a reload must not lose, and what it must (product.md §2, §6).
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { rootCertificates } from 'node:tls'
import { until } from '../support/until.ts'
import type { Members } from './forge.ts'
import { jwkOf, keys } from './forge.ts'
import type { World } from './harness.ts'
import { allowed, denied, openWorld } from './harness.ts'

/** Changes members of issuer A's section, and of the blacklist's. */
function change(world: World, issuer: Members, blacklist: Members = {}): void {
  world.reload((configuration) => {
    const [first, ...rest] = configuration['issuers'] as Members[] // as the harness wrote it
    configuration['issuers'] = [{ ...first, ...issuer }, ...rest]
    configuration['blacklist'] = { ...(configuration['blacklist'] as Members), ...blacklist }
  })
}

/** Asks until the answer is 401, five seconds at most. */
async function untilDenied(world: World, token: string): Promise<void> {
  for (let at = 0; at < 100; at += 1) {
    if ((await world.ask({ path: '/any/1', token })).status === 401) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('Cannot go on: the token is still accepted')
}

async function withRevoked(): Promise<{ world: World; token: string; good: string }> {
  const world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { poll_interval: '200ms', max_staleness: '1h' } },
  })
  const token = world.mint({ claims: { jti: 'revoked' } })
  const good = world.mint()
  await allowed(world, { path: '/any/1', token })
  world.a.revoked.push({ kind: 'jti', value: 'revoked' })
  await untilDenied(world, token)
  return { world, token, good }
}

for (const { name, issuer, blacklist } of [
  { name: "an issuer's other settings", issuer: { max_token_lifetime: '23h' }, blacklist: {} },
  { name: 'the size and interval of the list', issuer: {}, blacklist: { cache_size: 500, poll_interval: '300ms' } },
  { name: 'how the issuer is reached', issuer: { insecure_http: true }, blacklist: {} },
]) {
  test(`a reload that changes ${name} brings no revoked token back, though the issuer has forgotten it`, async () => {
    const { world, token, good } = await withRevoked()
    await using _world = world
    // Restored from an old copy: the entry is gone, and only the union knows of it.
    world.a.revoked.length = 0
    await new Promise((resolve) => setTimeout(resolve, 500))
    await denied(world, { path: '/any/1', token }, 401, 'token_revoked')

    change(world, issuer, blacklist)

    await denied(world, { path: '/any/1', token }, 401, 'token_revoked')
    await allowed(world, { path: '/any/1', token: good })
    await new Promise((resolve) => setTimeout(resolve, 700))
    await denied(world, { path: '/any/1', token }, 401, 'token_revoked')
  })
}

test('a reload while the issuer is down keeps its keys and its list: good tokens stay good', async () => {
  const { world, token, good } = await withRevoked()
  await using _world = world
  world.a.answer = () => ({ status: 500, json: {} })

  change(world, { max_token_lifetime: '23h', jwks: { refresh: '10m' } }, { max_staleness: '2h' })

  await allowed(world, { path: '/any/1', token: good })
  await denied(world, { path: '/any/1', token }, 401, 'token_revoked')
})

test('a reload of the cool-down while the metadata is down keeps the addresses found in it', async () => {
  await using world = await openWorld()
  const live = { active: true, aud: 'api', exp: world.nowS() + 300 }
  for (const token of ['opaque-1', 'opaque-2']) world.a.tokens.set(token, live)
  await allowed(world, { path: '/any/1', token: 'opaque-1' })
  world.a.answer = ({ path }) => (path.includes('.well-known') ? { status: 503, json: {} } : undefined)

  change(world, { jwks: { cool_down: '1s' } })

  await allowed(world, { path: '/any/1', token: 'opaque-2' })
  await allowed(world, { path: '/any/1', token: world.mint() })
})

test('a reload that moves the keys to another place takes none along', async () => {
  await using world = await openWorld()
  const token = world.mint()
  await allowed(world, { path: '/any/1', token })
  world.a.answer = ({ path }) =>
    path === '/moved' ? { json: { keys: [jwkOf(keys.second, { kid: 'k2' })] } } : undefined

  change(world, { jwks_uri: `${world.a.origin}/moved` })

  await untilDenied(world, token)
  await allowed(world, { path: '/any/1', token: world.mint({ key: keys.second, kid: 'k2' }) })
})

test('a request under way when its issuer is changed ends as it would have', async () => {
  await using world = await openWorld()
  const answer = { active: true, aud: 'api', exp: world.nowS() + 300 }
  world.a.tokens.set('slow', answer)
  world.a.answer = ({ path }) => (path === '/introspect' ? { json: answer, delay: 500 } : undefined)
  const asked = world.ask({ path: '/a/1', token: 'slow' })
  await until(() => world.a.count('/introspect') === 1, 'the question')

  change(world, { insecure_http: true })

  const got = await asked
  if (got.status !== 200) throw new Error(`the request ended with ${got.status} ${got.reason}`)
})

test('an active answer that comes late makes no token good that was inactive when it was asked about after a reload of http.ca', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'ca.pem')
  writeFileSync(file, rootCertificates[0] ?? '')
  await using world = await openWorld({ a: { http: { ca: { file } } } })
  const answer = { active: true, aud: 'api', exp: world.nowS() + 300 }
  world.a.answer = ({ path }) => {
    if (path !== '/introspect') return undefined
    return world.a.count(path) === 1 ? { json: answer, delay: 500 } : { json: { active: false } }
  }
  const early = world.ask({ path: '/a/1', token: 'revoked' })
  await until(() => world.a.count('/introspect') === 1, 'the question')

  writeFileSync(file, rootCertificates[1] ?? '')
  world.app.reload()
  await denied(world, { path: '/a/1', token: 'revoked' }, 401, 'token_inactive')
  await early

  await denied(world, { path: '/a/1', token: 'revoked' }, 401, 'token_inactive')
})

test('a reload that ends an outage of keys and of a list says that it is over', async () => {
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' }, jwks: { refresh: '100ms' } },
    more: { blacklist: { poll_interval: '100ms' } },
  })
  const page = { epoch: 'e', cursor: '0', more: false, reset: false, total_live: 0, entries: [] }
  world.a.answer = ({ path }) => {
    if (path === '/jwks' || path === '/blacklist') return { status: 500, json: {} }
    if (path === '/moved/jwks') return { json: { keys: world.a.keys } }
    return path === '/moved/blacklist' ? { json: { ...page, server_time: world.nowS() } } : undefined
  }
  const logged = (...events: readonly string[]) => events.every((event) => world.logs().includes(`"${event}"`))
  await until(() => logged('jwks_failed', 'blacklist_poll_failed'), 'the outage')

  change(world, { jwks_uri: `${world.a.url}/moved/jwks`, blacklist: { url: `${world.a.url}/moved/blacklist` } })

  await until(() => logged('jwks_recovered', 'blacklist_recovered'), 'its end')
})
