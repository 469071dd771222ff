import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLocalList, emptyLocalList, localListOptions } from '../../src/sources/local-list.ts'
import { token } from './feed-server.ts'

const clock = { wallMs: () => 1_767_225_600_000, monotonicMs: () => 0 }

function listOf(...entries: readonly unknown[]) {
  return createLocalList(localListOptions.parse({ version: 1, entries }), { purge_delay: 60_000 }, { clock })
}

test('find() refuses what the operator lists, of one issuer or of all, with the cause local', () => {
  const list = listOf(
    { issuer: 'https://a.test', kind: 'sub', value: 'alice', note: 'lost her laptop' },
    { kind: 'client', value: 'app' },
  )

  assert.deepEqual(list.find('https://a.test', token({ sub: 'alice' })), { kind: 'sub', cause: 'local' })
  assert.equal(list.find('https://b.test', token({ sub: 'alice' })), undefined)
  assert.deepEqual(list.find('https://b.test', token({ client_id: 'app' })), { kind: 'client', cause: 'local' })
})

const written = [
  { is: 'seconds', issued_before: 1_767_139_200 },
  { is: 'a date and time', issued_before: '2025-12-31T00:00:00Z' },
  { is: 'a date and time of another zone', issued_before: '2025-12-31T02:00:00+02:00' },
] as const
for (const { is, issued_before } of written) {
  test(`find() refuses every token issued until a time, written as ${is}`, () => {
    const list = listOf({ kind: 'issued_before', value: '*', issued_before })

    assert.ok(list.find('https://a.test', token({ iat: 1_767_139_200 })))
    assert.ok(list.find('https://a.test', token({ iat: undefined })))
    assert.equal(list.find('https://a.test', token({ iat: 1_767_139_201 })), undefined)
  })
}

test('find() takes the date of an issued_before with its whole day, and that of an expires_at from its beginning', () => {
  const startS = 1_767_139_200 // 2025-12-31T00:00:00Z
  const day = listOf({ kind: 'issued_before', value: '*', issued_before: '2025-12-31' })

  assert.ok(day.find('https://a.test', token({ iat: startS + 86_399 })))
  assert.equal(day.find('https://a.test', token({ iat: startS + 86_400 })), undefined)
  assert.equal(
    listOf({ kind: 'sub', value: 'alice', expires_at: '2025-12-31' }).find('i', token({ sub: 'alice' })),
    undefined,
  )
})

test('find() heeds expires_at and the leeway after it, and without one holds for ever', () => {
  const list = listOf(
    { kind: 'jti', value: 'past', expires_at: 1_767_225_540 },
    { kind: 'jti', value: 'within', expires_at: '2025-12-31T23:59:01Z' },
    { kind: 'jti', value: 'ever' },
  )

  assert.equal(list.find('i', token({ jti: 'past' })), undefined)
  assert.ok(list.find('i', token({ jti: 'within' })))
  assert.ok(list.find('i', token({ jti: 'ever' })))
})

test('find() demands nothing of a token: without jti and iat it passes where nothing names it', () => {
  assert.equal(listOf({ kind: 'jti', value: 'x' }).find('i', token({ iat: undefined })), undefined)
  assert.equal(createLocalList(emptyLocalList, { purge_delay: 60_000 }, { clock }).find('i', token({})), undefined)
})

const refused = [
  { is: 'a kind that does not exist', entry: { kind: 'ip', value: '10.0.0.1' } },
  { is: 'a cut-off for something else than all', entry: { kind: 'issued_before', value: 'alice', issued_before: 1 } },
  { is: 'a cut-off without a time', entry: { kind: 'issued_before', value: '*' } },
  { is: 'a value that is a number', entry: { kind: 'sub', value: 12345 } },
  { is: 'an empty value', entry: { kind: 'sub', value: '' } },
  { is: 'a time without a zone', entry: { kind: 'sub', value: 'a', issued_before: '2026-01-01T00:00:00' } },
  { is: 'a day that does not exist', entry: { kind: 'sub', value: 'a', issued_before: '2026-02-30' } },
  { is: 'milliseconds', entry: { kind: 'sub', value: 'a', issued_before: 1_767_225_600_000 } },
  { is: 'a misspelt key', entry: { kind: 'sub', value: 'a', issuedbefore: 1 } },
] as const
for (const { is, entry } of refused) {
  test(`localListOptions refuses ${is}: an entry that does nothing would look as if it did`, () => {
    assert.equal(localListOptions.safeParse({ version: 1, entries: [entry] }).success, false)
  })
}
