import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { silentLog } from '../../src/io/log.ts'
import { StorageFailed } from '../../src/io/sqlite.ts'
import { startIssuer } from '../../src/issuer/issuer.ts'
import { findIssuerConflicts, issuerOptions, parseIssuerOptions, resolveSecrets } from '../../src/issuer/options.ts'
import { createRealm } from '../../src/issuer/realm.ts'
import { openIssuerStore } from '../../src/issuer/store.ts'
import type { Written } from './realms.ts'
import {
  basic,
  epochStart,
  grant,
  introspect,
  mint,
  orders,
  page,
  postForm,
  postJson,
  ref,
  revoke,
  secrets,
  segment,
  setAhead,
  shell,
  startWorld,
  temporaryDirectory,
  twoRealms,
  web,
} from './realms.ts'

/** Every byte of every file of a store. */
function bytesOf(directory: string): Buffer {
  return Buffer.concat(readdirSync(directory).map((name) => readFileSync(`${directory}/${name}`)))
}

test('store: an opaque token is at rest only as its hash', async () => {
  using directory = temporaryDirectory()
  await using world = await startWorld(twoRealms({ store: { sqlite: `${directory.path}/issuer.db` } }))

  const opaque = await grant(world.a, ref)
  const wrapped = await grant(world.a, shell)

  const stored = bytesOf(directory.path)
  assert.ok(stored.includes(createHash('sha256').update(opaque).digest('base64url')), 'it is there, as its hash')
  assert.ok(!stored.includes(opaque))
  assert.ok(!stored.includes(Buffer.from(opaque, 'base64url')))
  assert.ok(!stored.includes(wrapped.split('.')[2] ?? ''))
  for (const secret of secrets) assert.ok(!stored.includes(secret))
  assert.equal(statSync(`${directory.path}/issuer.db`).mode & 0o777, 0o600)
})

test('store: keys, tokens and revocations are there after a restart', async () => {
  using directory = temporaryDirectory()
  const written = twoRealms({ store: { sqlite: `${directory.path}/issuer.db` } })
  const [good, bad] = await (async () => {
    await using world = await startWorld(written)
    const clients = [web, ref, shell]
    const kept = await Promise.all(clients.map((client) => grant(world.a, client)))
    const revoked = await Promise.all(clients.map((client) => grant(world.a, client)))
    for (const [at, token] of revoked.entries()) assert.equal(await revoke(world.a, token, clients[at]), 200)
    return [kept, revoked]
  })()

  await using world = await startWorld({ ...written, listen: '127.0.0.1:0' })

  // The issuer of a named realm has the port in it, so a JWT of the last run has another: only its record is asked.
  const opaque = [good[1], bad[1]].map(String)
  assert.equal((await introspect(world.a, opaque[0] ?? ''))['active'], true)
  assert.deepEqual(await introspect(world.a, opaque[1] ?? ''), { active: false })
  assert.equal((await page(world.a)).total_live, 3)
  assert.equal(segment(await grant(world.a), 0)['kid'], segment(String(good[0]), 0)['kid'])
})

test('store: an issuer with a URL keeps its JWTs over a restart, without dev, under an ordinary key', async () => {
  using directory = temporaryDirectory()
  const { name: _, ...realm } = twoRealms().realms[0] ?? { audience: '' }
  const written = twoRealms({
    store: { sqlite: `${directory.path}/issuer.db` },
    realms: [{ ...realm, issuer: 'https://login.test/realm' }],
  })
  let tokens: string[] = []
  {
    await using world = await startWorld(written, undefined, false)
    tokens = [await grant(world.a), await grant(world.a)]
    assert.equal((await postJson(`${world.a.url}/admin/mint`, { client_id: 'web' })).status, 404, 'no minting')
    await revoke(world.a, tokens[0] ?? '')
  }

  await using world = await startWorld(written, undefined, false)

  assert.doesNotMatch(String(segment(tokens[0] ?? '', 0)['kid']), /^demo-/)
  assert.deepEqual(await introspect(world.a, tokens[0] ?? ''), { active: false })
  assert.equal((await introspect(world.a, tokens[1] ?? ''))['active'], true)
})

