import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatProblem } from '../../src/config/problems.ts'
import { problemsOf } from './toy-schema.ts'

const absent = () => {
  throw Object.assign(new Error('hunter2'), { code: 'ENOENT' })
}
/** Everything that may be printed of what is wrong with a text. */
const printed = (text: string, env: Record<string, string> = {}) =>
  problemsOf(text, { env, readFile: absent }).map(
    (each) => `${JSON.stringify(each)} ${formatProblem(each, { color: false })}`,
  )

const at = 'issuers.0.introspection.client_secret'
const named = [
  {
    written: `env: \${SEC}`,
    says: `Cannot read ${at}.env: expected the name of an environment variable, write "env: SEC"`,
  },
  {
    written: `env: "\${SEC:-x}"`,
    says: `Cannot read ${at}.env: expected the name of an environment variable, write "env: SEC"`,
  },
  {
    written: 'env: $SEC',
    says: `Cannot read ${at}.env: expected the name of an environment variable, write "env: SEC"`,
  },
  { written: 'env: hunter-2', says: `Cannot read ${at}.env: expected the name of an environment variable` },
  { written: 'env: hunter2', says: 'Cannot read secret: the environment variable is not set' },
  { written: 'env: OTHER', says: 'Cannot read secret: environment variable OTHER is not set' },
  { written: `file: \${SEC}`, says: `Cannot read secret: file \${SEC} cannot be read (ENOENT)` },
  { written: `file: "\${SEC}/x"`, says: `Cannot read secret: file \${SEC}/x cannot be read (ENOENT)` },
  { written: `file: \${NO:-hunter2}`, says: 'Cannot read secret: the file cannot be read (ENOENT)' },
  { written: 'file: hunter2', says: 'Cannot read secret: the file cannot be read (ENOENT)' },
  { written: 'file: /run/secret', says: 'Cannot read secret: file /run/secret cannot be read (ENOENT)' },
]
for (const { written, says } of named) {
  test(`load() takes what is written as { ${written} } for no name that it may tell, but where it surely is one`, () => {
    const text = `version: 1
issuers: [{ issuer: https://a, audience: a, introspection: { client_id: a, client_secret: { ${written} } } }]
`
    const deps = { env: { SEC: 'hunter2' }, readFile: absent }

    assert.deepEqual(
      problemsOf(text, deps).map(({ message }) => message),
      [says],
    )
    assert.doesNotMatch(printed(text, deps.env).join('\n'), /hunter/)
  })
}
