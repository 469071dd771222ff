import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { blacklistKinds } from '../../src/spec/blacklist-feed.ts'
import type { RevocableToken, Revocation, RevocationIndex } from '../../src/spec/revocation.ts'
import { createRevocationIndex } from '../../src/spec/revocation.ts'

const now = 1000

function token(claims: Partial<RevocableToken['claims']>, kid?: string): RevocableToken {
  const none = { jti: undefined, sub: undefined, client_id: undefined, sid: undefined, iat: 500 }
  return { claims: { ...none, ...claims }, kid }
}

function entry(kind: Revocation['kind'], value: string, more: Partial<Revocation> = {}): Revocation {
  return { kind, value, issued_before: undefined, until: 2000, cause: 'owner', ...more }
}

function indexOf(...entries: readonly Revocation[]): RevocationIndex {
  const index = createRevocationIndex({ capacity: 100 })
  for (const each of entries) index.put(each)
  return index
}

const cases = [
  { is: 'its jti is listed', listed: entry('jti', 'j'), token: token({ jti: 'j' }), revoked: true },
  { is: 'another jti is listed', listed: entry('jti', 'j'), token: token({ jti: 'J' }), revoked: false },
  { is: 'its subject is listed', listed: entry('sub', 'a'), token: token({ sub: 'a' }), revoked: true },
  { is: 'its client is listed', listed: entry('client', 'c'), token: token({ client_id: 'c' }), revoked: true },
  { is: 'its session is listed', listed: entry('sid', 's'), token: token({ sid: 's' }), revoked: true },
  { is: 'its key is listed', listed: entry('kid', 'k'), token: token({}, 'k'), revoked: true },
  { is: 'a subject has the name of its jti', listed: entry('sub', 'x'), token: token({ jti: 'x' }), revoked: false },
  {
    is: 'a client has the name of its subject',
    listed: entry('client', 'x'),
    token: token({ sub: 'x' }),
    revoked: false,
  },
  { is: 'a jti is listed that it lacks', listed: entry('jti', 'undefined'), token: token({}), revoked: false },
  {
    is: 'a subject is called __proto__',
    listed: entry('sub', '__proto__'),
    token: token({ sub: 'a' }),
    revoked: false,
  },
  {
    is: 'its subject is called __proto__, and listed',
    listed: entry('sub', '__proto__'),
    token: token({ sub: '__proto__' }),
    revoked: true,
  },
  {
    is: 'it was issued in the very second',
    listed: entry('issued_before', '*', { issued_before: 500 }),
    token: token({ iat: 500 }),
    revoked: true,
  },
  {
    is: 'it was issued within that second, by a fractional iat',
    listed: entry('issued_before', '*', { issued_before: 500 }),
    token: token({ iat: 500.999 }),
    revoked: true,
  },
  {
    is: 'it was issued a second later',
    listed: entry('issued_before', '*', { issued_before: 500 }),
    token: token({ iat: 501 }),
    revoked: false,
  },
  {
    is: 'it hides when it was issued',
    listed: entry('sub', 'a', { issued_before: 500 }),
    token: token({ sub: 'a', iat: undefined }),
    revoked: true,
  },
  {
    is: 'its jti is listed for an earlier time',
    listed: entry('jti', 'j', { issued_before: 499 }),
    token: token({ jti: 'j' }),
    revoked: false,
  },
  {
    is: 'its subject is listed for an earlier time',
    listed: entry('sub', 'a', { issued_before: 499 }),
    token: token({ sub: 'a' }),
    revoked: false,
  },
  {
    is: 'its entry has run out',
    listed: entry('sub', 'a', { until: now }),
    token: token({ sub: 'a' }),
    revoked: false,
  },
  {
    is: "its jti's entry has run out",
    listed: entry('jti', 'j', { until: now }),
    token: token({ jti: 'j' }),
    revoked: false,
  },
  {
    is: 'its entry runs out in the next second',
    listed: entry('jti', 'j', { until: now + 1 }),
    token: token({ jti: 'j' }),
    revoked: true,
  },
] as const
for (const { is, listed, token, revoked } of cases) {
  test(`find() says that a token is ${revoked ? '' : 'not '}revoked when ${is}`, () => {
    const expected = revoked ? { kind: listed.kind, cause: 'owner' } : undefined

    assert.deepEqual(indexOf(listed).find(token, now), expected)
  })
}

