// Runs every test, or those named; with --dist those that start the program, against the built one. With CI=true a test that was skipped is a failure: there is nobody to notice it.
import { globSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

const [major = 0, minor = 0, patch = 0] = process.versions.node.split('.').map(Number)
// package.json, engines: older ones lack fixes we rely on.
if (major < 24 || (major === 24 && (minor < 14 || (minor === 14 && patch < 1)))) {
  process.stderr.write(
    `Cannot run tests: Node is ${process.versions.node}, wanted at least 24.14.1 (npm ci brings 26)\n`,
  )
  process.exit(1)
}

const args = process.argv.slice(2)
const patterns = args.filter((arg) => arg !== '--dist')
const dist = args.includes('--dist')
// For the tests, and for every process they start.
if (dist) process.env['POSTERN_TEST_PROGRAM'] = join(import.meta.dirname, '../dist/main.js')
const all = dist ? ['test/cli/*.test.ts', 'test/shows/*.test.ts', 'test/app/workers*.test.ts'] : ['test/**/*.test.ts']
// Packages of the bench bring tests of their own.
const files = globSync(patterns.length > 0 ? patterns : all, { exclude: ['**/node_modules/**'] }).sort()
let failed = 0
let skipped = 0
// A file that fails may leave a server behind, and would never end; it must not keep everybody waiting, nor all of them
// together. No --test-force-exit: with it the last tests of a file were run and not told of.
const bounds = { timeout: 180_000, signal: AbortSignal.timeout(840_000) }
const tests = run({ files, concurrency: Math.min(2, availableParallelism()), ...bounds })
tests.on('test:fail', () => {
  failed += 1
})
tests.on('test:pass', ({ skip, todo, name, file }) => {
  if (skip === undefined && todo === undefined) return
  skipped += 1
  process.stderr.write(`skipped: ${name} (${file ?? ''})\n`)
})
tests.compose(spec).pipe(process.stdout)
tests.on('end', () => {
  if (files.length === 0) failed += 1
  if (skipped > 0 && process.env['CI'] === 'true') {
    process.stderr.write(`${skipped} skipped with CI=true\n`)
    failed += 1
  }
  process.exitCode = failed > 0 ? 1 : 0
})
