import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { formatSpan, sleep } from '../../src/base/time.ts'

for (const [ms, text] of [
  [0, '0ms'],
  [250, '250ms'],
  [10_000, '10s'],
  [183_000, '3m3s'],
  [5_400_000, '1h30m'],
  [86_400_000, '1d'],
  [86_460_000, '24h1m'],
  [180_000_000, '2d2h'],
] as const) {
  test(`formatSpan() says ${text} of ${ms} ms`, () => {
    assert.equal(formatSpan(ms), text)
  })
}

test('sleep() waits, and keeps no process alive that has nothing else to do', async () => {
  const beganMs = performance.now()
  await sleep(20)
  // A timer may be a millisecond early.
  assert.ok(performance.now() - beganMs >= 19)

  const module = JSON.stringify(join(import.meta.dirname, '../../src/base/time.ts'))
  const code = `import(${module}).then(({ sleep }) => sleep(600_000))`
  const { status } = spawnSync(process.execPath, ['-e', code], { timeout: 30_000 })

  assert.equal(status, 0)
})
