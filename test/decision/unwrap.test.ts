// What an answer may do to the facts of a JWT that its issuer is asked about: complete them, and take back.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Json, JsonObject } from '../../src/base/json.ts'
import type { Principal } from '../../src/decision/decision.ts'
import { reconcile } from '../../src/decision/unwrap.ts'
import type { Claims } from '../../src/spec/claims.ts'
import { readClaims } from '../../src/spec/claims.ts'
import { main, world } from '../support/gateway-world.ts'

function claimsOf(all: JsonObject): Claims {
  const claims = readClaims(all)
  assert.ok(typeof claims !== 'string', String(claims))
  return claims
}

function reconciled(token: JsonObject, answer: JsonObject): Claims {
  const issuer = world().main
  const claims = claimsOf({ iss: main, exp: 2000, ...token })
  const verified: Principal = {
    kind: 'principal',
    issuer,
    form: 'jwt',
    claims,
    wrapper: undefined,
    key: undefined,
    askedMs: undefined,
  }
  const made = reconcile(issuer, verified, { active: true, claims: claimsOf(answer) }, 0)
  assert.ok(made.kind === 'principal', made.kind === 'deny' ? made.reason : '')
  return made.claims
}

const scopes: readonly { readonly token: JsonObject; readonly answer: JsonObject; readonly held: readonly string[] }[] =
  [
    { token: { scp: 'read' }, answer: { scope: 'read write' }, held: ['read'] },
    { token: { scope: 'read' }, answer: { scp: ['read', 'write'] }, held: ['read'] },
    { token: { scp: ['read', 'admin'] }, answer: { scope: 'read' }, held: ['read'] },
    { token: {}, answer: { scope: 'read write' }, held: ['read', 'write'] },
    { token: {}, answer: { scp: 'read' }, held: ['read'] },
    { token: { scope: 'read' }, answer: {}, held: ['read'] },
  ]
for (const { token, answer, held } of scopes) {
  test(`reconcile() makes ${held.join(' and ')} of scopes ${JSON.stringify(token)}, of which the answer says ${JSON.stringify(answer)}`, () => {
    const claims = reconciled(token, answer)

    assert.deepEqual([...claims.scopes], held)
    // A condition and a header look at the claims themselves: nor may a name that the token lacks bring more.
    for (const name of ['scope', 'scp'] as const) {
      const value = claims.all[name]
      const listed = typeof value === 'string' ? value.split(' ') : ((value ?? []) as readonly Json[])
      assert.ok(
        listed.every((scope) => held.includes(String(scope))),
        name,
      )
    }
  })
}

test('reconcile() completes what a JWT lacks, also of one that names its scopes, and replaces nothing', () => {
  const { all } = reconciled(
    { scope: 'read', username: 'alice', aud: 'orders-api', nbf: 10 },
    { scope: 'read', username: 'Alice A.', tenant: 'a', aud: ['orders-api', 'more'], nbf: 20 },
  )

  assert.deepEqual(
    { ...all },
    { iss: main, exp: 2000, scope: 'read', username: 'alice', tenant: 'a', aud: 'orders-api', nbf: 20 },
  )
})

const lists: readonly { readonly one: Json; readonly other: Json; readonly agrees: boolean }[] = [
  { one: ['a', 'b'], other: ['b', 'a'], agrees: true },
  { one: ['a', 'b'], other: ['b', 'a', 'b'], agrees: true },
  { one: [1, null, true], other: [true, 1, null], agrees: true },
  { one: [], other: [], agrees: true },
  { one: ['a', 'b'], other: ['a'], agrees: false },
  { one: ['a'], other: ['a', 'b'], agrees: false },
  { one: ['a', 'b'], other: ['a', 'c'], agrees: false },
  { one: ['1', 'true'], other: [1, true], agrees: false },
  { one: ['a'], other: 'a', agrees: false },
  { one: ['a'], other: { 0: 'a' }, agrees: false },
  { one: [['a'], ['b']], other: [['b'], ['a']], agrees: false },
  { one: [{ a: 1 }, 'b'], other: ['b', { a: 1 }], agrees: false },
  { one: [['a', 'b'], { c: ['d', 'e'] }], other: [['b', 'a'], { c: ['e', 'd'] }], agrees: true },
]
for (const { one, other, agrees } of lists) {
  test(`reconcile() finds that ${JSON.stringify(other)} ${agrees ? 'agrees with' : 'contradicts'} ${JSON.stringify(one)}`, () => {
    if (agrees) assert.deepEqual(reconciled({ groups: one }, { groups: other }).all['groups'], one)
    else assert.throws(() => reconciled({ groups: one }, { groups: other }), /token_inactive/)
  })
}

