// How old an answer may be, who is asked, and what becomes of facts in memory when anything changes.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { until } from '../support/until.ts'
import type { Members, Recipe } from './forge.ts'
import { keys } from './forge.ts'
import type { World } from './harness.ts'
import { allowed, denied, openWorld } from './harness.ts'

const introspect = { a: { revocation: 'introspect' } }

function asked(world: World): number {
  return world.a.count('/introspect')
}

/** A JWT of issuer A, and what A says when it is asked about it. */
function known(world: World, recipe: Recipe = {}, answer: Members = {}): string {
  const token = world.mint(recipe)
  world.a.tokens.set(token, { active: true, iss: world.a.url, ...answer })
  return token
}

test('revocation: introspect asks about every JWT within max_age, after its signature', async () => {
  await using world = await openWorld(introspect)

  await denied(world, { token: world.mint() }, 401, 'token_inactive')
  await denied(world, { token: known(world, { key: keys.attacker }) }, 401, 'signature_invalid')
  assert.equal(asked(world), 1)
  const token = known(world)
  for (let at = 0; at < 3; at += 1) await allowed(world, { token })
  assert.equal(asked(world), 2)
  world.pass(30_001)
  await allowed(world, { token })
  assert.equal(asked(world), 3)
  world.a.tokens.set(token, { active: false })
  world.pass(30_001)
  await denied(world, { token }, 401, 'token_inactive')
})

test('an answer completes claims that a JWT lacks', async () => {
  await using world = await openWorld({ a: { revocation: 'introspect', token_profile: 'lenient' } })
  for (const aud of ['api', ['api'], ['other', 'api']]) {
    const token = known(
      world,
      { claims: { aud: undefined, scope: undefined, sub: undefined } },
      { aud, scope: 'read', sub: 'alice' },
    )

    const seen = await allowed(world, { token })

    assert.deepEqual([seen.all('x-auth-scope'), seen.all('x-auth-subject')], [['read'], ['alice']])
  }
})

test('an answer that demands a proof demands it, whatever type the JWT says it is of', async () => {
  await using world = await openWorld(introspect)

  for (const token_type of ['DPoP', 'pop'])
    await denied(
      world,
      { token: known(world, { claims: { token_type: 'Bearer' } }, { token_type }) },
      401,
      'proof_missing',
    )
})

test('an answer that says how long a JWT still lives does not contradict how long it was to live', async () => {
  await using world = await openWorld(introspect)

  await allowed(world, { token: known(world, { claims: { expires_in: 3600 } }, { expires_in: 3575 }) })
})

test('an answer never widens what a JWT says, and takes back what its issuer took back', async () => {
  await using world = await openWorld(introspect)

  await denied(world, { path: '/write/1', token: known(world, {}, { scope: 'read write' }) }, 403, 'scope_missing')
  await denied(world, { path: '/write/1', token: known(world, {}, { scp: ['write'] }) }, 403, 'scope_missing')
  await denied(
    world,
    { path: '/write/1', token: known(world, { claims: { scope: '' } }, { scope: 'write' }) },
    403,
    'scope_missing',
  )
  await denied(
    world,
    { path: '/other/1', token: known(world, {}, { aud: ['api', 'other-api'] }) },
    401,
    'audience_mismatch',
  )
  await denied(world, { token: known(world, {}, { scope: '' }) }, 403, 'scope_missing')
  await denied(world, { token: known(world, {}, { cnf: { jkt: 'x' } }) }, 401, 'proof_missing')
  const long = known(world, { claims: { exp: world.nowS() + 60 } }, { exp: world.nowS() + 3600 })
  await allowed(world, { token: long })
  world.pass(91_000)
  await denied(world, { token: long }, 401, 'token_expired')
})

