import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { copyOf } from '../../src/base/copy-of.ts'

test('copyOf() gives every byte of a head back, and every character of a page', () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at)).toString('latin1')
  for (const text of ['', 'plain', bytes, 'Zoë 中 \u{1f511}']) assert.equal(copyOf(text), text)
})

test('copyOf() lets go of what the text was cut from', async () => {
  const program = `
    const { copyOf } = await import('./src/base/copy-of.ts')
    const heap = () => { gc(); gc(); return process.memoryUsage().heapUsed }
    const before = heap()
    const kept = Array.from({ length: 100 }, (_, at) => copyOf(Buffer.alloc(100_000, 97 + (at % 26)).toString('latin1').slice(50, 100)))
    process.stdout.write(String(heap() - before + 0 * kept.length))
  `

  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--input-type=module', '-e', program])

  assert.ok(Number(stdout) < 1_000_000, `${stdout} bytes more`)
})
