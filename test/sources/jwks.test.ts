import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTick } from 'node:timers/promises'
import type { HttpReply } from '../../src/io/http-client.ts'
import { askAgain } from '../../src/sources/held-keys.ts'
import type { VerificationKey } from '../../src/spec/jwk.ts'
import { createTestClock, startS } from '../support/clock.ts'
import { createSigner } from '../support/tokens.ts'
import { callFailed, endpoint, later, loadedEndpoint, reply, setOf, signerA, signerB } from './key-endpoint.ts'

const unknown = { kind: 'unknown' }
const unavailable = (retryAfterS: number) => ({ kind: 'unavailable', retryAfterS })

async function kidOf(answer: unknown): Promise<string | undefined> {
  const { kind, key } = (await answer) as { kind: string; key?: VerificationKey } // what key() answers
  return kind === 'key' ? key?.kid : kind
}

test('jwks.key() answers at once for a key it holds, and asks nobody', async () => {
  using it = await loadedEndpoint()

  const answer = it.key('a')

  assert.ok(!(answer instanceof Promise) && answer.kind === 'key')
  assert.equal(answer.key.kid, 'a')
  assert.equal(it.calls.length, 0)
})

test('jwks.key() fetches once for an unknown kid, and the new key is in the answer', async () => {
  using it = await loadedEndpoint()
  it.answer = () => reply(200, setOf(signerA, signerB))

  assert.equal(await kidOf(it.key('b')), 'b')
  assert.equal(it.calls.length, 1)
  assert.equal(it.calls[0]?.headers?.['accept'], 'application/jwk-set+json, application/json')
  assert.equal(it.calls[0]?.headers?.['cache-control'], 'no-cache')
})

test('jwks.key() calls a kid unknown when the set was fetched after the request arrived', async () => {
  using it = await loadedEndpoint()

  assert.deepEqual(await it.key('b'), unknown)
  assert.equal(it.calls.length, 1)
})

test('jwks.key() doubts the address where a good fetch does not bring the kid, and not where nobody was asked', async () => {
  using it = await loadedEndpoint()
  await it.key('a')
  await it.key('b', { iat: 0 })
  assert.equal(it.doubts(), 0, 'an old token says nothing of the address')

  assert.deepEqual(await it.key('b'), unknown)
  assert.equal(it.doubts(), 1)
  it.clock.pass(1000)
  assert.deepEqual(await it.key('b'), unavailable(29))
  assert.equal(it.doubts(), 1)

  it.clock.pass(30_000)
  it.answer = () => reply(200, setOf(signerA, signerB))
  assert.equal(await kidOf(it.key('b')), 'b')
  assert.equal(it.doubts(), 1)
})

test('jwks.key() brings keys from another address once, outside the cool-down, where the old one still answers', async () => {
  using it = await loadedEndpoint()
  it.looked = () => {
    it.url = 'https://issuer.test/moved'
    it.answer = () => reply(200, setOf(signerA, signerB))
  }

  assert.deepEqual(await it.key('b'), unknown)
  await nextTick()
  assert.equal(await kidOf(it.key('b')), 'b')
  it.clock.pass(1000)
  assert.deepEqual(await it.key('c'), unavailable(29), 'of what is nowhere none is asked for')
  await nextTick()
  assert.deepEqual(
    it.calls.map(({ url }) => url),
    ['https://issuer.test/jwks', 'https://issuer.test/moved'],
  )
})

test('jwks.key() brings keys from an address that somebody else has found, without waiting until it is looked up once more', async () => {
  using it = await loadedEndpoint()
  it.looked = () => new Promise(() => {})
  const old = later()
  it.answer = old.answer
  const asked = it.key('b')
  it.url = 'https://issuer.test/moved'
  old.settle(reply(200, setOf(signerA)))
  assert.deepEqual(await asked, unknown)
  it.answer = () => reply(200, setOf(signerA, signerB))
  await nextTick()

  assert.equal(await kidOf(it.key('b')), 'b')
  assert.equal(it.calls.at(-1)?.url, 'https://issuer.test/moved')
})

