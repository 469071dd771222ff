// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the configuration writes.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import * as z from 'zod'
import { nearest } from '../../src/base/nearest.ts'
import { load } from '../../src/config/load.ts'
import { mend } from '../../src/config/mend.ts'
import { formatProblem, formatProblemLine } from '../../src/config/problems.ts'
import { firstLines, problemsOf, schema, valueFrom } from './toy-schema.ts'

test('load() returns the parsed value with defaults, the hash of the text, and the place of any path', () => {
  const text = 'version: 1\nissuers:\n  - issuer: https://a.test\n    audience: [orders, billing]\n'

  const loaded = load(schema, { file: 'gateway.yaml', text }, { env: {} })

  assert.ok(loaded.kind === 'loaded')
  assert.equal(loaded.value.blacklist.poll_interval, 60_000)
  assert.deepEqual(loaded.value.issuers[0]?.audience, ['orders', 'billing'])
  assert.equal(loaded.hash, createHash('sha256').update(text).digest('hex'))
  assert.deepEqual(loaded.locate(['issuers', 0, 'audience', 1]), {
    file: 'gateway.yaml',
    line: 4,
    column: 24,
    excerpt: '    audience: [orders, billing]',
    caretLength: 7,
  })
  const missing = loaded.locate(['issuers', 0, 'introspection', 'client_id'])
  assert.deepEqual([missing.line, missing.column, missing.caretLength], [3, 5, 6])
})

