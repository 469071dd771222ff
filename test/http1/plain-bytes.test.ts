import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { arePlain, beginWith, copyBeginning } from '../../src/http1/plain-bytes.ts'

const plain = /^[ -~]*$/

test('arePlain() says what the expression says, of every part of every buffer', () => {
  const byte = fc.oneof(fc.nat(255), fc.constantFrom(0, 9, 10, 13, 0x1f, 0x20, 0x7e, 0x7f, 0x80, 0xff), fc.constant(65))
  const bytes = fc
    .uint8Array({ maxLength: 40 })
    .chain(({ length }) => fc.array(byte, { minLength: length, maxLength: length }))
  void fc.assert(
    fc.property(bytes, fc.nat(9), fc.nat(40), fc.nat(40), (all, offset, one, other) => {
      const buffer = Buffer.from(new ArrayBuffer(offset + all.length), offset)
      buffer.set(all)
      const from = Math.min(one, other, all.length)
      const to = Math.min(Math.max(one, other), all.length)

      assert.equal(arePlain(buffer, from, to), plain.test(buffer.toString('latin1', from, to)))
    }),
    { numRuns: 3000 },
  )
})

for (const at of [0, 1, 2, 3, 4, 97, 98, 99]) {
  test(`arePlain() finds every byte at ${at} of 100 that is a control character or above ASCII, and nothing else`, () => {
    const bytes = Buffer.alloc(100, 'a')
    for (let code = 0; code < 256; code += 1) {
      bytes[at] = code
      assert.equal(arePlain(bytes, 0, 100), code >= 0x20 && code < 0x7f, `0x${code.toString(16)}`)
    }
  })
}

test('beginWith() says yes where bytes begin so, if they begin at a word, and never where they do not', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '\xff'), maxLength: 12 })
  let found = 0
  void fc.assert(
    fc.property(letters, letters, fc.nat(8), (wanted, text, offset) => {
      const bytes = Buffer.from(new ArrayBuffer(offset + text.length), offset)
      bytes.write(text, 'latin1')

      const begins = beginWith(bytes, copyBeginning(wanted))

      if (begins) found += 1
      assert.equal(begins, offset % 4 === 0 && text.startsWith(wanted), JSON.stringify({ wanted, text, offset }))
    }),
    { numRuns: 20_000 },
  )
  assert.ok(found > 100, `${found} did`)
})