for (const before of ['https://issuer.test/jwks', undefined])
  test(`jwks.key() brings keys from another address as soon as that is looked up, where ${before === undefined ? 'there was none' : 'it takes a while'}`, async () => {
    using it = await loadedEndpoint()
    const { promise, resolve } = Promise.withResolvers<void>()
    it.looked = () => {
      it.url = before
      return promise
    }
    assert.deepEqual(await it.key('b'), unknown)
    for (let turn = 0; turn < 5; turn += 1) await nextTick()
    assert.equal(it.calls.length, 1)

    it.url = 'https://issuer.test/moved'
    it.answer = () => reply(200, setOf(signerA, signerB))
    resolve()
    await nextTick()

    assert.equal(await kidOf(it.key('b')), 'b')
    assert.equal(it.calls.at(-1)?.url, 'https://issuer.test/moved')
  })

test('jwks.key() raises no doubt of what it has fetched because of one: of two addresses in turn there would be no end', async () => {
  using it = await loadedEndpoint()
  let at = 0
  it.looked = () => {
    at += 1
    it.url = `https://issuer.test/${at}`
    it.answer = () => callFailed('timeout')
  }

  assert.deepEqual(await it.key('b'), unknown)
  for (let turn = 0; turn < 20; turn += 1) await nextTick()

  assert.equal(it.doubts(), 1)
  assert.equal(it.calls.length, 2)
})

// The set was fetched at startS, on the wall clock; leeway is 30 s.
const issuedAt = [
  { iat: startS - 32, fetches: 0, because: 'a key newer than the set would have signed later' },
  { iat: startS - 31.5, fetches: 0, because: 'half a second past second and leeway is past them' },
  { iat: startS - 31, fetches: 1, because: 'iat + 1 s + leeway is just when the set was fetched, not before' },
  { iat: startS, fetches: 1, because: 'the key may be newer than the set' },
  { iat: startS + 60, fetches: 1, because: 'an iat in the future proves nothing' },
  { iat: 0, fetches: 0, because: '1970 is before the set' },
  { iat: undefined, fetches: 1, because: 'a token without iat says nothing of its age' },
  { iat: '0', fetches: 1, because: 'a string is no time' },
  { iat: null, fetches: 1, because: 'null is no time, and least of all 1970' },
  { iat: [0], fetches: 1, because: 'an array is no time' },
] as const
for (const { iat, fetches, because } of issuedAt) {
  test(`jwks.key() fetches ${fetches} times for an unknown kid with iat ${JSON.stringify(iat)}: ${because}`, async () => {
    using it = await loadedEndpoint()

    assert.deepEqual(await it.key('b', { iat: iat as number }), unknown) // a hostile iat is of any type
    assert.equal(it.calls.length, fetches)
  })
}

test('jwks.key() fetches once for a hundred unknown kids at a time', async () => {
  using it = await loadedEndpoint()
  const slow = later()
  it.answer = slow.answer

  const asked = Array.from({ length: 100 }, (_, at) => it.key(at === 50 ? 'b' : `attack-${at}`))
  slow.settle(reply(200, setOf(signerA, signerB)))
  const kids = await Promise.all(asked.map(kidOf))

  assert.equal(it.calls.length, 1)
  assert.equal(kids.filter((kid) => kid === 'unknown').length, 99)
  assert.equal(kids[50], 'b')
})

test('jwks.key() joins a fetch under way, but a set asked for before the request came does not prove a key away', async () => {
  using it = await loadedEndpoint()
  const slow = later()
  it.answer = slow.answer
  const first = it.key('attack')
  await nextTick()
  it.clock.pass(1500)
  const joined = [it.key('b'), it.key('c')]
  slow.settle(reply(200, setOf(signerA, signerB)))

  assert.deepEqual(await first, unknown)
  assert.equal(await kidOf(joined[0]), 'b')
  // It came after the fetch began, and the cool-down does not allow another: the key may be new.
  assert.deepEqual(await joined[1], unavailable(29))
  assert.equal(it.calls.length, 1)
})

