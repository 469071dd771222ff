import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeRefusal } from '../../src/spec/token-error.ts'

const told = [
  { status: 401, body: '{"error":"invalid_client"}', says: 'status is 401 (invalid_client), wanted 200' },
  { status: 400, body: '{"error":"invalid_request"}', says: 'status is 400 (invalid_request), wanted 200' },
  { status: 400, body: '{"error":"unauthorized_client"}', says: 'status is 400 (unauthorized_client), wanted 200' },
  { status: 401, body: '{"error":"token=abc"}', says: 'status is 401, wanted 200' },
  { status: 401, body: '{"error":["invalid_client"]}', says: 'status is 401, wanted 200' },
  { status: 401, body: '{"error":"toString"}', says: 'status is 401, wanted 200' },
  { status: 401, body: '"invalid_client"', says: 'status is 401, wanted 200' },
  { status: 401, body: '<html>invalid_client', says: 'status is 401, wanted 200' },
  { status: 401, body: `{"error":"invalid_client"}${' '.repeat(4096)}`, says: 'status is 401, wanted 200' },
  { status: 401, body: '', says: 'status is 401, wanted 200' },
  { status: 403, body: '{"error":"invalid_client"}', says: 'status is 403, wanted 200' },
] as const
for (const { status, body, says } of told) {
  test(`describeRefusal() tells of ${status} with ${body.slice(0, 40)} no more than a code of RFC 6749: ${says}`, () => {
    assert.equal(describeRefusal({ status, body: Buffer.from(body) }), says)
  })
}
