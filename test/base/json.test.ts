import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseJson } from '../../src/base/json.ts'

const read = (text: string) => parseJson(Buffer.from(text))

test('parseJson() reads an integer that no double holds as its digits, so that no two are one (RFC 7493 §2.2)', () => {
  for (const digits of ['9007199254740993', '-9007199254740992', '1234567890123456789', '12345678901234567890123'])
    assert.equal(read(digits), digits)
})

test('parseJson() reads every other number as a number', () => {
  for (const [text, number] of [
    ['9007199254740991', 2 ** 53 - 1],
    ['-9007199254740991', 1 - 2 ** 53],
    ['-0', -0],
    ['1e22', 1e22],
    ['0.1', 0.1],
    ['12345678901234567.5', 12345678901234568],
  ] as const)
    assert.equal(read(text), number)
})