test('formatProblem() prints the place, the line with its number, and a caret under the value', () => {
  const [problem] = problemsOf('version: 1\nblacklist:\n  poll_interval: soon # never\n')

  assert.ok(problem !== undefined)
  assert.equal(problem.path, 'blacklist.poll_interval')
  assert.equal(
    formatProblem(problem, { color: false }),
    [
      'gateway.yaml:3:18: Cannot read blacklist.poll_interval: expected a duration like 30s, got "soon"',
      '    3 |   poll_interval: soon # *****',
      '      |                  ^^^^',
    ].join('\n'),
  )
  assert.match(formatProblem(problem, { color: true }), /\[31m\^\^\^\^/)
})

test('formatProblem() keeps tabs before the caret, cuts the caret at the line and leaves out a place beyond the excerpt; formatProblemLine() has one line', () => {
  const problem = { file: 'f', line: 12, column: 3, path: '', message: 'm', excerpt: '\ta: b', caretLength: 99 }

  assert.equal(formatProblem(problem, { color: false }), 'f:12:3: m\n   12 | \ta: b\n      | \t ^^^')
  assert.equal(formatProblem({ ...problem, column: 500 }, { color: false }), 'f:12:500: m')
  assert.equal(formatProblemLine(problem), 'f:12:3: m')
})

test('load() reports every problem of a document in one run, in the order of the file', () => {
  const text = `version: 2
issuers:
  - issuer: ftp://x
    profile: strict
  - { isuer: https://b.test, audience: [1, b] }
  - issuer: https://c.test
    audience:
    introspection: { client_id: 1, client_secret: { file: /run/s }, max_age: soon }
bogus_setting: 1
listen: { port: 99999 }
`

  assert.deepEqual(firstLines(problemsOf(text)), [
    '1:10 Cannot read version: expected 1, got 2',
    '3:5 Cannot read issuers.0.audience: it is missing, wanted a string or a list of strings',
    '3:13 Cannot read issuers.0.issuer: expected an http or https URL without user and fragment, got "ftp://x"',
    '4:14 Cannot read issuers.0.profile: expected one of rfc9068, lenient, got "strict"',
    '5:7 Cannot read issuers.1.isuer: no such key, did you mean "issuer"?',
    '5:41 Cannot read issuers.1.audience.0: expected a string, got 1; quote it',
    '7:5 Cannot read issuers.2.audience: it is empty, wanted a string or a list of strings',
    '8:33 Cannot read issuers.2.introspection.client_id: expected a string, got 1; quote it',
    '8:78 Cannot read issuers.2.introspection.max_age: expected a duration like 30s, got "soon"',
    '9:1 Cannot read bogus_setting: no such key, wanted one of version, listen, issuers, blacklist, scopes, freshness, step, headers',
    '10:17 Cannot read listen.port: expected a number at most 65535, got 99999',
  ])
})

const said = [
  { text: '', message: 'Cannot read the document: it is empty, wanted a map', at: [1, 1, 1] },
  { text: '[1]', message: 'Cannot read the document: expected a map, got a list', at: [1, 1, 3] },
  {
    text: 'version: 1\nlisten: [] # none',
    message: 'Cannot read listen: expected a map, such as listen: { proxy: … }, got an empty list',
    at: [2, 9, 2],
  },
  { text: 'listen: {}', message: 'Cannot read version: it is missing, wanted 1', at: [1, 1, 6] },
  {
    text: 'version: 1\nlisten: { port: 1.5 }',
    message: 'Cannot read listen.port: expected a whole number, got 1.5',
    at: [2, 17, 3],
  },
  {
    text: 'version: 1\nlisten: { proxy: true }',
    message: 'Cannot read listen.proxy: expected a string, got true; quote it',
    at: [2, 18, 4],
  },
  {
    text: 'version: 1\nblacklist: { poll_interval: 30 }',
    message: 'Cannot read blacklist.poll_interval: expected a duration like 30s, got 30',
    at: [2, 29, 2],
  },
  {
    text: 'version: 1\nblacklist: { jitter: a }',
    message: 'Cannot read blacklist.jitter: expected a number, got "a"',
    at: [2, 22, 1],
  },
  {
    text: 'version: 1\nissuers: 5',
    message: 'Cannot read issuers: expected a list of maps, got a number',
    at: [2, 10, 1],
  },
  {
    text: 'version: 1\nissuers: [{ issuer: https://a, audience: [] }]',
    message: 'Cannot read issuers.0.audience: expected at least 1 item, got an empty list',
    at: [2, 42, 2],
  },
  {
    text: 'version: 1\nscopes: 5',
    message: 'Cannot read scopes: expected a list of strings, { any: … } or { all: … }, got a number',
    at: [2, 9, 1],
  },
  {
    text: 'version: 1\nscopes: { al: [x] }',
    message: 'Cannot read scopes.al: no such key, did you mean "all"?',
    at: [2, 11, 2],
  },
  {
    text: 'version: 1\nscopes: [a, { b: c }]',
    message: 'Cannot read scopes.1: expected a string, got a map',
    at: [2, 15, 1],
  },
  {
    text: 'version: 1\nfreshness: cachd',
    message: 'Cannot read freshness: expected one of cached, always or { max_age: … }, got "cachd"',
    at: [2, 12, 5],
  },
  {
    text: 'version: 1\nfreshness: { max_age: soon }',
    message: 'Cannot read freshness.max_age: expected a duration like 30s, got "soon"',
    at: [2, 23, 4],
  },
  {
    text: 'version: 1\nstep: { kind: three }',
    message: 'Cannot read step.kind: expected one or two, got "three"',
    at: [2, 15, 5],
  },
  { text: 'version: 1\nstep: {}', message: 'Cannot read step.kind: it is missing, wanted one or two', at: [2, 1, 4] },
  {
    text: 'version: 1\nheaders: { y: sub }',
    message: 'Cannot read headers.y: the name must begin with x-',
    at: [2, 12, 1],
  },
  { text: 'version: 1\n__proto__: { a: 1 }', message: 'Cannot read __proto__: no such key', at: [2, 1, 9] },
  {
    text: 'version: 1\nissuers: [{ issuer: https://a, aud: a }]',
    message: 'Cannot read issuers.0.aud: no such key, did you mean "audience"?',
    at: [2, 32, 3],
  },
  {
    text: 'version: 1\nblack: { list: 1 }',
    message: 'Cannot read black: no such key, did you mean "blacklist"?',
    at: [2, 1, 5],
  },
  {
    text: 'version: 1\r\nlisten: 5\r\n',
    message: 'Cannot read listen: expected a map, such as listen: { proxy: … }, got a number',
    at: [2, 9, 1],
  },
  { text: '\ufeffversion: 3', message: 'Cannot read version: expected 1, got 3', at: [1, 10, 1] },
] as const
for (const { text, message, at } of said) {
  test(`load() says of ${JSON.stringify(text)}: ${message}`, () => {
    const problems = problemsOf(text)

    assert.deepEqual(
      problems.map((problem) => problem.message),
      [message],
    )
    assert.deepEqual(
      problems.map(({ line, column, caretLength }) => [line, column, caretLength]),
      [at],
    )
  })
}

const either = 'issuers.0.introspection.client_secret: expected { file: … } or { env: … }'
const secrets = [
  { written: '{ file: /a, env: B }', says: [either] },
  { written: '{ value: hush }', says: [either] },
  { written: '{}', says: [either] },
  { written: 'hush', says: [either] },
  { written: '{ fil: /a }', says: ['issuers.0.introspection.client_secret: no such key, did you mean "file"?'] },
  {
    written: '{ env: S, mode: 1 }',
    says: ['issuers.0.introspection.client_secret: no such key, wanted one of file, env'],
  },
]
for (const { written, says } of secrets) {
  test(`load() says of client_secret: ${written} what a secret is, and not what is in it`, () => {
    const text = `version: 1
issuers: [{ issuer: https://a, audience: a, introspection: { client_id: a, client_secret: ${written} } }]
`

    assert.deepEqual(
      problemsOf(text).map(({ message }) => message),
      says.map((each) => `Cannot read ${each}`),
    )
  })
}

const notYaml = [
  { text: 'a:\n\t- b', at: [2, 1], because: 'a tab cannot indent' },
  { text: 'a: [b\n', at: [1, 4], because: 'a list is not closed' },
  { text: 'a: "b\n', at: [1, 4], because: 'a quote is not closed' },
  { text: 'version: 1\na: b: c', at: [2, 4], because: 'a value cannot be a map on the same line' },
  { text: 'a: !thing b', at: [1, 4], because: 'we know no tags' },
  { text: '[a]: b', at: [1, 1], because: 'a key is a string' },
  { text: 'a: 1\n---\nb: 2\n', at: [2, 1], because: 'one file is one document' },
  { text: 'a: *b', at: [1, 4], because: 'an alias needs its anchor' },
  { text: 'a: &a [*a]', at: [1, 8], because: 'an alias inside its own anchor is a circle' },
  { text: '['.repeat(5000), at: [1, 21], because: '5,000 [ once were a RangeError (CVE-2026-33532)' },
  { text: `a: ${'['.repeat(5000)}${']'.repeat(5000)}`, at: [1, 23], because: 'depth counts when closed, too' },
  { text: '{'.repeat(1_048_576), at: [1, 21], because: 'a mebibyte of { is stopped at the twenty-first' },
  { text: '- '.repeat(5000), at: [1, 41], because: 'lists without brackets nest as well' },
  { text: '? '.repeat(5000), at: [1, 41], because: 'and keys' },
  { text: `a: ${'x'.repeat(1_048_576)}`, at: [1, 1], because: 'the file is over 1 MiB' },
] as const
for (const { text, at, because } of notYaml) {
  test(`load() refuses ${JSON.stringify(text.slice(0, 20))} with one problem: ${because}`, () => {
    const problems = problemsOf(text)

    assert.equal(problems.length, 1)
    assert.deepEqual([problems[0]?.line, problems[0]?.column], at)
  })
}

test('load() takes a document of exactly 1 MiB and of depth 20', () => {
  const text = 'version: 1\n#'
  const anything = z.unknown()
  const deep = `${'['.repeat(20)}${']'.repeat(20)}`

  assert.equal(valueFrom(text + 'x'.repeat(1_048_576 - text.length)).version, 1)
  assert.equal(load(anything, { file: 'f', text: deep }, { env: {} }).kind, 'loaded')
  assert.equal(load(anything, { file: 'f', text: `[${deep}]` }, { env: {} }).kind, 'refused')
})

test('load() follows 50 aliases and refuses the 51st, counting each as often as it is reached', () => {
  const anything = z.unknown()
  const list = (aliases: number) => `a: &a 1\nb: [${Array.from({ length: aliases }, () => '*a').join(', ')}]`
  const nine = (name: string) => `[${Array.from({ length: 9 }, () => `*${name}`).join(',')}]`
  const bomb = `a: &a [x]\nb: &b ${nine('a')}\nc: &c ${nine('b')}\nd: &d ${nine('c')}\ne: ${nine('d')}`

  assert.equal(load(anything, { file: 'f', text: list(50) }, { env: {} }).kind, 'loaded')
  assert.equal(load(anything, { file: 'f', text: list(51) }, { env: {} }).kind, 'refused')
  assert.equal(load(anything, { file: 'f', text: bomb }, { env: {} }).kind, 'refused')
})

test('load() refuses what an alias nests deeper than 20, though no line of the text does', () => {
  const text = `a: &a ${'['.repeat(15)}${']'.repeat(15)}\nb: ${'['.repeat(6)}*a${']'.repeat(6)}`

  assert.equal(load(z.unknown(), { file: 'f', text }, { env: {} }).kind, 'refused')
})

test('load() points at the anchored value when what an alias stands for is wrong', () => {
  const [problem] = problemsOf('version: 1\nlisten: { proxy: &p 5 }\nscopes: [*p]\n').filter(
    ({ path }) => path === 'scopes.0',
  )

  assert.deepEqual([problem?.line, problem?.column], [2, 21])
})

test('load() knows no merge keys, and says so of <<', () => {
  assert.deepEqual(firstLines(problemsOf('version: 1\nlisten: &l {}\nblacklist: { <<: *l }\n')), [
    '3:14 Cannot read blacklist.<<: there are no merge keys, wanted the keys themselves',
  ])
})

test('load() reports a repeated key at its second place, with everything else that is wrong', () => {
  const text = 'version: 1\nlisten: { port: 1, port: 2 }\nversion: 1\nscopes: 5\n'

  const problems = problemsOf(text)

  assert.deepEqual(
    problems.map(({ line, column, path }) => [line, column, path]),
    [
      [2, 20, 'listen.port'],
      [3, 1, 'version'],
      [4, 9, 'scopes'],
    ],
  )
})

test('load() reads YAML 1.2 also where the document asks for 1.1: yes is a word', () => {
  assert.equal(valueFrom('%YAML 1.1\n---\nversion: 1\nlisten: { proxy: yes }').listen.proxy, 'yes')
})

test('load() adds what refine finds, in our voice, and of a broken file what the broken parts are not to blame for', () => {
  const refine = () => [
    { path: ['blacklist', 'poll_interval'], message: 'it is longer than max_staleness' },
    { path: ['issuers'], message: 'Cannot start: no issuer is configured' },
  ]
  const text = 'version: 1\nblacklist:\n  poll_interval: 10m\n'

  const crossed = load(schema, { file: 'f', text }, { env: {} }, refine)
  const broken = load(schema, { file: 'f', text: `${text}scopes: 5` }, { env: {} }, refine)

  assert.ok(crossed.kind === 'refused' && broken.kind === 'refused')
  assert.deepEqual(firstLines(crossed.problems), [
    '1:1 Cannot start: no issuer is configured',
    '3:18 Cannot read blacklist.poll_interval: it is longer than max_staleness',
  ])
  assert.deepEqual(
    broken.problems.map(({ path }) => path),
    ['issuers', 'blacklist.poll_interval', 'scopes'],
  )
})

test('load() tells of no conflict in an entry that has a key twice', () => {
  const text = `version: 1
issuers:
  - { issuer: 'https://a.test', audience: a, audience: b }
  - { issuer: 'https://b.test', audience: b }
`
  const loaded = load(schema, { file: 'f', text }, { env: {} }, ({ issuers }) =>
    issuers.map((_, at) => ({ path: ['issuers', at, 'issuer'], message: 'seen' })),
  )

  assert.deepEqual(loaded.kind === 'refused' ? loaded.problems.map(({ path }) => path) : [], [
    'issuers.0.audience',
    'issuers.1.issuer',
  ])
})

test('load() refines what is left of a broken file, at the places it has in the whole', () => {
  const text = `version: 1
issuers:
  - { issuer: 'https://a.test', audience: 5 }
  - { issuer: 'https://b.test' }
  - { issuer: 'https://c.test', audience: c, profil: lenient }
  - { issuer: 'https://d.test', audience: d }
step: 3
`
  const wholes: boolean[] = []
  const originals: unknown[] = []
  const loaded = load(schema, { file: 'f', text }, { env: {} }, ({ issuers }, { isWhole, original }) => {
    wholes.push(isWhole(['issuers']), isWhole(['issuers', 3]), isWhole(['step']))
    originals.push(...issuers.map((_, at) => original(['issuers', at]).at(-1)))
    return issuers.map((_, at) => ({ path: ['issuers', at, 'issuer'], message: 'seen' }))
  })

  assert.ok(loaded.kind === 'refused')
  assert.deepEqual(wholes, [false, true, false])
  assert.deepEqual(originals, [2, 3])
  assert.deepEqual(
    loaded.problems.filter(({ message }) => message.endsWith('seen')).map(({ path }) => path),
    ['issuers.3.issuer'],
  )
})

test('load() judges no rest as a whole beside hundreds of mistakes: a reload holds up the probes', () => {
  let judged = 0
  const countJudged = () => {
    judged += 1
    return []
  }
  const textWith = (mistakes: number) => `version: 1\nissuers: [${'{ issuer: 5, audience: a }, '.repeat(mistakes)}]\n`

  load(schema, { file: 'f', text: textWith(200) }, { env: {} }, countJudged)
  assert.equal(judged, 1)
  load(schema, { file: 'f', text: textWith(201) }, { env: {} }, countJudged)
  assert.equal(judged, 1)
})

test('mend() isWhole() looks up what was left out, and goes through none of it', () => {
  const mended = mend(
    z.array(z.number()),
    Array.from({ length: 30_000 }, (_, at) => (at % 2 === 0 ? at : 'x')),
  )
  const before = process.cpuUsage()

  const whole = Array.from({ length: 30_000 }, (_, at) => at).filter((at) => mended?.isWhole([at]))

  const { user } = process.cpuUsage(before)
  assert.equal(whole.length, 15_000)
  assert.equal(mended?.isWhole([]), false)
  assert.equal(mended?.isWhole([1, 'below']), false)
  assert.ok(user < 1_500_000, `it took ${user} µs of the processor`)
})

for (const { text, scopes } of [
  { text: 'scopes: [/a/{id}, /b]', scopes: ['/a/{id}', '/b'] },
  { text: 'scopes: ["/a/{id}", \'/{b}\']', scopes: ['/a/{id}', '/{b}'] },
  { text: 'scopes:\n  - /a/{id}/{b}', scopes: ['/a/{id}/{b}'] },
  { text: 'scopes: [${A}, ${B:-c}]', scopes: ['a', 'c'] },
]) {
  test(`load() reads braces as people mean them: ${JSON.stringify(text)}`, () => {
    assert.deepEqual(valueFrom(`version: 1\n${text}\n`, { A: 'a' }).scopes, scopes)
  })
}

const unquoted = ['{ path: /orders/{id} }', '{ path: "/orders/{id}" }', "\n  path: /orders/{id}\n  scopes: ['/{a}']"]
for (const [at, text] of unquoted.entries()) {
  test(`load() warns of braces that other parsers refuse, and of no others: ${JSON.stringify(text)}`, () => {
    const anything = z.record(z.string(), z.unknown())

    const loaded = load(anything, { file: 'f', text: `match: ${text}\n` }, { env: {} })

    assert.ok(loaded.kind === 'loaded')
    const told = loaded.warnings.map(({ line, column, path, message }) => [line, column, path, message])
    const warning = [1, 16, 'match.path', 'quote it: other YAML parsers refuse braces here']
    assert.deepEqual(told, at === 0 ? [warning] : [])
  })
}

test('load() never changes what a text says by hiding braces: with every brace spelled otherwise it means the same', () => {
  const part = fc.constantFrom(
    '/',
    '$',
    '{',
    '}',
    'a',
    'id',
    ' ',
    '"',
    "'",
    ',',
    '[',
    ']',
    ':',
    '\n',
    '#',
    '\ue000',
    '\ue001',
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const text = parts.join('')
      const quoted = `version: 1\nscopes: [${JSON.stringify(text)}]\n`
      const loaded = load(schema, { file: 'f', text: quoted }, { env: { id: '${id}', a: '${a}' } })
      // What is not a variable comes back as it was written, whatever it looks like.
      if (loaded.kind === 'loaded' && !text.includes('$')) assert.deepEqual(loaded.value.scopes, [text])
    }),
  )
})

