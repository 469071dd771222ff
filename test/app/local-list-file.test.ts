// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the list writes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Configuration } from '../../src/app/configuration.ts'
import { readConfiguration, withListAnew } from '../../src/app/configuration.ts'
import type { RefusedLists } from '../../src/app/local-list-file.ts'
import { lintListValues, mergedList, readLocalList } from '../../src/app/local-list-file.ts'
import { maxNumericDate } from '../../src/base/time.ts'
import type { LocalListOptions } from '../../src/sources/local-list.ts'

const gateway = JSON.stringify({
  version: 1,
  upstream: { url: 'http://127.0.0.1:9' },
  issuers: [{ issuer: 'https://issuer.test', audience: 'api' }],
  blacklist: { local: { file: '/denied' } },
  rules: [{ match: { path: '/orders' }, scopes: ['read'] }],
})
const source = { file: '/gateway.yaml', read: () => gateway }

const nowS = 1_796_000_000

function reading(list: string | Buffer) {
  const clock = { wallMs: () => nowS * 1000, monotonicMs: () => 0 }
  return { env: { NAME: 'carol' }, readFile: () => (typeof list === 'string' ? Buffer.from(list) : list), clock }
}

function read(list: string | Buffer) {
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

for (const count of [0, 99_999]) {
  test(`readLocalList() refuses JSON in Latin-1 behind ${count} entries: a name in it would be nobody's`, () => {
    const text = json([...many.slice(0, count), { kind: 'sub', value: 'M\u00fcller' }])

    const found = read(Buffer.from(text, 'latin1'))

    assert.ok(found.kind === 'refused')
    assert.match(found.problems[0]?.message ?? '', /^Cannot read the document: .* is not UTF-8, wanted UTF-8$/)
    assert.equal(read(text).kind, 'loaded')
  })
}

test('readLocalList() takes as many entries as a list may have', () => {
  const found = read(json(many))

  assert.ok(found.kind === 'loaded', JSON.stringify(found).slice(0, 500))
  assert.equal(found.localList.entries.length, 100_000)
})

for (const count of [1, 30_000]) {
  test(`readLocalList() takes JSON of ${count} entries with a byte order mark`, () => {
    const found = read(`\ufeff${json(many.slice(0, count))}`)

    assert.ok(found.kind === 'loaded', JSON.stringify(found).slice(0, 500))
    assert.equal(found.localList.entries.length, count)
  })
}

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
    what: 'a long list in which something is to be filled in',
    list: json([{ kind: 'sub', value: 'eve', note: '${NAME}' }, ...many.slice(1)]),
    says: /^Cannot read the document: \$\{…\} stands at character 61, wanted none in more than 1048576 bytes/,
  },
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

for (const written of ['20261231', '2026', '0o17', '999999999', '1026-12-31', '2001-09-09T01:46:39Z', '1970-01-01']) {
  test(`readLocalList() refuses ${written} for a time: the entry would do nothing`, () => {
    for (const key of ['issued_before', 'expires_at']) {
      const found = read(`version: 1\nentries: [{ kind: sub, value: eve, ${key}: ${written} }]\n`)

      assert.ok(found.kind === 'refused', key)
      const wanted = `^Cannot read entries\\.0\\.${key}: expected seconds since 1970 or a date like 2026-12-31, not before September 2001`
      assert.match(found.problems[0]?.message ?? '', new RegExp(wanted))
    }
  })
}

const usual = { kind: 'jti', value: 'a' }
const odd = [
  { of: 'every subject', entry: { kind: 'sub', value: '*' }, says: /^\* stands for nothing else here; every token/ },
  { of: 'a pattern', entry: { kind: 'client', value: 'web-*' }, says: /^\* stands for nothing else here/ },
  { of: 'two subjects', entry: { kind: 'sub', value: 'alice,bob' }, says: /^it is one value, with a comma in it/ },
  {
    of: 'a token',
    entry: { kind: 'jti', value: 'eyJhbGciOiJFUzI1NiJ9.eyJhIjoxfQ.AAAA' },
    says: /^it is a whole token/,
  },
  { of: 'a header', entry: { kind: 'jti', value: 'Bearer abc' }, says: /^it is a whole token/ },
  { of: 'a name with a space', entry: { kind: 'sub', value: 'alice ' }, says: /^it begins or ends in white space/ },
]
for (const { of, entry, says } of odd) {
  test(`lintListValues() warns of ${of}, at the first, and tells no value`, () => {
    const found = lintListValues({ version: 1, entries: [usual, entry, entry] } as LocalListOptions) // kinds that are

    assert.deepEqual(
      found.map(({ path }) => path.join('.')),
      ['entries.1.value'],
    )
    assert.match(found[0]?.message ?? '', says)
    assert.match(found[0]?.message ?? '', /, the first of 2$/)
    assert.ok(!found[0]?.message.includes(entry.value) || entry.value === '*')
  })
}

