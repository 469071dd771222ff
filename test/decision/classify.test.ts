import assert from 'node:assert/strict'
import { test } from 'node:test'
import { classify } from '../../src/decision/classify.ts'
import { encode } from '../acceptance/forge.ts'

const jws = (header: object, claims = '{}', signature = 'AAAA') =>
  `${encode(JSON.stringify({ alg: 'ES256', ...header }))}.${encode(claims)}.${signature}`

const refused = [
  { token: jws({ crit: ['b64'] }), reason: 'jwt_malformed', is: 'a JWS whose header has a crit we refuse' },
  { token: jws({ kid: 1 }), reason: 'jwt_malformed', is: 'a JWS whose header has a kid we refuse' },
  { token: jws({}, '[]'), reason: 'jwt_malformed', is: 'claims that are no strict JSON object' },
  { token: jws({}, '{}', 'A'), reason: 'jwt_malformed', is: 'a signature that is not base64url' },
  { token: 'eyJx.y.z', reason: 'jwt_malformed', is: 'like a JWT, without the header of one' },
  { token: `${encode('{"enc":"A128GCM"}')}.a.b.c.d`, reason: 'decryption_failed', is: 'a JWE' },
  { token: 'a b', reason: 'token_malformed', is: 'not token68' },
  { token: 'a'.repeat(4097), reason: 'token_malformed', is: 'too long for an opaque token' },
] as const
for (const { token, reason, is } of refused) {
  test(`classify() refuses ${token.slice(0, 40)}, and tells a trail why: ${is}`, () => {
    const told: unknown[] = []

    const found = classify(token, false, (step) => told.push(step))

    assert.deepEqual(found, { kind: 'deny', reason })
    assert.deepEqual(told, [{ stage: 'classify', passed: false, is, wanted: 'jws or opaque' }])
  })
}

const dotted = [
  { token: 'a.b.c', kind: 'opaque' },
  { token: 'eyJhbGciOiJub25lIn0', kind: 'opaque' },
  { token: 'eyJx.y.z', kind: 'opaque' },
  { token: 'a.b.c.d.e.f', kind: 'opaque' },
  { token: jws({}), kind: 'jws' },
  { token: jws({ crit: ['b64'] }), kind: 'deny' },
  { token: `${encode('{"enc":"A128GCM"}')}.a.b.c.d`, kind: 'deny' },
  { token: `a.${'b'.repeat(4095)}`, kind: 'deny' },
] as const
for (const { token, kind } of dotted) {
  test(`classify() says ${kind} of ${token.slice(0, 40)} where opaque tokens may contain dots: what is a JWT stays one`, () => {
    assert.equal(classify(token, true).kind, kind)
  })
}
