import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createCertificates } from '../../src/app/certificates.ts'
import { createMetrics } from '../../src/io/metrics.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'

const [minuteMs, dayMs] = [60_000, 86_400_000]

test('createCertificates() warns once an hour of a certificate that ends within seven days, and once a minute when it has ended', {
  skip: skipWithoutOpenssl,
}, (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  using ours = createAuthority()
  const directory = mkdtempSync(join(tmpdir(), 'postern-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const [cert, key] = [{ file: join(directory, 'tls.crt') }, { file: join(directory, 'tls.key') }]
  const issue = (days: number) => {
    const pair = ours.issue('first', { days })
    writeFileSync(cert.file, pair.cert)
    writeFileSync(key.file, pair.key, { mode: 0o640 })
    return new X509Certificate(pair.cert).validToDate.getTime()
  }
  const toMs = issue(30)
  let nowMs = toMs - 7.5 * dayMs
  const warned: { readonly atMs: number; readonly state: unknown }[] = []
  const certificates = createCertificates(
    { cert, key, client_certificate: 'optional' },
    {
      clock: { wallMs: () => nowMs, monotonicMs: () => nowMs },
      env: {},
      readFile: (path) => readFileSync(path),
      fileMode: (path) => statSync(path).mode,
      log: {
        info() {},
        error: (event) => assert.fail(event),
        warn: (_, fields) => void warned.push({ atMs: nowMs, state: fields?.['state'] }),
      },
      metrics: createMetrics(),
      changed() {},
    },
  )
  const passUntil = (ms: number) => {
    for (; nowMs < ms; t.mock.timers.tick(minuteMs)) nowMs += minuteMs
  }
  const count = (wanted: string) => warned.filter(({ state }) => state === wanted).length

  passUntil(toMs - 7 * dayMs)
  assert.deepEqual(warned, [])
  passUntil(toMs - 6 * dayMs)
  assert.ok(count('ends_soon') >= 23 && count('ends_soon') <= 25, `${count('ends_soon')} in a day`)
  passUntil(toMs)
  assert.equal(count('ended'), 0)
  passUntil(toMs + 60 * minuteMs)
  assert.ok(count('ended') >= 59 && count('ended') <= 61, `${count('ended')} in an hour`)
  const { length } = warned
  issue(60)
  certificates.reload()
  passUntil(toMs + dayMs)
  assert.equal(warned.length, length)
  certificates.close()
})