test('lintListValues() warns of no cut-off, and of no name of a directory', () => {
  const entries = [
    { kind: 'issued_before', value: '*', issued_before: nowS },
    { kind: 'sub', value: 'cn=alice,ou=people,dc=example' },
    { kind: 'jti', value: 'eyJ' },
    usual,
  ]

  assert.deepEqual(lintListValues({ version: 1, entries } as LocalListOptions), []) // kinds that are
})

const escapes = ['\\u0024{NAME}', '$\\u007bNAME}', '\\\\\\u0024\\u007BNAME}', '$\\u0024{NAME}']
for (const written of escapes) {
  test(`readLocalList() takes "${written}" for one thing in JSON: text, or refused beside what is filled in`, () => {
    const entry = `{"kind":"sub","value":"${written}"}`
    const list = (entries: string) => read(`{"version":1,"entries":[${entries}]}`)

    const alone = list(entry)
    // Neither beside a name, nor where it is JSON to a reader of YAML alone.
    const others = [list(`${entry},{"kind":"sub","value":"\${NAME}"}`), list(`${entry},`)]

    assert.ok(alone.kind === 'loaded')
    assert.equal(alone.localList.entries[0]?.value, JSON.parse(`"${written}"`))
    for (const other of others) {
      assert.ok(other.kind === 'refused')
      assert.match(
        other.problems[0]?.message ?? '',
        /^Cannot read the document: \$\{ is written with an escape at character \d+/,
      )
    }
  })
}

for (const written of ['\\x24{NAME}', '\\U00000024{NAME}', '$\\x7BNAME}', '$\\U0000007bNAME}', '\\u0024{NAME}']) {
  test(`readLocalList() fills in "${written}" in YAML, where it is nothing else, and refuses it in what looks like JSON`, () => {
    const entries = `[{"kind":"sub","value":"${written}"},]`

    const yaml = read(`version: 1\nentries: ${entries}\n`)
    const json = read(`{"version":1,"entries":${entries}}`)

    assert.ok(yaml.kind === 'loaded' && json.kind === 'refused')
    assert.equal(yaml.localList.entries[0]?.value, 'carol')
    assert.match(json.problems[0]?.message ?? '', /: \$\{ is written with an escape at character 48, wanted/)
  })
}

test('readLocalList() tells what is wrong in JSON before it tells of an escape, and knows its places beside one', () => {
  const entry = (kind: string) => `{"version":1,\n"entries":[{"kind":"${kind}","value":"\\u0024{NAME}"}]}`

  const [wrong, good] = ['ip', 'sub'].map((kind) => readLocalList('/denied', undefined, reading(entry(kind))))

  assert.ok(wrong?.kind === 'refused' && good?.kind === 'loaded')
  assert.deepEqual(
    wrong.problems.map(({ message }) => message.slice(0, 27)),
    ['Cannot read entries.0.kind:'],
  )
  const { line, column } = good.locate(['entries', 0, 'value'])
  assert.deepEqual([line, column], [2, 34])
})

test('readLocalList() fills in a name beside escapes that make none', () => {
  const found = read('{"version":1,"entries":[{"kind":"sub","value":"\\\\u0024{a} \\u0024 \\u007b ${NAME}"}]}')

  assert.ok(found.kind === 'loaded', JSON.stringify(found))
  assert.equal(found.localList.entries[0]?.value, '\\u0024{a} $ { carol')
})

const unknown = '{"version":1,"entries":[{"kind":"ip","value":"a"}]}'

test('readLocalList() judges a list that it has refused again where it is read for another file, or as one that was merged', () => {
  const refusedLists: RefusedLists = new Map()
  const tooMany = json([...many, { kind: 'sub', value: 'eve' }])
  const read = (file: string, list: string, bounds?: typeof mergedList) =>
    readLocalList(file, undefined, { ...reading(list), refusedLists }, bounds)

  const [first, second] = [read('/first', unknown), read('/second', unknown)]
  const [written, merged] = [read('/first', tooMany), read('/first', tooMany, mergedList)]

  assert.ok(first.kind === 'refused' && second.kind === 'refused')
  assert.deepEqual([first.problems[0]?.file, second.problems[0]?.file], ['/first', '/second'])
  assert.deepEqual([written.kind, merged.kind], ['refused', 'loaded'])
})

test('readLocalList() holds the refusals of four lists, and of more the latest', () => {
  const refusedLists: RefusedLists = new Map()
  const judge = (at: number) =>
    readLocalList('/denied', undefined, { ...reading(`${unknown}${' '.repeat(at)}`), refusedLists })

  const found = [0, 1, 2, 3, 4].map(judge)

  assert.equal(refusedLists.size, 4)
  for (const at of [1, 2, 3, 4]) assert.equal(judge(at), found[at], 'the very same, not another that is equal')
  assert.notEqual(judge(0), found[0])
})

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
  assertHanded(found.configuration)
})

