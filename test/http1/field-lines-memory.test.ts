import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'

const execute = promisify(execFile)
const room = 1_000_000

// What the attacker does: with the room for names full, each round a new name is learnt behind one that is known, and the
// first line of a message is confirmed again. What leads from the old names to the new ones must go with the old ones.
const program = `
  const { readFieldLines } = await import('./src/http1/field-lines.ts')
  const limits = { bytes: 32768, one: 8192, count: 100 }
  const read = (text) => readFieldLines('request', text, 0, text.length, limits, [], [])
  const fill = (count) => read(Array.from({ length: count }, (_, at) => 'q' + at.toString(36) + ':\\r\\n').join(''))
  const heap = () => { gc(); gc(); return process.memoryUsage().heapUsed }
  const names = ['te', 'accept']
  const rounds = (count) => {
    for (let at = 0; at < count; at += 1) {
      read(names[0] + ': m' + at + '\\r\\n' + names[1] + ': ' + 'v'.repeat(220) + at + '\\r\\n')
      read('vary: anchor\\r\\n')
      fill(999)
      names.reverse()
    }
  }
  read('vary: anchor\\r\\nte: x\\r\\n')
  fill(998)
  read('vary: anchor\\r\\n')
  rounds(3000)
  const before = heap()
  rounds(3000)
  process.stdout.write(String(heap() - before))
`

test('readFieldLines() holds no more the longer somebody tries to have it remember', { timeout: 60_000 }, async () => {
  const { stdout } = await execute(process.execPath, ['--expose-gc', '--input-type=module', '-e', program])

  assert.ok(Number(stdout) < room, `${stdout} bytes more`)
})