test('jwks.key() says 503 with what is left of the cool-down, and fetches again when it is over', async () => {
  using it = await loadedEndpoint()
  await it.key('attack')
  it.answer = () => reply(200, setOf(signerA, signerB))

  const seen: unknown[] = []
  for (const passMs of [1, 999, 28_000, 999]) {
    it.clock.pass(passMs)
    seen.push(await it.key('b'))
  }
  assert.deepEqual(seen, [unavailable(30), unavailable(29), unavailable(1), unavailable(1)])
  assert.equal(it.calls.length, 1)
  assert.deepEqual(it.counts, ['success', 'suppressed', 'suppressed', 'suppressed', 'suppressed'])

  it.clock.pass(1)
  assert.equal(await kidOf(it.key('b')), 'b')
  assert.equal(it.calls.length, 2)
})

test('jwks.key() calls an old token false even while the cool-down lasts', async () => {
  using it = await loadedEndpoint()
  await it.key('attack')
  it.clock.pass(10_000)

  assert.deepEqual(await it.key('b', { iat: startS - 60 }), unknown)
})

const failing: readonly { what: string; answer: () => HttpReply | Promise<HttpReply> }[] = [
  { what: 'answers 500', answer: () => reply(500, '') },
  { what: 'answers 404', answer: () => reply(404, 'not here') },
  { what: 'redirects', answer: () => reply(302, '', { location: 'https://attacker.test/jwks' }) },
  { what: 'refuses the connection', answer: () => callFailed('connect') },
  { what: 'hangs until the deadline', answer: () => callFailed('timeout') },
  { what: 'answers an empty set', answer: () => reply(200, '{"keys":[]}') },
  { what: 'answers what is no JSON', answer: () => reply(200, '<html>') },
]
for (const { what, answer } of failing) {
  test(`jwks.key() stamps the cool-down by attempt: an endpoint that ${what} is asked once`, async () => {
    using it = await loadedEndpoint()
    it.answer = answer

    assert.deepEqual(await it.key('b'), unavailable(30))
    for (let at = 0; at < 29; at += 1) {
      it.clock.pass(1000)
      assert.deepEqual(await it.key(`attack-${at}`), unavailable(29 - at))
    }
    assert.equal(it.calls.length, 1)

    it.clock.pass(1000)
    it.answer = () => reply(200, setOf(signerA, signerB))
    assert.equal(await kidOf(it.key('b')), 'b')
    assert.equal(it.calls.length, 2)
  })
}

test('jwks.key() lets all wait for one fetch that hangs, and none of them starts another', async () => {
  using it = await loadedEndpoint()
  const hung = later()
  it.answer = hung.answer
  const waiting = [it.key('b')]
  await nextTick()
  it.clock.pass(1000)
  waiting.push(it.key('c'))
  it.clock.pass(1000)
  hung.fail()

  assert.deepEqual(await Promise.all(waiting), [unavailable(28), unavailable(28)])
  assert.equal(it.calls.length, 1)
})

test('jwks.key() attempts once per request even without a cool-down, so a dead endpoint is not asked for ever', async () => {
  using it = await loadedEndpoint({ cool_down: 0 })
  it.answer = () => reply(500, '')

  assert.deepEqual(await it.key('b'), unavailable(1))
  assert.equal(it.calls.length, 1)
})

test('askAgain() waits for two questions at most, though one of others is always under way', async () => {
  let waits = 0
  const answer = await askAgain(
    { kid: 'b', algorithm: 'ES256', iat: 0, arrivedMs: 0, verifies: () => false },
    {
      clock: createTestClock(),
      find: () => undefined,
      async pending() {
        waits += 1
        if (waits > 10) throw new Error('Cannot go on: it waits for ever')
      },
      begin: () => assert.fail('one is under way'),
      quietUntilMs: () => 0,
      suppressed: () => {},
    },
  )

  assert.deepEqual(answer, unavailable(1))
  assert.equal(waits, 2)
})

test('jwks.refresh() neither starts the cool-down nor waits for its end', async () => {
  using it = await loadedEndpoint()
  await it.jwks.refresh()
  assert.deepEqual(await it.key('b', { arrivedMs: it.clock.monotonicMs() + 1 }), unavailable(30))
  assert.equal(it.calls.length, 2)

  it.clock.pass(1000)
  await it.jwks.refresh()
  assert.equal(it.calls.length, 3)
  // Its answer counts as any other: fetched after this request arrived.
  assert.deepEqual(await it.key('b', { arrivedMs: it.clock.monotonicMs() }), unknown)
  it.clock.pass(28_999)
  assert.deepEqual(await it.key('b'), unavailable(1))
})