const takenBack: readonly (readonly [string, Members, Members, Members])[] = [
  ['scp', { scope: undefined, scp: ['read', 'admin'] }, { scp: ['read'] }, { scp: 'admin' }],
  ['scope', { scope: 'read admin' }, { scope: 'read' }, { scope: 'admin' }],
  ['scp behind scope', { scope: 'read', scp: ['read', 'admin'] }, { scope: 'read' }, { scp: 'admin' }],
  ['scope', { scope: ['read', 'admin'] }, { scp: ['read'] }, { scope: 'admin' }],
  ['aud', { aud: ['api', 'admin'] }, { aud: 'api' }, { aud: 'admin' }],
]
for (const [what, claims, answer, condition] of takenBack)
  test(`what an issuer took back of ${what}, ${JSON.stringify(claims)}, meets no condition and is in no header`, async () => {
    const [name = ''] = Object.keys(condition)
    await using world = await openWorld({
      ...introspect,
      rules: [
        { match: { path: '/good/**' }, claims: { [name]: name === 'aud' ? 'api' : 'read' } },
        { match: { path: '/bad/**' }, claims: condition },
      ],
      b: null,
      more: { identity_headers: { 'x-listed': name } },
    })
    const token = known(world, { claims }, answer)

    const seen = await allowed(world, { path: '/good/1', token })
    await denied(world, { path: '/bad/1', token }, 403, 'claim_mismatch')

    assert.deepEqual(seen.all('x-listed'), [name === 'aud' ? 'api' : 'read'])
  })

test('an audience with a space in its name is one, whatever the answer says of it', async () => {
  await using world = await openWorld({ a: { ...introspect.a, audience: 'My API' }, b: null })
  const claims = { aud: 'My API' }

  for (const aud of ['My API', ['My API'], ['other', 'My API']])
    await allowed(world, { token: known(world, { claims }, { aud }) })
  await using narrow = await openWorld({ ...introspect, b: null })
  const token = known(narrow, { claims: { aud: 'api x' } }, { aud: ['api x', 'api'] })
  await denied(narrow, { token }, 401, 'audience_mismatch')
})

test('a JWT is not good before the time that the answer names, where that is later', async () => {
  await using world = await openWorld({ ...introspect })
  const nbf = world.nowS() - 60
  const token = known(world, { claims: { nbf } }, { nbf: nbf + 3600 })

  await denied(world, { token }, 401, 'token_not_yet_valid')
  await allowed(world, { token: known(world, { claims: { nbf } }, { nbf: nbf - 3600 }) })
})

test('the life that an answer shortens is what headers say', async () => {
  await using world = await openWorld({ ...introspect, more: { identity_headers: { 'x-ends': 'exp' } } })
  const ends = world.nowS() + 100

  const jwt = await allowed(world, { token: known(world, { claims: { exp: ends + 500 } }, { exp: ends }) })
  const wrapper = known(world, { typ: 'wo+jwt', claims: { exp: ends } }, { aud: 'api', scope: 'read', exp: ends + 500 })
  const wrapped = await allowed(world, { token: wrapper })

  assert.deepEqual([jwt.all('x-ends'), wrapped.all('x-ends')], [[String(ends)], [String(ends)]])
})

test('an answer that contradicts a token takes away what an older one said for it', async () => {
  await using world = await openWorld()
  const token = known(world, { typ: 'wo+jwt' }, { aud: 'api', scope: 'read', sub: 'alice' })
  await allowed(world, { path: '/read/1', token })

  world.a.tokens.set(token, { active: true, aud: 'api', scope: 'read', sub: 'mallory' })
  await allowed(world, { path: '/read/1', token })
  await denied(world, { path: '/always/1', token }, 401, 'wrapper_invalid')

  await denied(world, { path: '/read/1', token }, 401, 'wrapper_invalid')
})

for (const answer of [
  { iss: 'https://other.example' },
  { sub: 'mallory' },
  { client_id: 'other' },
  { jti: 'other' },
  { aud: 'other' },
])
  test(`an answer ${JSON.stringify(answer)} that contradicts a JWT is token_inactive`, async () => {
    await using world = await openWorld(introspect)

    await denied(world, { token: known(world, {}, answer) }, 401, 'token_inactive')
  })

// As Keycloak has them, which makes each of them anew.
const access = { account: { roles: ['view', 'edit'] }, web: { roles: ['admin'] } }

