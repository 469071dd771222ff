// The words that products have for the kind of a token, each in each claim that may hold it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Json } from '../../src/base/json.ts'
import type { Claims } from '../../src/spec/claims.ts'
import { readClaims } from '../../src/spec/claims.ts'
import { needsProof, otherKindAnswered, saidKind } from '../../src/spec/token-kind.ts'

const names = ['token_use', 'token_type', 'typ', 'type', 'tokenName', 'purpose']
const access = ['access', 'Access_Token', 'Bearer']
const others = [
  ...['id', 'ID', 'id_token', 'Serialized-ID', 'Nonce', 'Logout', 'UserInfo'],
  ...['Refresh', 'refresh_token', 'Offline'],
  ...['RegistrationAccessToken', 'InitialAccessToken'],
]
const unknown = ['', 'sliding', 'accesstoken', 'id ', 1, null, ['id'], { id: 1 }]

function claimsOf(all: Record<string, Json>): Claims {
  const claims = readClaims(all)
  assert.ok(typeof claims !== 'string', String(claims))
  return claims
}

for (const name of names) {
  test(`saidKind() knows by ${name} an access token from any other, in any case`, () => {
    for (const word of access)
      assert.deepEqual(saidKind(claimsOf({ [name]: word })), { by: name, isAccess: true }, word)
    for (const word of others)
      assert.deepEqual(saidKind(claimsOf({ [name]: word })), { by: name, isAccess: false }, word)
    for (const word of unknown) assert.equal(saidKind(claimsOf({ [name]: word })), undefined, String(word))
  })
}

test('saidKind() goes by the claim that says another kind, wherever it stands beside one that says access', () => {
  for (const by of names)
    for (const beside of names.filter((name) => name !== by))
      assert.deepEqual(saidKind(claimsOf({ [beside]: 'access', [by]: 'refresh' })), { by, isAccess: false })
})

const answered: readonly { readonly all: Record<string, Json>; readonly by: string | undefined }[] = [
  { all: {}, by: undefined },
  ...access.map((token_use) => ({ all: { token_use }, by: undefined })),
  ...['id', 'refresh', 'DPoP', 'sliding', '', null, 1].map((token_use) => ({ all: { token_use }, by: 'token_use' })),
  ...[...access, 'N_A', 'DPoP', 'PoP'].map((token_type) => ({ all: { token_type }, by: undefined })),
  ...['id_token', 'refresh', 'mac', '', null, 1].map((token_type) => ({ all: { token_type }, by: 'token_type' })),
  ...['typ', 'type', 'tokenName', 'purpose'].map((by) => ({ all: { [by]: 'refresh_token' }, by })),
  // Not of RFC 7662: what is not known there says nothing.
  ...['typ', 'type', 'tokenName', 'purpose'].map((name) => ({ all: { [name]: 'billing' }, by: undefined })),
  { all: { token_use: 'access', token_type: 'Bearer', typ: 'ID' }, by: 'typ' },
]
for (const { all, by } of answered) {
  test(`otherKindAnswered() is ${by} for ${JSON.stringify(all)}`, () => {
    assert.equal(otherKindAnswered(claimsOf(all)), by)
  })
}

test('needsProof() is true of the two types that demand one, in any case, and of nothing else', () => {
  for (const type of ['DPoP', 'dpop', 'PoP', 'pop']) assert.equal(needsProof(type), true, type)
  for (const type of ['Bearer', 'n_a', '', 'dpop ', undefined, null, 1, ['dpop']])
    assert.equal(needsProof(type), false, String(type))
})

test('readClaims() binds a token of such a type to something that nobody can show, by token_type and by typ', () => {
  for (const name of ['token_type', 'typ'])
    for (const type of ['DPoP', 'PoP']) assert.deepEqual(claimsOf({ [name]: type }).binding, { certificate: undefined })
  assert.equal(claimsOf({ token_type: 'Bearer', typ: 'Bearer' }).binding, undefined)
})
