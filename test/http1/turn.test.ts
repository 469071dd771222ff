import assert from 'node:assert/strict'
import { test } from 'node:test'
import { atTurnsEnd } from '../../src/http1/turn.ts'

const turnsEnd = () => new Promise(setImmediate)

test('atTurnsEnd() runs what it was given, in order and once, when the turn ends', async () => {
  const ran: string[] = []

  atTurnsEnd(() => ran.push('a'))
  atTurnsEnd(() => ran.push('b'))
  await Promise.resolve()
  assert.deepEqual(ran, [])
  await turnsEnd()
  await turnsEnd()

  assert.deepEqual(ran, ['a', 'b'])
})

test('atTurnsEnd() runs in the next turn what it is given while it runs', async () => {
  const ran: string[] = []

  atTurnsEnd(() => {
    ran.push('a')
    atTurnsEnd(() => ran.push('c'))
    atTurnsEnd(() => ran.push('d'))
  })
  atTurnsEnd(() => ran.push('b'))
  await turnsEnd()
  assert.deepEqual(ran, ['a', 'b'])
  await turnsEnd()
  assert.deepEqual(ran, ['a', 'b', 'c', 'd'])
  atTurnsEnd(() => ran.push('e'))
  await turnsEnd()

  assert.deepEqual(ran, ['a', 'b', 'c', 'd', 'e'])
})
