import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import * as z from 'zod'
import { load } from '../../src/config/load.ts'
import { formatProblem } from '../../src/config/problems.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'
import { isSecretName } from '../../src/config/secrets.ts'
import { findIssuerConflicts, issuerOptions } from '../../src/issuer/options.ts'
import { localListOptions } from '../../src/sources/local-list.ts'
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
  { written: 'env: "hunter 2"', says: `Cannot read ${at}.env: expected the name of an environment variable` },
  { written: 'env: hunter-2', says: 'Cannot read secret: the environment variable is not set' },
  { written: 'env: hunter2', says: 'Cannot read secret: the environment variable is not set' },
  { written: `env: "OIDC_\${SEC}_SECRET"`, says: 'Cannot read secret: the environment variable is not set' },
  { written: 'env: OTHER', says: 'Cannot read secret: environment variable OTHER is not set' },
  { written: `file: \${SEC}`, says: `Cannot read secret: file \${SEC} cannot be read (ENOENT)` },
  { written: `file: "\${SEC}/x"`, says: `Cannot read secret: file \${SEC}/x cannot be read (ENOENT)` },
  { written: `file: \${NO:-hunter2}`, says: 'Cannot read secret: the file cannot be read (ENOENT)' },
  { written: 'file: hunter2', says: 'Cannot read secret: the file cannot be read (ENOENT)' },
  { written: 'file: /run/secret', says: 'Cannot read secret: file /run/secret cannot be read (ENOENT)' },
  { written: 'file: /run/x hunter2', says: 'Cannot read secret: file /run/x ******* cannot be read (ENOENT)' },
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

test('load() reads a secret from a variable whose name is put together from another one', () => {
  const text = `version: 1
upstream: { url: http://127.0.0.1:3000 }
issuers:
  - issuer: https://a
    audience: a
    introspection: { client_id: a, client_secret: { env: "OIDC_\${STAGE}_SECRET" } }
rules: [{ match: { path: /a }, scopes: [x] }]
`
  const env = { STAGE: 'prod', OIDC_prod_SECRET: 'hunter2' }

  assert.equal(load(gatewayOptions, { file: 'f', text }, { env, readFile: absent }).kind, 'loaded')
})

test('load() tries no secret that is not told by its file or its variable alone', () => {
  for (const other of ['max: /b', 'env: B']) {
    const written = `introspection: { client_id: a, client_secret: { file: /a, ${other} } }`
    const text = `version: 1\nissuers: [{ issuer: https://a, audience: a, ${written} }]\n`

    assert.equal(problemsOf(text, { env: {}, readFile: absent }).length, 1)
  }
})

const gatewayText = readFileSync('config/full.yaml', 'utf8')
const issuerText = readFileSync('config/issuer.yaml', 'utf8').replaceAll('-demo-', '-')

