// What becomes of a permit while it is used: judged again without anybody being asked.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Allow } from '../src/decision/decision.ts'
import { createPolicy } from '../src/decision/policy.ts'
import { compileRules, rulesOptions } from '../src/decision/rules.ts'
import { createGateway } from '../src/gateway.ts'
import { startS } from './support/clock.ts'
import type { World } from './support/gateway-world.ts'
import { answer, bearer, listed, main, requestFor, signer, world } from './support/gateway-world.ts'
import { accessClaims } from './support/tokens.ts'

const jwt = () => signer.sign(accessClaims(main, startS))

async function permit(it: World, path = '/orders/1'): Promise<Allow> {
  const decision = await it.gateway.decide(bearer(jwt(), path))
  assert.ok(decision.kind === 'allow')
  it.asked.length = 0
  return decision
}

test('recheck() lets a good token go on, and asks no issuer', async () => {
  const it = world()
  const allow = await permit(it)

  assert.equal(await it.gateway.recheck(allow), undefined)
  assert.deepEqual(it.asked, ['revoked'])
})

test('recheck() waits for a token that has to be asked for, and lets it go on where it is clear', async () => {
  const it = world()
  const allow = await permit(it)
  it.revoked = () => Promise.resolve('clear')

  assert.equal(await it.gateway.recheck(allow), undefined)
})

test('recheck() has nothing against a public rule, ever', async () => {
  const it = world()
  const allow = await it.gateway.decide(requestFor('/open', []))
  it.clock.pass(1_000_000_000)
  it.holds = false
  it.revoked = () => listed

  assert.ok(allow.kind === 'allow')
  assert.equal(await it.gateway.recheck(allow), undefined)
})

const ends = [
  { reason: 'token_expired', end: (it: World) => it.clock.pass(3_700_000) },
  {
    reason: 'token_revoked',
    end: (it: World) => {
      it.revoked = () => listed
    },
  },
  {
    reason: 'token_revoked',
    end: (it: World) => {
      it.revoked = () => Promise.resolve(listed)
    },
  },
  {
    reason: 'blacklist_stale',
    end: (it: World) => {
      it.revoked = () => 'stale'
    },
  },
  {
    reason: 'blacklist_stale',
    end: (it: World) => {
      it.revoked = () => Promise.resolve('stale')
    },
  },
  {
    reason: 'blacklist_stale',
    end: (it: World) => {
      it.revoked = () => 60_000
    },
  },
  {
    reason: 'key_unknown',
    end: (it: World) => {
      it.holds = false
    },
  },
  {
    // Nothing is known of the key, and that is no verdict on the token.
    reason: 'keys_unavailable',
    end: (it: World) => {
      it.holds = false
      it.areStale = true
    },
  },
] as const
for (const [at, { reason, end }] of ends.entries()) {
  test(`recheck() says ${reason} (${at}) of a token that was good`, async () => {
    const it = world()
    const allow = await permit(it)
    end(it)

    assert.equal((await it.gateway.recheck(allow))?.reason, reason)
    assert.ok(!it.asked.some((asked) => asked.startsWith('introspect') || asked.startsWith('key')))
  })
}

test('recheck() takes an answer that is younger than the list may be old for the list', async () => {
  const it = world()
  it.introspect = () => answer({ active: true, ...accessClaims(main, startS) })
  const allow = await it.gateway.decide(bearer('opaque-token'))
  assert.ok(allow.kind === 'allow' && allow.principal?.askedMs === 50_000)
  it.revoked = () => 49_999

  assert.equal(await it.gateway.recheck(allow), undefined)
  it.revoked = () => 50_000
  assert.equal((await it.gateway.recheck(allow))?.reason, 'blacklist_stale')
})

test('recheck() judges by the configuration it is asked of: its issuers and their audience', async () => {
  const it = world()
  const allow = await permit(it)
  const seen: unknown[] = []
  const never = () => assert.fail('nobody is asked')
  const lookups = {
    known: never,
    remember: never,
    forget: never,
    holdsKey: () => true,
    keysAreStale: never,
    key: never,
    introspect: never,
    revoked: (principal: { readonly issuer: unknown }) => {
      seen.push(principal.issuer)
      return 'clear' as const
    },
  }
  const under = (issuers: Parameters<typeof createPolicy>[1]) =>
    createGateway(
      createPolicy(compileRules(rulesOptions.parse([{ match: { path: '/x' } }])), issuers),
      lookups,
      it.clock,
    )
  const reloaded = { ...it.main }

  assert.equal(await under([reloaded]).recheck(allow), undefined)
  assert.equal(seen[0], reloaded, 'lists are those of the issuer as it is configured now')
  assert.equal((await under([]).recheck(allow))?.reason, 'issuer_unknown')
  assert.equal((await under([{ ...it.main, audience: ['other'] }]).recheck(allow))?.reason, 'audience_mismatch')
  // Half a minute past `exp`.
  it.clock.pass(3_630_000)
  assert.equal(await under([{ ...it.main, leewayS: 60 }]).recheck(allow), undefined)
  assert.equal((await under([{ ...it.main, leewayS: 0 }]).recheck(allow))?.reason, 'token_expired')
})
