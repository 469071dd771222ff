import assert from 'node:assert/strict'
import { test } from 'node:test'
import { problemsOf } from './toy-schema.ts'

const notClosed = (opening: string) => `Cannot parse YAML: the ${opening} that opens here is not closed`
const noColon = 'Cannot parse YAML: no ":" after the key'
const isTemplate = 'Cannot parse YAML: here is a template, {{ … }}, wanted what it is to become'
const quoteIt = 'Cannot parse YAML: quote it: a value cannot begin with'

const isAlias = 'quote it: a value that begins with * is an alias'
const isAddress = 'Cannot parse YAML: quote it: a value that begins with [ is a list'

const slips = [
  { text: 'version: 1\nlisten:5\nscopes: [a]\n', said: 'Cannot parse YAML: no space after ":"', at: [2, 1, 7] },
  {
    text: 'issuers:\n  - issuer:https://a\n    b: c\n',
    said: 'Cannot parse YAML: no space after ":"',
    at: [2, 5, 7],
  },
  {
    text: 'issuers:\n  - issuer: a\n    step:{ kind: [b] }\n    introspection:\n      client_id: c\n      max_age: 1s\n',
    said: 'Cannot parse YAML: no space after ":"',
    at: [3, 5, 5],
  },
  {
    text: 'version: 1\nissuers\n  - issuer: a\n    audience: b\n  - issuer: c\n    audience: d\nscopes: [a]\n',
    said: noColon,
    at: [2, 1, 7],
  },
  {
    text: 'version: 1\nlisten\n  proxy: a\nscopes: [b]\nheaders: {}\n',
    said: noColon,
    at: [2, 1, 6],
  },
  ...['\u00a0', '\u3000'].map((space) => {
    const said = 'Cannot parse YAML: here is no plain space, but one that looks like it'
    return { text: `version: 1\nlisten:${space}5\n`, said, at: [2, 8, 1] }
  }),
  {
    text: 'issuers:\n  - issuer: a\n \u00a0  audience: b\n    leeway: 1s\n    blacklist: c\n',
    said: 'Cannot parse YAML: here is no plain space, but one that looks like it',
    at: [3, 2, 1],
  },
  ...['hosts: *\n', 'hosts: [*]\n', 'hosts: { a: *, b: c }\n', 'hosts: *'].map((text) => {
    return { text, said: 'Cannot parse YAML: quote it: "*"', at: [1, text.indexOf('*') + 1, 1] }
  }),
  { text: 'path: /**\nhost: **\n', said: `Cannot read host: ${isAlias}`, at: [2, 7, 2] },
  { text: 'listen:\n  proxy: *:8080\n', said: `Cannot read listen.proxy: ${isAlias}`, at: [2, 10, 6] },
  { text: '# a *\nhosts: [&, b]\n', said: 'Cannot parse YAML: anchor cannot be an empty string', at: [2, 9, 1] },
  ...['// a', '//a', '    // a, [b]'].map((line) => {
    const text = `version: 1\nissuers:\n  - issuer: a\n${line}\n    audience: b\n`
    return { text, said: 'Cannot parse YAML: a comment begins with #', at: [4, line.indexOf('/') + 1, 2] }
  }),
  ...[
    { text: 'issuers:\n  issuer: a\n  audience: b\n  - issuer: c\n    audience: d\nscopes: [e]\n', at: [4, 3, 1] },
    { text: 'version: 1\nlisten: {}\n\n# - a\n  # - b\n  - issuer: c\nscopes: [d]\n', at: [6, 3, 1] },
  ].map((each) => {
    const said = 'Cannot parse YAML: a list begins among the keys of a map: is a key or a "-" missing above?'
    return { ...each, said }
  }),
  ...['version: 1\rlisten: {}\r', '{"version": 1}\r'].map((text) => {
    return { text, said: 'Cannot read the document: its lines end in CR alone, wanted LF', at: [1, 1, 1] }
  }),
  { text: 'a: b\nhost: @c\n', said: `${quoteIt} this character`, at: [2, 7, 1] },
  {
    text: 'a: b\nhost: "c"\naudience: c: d\n',
    said: 'Cannot parse YAML: quote it: a value cannot hold ": "',
    at: [3, 11, 4],
  },
  { text: 'a: [b, c\nd: [e]\nf: { g: [h] }\n', said: notClosed('['), at: [1, 4, 1] },
  { text: 'a: { b: [c, d: e }\nf: { g: h }\n', said: notClosed('['), at: [1, 9, 1] },
  { text: 'a: { b: [c], d: e\nf: { g: h }\n', said: notClosed('{'), at: [1, 4, 1] },
  { text: 'a:\n  - { b: "]", c: "}"\n  - { d: e }\n', said: notClosed('{'), at: [2, 5, 1] },
  { text: 'version: 1\nlisten = 5\nscopes: []\n', said: `${noColon}, but "="`, at: [2, 1, 8] },
  { text: 'a:\n  - audience: b\n    leeway 5s\n', said: noColon, at: [3, 5, 6] },
  { text: 'a:\n  - id: b\n  -id: c\n    path: d\n', said: 'Cannot parse YAML: no space after "-"', at: [3, 3, 1] },
  { text: '{{- if .a }}\nversion: 1\nlisten:\n  port: 1\n', said: isTemplate, at: [1, 1, 12] },
  { text: 'version: 1\nlisten: {{ .a }}\nscopes: {{ .b }}\n', said: isTemplate, at: [2, 9, 8] },
  ...[
    'version: 1\n<<<<<<< HEAD\nlisten:\n  port: 1\n=======\n  port: 2\n>>>>>>> b\n',
    'version: 1\n=======\nlisten: {}\n',
  ].map((text) => {
    return { text, said: 'Cannot parse YAML: a merge conflict is not resolved here', at: [2, 1, 7] }
  }),
  ...['```yaml\nversion: 1\nlisten: {}\n```\n', '~~~\nversion: 1\nlisten: {}\n~~~\n'].map((text) => {
    return { text, said: 'Cannot parse YAML: here is Markdown, wanted what is in it', at: [1, 1, 3] }
  }),
  {
    text: 'version: 1\n...\nlisten: {}\n',
    said: 'Cannot read the document: it holds more than one YAML document, wanted one',
    at: [2, 1, 3],
  },
  {
    text: 'version: 1\nscopes: [unix:]\n',
    said: 'Cannot read scopes.0: expected a string, got a map; quote it: "unix:"',
    at: [2, 10, 4],
  },
  {
    text: 'issuers:\n  - issuer: a\n\taudience: b\n    leeway: 1s\n    blacklist: c\n',
    said: 'Cannot parse YAML: the line is indented with a tab, wanted spaces',
    at: [3, 1, 1],
  },
  {
    text: 'issuers:\n  - issuer: a\n  \taudience: b\n    leeway: 1s\n    blacklist: c\n',
    said: 'Cannot parse YAML: the line is indented with a tab, wanted spaces',
    at: [3, 3, 1],
  },
  { text: 'hosts: [*.example.com]\n', said: `Cannot read hosts.0: ${isAlias}`, at: [1, 9, 13] },
  { text: 'listen:\n  proxy: [::1]:8080\n', said: isAddress, at: [2, 10, 10] },
  { text: 'listen: { proxy: [::1]:8080 }\n', said: isAddress, at: [1, 18, 10] },
  {
    text: 'listen:\n  proxy: "a\n  port: 1\nversion: 1\n',
    said: 'Cannot parse YAML: the quote that opens here is never closed',
    at: [2, 10, 2],
  },
  ...['version: 1\n"listen: 5\nhosts: []\n', "version: 1\n'listen: 5"].map((text) => {
    return { text, said: 'Cannot parse YAML: the quote that opens here is never closed', at: [2, 1, 10] }
  }),
  ...['hosts: ["a]\\"', "hosts: ['aa]''", 'hosts: ["a\\\\\\"'].map((text) => {
    return { text, said: 'Cannot parse YAML: the quote that opens here is never closed', at: [1, 9, text.length - 8] }
  }),
  {
    text: `hosts: ['it''s', "\\\\"\n`,
    said: notClosed('['),
    at: [1, 8, 1],
  },
  // A key without a value may have its list in its own column.
  {
    text: 'issuers:\n- issuer: a\n  audience:\n  - "b" c\n',
    said: 'Cannot parse YAML: unexpected scalar at node end',
    at: [4, 9, 1],
  },
  // One mistake, of which the parser says two things.
  {
    text: 'listen: { proxy: "\\q\\q" }\n',
    said: 'Cannot parse YAML: no such escape in a text in double quotes',
    at: [1, 19, 1],
  },
  ...['!!binary aHVzaA==', '!!set { a }', '!!omap [a: b]'].map((value) => {
    const length = value.indexOf(' ')
    return { text: `listen: ${value}\n`, said: 'Cannot parse YAML: unresolved tag', at: [1, 9, length] }
  }),
  { text: 'listen: { proxy: "a"b }\n', said: 'Cannot parse YAML: unexpected scalar at node end', at: [1, 21, 1] },
  ...[
    { line: '   b: [c]', at: 4, beside: 5 },
    { line: '     b: [c]', at: 6, beside: 5 },
    { line: '  b: [c]', at: 3, beside: 5 },
    { line: '   - d: e', at: 4, beside: 3 },
    { line: ' - d: e', at: 2, beside: 3 },
  ].flatMap(({ line, at, beside }) =>
    ['f', '{ f: g }', '"f" # g:'].map((value) => {
      const said = `Cannot parse YAML: the line begins in column ${at}, those beside it in column ${beside}`
      return { text: `version: 1\nissuers:\n  - issuer: ${value}\n${line}\n    h: [i]\n`, said, at: [4, at, 1] }
    }),
  ),
  {
    text: 'listen:\n  proxy: a\n   port: 1\nversion: 1\n',
    said: 'Cannot parse YAML: the line begins in column 4, those beside it in column 3',
    at: [3, 4, 1],
  },
  {
    text: ' version: 1\nlisten: {}\n',
    said: 'Cannot parse YAML: the line begins in column 1, those beside it in column 2',
    at: [2, 1, 1],
  },
  {
    text: 'hosts: "a"\n# b\n\n c: d\n',
    said: 'Cannot parse YAML: the line begins in column 2, those beside it in column 1',
    at: [4, 2, 1],
  },
  ...[
    { value: '{ a: [b] c: d }', at: 17 },
    { value: '{ a: b c: d, e: f }', at: 15 },
    { value: '["a" "b"]', at: 13 },
    { value: '[[a] [b]]', at: 13 },
    { value: '[\n  "a"\n  "b" ]', at: 3 },
  ].map(({ value, at }) => {
    const line = value.split('\n').length
    return { text: `hosts: ${value}\n`, said: 'Cannot parse YAML: a "," is missing before this', at: [line, at, 1] }
  }),
  { text: 'hosts: [b] c\n', said: 'Cannot parse YAML: unexpected scalar at node end', at: [1, 12, 1] },
  ...['{ a: b }}', '[a]]'].map((value) => {
    const closing = value.slice(-1)
    const said = `Cannot parse YAML: this ${closing} closes nothing`
    return { text: `hosts: ${value}\nversion: 1\nlisten: {}\n`, said, at: [1, 7 + value.length, 1] }
  }),
  ...['{ a: b } // c: d', '"a" // b'].map((value) => {
    return {
      text: `hosts: ${value}\nversion: 1\n`,
      said: 'Cannot parse YAML: a comment begins with #',
      at: [1, 8 + value.indexOf('//'), 2],
    }
  }),
  {
    text: 'issuers:\n  - issuer: a\n\u00a0   audience: { b: c }\n    leeway: 1s\n',
    said: 'Cannot parse YAML: here is no plain space, but one that looks like it',
    at: [3, 1, 1],
  },
  {
    text: Buffer.from('\ufeffversion: 1\n', 'utf16le').toString('utf8'),
    said: 'Cannot read the document: the file is UTF-16, wanted UTF-8',
    at: [1, 1, 1],
  },
  {
    text: Buffer.from('version: 1\n', 'utf16le').swap16().toString('utf8'),
    said: 'Cannot read the document: the file is UTF-16, wanted UTF-8',
    at: [1, 1, 1],
  },
  {
    text: Buffer.from('version: 1\r\nlisten: { proxy: "w\xe4re" } # \xfc\n', 'latin1').toString('utf8'),
    said: 'Cannot read the document: what stands here is not UTF-8, wanted UTF-8',
    at: [2, 20, 1],
  },
  {
    text: 'apiVersion: v1\nkind: ConfigMap\ndata: {}\n',
    said: 'Cannot read the document: it is a Kubernetes manifest (apiVersion, kind), wanted the configuration alone, as in the data of a ConfigMap',
    at: [1, 1, 10],
  },
] as const
for (const { text, said, at } of slips) {
  test(`load() says of ${JSON.stringify(text)} what was mistyped, and nothing of what follows from it`, () => {
    const problems = problemsOf(text)

    assert.deepEqual(
      problems.map(({ message, line, column, caretLength }) => [message, line, column, caretLength]),
      [[said, ...at]],
    )
  })
}