test('an answer does not contradict a JWT by the order in which it names members of an object, or of a list of texts', async () => {
  await using world = await openWorld(introspect)
  const claims = { resource_access: access, groups: ['a', 'b', 'c'] }
  const { web } = access
  const account = { roles: ['edit', 'view'] }

  await allowed(world, { token: known(world, { claims }, { resource_access: { web, account } }) })
  await allowed(world, { token: known(world, { claims }, { groups: ['c', 'a', 'b'] }) })
})

for (const other of [
  { account: { roles: ['view', 'view'] }, web: access.web },
  { account: { roles: ['view'] }, web: access.web },
  { account: access.account },
  { ...access, more: {} },
  { account: access.account, wex: access.web },
  [access],
  null,
])
  test(`an answer with another object, ${JSON.stringify(other)}, contradicts a JWT`, async () => {
    await using world = await openWorld(introspect)
    const token = known(world, { claims: { resource_access: access } }, { resource_access: other })

    await denied(world, { token }, 401, 'token_inactive')
  })

test('freshness: always asks for every request, max_age for what is older, cached for none', async () => {
  await using world = await openWorld()
  const token = 'opaque-token-of-the-freshness-test'
  world.a.tokens.set(token, { active: true, aud: 'api', scope: 'read', exp: world.nowS() + 300 })

  for (let at = 1; at <= 3; at += 1) {
    await allowed(world, { path: '/always/1', token })
    assert.equal(asked(world), at)
  }
  await allowed(world, { path: '/read/1', token })
  await allowed(world, { path: '/aged/1', token })
  assert.equal(asked(world), 3)
  world.pass(5001)
  await allowed(world, { path: '/read/1', token })
  assert.equal(asked(world), 3)
  await allowed(world, { path: '/aged/1', token })
  assert.equal(asked(world), 4)

  world.a.tokens.set(token, { active: false })
  await allowed(world, { path: '/read/1', token })
  await denied(world, { path: '/always/1', token }, 401, 'token_inactive')
})

test('freshness: always joins no question that was asked before it came', async () => {
  await using world = await openWorld()
  const token = 'opaque-token-of-the-joining-test'
  let active = true
  world.a.answer = ({ path: to }) => (to === '/introspect' ? { json: { active, aud: 'api' }, delay: 200 } : undefined)

  const first = world.ask({ path: '/always/1', token })
  await until(() => asked(world) === 1, 'the first question')
  active = false
  const second = world.ask({ path: '/always/1', token })

  assert.equal((await first).status, 200)
  assert.equal((await second).reason, 'token_inactive')
  assert.equal(asked(world), 2)
})

const later: readonly { what: string; answer: Members; status: number; reason: string }[] = [
  { what: 'takes a scope back', answer: { scope: 'read' }, status: 403, reason: 'scope_missing' },
  { what: 'is of another issuer', answer: { iss: 'https://other.example' }, status: 401, reason: 'issuer_unknown' },
]
for (const { what, answer, status, reason } of later) {
  test(`an answer that comes after one that was asked for later, and ${what}, is no longer good`, async () => {
    await using world = await openWorld()
    const scoped = { active: true, aud: 'api', scope: 'read write' }
    const replies = [
      { json: scoped, delay: 400 },
      { json: { ...scoped, ...answer } },
      { json: { ...scoped, ...answer } },
    ]
    world.a.answer = ({ path }) => (path === '/introspect' ? replies.shift() : undefined)

    const first = world.ask({ path: '/write/x', token: 'opaque' })
    await until(() => asked(world) === 1, 'the first question')
    await world.ask({ path: '/always/x', token: 'opaque' })
    await first

    await denied(world, { path: '/write/x', token: 'opaque' }, status, reason)
  })
}

test('freshness: always needs the issuer: an outage is 503, however fresh the memory', async () => {
  await using world = await openWorld(introspect)
  const token = known(world)
  await allowed(world, { path: '/always/1', token })
  world.a.answer = ({ path: to }) => (to === '/introspect' ? { status: 500, json: {} } : undefined)

  await denied(world, { path: '/always/1', token }, 503, 'introspection_unavailable')
  await allowed(world, { path: '/any/1', token })
})

