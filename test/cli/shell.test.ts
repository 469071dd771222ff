import assert from 'node:assert/strict'
import { test } from 'node:test'
import { untilSignal } from '../../src/cli/shell.ts'
import { fakeShell } from './process.ts'

for (const [first, second] of [
  ['SIGTERM', 'SIGINT'],
  ['SIGINT', 'SIGTERM'],
] as const)
  test(`untilSignal() resolves at ${first}, and ends the process at ${second} after it, once all is told`, async () => {
    const shell = fakeShell()
    let told = 0
    const stopped = untilSignal(shell, () => {
      told += 1
    })

    shell.signal(first)
    await stopped
    assert.equal(told, 0)

    assert.throws(() => shell.signal(second), /the process ends with 1/)
    assert.equal(told, 1)
  })
