import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { JsonObject } from '../../src/base/json.ts'
import type { Principal } from '../../src/decision/decision.ts'
import { keepMs } from '../../src/decision/unwrap.ts'
import type { TrustedIssuer } from '../../src/decision/verify.ts'
import { createKnownTokens } from '../../src/sources/known-tokens.ts'
import type { Claims } from '../../src/spec/claims.ts'
import { readClaims } from '../../src/spec/claims.ts'
import { createTestClock, startS } from '../support/clock.ts'

type Facts = {
  readonly form: 'jwt' | 'wrapped' | 'opaque'
  readonly issuer: { readonly issuer: string }
  readonly claims: { readonly all: JsonObject }
}

const facts = (form: Facts['form'], issuer = 'https://issuer.test'): Facts => ({
  form,
  issuer: { issuer },
  claims: { all: {} },
})

function setup() {
  const clock = createTestClock()
  return { clock, known: createKnownTokens<Facts>(clock.monotonicMs) }
}

test('known.find() finds facts until their time is over, not a millisecond longer', () => {
  const { clock, known } = setup()
  const held = facts('jwt')
  known.remember('token', held, 1000)
  clock.pass(999)
  assert.equal(known.find('token', undefined), held)

  clock.pass(1)
  assert.equal(known.find('token', undefined), undefined)
  assert.equal(known.entries(), 0)
})

for (const keep of [0, -1, Number.NEGATIVE_INFINITY, Number.NaN]) {
  test(`known.remember() keeps nothing for ${keep} ms`, () => {
    const { known } = setup()
    known.remember('token', facts('jwt'), keep)

    assert.equal(known.entries(), 0)
  })
}

test('known.find() wants every byte of the token', () => {
  const { known } = setup()
  known.remember('abc.def.ghi', facts('jwt'), 1000)

  for (const other of ['abc.def.ghI', 'abc.def.gh', 'abc.def.ghi=', 'abc.def.ghi.', ' abc.def.ghi', ''])
    assert.equal(known.find(other, undefined), undefined, other)
})

test('known.find() never takes one of two long tokens for the other, wherever they differ', () => {
  const token = Array.from({ length: 600 }, (_, at) => 'abcdefghijkl'[at % 12]).join('')
  for (let at = 0; at < token.length; at += 17) {
    const { known } = setup()
    const other = `${token.slice(0, at)}X${token.slice(at + 1)}`
    const [one, two] = [facts('jwt'), facts('jwt')]
    known.remember(token, one, 1000)
    assert.equal(known.find(other, undefined), undefined, `at ${at}`)
    known.forget(other, 'https://issuer.test')
    assert.equal(known.find(token, undefined), one, `at ${at}`)

    known.remember(other, two, 1000)
    assert.equal(known.find(other, undefined), two, `at ${at}`)
    assert.ok([one, undefined].includes(known.find(token, undefined)), `at ${at}`)
  }
})

const alike = [
  {
    where: 'at their beginning',
    token: (at: number) => `${at.toString().padStart(6, '0')}${'-of-all-tokens'.repeat(4)}`,
  },
  { where: 'at their end', token: (at: number) => `${'head.payload.'.repeat(40)}${at.toString(36)}` },
  { where: 'in nothing but a few characters', token: (at: number) => at.toString(2) },
]
for (const { where, token } of alike) {
  test(`known.find() finds each of 20,000 tokens that differ ${where}`, () => {
    const { known } = setup()
    const held = Array.from({ length: 20_000 }, () => facts('jwt'))
    for (const [at, each] of held.entries()) known.remember(token(at), each, 1000)

    assert.equal(held.filter((each, at) => known.find(token(at), undefined) !== each).length, 0)
  })
}

test('known.find() finds an opaque token only at the issuer it was learned from', () => {
  const { known } = setup()
  const [one, two] = [facts('opaque', 'https://one.test'), facts('opaque', 'https://two.test')]
  known.remember('same', one, 1000)

  assert.equal(known.find('same', 'https://one.test'), one)
  assert.equal(known.find('same', 'https://two.test'), undefined)
  assert.equal(known.find('same', undefined), undefined)
  known.remember('same', two, 1000)
  assert.equal(known.find('same', 'https://one.test'), one)
  assert.equal(known.find('same', 'https://two.test'), two)
})