const secret = fc.constantFrom(
  'hunter2',
  'hunter-2',
  '2 hunter two',
  'x:hunter/2',
  'a=hunter==',
  'hunter@2',
  '\\Uhunter12',
  '-----BEGIN X----- hunter',
)
const secretKey = fc.constantFrom(
  'client_secret',
  'client_sceret',
  'clientSecret',
  'tokn',
  'passphrase',
  'passwd',
  'api_key',
  '"client_secret"',
)
const forms: readonly ((held: string) => string)[] = [
  (held) => held,
  (held) => `"${held}"`,
  (held) => `'${held}'`,
  (held) => `x,${held}`,
  (held) => `x, ${held}, y`,
  (held) => `[${held}]`,
  (held) => `{ file: /x }, client_secret: ${held}`,
  (held) => `{ value: ${held} }`,
  (held) => `{ ${held} }`,
  (held) => `{ ${held}: x }`,
  (held) => `{ "${held}": 1, "${held}": 2 }`,
  (held) => `{ file: ${held} }`,
  (held) => `{ env: ${held} }`,
  (held) => `{ env: ${held}, file: /x }`,
  (held) => `\${UNSET:-${held}}`,
  (held) => `{ env: "\${UNSET:-${held}}" }`,
  (held) => `{ file: "\${UNSET:-${held}}" }`,
  (held) => `*${held}`,
  (held) => `!${held}`,
  (held) => `&${held}`,
  (held) => `\n          ${held}`,
  (held) => `\n          ${held}\n          ${held}`,
  (held) => `|\n          ${held}\n          ${held}`,
  (held) => `>-\n          ${held}`,
  (held) => `"x\n          ${held}"`,
  (held) => `"x\n${held}`,
  (held) => `|\n${held}\n${held}`,
  () => `\${SEC}`,
  () => `{ env: \${SEC} }`,
  () => `{ file: \${SEC} }`,
  () => `{ file: "/run/\${SEC}" }`,
  () => `{ \${SEC}: x }`,
]
/** What an editor, or a slip of the hand, does to a text; never within a name. */
const damage = fc.oneof(
  fc.constant((text: string) => text),
  fc
    .record({
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      put: fc.constantFrom(...'{}[]:"\'#&*!|>%@-,?', '\n', '\t', ' ', '- ', '\n\t', ''),
    })
    .map(({ share, put }) => (text: string) => {
      const places = [...text.matchAll(/(?<!\w)|(?!\w)/g)].map(({ index }) => index)
      const at = places[Math.floor(share * (places.length - 1))] ?? 0
      return put === '' ? text.slice(0, at) : text.slice(0, at) + put + text.slice(at)
    }),
  fc.constant((text: string) => text.replace('audience', 'audiense')),
)

