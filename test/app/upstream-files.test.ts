import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { UpstreamMaterial } from '../../src/app/upstream/upstream-files.ts'
import { createUpstreamContext, createUpstreamFiles, MaterialRefused } from '../../src/app/upstream/upstream-files.ts'
import { createAuthority, skipWithoutOpenssl as skip } from '../support/certificates.ts'
import { until } from '../support/until.ts'
import { countWatches, skipWithoutProc } from '../support/watches.ts'

const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
const readFile = (path: string) => readFileSync(path)

for (const part of ['ca', 'cert', 'key'] as const) {
  test(`createUpstreamFiles() names the file of upstream.tls.${part} where that is the one that cannot be used`, {
    skip,
  }, async () => {
    using authority = createAuthority()
    const directory = mkdtempSync(join(tmpdir(), 'postern-'))
    const at = (name: string) => join(directory, `${name}.pem`)
    const good = { ca: authority.ca, ...authority.issue('gateway') }
    const write = (contents: Readonly<Record<string, string>>) => {
      for (const [name, pem] of Object.entries(contents)) writeFileSync(at(name), pem)
    }
    const logged: (readonly [event: string, error: string])[] = []
    const note = (event: string, fields: Readonly<Record<string, unknown>> = {}) =>
      void logged.push([event, String(fields['error'])])
    const options = { ca: { file: at('ca') }, cert: { file: at('cert') }, key: { file: at('key') } }
    const deps = { clock, readFile, log: { info: note, error: note } }
    const begins = `Cannot use upstream.tls.${part}.file ${at(part)}: `
    try {
      write({ ...good, [part]: 'x' })
      assert.throws(
        () => createUpstreamFiles(options, deps),
        (error: Error) => error.message.startsWith(begins),
      )
      write(good)
      const files = createUpstreamFiles(options, deps)
      write({ [part]: 'y' })
      await until(() => logged.length > 0, 'the refusal')
      files.close()

      assert.equal(logged[0]?.[0], 'upstream_tls_refused')
      assert.ok(logged[0]?.[1].startsWith(begins), logged[0]?.[1])
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
}

test('createUpstreamFiles() watches nothing once it is closed, nor where its files could not be used', {
  skip: skip || skipWithoutProc,
}, () => {
  using authority = createAuthority()
  const deps = { clock, readFile, log: { info() {}, error() {} } }
  const create = (key: string) =>
    createUpstreamFiles({ ca: undefined, cert: { file: good.certFile }, key: { file: key } }, deps)
  const good = authority.issue('gateway')
  const before = countWatches()

  assert.throws(() => create(good.certFile), MaterialRefused)
  assert.equal(countWatches(), before)
  const files = create(good.keyFile)
  assert.ok(countWatches() > before)
  files.close()

  assert.equal(countWatches(), before)
})

test('createUpstreamContext() refuses what is no certificate, or a key of another one, and says which', {
  skip,
}, () => {
  using good = createAuthority()
  using other = createAuthority()
  const [app, us] = [good.issue('app'), good.issue('us')]
  const refusal = (material: Partial<UpstreamMaterial>) => {
    try {
      createUpstreamContext({ ca: undefined, cert: undefined, key: undefined, ...material })
      return 'taken'
    } catch (error) {
      assert.ok(error instanceof MaterialRefused)
      return error.part
    }
  }
  const cut = (pem: string) => `${pem.slice(0, 200)}\n-----END CERTIFICATE-----\n`

  assert.equal(refusal({ ca: good.ca + other.ca, cert: us.cert + good.ca, key: us.key }), 'taken')
  assert.equal(refusal({ ca: 'not a certificate' }), 'ca')
  assert.equal(refusal({ ca: cut(good.ca) }), 'ca')
  assert.equal(refusal({ ca: good.ca + cut(other.ca) }), 'ca')
  assert.equal(refusal({ cert: us.key, key: us.key }), 'cert')
  assert.equal(refusal({ cert: us.cert, key: app.key }), 'key')
  assert.equal(refusal({ cert: us.cert, key: us.cert }), 'key')
})