test('known.find() never gives one issuer the facts of another, whatever they and their tokens are called', () => {
  const issuer = fc.stringMatching(/^https:\/\/[a-z.:/]{1,8}$/)
  const token = fc.stringMatching(/^[A-Za-z0-9\-._~+/]{1,12}=*$/)

  fc.assert(
    fc.property(
      fc.array(fc.tuple(issuer, token), { minLength: 2, maxLength: 20 }),
      issuer,
      token,
      (pairs, asked, sent) => {
        const { known } = setup()
        for (const [name, text] of pairs) known.remember(text, facts('opaque', name), 1000)

        const found = known.find(sent, asked)
        assert.equal(
          found !== undefined,
          pairs.some(([name, text]) => name === asked && text === sent),
        )
        for (const [name, text] of pairs) assert.equal(known.find(text, name)?.issuer.issuer, name)
      },
    ),
  )
})

test('known.remember() keeps no more bytes than it was given, of signed and of opaque tokens each', () => {
  const clock = createTestClock()
  const known = createKnownTokens<Facts>(clock.monotonicMs, 100_000)
  for (let at = 0; at < 1000; at += 1) known.remember(`s${at}`, facts('jwt'), 1000)
  const signed = known.entries()
  for (let at = 0; at < 1000; at += 1) known.remember(`o${at}`, facts('opaque'), 1000)

  const opaque = known.entries() - signed
  for (const kept of [signed, opaque]) assert.ok(kept > 50 && kept < 100, String(kept))
})

test('known.remember() is bounded, by bytes before it is by entries, and lets the least used go', () => {
  const { known } = setup()
  for (let at = 0; at < 60_000; at += 1) {
    known.remember(`t${at}`, facts('jwt'), 1000)
    if (at % 1000 === 0) known.find('t0', undefined)
  }

  assert.ok(known.entries() <= 50_000 && known.entries() > 30_000, String(known.entries()))
  assert.notEqual(known.find('t0', undefined), undefined)
  assert.equal(known.find('t1', undefined), undefined)
  assert.notEqual(known.find('t59999', undefined), undefined)
})

test('known.remember() bounds its bytes too: tokens of 8 KiB are held in a few thousands', () => {
  const { known } = setup()
  const filler = 'x'.repeat(8180)
  for (let at = 0; at < 9000; at += 1) known.remember(`${filler}${at}`, facts('jwt'), 1000)

  const bytes = known.entries() * 8192
  assert.ok(bytes < 64 * 1024 * 1024 && bytes > 32 * 1024 * 1024, String(known.entries()))
})

test('known.remember() keeps the two kinds apart: a flood of opaque tokens does not evict signed ones', () => {
  const { known } = setup()
  const held = facts('jwt')
  known.remember('signed', held, 1000)
  for (let at = 0; at < 60_000; at += 1) known.remember(`t${at}`, facts('opaque'), 1000)

  assert.equal(known.find('signed', undefined), held)
})

test('known.find() is asked about a million random tokens and evicts nothing: only verified facts ever enter', () => {
  const { known } = setup()
  for (let at = 0; at < 1000; at += 1) {
    known.remember(`signed-${at}`, facts('jwt'), 1000)
    known.remember(`opaque-${at}`, facts('opaque'), 1000)
  }
  for (let at = 0; at < 1_000_000; at += 1) assert.equal(known.find(`garbage-${at}`, 'https://issuer.test'), undefined)

  assert.equal(known.entries(), 2000)
  for (let at = 0; at < 1000; at += 1) {
    assert.notEqual(known.find(`signed-${at}`, undefined), undefined)
    assert.notEqual(known.find(`opaque-${at}`, 'https://issuer.test'), undefined)
  }
})

const issuer: TrustedIssuer = {
  kind: 'issuer',
  issuer: 'https://issuer.test',
  audience: ['orders-api'],
  algorithms: ['ES256'],
  tokenProfile: 'rfc9068',
  revocation: 'blacklist',
  leewayS: 30,
  maxLifetimeS: 86_400,
  requireKid: true,
  requireAud: true,
  opaque: false,
  opaqueMayContainDots: false,
  wrapped: { typ: ['wo+jwt'] },
  demoKeys: false,
  answersMaxAgeMs: 30_000,
  pollIntervalMs: undefined,
}

function claims(all: Record<string, string | number>): Claims {
  const read = readClaims(all)
  assert.ok(typeof read !== 'string')
  return read
}

