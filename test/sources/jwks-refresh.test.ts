import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import fc from 'fast-check'
import { createHttpClient } from '../../src/io/http-client.ts'
import { createJwks } from '../../src/sources/jwks.ts'
import { createMetadata } from '../../src/sources/metadata.ts'
import type { VerificationKey } from '../../src/spec/jwk.ts'
import { createTestClock } from '../support/clock.ts'
import { createTestLog } from '../support/log.ts'
import { createSigner } from '../support/tokens.ts'
import { callFailed, endpoint, later, loadedEndpoint, reply, setOf, signerA, signerB } from './key-endpoint.ts'

function keyOf(answer: unknown): VerificationKey {
  const { kind, key } = answer as { kind: string; key: VerificationKey } // what key() answers for a key it holds
  assert.equal(kind, 'key')
  return key
}

const padding = 'x'.repeat(262_144)
const useless = [
  { what: 'an empty set', body: '{"keys":[]}' },
  { what: 'no keys member', body: '{}' },
  { what: 'keys that is no array', body: '{"keys":{"a":{}}}' },
  { what: 'an array', body: '[]' },
  { what: 'nothing', body: '' },
  { what: 'HTML', body: '<!doctype html><title>Login</title>' },
  { what: 'half a document', body: setOf(signerB).slice(0, -3) },
  { what: 'a document and more', body: `${setOf(signerB)}x` },
  { what: 'a keys member twice', body: `{"keys":[],"keys":[${JSON.stringify(signerB.jwk)}]}` },
  { what: '101 keys', body: JSON.stringify({ keys: Array.from({ length: 101 }, () => signerB.jwk) }) },
  { what: 'one byte too many', body: `${setOf(signerB)}${' '.repeat(262_145 - setOf(signerB).length)}` },
  { what: 'far too much', body: JSON.stringify({ keys: [signerB.jwk], padding }) },
  { what: 'unusable keys only', body: JSON.stringify({ keys: [{ ...signerB.jwk, use: 'enc' }, 7, null, {}] }) },
  {
    what: 'one kid twice and nothing else',
    body: JSON.stringify({ keys: [signerB.jwk, { ...signerA.jwk, kid: 'b' }] }),
  },
  { what: 'private keys only', body: JSON.stringify({ keys: [{ ...signerB.jwk, d: 'AQAB' }] }) },
  { what: 'a status of 404', body: setOf(signerB), status: 404 },
  { what: 'a status of 500', body: setOf(signerB), status: 500 },
  { what: 'a status of 206', body: setOf(signerB), status: 206 },
  { what: 'a status of 304 to no condition', body: '', status: 304 },
] as const
for (const { what, body, ...more } of useless) {
  test(`jwks.refresh() never replaces a good set by ${what}`, async () => {
    using it = await loadedEndpoint()
    const good = keyOf(it.key('a'))
    it.answer = () => reply('status' in more ? more.status : 200, body)

    await it.jwks.refresh()

    assert.equal(keyOf(it.key('a')), good)
    assert.ok(it.jwks.holds(good))
    assert.deepEqual(it.counts, ['failure'])
    assert.match(it.events.join(), /^jwks_failed .*"held":true/)
    assert.equal(it.doubts(), 1)
    // What it brought counts for nothing: no key of it is used, and none is called false by it.
    assert.equal((await it.key('b')).kind, 'unavailable')
  })
}

test('jwks.refresh() never replaces a good set, nor throws, whatever the endpoint answers', async () => {
  using it = await loadedEndpoint()
  const good = keyOf(it.key('a'))
  const body = fc.oneof(
    fc.json(),
    fc.string({ unit: 'binary' }),
    fc
      .record({ keys: fc.array(fc.oneof(fc.jsonValue(), fc.record({ kty: fc.constant('EC'), kid: fc.string() }))) })
      .map((value) => JSON.stringify(value)),
  )

  await fc.assert(
    fc.asyncProperty(body, async (text) => {
      it.answer = () => reply(200, text)
      await it.jwks.refresh()
      assert.ok(it.jwks.holds(good))
    }),
    { numRuns: 300 },
  )
})

