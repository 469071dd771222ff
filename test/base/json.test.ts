import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Json } from '../../src/base/json.ts'
import { sameJson } from '../../src/base/json.ts'

const [a, b] = [{ id: 1 }, { id: 2 }]
for (const [one, other, isSame, because] of [
  [[a, b], [{ id: 1 }, { id: 2 }], true, 'the members are the same'],
  [[a, b], [b, a], false, 'the order of objects says something'],
  [[a], [a, b], false, 'the second has one more'],
  [[a, b], [a], false, 'the first has one more'],
  [['x', 'y'], ['y', 'x', 'x'], true, 'scalars are a set'],
  [{ x: [a] }, { x: [a, b] }, false, 'a list within has one more'],
] as const satisfies readonly (readonly [Json, Json, boolean, string])[])
  test(`sameJson() says ${isSame} of ${JSON.stringify(one)} and ${JSON.stringify(other)}: ${because}`, () => {
    assert.equal(sameJson(one, other), isSame)
  })