test('load() says the same of what was mistyped where lines end in CR LF', () => {
  for (const { text, said, at } of slips.filter(({ text }) => !/[\0\r]/.test(text)))
    assert.deepEqual(
      problemsOf(text.replaceAll('\n', '\r\n')).map(({ message, line, column, caretLength, excerpt }) => {
        return [message, line, column, caretLength, excerpt.includes('\ufffd')]
      }),
      [[said, ...at, false]],
      text,
    )
})

test('load() tells each of several slips of the hand, and not what the parser makes of them', () => {
  const problems = problemsOf('version:1\nissuers: []\nscopes:[a]\nlisten: {}\n')

  assert.deepEqual(
    problems.map(({ line, message }) => [line, message]),
    [
      [1, 'Cannot parse YAML: no space after ":"'],
      [3, 'Cannot parse YAML: no space after ":"'],
    ],
  )
})

test('load() says that a secret which begins like an alias is to be quoted, and does not show it', () => {
  const [problem, ...others] = problemsOf('issuers:\n  - client_secret: *.hush\n')

  assert.equal(problem?.message, `Cannot read issuers.0.client_secret: ${isAlias}`)
  assert.deepEqual(others, [])
  assert.doesNotMatch(JSON.stringify(problem), /hush/)
})

for (const written of ['hu:sh', 'hush::x', '[hu5]:54', '[::bad]:54']) {
  test(`load() tells nothing of a secret in a block that stands in a wrong column: ${written}`, () => {
    for (const indent of ['', '  ', '    ']) {
      const said = problemsOf(`issuers:\n  - audience: a\n    client_secret: |\n${indent}${written}\n`)

      assert.notEqual(said.length, 0)
      assert.doesNotMatch(JSON.stringify(said), /hu|sh\b|bad|54/)
    }
  })
}

test('load() points at the opening quote of a secret that is never closed, and does not show it', () => {
  const [problem, ...others] = problemsOf('issuers:\n  - client_secret: "hush\n    audience: a\n')

  assert.deepEqual([problem?.line, problem?.column, others], [2, 20, []])
  assert.doesNotMatch(JSON.stringify(problem), /hush/)
})