test('jwks.key() waits for the first load while it is under way', async () => {
  using it = endpoint()
  const slow = later()
  it.answer = slow.answer
  void it.jwks.refresh()
  await nextTick()
  const asked = it.key('a')
  slow.settle(reply(200, setOf(signerA)))

  assert.equal(await kidOf(asked), 'a')
  assert.equal(it.calls.length, 1)
})

test('jwks.key() says 503 and asks nobody before the first load, and when it failed', async () => {
  using it = endpoint()
  assert.deepEqual(it.key('a'), unavailable(1))

  it.answer = () => callFailed('connect')
  await it.jwks.refresh()
  assert.deepEqual(it.key('a'), unavailable(1))
  assert.deepEqual(it.key('a', { iat: 0 }), unavailable(1))
  assert.equal(it.calls.length, 1)
})

const dropped = [
  { what: 'for encryption', jwk: { ...signerB.jwk, use: 'enc' } },
  { what: 'private', jwk: { ...signerB.jwk, d: 'AQAB' } },
  { what: 'of a curve nobody has', jwk: { ...signerB.jwk, crv: 'P-257' } },
] as const
for (const { what, jwk } of dropped) {
  test(`jwks.key() calls the kid of a dropped key (${what}) unknown, and does not fetch it again`, async () => {
    using it = endpoint()
    it.answer = () => reply(200, JSON.stringify({ keys: [signerA.jwk, jwk] }))
    await it.jwks.refresh()
    it.clock.pass(60_000)

    assert.deepEqual(it.key('b'), unknown)
    assert.equal(it.calls.length, 1)
    assert.match(it.events.join(), /^jwks_key_dropped .*"kid":"b"/)
  })
}

test('jwks.key() tries at most 16 keys for a token without kid, then holds it to the same rule', async () => {
  using it = endpoint()
  const signers = Array.from({ length: 17 }, (_, at) => createSigner(`k${at}`))
  it.answer = () => reply(200, setOf(...signers))
  await it.jwks.refresh()
  it.clock.pass(1000)
  const tried: (string | undefined)[] = []
  const verifies = (wanted: string) => (key: VerificationKey) => {
    tried.push(key.kid)
    return key.kid === wanted
  }

  assert.equal(await kidOf(it.key(undefined, { verifies: verifies('k15') })), 'k15')
  assert.equal(tried.length, 16)
  tried.length = 0
  assert.deepEqual(it.key(undefined, { verifies: verifies('k16'), iat: 0 }), unknown)
  assert.equal(tried.length, 16)
  assert.equal(it.calls.length, 1)

  assert.deepEqual(await it.key(undefined, { verifies: verifies('none') }), unknown)
  assert.equal(it.calls.length, 2)
  it.clock.pass(1000)
  assert.deepEqual(await it.key(undefined, { verifies: verifies('none') }), unavailable(29))
  assert.equal(it.calls.length, 2)
})

test('jwks.key() tries only keys of the right algorithm for a token without kid, and those without kid first', async () => {
  using it = endpoint()
  const { kid: _, ...nameless } = signerB.jwk
  it.answer = () => reply(200, JSON.stringify({ keys: [signerA.jwk, nameless] }))
  await it.jwks.refresh()
  const tried: (string | undefined)[] = []
  const verifies = (key: VerificationKey) => tried.push(key.kid) > 5

  await it.key(undefined, { verifies, iat: 0 })
  await it.key(undefined, { verifies, iat: 0, algorithm: 'ES384' })
  await it.key(undefined, { verifies, iat: 0, algorithm: 'RS256' })

  assert.deepEqual(tried, [undefined, 'a'])
})

test('jwks.close() ends a fetch without a word of failure: nothing is wrong with the issuer', async () => {
  using it = endpoint()
  const slow = later()
  it.answer = slow.answer
  const fetched = it.jwks.refresh()
  await nextTick()

  it.jwks.close()
  slow.fail()
  await fetched

  assert.deepEqual([it.calls.length, it.events, it.counts], [1, [], []])
})
