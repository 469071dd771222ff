import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { rootCertificates } from 'node:tls'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Configuration, Running } from '../../src/app/configuration.ts'
import { readConfiguration, retire, run, shortHash } from '../../src/app/configuration.ts'
import { createGatewayMetrics } from '../../src/app/metrics.ts'
import type { Principal } from '../../src/decision/decision.ts'
import { createLineWriter, createLog } from '../../src/io/log.ts'
import { createKnownTokens } from '../../src/sources/known-tokens.ts'
import { createAuthority, skipWithoutOpenssl as skip } from '../support/certificates.ts'

const text = JSON.stringify({
  version: 1,
  upstream: { url: 'http://127.0.0.1:9' },
  issuers: [
    {
      issuer: 'https://issuer.test',
      audience: 'orders-api',
      http: { ca: { file: '/ca.pem' } },
      introspection: { client_id: 'gateway', client_secret: { file: '/secret' } },
    },
  ],
  blacklist: { local: { file: '/denied.yaml' } },
  rules: [{ match: { path: '/orders' }, scopes: ['orders:read'] }],
})
const source = { file: '/gateway.yaml', read: () => text }
const contents: Readonly<Record<string, string>> = {
  '/ca.pem': rootCertificates[0] ?? '',
  '/secret': 'a-secret-of-some-length',
  '/denied.yaml': 'version: 1\nentries: [{ kind: sub, value: mallory }]\n',
}

function readFrom(files: Readonly<Record<string, string>>, reads: string[] = []) {
  return (path: string) => {
    reads.push(path)
    const held = files[path]
    if (held === undefined) throw Object.assign(new Error('Cannot read: no such file'), { code: 'ENOENT' })
    return Buffer.from(held)
  }
}

test('readConfiguration() keeps the files it has read, each read once, and no secret', () => {
  const reads: string[] = []

  const read = readConfiguration(source, { env: {}, readFile: readFrom(contents, reads), fileMode: () => 0o400 })

  assert.ok(read.kind === 'loaded', JSON.stringify(read))
  assert.deepEqual([...read.files.keys()].sort(), ['/ca.pem', '/denied.yaml'])
  assert.equal(read.files.get('/denied.yaml')?.toString(), contents['/denied.yaml'])
  assert.deepEqual(reads.filter((path) => path !== '/secret').sort(), ['/ca.pem', '/denied.yaml'])
})

test('readConfiguration() keeps the certificate for the upstream, and judges it by its key without keeping that', {
  skip,
}, () => {
  using authority = createAuthority()
  const [pair, other] = [authority.issue('gateway'), authority.issue('other')]
  const secure = JSON.parse(text)
  secure.upstream = { url: 'https://127.0.0.1:9', tls: { cert: { file: '/cert.pem' }, key: { file: '/key.pem' } } }
  const written = { ...source, read: () => JSON.stringify(secure) }
  const files = { ...contents, '/cert.pem': pair.cert, '/key.pem': pair.key }
  const readWith = (key: string) =>
    readConfiguration(written, {
      env: {},
      readFile: readFrom({ ...files, '/key.pem': key }),
      fileMode: () => 0o400,
    })

  const wrong = readWith(other.key)
  const read = readWith(pair.key)

  assert.deepEqual(wrong.kind === 'refused' && wrong.problems.map((each) => each.path), ['upstream.tls.key.file'])
  assert.ok(read.kind === 'loaded', JSON.stringify(read))
  assert.deepEqual([...read.files.keys()].sort(), ['/ca.pem', '/cert.pem', '/denied.yaml'])
  const handed = Object.fromEntries([...read.files].map(([path, bytes]) => [path, bytes.toString()]))
  assert.equal(readConfiguration(written, { env: {}, readNamed: readFrom(handed) }).kind, 'loaded')
})

test('readConfiguration() of what was handed over needs no file and no secret, and is the same', () => {
  const before = readConfiguration(source, { env: {}, readFile: readFrom(contents), fileMode: () => 0o400 })
  assert.ok(before.kind === 'loaded')
  const handed = Object.fromEntries([...before.files].map(([path, bytes]) => [path, bytes.toString()]))

  const after = readConfiguration(source, { env: {}, readNamed: readFrom(handed) })

  assert.ok(after.kind === 'loaded', JSON.stringify(after))
  assert.equal(after.hash, before.hash)
  assert.deepEqual(after.options, before.options)
  assert.deepEqual(after.localList, before.localList)
})

test('readConfiguration() refuses a configuration one of whose named files was not handed over', () => {
  const read = readConfiguration(source, { env: {}, readNamed: readFrom({ '/ca.pem': contents['/ca.pem'] ?? '' }) })

  assert.equal(read.kind, 'refused')
})

