// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the configuration writes.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { load } from '../../src/config/load.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'

const head = 'version: 1\nupstream: { url: http://127.0.0.1:9 }\n'
const rules = 'rules: [{ match: { path: /a }, public: true }]\n'
const times = (count: number, textOf: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => textOf(at)).join('')

// A reload answers no probe meanwhile. Four times the length takes some four times as long; where each mistake has the
// rest of the file gone through it takes sixteen times.
for (const { of, textOf } of [
  {
    of: 'a wrong escape on each line of a quoted text',
    textOf: (count: number) => `${head}x: "${times(128 * count, () => '\\q\n ')}"\n`,
  },
  {
    of: 'defaults that are never closed',
    textOf: (count: number) => `${head}${rules}hosts:\n- "${times(12 * count, () => '${A:-')}"\n`,
  },
]) {
  test(`load() takes time that grows with the length of a file, and no faster: ${of}`, () => {
    costOf(textOf(1000)) // until it is compiled
    const [small, large] = [costOf(textOf(1000)), costOf(textOf(4000))]

    assert.ok(large < 12 * small, `${large} µs of the processor, and ${small} for a quarter`)
  })
}

test('load() refuses keys of many words at little more than it costs to read as many words in a list', () => {
  const words = times(6000, (at) => `a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q${at},`)
  const textOf = (open: string, close: string) => `${head}${rules}x: ${open}${words}${close}\n`
  costOf(textOf('{', '}')) // until it is compiled
  const [keys, items] = [costOf(textOf('{', '}')), costOf(textOf('[', ']'))]

  assert.ok(keys < 4 * items, `${keys} µs of the processor, and ${items} in a list`)
})

test('load() finds where lines begin at little more than it costs to read them, however many there are', () => {
  const textOf = (last: string) => `  version: 1\n${times(40_000, () => '  k: "a b"\n')}${times(200, () => last)}`
  const [wrong, right] = [costOf(textOf('  k: "a" b\n')), costOf(textOf('  k: "a b"\n'))]

  assert.ok(wrong < 4 * right, `${wrong} µs of the processor, and ${right} where nothing is wrong`)
})