for (const [wait, poll_interval, ms] of [
  ['25s', '60s', 1000],
  ['0s', '20s', 20_000],
] as const)
  test(`an answer without jti, which no list names, is used for ${ms} ms where polls may be held for ${wait}`, async () => {
    await using world = await openWorld({
      a: { blacklist: { url: 'ISS_A/blacklist', wait } },
      more: { blacklist: { poll_interval } },
    })
    const token = 'opaque-token-without-jti'
    const [now, { url }] = [world.nowS(), world.a]
    const claims = { iss: url, aud: 'api', sub: 'alice', client_id: 'web', scope: 'read', iat: now, exp: now + 3600 }
    world.a.tokens.set(token, { active: true, ...claims })
    await allowed(world, { token })
    world.a.tokens.set(token, { active: false })

    world.pass(ms - 900)
    await allowed(world, { token })
    world.pass(901)

    await denied(world, { token }, 401, 'token_inactive')
  })

test('of several issuers the one marked opaque is asked, and an opaque token is shown to no other', async () => {
  await using world = await openWorld()

  await denied(world, { path: '/read/1', token: 'opaque-token-one' }, 401, 'token_inactive')
  assert.deepEqual([asked(world), world.b.count('/introspect')], [1, 0])
  await denied(world, { path: '/b/1', token: 'opaque-token-two' }, 401, 'token_inactive')
  assert.deepEqual([asked(world), world.b.count('/introspect')], [1, 1])
})

test('where nobody is marked, an opaque token is issuer_unknown without a connection', async () => {
  await using world = await openWorld({ a: { opaque: false } })
  const before = [world.a.connections(), world.b.connections()]

  await denied(world, { path: '/read/1', token: 'opaque-token-one' }, 401, 'issuer_unknown')

  assert.deepEqual([world.a.connections(), world.b.connections()], before)
  await denied(world, { path: '/a/1', token: 'opaque-token-one' }, 401, 'token_inactive')
})

test('two issuers that give out the same opaque characters share no facts', async () => {
  await using world = await openWorld()
  const token = 'the-same-opaque-token'
  world.a.tokens.set(token, { active: true, aud: 'api', sub: 'alice', scope: 'read' })
  world.b.tokens.set(token, { active: true, aud: 'api', sub: 'bob', scope: 'write' })

  for (let at = 0; at < 3; at += 1) {
    const ofA = await allowed(world, { path: '/a/1', token })
    const ofB = await allowed(world, { path: '/b/1', token })
    assert.deepEqual([ofA.all('x-auth-subject'), ofB.all('x-auth-subject')], [['alice'], ['bob']])
  }

  assert.deepEqual([asked(world), world.b.count('/introspect')], [1, 1])
})

test('a cached JWT is judged by each rule: its issuers, its audience, its scopes', async () => {
  await using world = await openWorld()
  const token = world.mint()
  await allowed(world, { path: '/read/1', token })

  await denied(world, { path: '/b/1', token }, 401, 'issuer_unknown')
  await denied(world, { path: '/write/1', token }, 403, 'scope_missing')
  await denied(world, { path: '/other/1', token }, 401, 'audience_mismatch')
  await allowed(world, { path: '/a/1', token })
  await allowed(world, { path: '/other/1', token: world.mint({ claims: { aud: ['other-api'] } }) })
})

test('a rule that accepts another issuer only refuses before anything is looked up', async () => {
  await using world = await openWorld()
  const before = world.a.asked.length

  await denied(
    world,
    { path: '/b/1', token: world.mint({ kid: 'unknown', key: keys.attacker }) },
    401,
    'issuer_unknown',
  )

  assert.equal(world.a.asked.length, before)
})

test('a reload without an issuer, or with other rules, ends what was remembered under the old one', async () => {
  await using world = await openWorld()
  const token = world.mintB()
  await allowed(world, { path: '/any/1', token })
  const ofA = world.mint()
  await allowed(world, { path: '/read/1', token: ofA })

  world.reload((configuration) => {
    configuration['issuers'] = (configuration['issuers'] as unknown[]).slice(0, 1) // the list of this test
    configuration['rules'] = [{ match: { path: '/**' }, scopes: ['other'] }]
  })

  await denied(world, { path: '/any/1', token }, 401, 'issuer_unknown')
  await denied(world, { path: '/read/1', token: ofA }, 403, 'scope_missing')
})