// Two not-before values, and the wrong one wins: Keycloak CVE-2026-8922; Plan B #60, an older entry replaces a newer.
const collisions = [
  { is: 'an older cut-off after a newer one', first: { issued_before: 600 }, second: { issued_before: 400 } },
  { is: 'a cut-off after an entry without one', first: {}, second: { issued_before: 400 } },
  { is: 'a shorter entry after a longer one', first: {}, second: { until: 900 } },
  { is: 'a newer cut-off after an older one', first: { issued_before: 400 }, second: { issued_before: 600 } },
  { is: 'a longer entry after a shorter one', first: { until: 900 }, second: {} },
  { is: 'a dead wide entry after a live one that fits', first: { issued_before: 500 }, second: { until: 900 } },
] as const
for (const { is, first, second } of collisions) {
  for (const kind of ['jti', 'sub'] as const) {
    test(`put() lets no entry narrow another of the same ${kind}: ${is}`, () => {
      const index = indexOf(entry(kind, 'x', first), entry(kind, 'x', second))

      const hit = index.find(token(kind === 'jti' ? { jti: 'x' } : { sub: 'x' }), now)

      assert.equal(hit?.kind, kind)
    })
  }
}

test('put() keeps the expiry of each range of a subject: the wide one does not outlive itself', () => {
  const index = indexOf(entry('sub', 'a', { until: 1100 }), entry('sub', 'a', { issued_before: 400, until: 2000 }))

  assert.notEqual(index.find(token({ sub: 'a', iat: 500 }), 1099), undefined)
  assert.equal(index.find(token({ sub: 'a', iat: 500 }), 1100), undefined)
  assert.notEqual(index.find(token({ sub: 'a', iat: 400 }), 1100), undefined)
  assert.equal(index.size(), 2)
})

test('put() takes no room for an entry that another of its value holds already', () => {
  const index = indexOf(entry('sub', 'a'), entry('sub', 'a', { issued_before: 400 }), entry('sub', 'a', { until: 900 }))

  assert.equal(index.size(), 1)
})

test('put() gives back the room of entries that a later one of their value holds', () => {
  const index = indexOf(...[400, 450, 500, undefined].map((issued_before) => entry('sub', 'a', { issued_before })))

  assert.equal(index.size(), 1)
  assert.ok(index.find(token({ sub: 'a', iat: 900 }), now))
})

test('put() has the later entry of a jti say why', () => {
  const index = indexOf(entry('jti', 'j', { cause: 'owner' }), entry('jti', 'j', { cause: 'admin', until: 1500 }))

  assert.deepEqual(index.find(token({ jti: 'j' }), 1999), { kind: 'jti', cause: 'admin' })
})

test('put() bounds the ranges of one value by making them one that holds all', () => {
  const index = createRevocationIndex({ capacity: 100 })
  for (let at = 0; at < 20; at += 1) index.put(entry('sub', 'a', { issued_before: 500 - at, until: 1100 + at }))

  assert.ok(index.size() <= 8)
  for (let at = 0; at < 20; at += 1) assert.ok(index.find(token({ sub: 'a', iat: 500 - at }), 1099 + at))
})

test('put() leaves out the oldest jti when full, says until when, and never another kind', () => {
  const index = createRevocationIndex({ capacity: 3 })
  for (const value of ['a', 'b']) index.put(entry('sub', value))
  for (const [at, value] of ['1', '2', '3'].entries()) index.put(entry('jti', value, { until: 2000 + at }))
  index.put(entry('sub', 'c'))

  assert.equal(index.size(), 3)
  assert.equal(index.find(token({ jti: '3' }), now), undefined)
  assert.equal(index.leftOutUntil(), 2002)
  for (const sub of ['a', 'b', 'c']) assert.ok(index.find(token({ sub }), now))
})

test('leftOutUntil() is the latest of all that was left out, whatever was left out after it', () => {
  const index = createRevocationIndex({ capacity: 1 })
  for (const [value, until] of [
    ['1', 2000],
    ['2', 1500],
    ['3', 1400],
  ] as const)
    index.put(entry('jti', value, { until }))
  assert.equal(index.leftOutUntil(), 2000)

  index.noteLeftOut(1999)
  assert.equal(index.leftOutUntil(), 2000)
  index.noteLeftOut(2001)
  assert.equal(index.leftOutUntil(), 2001)
})

