import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { seedOfRun } from '../support/random.ts'
import type { Fuzzed } from './fuzz.ts'

const execute = promisify(execFile)
const messages = 100_000
const program = join(import.meta.dirname, 'fuzz-run.ts')

// In processes of their own: one for each core, and the runner's hooks on every promise would cost a fifth.
test('200,000 mutated messages are refused, or forwarded in the one reading that node:http has of them too', {
  timeout: 280_000,
}, async (t) => {
  const seed = seedOfRun()
  t.diagnostic(`seed ${seed}: POSTERN_TEST_SEED=${seed} repeats it`)

  const runs = await Promise.all([run(seed), run(seed + 1)])

  for (const { wrong, ...counts } of runs) {
    t.diagnostic(JSON.stringify(counts))
    assert.deepEqual(wrong, [])
    assert.equal(counts.messages, messages)
    // Enough of each for the test to mean something.
    for (const some of [counts.forwarded, counts.denied, counts.refused, counts.unfinished])
      assert.ok(some > messages / 20, JSON.stringify(counts))
  }
})

async function run(seed: number): Promise<Fuzzed> {
  const options = { maxBuffer: 16_777_216 }
  const { stdout } = await execute(process.execPath, [program, String(seed), String(messages)], options)
  return JSON.parse(stdout) as Fuzzed // what the program prints
}
