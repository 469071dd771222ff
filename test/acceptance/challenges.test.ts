// The whole of what a client is told to do next (RFC 6750 §3, product.md §1), and that nobody keeps a denial.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DenyReason } from '../../src/decision/decision.ts'
import { denyReasons } from '../../src/decision/decision.ts'
import type { Members, Recipe } from './forge.ts'
import { denied, openWorld } from './harness.ts'

const rules: readonly Members[] = [
  { match: { path: '/plain/**' } },
  { match: { path: '/all/**' }, scopes: ['orders:read', 'orders:list'] },
  { match: { path: '/both/**' }, scopes: { all: ['orders:read'], any: ['web', 'mobile'] } },
  { match: { path: '/any/**' }, scopes: { any: ['web', 'mobile'] } },
  { match: { path: '/claim/**' }, scopes: ['read'], claims: { client_id: 'mobile' } },
  { match: { path: '/claim-only/**' }, claims: { client_id: 'mobile' } },
]

type Row = {
  readonly path: string
  /** Undefined: nothing is sent. */
  readonly recipe?: Recipe
  readonly reason: DenyReason
  readonly scope?: string
}

const expired: Recipe = { claims: { iat: 1_767_225_600, exp: 1_767_225_900 } }
const rows: readonly Row[] = [
  { path: '/plain/1', reason: 'token_missing' },
  { path: '/all/1', reason: 'token_missing', scope: 'orders:read orders:list' },
  { path: '/both/1', reason: 'token_missing', scope: 'orders:read web mobile' },
  { path: '/all/1', recipe: {}, reason: 'scope_missing', scope: 'orders:read orders:list' },
  { path: '/both/1', recipe: {}, reason: 'scope_missing', scope: 'orders:read web mobile' },
  { path: '/any/1', recipe: {}, reason: 'scope_missing', scope: 'web mobile' },
  { path: '/claim/1', recipe: {}, reason: 'claim_mismatch', scope: 'read' },
  { path: '/claim-only/1', recipe: {}, reason: 'claim_mismatch' },
  // What is wrong with a token is not mended by another scope.
  { path: '/all/1', recipe: expired, reason: 'token_expired' },
]
const errors: Readonly<Partial<Record<DenyReason, string>>> = {
  scope_missing: 'insufficient_scope',
  claim_mismatch: 'insufficient_scope',
  token_expired: 'invalid_token',
}
for (const { path, recipe, reason, scope } of rows)
  test(`a denial ${reason} of ${path} has the challenge with ${scope === undefined ? 'no scope' : `scope ${scope}`}`, async () => {
    await using world = await openWorld({ b: null, rules })
    const status = reason === 'token_missing' || reason === 'token_expired' ? 401 : 403
    const error = errors[reason]
    const description = denyReasons[reason].help.replaceAll('`', '')

    const got = await denied(world, { path, ...(recipe && { token: world.mint(recipe) }) }, status, reason)

    const parts = [
      'realm="postern"',
      ...(error === undefined ? [] : [`error="${error}"`, `error_description="${description}"`]),
      ...(scope === undefined ? [] : [`scope="${scope}"`]),
    ]
    assert.equal(got.challenge, `Bearer ${parts.join(', ')}`)
  })

test('no denial is kept by a cache, whatever its status: what is refused now may be allowed in a second', async () => {
  await using world = await openWorld({ b: null })
  world.a.answer = ({ path }) => (path === '/introspect' ? { status: 500, json: {} } : undefined)

  const denials = [
    await denied(world, { path: '/plain//1' }, 400, 'path_rejected'),
    await denied(world, {}, 401, 'token_missing'),
    await denied(world, { path: '/write/1', token: world.mint() }, 403, 'scope_missing'),
    await denied(world, { path: '/nowhere' }, 403, 'no_rule'),
    await denied(world, { path: '/any/1', token: 'opaque-token-of-this-test' }, 503, 'introspection_unavailable'),
  ]

  for (const { text, reason } of denials)
    assert.deepEqual(text.match(/^cache-control:.*$/gim), ['Cache-Control: no-store'], reason)
})
