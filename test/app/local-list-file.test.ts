// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the list writes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readConfiguration, withListAnew } from '../../src/app/configuration.ts'

const gateway = JSON.stringify({
  version: 1,
  upstream: { url: 'http://127.0.0.1:9' },
  issuers: [{ issuer: 'https://issuer.test', audience: 'api' }],
  blacklist: { local: { file: '/denied' } },
  rules: [{ match: { path: '/orders' }, scopes: ['read'] }],
})
const source = { file: '/gateway.yaml', read: () => gateway }

function reading(list: string) {
  return { env: { NAME: 'carol' }, readFile: () => Buffer.from(list) }
}

function read(list: string) {
  return readConfiguration(source, reading(list))
}

/** So many entries, in YAML. */
function yaml(prefix: string, count: number): string {
  const lines = Array.from({ length: count }, (_, at) => `  - { kind: jti, value: ${prefix}${at}${'a'.repeat(40)} }`)
  return `version: 1\nentries:\n${lines.join('\n')}\n`
}

function json(entries: readonly object[]): string {
  return JSON.stringify({ version: 1, entries })
}

const many = Array.from({ length: 100_000 }, (_, at) => ({ kind: 'jti', value: `${at}-${'a'.repeat(30)}` }))

test('readLocalList() takes as many entries as a list may have', () => {
  const found = read(json(many))

  assert.ok(found.kind === 'loaded', JSON.stringify(found).slice(0, 500))
  assert.equal(found.localList.entries.length, 100_000)
})

const refused = [
  {
    what: 'YAML over its cap',
    list: yaml('x', 20_000),
    says: /larger than 1048576 bytes; as JSON it may have 12582912/,
  },
  {
    what: 'JSON over its cap',
    list: json([{ kind: 'jti', value: 'a'.repeat(12_582_912) }]),
    says: /larger than 12582912/,
  },
  { what: 'an entry too many', list: json([...many, many[0] ?? {}]), says: /Cannot read entries: / },
  {
    what: 'a long list with an unknown issuer',
    list: json([...many.slice(1), { kind: 'sub', value: 'a', issuer: 'https://issuer.test/' }]),
    says: /^Cannot read entries\.99999\.issuer: .*perhaps https:\/\/issuer\.test$/,
  },
  { what: 'a long list with a key twice', list: `{"version":1,${json(many).slice(1)}`, says: /a repeated member name/ },
  {
    what: 'a long list with a wrong kind',
    list: json([...many.slice(1), { kind: 'ip', value: 'a' }]),
    says: /^Cannot read entries\.99999\.kind: /,
  },
]
for (const { what, list, says } of refused) {
  test(`readLocalList() refuses ${what}`, () => {
    const found = read(list)

    assert.ok(found.kind === 'refused')
    assert.match(found.problems[0]?.message ?? '', says)
    assert.equal(found.problems[0]?.file, '/denied')
  })
}

test('readLocalList() tells the place of what is wrong in JSON as in YAML, and fills in names in both', () => {
  const wrong = read('{ "version": 1,\n  "entries": [ { "kind": "ip", "value": "a" } ] }')
  const named = read('{ "version": 1, "entries": [ { "kind": "sub", "value": "${NAME}" } ] }')

  assert.ok(wrong.kind === 'refused' && named.kind === 'loaded')
  assert.deepEqual([wrong.problems[0]?.line, wrong.problems[0]?.column], [2, 26])
  assert.equal(named.localList.entries[0]?.value, 'carol')
})

test('withListAnew() puts what is new in force however long the lists are together, and so does who is handed it', () => {
  const before = read(yaml('x', 11_000))
  assert.ok(before.kind === 'loaded')

  const found = withListAnew(before, reading(yaml('y', 11_000)))

  assert.ok(found !== undefined && 'configuration' in found, JSON.stringify(found).slice(0, 500))
  assert.equal(found.kept, 11_000)
  assert.equal(found.configuration.localList.entries.length, 22_000)
  const { files, hash } = found.configuration
  const handed = readConfiguration(source, { env: {}, readNamed: (path) => files.get(path) ?? Buffer.alloc(0) })
  assert.ok(handed.kind === 'loaded')
  assert.equal(handed.hash, hash)
})

test('withListAnew() keeps what is in force as it is: it fills in nothing twice', () => {
  const before = read('version: 1\nentries: [{ kind: sub, value: "$${NAME}" }]\n')
  assert.ok(before.kind === 'loaded')

  const found = withListAnew(before, reading('version: 1\nentries: [{ kind: sub, value: eve }]\n'))

  assert.ok(found !== undefined && 'configuration' in found)
  assert.deepEqual(
    found.configuration.localList.entries.map(({ value }) => value),
    ['eve', '${NAME}'],
  )
})