test('put() counts a jti that is listed anew among the newest', () => {
  const index = createRevocationIndex({ capacity: 2 })
  for (const value of ['1', '2', '1', '3']) index.put(entry('jti', value))

  assert.ok(index.find(token({ jti: '1' }), now))
  assert.equal(index.find(token({ jti: '2' }), now), undefined)
  assert.ok(index.find(token({ jti: '3' }), now))
})

test('put() returns the jti that had to go, as it was held, and holds() says so', () => {
  const index = createRevocationIndex({ capacity: 2 })
  const first = entry('jti', '1', { issued_before: 400 })

  assert.equal(index.put(first), undefined)
  assert.equal(index.put(entry('jti', '2')), undefined)
  assert.equal(index.put(entry('jti', '2')), undefined)
  assert.deepEqual(index.put(entry('sub', '3')), first)
  assert.deepEqual(
    ['1', '2', '3'].map((jti) => index.holds(jti)),
    [false, true, false],
  )
})

test('sweep() lets go of the oldest jti that are over the capacity, in bounded steps, and says until when', () => {
  const index = indexOf(...['1', '2', '3', '4'].map((value) => entry('jti', value, { until: 2000 - Number(value) })))
  const held = () => [...index.entries()].map(({ value }) => value)

  index.setCapacity(1)

  assert.deepEqual([index.sweep(now, 2), held(), index.leftOutUntil()], [false, ['3', '4'], 1999])
  assert.deepEqual([index.sweep(now, 100), held(), index.leftOutUntil()], [true, ['4'], 1999])
})

test('put() keeps no memory of what has gone since it last left something out', () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const index = createRevocationIndex({ capacity: 1000 })
  let at = 0
  const add = () => {
    at += 1
    index.put(entry('jti', `${at}`.padEnd(1000, 'x'), { until: now + at }))
  }
  while (index.leftOutUntil() === 0) add()
  collect()
  const before = process.memoryUsage().arrayBuffers

  for (let round = 0; round < 200; round += 1) {
    for (let count = 0; count < 400; count += 1) add()
    while (!index.sweep(now + at - 100, 1000));
  }

  assert.equal(index.size(), 100)
  collect()
  collect()
  // 80 MB have come and gone.
  assert.ok(process.memoryUsage().arrayBuffers - before < 8_000_000)
})

test('put() leaves out a hundred thousand of the oldest one by one without looking through all that went before', () => {
  const index = createRevocationIndex({ capacity: 50_000 })
  const start = process.cpuUsage()
  for (let at = 0; at < 300_000; at += 1) index.put(entry('jti', `${at}`))

  assert.equal(index.size(), 50_000)
  assert.equal(index.find(token({ jti: '249999' }), now), undefined)
  assert.ok(index.find(token({ jti: '250000' }), now))
  // Some 200 ms; looking for the oldest from the front each time takes over a minute.
  assert.ok(process.cpuUsage(start).user < 10_000_000)
})

test('sweep() forgets what has run out in bounded steps, and says when it is through', () => {
  const index = indexOf(entry('sid', 's', { until: 900 }), entry('sub', 'a', { until: 1100 }))
  for (let at = 0; at < 10; at += 1) index.put(entry('jti', `${at}`, { until: 995 + at }))

  assert.equal(index.sweep(now, 4), false)
  assert.equal(index.size(), 8)
  assert.equal(index.sweep(now, 4), false)
  assert.equal(index.sweep(now, 100), true)
  assert.equal(index.size(), 5)
  assert.equal(index.countLive(now), 5)
  assert.equal(index.countLive(1003), 2)
})

// The count of what is held says whether it is looked at: what runs out must be taken off it once, and not again.
test('sweep() keeps of one subject what has not run out, counts it, and finds it after every later one, too', () => {
  const index = indexOf(entry('sub', 'a', { until: 900 }), entry('sub', 'a', { issued_before: 500, until: 2000 }))

  for (let round = 0; round < 3; round += 1) {
    assert.equal(index.sweep(now, 100), true)
    assert.equal(index.size(), 1)
    assert.ok(index.find(token({ sub: 'a' }), now))
  }
  assert.equal(index.sweep(2000, 100), true)
  assert.equal(index.size(), 0)
})

test('sweep() goes on where it was, however many at the beginning are still in force', () => {
  const index = createRevocationIndex({ capacity: 100 })
  for (let at = 0; at < 10; at += 1) index.put(entry('jti', `${at}`, { until: at < 8 ? 2000 : 900 }))

  assert.deepEqual(
    Array.from({ length: 3 }, () => index.sweep(now, 4)),
    [false, false, true],
  )
  assert.equal(index.size(), 8)
})