test('load() tries the secrets only where it is given the power to read files', () => {
  const text = `version: 1
issuers:
  - issuer: https://a.test
    audience: a
    introspection: { client_id: x, client_secret: { file: /run/secret } }
  - issuer: https://b.test
    audience: b
    introspection: { client_id: x, client_secret: { env: S } }
`
  const absent = () => {
    throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
  }

  assert.deepEqual(problemsOf(text), [])
  assert.deepEqual(firstLines(problemsOf(text, { env: {}, readFile: absent })), [
    '5:59 Cannot read secret: file /run/secret cannot be read (ENOENT)',
    '8:58 Cannot read secret: environment variable S is not set',
  ])
  assert.deepEqual(problemsOf(text, { env: { S: 's' }, readFile: () => Buffer.from('s\n'), fileMode: () => 0o440 }), [])
})

test('load() never throws and never shows a place outside the file, whatever the text', () => {
  const word = fc.constantFrom(
    'version',
    'client_secret',
    'issuers',
    ': ',
    ':',
    '\n',
    '\n  ',
    '- ',
    '[',
    ']',
    '{',
    '}',
    ', ',
    '&a ',
    '*a',
    '"',
    "'",
    '|',
    '>',
    '? ',
    '!!str ',
    '!x ',
    '# ',
    '---\n',
    '...\n',
    '%YAML 1.1\n',
    '\t',
    '${A}',
    '${B:-1}',
    '$${',
    '${',
    '<<',
    '__proto__',
    '1',
    '~',
    '\r\n',
    '\u0000',
    'é',
  )
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(word, { maxLength: 60 }).map((words) => words.join('')),
  )
  fc.assert(
    fc.property(text, (written) => {
      const loaded = load(schema, { file: 'f', text: written }, { env: { A: '1' } })
      if (loaded.kind === 'loaded') return
      assert.notEqual(loaded.problems.length, 0)
      const lines = written.replace(/^\ufeff/, '').split('\n')
      for (const { line, column, caretLength, message } of loaded.problems) {
        const length = lines[line - 1]?.length ?? -1
        assert.ok(
          column >= 1 && column <= length + 1 && caretLength >= 1 && column + caretLength <= length + 2,
          message,
        )
      }
    }),
    { numRuns: 3000 },
  )
})

const guesses = [
  { written: 'scpoes', guess: 'scopes' },
  { written: 'pollInterval', guess: 'poll_interval' },
  { written: 'poll-intervall', guess: 'poll_interval' },
  { written: 'evn', guess: 'env' },
  { written: 'x', guess: undefined },
  { written: 'hosts', guess: undefined },
  { written: '', guess: undefined },
  { written: 's'.repeat(100_000), guess: undefined },
] as const
for (const { written, guess } of guesses) {
  test(`nearest() takes ${JSON.stringify(written.slice(0, 20))} for ${guess}`, () => {
    assert.equal(nearest(written, ['scopes', 'poll_interval', 'env', 'issuers', 'a']), guess)
  })
}

test('load() shows at most 400 characters of a line', () => {
  const [shown] = problemsOf(`listen: { port: x, proxy: "${'b'.repeat(500)}" }\nversion: 1\n`)

  assert.equal(shown?.excerpt.length, 400)
})
