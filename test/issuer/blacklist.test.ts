import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseJson } from '../../src/base/json.ts'
import type { RunningRealm } from '../../src/issuer/issuer.ts'
import { parseBlacklistPage } from '../../src/spec/blacklist-feed.ts'
import type { Page } from './realms.ts'
import {
  administrator,
  basic,
  epochStart,
  grant,
  introspect,
  mint,
  object,
  orders,
  page,
  postForm,
  postJson,
  ref,
  revoke,
  segment,
  shell,
  startWorld,
  temporaryDirectory,
  twoRealms,
  web,
} from './realms.ts'

function lookup(realm: RunningRealm, jti: unknown): Promise<Record<string, unknown>> {
  return object(postJson(`${realm.url}/blacklist/lookup`, { jti }, orders))
}

function list(realm: RunningRealm, entry: Record<string, unknown>): Promise<Response> {
  return postJson(`${realm.url}/admin/revoke`, entry)
}

async function walk(realm: RunningRealm, limit: number): Promise<Page[]> {
  const pages = [await page(realm, `?limit=${limit}`)]
  for (let last = pages[0]; last?.more === true && pages.length < 100; last = pages.at(-1))
    pages.push(await page(realm, `?limit=${limit}&cursor=${last.cursor}`))
  return pages
}

for (const [form, client] of [
  ['jwt', web],
  ['opaque', ref],
  ['wrapped_opaque', shell],
] as const) {
  test(`/revoke puts the jti on the list until its exp, cause client: ${form}`, async () => {
    await using world = await startWorld()
    const token = await grant(world.a, client)
    const { jti } = await introspect(world.a, token)

    const answer = await postForm(`${world.a.url}/revoke`, { token, token_type_hint: 'nonsense' }, client)
    const again = await revoke(world.a, token, client)

    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('cache-control'), 'no-store')
    assert.equal(again, 200)
    const { entries, total_live } = await page(world.a)
    assert.deepEqual(entries, [
      { seq: 1, kind: 'jti', value: jti, revoked_at: epochStart, expires_at: epochStart + 3600, cause: 'client' },
    ])
    assert.equal(total_live, 1)
  })
}

test('/revoke is 200 for a token that never was, and lists nothing (RFC 7009 §2.2)', async () => {
  await using world = await startWorld()

  for (const token of ['unknown', 'a.b.c', 'eyJ', '.'.repeat(9)]) assert.equal(await revoke(world.a, token), 200)

  assert.equal((await page(world.a)).total_live, 0)
})

test("/revoke refuses another client's token, and it stays good (RFC 7009 §2.1)", async () => {
  await using world = await startWorld()
  const token = await grant(world.a, web)

  const answer = await postForm(`${world.a.url}/revoke`, { token }, ref)

  assert.equal(answer.status, 400)
  assert.equal((await object(answer))['error'], 'invalid_grant')
  assert.equal((await introspect(world.a, token))['active'], true)
})

const revokeRefusals = [
  { sent: 'no credentials', form: { token: 'x' }, authorization: undefined, status: 401, error: 'invalid_client' },
  { sent: 'a resource server', form: { token: 'x' }, authorization: orders, status: 401, error: 'invalid_client' },
  { sent: 'no token', form: {}, authorization: web, status: 400, error: 'invalid_request' },
] as const
test('/revoke refuses in the words of RFC 6749 §5.2', async () => {
  await using world = await startWorld()
  for (const { sent, form, authorization, status, error } of revokeRefusals) {
    const answer = await postForm(`${world.a.url}/revoke`, form, authorization)

    assert.equal(answer.status, status, sent)
    assert.equal((await object(answer))['error'], error, sent)
  }
  const unlisted = await mint(world.a, { claims: { jti: null } })
  const answer = await postForm(`${world.a.url}/revoke`, { token: unlisted }, web)
  assert.deepEqual([answer.status, (await object(answer))['error']], [400, 'unsupported_token_type'])
})

