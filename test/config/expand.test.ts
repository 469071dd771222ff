// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the configuration writes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as z from 'zod'
import { variablesUnexpanded } from '../../src/config/expand.ts'
import { load } from '../../src/config/load.ts'
import { firstLines, problemsOf, valueFrom } from './toy-schema.ts'

const expansions = [
  { written: '${A}', env: { A: 'x' }, becomes: 'x' },
  { written: '"${A}:${B}"', env: { A: 'x', B: '1' }, becomes: 'x:1' },
  { written: "'${A}'", env: { A: '80' }, becomes: '80' },
  { written: 'a-${A:-y}', env: {}, becomes: 'a-y' },
  { written: '${A:-y}', env: { A: '' }, becomes: 'y' },
  { written: '${A:-}', env: {}, becomes: '' },
  { written: '${A}', env: { A: '' }, becomes: '' },
  { written: 'a${A}', env: { A: '${B}', B: 'no' }, becomes: 'a${B}' },
  { written: '$${A}', env: { A: 'x' }, becomes: '${A}' },
  { written: '$A $ {A}', env: { A: 'x' }, becomes: '$A $ {A}' },
  { written: '|-\n    ${A}\n    b', env: { A: 'x' }, becomes: 'x\nb' },
  { written: '!!str ${A}', env: { A: '80' }, becomes: '80' },
  { written: 'a # ${NOT_SET}', env: {}, becomes: 'a' },
] as const
for (const { written, env, becomes } of expansions) {
  test(`load() expands ${JSON.stringify(written)} with ${JSON.stringify(env)} to ${JSON.stringify(becomes)}`, () => {
    assert.equal(valueFrom(`version: 1\nlisten:\n  proxy: ${written}\n`, env).listen.proxy, becomes)
  })
}

const resolved = [
  { text: '8080', value: 8080 },
  { text: '0x10', value: 16 },
  { text: '1.5', value: 1.5 },
  { text: 'true', value: true },
  { text: 'null', value: null },
  { text: 'a: b', value: 'a: b' },
  { text: '[1]', value: '[1]' },
] as const
for (const { text, value } of resolved) {
  test(`load() reads a whole plain value from the environment, ${text}, as the same scalar in the file`, () => {
    const loaded = load(z.unknown(), { file: 'f', text: 'a: ${A}\nb: ${B:-5}\nc: x${A}\n' }, { env: { A: text } })

    assert.ok(loaded.kind === 'loaded')
    assert.deepEqual(loaded.value, { a: value, b: 5, c: `x${text}` })
  })
}

test('load() refuses a default that names a variable: the first } would end it, and the rest be taken as it stands', () => {
  const problems = problemsOf('version: 1\nlisten:\n  proxy: "a${A:-${B}}"\n', { env: { A: 'x', B: 'y' } })

  assert.deepEqual(
    problems.map(({ path, line, column }) => [path, line, column]),
    [['listen.proxy', 3, 12]],
  )
  assert.match(problems[0]?.message ?? '', /expected a default without \$\{ in it/)
})

test('load() expands no keys, and no names that every object has', () => {
  const problems = problemsOf('version: 1\n${A}: 1\nlisten: { proxy: "${toString}" }\n', { env: { A: 'scopes' } })

  assert.deepEqual(
    problems.map(({ path, line }) => [path, line]),
    [
      ['${A}', 2],
      ['listen.proxy', 3],
    ],
  )
})

test('load() reports each unset variable at its own place, and not what follows from it', () => {
  const text = 'version: ${V}\nlisten:\n  proxy: "${A}:${B} ${C-}"\nscopes: 5\n'

  assert.deepEqual(firstLines(problemsOf(text)), [
    '1:10 Cannot read version: environment variable V is not set and has no default',
    '3:11 Cannot read listen.proxy: environment variable A is not set and has no default',
    '3:16 Cannot read listen.proxy: environment variable B is not set and has no default',
    '3:21 Cannot read listen.proxy: expected ${NAME} or ${NAME:-default}; a literal ${ is written $${',
    '4:9 Cannot read scopes: expected a list of strings, { any: … } or { all: … }, got a number',
  ])
})

test('load() takes a variable inside braces without quotes', () => {
  assert.equal(valueFrom('version: 1\nlisten: { proxy: ${A} }\n', { A: 'x' }).listen.proxy, 'x')
})

const leaks = [
  'version: 1\nissuers: [{ issuer: https://a, audience: a, introspection: { client_id: 1, client_secret: hunter2 } }]',
  'version: 1\nissuers:\n  - introspection: { client_secret: { fil: hunter2 } }',
  'version: 1\nclient_secret: hunter2\nlisten: 5',
  'version: 1\nadmin_token: [hunter2, {a: hunter2}]',
  'version: 1\npassword: hunter2: x\n',
  'version: 1\nclient_secret: "hunter2\nlisten: 5',
  'version: 1\n  client_secret: hunter2\n bad: x',
  'version: 1\nclient_secret: |hunter2\n  x',
  'version: 1\nclient_secret: !!hunter2 x',
  'version: 1\nlisten: { proxy: x, port: "${S}" }',
] as const
for (const text of leaks) {
  test(`load() shows no secret, neither in the message nor in the line: ${JSON.stringify(text)}`, () => {
    const problems = problemsOf(text, { env: { S: 'hunter2' } })

    assert.notEqual(problems.length, 0)
    assert.doesNotMatch(JSON.stringify(problems), /unter2/)
  })
}

test('load() hides a secret in a line that is shown for another reason, and keeps the columns', () => {
  const [problem] = problemsOf('version: 1\nissuers: [{ client_secret: hunter2, isuer: x }]').filter(
    ({ path }) => path === 'issuers.0.isuer',
  )

  assert.equal(problem?.excerpt, 'issuers: [{ client_secret: *******, isuer: * }]')
  assert.equal(problem?.column, 37)
})

test('load() shows control characters as one replacement each: a file cannot drive the terminal', () => {
  const [problem] = problemsOf('version: "a\u001b[31m\u202eb"')

  assert.equal(problem?.excerpt, 'version: "a\ufffd[31m\ufffdb"')
  assert.equal(problem?.message, 'Cannot read version: expected 1, got "a\\u001b[31m\ufffdb"')
})

for (const { env, said, told } of [
  { env: { A: 'abcd', B: 'abc' }, said: 'abcd abc', told: '${A} abc' },
  { env: { A: 'abcd', B: 'abcdef' }, said: 'abcdef abcd', told: '${B} ${A}' },
  { env: { A: 'a"b\\c', B: '' }, said: 'a"b\\c "a\\"b\\\\c"', told: '${A} "${A}"' },
  { env: { A: 'toString' }, said: 'toString valueOf', told: '${A} valueOf' },
]) {
  test(`variablesUnexpanded() tells ${JSON.stringify(said)} as ${JSON.stringify(told)} where ${JSON.stringify(env)} is set`, () => {
    assert.equal(variablesUnexpanded('${A} ${B:-x} ${valueOf}', env)(said), told)
  })
}
