import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createCountingFilter } from '../../src/base/counting-filter.ts'

/** A filter, beside the set it is asked about. */
function createBoth() {
  const set = new Set<string>()
  const filter = createCountingFilter(() => set)
  return {
    filter,
    set,
    add(text: string) {
      if (set.has(text)) return
      filter.add(text)
      set.add(text)
    },
    remove(text: string) {
      if (set.delete(text)) filter.delete(text)
    },
  }
}

test('createCountingFilter() never denies what is there, whatever came and went', () => {
  const texts = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('', 'a', 'b', '__proto__'), fc.uuid())
  const steps = fc.array(fc.tuple(fc.boolean(), texts), { maxLength: 200 })
  void fc.assert(
    fc.property(steps, (all) => {
      const both = createBoth()
      for (const [adds, text] of all) both[adds ? 'add' : 'remove'](text)
      for (const text of both.set) assert.ok(both.filter.mayHave(text))
    }),
  )
})

test('createCountingFilter() never denies what is there while it grows, and while most of that goes', () => {
  const both = createBoth()
  for (let count = 0; count < 20_000; count += 1) {
    both.add(`jti-${count}`)
    // The beginning, the middle and the last of them, at every size.
    for (const there of [0, count >> 1, count]) assert.ok(both.filter.mayHave(`jti-${there}`))
  }
  for (let count = 0; count < 19_000; count += 1) both.remove(`jti-${count}`)

  for (const text of both.set) assert.ok(both.filter.mayHave(text))
})

test('createCountingFilter() denies most of what is not there', () => {
  const both = createBoth()
  for (let count = 0; count < 20_000; count += 1) both.add(`jti-${count}`)

  const taken = Array.from({ length: 10_000 }, (_, count) => `other-${count}`).filter(both.filter.mayHave)

  assert.ok(taken.length < 2500, `${taken.length} of 10000`)
})

test('createCountingFilter() denies again what has gone', () => {
  const both = createBoth()
  for (let count = 0; count < 400; count += 1) both.add(`jti-${count}`)
  for (let count = 0; count < 400; count += 1) both.remove(`jti-${count}`)

  assert.ok(!Array.from({ length: 400 }, (_, count) => `jti-${count}`).some(both.filter.mayHave))
})

test('createCountingFilter() goes on counting where more texts share a place than it can count', () => {
  const both = createBoth()
  // Only the last 32 characters are looked at.
  const textOf = (count: number) => `${count}:${'x'.repeat(32)}`
  for (let count = 0; count < 400; count += 1) both.add(textOf(count))
  for (let count = 0; count < 399; count += 1) both.remove(textOf(count))

  assert.ok(both.filter.mayHave(textOf(399)))
})