test('store: a restart with a shorter lifetime still lists a withdrawn key until the last token it signed', async () => {
  using directory = temporaryDirectory()
  const [realm] = twoRealms().realms
  const written = (lifetime: string): Written =>
    twoRealms({
      store: { sqlite: `${directory.path}/issuer.db` },
      realms: [{ ...(realm ?? { audience: '' }), access_token: { lifetime } }],
    })
  {
    await using world = await startWorld(written('2h'))
    await grant(world.a)
  }

  await using world = await startWorld(written('1m'))
  await fetch(`${world.a.url}/admin/keys/rotate?revoke=true`, {
    method: 'POST',
    headers: { authorization: 'Bearer admin-token-66' },
  })

  assert.ok(((await page(world.a)).entries[0]?.expires_at ?? 0) >= epochStart + 7200)
})

test('store: a clock that is ahead for a while has no revocation forgotten, and none refused', async () => {
  await using world = await startWorld()
  const [before, meanwhile] = [await mint(world.a, { lifetime: 100 }), await mint(world.a, { lifetime: 100 })]
  await revoke(world.a, before)

  setAhead(world, 86_400)
  await mint(world.a, { format: 'opaque' }) // any write purges
  assert.equal(await revoke(world.a, meanwhile), 200)
  const told = await page(world.a)
  setAhead(world, 0)

  assert.equal(told.server_time, epochStart)
  assert.equal((await page(world.a)).total_live, 2)
  for (const token of [before, meanwhile]) assert.deepEqual(await introspect(world.a, token), { active: false })
  assert.equal(await revoke(world.a, await mint(world.a, { lifetime: 100 })), 200)
  assert.equal((await page(world.a)).total_live, 3)
})

test('store: what is listed by hand while the clock is ahead may run out before that time', async () => {
  await using world = await startWorld()
  setAhead(world, 86_400)

  const order = { kind: 'jti', value: 'x', expires_at: epochStart + 100 }
  assert.equal((await postJson(`${world.a.url}/admin/revoke`, order)).status, 200)

  assert.equal((await page(world.a)).total_live, 1)
})

test('store: a token that has run out by the wall clock is inactive, however far that is ahead', async () => {
  await using world = await startWorld()
  const token = await mint(world.a, { lifetime: 100 })

  setAhead(world, 100)

  assert.deepEqual(await introspect(world.a, token), { active: false })
})

test('store: a clock set back revives nothing: what may have been forgotten stays inactive', async () => {
  await using world = await startWorld()
  const token = await mint(world.a, { lifetime: 100 })
  await revoke(world.a, token)

  world.time.now += 200
  await mint(world.a, { format: 'opaque' }) // any write purges
  world.time.now -= 150

  assert.equal((await page(world.a)).total_live, 0)
  assert.deepEqual(await introspect(world.a, token), { active: false })
})

test('store: a clock set back hinders no revocation: what gateways take by then is listed', async () => {
  await using world = await startWorld()
  await revoke(world.a, await mint(world.a, { lifetime: 100 }))
  world.time.now += 86_400
  await mint(world.a, { format: 'opaque' }) // any write purges
  world.time.now -= 86_400

  assert.equal(await revoke(world.a, await mint(world.a, { lifetime: 100 })), 200)

  assert.equal((await page(world.a)).total_live, 1)
})

test('startIssuer() refuses, without dev: memory, a realm by name, a store with a demo key', async () => {
  using directory = temporaryDirectory()
  const sqlite = { store: { sqlite: `${directory.path}/issuer.db` } }
  const { name: _, ...realm } = twoRealms().realms[0] ?? { audience: '' }
  const realms = [{ ...realm, issuer: 'https://login.test' }]
  await (await startWorld(twoRealms({ ...sqlite, realms }))).issuer.close()

  for (const written of [twoRealms({ realms }), twoRealms({ ...sqlite }), twoRealms({ ...sqlite, realms })])
    await assert.rejects(startWorld(written, undefined, false), { code: 'ERR_ISSUER_REFUSED' })
})

test('startIssuer() refuses a store that another issuer has open', async () => {
  using directory = temporaryDirectory()
  const written = twoRealms({ store: { sqlite: `${directory.path}/issuer.db` } })
  await using world = await startWorld(written)

  await assert.rejects(startWorld(written), { code: 'ERR_DATABASE_REFUSED' })
  assert.equal((await fetch(`${world.a.url}/jwks`)).status, 200)
})

