import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Json } from '../src/base/json.ts'
import type { Allow, TrailStep } from '../src/decision/decision.ts'
import type { AccessRequest } from '../src/decision/request.ts'
import { parseIntrospectionAnswer } from '../src/spec/introspection.ts'
import { startS } from './support/clock.ts'
import type { World } from './support/gateway-world.ts'
import {
  answer,
  bearer,
  jwt,
  listed,
  main,
  other,
  requestFor,
  shell,
  stranger,
  world,
} from './support/gateway-world.ts'
import { accessClaims } from './support/tokens.ts'

const forged = stranger.sign(accessClaims(main, startS))

async function allowed(it: World, request: AccessRequest): Promise<{ decision: Allow; steps: string[] }> {
  const steps: string[] = []
  const decision = await it.gateway.decide(request, ({ stage, passed }) => {
    assert.ok(passed, stage)
    steps.push(stage)
  })
  assert.ok(decision.kind === 'allow', decision.reason)
  return { decision, steps }
}

const judged = ['judge.issuer', 'verify.exp', 'verify.nbf', 'verify.aud', 'confirm', 'revocation', 'authorize.scope']
const signed = [
  'verify.alg',
  'verify.typ',
  'verify.kid',
  'verify.key',
  'verify.signature',
  'verify.claims',
  'verify.lifetime',
]
const orders = [
  {
    what: 'a JWT',
    token: jwt(),
    steps: ['rules.match', 'extract', 'classify', 'verify.iss', ...signed, ...judged],
    asked: ['known', `key ${main}`, 'remember', 'revoked'],
  },
  {
    what: 'an opaque token',
    token: 'opaque',
    steps: [
      'rules.match',
      'extract',
      'classify',
      'introspect.active',
      'introspect.agrees',

      ...judged,
    ],
    asked: ['known', `introspect ${main}`, 'remember', 'revoked'],
  },
  {
    what: 'a wrapped token: its signature before anybody is asked',
    token: shell(),
    steps: [
      'rules.match',
      'extract',
      'classify',
      'verify.iss',
      ...signed,
      'introspect.active',
      'introspect.agrees',

      ...judged,
    ],
    asked: ['known', `key ${main}`, `introspect ${main}`, 'remember', 'revoked'],
  },
] as const
for (const { what, token, steps, asked } of orders) {
  test(`decide() goes the whole path for ${what}, in order, and tells every step`, async () => {
    const it = world()
    if (what.startsWith('a wrapped'))
      it.introspect = () => answer({ active: true, aud: 'orders-api', scope: 'orders:read', jti: 'w' })
    const first = await allowed(it, bearer(token))
    assert.deepEqual(first.steps, steps)
    assert.deepEqual(it.asked, asked)

    it.asked.splice(0)
    const warm = await allowed(it, bearer(token))
    assert.deepEqual(warm.steps, ['rules.match', 'extract', ...judged])
    assert.deepEqual(it.asked, ['known', 'revoked'])
  })
}

test('decide() answers at once for a token it knows, and with a promise only where it must look something up', async () => {
  const it = world()
  const token = jwt()
  assert.ok(it.gateway.decide(bearer(token)) instanceof Promise)
  await it.gateway.decide(bearer(token))

  const warm = it.gateway.decide(bearer(token))
  assert.ok(!(warm instanceof Promise))
  assert.deepEqual([warm.kind, warm.path], ['allow', 'jwt_cached'])
  assert.ok(!(it.gateway.decide(requestFor('/open', ['Basic x', 'Basic y'])) instanceof Promise))
  assert.ok(!(it.gateway.decide(requestFor('/orders/7', [])) instanceof Promise))

  it.holds = false
  assert.equal(
    (await it.gateway.decide(bearer(token))).path,
    'jwt_verified',
    'a withdrawn key has the token verified anew',
  )
  it.holds = true
  it.revoked = () => Promise.resolve('clear')
  assert.ok(it.gateway.decide(bearer(token)) instanceof Promise)
})

test('decide() lets everybody through a public rule, and reads nothing they sent', () => {
  const it = world()
  const decision = it.gateway.decide(requestFor('/open', ['Bearer x', 'nonsense', forged]))

  assert.deepEqual([(decision as Allow).kind, (decision as Allow).principal], ['allow', null])
  assert.deepEqual(it.asked, [])
})

test('decide() judges known facts anew for every request: rule, time, audience, list, scope', async () => {
  const it = world()
  const token = jwt()
  await it.gateway.decide(bearer(token))
  const reason = async (path: string) => (await it.gateway.decide(bearer(token, path))).reason

  assert.equal(await reason('/report'), 'audience_mismatch')
  assert.equal(await reason('/other'), 'issuer_unknown')
  assert.equal(await reason('/web'), 'claim_mismatch')
  it.revoked = () => listed
  assert.equal(await reason('/orders/7'), 'token_revoked')
  it.revoked = () => 'clear'
  assert.equal(await reason('/orders/7'), 'ok')
  it.clock.pass(3_630_000)
  assert.equal(await reason('/orders/7'), 'token_expired')
})