test('a wall clock that steps an hour: no token lives longer for it, and none is lost when it comes back', async () => {
  await using world = await openWorld()
  const token = world.mint()
  const opaque = 'opaque-token-of-the-clock-test'
  const { a } = world
  a.tokens.set(opaque, { active: true, aud: 'api', exp: world.nowS() + 300, iat: world.nowS() - 5 })
  await allowed(world, { path: '/any/1', token })
  await allowed(world, { path: '/any/1', token: opaque })

  world.step(3_600_000)
  await denied(world, { path: '/any/1', token }, 401, 'token_expired')
  await denied(world, { path: '/any/1', token: opaque }, 401, 'token_expired')
  const later = world.mint()
  await allowed(world, { path: '/any/1', token: later })
  world.step(-7_200_000)
  for (const early of [token, later, opaque])
    await denied(world, { path: '/any/1', token: early }, 401, 'token_not_yet_valid')
  await allowed(world, { path: '/any/1', token: world.mint() })
  world.step(3_600_000)
  await allowed(world, { path: '/any/1', token })
  await allowed(world, { path: '/any/1', token: opaque })
  await denied(world, { path: '/any/1', token: later }, 401, 'token_not_yet_valid')
})

test('a wall clock that steps moves no cool-down, no age of keys and no kept answer', async () => {
  await using world = await openWorld()
  const unknown = () =>
    world.ask({ path: '/any/1', token: world.mint({ kid: `x${Math.random()}`, key: keys.attacker }) })
  await unknown()
  const fetched = world.a.count('/jwks')
  for (const ms of [7_200_000, -3_600_000]) {
    world.step(ms)
    await unknown()
    await unknown()
    await allowed(world, { path: '/any/1', token: world.mint() })
  }
  assert.equal(world.a.count('/jwks'), fetched)
})

/** A gateway whose feed was good once and then fails, its list past max_staleness. */
async function withStaleFeed(onStale: string, more: Members = {}): Promise<World> {
  const world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { poll_interval: '1h', max_staleness: '2h', on_stale: onStale } },
    ...more,
  })
  world.a.answer = ({ path: to }) => (to === '/blacklist' ? { status: 500, json: {} } : undefined)
  return world
}

test('on_stale: deny answers 503 once the list is too old, introspect asks the issuer, allow lets pass', async () => {
  for (const onStale of ['deny', 'introspect', 'allow']) {
    await using world = await withStaleFeed(onStale)
    const token = known(world, { claims: { exp: world.nowS() + 3 * 3600 } })
    const dead = world.mint({ claims: { exp: world.nowS() + 3 * 3600 } })
    await allowed(world, { path: '/any/1', token })
    await allowed(world, { path: '/any/1', token: dead })
    // The set of keys is as old: it is looked at again, the feed is not.
    world.a.answer = ({ path: to }) => (to === '/blacklist' ? { status: 500, json: {} } : undefined)
    world.pass(59 * 60_000)
    await world.ask({ path: '/any/1', token: world.mint({ kid: 'new', key: keys.attacker }) })
    world.pass(59 * 60_000)
    await allowed(world, { path: '/any/1', token })
    await world.ask({ path: '/any/1', token: world.mint({ kid: 'new', key: keys.attacker }) })
    world.pass(3 * 60_000)

    if (onStale === 'deny') {
      await denied(world, { path: '/any/1', token }, 503, 'blacklist_stale')
      await denied(world, { path: '/any/1', token: world.mint() }, 503, 'blacklist_stale')
    } else {
      await allowed(world, { path: '/any/1', token })
      if (onStale === 'introspect') await denied(world, { path: '/any/1', token: dead }, 401, 'token_inactive')
      else await allowed(world, { path: '/any/1', token: dead })
    }
    assert.equal(asked(world) > 0, onStale === 'introspect')
  }
})