const conflicts: readonly { readonly what: string; readonly change: Record<string, unknown>; readonly path: string }[] =
  [
    { what: 'neither issuer nor name', change: { name: undefined }, path: 'realms.0' },
    { what: 'both issuer and name', change: { issuer: 'https://x.test' }, path: 'realms.0' },
    {
      what: 'plain http away from loopback',
      change: { name: undefined, issuer: 'http://x.test' },
      path: 'realms.0.issuer',
    },
    {
      what: 'an issuer with a query',
      change: { name: undefined, issuer: 'https://x.test/?a' },
      path: 'realms.0.issuer',
    },
    { what: 'a path taken', change: { name: 'b' }, path: 'realms.1' },
    {
      what: 'a lifetime below a second',
      change: { access_token: { lifetime: '500ms' } },
      path: 'realms.0.access_token.lifetime',
    },
    {
      what: 'a client twice',
      change: { clients: [1, 2].map(() => ({ client_id: 'c', client_secret: 's' })) },
      path: 'realms.0.clients.1.client_id',
    },
  ]
for (const { what, change, path } of conflicts) {
  test(`findIssuerConflicts() names the place of ${what}, and the issuer does not start`, async () => {
    const [first, second] = twoRealms().realms
    const written = twoRealms({ realms: [{ ...first, ...change }, second] as Written['realms'] })

    const found = findIssuerConflicts(parseIssuerOptions(written))

    assert.deepEqual(
      found.map((conflict) => conflict.path.join('.')),
      [path],
    )
    await assert.rejects(startWorld(written), { code: 'ERR_ISSUER_REFUSED' })
  })
}

test('resolveSecrets() reads secrets where they are, and refuses one written down without dev', () => {
  const realm = { name: 'a', audience: 'x', admin: { token: { env: 'ADMIN' } } }
  const document = issuerOptions.parse(
    twoRealms({ realms: [{ ...realm, clients: [{ client_id: 'c', client_secret: { file: '/s' } }] }] }),
  )
  const readSecret = (source: object) => `read ${JSON.stringify(source)}`

  const { realms } = resolveSecrets(document, { dev: false, readSecret })

  assert.equal(realms[0]?.admin?.token, 'read {"env":"ADMIN"}')
  assert.equal(realms[0]?.clients[0]?.client_secret, 'read {"file":"/s"}')
  assert.throws(
    () => resolveSecrets(issuerOptions.parse(twoRealms()), { dev: false, readSecret }),
    (error: Error) => {
      assert.equal((error as { code?: string }).code, 'ERR_ISSUER_REFUSED')
      for (const secret of secrets) assert.ok(!error.message.includes(secret))
      return true
    },
  )
})

test('issuer: secrets and tokens are never logged, whatever is sent', async () => {
  await using world = await startWorld()
  const tokens = [await grant(world.a), await grant(world.a, ref), await mint(world.a, { sub: 'alice-the-subject' })]
  for (const token of tokens) {
    await introspect(world.a, token)
    await revoke(world.a, token, token === tokens[1] ? ref : web)
  }
  await postForm(`${world.a.url}/token`, { grant_type: 'client_credentials' }, basic('web', 'a-wrong-secret'))
  await postJson(`${world.a.url}/admin/revoke`, { kind: 'sub', value: 'alice-the-subject' })
  await fetch(`${world.a.url}/admin/keys/rotate?revoke=true`, {
    method: 'POST',
    headers: { authorization: 'Bearer admin-token-66' },
  })

  const log = world.logged.join('\n')
  const events = world.logged.map((line) => (JSON.parse(line) as { event: string }).event)
  for (const event of ['issuer_started', 'issuer_demo_keys', 'issuer_revoked', 'issuer_key_rotated'])
    assert.ok(events.includes(event), event)
  const jtis = tokens.map((token) => (token.includes('.') ? String(segment(token, 1)['jti']) : token))
  for (const unsaid of [...secrets, ...tokens, ...jtis, 'a-wrong-secret', 'alice-the-subject'])
    assert.ok(!log.includes(unsaid), 'a secret or claim value is in the log')
})

