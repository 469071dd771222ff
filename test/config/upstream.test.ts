import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readConfiguration } from '../../src/app/configuration.ts'
import { load } from '../../src/config/load.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'
import { createAuthority, skipWithoutOpenssl as skip } from '../support/certificates.ts'

/** What is said of an `upstream:` section, at which column of the second line. */
function said(upstream: string): readonly string[] {
  const text = `version: 1\nupstream: ${upstream}\nrules: [{ match: { path: /a }, public: true }]\n`
  const loaded = load(gatewayOptions, { file: 'gateway.yaml', text }, { env: {} }, findGatewayConflicts)
  if (loaded.kind === 'loaded') return []
  return loaded.problems.map(({ line, column, message }) => `${line}:${column} ${message.replace(/, got .*$/, '')}`)
}

const good = [
  '{ url: http://127.0.0.1:3000 }',
  '{ url: http://app/ }',
  '{ url: https://app.example.com:8443 }',
  '{ url: "https://[::1]:65535" }',
  '{ url: unix:/run/app.sock }',
  `{ url: unix:/${'a'.repeat(106)} }`,
  '{ urls: [http://10.0.0.1:80, http://10.0.0.2:80, unix:/run/app.sock] }',
  '{ url: https://app, tls: {} }',
  '{ url: https://app, tls: { server_name: app.example.com } }',
  '{ url: https://app, tls: { server_name: "fd00::1" } }',
  '{ urls: [https://a, https://b], tls: { cert: { file: a }, key: { file: b }, ca: { file: c } } }',
] as const
for (const upstream of good) {
  test(`load() takes upstream: ${upstream.slice(0, 80)}`, () => {
    assert.deepEqual(said(upstream), [])
  })
}

const origin = 'expected an origin like http://127.0.0.1:3000 without a path, or unix:/run/app.sock'
const bad = [
  { upstream: '{}', where: '2:11', message: 'Cannot read upstream: expected either url or urls' },
  {
    upstream: '{ url: http://a, urls: [http://b] }',
    where: '2:13',
    message: 'Cannot read upstream: expected either url or urls',
  },
  { upstream: '{ url: http://a/path }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: http://a?b }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: http://u:p@a }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: a:3000 }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: http://a:0 }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: http://a:65536 }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: http://300.1.1.1 }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: "http://[::g]" }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  { upstream: '{ url: unix:app.sock }', where: '2:18', message: `Cannot read upstream.url: ${origin}` },
  {
    upstream: `{ url: unix:/${'a'.repeat(107)} }`,
    where: '2:18',
    message: "Cannot read upstream.url: expected a socket's path of at most 107 bytes",
  },
  { upstream: '{ urls: [] }', where: '2:19', message: 'Cannot read upstream.urls: expected at least 1 item' },
  {
    upstream: '{ urls: [http://a, http://b, http://a/] }',
    where: '2:40',
    message: 'Cannot read upstream.urls.2: expected another url than one above',
  },
  {
    upstream: '{ url: http://a, tls: { server_name: a } }',
    where: '2:18',
    message: 'Cannot read upstream.url: expected an https url beside upstream.tls',
  },
  {
    upstream: '{ url: unix:/run/app.sock, tls: { server_name: a } }',
    where: '2:18',
    message: 'Cannot read upstream.url: expected an https url beside upstream.tls',
  },
  {
    upstream: '{ urls: [https://a, http://b], tls: {} }',
    where: '2:31',
    message: 'Cannot read upstream.urls.1: expected an https url beside upstream.tls',
  },
  {
    upstream: '{ url: https://a, tls: { cert: { file: a } } }',
    where: '2:44',
    message: 'Cannot read upstream.tls.cert: expected key beside cert',
  },
  {
    upstream: '{ url: https://a, tls: { key: { file: a } } }',
    where: '2:43',
    message: 'Cannot read upstream.tls.key: expected cert beside key',
  },
  {
    upstream: '{ url: https://a, tls: { server_name: "a:443" } }',
    where: '2:49',
    message: 'Cannot read upstream.tls.server_name: expected a host name, or an address, without a port',
  },
] as const
for (const { upstream, where, message } of bad) {
  test(`load() refuses upstream: ${upstream.slice(0, 80)}`, () => {
    assert.deepEqual(said(upstream), [`${where} ${message}`])
  })
}

test('readConfiguration() refuses files of upstream.tls that cannot be used, each at its key', { skip }, () => {
  using authority = createAuthority()
  const [us, them] = [
    authority.issue('us', { names: 'DNS:us.test' }),
    authority.issue('them', { names: 'DNS:them.test' }),
  ]
  const directory = mkdtempSync(join(tmpdir(), 'postern-'))
  const garbage = join(directory, 'garbage.pem')
  writeFileSync(garbage, 'no certificate', { mode: 0o600 })
  const problemsWith = (ca: string, cert: string, key: string, fileMode = () => 0o600) => {
    const upstream = { url: 'https://a', tls: { ca: { file: ca }, cert: { file: cert }, key: { file: key } } }
    const text = JSON.stringify({ version: 1, upstream, rules: [{ match: { path: '/a' }, public: true }] })
    const read = readConfiguration(
      { file: 'gateway.yaml', read: () => text },
      { env: {}, readFile: (path) => readFileSync(path), fileMode },
    )
    return read.kind === 'loaded' ? [] : read.problems.map(({ path, message }) => `${path} ${message}`)
  }

  assert.deepEqual(problemsWith(authority.caFile, us.certFile, us.keyFile), [])
  assert.match(problemsWith('/no/such/file', us.certFile, us.keyFile).join(), /^upstream\.tls\.ca\.file .*ENOENT[^,]*$/)
  assert.match(problemsWith(garbage, us.certFile, us.keyFile).join(), /^upstream\.tls\.ca\.file .*BEGIN CERTIFICATE/)
  assert.match(problemsWith(authority.caFile, garbage, us.keyFile).join(), /^upstream\.tls\.cert\.file /)
  assert.match(problemsWith(authority.caFile, us.certFile, them.keyFile).join(), /^upstream\.tls\.key\.file /)
  assert.match(
    problemsWith(authority.caFile, us.certFile, us.keyFile, () => 0o644).join(),
    /^upstream\.tls\.key\.file .*0644/,
  )
  rmSync(directory, { recursive: true })
})
