// JSONTestSuite's bodies as everything an issuer may answer with.
import assert from 'node:assert/strict'
import { until } from '../support/until.ts'
import { jwkOf, keys } from './forge.ts'
import { allowed, openWorld } from './harness.ts'
import { testVectors } from './vectors.ts'

type Suite = { readonly cases: readonly { readonly name: string; readonly b64: string }[] }
const file = 'jsontestsuite/cases.json'

testVectors<Suite>(
  'as introspection answers: never an allow, never an inactive kept, and the gateway lives',
  file,
  async ({ cases }) => {
    await using world = await openWorld()
    assert.equal(cases.length, 340)
    for (const [at, { name, b64 }] of cases.entries()) {
      const body = Buffer.from(b64, 'base64')
      world.a.answer = ({ path }) => (path === '/introspect' ? { body } : undefined)
      const got = await world.ask({ token: `opaque-${at}-of-the-suite` })
      assert.equal(got.status, 503, name)
      assert.match(got.reason, /^introspection_(?:invalid|unavailable)$/, name)
      world.pass(6000) // past the breaker's pause, should it have opened
    }
    assert.equal(world.seen.length, 0)

    world.a.answer = () => undefined
    const token = 'opaque-good-of-the-suite'
    world.a.tokens.set(token, { active: true, aud: 'api', scope: 'read', exp: world.nowS() + 60 })
    await allowed(world, { token })
    await allowed(world, { token: world.mint() })
  },
)

testVectors<Suite>('as key sets: a good one is never replaced', file, async ({ cases }) => {
  await using world = await openWorld({ a: { jwks: { cool_down: '0ms' } } })
  const token = world.mint()
  await allowed(world, { token })
  for (const { name, b64 } of cases) {
    const body = Buffer.from(b64, 'base64')
    world.a.answer = ({ path }) => (path === '/jwks' ? { body } : undefined)
    const before = world.a.count('/jwks')
    const got = await world.ask({ token: world.mint({ kid: 'unknown', key: keys.attacker }) })
    assert.deepEqual([got.status, got.reason], [503, 'keys_unavailable'], name)
    assert.ok(world.a.count('/jwks') > before)
    await allowed(world, { token }, name)
  }

  world.a.answer = () => undefined
  world.a.keys = [...world.a.keys, jwkOf(keys.second, { kid: 'k2' })]
  await allowed(world, { token: world.mint({ key: keys.second, kid: 'k2' }) })
})

testVectors<Suite>('as discovery documents: none is taken, and the gateway heals', file, async ({ cases }) => {
  let served = 0
  await using world = await openWorld({
    ready: false,
    a: { jwks: { cool_down: '0ms', refresh: '10ms' } },
    before(a) {
      a.answer = ({ path }) => {
        if (!path.includes('.well-known')) return undefined
        const { b64 = '' } = cases[served] ?? {}
        served += 1
        return { body: served > cases.length ? '' : Buffer.from(b64, 'base64') }
      }
    },
  })
  await until(() => served > cases.length, 'every document to be served')
  const got = await world.ask({ token: world.mint() })
  assert.deepEqual([got.status, got.reason], [503, 'keys_unavailable'])
  assert.equal(world.a.count('/jwks'), 0)
  assert.equal(world.app.isReady(), false)

  world.a.answer = () => undefined

  await until(() => world.app.isReady(), 'the gateway to heal')
  await allowed(world, { token: world.mint() })
})
