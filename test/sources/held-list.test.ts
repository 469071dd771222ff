import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Held, Holding } from '../../src/sources/held-list.ts'
import { openList, runOutS } from '../../src/sources/held-list.ts'
import { blacklistKinds } from '../../src/spec/blacklist-feed.ts'
import type { RevocableToken, Revocation, RevocationIndex } from '../../src/spec/revocation.ts'
import { createRevocationIndex } from '../../src/spec/revocation.ts'

const t0 = 1_767_225_600

/** A list whose owner is the test, on a clock that can be set. */
function setup() {
  const at = { wallMs: t0 * 1000, monotonicMs: 0 }
  const clock = { wallMs: () => at.wallMs, monotonicMs: () => at.monotonicMs }
  const holding: Holding = { held: undefined, good: { startedMs: 0, wallMs: at.wallMs }, unlisted: 0 }
  const options = {
    issuer: 'https://issuer.test',
    url: 'https://issuer.test/blacklist',
    client_id: 'gateway',
    cache_size: 100,
    purge_delay: 0,
    max_staleness: Number.MAX_SAFE_INTEGER,
  }
  const { list, feed } = openList(options, holding, {
    clock,
    send: () => Promise.reject(new Error('nothing is asked for here')),
    secret: () => 's3cret',
    log: { warn() {} },
  })
  return { at, holding, list, [Symbol.dispose]: feed.close }
}

function newIndex(): RevocationIndex {
  return createRevocationIndex({ capacity: 100 })
}

function hold(index: RevocationIndex, inherited?: RevocationIndex): Held {
  return { index, inherited, totalLive: 0, serverTimeS: t0 + 1_000_000, toldMs: 0 }
}

function token(name: string): RevocableToken {
  return {
    claims: { jti: `j${name}`, sub: `s${name}`, client_id: undefined, sid: undefined, iat: t0 - 10 },
    kid: `k${name}`,
  }
}

const jti = (value: string, until = t0 + 1000): Revocation => ({
  kind: 'jti',
  value,
  issued_before: undefined,
  until,
  cause: 'owner',
})

const revoked = { kind: 'jti', cause: 'owner' }

const becomesNamed = {
  'an entry is put into what is held': ({ holding }: ReturnType<typeof setup>) => holding.held?.index.put(jti('ja')),
  'an entry is put into what is inherited': ({ holding }: ReturnType<typeof setup>) =>
    holding.held?.inherited?.put(jti('ja')),
  'another list is swapped in, filled before the token was looked at': (
    { holding }: ReturnType<typeof setup>,
    filled: RevocationIndex,
  ) => {
    holding.held = hold(filled)
  },
  'what is held becomes what is inherited, with as many entries in all': (
    { holding }: ReturnType<typeof setup>,
    filled: RevocationIndex,
  ) => {
    holding.held = hold(newIndex(), filled)
  },
}

for (const [what, change] of Object.entries(becomesNamed)) {
  test(`check() finds a token that it was shown before, once ${what}`, () => {
    using it = setup()
    const filled = newIndex()
    filled.put(jti('ja'))
    it.holding.held = hold(newIndex(), newIndex())
    it.holding.held.index.put(jti('other'))
    const asked = token('a')

    assert.equal(it.list.check(asked), undefined)
    assert.equal(it.list.check(asked), undefined)
    change(it, filled)

    assert.deepEqual(it.list.check(asked), revoked)
  })
}

test('check() finds a token by an entry that had run out, once the clock is set back', () => {
  using it = setup()
  it.holding.held = hold(newIndex())
  it.holding.held.index.put(jti('ja', t0 + 10))
  const asked = token('a')
  it.at.wallMs += 20_000

  assert.equal(it.list.check(asked), undefined)
  it.at.wallMs -= 20_000

  assert.deepEqual(it.list.check(asked), revoked)
})