test('/revoke still lists a token just expired: a gateway takes it until its leeway is over', async () => {
  await using world = await startWorld()
  const token = await grant(world.a)
  const { jti } = segment(token, 1)

  world.time.now += 3600 + 59
  assert.equal(await revoke(world.a, token), 200)
  assert.deepEqual(
    (await page(world.a)).entries.map(({ value }) => value),
    [jti],
  )
  world.time.now += 1
  assert.equal((await page(world.a)).total_live, 0)
})

test('/blacklist: S4-11: a token of 6000 s and a purge delay of 1 min is listed for 101 minutes', async () => {
  await using world = await startWorld()
  const token = await mint(world.a, { lifetime: 6000 })
  await revoke(world.a, token)

  world.time.now = epochStart + 100 * 60 + 59
  assert.equal((await page(world.a)).total_live, 1)
  world.time.now = epochStart + 101 * 60
  assert.equal((await page(world.a)).total_live, 0)
  assert.equal((await lookup(world.a, segment(token, 1)['jti']))['revoked'], false)
})

test('/blacklist serves pages that the gateway parses: cursors go on, the last one says so', async () => {
  await using world = await startWorld()
  for (let at = 0; at < 5; at += 1) await list(world.a, { kind: 'jti', value: `t${at}` })

  const pages = await walk(world.a, 2)
  const idle = await page(world.a, `?cursor=${pages.at(-1)?.cursor}`)

  assert.deepEqual(
    pages.map(({ entries }) => entries.map(({ value }) => value)),
    [['t0', 't1'], ['t2', 't3'], ['t4']],
  )
  assert.deepEqual(
    pages.map(({ more, cursor, total_live }) => [more, cursor, total_live]),
    [
      [true, '2', 5],
      [true, '4', 5],
      [false, '5', 5],
    ],
  )
  assert.deepEqual([idle.entries, idle.cursor, idle.more], [[], '5', false])
  for (const each of [...pages, idle]) {
    assert.equal(each.reset, false)
    assert.equal(each.server_time, epochStart)
    assert.equal(typeof parseBlacklistPage(parseJson(JSON.stringify(each))), 'object')
  }
})

test("/blacklist: realms share no entries, and no realm's cursor runs ahead of its own list", async () => {
  await using world = await startWorld()
  await list(world.a, { kind: 'jti', value: 'of-a' })
  await list(world.b, { kind: 'jti', value: 'of-b' })

  const [a, b] = [await page(world.a), await page(world.b)]

  assert.deepEqual([a.entries.map(({ value }) => value), b.entries.map(({ value }) => value)], [['of-a'], ['of-b']])
  assert.deepEqual([a.total_live, b.total_live], [1, 1])
  assert.equal((await lookup(world.b, 'of-a'))['revoked'], false)
})

test('/blacklist: 304 while nothing has changed, 200 after a revocation and after an expiry', async () => {
  await using world = await startWorld()
  await list(world.a, { kind: 'jti', value: 't', expires_at: epochStart + 10 })
  const get = (etag = '') =>
    fetch(`${world.a.url}/blacklist`, { headers: { authorization: orders, 'if-none-match': etag } })
  const etagOf = (answer: Response) => answer.headers.get('etag') ?? ''

  const first = await get()
  const same = await get(etagOf(first))
  await list(world.a, { kind: 'sub', value: 'alice' })
  const longer = await get(etagOf(first))
  world.time.now += 70
  const shorter = await get(etagOf(longer))

  assert.deepEqual([first.status, same.status, longer.status, shorter.status], [200, 304, 200, 200])
  assert.equal(etagOf(same), etagOf(first))
  assert.equal((await fetch(`${world.a.url}/blacklist`, { headers: { 'if-none-match': etagOf(shorter) } })).status, 401)
})

