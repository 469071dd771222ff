// What is remembered of requests is a bounded number of short texts, whatever somebody sends to have it grow.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'

const execute = promisify(execFile)
// Without a bound the least of them takes 8 MB, with it the program's own warming up nearly all there is.
const room = 2_500_000

const filter = `
  const { createHeaderFilter } = await import('./src/decision/headers.ts')
  const it = createHeaderFilter({ identityHeaders: new Map(), keepHeaders: [] }, { isTrustedProxy: () => false })
  const allow = { rule: { public: true, forwardAuthorization: false }, principal: null }
  const forward = (lines, peer, authority = 'a.test') =>
    it.forward(lines, { peer, proto: 'http', request: { authority }, allow })
`
const reader = `
  const { readAccessRequest } = await import('./src/decision/request.ts')
  const read = (host) => {
    const raw = { method: 'GET', target: '/', host: [host], authorization: [], arrivedMs: 0 }
    if (readAccessRequest(raw, { hosts: new Set() }).kind !== 'request') throw new Error('not read')
  }
`
for (const { what, prepare, each, rounds } of [
  {
    what: 'createHeaderFilter().forward(): names of fields',
    prepare: filter,
    each: `forward(['X-Name-' + at, ''], '192.0.2.1')`,
    rounds: 60_000,
  },
  {
    what: 'createHeaderFilter().forward(): long names of fields',
    prepare: filter,
    each: `forward(['X-' + at + '-' + 'n'.repeat(8000), ''], '192.0.2.1')`,
    rounds: 900,
  },
  {
    what: 'createHeaderFilter().forward(): addresses of clients',
    prepare: filter,
    each: `forward([], '2001:db8::' + at.toString(16))`,
    rounds: 30_000,
  },
  {
    what: 'readAccessRequest(): authorities',
    prepare: reader,
    each: `read('name-' + at + '.a-host-with-a-name.test:8080')`,
    rounds: 60_000,
  },
])
  test(`${what} are remembered up to a bound`, async () => {
    const program = `${prepare}
      const heap = () => { gc(); gc(); return process.memoryUsage().heapUsed }
      const round = (at) => { ${each} }
      for (let at = 100_000; at < 100_100; at += 1) round(at)
      const before = heap()
      for (let at = 0; at < ${rounds}; at += 1) round(at)
      process.stdout.write(String(heap() - before))
    `
    const { stdout } = await execute(process.execPath, ['--expose-gc', '--input-type=module', '-e', program])

    assert.ok(Number(stdout) < room, `${stdout} bytes more`)
  })