test('decide() asks again about a known token where the rule wants a fresh answer', async () => {
  const it = world()
  await it.gateway.decide(bearer('opaque'))
  it.asked.length = 0
  it.introspect = () => answer({ active: false })

  assert.equal((await it.gateway.decide(bearer('opaque'))).reason, 'ok')
  assert.equal((await it.gateway.decide(bearer('opaque', '/live'))).reason, 'token_inactive')
  assert.deepEqual(it.asked, ['known', 'revoked', 'known', `introspect ${main}`, 'forget'])
  assert.equal((await it.gateway.decide(bearer('opaque'))).reason, 'token_inactive', 'what was known is not, any more')
})

test('decide() asks again about known facts that are older than the list may be', async () => {
  const it = world()
  await it.gateway.decide(bearer('opaque'))
  const askedMs = it.facts.values().next().value?.askedMs ?? Number.NaN
  it.introspect = () => answer({ active: false })

  it.revoked = () => askedMs - 1
  assert.equal((await it.gateway.decide(bearer('opaque'))).reason, 'ok')
  it.revoked = () => askedMs
  assert.equal((await it.gateway.decide(laterBearer('opaque'))).reason, 'token_inactive')
})

/** One that comes after the answers of `answer`. */
function laterBearer(token: string, path?: string, certificate?: string): AccessRequest {
  return { ...bearer(token, path, certificate), arrivedMs: 50_001 }
}

/** What a second answer makes of facts that held a first one, for whoever comes after it. */
const askedAgain: readonly {
  readonly what: string
  readonly token: string
  readonly first?: Readonly<Record<string, unknown>>
  readonly second?: Readonly<Record<string, unknown>>
  readonly path?: string
  readonly reason: string
}[] = [
  {
    what: 'a wrapper is bound to its certificate',
    token: shell({ cnf: { 'x5t#S256': 'shown' } }),
    reason: 'proof_missing',
  },
  {
    what: 'a wrapper is for whom it says',
    token: shell({ aud: 'orders-api' }),
    path: '/report',
    reason: 'audience_mismatch',
  },
  {
    what: 'a wrapper without an end of its answer keeps its own',
    token: shell({ exp: startS + 60 }),
    first: { exp: undefined },
    second: { exp: undefined },
    reason: 'token_expired',
  },
  {
    what: 'an opaque token lacks the scope that was taken back',
    token: 'a',
    second: { scope: '' },
    reason: 'scope_missing',
  },
  {
    what: 'a JWT lacks the scope that was added, and taken back',
    token: jwt({ scope: undefined }),
    second: { scope: '' },
    reason: 'scope_missing',
  },
  {
    what: 'an opaque token needs no end',
    token: 'a',
    first: { exp: undefined },
    second: { exp: undefined },
    reason: 'ok',
  },
  {
    what: 'an opaque token is what the issuer says now',
    token: 'a',
    first: { grade: 1 },
    second: { grade: 2 },
    reason: 'ok',
  },
]
for (const { what, token, first, second, path, reason } of askedAgain) {
  test(`decide() asks again as if for the first time where the list is too old: ${what}`, async () => {
    const it = world({ revocation: 'introspect' })
    const tells = (more: object | undefined, askedMs: number) => () => {
      const body = {
        active: true,
        ...accessClaims(main, startS),
        jti: undefined,
        aud: ['orders-api', 'reports-api'],
        ...more,
      }
      return { ...answer(JSON.parse(JSON.stringify(body))), askedMs }
    }
    it.introspect = tells(first, 50_000)
    await it.gateway.decide(bearer(token, undefined, 'shown'))
    it.introspect = tells(second, 50_001)
    it.revoked = () => 50_000
    await it.gateway.decide(laterBearer(token, undefined, 'shown'))
    it.revoked = () => 'clear'
    if (reason === 'token_expired') it.clock.pass(200_000)

    assert.equal((await it.gateway.decide(laterBearer(token, path))).reason, reason)
    assert.equal(it.asked.filter((each) => each.startsWith('introspect')).length, 2)
  })
}

test('decide() believes an answer that it asked for, however long the issuer took and young the list must be', async () => {
  const it = world()
  it.revoked = () => Number.POSITIVE_INFINITY
  let asked = 0
  const said = it.introspect
  it.introspect = (token) => {
    asked += 1
    assert.equal(asked, 1)
    return said(token)
  }

  assert.equal((await it.gateway.decide(bearer('opaque'))).reason, 'ok')
})

test('decide() asks the issuer about a JWT when the list says so, once, and believes no answer that contradicts it', async () => {
  const it = world()
  const token = jwt({ jti: 'j' })
  it.revoked = () => 0
  it.introspect = () => answer({ active: true, jti: 'j', scope: 'orders:read admin' })
  assert.equal((await it.gateway.decide(bearer(token))).reason, 'ok')
  assert.equal(it.asked.filter((each) => each.startsWith('introspect')).length, 1)

  it.facts.clear()
  it.introspect = () => answer({ active: false })
  assert.equal((await it.gateway.decide(bearer(token))).reason, 'token_inactive')
  it.introspect = () => answer({ active: true, jti: 'another' })
  assert.equal((await it.gateway.decide(bearer(token))).reason, 'token_inactive')
})

