import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Json } from '../../src/base/json.ts'
import { parseMetadata } from '../../src/spec/metadata.ts'

const a = 'https://issuer.test/a'
const refused: readonly { named: Json; issuer: string; why: string }[] = [
  { named: `${a}/`, issuer: a, why: `its issuer is ${a}/, wanted ${a} (they differ by a closing slash)` },
  { named: a, issuer: `${a}/`, why: `its issuer is ${a}, wanted ${a}/ (they differ by a closing slash)` },
  { named: `${a}//`, issuer: a, why: `its issuer is ${a}//, wanted ${a}` },
  { named: 'https://evil.test/a', issuer: a, why: `its issuer is https://evil.test/a, wanted ${a}` },
  { named: 7, issuer: a, why: `its issuer is no URL, wanted ${a}` },
  { named: 'https://evil.test/\u001b[31m', issuer: a, why: `its issuer is no URL, wanted ${a}` },
  { named: 'https://evil.test/\u202e', issuer: a, why: `its issuer is no URL, wanted ${a}` },
  { named: `https://${'e'.repeat(300)}`, issuer: a, why: `its issuer is no URL, wanted ${a}` },
]
for (const { named, issuer, why } of refused) {
  test(`parseMetadata() refuses ${JSON.stringify(named)} for ${issuer}, and names both where that can be an issuer`, () => {
    assert.equal(parseMetadata({ issuer: named }, issuer), why)
  })
}

const url = 'https://issuer.test/x'
const endpoints: readonly { what: string; value: Json; told: string | undefined }[] = [
  { what: 'null', value: null, told: 'is not a URL' },
  { what: 'an empty string', value: '', told: 'is not a URL' },
  { what: 'a path', value: '/x', told: 'is not a URL' },
  { what: 'a list', value: [url], told: 'is not a URL' },
  { what: 'a URL with a fragment', value: `${url}#a`, told: 'is not a URL' },
  { what: 'a URL with a user', value: 'https://a:b@issuer.test/x', told: 'is not a URL' },
  { what: 'a URL of 2049 characters', value: url.padEnd(2049, 'x'), told: 'is not a URL' },
  { what: 'a URL of 2048 characters', value: url.padEnd(2048, 'x'), told: undefined },
  { what: 'a URL with a query', value: `${url}?p=B2C_1`, told: undefined },
]
for (const { what, value, told } of endpoints) {
  for (const [name, other] of [
    ['jwks_uri', 'introspection_endpoint'],
    ['introspection_endpoint', 'jwks_uri'],
  ] as const) {
    test(`parseMetadata() ${told === undefined ? 'takes' : 'refuses'} ${what} as ${name}, and the ${other} beside it is judged alone`, () => {
      const read = parseMetadata({ issuer: a, [name]: value, [other]: url }, a)

      assert.ok(typeof read === 'object')
      assert.deepEqual(read[name], told === undefined ? { url: value } : { why: `its ${name} ${told}` })
      assert.deepEqual(read[other], { url })
    })
  }
}

test('parseMetadata() says which endpoint a document has not', () => {
  assert.deepEqual(parseMetadata({ issuer: a }, a), {
    jwks_uri: { why: 'it has no jwks_uri' },
    introspection_endpoint: { why: 'it has no introspection_endpoint' },
  })
})