/** Whoever is handed a configuration, as a worker is, has the very same list. */
function assertHanded({ files, hash, localList }: Configuration): void {
  const readNamed = (path: string) => files.get(path) ?? Buffer.alloc(0)
  const handed = readConfiguration(source, { env: {}, readNamed })
  assert.ok(handed.kind === 'loaded', JSON.stringify(handed).slice(0, 500))
  assert.equal(handed.hash, hash)
  assert.deepEqual(handed.localList, localList)
}

/** The list in force after one file of it was read, and others while the rest was refused. */
function anew(first: string, ...others: readonly string[]) {
  const before = read(first)
  assert.ok(before.kind === 'loaded', JSON.stringify(before).slice(0, 500))
  let found = { configuration: before as Configuration, kept: 0, leftOut: 0 }
  for (const each of others) {
    const next = withListAnew(found.configuration, reading(each))
    assert.ok(next !== undefined && 'configuration' in next, JSON.stringify(next).slice(0, 500))
    found = next
  }
  return found
}

test('withListAnew() keeps nothing of a list that is generated again, whatever its notes say', () => {
  const generated = (note: string) => json(many.slice(0, 85_000).map((entry) => ({ ...entry, note: `run ${note}` })))
  const second = `${generated('3').slice(0, -2)},${JSON.stringify({ kind: 'sub', value: 'eve' })}]}`

  const found = anew(generated('1'), generated('2'), second)

  assert.equal(found.kept, 0)
  assert.equal(found.configuration.localList.entries.at(-1)?.value, 'eve')
  assertHanded(found.configuration)
})

test('withListAnew() puts all that is new in force where not all that was fits beside it, and fills the room with the latest', () => {
  // Three of these lists are more than fits.
  const long = (prefix: string) =>
    Array.from({ length: 11_000 }, (_, at) => ({ kind: 'jti', value: `${prefix}${at}-${'a'.repeat(1000)}` }))
  const short = { kind: 'sub', value: 'mallory' }

  const found = anew(json([...long('a'), short]), json(long('b')), json(long('c')))

  const values = found.configuration.localList.entries.map(({ value }) => value)
  const countOf = (prefix: string) => values.filter((value) => value.startsWith(prefix)).length
  assert.deepEqual([countOf('c'), countOf('b'), countOf('mallory')], [11_000, 11_000, 1])
  assert.deepEqual([found.kept, found.leftOut], [11_001 + countOf('a'), 11_000 - countOf('a')])
  const bytes = found.configuration.files.get('/denied')?.length ?? 0
  assert.ok(bytes <= 25_165_824 && bytes > 25_165_824 - 1200, `${bytes} bytes leave room for none`)
  assertHanded(found.configuration)
})