/** The least of five, microseconds: a machine may be busy. */
function costOf(text: string): number {
  const costs = [1, 2, 3, 4, 5].map(() => {
    const before = process.cpuUsage()
    const loaded = load(gatewayOptions, { file: 'f', text }, { env: { A: 'a' } }, findGatewayConflicts)
    assert.equal(loaded.kind, 'refused')
    const { user, system } = process.cpuUsage(before) // how it is shared between these is told by ticks
    return user + system
  })
  return Math.min(...costs)
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

test('load() reads no further than the first template, and the second document', () => {
  for (const { text, says } of [
    { text: times(120_000, () => '{{ a }}\n'), says: /^Cannot parse YAML: here is a template/ },
    { text: times(40_000, () => '---\n[a,b,c,d,e,f]\n'), says: /^Cannot read the document: it holds more than one/ },
  ]) {
    const loaded = load(gatewayOptions, { file: 'f', text: `version: 1\n${text}` }, { env: {} })

    assert.match(loaded.kind === 'refused' ? (loaded.problems[0]?.message ?? '') : '', says)
  }
})

test('load() refuses aliases for more than 20000 values at the alias that is one too many', () => {
  const textOf = (count: number) => `${head}${rules}hosts: [&a [${times(count, () => 'a,')}], *a, *a]\n`
  const [within, over] = [9999, 10_000].map((count) => {
    const loaded = load(gatewayOptions, { file: 'f', text: textOf(count) }, { env: {} })
    return loaded.kind === 'refused'
      ? loaded.problems.map(({ message, caretLength }) => `${message} ${caretLength}`)
      : []
  })

  assert.doesNotMatch(within?.join('\n') ?? '', /aliases/)
  assert.deepEqual(over, ['Cannot read hosts.2.9998: aliases stand for more than 20000 values 2'])
})

test('load() refuses 64 KB of aliases for wrong values in a heap of 96 MiB', () => {
  const claims = `{ ${times(5700, (at) => `c${at}: {}, `)} }`
  const aliased = times(50, (at) => `- { match: { path: /b${at} }, claims: *c }\n`)
  const text = `${head}rules:\n- { match: { path: /a }, claims: &c ${claims} }\n${aliased}`

  assert.deepEqual(loadedIn(96, text), ['refused', 0])
})

for (const { of, text } of [
  { of: 'brackets that close nothing', text: `${head}x: ${']'.repeat(1_000_000)}` },
  { of: 'lines of brackets that close nothing', text: `${head}${']\n'.repeat(500_000)}` },
  { of: 'anchors of one value', text: `${head}x: ${'&a '.repeat(290_000)}` },
  { of: 'tags of one value', text: `${head}x: ${'! '.repeat(290_000)}` },
  { of: 'anchors', text: `${head}x: ${'&a '.repeat(340_000)}` },
  { of: 'tags', text: `${head}x: ${'! '.repeat(500_000)}` },
  { of: 'lines and one in a wrong column', text: `${head}x:\n${'  a: 1\n'.repeat(140_000)} b: 1\n` },
  { of: 'lines that begin with what looks like a space', text: `${head}${'\u00a0a: 1\n'.repeat(149_000)}` },
  { of: 'addresses without quotes', text: `${head}${'x: [::1]:80 '.repeat(87_000)}` },
]) {
  test(`load() refuses 1 MiB of ${of} in a heap of 192 MiB`, () => {
    assert.deepEqual(loadedIn(192, text), ['refused', 0])
  })
}

/** What becomes of a text in a process with so much heap, and of the process. */
function loadedIn(heapMiB: number, text: string) {
  const program = `
    import { text } from 'node:stream/consumers'
    import { load } from './src/config/load.ts'
    import { findGatewayConflicts, gatewayOptions } from './src/config/schema.ts'
    const source = { file: 'f', text: await text(process.stdin) }
    process.stdout.write(load(gatewayOptions, source, { env: {} }, findGatewayConflicts).kind)`
  const options = [`--max-old-space-size=${heapMiB}`, '--input-type=module-typescript', '--eval', program]
  const { stdout, status } = spawnSync(process.execPath, options, { input: text, encoding: 'utf8' })
  return [stdout, status]
}

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
    at: 'rules.0.claims',
    most: 100,
    written: (count: number) => ({ match: { path: '/a' }, claims: headersOf(count) }),
  },
  {
    at: 'rules.0.upgrade',
    most: 100,
    written: (count: number) => ({ match: { path: '/a' }, upgrade: same(count, 'websocket') }),
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

for (const { key, most, written } of [
  { key: 'identity_headers', most: 100, written: (count: number) => headersOf(count) },
  { key: 'trusted_proxies', most: 1000, written: (count: number) => same(count, '10.0.0.1') },
  { key: 'keep_headers', most: 12, written: (count: number) => same(count, 'x-original-url') },
  { key: 'cors.allow_headers', most: 100, written: (count: number) => ({ allow_headers: many(count) }) },
  { key: 'cors.expose_headers', most: 100, written: (count: number) => ({ expose_headers: many(count) }) },
  { key: 'cors.allow_methods', most: 100, written: (count: number) => ({ allow_methods: same(count, 'GET') }) },
]) {
  test(`load() takes ${most} of ${key}, and no more`, () => {
    const pathsOf = (count: number) => {
      const [name = '', within] = key.split('.')
      const value = within === undefined ? written(count) : { allow_origins: ['*'], ...written(count) }
      const loaded = load(
        gatewayOptions,
        { file: 'f', text: `${head}${rules}${name}: ${JSON.stringify(value)}\n` },
        { env: {} },
      )
      return loaded.kind === 'refused' ? loaded.problems.map(({ path }) => path) : []
    }

    assert.deepEqual([pathsOf(most), pathsOf(most + 1)], [[], [key]])
  })
}

function headersOf(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, at) => [`x-a${at}`, 'sub']))
}

function same(count: number, text: string): readonly string[] {
  return Array.from({ length: count }, () => text)
}

test('load() takes as many algorithms as there are, and no more', () => {
  const pathsOf = (count: number) => {
    const issuer = { issuer: 'https://a.example', audience: 'a', algorithms: same(count, 'ES256') }
    const loaded = load(
      gatewayOptions,
      { file: 'f', text: `${head}${rules}issuers: ${JSON.stringify([issuer])}\n` },
      { env: {} },
    )
    return loaded.kind === 'refused' ? loaded.problems.map(({ path }) => path) : []
  }

  assert.deepEqual([pathsOf(11), pathsOf(12)], [[], ['issuers.0.algorithms']])
})

test('load() takes a thousand hosts, and no more', () => {
  const isLoaded = [1000, 1001].map((count) => {
    const text = `${head}${rules}hosts: [${times(count, () => 'a,')}]\n`
    return load(gatewayOptions, { file: 'f', text }, { env: {} }).kind === 'loaded'
  })

  assert.deepEqual(isLoaded, [true, false])
})