test("a clock that is behind the issuer's is a warning with its sign", async () => {
  const page = { epoch: 'e', cursor: '0', more: false, total_live: 0, reset: true, entries: [] }
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    before(a) {
      a.answer = ({ path: to }) =>
        to === '/blacklist' ? { json: { ...page, server_time: Math.floor(a.nowS()) + 600 } } : undefined
    },
  })

  await until(() => world.logs().includes('clock_skew'), 'the warning')
  const [, said = ''] = /"event\.name":"clock_skew".*?"skew_ms":(-?\d+)/.exec(world.logs()) ?? []
  assert.ok(Number(said) <= -598_000 && Number(said) >= -602_000, said)
})

test('on_stale: introspect is no allow when the issuer cannot be asked either', async () => {
  await using world = await withStaleFeed('introspect')
  world.pass(59 * 60_000)
  await world.ask({ path: '/any/1', token: world.mint({ kid: 'new', key: keys.attacker }) })
  world.pass(59 * 60_000)
  await world.ask({ path: '/any/1', token: world.mint({ kid: 'new', key: keys.attacker }) })
  world.pass(3 * 60_000)
  world.a.answer = ({ path: to }) => (to === '/jwks' ? undefined : { status: 500, json: {} })

  await denied(world, { path: '/any/1', token: world.mint() }, 503, 'introspection_unavailable')
})

test('a list that was never loaded is 503 also under on_stale: allow', async () => {
  await using world = await openWorld({
    a: { blacklist: { url: 'ISS_A/blacklist' } },
    more: { blacklist: { on_stale: 'allow' } },
    ready: false,
    before(a) {
      a.answer = ({ path: to }) => (to === '/blacklist' ? { status: 500, json: {} } : undefined)
    },
  })
  await until(() => world.count(`postern_jwks_keys{issuer="${world.a.url}"}`) > 0, 'the keys to load')

  await denied(world, { path: '/any/1', token: world.mint() }, 503, 'blacklist_stale')
  assert.equal(world.app.isReady(), false)
})

test("the operator's local list holds with any issuer, also one without a feed, and is read anew on reload", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-'))
  const file = path.join(folder, 'denied.yaml')
  const write = (entries: readonly Members[]) => writeFileSync(file, JSON.stringify({ version: 1, entries }))
  try {
    write([{ kind: 'jti', value: 'one' }])
    await using world = await openWorld({ more: { blacklist: { local: { file } } } })
    const tokens = ['one', 'two', 'three'].map((jti) => world.mint({ claims: { jti } }))
    const [one = '', two = '', three = ''] = tokens
    const ofB = world.mintB({ claims: { sub: 'carol' } })
    const opaque = 'opaque-token-of-the-local-list'
    world.a.tokens.set(opaque, { active: true, aud: 'api', sub: 'dave' })

    await denied(world, { path: '/any/1', token: one }, 401, 'token_revoked')
    for (const token of [two, three, ofB, opaque]) await allowed(world, { path: '/any/1', token })
    write([
      { kind: 'jti', value: 'two', issuer: world.a.url },
      { kind: 'sub', value: 'carol' },
      { kind: 'sub', value: 'dave' },
      { kind: 'jti', value: 'three', issuer: world.b.url },
    ])
    world.app.reload()

    for (const token of [two, ofB, opaque]) await denied(world, { path: '/any/1', token }, 401, 'token_revoked')
    for (const token of [one, three]) await allowed(world, { path: '/any/1', token })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test("the operator's local list refuses a token until its leeway after exp is over, where expires_at is its exp", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-'))
  const file = path.join(folder, 'denied.yaml')
  try {
    const exp = Math.floor(Date.now() / 1000) + 60
    writeFileSync(file, JSON.stringify({ version: 1, entries: [{ kind: 'jti', value: 'stolen', expires_at: exp }] }))
    await using world = await openWorld({ more: { blacklist: { local: { file } } } })
    const [stolen, other] = ['stolen', 'other'].map((jti) => world.mint({ claims: { jti, exp } }))

    // The leeway is 30 s.
    for (const passed of [0, 75_000]) {
      world.pass(passed)
      await denied(world, { path: '/any/1', token: stolen ?? '' }, 401, 'token_revoked')
      await allowed(world, { path: '/any/1', token: other ?? '' })
    }
    world.pass(20_000)
    await denied(world, { path: '/any/1', token: stolen ?? '' }, 401, 'token_expired')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