test('withListAnew() holds two lists that are as long as one may be, and of one before them nothing, which it says as long as the file is as it was', () => {
  const named = (prefix: string) => json(many.map(({ kind, value }) => ({ kind, value: `${prefix}${value}` })))

  const two = anew(named('a'), named('b'))
  const last = json([{ kind: 'sub', value: 'eve' }])
  const three = anew(named('a'), named('b'), last)
  const again = withListAnew(three.configuration, reading(last))

  assert.deepEqual([two.kept, two.leftOut], [100_000, 0])
  assertHanded(two.configuration)
  for (const found of [three, again]) {
    assert.ok(found !== undefined && 'configuration' in found)
    assert.deepEqual([found.kept, found.leftOut], [100_000, 100_000])
  }
  const kept = three.configuration.localList.entries.filter(({ value }) => value.startsWith('b'))
  assert.equal(kept.length, 100_000, 'the latest are kept')
})

test('withListAnew() reads no list again that is as it was, be it merged or not', () => {
  const first = json([{ kind: 'sub', value: 'mallory' }])
  const second = json([{ kind: 'sub', value: 'eve' }])

  const alone = anew(first)
  const merged = anew(first, second)

  assert.equal(anew(first, first).configuration.hash, alone.configuration.hash)
  for (const { found, list } of [
    { found: alone, list: first },
    { found: merged, list: second },
  ]) {
    const again = withListAnew(found.configuration, reading(list))
    assert.ok(again !== undefined && 'configuration' in again)
    assert.equal(again.configuration, found.configuration, 'the very same, not another that is equal')
    assert.deepEqual([again.kept, again.leftOut], [found.kept, found.leftOut])
  }
})

const covering = [
  { because: 'it has run out for more than a day', was: { expires_at: nowS - 86_460 }, is: undefined, kept: 0 },
  { because: 'it may run on once the clock is right', was: { expires_at: nowS - 86_459 }, is: undefined, kept: 1 },
  { because: 'the new one is the same', was: { note: 'a' }, is: { note: 'b' }, kept: 0 },
  { because: 'the new one ends earlier', was: {}, is: { expires_at: nowS + 9 }, kept: 1 },
  { because: 'the new one ends later', was: { expires_at: nowS + 8 }, is: { expires_at: nowS + 9 }, kept: 0 },
  { because: 'the new one is narrower', was: { issued_before: nowS + 9 }, is: { issued_before: nowS + 8 }, kept: 1 },
  { because: 'the new one is wider', was: { issued_before: nowS + 8 }, is: { issued_before: nowS + 9 }, kept: 0 },
  { because: 'the new one is of one issuer', was: {}, is: { issuer: 'https://issuer.test' }, kept: 1 },
  { because: 'the new one is of another kind', was: {}, is: { kind: 'sid' }, kept: 1 },
]
for (const { because, was, is, kept } of covering) {
  test(`withListAnew() keeps ${kept} entries of before where ${because}`, () => {
    const entry = { kind: 'sub', value: 'mallory' }

    const found = anew(json([{ ...entry, ...was }]), json(is === undefined ? [] : [{ ...entry, ...is }]))

    assert.equal(found.kept, kept)
    assertHanded(found.configuration)
  })
}

const narrowOrShort = fc.array(
  fc.record(
    {
      kind: fc.constantFrom('sub', 'sid'),
      value: fc.constantFrom('mallory', 'eve'),
      issued_before: fc.integer({ min: nowS, max: nowS + 3 }),
      expires_at: fc.integer({ min: nowS, max: nowS + 3 }),
    },
    { requiredKeys: ['kind', 'value'], noNullPrototype: true },
  ),
  { maxLength: 12 },
)

test('withListAnew() keeps each entry of before that no new one covers, in the order of before', () => {
  fc.assert(
    fc.property(narrowOrShort, narrowOrShort, (was, is) => {
      const wanted = was.filter((old) => !is.some((entry) => covers(entry, old)))

      const { configuration, kept } = anew(json(was), json(is))

      assert.equal(kept, wanted.length)
      assert.deepEqual(configuration.localList.entries, [...is, ...wanted])
    }),
  )
})

type Listed = {
  readonly kind: string
  readonly value: string
  readonly issued_before?: number
  readonly expires_at?: number
}

function covers(entry: Listed, old: Listed): boolean {
  const named = entry.kind === old.kind && entry.value === old.value
  const { issued_before: widthOld = Infinity, expires_at: lengthOld = Infinity } = old
  const { issued_before: width = Infinity, expires_at: length = Infinity } = entry
  return named && width >= widthOld && length >= lengthOld
}