test('/blacklist: a cursor ahead of the store is a reset: everything from the beginning', async () => {
  await using world = await startWorld()
  await list(world.a, { kind: 'jti', value: 't' })

  const answer = await page(world.a, '?cursor=99')

  assert.equal(answer.reset, true)
  assert.equal(answer.cursor, '1')
  assert.deepEqual(
    answer.entries.map(({ value }) => value),
    ['t'],
  )
})

test('/blacklist: every start has a new epoch, 304 does not bridge it, and seq goes on', async () => {
  using directory = temporaryDirectory()
  const written = twoRealms({ store: { sqlite: `${directory.path}/issuer.db` } })
  const epochs: string[] = []
  let etag = ''
  for (const seq of [1, 2, 3]) {
    await using world = await startWorld(written)
    const answer = await fetch(`${world.a.url}/blacklist`, {
      headers: { authorization: orders, 'if-none-match': etag },
    })
    assert.equal(answer.status, 200)
    etag = answer.headers.get('etag') ?? ''
    epochs.push(((await answer.json()) as Page).epoch)
    assert.deepEqual(await object(list(world.a, { kind: 'jti', value: `t${seq}` })), { seq })
  }
  assert.equal(new Set(epochs).size, 3)
})

test('/blacklist: the seq of an entry that is gone is never given again', async () => {
  await using world = await startWorld()
  await list(world.a, { kind: 'jti', value: 't', expires_at: epochStart + 1 })
  world.time.now += 3600

  await list(world.a, { kind: 'jti', value: 'u' })
  const { seq } = await object(list(world.a, { kind: 'jti', value: 'v' }))

  assert.equal(seq, 3)
  assert.deepEqual(
    (await page(world.a)).entries.map((entry) => entry.seq),
    [2, 3],
  )
})

const badQueries = ['cursor=-1', 'cursor=x', 'cursor=1e3', 'limit=0', 'limit=x', 'wait=-1', 'cursor=9999999999999999']
test('/blacklist and its look-up refuse strangers and nonsense', async () => {
  await using world = await startWorld()
  const get = (query: string, authorization: string) =>
    fetch(`${world.a.url}/blacklist?${query}`, { headers: { authorization } })

  for (const query of badQueries) assert.equal((await get(query, orders)).status, 400, query)
  for (const authorization of ['', web, basic('orders', 'wrong'), administrator])
    assert.equal((await get('', authorization)).status, 401)
  for (const body of [{}, { jti: 1 }, { jti: '' }, [], 'x'])
    assert.equal((await postJson(`${world.a.url}/blacklist/lookup`, body, orders)).status, 400)
  assert.equal((await postJson(`${world.a.url}/blacklist/lookup`, { jti: 'x' }, web)).status, 401)
})

test('/blacklist/lookup says whether a jti is revoked, with its seq', async () => {
  await using world = await startWorld()
  await list(world.a, { kind: 'jti', value: 'first' })
  await list(world.a, { kind: 'jti', value: 'second' })

  assert.deepEqual(await lookup(world.a, 'first'), { revoked: true, seq: 1 })
  assert.deepEqual(await lookup(world.a, 'never'), { revoked: false, seq: 2 })
})

test('/blacklist?wait= answers at the next revocation, and at once when the issuer closes', async () => {
  const world = await startWorld()
  const startedMs = performance.now()
  const waiting = page(world.a, '?wait=25')
  await page(world.a) // the server has read the first request by now
  await list(world.a, { kind: 'jti', value: 't' })

  assert.deepEqual(
    (await waiting).entries.map(({ value }) => value),
    ['t'],
  )
  const closed = page(world.a, '?cursor=1&wait=25')
  await page(world.a)
  await world.issuer.close()

  assert.deepEqual((await closed).entries, [])
  assert.ok(performance.now() - startedMs < 10_000)
})

