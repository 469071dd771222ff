import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { listGroups } from './scenarios.ts'
import { readSelection, usage } from './selection.ts'

const groups = listGroups()

function select(args: readonly string[], env: Record<string, string> = {}) {
  const selection = readSelection(args, env, groups)
  if (typeof selection === 'string') throw new Error(selection)
  return selection
}

test('readSelection() takes everything, and keeps it, when nothing is named', () => {
  const { groups: chosen, start, keep, rounds, seconds } = select([])

  assert.deepEqual(chosen, groups)
  assert.deepEqual({ start, keep, rounds, seconds }, { start: true, keep: true, rounds: 7, seconds: 3 })
})

test('readSelection() with a group and a contestant measures that contestant beside the gateway, in that group', () => {
  const { groups: chosen, start, keep } = select(['warm', 'haproxy'])

  assert.deepEqual(
    chosen.map(({ name }) => name),
    ['warm'],
  )
  assert.deepEqual(new Set(chosen[0]?.rows.map(({ by }) => by)), new Set(['gateway', 'haproxy']))
  assert.deepEqual({ start, keep }, { start: false, keep: false })
})

test('readSelection() reads rounds and their length from flags, then from the environment', () => {
  const env = { BENCH_PAIRS: '3', BENCH_MS: '1000' }

  assert.equal(select([], env).rounds, 3)
  assert.equal(select([], env).seconds, 1)
  assert.equal(select(['--pairs', '5', '--ms', '1600'], env).rounds, 5)
  assert.equal(select(['--pairs', '5', '--ms', '1600'], env).seconds, 2)
})

for (const args of [['nobody'], ['--pairs', 'many'], ['--ms', '0'], ['--what']]) {
  test(`readSelection() refuses ${args.join(' ')}`, () => {
    assert.match(String(readSelection(args, {}, groups)), /^Cannot run/)
  })
}

test('the bench says how it is asked for with --help, and measures nothing', () => {
  const { stdout, status } = spawnSync(process.execPath, [join(import.meta.dirname, 'run.ts'), '--help'])

  assert.deepEqual([String(stdout), status], [usage, 0])
})

test('every row has an id of its own, and is compared with a row of its group', () => {
  const ids = groups.flatMap(({ rows }) => rows.map(({ id }) => id))

  assert.equal(new Set(ids).size, ids.length)
  for (const { rows } of groups)
    for (const { against } of rows) assert.ok(against === undefined || rows.some(({ id }) => id === against))
})
