import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectionBytes, countWorkers, knownBytes } from '../../src/app/shares.ts'

const mebibyte = 1_048_576
const memories = [
  { given: 0, processes: 1, kept: 64, because: 'nobody knows how much there is' },
  // What Node says where nothing is constrained.
  { given: 18446744073709552000 / mebibyte, processes: 2, kept: 64, because: 'there is no bound' },
  { given: 512, processes: 1, kept: 64, because: 'more is never kept' },
  { given: 256, processes: 1, kept: 36, because: 'all other memory of a busy process comes first' },
  { given: 512, processes: 2, kept: 36, because: 'two processes share it' },
  { given: 128, processes: 1, kept: 4, because: '31,692 tokens of 800 bytes once had such a container killed' },
  { given: 64, processes: 4, kept: 4, because: 'it is little, and never nothing' },
]
for (const { given, processes, kept, because } of memories)
  test(`knownBytes() is ${kept} MiB of ${given} MiB for each of ${processes}: ${because}`, () => {
    assert.equal(knownBytes(processes, given * mebibyte), kept * mebibyte)
  })

const connections = [
  { given: 0, processes: 1, most: Number.POSITIVE_INFINITY, because: 'nobody knows how much there is' },
  { given: 256, processes: 1, most: 72, because: 'half of what a busy process leaves' },
  { given: 512, processes: 2, most: 72, because: 'two processes share it' },
  { given: 128, processes: 1, most: 8, because: 'it is little' },
  { given: 64, processes: 1, most: 4, because: 'it is never nothing' },
]
for (const { given, processes, most, because } of connections)
  test(`connectionBytes() is ${most} MiB of ${given} MiB for each of ${processes}: ${because}`, () => {
    assert.equal(connectionBytes(processes, given * mebibyte), most * mebibyte)
  })

test('countWorkers() is what is written, and at least one where it is auto', () => {
  assert.equal(countWorkers({ workers: 3 }), 3)
  assert.ok(countWorkers({ workers: 'auto' }) >= 1)
})