test('withListAnew() puts two long lists together as fast where all their entries name one subject, each wider and shorter', () => {
  const list = (shift: number) =>
    json(
      many.slice(0, 40_000).map((_, at) => ({
        kind: 'sub',
        value: 'eve',
        issued_before: nowS + at + shift,
        expires_at: nowS * 2 - at + shift,
      })),
    )
  const before = read(list(0))
  assert.ok(before.kind === 'loaded')
  const next = reading(list(-0.5))

  const startUs = process.cpuUsage().user
  const found = withListAnew(before, next)
  const spentMs = (process.cpuUsage().user - startUs) / 1000

  assert.ok(found !== undefined && 'configuration' in found)
  assert.equal(found.kept, 40_000)
  assert.ok(spentMs < 3000, `${spentMs} ms`)
})

test('withListAnew() asks of each new entry alone whether it covers one: two that do together may end apart', () => {
  const entry = { kind: 'jti', value: 'a' }
  const wide = { ...entry, expires_at: nowS + 5 }
  const long = { ...entry, issued_before: nowS }

  assert.equal(anew(json([{ ...entry, expires_at: nowS + 8 }]), json([wide, long])).kept, 1)
  assert.equal(anew(json([wide]), json([long, entry, wide])).kept, 0)
})

for (const written of ['$${A}', '$$', '\\ud800', '\\ufffd', '\\0']) {
  test(`withListAnew() hands on "${written}" in a list as what it means, however long that list is`, () => {
    const odd = `version: 1\nentries: [{ kind: sub, value: "x${written}", note: "${written}" }]\n`
    const long = json(many.slice(0, 30_000))

    assertHanded(anew(odd, long).configuration)
    assertHanded(anew(long, odd).configuration)
  })
}

// Of every year that may be written, to the second or more exactly, in every zone.
const dates = fc.integer({ min: 11_575, max: 2_932_896 }).map((day) => {
  return new Date(day * 86_400_000).toISOString().slice(0, 10)
})
const clocks = fc.constantFrom('00:00:00', '12:30:15.5', '23:59:59', '23:59:59.9999999')
const zones = fc.constantFrom('Z', '+00:00', '+14:00', '-05:00', '-23:59')
const numbers = fc.double({ min: 1_000_000_000, max: maxNumericDate, noNaN: true })
const times = fc.oneof(
  numbers,
  dates,
  fc.tuple(dates, clocks, zones).map(([date, clock, zone]) => `${date}T${clock}${zone}`),
)

test('withListAnew() writes every time that a list may have as one that workers read', () => {
  const before = read(json([{ kind: 'sub', value: 'mallory' }]))
  assert.ok(before.kind === 'loaded')

  fc.assert(
    fc.property(times, times, (issued_before, expires_at) => {
      const list = json([{ kind: 'sub', value: 'eve', issued_before, expires_at }])
      const found = withListAnew(before, reading(list))
      assert.ok(found !== undefined && 'configuration' in found, JSON.stringify(found))
      assert.equal(found.kept, 1)
      const alone = read(list)
      assert.ok(alone.kind === 'loaded')
      assert.deepEqual(found.configuration.localList.entries[0], alone.localList.entries[0])
      assertHanded(found.configuration)
    }),
    {
      examples: [
        [1_000_000_000, '9999-12-31T23:59:59.9999999Z'],
        ['9999-12-31', '2001-09-09T01:46:40Z'],
        ['2001-09-10', '9999-12-31T23:59:59-05:00'],
      ],
    },
  )
})

test('withListAnew() refuses what workers could not read, and ends none of them by it', () => {
  const before = read(json([{ kind: 'sub', value: 'mallory' }]))
  assert.ok(before.kind === 'loaded')
  const entries = before.localList.entries.map((entry) => ({ ...entry, expires_at: maxNumericDate + 1 }))

  const found = withListAnew({ ...before, localList: { version: 1, entries } }, reading(json([])))

  assert.ok(found !== undefined && 'kind' in found)
  assert.match(found.problems[0]?.message ?? '', /^Cannot read entries\.0\.expires_at: /)
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