test('decide() shows a token to no issuer but the one it is of, and to none before its signature', async () => {
  const it = world()
  for (const token of [
    forged,
    jwt({ iss: other }),
    stranger.sign(accessClaims(main, startS), { typ: 'wo+jwt' }),
    'eyJ.a.b',
    'a.b.c',
  ])
    await it.gateway.decide(bearer(token))
  await it.gateway.decide(bearer('opaque', '/other'))

  assert.deepEqual(
    it.asked.filter((each) => each.startsWith('introspect')),
    [],
  )
  assert.equal(it.facts.size, 0)
})

test('decide() looks for no key by the name of the empty string, or by none where one is wanted', async () => {
  for (const requireKid of [true, false]) {
    const it = world({ requireKid })
    assert.equal((await it.gateway.decide(bearer(jwt({}, { kid: '' })))).reason, 'key_unknown')
    if (requireKid) assert.equal((await it.gateway.decide(bearer(jwt({}, { kid: undefined })))).reason, 'key_unknown')

    assert.deepEqual(new Set(it.asked), new Set(['known']))
  }
})

test('decide() rejects when a look-up throws, so that the gate answers 500 and not an allow', async () => {
  const it = world()
  it.key = () => {
    throw new TypeError('a bug')
  }

  await assert.rejects(async () => await it.gateway.decide(bearer(jwt())), /a bug/)
})

test('decide() never allows a token without a valid signature, whatever was changed in it', async () => {
  const good = jwt()
  const it = world()
  it.introspect = () => answer({ active: false })
  const change = fc.tuple(
    fc.nat(good.length - 1),
    fc.constantFrom('A', 'b', '0', '-', '_', '.', '=', '', ' ', '\u00e9', 'AA'),
  )

  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      let token = good
      for (const [at, char] of changes) token = token.slice(0, at) + char + token.slice(at + 1)
      if (token === good) return
      const decision = await it.gateway.decide(bearer(token))
      assert.equal(decision.kind, 'deny', token)
      assert.equal(it.facts.size, 0)
    }),
    { numRuns: 1000 },
  )
})

test('decide() never allows an opaque token without an answer that says active, whatever it says besides', async () => {
  const body = fc.oneof(
    fc.jsonValue(),
    fc.record({
      active: fc.oneof(fc.boolean(), fc.jsonValue()),
      aud: fc.constant('orders-api'),
      scope: fc.constant('orders:read'),
    }),
  )

  await fc.assert(
    fc.asyncProperty(body, fc.string(), async (said, token) => {
      const it = world()
      const parsed = parseIntrospectionAnswer(said as Json) // fast-check's JSON is JSON
      it.introspect = () =>
        typeof parsed === 'string'
          ? { kind: 'invalid', retryAfterS: 1 }
          : { kind: 'answer', answer: parsed, askedMs: 50_000 }
      const decision = await it.gateway.decide(requestFor('/orders/7', [`Bearer ${token}`]))
      const isActive = typeof said === 'object' && said !== null && 'active' in said && said.active === true
      assert.ok(decision.kind === 'deny' || isActive)
    }),
    { numRuns: 1000 },
  )
})

test('decide() never throws, nor allows, on whatever is sent as credentials', async () => {
  const it = world()
  it.introspect = () => answer({ active: false })
  const line = fc.oneof(
    fc.string(),
    fc.string().map((text) => `Bearer ${text}`),
    fc.base64String().map((text) => `bearer eyJ${text}.${text}.${text}`),
  )

  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 3 }), async (lines) => {
      assert.equal((await it.gateway.decide(requestFor('/orders/7', lines))).kind, 'deny')
    }),
    { numRuns: 1000 },
  )
})

for (const name of ['nbf', 'iat']) {
  test(`decide() asks of a wrapped token each time whether its wrapper is good yet, by its own ${name}`, async () => {
    const it = world()
    it.introspect = () => answer({ active: true, aud: 'orders-api', scope: 'orders:read', jti: 'w' })
    const request = bearer(shell({ iat: startS - 60, [name]: startS }))
    const { decision } = await allowed(it, request)

    it.clock.pass(-30_000)
    assert.equal((await it.gateway.decide(request)).reason, 'ok')
    assert.equal(await it.gateway.recheck(decision), undefined)
    it.clock.pass(-1000)
    const trail: TrailStep[] = []
    const refused = await it.gateway.decide(request, (step) => trail.push(step))

    assert.deepEqual([refused.reason, refused.path], ['token_not_yet_valid', 'introspect_cached'])
    assert.deepEqual(
      trail.filter(({ passed }) => !passed).map(({ stage }) => stage),
      ['verify.nbf'],
    )
    assert.equal((await it.gateway.recheck(decision))?.reason, 'token_not_yet_valid')
  })
}