const sunk = [
  { what: 'a member that is no object', bad: 7 },
  { what: 'a symmetric key', bad: { kty: 'oct', k: 'c2VjcmV0', kid: 'bad' } },
  { what: 'a point that is on no curve', bad: { ...signerA.jwk, x: signerA.jwk['y'], kid: 'bad' } },
  { what: 'a kid that is a number', bad: { ...signerA.jwk, kid: 7 } },
  { what: 'a kid of 257 bytes', bad: { ...signerA.jwk, kid: 'k'.repeat(257) } },
] as const
for (const { what, bad } of sunk) {
  test(`jwks.refresh() takes the good keys of a set beside ${what}`, async () => {
    using it = endpoint()
    it.answer = () => reply(200, JSON.stringify({ keys: [bad, signerA.jwk, signerB.jwk] }))
    await it.jwks.refresh()

    assert.equal(keyOf(it.key('a')).kid, 'a')
    assert.equal(keyOf(it.key('b')).kid, 'b')
    assert.equal(it.jwks.state().keys, 2)
  })
}

test('jwks.refresh() drops a kid that occurs twice, whichever comes first, and keeps the others', async () => {
  const twin = { ...createSigner('x').jwk, kid: 'b' }
  for (const keys of [
    [signerB.jwk, twin, signerA.jwk],
    [twin, signerA.jwk, signerB.jwk],
  ]) {
    using it = endpoint()
    it.answer = () => reply(200, JSON.stringify({ keys }))
    await it.jwks.refresh()

    assert.deepEqual(it.key('b'), { kind: 'unknown' })
    assert.equal(keyOf(it.key('a')).kid, 'a')
  }
})

test('jwks.holds() knows a key that another set brought, as one read under another configuration', async () => {
  using it = endpoint()
  using other = endpoint()
  for (const each of [it, other]) {
    each.answer = () => reply(200, setOf(signerA))
    await each.jwks.refresh()
  }

  assert.ok(it.jwks.holds(keyOf(other.key('a'))))

  other.answer = () => reply(200, JSON.stringify({ keys: [{ ...createSigner('x').jwk, kid: 'a' }] }))
  await other.jwks.refresh()
  assert.ok(!it.jwks.holds(keyOf(other.key('a'))))
})

for (const kid of ['r', undefined]) {
  test(`jwks.holds() does not take a key ${kid === undefined ? 'without kid' : 'with a kid'} for the same once it is for fewer algorithms`, async () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const free = { ...publicKey.export({ format: 'jwk' }), ...(kid === undefined ? {} : { kid }) }
    using it = endpoint()
    it.answer = () => reply(200, JSON.stringify({ keys: [free] }))
    await it.jwks.refresh()
    const key = keyOf(it.key(kid, { algorithm: 'PS256', verifies: () => true }))
    assert.ok(it.jwks.holds(key))

    it.answer = () => reply(200, JSON.stringify({ keys: [{ ...free, alg: 'RS256' }] }))
    await it.jwks.refresh()

    assert.ok(!it.jwks.holds(key))
  })
}

test('jwks.holds() knows a key that stays, one that went, one whose kid now means another', async () => {
  using it = endpoint()
  it.answer = () => reply(200, setOf(signerA, signerB))
  await it.jwks.refresh()
  const [a, b] = [keyOf(it.key('a')), keyOf(it.key('b'))]

  await it.jwks.refresh()
  assert.ok(it.jwks.holds(a) && it.jwks.holds(b), 'the same document brings the same keys')

  const changed = { ...createSigner('x').jwk, kid: 'b' }
  it.answer = () => reply(200, JSON.stringify({ keys: [signerA.jwk, changed] }))
  await it.jwks.refresh()
  assert.ok(it.jwks.holds(a))
  assert.ok(!it.jwks.holds(b), 'the same kid with a new key is another key')
  assert.ok(it.jwks.holds(keyOf(it.key('b'))))

  it.answer = () => reply(200, JSON.stringify({ keys: [changed] }))
  await it.jwks.refresh()
  assert.ok(!it.jwks.holds(a), 'a withdrawn key is not held')
})