test('realm: a store that cannot write is 503 in the words of the endpoint, never a 2xx; reads go on', async () => {
  const [written] = parseIssuerOptions(twoRealms()).realms
  assert.ok(written !== undefined)
  const clock = { wallMs: () => epochStart * 1000, monotonicMs: () => 0 }
  const store = openIssuerStore({ path: ':memory:', purgeDelayMs: 0 }, { clock })
  let full = false
  const fail = () => {
    throw new StorageFailed('Cannot write database: no space is left', false)
  }
  const sometimes: typeof store = {
    ...store,
    write: (work) =>
      full ? Promise.reject(new StorageFailed('Cannot write database: no space is left', false)) : store.write(work),
    transaction: (work) => (full ? fail() : store.transaction(work)),
  }
  const realm = await createRealm(written, 'http://127.0.0.1/a', {
    store: sometimes,
    clock,
    random: randomBytes,
    log: silentLog,
    dev: true,
    epoch: 'e',
    closing: new Promise(() => {}),
  })
  const send = async (path: string, authorization: string, body: string, type = 'application/x-www-form-urlencoded') =>
    await realm.routes.get(`/a${path}`)?.handle({
      method: 'POST',
      path,
      query: '',
      body: Buffer.from(body),
      left: new AbortController().signal,
      headers: new Map([
        ['authorization', [authorization]],
        ['content-type', [type]],
      ]),
    })
  const issued = await send('/token', web, 'grant_type=client_credentials')
  const { access_token: token } = JSON.parse(String(issued?.body)) as { access_token: string }

  full = true
  const answers = [
    await send('/revoke', web, `token=${token}`),
    await send('/token', ref, 'grant_type=client_credentials'),
    await send('/admin/keys/rotate', 'Bearer admin-token-66', ''),
    await send('/admin/revoke', 'Bearer admin-token-66', '{"kind":"jti","value":"x"}'),
  ]

  assert.deepEqual(
    answers.map((answer) => answer?.status),
    [503, 503, 503, 503],
  )
  assert.equal(answers[0]?.headers?.['Retry-After'], '1')
  assert.match(String(answers[0]?.body), /temporarily_unavailable/)
  assert.match(String((await send('/introspect', orders, `token=${token}`))?.body), /"active":true/)
  assert.equal((await send('/token', web, 'grant_type=client_credentials'))?.status, 200, 'a JWT needs no write')
  store.close()
})

test('startIssuer() leaves nothing open when it refuses to start', async () => {
  using directory = temporaryDirectory()
  await using world = await startWorld()
  const written = twoRealms({
    store: { sqlite: `${directory.path}/issuer.db` },
    listen: `127.0.0.1:${world.issuer.port}`,
  })
  const deps = {
    clock: { wallMs: () => epochStart * 1000, monotonicMs: () => 0 },
    random: randomBytes,
    log: silentLog,
    dev: true,
  }

  await assert.rejects(startIssuer(parseIssuerOptions(written), deps), { code: 'EADDRINUSE' })

  await (await startWorld({ ...written, listen: '127.0.0.1:0' })).issuer.close()
})

test('openIssuerStore() finds what is after a cursor without reading the list, also in a file of before', () => {
  using directory = temporaryDirectory()
  const path = `${directory.path}/issuer.db`
  const clock = { wallMs: () => epochStart * 1000, monotonicMs: () => 0 }
  const open = () => openIssuerStore({ path, purgeDelayMs: 0 }, { clock })
  open().close()
  const file = new DatabaseSync(path)
  file.exec('DROP INDEX blacklist_seq; PRAGMA user_version = 7')
  file.close()
  const store = open()
  const tables = store.realm('a')
  const entry = {
    kind: 'jti',
    issued_before: null,
    revoked_at: epochStart,
    expires_at: epochStart + 60,
    cause: 'owner',
  }
  store.transaction(() => {
    for (let at = 0; at < 20_000; at += 1) tables.putEntry({ ...entry, value: `${at}` }, epochStart + 60)
  })

  const before = process.cpuUsage()
  for (let at = 0; at < 2000; at += 1) assert.deepEqual(tables.entriesAfter(20_000, 1, epochStart), [])
  const { user, system } = process.cpuUsage(before)

  assert.ok(user + system < 300_000, `${(user + system) / 1000} ms`)
  store.close()
})