test('load() tells of no secret, wherever one is planted and whatever else is wrong', () => {
  const planted = fc.record({
    held: secret,
    key: secretKey,
    form: fc.constantFrom(...forms),
    at: fc.nat(),
    kind: fc.constantFrom('secret', 'glued', 'url', 'cut', 'value', 'tail'),
    glue: fc.constantFrom(':', ' ', ' = ', '=', ' :'),
    tail: fc.constantFrom(' // was ', ' client_secret ', '\n          password '),
    ofIssuer: fc.boolean(),
    damage,
  })
  fc.assert(
    fc.property(planted, ({ held, key, form, at, kind, glue, tail, ofIssuer, damage }) => {
      const whole = ofIssuer ? issuerText : gatewayText
      const secretPattern = /(?:client_secret|token|\bkey): (?:\{[^}]*\}|[\w-]+)/g
      const pattern = {
        secret: secretPattern,
        glued: secretPattern,
        url: /(?<=https?:\/\/)/g,
        cut: /(?<=https?:\/\/)/g,
        tail: /(?<=: \d+\w+)(?=[, ])/g,
        value: /(?<=[\w"]: |\[|, )[\w./:*-]+(?=[,\]} \n])(?!:)/g,
      }[kind]
      const places = [...whole.matchAll(pattern)]
      const place = places[at % places.length]
      if (place === undefined) return
      const written = {
        secret: `${key}: ${form(held)}`,
        glued: `${key}${glue}${held}`,
        url: `user:${held}@`,
        cut: `user:ab,${held}@`,
        tail: `${tail}${held}`,
        value: `\${SEC}`,
      }[kind]
      const text = damage(whole.slice(0, place.index) + written + whole.slice(place.index + place[0].length))
      const loaded = ofIssuer
        ? load(issuerOptions, { file: 'f', text }, { env: { SEC: held }, readFile: absent }, findIssuerConflicts)
        : load(gatewayOptions, { file: 'f', text }, { env: { SEC: held }, readFile: absent }, findGatewayConflicts)
      if (loaded.kind === 'loaded') return
      const said = loaded.problems.map((each) => `${JSON.stringify(each)}\n${formatProblem(each, { color: false })}`)
      assert.doesNotMatch(said.join('\n'), /hunter/, text)
    }),
    { numRuns: 1000 },
  )
})

const others = [
  'hunter2',
  'hunter2\n',
  '-----BEGIN PRIVATE KEY-----\nMIGHunter\nhunter2\n-----END PRIVATE KEY-----\n',
  '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,hunter\n\nhunter2\n-----END RSA PRIVATE KEY-----\n',
  '{"kty":"oct","k":"hunter2"}',
  '{"keys":[{"kty":"oct","k":"hunter2"}]}',
  '[{"k":"hunter2"}]',
  'admin:hunter2\nother:hunter3\n',
  'admin: hunter2\n',
  'ACCESS=hunter2\nSECRET=hunter3\n',
  '[default]\naws = hunter2\n',
  'machine a login b password hunter2\n',
  '@hunter2',
  '%hunter2',
  '*hunter2',
  '"hunter2',
  '!hunter2 x: [',
  '? hunter2\n? [\n',
]
for (const text of others) {
  test(`load() shows nothing of a file that is no configuration: ${JSON.stringify(text.slice(0, 40))}`, () => {
    for (const each of printed(text)) assert.doesNotMatch(each, /hunter/i)
    assert.notEqual(printed(text).length, 0)
  })
}

test('load() takes a document for a configuration that has a key of one, be it mistyped', () => {
  assert.deepEqual(
    problemsOf('verison: 1\n').map(({ message, excerpt }) => [message, excerpt]),
    [['Cannot read verison: no such key, did you mean "version"?', 'verison: *']],
  )
  assert.deepEqual(
    problemsOf('verzion: [\nversion: 1').map(({ excerpt }) => excerpt.trim() === ''),
    [false],
  )
  assert.deepEqual(
    problemsOf('hunter: 2\n').map(({ message, excerpt }) => [message, excerpt.trim()]),
    [['Cannot read the document: it has none of the keys of a configuration, such as version', '']],
  )
})

test('isSecretName() knows every key of ours that a secret stands under, and takes no other for one', () => {
  const keys = new Set<string>()
  for (const schema of [gatewayOptions, issuerOptions, localListOptions])
    JSON.stringify(z.toJSONSchema(schema, { io: 'input' }), (_, value) => {
      for (const key of Object.keys(value?.properties ?? {})) keys.add(key)
      return value
    })

  assert.ok(keys.has('keep_headers') && keys.has('allow_credentials'))
  assert.deepEqual([...keys].filter(isSecretName), ['key', 'client_secret', 'access_token', 'token'])
  assert.deepEqual(
    [
      'client_sceret',
      'sercet',
      'tokn',
      'kye',
      'pasword',
      'clientSceret',
      'CLIENT_SECERT',
      'x-api-key',
      'passwd',
    ].filter((name) => !isSecretName(name)),
    [],
  )
})

const excerpts = [
  {
    text: 'version: 2\nlisten: { proxy: "http://u:hush@a:1", port: x }',
    shown: 'listen: { proxy: "http://******@a:1", port: x }',
  },
  { text: 'listen: { proxy: u:hush@a, port: x }', shown: 'listen: { proxy: u:****@a, port: x }' },
  {
    text: 'listen: { proxy: "http://a?q=1&api_key=hush&b=2", port: x }',
    shown: 'listen: { proxy: "http://a?q=*&api_key=****&b=*", port: x }',
  },
  {
    text: 'listen: { proxy: "http://a/b?q=hush@hush", port: x }',
    shown: 'listen: { proxy: "http://***************", port: x }',
  },
  {
    text: 'listen: { proxy: "http://a/#hush@hush", port: x }',
    shown: 'listen: { proxy: "http://************", port: x }',
  },
  { text: 'listen: { proxy: a/b?q=hush@hush, port: x }', shown: 'listen: { proxy: ***************, port: x }' },
  {
    text: 'listen: { proxy: Server=a;User Id=b;Password=hush;hush, port: x }',
    shown: 'listen: { proxy: Server=a;User ***********************, port: x }',
  },
  {
    text: 'listen: { proxy: "Server = a; Pwd = hush; Port = 1", port: x }',
    shown: 'listen: { proxy: "Server * ** *** * ***** **** * *", port: x }',
  },
  {
    text: 'listen: { proxy: Server=a;Password=hush;hush, port: x }',
    shown: 'listen: { proxy: Server=a;Password=*********, port: x }',
  },
  { text: 'listen: { proxy: a // hush, port: 30 s }', shown: 'listen: { proxy: a ** ****, port: 30 s }' },
  {
    text: 'listen: { proxy: 5 minutes, port: 30 secondshush }',
    shown: 'listen: { proxy: 5 minutes, port: 30 *********** }',
  },
  { text: 'listen: { proxy: hush@a:1, port: x }', shown: 'listen: { proxy: ****@a:1, port: x }' },
  { text: 'listen: { proxy: hush@a:1/b, port: x }', shown: 'listen: { proxy: ****@a:1/b, port: x }' },
  { text: 'listen: { proxy: http://u:a,hush, port: x }', shown: 'listen: { proxy: http://***,****, port: x }' },
  { text: 'listen: { proxy: http://u:a,prt: x }', shown: 'listen: { proxy: http://***,prt: * }' },
  {
    text: 'version: 1\nscopes: [http://u:a,hush,hush, "b", c]\nx: 1',
    shown: 'x: *',
  },
  { text: 'listen: { proxy: hush@a.example, port: x }', shown: 'listen: { proxy: ****@a.example, port: x }' },
  { text: 'listen: { proxy: /a/@b, port: x }', shown: 'listen: { proxy: /a/@b, port: x }' },
  { text: 'listen: { proxy: a?sig=hush&b, port: x }', shown: 'listen: { proxy: a?sig=****&*, port: x }' },
  { text: 'version: 1\nclient_secrethush: a', shown: 'client_secret****: *' },
  { text: 'version: 1\nclient_secret_hush: a', shown: 'client_secret*****: *' },
  { text: 'version: 1\napi_keyhush: a', shown: 'api_key****: *' },
  { text: 'version: 1\napi_key_id: a', shown: 'api_key_id: *' },
  { text: 'version: 1\nclient_passhush: a', shown: 'client_pass****: *' },
  { text: 'version: 1\nclient_secrets: a', shown: 'client_secrets: *' },
  { text: 'version: 1\nclient_secret_file: a', shown: 'client_secret_file: *' },
  { text: 'version: 1\nclient_sceret: hush', shown: 'client_sceret: ****' },
  {
    text: 'version: 1\nissuers: [{ audience: [&a hush, *a], introspection: { client_secret: *a }, x: 1 }]',
    shown: 'issuers: [{ audience: [** ****, **], introspection: { client_secret: ** }, x: * }]',
  },
  {
    text: 'version: 1\nissuers: [{ introspection: { client_secret: &a hush }, audience: [*a], x: 1 }]',
    shown: 'issuers: [{ introspection: { client_secret: ** **** }, audience: [**], x: * }]',
  },
  { text: `version: 1\n${'a'.repeat(64)}: 1`, shown: `${'a'.repeat(64)}: *` },
  { text: `version: 1\n${'a'.repeat(65)}: 1`, shown: `${'*'.repeat(65)}: *` },
  { text: 'version: 1\nclient_secret: { file: /a }', shown: 'client_secret: { file: /a }' },
  { text: 'version: 1\nclient_secret:\n  hush', shown: 'client_secret:' },
  { text: 'version: 1\nclient_secret: { file: /a }\nclient_secret: hush', shown: 'client_secret: ****' },
  { text: 'version: 1\nx: "a\nclient_secret:\n  hush', shown: '*: "*' },
]
for (const { text, shown } of excerpts) {
  test(`load() shows ${JSON.stringify(text)} as ${shown}`, () => {
    assert.equal(problemsOf(text).at(-1)?.excerpt, shown)
  })
}

const slips = [
  '{ client_id: x, client_secret:hunter2 }',
  '{ client_id: x, client_secrethunter2 }',
  '{ client_id: x, client_secret_hunter2: y }',
  '{ client_id: x, api_keyhunter2: y }',
  '{ client_id: x, client_passhunter2: y }',
  '{ client_id: x, hunter2 }',
  '{ client_id: x, client_sceretX_hunter2 }',
  '{ client_id: x, client_secret: a,hunter2: }',
  '{ client_id: x, client_secret: a,hunter2: y }',
  '{ client_id: x, password-hunter2: y }',
  '{ client_id: x, client_secret hunter2 }',
  '{ client_id: x, client_secret = hunter2 }',
  '{ client_id: x, client_secret=hunter2 }',
  '{ client_id: x, client_secret :hunter2 }',
  '{ client_id: x, client-sceret = hunter2 }',
  '{ client_id: x, tokn hunter2: y }',
  '{ client_id: x, "client_secret: hunter2" }',
  '{ client_id: x, client_secret: a,hunter2 }',
  '{ client_secret: a, hunter2, max_age: 30s, hunter3 }',
  '{\n      client_id: x, client_secret: a,\n      hunter2,\n      hunter3: }',
  '{ client_sceret: a, hunter2 client_id: x }',
  '{ client_secrethunter2: a, b }',
  '{ client_id: x, "client_secret\\x20hunter2" }',
  '{ client_id: x, client_secret hunter2 ]',
  '\n      client_id: x\n      client_secret hunter2',
  '\n      client_id: x\n      client_secret:hunter2',
  '\n      client_id: x\n      client_secret = hunter2',
  '\n      client_id: x\n      client_secret:\n    - hunter2',
  ...['hunter2: x', '? hunter2', 'hunter2: x\n    hunter3: y', 'hunter2:: x'].flatMap((line) => [
    `\n      client_id: x\n      client_secret:\n    ${line}`,
    `\n      client_id: x\n      client_secret: |\n    ${line}`,
    `\n      client_id: x\n      client_secret: >-\n${line.replaceAll('    ', '')}`,
  ]),
  ...['authorization_header', 'cookie', 'psk', 'passcode', 'cred', 'assertion', 'client_assertion'].flatMap((key) => [
    `{ client_id: x, ${key}: hunter2 }`,
    `\n      client_id: x\n      ${key}: hunter2`,
    `\n      client_id: x\n      ${key}: hunter2\n      bad: ]`,
  ]),
  '{ client_id: x, jwk: { kty: oct, k: hunter2 } }',
  '{ client_id: x, jwk: { kty: EC, d: hunter2 } }',
]
for (const written of slips) {
  test(`load() tells nothing of a secret that is written as ${JSON.stringify(written)}`, () => {
    const text = `version: 1\nissuers:\n  - issuer: https://a\n    audience: a\n    introspection: ${written}\n`

    const said = printed(text)

    assert.notEqual(said.length, 0)
    assert.doesNotMatch(said.join('\n'), /hunter/)
  })
}

test('load() shows nothing of a text of more than 4096 characters', () => {
  const shown = [4096, 4097].map((length) => {
    const [problem] = problemsOf(`listen: { port: x, proxy: "${'b'.repeat(length)}" }`)
    return problem?.excerpt.slice(0, 30)
  })

  assert.deepEqual(shown, ['listen: { port: x, proxy: "bbb', 'listen: { port: x, proxy: "***'])
})

test('load() says that a secret with a comma in it is to be quoted', () => {
  const textOf = (written: string) =>
    `version: 1\nissuers: [{ issuer: https://a, audience: a, introspection: { ${written} } }]\n`
  const at = 'issuers.0.introspection'

  assert.deepEqual(
    [
      'client_id: a, client_secret: hunter,2',
      'client_id: a, client_secret: { file: /a }, hunter',
      'client_id: a, client_secret: "a,b","max": 1s',
    ].map((written) => problemsOf(textOf(written)).map(({ message }) => message)),
    [
      [
        `Cannot read ${at}.client_secret: expected { file: … } or { env: … }`,
        `Cannot read ${at}: no such key; a client_secret with a comma in it is to be quoted`,
      ],
      [`Cannot read ${at}: no such key, wanted one of client_id, client_secret, max_age`],
      [
        `Cannot read ${at}.client_secret: expected { file: … } or { env: … }`,
        `Cannot read ${at}.max: no such key, did you mean "max_age"?`,
      ],
    ],
  )
})

test('load() tells the name of a secret that a key begins with, and shows the line up to there', () => {
  const text =
    'version: 1\nissuers: [{ issuer: https://a, audience: a, introspection: { client_id: a, client_secret:hunter2 } }]\n'
  const path = 'issuers.0.introspection.client_secret'

  assert.deepEqual(
    problemsOf(text).map(({ path, message, excerpt }) => ({ path, message, excerpt })),
    [
      {
        path,
        message: `Cannot read ${path}: no ": " after the key`,
        excerpt:
          'issuers: [{ issuer: https://a, audience: a, introspection: { client_id: a, client_secret******** } }]',
      },
    ],
  )
})

const elsewhere = [
  'introspection: "client_id: a, client_secret: hunter2"',
  'introspection: orders-gateway:hunter2',
  `introspection: '{"client_id":"a","client_secret":"hunter2"}'`,
  'introspection: "{\\"client_secret\\":\\"hunter2\\"}"',
  'introspection: [client_id, hunter2]',
  'introspection: [{ name: client_secret, value: hunter2 }]',
  'introspection: { hunter2: client_secret, a: client_id }',
  'introspection: { client_id: a, client_secret, hunter2 }',
  'introspection: { "client_id": "a", "client_secret": , "hunter2" }',
  'introspection: { client_id: a, client_secret: { env: NOPE } } # hunter2',
  'introspection: { client_idd: a } # client_secret: hunter2',
  'introspection:\n      client_id: a\n      client_secret: #hunter2',
  'introspection:\n      client_id: a\n      client_secret: |-\n      hunter2: x',
  'introspection:\n      client_id: a\n      client_secret:|\n    hunter2',
  'introspection: { client_id: a, client_secret: { value: hunter2\n } }\n    x: [',
  'introspection: { "client_id": "a", "client_secret: "hunter2" }',
  'introspection: { "client_id": "a", "client_secret"&a : "hunter2", ] }',
  'introspection: { client_id: a, ? [client_secret, hunter2] : b }',
  'introspection: { jwk: { kty: RSA, n: aa, e: AQAB, p: hunter2, q: hunter2 } }',
  `jwks: '{"keys":[{"kty":"oct","k":"hunter2"}]}'`,
  `jwks_uri: 'data:{"keys":[{"kty":"oct","k":"hunter2"}]}'`,
  `jwks: { refresh: 1, file: '{"kty":"oct","k":"hunter2"}' }`,
  'http: { headers: { X-Vault: hunter2 } }',
  'http: { headers: { X-Vault: a,hunter2 } }',
  'http: { proxy: http://user:ab,hunter2@egress:3128 }',
  'http: { proxy: http://user:12,hunter2@egress:3128 }',
  'http: { proxy: http://user:ab,c,hunter2 }',
  'audience: [http://user:ab,hunter2@a:1]\n    x: y',
  'audience: [http://user:ab,c,hunter2]',
  'leeway: 30s client_secret hunter2',
  'leeway: 30s // was hunter2',
  'leeway: 30s hunter2',
  'leeway: password hunter2',
  'audience: a\n      client_secret hunter2\n    leeway: x',
  'audience: &s hunter2\n    introspection: { client_id: a, client_secret: *s }',
  ...[
    'http://user:hunter2:egress:3128',
    'http://u:hunter2\uff20h',
    'http://u:a@bhunter2@h',
    'hunter2@h.example',
    'hunter2@h.example:443',
    'hunter2@h.example:443/a',
    'a?sig=hunter2',
    'Bearer hunter2',
  ].flatMap((url) => [`http: { proxy: "${url}" }`, `issuer: "${url}"`, `blacklist: { url: "${url}", x: y }`]),
  ...['?sig=hunter2', '?a&hunter2', '?client_secret:hunter2', '?a=b#hunter2'].map(
    (query) => `blacklist: { url: "http://h/${query}", x: y }`,
  ),
]
for (const written of elsewhere) {
  test(`load() tells nothing of a secret that stands in the wrong place: ${JSON.stringify(written)}`, () => {
    const gateway = `version: 1
listen: { tls: { cert: hunter2, key: hunter2 } }
upstream: { url: "http://u:hunter2:app:3000" }
issuers:
  - profil: a
    ${written}
env: [{ name: CLIENT_SECRET, value: hunter2 }]
`
    const loaded = load(gatewayOptions, { file: 'f', text: gateway }, { env: {}, readFile: absent })

    assert.ok(loaded.kind === 'refused')
    const said = loaded.problems.map((each) => `${JSON.stringify(each)}\n${formatProblem(each, { color: false })}`)
    assert.doesNotMatch(said.join('\n'), /hunter/)
  })
}

test('load() tells the name of a claim that is a URI, up to a user or a query in it', () => {
  const pathsOf = (claim: string) => {
    const text = `version: 1\nrules: [{ match: { path: /a }, claims: { "${claim}": { a: b } } }]\n`
    const loaded = load(gatewayOptions, { file: 'f', text }, { env: {} })
    return loaded.kind === 'refused' ? loaded.problems.map(({ path }) => path) : []
  }

  for (const claim of ['https://a.example/roles', 'urn:zitadel:iam:roles', 'realm_access.roles'])
    assert.ok(pathsOf(claim).includes(`rules.0.claims.${claim}`), claim)
  for (const claim of ['https://u:hunter2@a/', 'https://a/?hunter2', 'x:hunter2'])
    assert.doesNotMatch(pathsOf(claim).join(), /hunter/)
})

const unknownKeys = [
  'client_credential',
  'client_auth',
  'proxy_auth',
  'private_pem',
  'hmac',
  'value',
  'jwk',
  'p',
  'client_id_and_more',
]
const separators = [
  ':',
  ': ',
  ' : ',
  '=',
  ' = ',
  ' => ',
  '->',
  '\uff1a',
  '\u00a0',
  '\ufe55',
  ';',
  '|',
  '/',
  '~',
  '!',
  '+',
  '(',
  '@',
  '$',
  '"',
  '#',
  ' #',
  ' ',
  '::',
  ':|',
  ': #',
]
const wraps: readonly ((held: string) => string)[] = [
  (held) => held,
  (held) => `"${held}"`,
  (held) => `"${held}`,
  (held) => `[${held}]`,
  (held) => `{ name: CLIENT_SECRET, value: ${held} }`,
  (held) => `{ ${held}: client_secret }`,
  (held) => `'{"a":"${held}"}'`,
  (held) => `"a: ${held}"`,
  (held) => `&a ${held}`,
  (held) => `!a ${held}`,
  (held) => `a # ${held}`,
  (held) => `\n            ${held}`,
  (held) => `|\n            ${held}`,
]

test('load() tells of no secret behind whatever key and separator, in whatever map it is put', () => {
  const planted = fc.record({
    key: fc.oneof(
      secretKey.map((key) => ({ key, separators: [...separators, ',', ', '] })),
      fc.constant({ key: 'client_secret', separators: ['-', '.', '. ', ' - '] }),
      fc.oneof(fc.constantFrom(...unknownKeys), fc.stringMatching(/^x[a-z]{0,9}_[a-z]{1,9}$/)).map((key) => {
        return { key, separators }
      }),
    ),
    separator: fc.nat(),
    wrap: fc.constantFrom(...wraps),
    at: fc.nat(),
    flow: fc.boolean(),
    crlf: fc.boolean(),
    ofIssuer: fc.boolean(),
    damage,
  })
  fc.assert(
    fc.property(planted, ({ key: { key, separators }, separator, wrap, at, flow, crlf, ofIssuer, damage }) => {
      const whole = ofIssuer ? issuerText : gatewayText
      const places = [...whole.matchAll(flow ? /(?<=\{ )(?=\w)/g : /(?<=\n)(?= *\w+: )/g)]
      const { index = 0 } = places[at % places.length] ?? {}
      const written = `${key}${separators[separator % separators.length]}${wrap('hunter2')}`
      const indent = /^ */.exec(whole.slice(index))?.[0] ?? ''
      const line = flow ? `${written}, ` : `${indent}${written}\n`
      const damaged = damage(whole.slice(0, index) + line + whole.slice(index))
      const text = crlf ? damaged.replaceAll('\n', '\r\n') : damaged
      const loaded = ofIssuer
        ? load(issuerOptions, { file: 'f', text }, { env: {}, readFile: absent }, findIssuerConflicts)
        : load(gatewayOptions, { file: 'f', text }, { env: {}, readFile: absent }, findGatewayConflicts)
      if (loaded.kind === 'loaded') return
      const said = loaded.problems.map((each) => `${JSON.stringify(each)}\n${formatProblem(each, { color: false })}`)
      assert.doesNotMatch(said.join('\n'), /hunter/, text)
    }),
    { numRuns: 1000 },
  )
})

for (const { of, says, rest } of [
  {
    of: 'the query of an issuer',
    says: /issuers\.0\.issuer: expected an issuer without a query, got "https:\/\/a\.example\/\?api_key=\*+"/,
    rest: `blacklist: { purge_delay: 1s }
issuers: [{ issuer: "https://a.example/?api_key=hunter2", audience: a, leeway: 5m }]
rules: [{ match: { path: /a }, issuers: [https://a.example/?api_key=hunter1] }]`,
  },
  {
    of: 'an id that a variable holds',
    says: /rules\.1\.id: expected an id of its own, and rules\.0 has it already/,
    rest: `rules: [{ id: "\${SECRET}", match: { path: /a } }, { id: "\${SECRET}", match: { path: /b } }]`,
  },
])
  test(`findGatewayConflicts() does not tell ${of}, whatever it does not go with`, () => {
    const text = `version: 1\nupstream: { url: http://127.0.0.1:9 }\n${rest}\n`
    const loaded = load(gatewayOptions, { file: 'f', text }, { env: { SECRET: 'hunter2' } }, findGatewayConflicts)

    assert.ok(loaded.kind === 'refused')
    const said = loaded.problems.map(
      (each) => `${JSON.stringify(each.message)}\n${formatProblem(each, { color: false })}`,
    )
    assert.match(said.join('\n'), says)
    assert.doesNotMatch(said.join('\n'), /hunter/)
  })

test('isSecretName() tells the members of a JWK apart: what is private is secret, kty is not', () => {
  assert.deepEqual(
    ['kty', 'k', 'd', 'p', 'q', 'dp', 'dq', 'qi', 'crv', 'kid', 'alg', 'use', 'n', 'e', 'x', 'y'].filter(isSecretName),
    ['k', 'd', 'p', 'q', 'dp', 'dq', 'qi'],
  )
})

const entry = '{"kind":"jti","value":"x","expires_at":"2027-01-01"},'
const inUrl = (text: string) => `version: 1\nupstream: { url: "${text}" }\nrules: ]`
const longLines = [
  { of: 'a list without its last byte', repeated: entry, line: (text: string) => `{"version":1,"entries":[${text}1]` },
  {
    of: 'a list with one key twice',
    repeated: entry,
    line: (text: string) => `{"version":1,"version":1,"x":[${text}1]}`,
  },
  { of: 'colons', repeated: 'ab:', line: inUrl },
  { of: 'colons and an @', repeated: 'ab:', line: (text: string) => inUrl(`${text}@`) },
  { of: 'base64', repeated: 'AbC9', line: inUrl },
  { of: 'hyphens', repeated: '-', line: inUrl },
  { of: 'keys of secrets', repeated: 'client_secret: ', line: inUrl },
  { of: 'quotes', repeated: '"', line: inUrl },
  { of: 'line ends', repeated: '\n', line: (text: string) => `${text}version: [` },
]
for (const { of, repeated, line } of longLines) {
  test(`load() refuses 128 KiB of ${of} in a time that does not grow with their square`, () => {
    const text = line(repeated.repeat(131_072 / repeated.length))
    const startedMs = performance.now()

    assert.notEqual(problemsOf(text).length, 0)
    // A quarter of a second here; the square of it is half a minute.
    assert.ok(performance.now() - startedMs < 5000)
  })
}