const kinds = [
  { kind: 'jti', value: 'j1', hit: { claims: { jti: 'j1' } }, miss: { claims: { jti: 'j2' } } },
  { kind: 'sub', value: 'alice', hit: { sub: 'alice' }, miss: { sub: 'bob' } },
  { kind: 'client', value: 'web', hit: { client_id: 'web' }, miss: { client_id: 'mobile' } },
  { kind: 'sid', value: 's1', hit: { claims: { sid: 's1' } }, miss: { claims: { sid: 's2' } } },
  {
    kind: 'issued_before',
    issued_before: epochStart,
    hit: { claims: { iat: epochStart } },
    miss: { claims: { iat: epochStart + 1 } },
  },
  {
    kind: 'issued_before',
    issued_before: epochStart,
    hit: { claims: { iat: null } },
    miss: { claims: { iat: epochStart + 1 } },
  },
  {
    kind: 'sub',
    value: 'alice',
    issued_before: epochStart - 1,
    hit: { sub: 'alice', claims: { iat: epochStart - 1 } },
    miss: { sub: 'alice' },
  },
] as const
for (const { hit, miss, ...entry } of kinds) {
  test(`admin revoke: ${JSON.stringify(entry)} makes ${JSON.stringify(hit)} inactive and not ${JSON.stringify(miss)}`, async () => {
    await using world = await startWorld()
    const [hits, misses] = [await mint(world.a, hit), await mint(world.a, { format: 'opaque', ...miss })]

    assert.equal((await list(world.a, entry)).status, 200)

    assert.deepEqual(await introspect(world.a, hits), { active: false })
    assert.equal((await introspect(world.a, misses))['active'], true)
    const [listed] = (await page(world.a)).entries
    assert.deepEqual(
      [listed?.kind, listed?.value, listed?.cause],
      [entry.kind, 'value' in entry ? entry.value : '*', 'admin'],
    )
  })
}

test('admin revoke: a wider entry replaces a narrower one under a new seq, and a narrower one changes nothing', async () => {
  await using world = await startWorld()
  await list(world.a, { kind: 'sub', value: 'alice', issued_before: epochStart })

  const wider = await object(list(world.a, { kind: 'sub', value: 'alice' }))
  const narrower = await object(
    list(world.a, { kind: 'sub', value: 'alice', issued_before: epochStart, expires_at: epochStart + 1 }),
  )

  assert.deepEqual([wider, narrower], [{ seq: 2 }, { seq: 2 }])
  const { entries } = await page(world.a)
  assert.equal(entries.length, 1)
  assert.equal(entries[0]?.issued_before, undefined)
})

test('admin revoke: a rotated key can be withdrawn by its kid, the current one only by rotating', async () => {
  await using world = await startWorld()
  const { kid } = segment(await grant(world.a), 0)

  const current = await list(world.a, { kind: 'kid', value: kid })
  await fetch(`${world.a.url}/admin/keys/rotate`, { method: 'POST', headers: { authorization: administrator } })
  const rotated = await list(world.a, { kind: 'kid', value: kid })

  assert.deepEqual([current.status, rotated.status], [409, 200])
  assert.deepEqual(
    (await page(world.a)).entries.map(({ kind, value }) => [kind, value]),
    [['kid', kid]],
  )
  assert.ok(!(await (await fetch(`${world.a.url}/jwks`)).text()).includes(String(kid)))
})

test('admin revoke refuses what is no entry', async () => {
  await using world = await startWorld()
  for (const entry of [
    {},
    { kind: 'user', value: 'x' },
    { kind: 'jti' },
    { kind: 'jti', value: 1 },
    { kind: 'jti', value: 'x', cause: 'local' },
    { kind: 'jti', value: 'x', expires_at: 'soon' },
    { kind: 'jti', value: 'x', expires_at: epochStart },
    { kind: 'jti', value: 'x', issued_before: -1 },
    { kind: 'jti', value: 'x', expires_at: 1e12 },
  ])
    assert.equal((await list(world.a, entry)).status, 400, JSON.stringify(entry))
  assert.equal((await page(world.a)).total_live, 0)
})
