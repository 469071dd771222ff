import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Bagged } from '../../src/base/bag.ts'
import { createBag } from '../../src/base/bag.ts'

test('createBag() holds what a Set would, whatever comes and goes', () => {
  const steps = fc.array(fc.tuple(fc.boolean(), fc.nat({ max: 9 })), { maxLength: 100 })
  void fc.assert(
    fc.property(steps, (all) => {
      const items = Array.from({ length: 10 }, (): Bagged => ({}))
      const [bag, set] = [createBag(), new Set<Bagged>()]
      for (const [adds, at] of all) {
        const item = items[at] ?? {}
        if (adds) {
          bag.add(item)
          set.add(item)
        } else assert.equal(bag.delete(item), set.delete(item))
        assert.equal(bag.size(), set.size)
      }
      assert.deepEqual(new Set(bag.all()), set)
      for (const item of items) assert.equal(bag.has(item), set.has(item))
    }),
  )
})

test('createBag().all() is not changed by what comes and goes', () => {
  const bag = createBag()
  const [one, other]: readonly [Bagged, Bagged] = [{}, {}]
  bag.add(one)

  const all = bag.all()
  bag.add(other)
  bag.delete(one)

  assert.deepEqual(all, [one])
})

test('createBag() takes nothing that is in another bag, and nothing out of one', () => {
  const [bag, other] = [createBag(), createBag()]
  const item: Bagged = {}
  bag.add({})
  other.add(item)

  assert.throws(() => bag.add(item), TypeError)
  assert.equal(bag.delete(item), false)
  assert.ok(other.has(item))
  other.delete(item)
  bag.add(item)
  assert.ok(bag.has(item))
})