test('jwks.holds() lets go of a key whose algorithms changed, and of nameless ones that went', async () => {
  using it = endpoint()
  const { kid: _, ...nameless } = signerB.jwk
  const { alg: __, ...open } = createSigner('rest').jwk
  it.answer = () => reply(200, JSON.stringify({ keys: [nameless, open] }))
  await it.jwks.refresh()
  const held = keyOf(it.key(undefined, { verifies: (key) => key.kid === undefined }))
  await it.jwks.refresh()
  assert.ok(it.jwks.holds(held))

  it.answer = () => reply(200, JSON.stringify({ keys: [open] }))
  await it.jwks.refresh()
  assert.ok(!it.jwks.holds(held))
})

test('jwks.key() uses the last good set up to stale_max, then says 503; a good fetch makes it young again', async () => {
  using it = await loadedEndpoint({ stale_max: 600_000 })
  const good = keyOf(it.key('a'))
  it.answer = () => callFailed('connect')
  it.clock.pass(599_000)
  await it.jwks.refresh()
  assert.equal(keyOf(it.key('a')), good)
  assert.equal(it.jwks.state().stale, false)

  it.clock.pass(1)
  assert.equal((await it.key('a')).kind, 'unavailable')
  assert.equal((await it.key('b', { iat: 0 })).kind, 'unavailable', 'a set too old calls nothing false')
  assert.ok(!it.jwks.holds(good), 'cached facts go with it')
  assert.equal(it.jwks.state().stale, true)

  it.answer = () => reply(200, setOf(signerA))
  await it.jwks.refresh()
  assert.equal(keyOf(it.key('a')), good)
  assert.equal(it.events.at(-1)?.startsWith('jwks_recovered'), true)
})

test('jwks.refresh() sends the ETag of the set it holds, and 304 makes that set young', async () => {
  using it = endpoint({ stale_max: 600_000 })
  it.answer = () => reply(200, setOf(signerA), { etag: '"one"' })
  await it.jwks.refresh()
  it.clock.pass(500_000)
  it.answer = () => reply(304, '')
  await it.jwks.refresh()
  it.clock.pass(500_000)

  assert.equal(keyOf(it.key('a')).kid, 'a')
  assert.deepEqual(
    it.calls.map(({ headers }) => headers?.['if-none-match']),
    [undefined, '"one"'],
  )
  // 304 is an answer like any other: it calls a kid false that was asked for before the fetch began.
  assert.deepEqual(await it.key('b'), { kind: 'unknown' })
})

const conditional = [
  { status: 200, body: setOf(signerB), held: ['b'], failed: false },
  { status: 200, body: '', held: ['a'], failed: true },
  { status: 204, body: '', held: ['a'], failed: true },
  { status: 302, body: '', held: ['a'], failed: true },
  { status: 404, body: '', held: ['a'], failed: true },
  { status: 503, body: setOf(signerB), held: ['a'], failed: true },
] as const
for (const { status, body, held, failed } of conditional) {
  test(`jwks.refresh() takes ${status} with ${body === '' ? 'nothing' : 'a set'} for what it is, also to a request with an ETag`, async () => {
    using it = endpoint()
    it.answer = () => reply(200, setOf(signerA), { etag: '"one"' })
    await it.jwks.refresh()
    const before = it.jwks.state().lastSuccessWallMs
    it.clock.pass(1000)
    it.answer = () => reply(status, body)
    await it.jwks.refresh()

    assert.equal(it.calls[1]?.headers?.['if-none-match'], '"one"')
    assert.deepEqual([...(it.jwks.snapshot()?.set.byKid.keys() ?? [])], held)
    assert.equal(it.jwks.state().failure !== undefined, failed)
    assert.equal(it.jwks.state().lastSuccessWallMs === before, failed)
  })
}

test('jwks.refresh() follows the keys to another address as often as they move', async () => {
  using it = await loadedEndpoint()
  let home = ''
  it.answer = () => (it.calls.at(-1)?.url === home ? reply(200, setOf(signerB)) : reply(404, ''))
  it.looked = () => {
    it.url = home
  }
  for (const moved of ['https://issuer.test/2', 'https://issuer.test/3']) {
    home = moved
    await it.jwks.refresh()
    for (let turn = 0; turn < 5; turn += 1) await nextTick()

    assert.equal(it.calls.at(-1)?.url, moved)
    assert.equal(it.jwks.state().failure, undefined)
  }
})

