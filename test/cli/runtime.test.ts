import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refuseRuntime } from '../../src/cli/runtime.ts'

const fine = { nodeVersion: '24.14.1', execArgv: [], nodeOptions: '' }

const cases = [
  { of: fine, refused: false },
  { of: { ...fine, nodeVersion: '26.0.0' }, refused: false },
  { of: { ...fine, nodeVersion: '24.14.0' }, refused: true },
  { of: { ...fine, nodeVersion: '24.9.3' }, refused: true },
  { of: { ...fine, nodeVersion: '20.20.2' }, refused: true },
  { of: { ...fine, execArgv: ['--insecure-http-parser'] }, refused: true },
  { of: { ...fine, nodeOptions: '--no-addons --insecure_http_parser' }, refused: true },
  { of: { ...fine, nodeOptions: '"--insecure-http-parser"' }, refused: true },
  { of: { ...fine, nodeOptions: '"--insecure\\-http_parser"' }, refused: true },
  { of: { ...fine, nodeOptions: '--insecure-http-parser=true' }, refused: true },
  { of: { ...fine, execArgv: ['--insecure-http-parser=true'] }, refused: true },
  { of: { ...fine, nodeOptions: '--no-addons' }, refused: false },
] as const
for (const { of, refused } of cases) {
  test(`refuseRuntime() ${refused ? 'refuses' : 'takes'} ${JSON.stringify(of)}`, () => {
    assert.equal(refuseRuntime(of) !== undefined, refused)
  })
}
