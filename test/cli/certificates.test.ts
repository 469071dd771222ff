// The certificate of a running gateway, renewed as cert-manager and a kubelet do it: the link to a directory is swapped.
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { Pair } from '../support/certificates.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'
import { askTls } from '../support/tls-client.ts'
import { until } from '../support/until.ts'
import { runToEnd } from './process.ts'

/** A mounted Secret. */
function mountSecret(): Disposable & { readonly path: string; readonly hold: (pair: Pair) => void } {
  const path = mkdtempSync(join(tmpdir(), 'postern-secret-'))
  let version = 0
  symlinkSync('..data/tls.crt', join(path, 'tls.crt'))
  symlinkSync('..data/tls.key', join(path, 'tls.key'))
  return {
    path,
    hold({ cert, key }) {
      version += 1
      const next = `..${version}`
      mkdirSync(join(path, next))
      writeFileSync(join(path, next, 'tls.crt'), cert)
      writeFileSync(join(path, next, 'tls.key'), key, { mode: 0o640 })
      symlinkSync(next, join(path, '..data_tmp'))
      renameSync(join(path, '..data_tmp'), join(path, '..data'))
      if (version > 1) rmSync(join(path, `..${version - 1}`), { recursive: true })
    },
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  }
}

function configuration(path: string, workers: number) {
  const any = '127.0.0.1:0'
  const [cert, key] = [{ file: join(path, 'tls.crt') }, { file: join(path, 'tls.key') }]
  return {
    workers,
    listen: { proxy: any, health: any, admin: any, tls: { cert, key } },
    upstream: { url: 'http://127.0.0.1:9' },
    rules: [{ id: 'a', match: { path: '/b' }, public: true }],
  }
}

