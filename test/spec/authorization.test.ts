import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatBasic, formatBearerChallenge, isToken68, parseBearer } from '../../src/spec/authorization.ts'

const longest = 'x'.repeat(8192)
const credentials: readonly { readonly lines: readonly string[]; readonly is: string }[] = [
  { lines: [], is: 'missing' },
  { lines: [''], is: 'missing' },
  { lines: ['Bearer'], is: 'missing' },
  { lines: ['Bearer '], is: 'missing' },
  { lines: ['Bearer    '], is: 'missing' },
  { lines: ['Beare'], is: 'missing' },
  { lines: ['Bear er abc'], is: 'missing' },
  { lines: ['Bearerx abc'], is: 'missing' },
  { lines: ['Bearer!abc'], is: 'missing' },
  { lines: ['Bearer:abc'], is: 'missing' },
  { lines: [' Bearer abc'], is: 'missing' },
  { lines: ['Basic abcdef'], is: 'missing' },
  { lines: ['Digest abcdef'], is: 'missing' },
  { lines: ['Bearer\tabc'], is: 'malformed' },
  { lines: ['Bearer abc'], is: 'abc' },
  { lines: ['bearer abc'], is: 'abc' },
  { lines: ['BEARER abc'], is: 'abc' },
  { lines: ['bEaReR a'], is: 'a' },
  { lines: ['Bearer    abc'], is: 'abc' },
  // What no token has in it is left for who knows that.
  { lines: ['Bearer \tabc'], is: '\tabc' },
  { lines: ['Bearer a b'], is: 'a b' },
  { lines: ['Bearer !'], is: '!' },
  { lines: [`Bearer ${longest}`], is: longest },
  { lines: [`Bearer   ${longest}`], is: longest },
  { lines: [`Bearer ${longest}x`], is: 'malformed' },
  { lines: ['Bearer abc', 'Bearer abc'], is: 'repeated' },
  { lines: ['Bearer abc', ''], is: 'repeated' },
  { lines: ['Basic abcdef', 'Bearer abc'], is: 'repeated' },
]
for (const { lines, is } of credentials) {
  test(`parseBearer() finds ${JSON.stringify(is).slice(0, 20)} in ${JSON.stringify(lines).slice(0, 40)}`, () => {
    const found = parseBearer(lines)

    assert.deepEqual(
      found,
      ['missing', 'malformed', 'repeated'].includes(is) ? { kind: is } : { kind: 'bearer', token: is },
    )
  })
}

test('isToken68() takes its alphabet with = at the end only, and nothing else', () => {
  for (const text of ['a', '0', 'aZ09-._~+/', 'a=', 'a===']) assert.equal(isToken68(text), true, text)
  for (const text of ['', '=', '=a', 'a=b', 'a b', ' a', 'a ', 'a\n', 'a,b', 'a"', 'a%20', 'é', 'a\u0000'])
    assert.equal(isToken68(text), false, text)
})

test('formatBearerChallenge() writes what there is in order, and no character that would end its quotes', () => {
  assert.equal(formatBearerChallenge({ realm: 'r' }), 'Bearer realm="r"')
  assert.equal(
    formatBearerChallenge({ realm: 'r', error: 'e', error_description: 'd d', scope: 'a b' }),
    'Bearer realm="r", error="e", error_description="d d", scope="a b"',
  )
  assert.equal(formatBearerChallenge({ realm: 'r', scope: '' }), 'Bearer realm="r"')
  assert.equal(
    formatBearerChallenge({ realm: 'a"b\\\r\nc\u007fé !#[]~', scope: '"x' }),
    'Bearer realm="abc !#[]~", scope="x"',
  )
})

test('formatBasic() form-encodes each part first, so that no colon of a name is taken for the one between', () => {
  assert.equal(
    Buffer.from(formatBasic('a:b c', '=&+%é').slice('Basic '.length), 'base64').toString(),
    'a%3Ab+c:%3D%26%2B%25%C3%A9',
  )
})