test('sweep() looks no more at what it has forgotten, of whatever kind', () => {
  const index = indexOf(...blacklistKinds.map((kind) => entry(kind, '*', { until: 900 })))
  assert.equal(index.sweep(now, 100), true)

  assert.equal(index.sweep(now, 1), true)
})

const uncovered = [
  { is: 'nothing of its jti is held', held: [], asked: entry('jti', 'x') },
  { is: 'nothing of its subject is held', held: [], asked: entry('sub', 'x') },
  { is: 'its jti is held for less long', held: [entry('jti', 'x', { until: 1999 })], asked: entry('jti', 'x') },
  { is: 'its jti is held until a time', held: [entry('jti', 'x', { issued_before: 500 })], asked: entry('jti', 'x') },
  { is: 'its subject is held for less long', held: [entry('sub', 'x', { until: 1999 })], asked: entry('sub', 'x') },
  { is: 'a client has the name of its subject', held: [entry('client', 'x')], asked: entry('sub', 'x') },
] as const
for (const { is, held, asked } of uncovered) {
  test(`covers() says no of an entry when ${is}`, () => {
    assert.equal(indexOf(...held).covers(asked), false)
  })
}

test('countLive() counts an entry of every kind up to the second before it runs out, also one that narrows a jti', () => {
  for (const kind of blacklistKinds)
    for (const issued_before of [undefined, 500]) {
      const index = indexOf(entry(kind, '*', { issued_before, until: 1500 }))

      assert.deepEqual([index.countLive(1499), index.countLive(1500)], [1, 0], kind)
    }
})

test('put() keeps a jti whose entry ends within a second until that second is over, with its cause', () => {
  const index = indexOf(entry('jti', 'j', { until: now + 0.5 }))

  assert.deepEqual(index.find(token({ jti: 'j' }), now + 0.4), { kind: 'jti', cause: 'owner' })
})

test('createRevocationIndex() holds a million jti entries in less than 120 bytes each, of which V8 looks through next to none', () => {
  const index = createRevocationIndex({ capacity: 1_000_000 })
  const before = process.memoryUsage()
  for (let at = 0; at < 1_000_000; at += 1)
    index.put(entry('jti', `0f8fad5b-d9cb-469f-a165-${at.toString(16).padStart(12, '0')}`, { until: 1_767_229_190 }))

  assert.equal(index.size(), 1_000_000)
  const after = process.memoryUsage()
  // Some 60 of these; the rest is garbage that waits.
  assert.ok(after.arrayBuffers - before.arrayBuffers < 120_000_000, `${after.arrayBuffers - before.arrayBuffers}`)
  assert.ok(after.heapUsed - before.heapUsed < 40_000_000, `${after.heapUsed - before.heapUsed}`)
  assert.ok(index.find(token({ jti: '0f8fad5b-d9cb-469f-a165-000000000000' }), now))
})

const anyEntry = fc.record({
  kind: fc.constantFrom(...blacklistKinds),
  value: fc.constantFrom('x', 'y', '*'),
  issued_before: fc.option(fc.integer({ min: 490, max: 510 }), { nil: undefined }),
  until: fc.integer({ min: 990, max: 1010 }),
  cause: fc.constantFrom('replay', 'client', 'owner', 'admin', 'local'),
} as const)

test('find() finds whatever any single entry names, in whatever order they came, swept or copied', () => {
  fc.assert(
    fc.property(
      fc.array(anyEntry, { maxLength: 30 }),
      fc.constantFrom('x', 'y'),
      fc.option(fc.integer({ min: 489, max: 511 }), { nil: undefined }),
      (entries, name, iat) => {
        const asked = token({ jti: name, sub: name, client_id: name, sid: name, iat }, name)
        const named = entries.some(
          ({ kind, value, issued_before, until }) =>
            (kind === 'issued_before' ? value === '*' : value === name) &&
            (issued_before === undefined || iat === undefined || iat <= issued_before) &&
            until > now,
        )
        const index = indexOf(...entries)
        index.sweep(now, 1000)
        const copy = indexOf(...index.entries())

        if (named) assert.ok(index.find(asked, now))
        assert.deepEqual(copy.find(asked, now), index.find(asked, now))
        for (const each of entries.filter(({ until }) => until > now)) assert.ok(index.covers(each))
      },
    ),
  )
})
