// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the configuration writes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load } from '../../src/config/load.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'

const head = 'version: 1\nupstream: { url: http://127.0.0.1:9 }\n'
const rules = 'rules: [{ match: { path: /a }, public: true }]\n'
const times = (count: number, textOf: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => textOf(at)).join('')

// A reload answers no probe meanwhile. Each takes about one second, and some took minutes; a machine may be busy.
for (const { of, text, problems } of [
  {
    of: 'a wrong escape on each line of a quoted text',
    text: `${head}x: "${times(64_000, () => '\\q\n ')}"\n`,
    problems: 201,
  },
  {
    of: 'defaults that are never closed',
    text: `${head}${rules}hosts:\n- "${times(51_000, () => '${A:-')}"\n`,
    problems: 201,
  },
  { of: 'wrong values on one line', text: `${head}${rules}hosts: [${times(99_000, () => 'A,')}]\n`, problems: 1 },
  { of: 'repeated keys on one line', text: `{"version":1,${times(45_000, () => 'a: 1,')}"rules":[]}`, problems: 201 },
  {
    of: 'unknown issuers beside a hundred',
    text: `${head}issuers:\n${times(100, (at) => `- { issuer: "https://login.example/realms/aaaaaaaaaaaa/b${at}", audience: a }\n`)}rules:\n${times(40, (rule) => `- { match: { path: /a${rule} }, issuers: [${times(100, (at) => `"https://login.example/realms/bbbbbbbbbb/${rule}${at}", `)}] }\n`)}`,
    problems: 201,
  },
  { of: 'commas', text: `${head}hosts: [${times(1_000_000, () => ',')}]\n`, problems: 1 },
  {
    of: 'good rules beside a mistake',
    text: `${head}bad: 1\nrules:\n${times(5000, (at) => `- { match: { path: /a${at}, methods: [GET, POST] }, scopes: [a, b, c, d] }\n`)}`,
    problems: 1,
  },
]) {
  test(`load() takes seconds of the processor, not minutes, for a file of ${of}`, () => {
    const before = process.cpuUsage()

    const loaded = load(gatewayOptions, { file: 'f', text }, { env: { A: 'a' } }, findGatewayConflicts)

    const { user } = process.cpuUsage(before)
    assert.equal(loaded.kind === 'refused' ? loaded.problems.length : 0, problems)
    assert.ok(user < 10_000_000, `it took ${user} µs of the processor`)
  })
}

test('load() tells 200 problems, and last that there are more', () => {
  const textOf = (count: number) => `${head}${rules}hosts: [${times(count, () => 'A,\n ')}]\n`
  const told = [200, 201].map((count) => {
    const loaded = load(gatewayOptions, { file: 'f', text: textOf(count) }, { env: {} }, findGatewayConflicts)
    return loaded.kind === 'refused' ? loaded.problems.map(({ message }) => message) : []
  })

  assert.deepEqual(
    told.map((messages) => messages.length),
    [200, 201],
  )
  assert.match(told[0]?.at(-1) ?? '', /^Cannot read hosts\.199: /)
  assert.equal(told[1]?.at(-1), 'Cannot read the document: more is wrong with it than is told here')
})

test('load() refuses more than 300000 keys, values and commas before it reads them', () => {
  for (const text of [`-\n`.repeat(300_001), `[${'a,'.repeat(150_001)}]`, `a: [${'[],'.repeat(150_001)}]`]) {
    const loaded = load(gatewayOptions, { file: 'f', text: `version: 1\nhosts:\n${text}` }, { env: {} })

    assert.match(
      loaded.kind === 'refused' ? (loaded.problems[0]?.message ?? '') : '',
      /^Cannot read the document: it has more than 300000 keys, values and commas/,
    )
  }
})

const many = (count: number) => Array.from({ length: count }, (_, at) => `A${at}`)
for (const { at, most, written } of [
  {
    at: 'rules.0.match.methods',
    most: 64,
    written: (count: number) => ({ match: { path: '/a', methods: many(count) } }),
  },
  { at: 'rules.0.issuers', most: 100, written: (count: number) => ({ match: { path: '/a' }, issuers: many(count) }) },
  {
    at: 'rules.0.audience',
    most: 1000,
    written: (count: number) => ({ match: { path: '/a' }, audience: many(count) }),
  },
  { at: 'rules.0.scopes', most: 1000, written: (count: number) => ({ match: { path: '/a' }, scopes: many(count) }) },
  {
    at: 'rules.0.scopes.any',
    most: 1000,
    written: (count: number) => ({ match: { path: '/a' }, scopes: { any: many(count) } }),
  },
  {
    at: 'rules.0.claims.a',
    most: 1000,
    written: (count: number) => ({ match: { path: '/a' }, claims: { a: many(count) } }),
  },
]) {
  test(`load() takes ${most} of ${at}, and no more`, () => {
    const pathsOf = (count: number) => {
      const text = `${head}rules: ${JSON.stringify([written(count)])}\n`
      const loaded = load(gatewayOptions, { file: 'f', text }, { env: {} })
      return loaded.kind === 'refused' ? loaded.problems.map(({ path }) => path) : []
    }

    assert.deepEqual([pathsOf(most), pathsOf(most + 1)], [[], [at]])
  })
}

test('load() takes a thousand hosts, and no more', () => {
  const isLoaded = [1000, 1001].map((count) => {
    const text = `${head}${rules}hosts: [${times(count, () => 'a,')}]\n`
    return load(gatewayOptions, { file: 'f', text }, { env: {} }).kind === 'loaded'
  })

  assert.deepEqual(isLoaded, [true, false])
})