test('jwks.refresh() sends no ETag to another address: there the same one may be of another set', async () => {
  using it = endpoint()
  it.answer = () => reply(200, setOf(signerA), { etag: '"one"' })
  await it.jwks.refresh()
  it.url = 'https://issuer.test/moved'
  it.answer = () => reply(200, setOf(signerB), { etag: '"one"' })
  await it.jwks.refresh()
  await it.jwks.refresh()

  assert.deepEqual(
    it.calls.map(({ url, headers }) => [url, headers?.['if-none-match']]),
    [
      ['https://issuer.test/jwks', undefined],
      ['https://issuer.test/moved', undefined],
      ['https://issuer.test/moved', '"one"'],
    ],
  )
})

test('jwks.refresh() that fails is followed by one from the address that is found then, when what goes to the old one has ended', async () => {
  using it = await loadedEndpoint()
  const metadata = Promise.withResolvers<void>()
  const old = later()
  it.looked = () => metadata.promise
  it.answer = () => callFailed('connect')
  await it.jwks.refresh()
  it.answer = old.answer
  const again = it.jwks.refresh()

  it.url = 'https://issuer.test/moved'
  metadata.resolve()
  await nextTick()
  it.answer = () => reply(200, setOf(signerB))
  old.fail()
  await again
  await nextTick()

  assert.deepEqual(
    it.calls.map(({ url }) => url),
    ['https://issuer.test/jwks', 'https://issuer.test/jwks', 'https://issuer.test/moved'],
  )
  assert.equal(it.jwks.state().failure, undefined)
})

test('jwks.refresh() forgets the ETag of a document it refused, which would confirm the set it holds', async () => {
  using it = endpoint()
  it.answer = () => reply(200, setOf(signerA), { etag: '"one"' })
  await it.jwks.refresh()
  for (const body of ['{"keys":[]}', `${setOf(signerB)}${' '.repeat(262_144)}`]) {
    it.answer = () => reply(200, body, { etag: '"bad"' })
    await it.jwks.refresh()
  }
  await it.jwks.refresh()

  assert.deepEqual(
    it.calls.map(({ headers }) => headers?.['if-none-match']),
    [undefined, '"one"', '"one"', '"one"'],
  )
})

test('jwks.start() fetches at once and again before the set gets old; jitter only shortens; close() ends it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  using it = endpoint({ refresh: 300_000 })
  it.jwks.start()
  await nextTick()
  assert.equal(it.calls.length, 1)

  t.mock.timers.tick(299_999)
  await nextTick()
  assert.equal(it.calls.length, 1)
  t.mock.timers.tick(1)
  await nextTick()
  assert.equal(it.calls.length, 2)

  it.jwks.close()
  t.mock.timers.tick(3_000_000)
  await nextTick()
  assert.equal(it.calls.length, 2)
})

test('jwks.start() retries an issuer that is down after 1, 2, 4 … 30 s, and heals alone', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  using it = endpoint()
  it.answer = () => callFailed('connect')
  it.jwks.start()
  await nextTick()
  for (const waitMs of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    const before = it.calls.length
    t.mock.timers.tick(waitMs - 1)
    await nextTick()
    assert.equal(it.calls.length, before)
    t.mock.timers.tick(1)
    await nextTick()
    assert.equal(it.calls.length, before + 1)
  }
  assert.equal(it.jwks.state().loaded, false)
  const failed = it.events.filter((event) => event.startsWith('jwks_failed'))
  assert.equal(failed.length, 1, 'one line for one trouble')

  it.answer = () => reply(200, setOf(signerA))
  t.mock.timers.tick(30_000)
  await nextTick()
  assert.equal(keyOf(it.key('a')).kid, 'a')
  assert.equal(it.jwks.state().failure, undefined)
})