describe('postern serve with listen.tls', { skip: skipWithoutOpenssl }, () => {
  for (const workers of [1, 2]) {
    test(`shows a renewed certificate, and keeps the last good one, with ${workers} serving`, async () => {
      using ours = createAuthority()
      using secret = mountSecret()
      secret.hold(ours.issue('first'))
      await using gateway = await startGatewayProcess(configuration(secret.path, workers))
      const shown = async () => (await askTls(gateway.proxyPort, { ca: ours.ca })).shown
      const all = async (name: string) => (await Promise.all([shown(), shown(), shown()])).every((it) => it === name)
      assert.ok(await all('first'))

      secret.hold(ours.issue('second'))
      await until(() => all('second'), 'the new certificate to be shown')
      secret.hold({ ...ours.issue('third'), key: ours.issue('other').key })
      await until(() => gateway.logged('certificate_refused').length > 0, 'the certificate to be refused')

      assert.ok(await all('second'))
      const said = await gateway.health('/readyz?verbose')
      assert.match(said.text, /certificate files: Cannot use certificate and key: .*KEY_VALUES_MISMATCH/)
      const metrics = await gateway.metrics()
      assert.equal(metrics.get('postern_certificate_reloads_total{result="success"}'), 1)
      assert.ok((metrics.get('postern_certificate_reloads_total{result="failure"}') ?? 0) >= 1)
      assert.ok((metrics.get('postern_certificate_expires_timestamp_seconds') ?? 0) > Date.now() / 1000)
      assert.equal(metrics.get('postern_connections_dropped_total{listener="proxy",cause="tls"}'), 0)
      assert.equal(gateway.logged('internal_error').length, 0)
      if (workers > 1) {
        const status = (await gateway.status()) as { workers: { pid: number }[] }
        process.kill(status.workers[0]?.pid ?? 0, 'SIGKILL')
        await until(() => gateway.logged('worker_started').length === workers + 1, 'another worker')
        assert.ok(await all('second'), 'a worker that comes later')
      }
      secret.hold(ours.issue('fourth'))
      await until(() => all('fourth'), 'the new certificate to be shown')
      assert.match((await gateway.health('/readyz?verbose')).text, /certificate files.*in use/)
    })
  }

  test('keeps a certificate that has not ended where the new one has, and says when it ends', async () => {
    using ours = createAuthority()
    using secret = mountSecret()
    secret.hold(ours.issue('first', { days: 30 }))
    await using gateway = await startGatewayProcess(configuration(secret.path, 1))
    const shown = async () => (await askTls(gateway.proxyPort, { ca: ours.ca })).shown
    const noteOf = async () =>
      /^.*certificate files.*$/m.exec((await gateway.health('/readyz?verbose')).text)?.[0] ?? ''
    assert.match(await noteOf(), /^\[\+\] certificate files: in use, it ends \d{4}-\d\d-\d\d$/)

    secret.hold(ours.issue('ended', { days: -1 }))
    await until(() => gateway.logged('certificate_refused').length > 0, 'the certificate to be refused')

    assert.match(gateway.logged('certificate_refused')[0] ?? '', /Cannot use certificate and key: it ended \d{4}-/)
    assert.match(await noteOf(), /^\[!\] certificate files: .*it ended .*; of the one in use: it ends /)
    assert.equal(await shown(), 'first')
    secret.hold(ours.issue('short', { days: 3 }))
    await until(async () => (await shown()) === 'short', 'the new certificate to be shown')
    assert.match(await noteOf(), /^\[!\] certificate files: in use, it ends /)
    assert.match(gateway.logged('certificate_validity')[0] ?? '', /"severity_text":"WARN".*"ends_soon"/)
  })

  test('starts with a certificate that has ended, warns of it, and takes another one that has', async () => {
    using ours = createAuthority()
    using secret = mountSecret()
    secret.hold(ours.issue('first', { days: -1 }))
    await using gateway = await startGatewayProcess(configuration(secret.path, 1))
    assert.match(gateway.logged('certificate_validity')[0] ?? '', /"severity_text":"WARN".*it ended \d{4}-/)
    assert.match((await gateway.health('/readyz?verbose')).text, /^\[-\] certificate files: in use, it ended /m)

    secret.hold(ours.issue('second', { days: -1 }))

    await until(() => gateway.logged('certificate_reloaded').length > 0, 'the new certificate to be taken up')
  })

  test('is told by check of a certificate that has ended, or ends soon', async () => {
    using ours = createAuthority()
    using secret = mountSecret()
    const file = join(secret.path, 'gateway.yaml')
    writeFileSync(file, JSON.stringify({ version: 1, ...configuration(secret.path, 1) }))
    const told = async (days: number) => {
      secret.hold(ours.issue('first', { days }))
      const { stdout } = await runToEnd(['check', file])
      return /warning: .*certificate.*/.exec(stdout)?.[0].replace(/\d{4}-\d\d-\d\d/, 'DATE')
    }

    assert.equal(await told(-1), 'warning: clients refuse the certificate: it ended DATE')
    assert.equal(await told(3), 'warning: the certificate: it ends DATE, in less than 7 days')
    assert.equal(await told(30), undefined)
  })

  test('is told by check once, and at its file, of a key that is none', async () => {
    using ours = createAuthority()
    using secret = mountSecret()
    const file = join(secret.path, 'gateway.yaml')
    writeFileSync(file, JSON.stringify({ version: 1, ...configuration(secret.path, 1) }))
    const told = async (key: string) => {
      secret.hold({ ...ours.issue('first'), key })
      const { stdout } = await runToEnd(['check', file])
      return [...stdout.matchAll(/warning: (Cannot .*)/g)].map(([, said = '']) => said.replaceAll(secret.path, 'PATH'))
    }

    assert.deepEqual(await told('none'), ['Cannot read listen.tls.key.file: the key file holds no private key'])
    assert.deepEqual(await told('\n'), ['Cannot read secret: file PATH/tls.key is empty'])
  })

  test('keeps serving, and wanting certificates of its client_ca, while that and its certificate are written anew', async () => {
    using ours = createAuthority()
    using publicCa = createAuthority()
    using secret = mountSecret()
    secret.hold(ours.issue('first'))
    const clientCa = join(secret.path, 'ca.crt')
    writeFileSync(clientCa, ours.ca)
    const root = join(secret.path, 'public.crt')
    writeFileSync(root, publicCa.ca)
    const { listen, ...rest } = configuration(secret.path, 1)
    const tls = { ...listen.tls, client_ca: { file: clientCa }, client_certificate: 'required' }
    const wanted = { ...rest, listen: { ...listen, tls } }
    await using gateway = await startGatewayProcess(wanted, { NODE_EXTRA_CA_CERTS: root })
    const [friendly, strange] = [ours.issue('friend'), publicCa.issue('stranger')]
    const answer = async (pair: Pair) => (await askTls(gateway.proxyPort, { ca: ours.ca, ...pair })).answer
    const refusals = () => gateway.logged('certificate_refused')
    assert.equal(await answer(strange), '')

    writeFileSync(clientCa, '')
    await until(() => refusals().some((line) => line.includes('client_ca')), 'the empty CA to be refused')
    assert.equal(await answer(strange), '')
    assert.match(await answer(friendly), /no_rule/)

    writeFileSync(clientCa, ours.ca)
    writeFileSync(join(secret.path, '..data', 'tls.crt'), '')
    await until(() => refusals().some((line) => line.includes('key: cert')), 'the empty certificate to be refused')
    assert.match(await answer(friendly), /no_rule/)
    assert.equal(await answer(strange), '')

    // Beside a certificate that has ended, which is not taken up.
    secret.hold(ours.issue('ended', { days: -1 }))
    writeFileSync(clientCa, publicCa.ca)
    await until(async () => (await answer(friendly)) === '', 'the other CA to be asked for')
    assert.match(await answer(strange), /no_rule/)
    await until(() => /it ended \d{4}-/.test(refusals().at(-1) ?? ''), 'the log to say that the new one has ended')
  })

  test('reads a PROXY header before TLS, with 2 serving, and counts what is dropped in all of them', async () => {
    using ours = createAuthority()
    using secret = mountSecret()
    secret.hold(ours.issue('first'))
    const { listen, ...wanted } = configuration(secret.path, 2)
    await using gateway = await startGatewayProcess({ ...wanted, listen: { ...listen, proxy_protocol: true } })
    for (let at = 0; at < 4; at += 1) {
      const [good, bad] = [connect(gateway.proxyPort, '127.0.0.1'), connect(gateway.proxyPort, '127.0.0.1')]
      good.write('PROXY TCP4 203.0.113.7 127.0.0.1 5 443\r\n')
      bad.end('GET / HTTP/1.1\r\n\r\n')
      assert.match((await askTls(good, { ca: ours.ca })).answer, /^HTTP\/1\.1 403 [\s\S]*no_rule/)
    }

    const name = 'postern_connections_dropped_total{listener="proxy",cause="proxy_protocol"}'
    await until(async () => (await gateway.metrics()).get(name) === 4, 'four to be counted as dropped')
    await until(() => gateway.logged('client.address').length === 4, 'four access lines')
    assert.ok(gateway.logged('client.address').every((line) => line.includes('"203.0.113.7"')))
  })

  test('does not start with a pair that does not belong together, or a key that everybody may read', async () => {
    using ours = createAuthority()
    using secret = mountSecret()
    const file = join(secret.path, 'gateway.yaml')
    writeFileSync(file, JSON.stringify({ version: 1, ...configuration(secret.path, 1) }))
    secret.hold({ ...ours.issue('first'), key: ours.issue('other').key })
    const mismatched = await runToEnd(['serve', '--config', file])
    secret.hold(ours.issue('first'))
    chmodSync(join(secret.path, 'tls.key'), 0o644)
    const readable = await runToEnd(['serve', '--config', file])

    assert.deepEqual([mismatched.code, readable.code], [3, 3])
    assert.match(mismatched.stderr, /Cannot read listen\.tls: they cannot be used together/)
    assert.match(readable.stderr, /tls\.key has mode 0644/)
  })
})