const ends = [
  { token: { exp: 2000 }, answer: { exp: 1000 }, exp: 1000 },
  { token: { exp: 2000 }, answer: { exp: 3000 }, exp: 2000 },
  { token: { exp: 2000 }, answer: {}, exp: 2000 },
] as const
for (const { token, answer, exp } of ends) {
  test(`reconcile() has a JWT ${JSON.stringify(token)} end at ${exp}, with an answer ${JSON.stringify(answer)}`, () => {
    const claims = reconciled(token, answer)

    assert.deepEqual([claims.exp, claims.all['exp']], [exp, exp])
  })
}

const bound: readonly { readonly token: JsonObject; readonly answer: JsonObject; readonly certificate: string }[] = [
  { token: { cnf: { 'x5t#S256': 'a' } }, answer: {}, certificate: 'a' },
  { token: {}, answer: { cnf: { 'x5t#S256': 'a' } }, certificate: 'a' },
]
for (const { token, answer, certificate } of bound) {
  test(`reconcile() keeps a JWT ${JSON.stringify(token)} bound, with an answer ${JSON.stringify(answer)}`, () => {
    assert.equal(reconciled(token, answer).binding?.certificate, certificate)
  })
}

const proofs = [
  {
    what: 'to its own certificate, whatever proof the type of the answer wants',
    token: { cnf: { 'x5t#S256': 'a' } },
    answer: { token_type: 'DPoP' },
    binding: { certificate: 'a' },
  },
  {
    what: 'by the type of the answer alone, which the JWT says otherwise',
    token: { token_type: 'Bearer' },
    answer: { token_type: 'DPoP' },
    binding: { certificate: undefined },
  },
] as const
for (const { what, token, answer, binding } of proofs) {
  test(`reconcile() has a JWT bound ${what}`, () => {
    assert.deepEqual(reconciled(token, answer).binding, binding)
  })
}

const saidOfItself: readonly (readonly [name: string, token: Json, answer: Json])[] = [
  ['active', false, true],
  ['token_type', 'at+jwt', 'Bearer'],
  ['token_use', 'access', 'access_token'],
  ['expires_in', 3600, 1800],
  ['username', 'alice', 'Alice A.'],
  ['exp', 3000, 2000],
  ['nbf', 0, 10],
  ['scope', 'read write', 'read'],
  ['scp', ['read', 'write'], ['read']],
]
for (const [name, token, answer] of saidOfItself) {
  test(`reconcile() takes ${name} ${JSON.stringify(answer)} in an answer for no contradiction of ${JSON.stringify(token)}`, () => {
    assert.equal(reconciled({ [name]: token }, { [name]: answer }).iss, main)
  })
}

const audiences: readonly {
  readonly aud: readonly string[]
  readonly answer: JsonObject
  readonly held: readonly string[]
}[] = [
  { aud: ['a', 'b'], answer: {}, held: ['a', 'b'] },
  { aud: ['a', 'b'], answer: { aud: 'b' }, held: ['b'] },
  { aud: ['a', 'b'], answer: { aud: ['b', 'c'] }, held: ['b'] },
  { aud: ['a'], answer: { aud: ['a', 'c'] }, held: ['a'] },
]
for (const { aud, answer, held } of audiences) {
  test(`reconcile() keeps a JWT for ${aud.join(' and ')} for ${held.join(' and ')}, with an answer ${JSON.stringify(answer)}`, () => {
    assert.deepEqual(reconciled({ aud }, answer).aud, held)
  })
}
