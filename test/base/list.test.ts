import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as z from 'zod'
import { list, mapUpTo } from '../../src/base/list.ts'

function counted() {
  let looks = 0
  const schema = z.string().refine(() => {
    looks += 1
    return false
  })
  return { schema, looks: () => looks }
}

const many = (count: number) => Array.from({ length: count }, (_, at) => `${at}`)

test('list() takes what an array of zod takes, with the bounds and defaults that are put upon it', () => {
  const numbers = list(z.string().transform(Number)).min(1).max(3).prefault(['7'])

  assert.deepEqual(numbers.parse(['1', '2']), [1, 2])
  assert.deepEqual(numbers.parse(undefined), [7])
  assert.equal(numbers.safeParse([]).success, false)
  assert.equal(numbers.safeParse('a').success, false)
})

test('list() tells at which member something is wrong', () => {
  const { error } = list(z.strictObject({ a: list(z.string()) })).safeParse([{ a: ['x'] }, { a: ['x', 1] }])

  assert.deepEqual(
    error?.issues.map(({ path }) => path),
    [[1, 'a', 1]],
  )
})

test('list() looks at no member of one that is too long', () => {
  const { schema, looks } = counted()
  const { error } = list(schema).min(1).max(10).safeParse(many(11))

  assert.deepEqual([error?.issues.map(({ code }) => code), looks()], [['too_big'], 0])
})

test('list() stops at 4001 wrong members, and says where', () => {
  const { schema, looks } = counted()
  const { error } = list(schema).safeParse(many(100_000))

  assert.deepEqual([error?.issues.length, looks(), error?.issues.at(-1)?.path], [4002, 4001, [4001]])
})

test('list() stops for what the lists within it have come upon, in any branch of a union', () => {
  const { schema, looks } = counted()
  const rule = z.strictObject({ scopes: z.union([list(schema), z.strictObject({ any: list(schema) })]) })
  const { error } = list(rule).safeParse(many(1000).map(() => ({ scopes: many(100) })))

  assert.ok(looks() < 4200, `${looks()} members`)
  assert.equal(error?.issues.at(-1)?.path.length, 1)
})

test('list() forgets between two values what was wrong with one', () => {
  const numbers = list(z.number())

  assert.equal(numbers.safeParse(many(100_000)).success, false)
  assert.deepEqual(numbers.parse([1, 2]), [1, 2])
})

test('list() takes nothing that it has not looked at, though a union wants another branch', () => {
  const strings = list(list(z.number()).or(z.unknown().transform(() => 'any')))
  const wrong = [many(5000), [1]]

  assert.equal(strings.safeParse(wrong).success, false)
})

test('mapUpTo() takes so many keys, and of more looks at none', () => {
  const { schema, looks } = counted()
  const mapOf = (count: number) => Object.fromEntries(many(count).map((name) => [name, name]))

  assert.deepEqual(mapUpTo(2, z.string(), z.string()).parse(mapOf(2)), mapOf(2))
  const { error } = mapUpTo(2, z.string(), schema).safeParse(mapOf(3))
  assert.deepEqual([error?.issues.map(({ path }) => path), looks()], [[[]], 0])
})