test('createJwks() reads a file, and again when told that it changed; an unreadable one replaces nothing', async () => {
  let content: () => Buffer = () => Buffer.from(setOf(signerA))
  const options = { issuer: 'https://issuer.test', refresh: 1000, cool_down: 0, stale_max: 1000, leeway: 0 }
  const jwks = createJwks(options, {
    clock: createTestClock(),
    random: () => 0,
    origin: { kind: 'file', read: () => content() },
    log: createTestLog(),
    count: () => {},
  })
  await jwks.refresh()
  assert.equal(jwks.state().keys, 1)

  content = () => Buffer.from(setOf(signerA, signerB))
  await jwks.refresh()
  assert.equal(jwks.state().keys, 2)
  content = () => {
    throw new Error('ENOENT')
  }
  await jwks.refresh()
  assert.deepEqual([jwks.state().keys, jwks.state().failure], [2, 'ENOENT'])
})

/** Keys found by discovery over sockets, from an issuer that a test scripts by path. */
async function overSockets(routes: Record<string, (response: ServerResponse) => void>) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    const route = routes[request.url ?? '']
    if (route === undefined) response.writeHead(404).end()
    else route(response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}` // it listens on a port
  const client = createHttpClient({})
  const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
  const metadata = createMetadata({ issuer, insecure_http: false }, { clock, send: client.send })
  const failures: string[] = []
  const jwks = createJwks(
    { issuer, refresh: 60_000, cool_down: 0, stale_max: 60_000, leeway: 0 },
    {
      clock,
      random: () => 0,
      origin: { kind: 'url', url: () => metadata.endpoint('jwks_uri'), doubt: metadata.doubt, send: client.send },
      log: createTestLog((_event, { error }) => void failures.push(String(error))),
      count: () => {},
    },
  )
  routes['/.well-known/openid-configuration'] ??= (response) =>
    response.end(JSON.stringify({ issuer, jwks_uri: `${issuer}/jwks` }))
  return {
    jwks,
    asked,
    failures,
    [Symbol.dispose]() {
      jwks.close()
      client.close()
      server.closeAllConnections()
      server.close()
    },
  }
}

test('createJwks() finds and fetches the keys over sockets', async () => {
  using it = await overSockets({ '/jwks': (response) => response.end(setOf(signerA)) })
  await it.jwks.refresh()

  assert.equal(it.jwks.state().keys, 1)
  assert.deepEqual(it.asked, ['/.well-known/openid-configuration', '/jwks'])
})

const onTheWire: readonly { what: string; route: (response: ServerResponse) => void; failure: RegExp }[] = [
  {
    what: 'a redirect',
    route: (to) => to.writeHead(302, { location: '/other' }).end(),
    failure: /^Cannot load keys from http:\S+:\d+\/jwks: status is 302, wanted 200$/,
  },
  {
    what: 'a page',
    route: (to) => to.end('<html>'),
    failure: /^Cannot use keys from http:\S+\/jwks: Cannot parse JSON: no value at offset 0$/,
  },
  {
    what: 'an empty set',
    route: (to) => to.end('{"keys":[]}'),
    failure: /^Cannot use keys from http:\S+\/jwks: Cannot read key set: it has no usable key, it is empty$/,
  },
  { what: 'a body over 256 KiB', route: (to) => to.end(`${setOf(signerA)}${' '.repeat(262_144)}`), failure: /262144/ },
  {
    what: 'an endless body',
    route: (to) => {
      const pouring = setInterval(() => to.write(' '.repeat(65_536)), 1)
      to.on('close', () => clearInterval(pouring))
    },
    failure: /262144/,
  },
  {
    what: 'half an answer',
    route: (to) => void to.writeHead(200, { 'content-length': 99 }).write('{', () => to.destroy()),
    failure: /^Cannot GET http:\S+:\d+\/jwks: the connection ended/,
  },
  { what: 'no answer', route: () => {}, failure: /within 2000 ms/ },
]
for (const { what, route, failure } of onTheWire) {
  test(`createJwks() takes no keys from ${what}, and follows nothing`, async () => {
    using it = await overSockets({ '/jwks': route, '/other': (response) => response.end(setOf(signerA)) })
    await it.jwks.refresh()

    assert.equal(it.jwks.state().loaded, false)
    assert.match(it.failures.join(), failure)
    assert.deepEqual(it.asked, ['/.well-known/openid-configuration', '/jwks'])
  })
}