test('check() looks at no entry again for a token it has seen, until something is put', () => {
  using it = setup()
  const index = newIndex()
  let looks = 0
  const find: RevocationIndex['find'] = (...asked) => {
    looks += 1
    return index.find(...asked)
  }
  it.holding.held = hold({ ...index, find })
  const asked = token('a')

  for (let times = 0; times < 5; times += 1) assert.equal(it.list.check(asked), undefined)
  assert.equal(looks, 1)
  index.put(jti('other'))
  for (let times = 0; times < 5; times += 1) assert.equal(it.list.check(asked), undefined)
  assert.equal(looks, 2)
})

test('check() of one list believes nothing that another has noted on a token', () => {
  using clear = setup()
  using listed = setup()
  clear.holding.held = hold(newIndex())
  listed.holding.held = hold(newIndex())
  listed.holding.held.index.put(jti('ja'))
  const asked = token('a')

  assert.equal(clear.list.check(asked), undefined)
  assert.deepEqual(listed.list.check(asked), revoked)
  assert.equal(clear.list.check(asked), undefined)
})

test('check() says of a token it has seen what it says of one it has not, whatever happens in between', async () => {
  const entry = fc.record({
    kind: fc.constantFrom(...blacklistKinds),
    value: fc.constantFrom('ja', 'jb', 'sa', 'sb', 'ka', 'kb', '*'),
    issued_before: fc.constantFrom(undefined, t0 - 20, t0 - 10, t0),
    until: fc.integer({ min: t0 - 5, max: t0 + 40 }),
    cause: fc.constant('owner' as const),
  })
  const step = fc.oneof(
    fc.record({ act: fc.constant('put' as const), entry, into: fc.constantFrom('index', 'inherited', 'coming') }),
    fc.record({ act: fc.constant('pass' as const), s: fc.integer({ min: -30, max: 30 }) }),
    fc.record({ act: fc.constantFrom('swap' as const, 'inherit' as const, 'purge' as const, 'renew' as const) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      using it = setup()
      let coming = newIndex()
      it.holding.held = hold(newIndex(), newIndex())
      const kept = [token('a'), token('b')]
      for (const each of steps) {
        const held: Held | undefined = it.holding.held
        if (each.act === 'put') (each.into === 'coming' ? coming : held?.[each.into as 'index'])?.put(each.entry)
        else if (each.act === 'pass') it.at.wallMs += each.s * 1000
        else if (each.act === 'purge') await it.list.purge()
        else if (each.act === 'renew') it.holding.held = { ...held, ...hold(held?.index ?? coming, held?.inherited) }
        else {
          it.holding.held = each.act === 'swap' ? hold(coming) : hold(coming, held?.index)
          coming = newIndex()
        }
        for (const asked of kept)
          assert.deepEqual(it.list.check(asked), it.list.check({ claims: asked.claims, kid: asked.kid }))
      }
    }),
    { numRuns: 500 },
  )
})

test('purge() puts no list back that was swapped for another while it forgot', async () => {
  using it = setup()
  const index = createRevocationIndex({ capacity: 10_000 })
  for (let at = 0; at < 6000; at += 1) index.put(jti(`${at}`))
  it.holding.held = hold(index, newIndex())
  const next = newIndex()
  next.put(jti('ja'))

  const purged = it.list.purge()
  it.holding.held = hold(next)
  await purged

  assert.deepEqual(it.list.check(token('a')), revoked)
})

test('runOutS() is what both clocks have come to at least, less the delay', () => {
  const held = { ...hold(newIndex()), serverTimeS: t0, toldMs: 5000 }
  const clock = (wallMs: number, monotonicMs: number) => ({ wallMs: () => wallMs, monotonicMs: () => monotonicMs })

  // Ours is ahead: so much time has gone by since we were told theirs.
  assert.equal(runOutS(held, clock((t0 + 99_999) * 1000, 12_000), { purge_delay: 0 }), t0 + 7)
  assert.equal(runOutS(held, clock((t0 + 3) * 1000, 12_000), { purge_delay: 0 }), t0 + 3)
  assert.equal(runOutS(held, clock((t0 + 99_999) * 1000, 12_000), { purge_delay: 60_000 }), t0 - 53)
})