const inS = (seconds: number) => startS + seconds
const asked = { askedMs: 1, jti: 'j' }
type Lifetime = Partial<Pick<TrustedIssuer, 'answersMaxAgeMs' | 'pollIntervalMs'>> & {
  readonly what: string
  readonly form: Principal['form']
  readonly exp: number | undefined
  readonly askedMs?: number | undefined
  readonly jti?: string
  /** Its iat and exp. */
  readonly wrapper?: readonly [number, number]
  readonly keep: number
}
const lifetimes: readonly Lifetime[] = [
  { what: 'a JWT, until its exp and leeway', form: 'jwt', exp: inS(100), askedMs: undefined, keep: 130_000 },
  { what: 'an expired JWT within its leeway', form: 'jwt', exp: inS(-20), askedMs: undefined, keep: 10_000 },
  { what: 'an answer, for max_age', form: 'opaque', exp: inS(100), ...asked, keep: 30_000 },
  {
    what: 'an answer that expires sooner, until exp and without leeway',
    form: 'opaque',
    exp: inS(9),
    ...asked,
    keep: 9000,
  },
  { what: 'an answer past its exp, not at all', form: 'opaque', exp: inS(-1), ...asked, keep: -1000 },
  { what: 'an answer without exp, for max_age', form: 'opaque', exp: undefined, ...asked, keep: 30_000 },
  {
    what: 'an answer about an opaque token without jti where there is a feed, for one poll',
    form: 'opaque',
    exp: inS(100),
    askedMs: 1,
    pollIntervalMs: 7000,
    keep: 7000,
  },
  { what: 'the same with a jti', form: 'opaque', exp: inS(100), ...asked, pollIntervalMs: 7000, keep: 30_000 },
  {
    what: 'an answer from an issuer that keeps none',
    form: 'opaque',
    exp: inS(100),
    ...asked,
    answersMaxAgeMs: 0,
    keep: 0,
  },
  {
    what: 'a wrapped token, for half of its life',
    form: 'wrapped',
    exp: inS(20),
    ...asked,
    wrapper: [inS(0), inS(20)],
    keep: 10_000,
  },
  {
    what: 'a wrapped token of a long life, for max_age',
    form: 'wrapped',
    exp: inS(600),
    ...asked,
    wrapper: [inS(0), inS(600)],
    keep: 30_000,
  },
  {
    what: 'a wrapped token about to expire, until then',
    form: 'wrapped',
    exp: inS(3),
    ...asked,
    wrapper: [inS(-50), inS(3)],
    keep: 3000,
  },
  { what: 'a JWT that is introspected, for max_age', form: 'jwt', exp: inS(100), ...asked, keep: 30_000 },
]
for (const { what, form, exp, keep, askedMs, jti, wrapper, ...change } of lifetimes) {
  test(`keepMs() keeps ${what}: ${keep} ms`, () => {
    const principal: Principal = {
      kind: 'principal',
      issuer: { ...issuer, ...change },
      form,
      claims: claims({ ...(exp && { exp }), ...(jti && { jti }) }),
      wrapper: wrapper && claims({ iat: wrapper[0], exp: wrapper[1] }),
      key: undefined,
      askedMs,
    }

    assert.equal(keepMs(principal, startS * 1000, askedMs ?? 0), keep)
    // An answer is as old as its question, however late it came.
    if (askedMs !== undefined) assert.ok(keepMs(principal, startS * 1000, askedMs + 29_000) <= 1000)
  })
}

test('known.remember() counts what an answer says, not only how long its token is', () => {
  const { known } = setup()
  const groups = Array.from({ length: 1000 }, (_, at) => `group-${at}-${'x'.repeat(40)}`)
  for (let at = 0; at < 2000; at += 1)
    known.remember(`token-${at}`, { ...facts('opaque'), claims: { all: { groups } } }, 60_000)

  // 64 MiB of answers of about 150 KiB each.
  assert.ok(known.entries() < 700, `${known.entries()} entries`)
})

test('known.forget() lets go of a token at one issuer, signed or opaque', () => {
  const { known } = setup()
  const two = facts('opaque', 'https://two.test')
  known.remember('a', facts('opaque'), 1000)
  known.remember('a', two, 1000)
  known.remember('b.c.d', facts('wrapped'), 1000)

  known.forget('a', 'https://issuer.test')
  known.forget('b.c.d', 'https://issuer.test')

  assert.equal(known.find('a', 'https://issuer.test'), undefined)
  assert.equal(known.find('a', 'https://two.test'), two)
  assert.equal(known.find('b.c.d', undefined), undefined)
})