for (const { named, says } of [
  { named: 'https://issuer.test/', says: /^Cannot read entries\.1\.issuer: .*perhaps https:\/\/issuer\.test$/ },
  { named: 'https://another.example', says: /^Cannot read entries\.1\.issuer: expected a configured issuer$/ },
]) {
  test(`readConfiguration() refuses a list with an entry for ${named}, which would revoke nothing`, () => {
    const denied = `version: 1
entries:
  - { issuer: 'https://issuer.test', kind: sub, value: mallory }
  - { issuer: '${named}', kind: sub, value: mallory }
  - { kind: sub, value: mallory }
`

    const read = readConfiguration(source, { env: {}, readNamed: readFrom({ ...contents, '/denied.yaml': denied }) })

    assert.ok(read.kind === 'refused')
    assert.deepEqual(
      read.problems.map(({ file, line, column }) => [file, line, column]),
      [['/denied.yaml', 4, 15]],
    )
    assert.match(read.problems[0]?.message ?? '', says)
  })
}

for (const { what, pem, says } of [
  { what: 'no certificate', pem: 'Zm9v\n', says: /the file holds no -----BEGIN CERTIFICATE-----$/ },
  {
    what: 'a certificate that is none after a good one',
    pem: `${rootCertificates[0]}\n-----BEGIN CERTIFICATE-----\nZm9v\n-----END CERTIFICATE-----\n`,
    says: /certificate 2 of the file cannot be read/,
  },
]) {
  test(`readConfiguration() refuses an issuer's CA file with ${what}, at the key that names it`, () => {
    const read = readConfiguration(source, { env: {}, readNamed: readFrom({ ...contents, '/ca.pem': pem }) })

    assert.ok(read.kind === 'refused')
    assert.deepEqual(
      read.problems.map(({ path }) => path),
      ['issuers.0.http.ca.file'],
    )
    assert.match(read.problems[0]?.message ?? '', says)
  })
}
test("shortHash() changes with the configuration and with the operator's list, and is short", () => {
  const hashOf = (written: string, list: string) => {
    const readFile = readFrom({ ...contents, '/denied.yaml': list })
    const read = readConfiguration({ ...source, read: () => written }, { env: {}, readFile, fileMode: () => 0o400 })
    assert.ok(read.kind === 'loaded', JSON.stringify(read))
    return shortHash(read.hash)
  }
  const list = contents['/denied.yaml'] ?? ''
  const first = hashOf(text, list)

  assert.match(first, /^[0-9a-f]{16}-[0-9a-f]{16}$/)
  assert.notEqual(hashOf(text, list.replace('mallory', 'eve')), first)
  assert.notEqual(hashOf(`${text}\n`, list), first)
  assert.equal(hashOf(text, list), first)
})

function runDeps() {
  const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
  const readFile = readFrom(contents)
  const writer = createLineWriter({}, { write: (_, done) => done() })
  return {
    ...{ clock, readFile, random: () => 0, secret: () => () => 'a-secret' },
    log: createLog({ stream: 'main' }, { writer, clock }),
    counted: createGatewayMetrics(),
    known: createKnownTokens<Principal>(clock.monotonicMs),
  }
}

for (const { changed, more, isSame } of [
  { changed: 'how often they are fetched', more: { jwks: { refresh: '1m' } }, isSame: true },
  { changed: 'the audience', more: { audience: 'another' }, isSame: true },
  { changed: 'their address', more: { jwks_uri: 'https://other.test/keys' }, isSame: false },
  { changed: 'who vouches for it', more: { http: {} }, isSame: false },
  { changed: 'the issuer', more: { issuer: 'https://other.test', metadata_url: 'https://issuer.test' }, isSame: false },
]) {
  test(`run() takes the keys of an issuer for ${isSame ? 'the same' : 'others'} where ${changed} is another`, () => {
    const deps = runDeps()
    const idOf = (more: object) => {
      const parsed = JSON.parse(text)
      Object.assign(parsed.issuers[0], { metadata_url: 'https://issuer.test' }, more)
      const read = () => JSON.stringify(parsed)
      const configuration = readConfiguration(
        { ...source, read },
        { env: {}, readFile: deps.readFile, fileMode: () => 0o400 },
      )
      assert.ok(configuration.kind === 'loaded', JSON.stringify(configuration))
      const running = run(configuration, undefined, deps)
      retire(running)
      return running.sources[0]?.keysId
    }

    assert.equal(idOf(more) === idOf({}), isSame)
  })
}

test('run() keeps nothing of the configurations before the one in use, however much of it that has taken over', async () => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const deps = runDeps()
  const { readFile } = deps
  const fed = JSON.parse(text)
  fed.issuers[0].blacklist = { url: 'https://issuer.test/blacklist' }
  const written = { ...source, read: () => JSON.stringify(fed) }
  const read: WeakRef<Configuration['options']>[] = []
  let running: Running | undefined
  const reload = () => {
    const configuration = readConfiguration(written, { env: {}, readFile, fileMode: () => 0o400 })
    assert.ok(configuration.kind === 'loaded')
    read.push(new WeakRef(configuration.options))
    const next = run(configuration, running, deps)
    if (running !== undefined) retire(running, next)
    running = next
  }

  for (let at = 0; at < 3; at += 1) reload()
  await nextTurn()
  gc()

  assert.deepEqual(
    read.map((each) => each.deref() !== undefined),
    [false, false, true],
  )
  if (running !== undefined) retire(running)
})
