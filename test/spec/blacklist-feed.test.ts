import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Json } from '../../src/base/json.ts'
import { maxNumericDate } from '../../src/base/time.ts'
import type { BlacklistPage } from '../../src/spec/blacklist-feed.ts'
import { parseBlacklistPage } from '../../src/spec/blacklist-feed.ts'

const entry = { seq: 3, kind: 'jti', value: 'j', expires_at: 2000, revoked_at: 900, cause: 'owner' }
const page = { epoch: 'e', cursor: '5', more: false, server_time: 1000, total_live: 1, entries: [entry] }

function pageOf(more: Record<string, Json | undefined>): BlacklistPage | string {
  return parseBlacklistPage(JSON.parse(JSON.stringify({ ...page, ...more })) as Json)
}

function entryOf(more: Record<string, Json | undefined>): BlacklistPage | string {
  return pageOf({ entries: [{ ...entry, ...more }] })
}

const epoch = 'its epoch is not a string of 1 to 256 characters'
const cursor = 'its cursor is not a decimal seq'
const refusedPages: readonly { readonly more: Record<string, Json | undefined>; readonly why: string }[] = [
  ...[undefined, null, 1, '', 'e'.repeat(257)].map((value) => ({ more: { epoch: value }, why: epoch })),
  ...[undefined, null, '', '-1', '1e3', '0x5', ' 5', '5.0', '9'.repeat(16), -1, 5.5, 2 ** 53].map((value) => {
    return { more: { cursor: value }, why: cursor }
  }),
  ...[undefined, null, 'false', 0].map((more) => ({ more: { more }, why: 'its more is not a boolean' })),
  ...[null, 'false', 0].map((reset) => ({ more: { reset }, why: 'its reset is not a boolean' })),
  ...[undefined, null, '1000', -1, maxNumericDate + 1].map((server_time) => {
    return { more: { server_time }, why: 'its server_time is not a time' }
  }),
  ...[undefined, null, '1', -1, 0.5, 2 ** 53].map((total_live) => {
    return { more: { total_live }, why: 'its total_live is not a count' }
  }),
  ...[undefined, null, {}, 'x'].map((entries) => ({ more: { entries }, why: 'it has no entries array' })),
  { more: { entries: [{ ...entry, seq: 0 }, entry] }, why: 'an entry in it has the seq 0, wanted 1 or more' },
  { more: { entries: [entry, entry] }, why: 'its seq goes backwards' },
  { more: { entries: [entry, { ...entry, seq: 2 }] }, why: 'its seq goes backwards' },
  { more: { cursor: '2' }, why: 'its cursor is before its last entry' },
]
for (const { more, why } of refusedPages) {
  test(`parseBlacklistPage() refuses ${JSON.stringify(more).slice(0, 60)} since ${why}`, () => {
    assert.equal(pageOf(more), why)
  })
}

const refusedEntries: readonly Record<string, Json | undefined>[] = [
  ...[undefined, null, '3', -1, 0.5, 2 ** 53].map((seq) => ({ seq })),
  ...[undefined, null, 'JTI', 'aud', '', 1].map((kind) => ({ kind })),
  ...[undefined, null, '', 1, ['j'], 'j'.repeat(1025)].map((value) => ({ value })),
  ...[undefined, null, '2000', -1, maxNumericDate + 1].map((expires_at) => ({ expires_at })),
  ...['900', -1, maxNumericDate + 1, true, {}].map((issued_before) => ({ issued_before })),
  { kind: 'issued_before', value: '*' },
  { kind: 'issued_before', value: '*', issued_before: null },
  { kind: 'issued_before', value: 'alice', issued_before: 900 },
]
for (const more of refusedEntries) {
  test(`parseBlacklistPage() refuses a page with an entry of ${JSON.stringify(more).slice(0, 60)}, whole`, () => {
    assert.equal(entryOf(more), 'an entry in it is not one we can enforce')
  })
}
for (const member of [null, 1, 'x', [entry]]) {
  test(`parseBlacklistPage() refuses a page with ${JSON.stringify(member).slice(0, 20)} for an entry`, () => {
    assert.equal(pageOf({ entries: [entry, member] }), 'an entry in it is not one we can enforce')
  })
}

const none = { issued_before: undefined }
const read: readonly { readonly more: Record<string, Json>; readonly as: object }[] = [
  { more: {}, as: none },
  { more: { issued_before: null }, as: none },
  { more: { issued_before: 0 }, as: { issued_before: 0 } },
  { more: { seq: 1, value: 'j'.repeat(1024), expires_at: maxNumericDate }, as: none },
  { more: { kind: 'sub', value: 'alice', issued_before: 900 }, as: { issued_before: 900 } },
  { more: { kind: 'issued_before', value: '*', issued_before: 900 }, as: { issued_before: 900 } },
  // What only goes into a metric must not hold up a revocation; the operator's own list is not on the wire.
  { more: { cause: 'new' }, as: { ...none, cause: 'admin' } },
  { more: { cause: 'local' }, as: { ...none, cause: 'admin' } },
  { more: { cause: null }, as: { ...none, cause: 'admin' } },
  { more: { revoked_at: 'yesterday' }, as: { ...none, revoked_at: undefined } },
  { more: { revoked_at: -1 }, as: { ...none, revoked_at: undefined } },
]
for (const { more, as } of read) {
  test(`parseBlacklistPage() reads an entry of ${JSON.stringify(more).slice(0, 60)}`, () => {
    const found = entryOf(more)

    assert.ok(typeof found !== 'string', String(found))
    assert.deepEqual(found.entries, [{ ...entry, ...more, ...as }])
  })
}

test('parseBlacklistPage() reads what a page says of itself, with a cursor of text or number, and no reset for false', () => {
  const { entries, ...rest } = page
  for (const cursor of [5, '5', '0000005'])
    assert.deepEqual(pageOf({ cursor, entries: [] }), { ...rest, cursor: 5, reset: false, entries: [] })
  for (const reset of [true, false]) {
    const found = pageOf({ reset, epoch: 'e'.repeat(256), more: true, server_time: 0, total_live: 0, cursor: 3 })
    assert.ok(typeof found !== 'string', String(found))
    assert.deepEqual([found.reset, found.more, found.entries.length], [reset, true, entries.length])
  }
})
