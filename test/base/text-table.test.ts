import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import type { TextTable } from '../../src/base/text-table.ts'
import { createTextTable } from '../../src/base/text-table.ts'

setFlagsFromString('--expose-gc')

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', 'a', 'b', '__proto__', 'é', '\u0100', '\u0000\u0001', '\ud800', '\udc00', '\ufffd'),
  fc.uuid(),
)

function tableOf(count: number): TextTable {
  const table = createTextTable(0x1234_5678)
  for (let at = 0; at < count; at += 1) table.set(`jti-${at}`, at)
  return table
}

test('createTextTable() has what a Map would have, in its order, whatever came and went', () => {
  const step = fc.tuple(fc.constantFrom('set', 'set', 'set', 'delete', 'shift'), anyText, fc.nat())
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const [table, map] = [createTextTable(0x1234_5678), new Map<string, number>()]
      for (const [does, text, value] of steps) {
        assert.equal(table.get(text), map.get(text))
        if (does === 'delete') assert.equal(table.delete(text), map.delete(text))
        else if (does === 'shift') {
          const [oldest] = map
          assert.deepEqual(table.shift(), oldest)
          map.delete(oldest?.[0] ?? '')
        } else {
          table.set(text, value)
          map.delete(text)
          map.set(text, value)
        }
        assert.equal(table.size(), map.size)
      }
      for (const [text, value] of map) assert.equal(table.get(text), value)
      assert.deepEqual([...table.entries()], [...map])
    }),
  )
})

test('createTextTable() tells texts apart that have the same bytes in two encodings, and halves of characters', () => {
  const texts = ['\u0100', '\u0000\u0001', 'é', 'Ã©', '\ud800', '\udfff', '\ufffd', '\ud83d\ude00', '']
  const table = createTextTable(0x1234_5678)
  for (const [at, text] of texts.entries()) table.set(text, at)

  assert.deepEqual(
    texts.map((text) => table.get(text)),
    texts.map((_, at) => at),
  )
  assert.deepEqual(
    [...table.entries()].map(([text]) => text),
    texts,
  )
})

test('set() puts a text behind all others, also one that was there', () => {
  const table = createTextTable(0x1234_5678)
  for (const text of ['a', 'b', 'c', 'a']) table.set(text, 1)

  assert.deepEqual(
    [...table.entries()].map(([text]) => text),
    ['b', 'c', 'a'],
  )
})

test('shift() takes each of 20,000 in turn while others come, go and are joined', () => {
  const table = tableOf(20_000)
  for (let at = 0; at < 20_000; at += 1) if (at % 10 !== 7) table.delete(`jti-${at}`)
  table.set('late', 1)

  for (let at = 7; at < 20_000; at += 10) assert.deepEqual(table.shift(), [`jti-${at}`, at])
  assert.deepEqual([table.shift(), table.shift(), table.size()], [['late', 1], undefined, 0])
})

test('createTextTable() finds each of 100,000 while it grows and while most of them go, and none that is not there', () => {
  const table = createTextTable(0x1234_5678)
  for (let at = 0; at < 100_000; at += 1) {
    table.set(`jti-${at}`, at)
    // The first, the middle and the last of them, at every size.
    for (const there of [0, at >> 1, at]) assert.equal(table.get(`jti-${there}`), there)
  }
  for (let at = 0; at < 100_000; at += 1) if (at % 10 !== 7) assert.ok(table.delete(`jti-${at}`))

  assert.equal(table.size(), 10_000)
  for (let at = 0; at < 100_000; at += 1) assert.equal(table.get(`jti-${at}`), at % 10 === 7 ? at : undefined)
  assert.equal([...table.entries()].length, 10_000)
})

test('entries() finds each text that stays, and none that has gone, while others come and go, however long that takes', () => {
  fc.assert(
    fc.property(fc.infiniteStream(fc.nat(19_999)), fc.constantFrom(1, 3, 10), (chosen, often) => {
      const table = tableOf(20_000)
      const found = new Set<string>()
      const gone = new Set<string>()
      let step = 0
      for (const [text] of table.entries()) {
        assert.ok(!gone.has(text), text)
        found.add(text)
        if (step++ % often !== 0 || step > 60_000) continue
        const one = `jti-${chosen.next().value}`
        if (table.delete(one)) gone.add(one)
        else table.set(`late-${step}`, step)
      }
      for (let at = 0; at < 20_000; at += 1) if (!gone.has(`jti-${at}`)) assert.ok(found.has(`jti-${at}`), `jti-${at}`)
      for (const [text] of table.entries()) assert.ok(found.has(text), text)
    }),
    { numRuns: 10 },
  )
})

test('entries() goes on where the page it stands on was joined with another, with what has gone neither before nor since', () => {
  const table = tableOf(20_000)
  const walk = table.entries()
  for (let at = 0; at <= 5000; at += 1) walk.next()
  const isLeft = (at: number) => at % 10 === 7
  for (let at = 0; at < 20_000; at += 1) if (!isLeft(at)) table.delete(`jti-${at}`)
  for (let at = 7; at < 10_000; at += 20) table.delete(`jti-${at}`)

  const rest = new Set([...walk].map(([text]) => text))

  for (const text of rest) assert.notEqual(table.get(text), undefined, text)
  for (let at = 5001; at < 20_000; at += 1) assert.equal(rest.has(`jti-${at}`), table.get(`jti-${at}`) !== undefined)
})

const churns = [
  { is: 'each goes at once', livesFor: () => 0 },
  { is: 'a thousand are there at a time', livesFor: () => 1000 },
  { is: 'one in two thousand stays', livesFor: (at: number) => (at % 2000 === 0 ? Number.POSITIVE_INFINITY : 1000) },
]
for (const { is, livesFor } of churns) {
  test(`createTextTable() takes no more memory the longer texts come and go: ${is}`, () => {
    const table = createTextTable(0x1234_5678)
    const collect = runInNewContext('gc') as () => void
    const held = () => {
      collect()
      collect()
      return process.memoryUsage().arrayBuffers
    }
    const before = held()
    for (let at = 0; at < 1_000_000; at += 1) {
      table.set(`jti-${at}`, at)
      for (const age of [0, 1000]) if (livesFor(at - age) === age) table.delete(`jti-${at - age}`)
    }

    assert.ok(table.size() <= 1502, `${table.size()}`)
    // Half of them would be 27 MiB with the pages they stood in.
    assert.ok(held() - before < 4_000_000, `${held() - before}`)
  })
}

test('expire() deletes what is over, looking at one in each step', () => {
  const table = tableOf(10_000)
  const walk = table.expire((value, text) => value % 2 === 0 && text() !== 'jti-4')
  let steps = 0
  while (walk.next().done !== true) steps += 1

  assert.deepEqual([table.size(), table.get('jti-2'), table.get('jti-3'), table.get('jti-4')], [5001, undefined, 3, 4])
  // Who has moved may be looked at once more.
  assert.ok(steps >= 10_000 && steps < 15_002, `${steps}`)
})

test('count() counts those that have such a value, of all that are there', () => {
  const table = tableOf(10_000)
  for (let at = 0; at < 1000; at += 1) table.delete(`jti-${at}`)

  assert.equal(
    table.count((value) => value < 2000),
    1000,
  )
})
