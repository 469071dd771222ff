import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSingleFlight } from '../../src/base/lookup-cache.ts'

test('createSingleFlight() has who comes last join the flight that started last, though one before it has landed', async () => {
  let nowMs = 1
  const { run } = createSingleFlight<string>(() => nowMs)
  const landings: (() => void)[] = []
  const fly = (name: string) => () =>
    new Promise<string>((resolve) => {
      landings.push(() => resolve(name))
    })
  const since = (wantedMs: number) => (startedMs: number) => startedMs >= wantedMs

  const first = run('k', since(1), fly('first'))
  nowMs = 2
  const second = run('k', since(2), fly('second'))
  landings[0]?.()
  assert.equal(await first, 'first')
  const third = run('k', since(2), fly('third'))
  for (const land of landings) land()

  assert.deepEqual(await Promise.all([second, third]), ['second', 'second'])
  assert.equal(landings.length, 2)
})
