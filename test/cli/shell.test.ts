import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sayRefused, untilSignal } from '../../src/cli/shell.ts'
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

test('sayRefused() takes colours for what reads stderr, not for what reads stdout', () => {
  const problem = { file: 'f', line: 1, column: 1, path: '', message: 'm', excerpt: 'a', caretLength: 1 }
  const said = [true, false].map((sayColor) => {
    const shell = { ...fakeShell(), color: !sayColor, sayColor }
    sayRefused(shell, [problem])
    return shell.told.say.includes('\u001b')
  })

  assert.deepEqual(said, [true, false])
})
