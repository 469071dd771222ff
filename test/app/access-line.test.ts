import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { AccessFields } from '../../src/app/access-line.ts'
import { formatAccessLine } from '../../src/app/access-line.ts'
import { injections } from '../io/injections.ts'

const request: AccessFields = {
  timeMs: Date.UTC(2026, 10, 21, 9, 30),
  method: 'GET',
  path: '/orders/1',
  status: 200,
  decision: 'allow',
  reason: 'ok',
  rule: 'read-orders',
  issuer: 'https://login.example.com',
  fingerprint: '9f86d081884c7d65',
  clientAddress: '10.0.0.7',
  upstreamError: undefined,
  durationUs: 182.4,
  run: 'r',
  count: 1,
}

test('formatAccessLine() says of each request what it was, whatever was said of the ones before', () => {
  const some = fc.record({
    method: fc.constantFrom('GET', 'POST', 'get', ''),
    status: fc.constantFrom(200, 401, 403),
    decision: fc.constantFrom('allow' as const, 'deny' as const),
    reason: fc.constantFrom('ok', 'token_expired', 'no_rule'),
    rule: fc.constantFrom('read', 'write', '', undefined),
    issuer: fc.constantFrom('https://a.example', 'https://b.example', undefined),
    clientAddress: fc.constantFrom('10.0.0.7', '::1', '', undefined),
    fingerprint: fc.constantFrom('9f86d081884c7d65', undefined),
  })
  void fc.assert(
    fc.property(fc.array(some, { minLength: 2, maxLength: 30 }), (all) => {
      for (const fields of all) {
        const said = JSON.parse(formatAccessLine({ ...request, ...fields }))

        assert.deepEqual(
          [said['http.request.method'], said['http.response.status_code'], said.decision, said.reason],
          [fields.method, fields.status, fields.decision, fields.reason],
        )
        assert.deepEqual(
          [said.rule, said.issuer, said['client.address'], said.token_fingerprint],
          [fields.rule ?? null, fields.issuer ?? null, fields.clientAddress ?? null, fields.fingerprint ?? null],
        )
      }
    }),
  )
})

test('formatAccessLine() counts requests, each run from its own beginning', () => {
  for (const run of ['r', 's', 'r'])
    for (const count of [1, 999, 1000, 1001, 1999, 2000, 10_001, 1_234_567, 1])
      assert.equal(JSON.parse(formatAccessLine({ ...request, run, count })).request_id, `${run}-${count}`)
})

test('formatAccessLine() has the same members for every request, null where there is nothing', () => {
  const bare = {
    ...request,
    rule: undefined,
    issuer: undefined,
    fingerprint: undefined,
    clientAddress: undefined,
  }

  const [full, empty] = [formatAccessLine(request), formatAccessLine(bare)]

  assert.equal(
    full,
    '{"timestamp":"2026-11-21T09:30:00.000Z","severity_text":"INFO","event.name":"request","http.request.method":"GET","url.path":"/orders/1","http.response.status_code":200,"decision":"allow","reason":"ok","rule":"read-orders","issuer":"https://login.example.com","token_fingerprint":"9f86d081884c7d65","client.address":"10.0.0.7","duration_us":182,"request_id":"r-1"}',
  )
  assert.deepEqual(Object.keys(JSON.parse(empty)), Object.keys(JSON.parse(full)))
  assert.equal(JSON.parse(empty).issuer, null)
})

test('formatAccessLine() names what the upstream did where that failed, and nothing elsewhere', () => {
  const failed = formatAccessLine({ ...request, status: 504, upstreamError: 'upstream_timeout' })

  assert.ok(failed.endsWith(',"request_id":"r-1","upstream_error":"upstream_timeout"}'), failed)
  assert.ok(!('upstream_error' in JSON.parse(formatAccessLine(request))))
})

for (const { value, because } of injections) {
  test(`formatAccessLine() keeps ${because} inside one line of visible ASCII`, () => {
    const line = formatAccessLine({ ...request, path: value, method: value, run: value, rule: value })

    assert.match(line, /^[ -~]+$/)
    const said = JSON.parse(line)
    assert.deepEqual([said['url.path'], said['http.request.method'], said.rule], [value, value, value])
    assert.equal(said.request_id, `${value}-1`)
  })
}
