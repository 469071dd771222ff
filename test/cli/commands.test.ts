// The other commands as a user meets them.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { listMetrics } from '../../src/app/listed-metrics.ts'
import { runCommand } from '../../src/cli/program.ts'
import { formatReference, formatSchema } from '../../src/config/reference.ts'
import { mint, startWorld } from '../issuer/realms.ts'
import { freePort } from '../support/free-port.ts'
import { directory, fakeShell, runToEnd, start } from './process.ts'

const root = join(import.meta.dirname, '../..')
const nowS = () => Math.floor(Date.now() / 1000)

function gateway(issuer: string): string {
  return `version: 1
listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' }
upstream: { url: 'http://127.0.0.1:9' }
issuers:
  - issuer: ${issuer}
    audience: orders-api
    introspection: { client_id: orders, client_secret: { env: SECRET } }
    blacklist: { url: ${issuer}/blacklist }
rules:
  - { id: read, match: { methods: [GET], path: '/orders/{id}' }, scopes: [orders:read] }
  - { id: write, match: { methods: [POST], path: '/orders/{id}' }, scopes: [orders:write] }
`
}

test('postern explain is 0 for allow and 5 for deny, with every step and what would make it pass', async () => {
  await using world = await startWorld(undefined, { now: nowS() })
  using files = directory()
  const config = files.write('gateway.yaml', gateway(world.a.issuer))
  const env = { SECRET: 'rs-secret-4444' }
  const input = `${await mint(world.a, { scope: 'orders:read' })}\n`

  const allowed = await runToEnd(['explain', 'GET', '/orders/1', '--config', config], { input, env })
  const denied = await runToEnd(['explain', 'POST', '/orders/1', '--config', config], { input, env })
  const json = await runToEnd(['explain', 'POST', '/orders/1', '--config', config, '--json'], { input, env })
  const without = await runToEnd(['explain', 'GET', '/orders/1', '--config', config], { env })
  for (const scheme of ['Bearer ', 'Authorization: bearer  ']) {
    const pasted = { input: scheme + input, env }
    assert.equal((await runToEnd(['explain', 'GET', '/orders/1', '--config', config], pasted)).code, 0, scheme)
  }
  const basic = { input: 'Authorization: Basic YTpi\n', env }
  const otherScheme = await runToEnd(['explain', 'GET', '/orders/1', '--config', config], basic)

  assert.equal(allowed.code, 0, allowed.stdout + allowed.stderr)
  assert.match(allowed.stdout, /^ {2}ok {2}authorize\.scope /m)
  assert.match(allowed.stdout, /^allow ok, rule read, issuer /m)
  assert.equal(denied.code, 5, denied.stdout + denied.stderr)
  assert.match(denied.stdout, /^ FAIL authorize\.scope +orders:read\n +wanted: .*orders:write$/m)
  assert.match(denied.stdout, /^deny scope_missing \(403\), rule write/m)
  assert.match(denied.stdout, /^To pass: /m)
  assert.equal(json.code, 5)
  const { reason, steps } = JSON.parse(json.stdout) as { reason: string; steps: unknown[] } // --json promises it
  assert.equal(reason, 'scope_missing')
  assert.ok(steps.length > 10)
  assert.equal(without.code, 5)
  for (const { stdout } of [without, otherScheme]) assert.match(stdout, /^deny token_missing \(401\), rule read/m)
  for (const { stdout, stderr } of [allowed, denied, json])
    assert.ok(!(stdout + stderr).includes(input.trim().split('.')[2] ?? ''), 'the token itself is not shown')
})

test('postern explain is 6 when the issuer is down and nobody can tell', async () => {
  await using world = await startWorld(undefined, { now: nowS() })
  const input = await mint(world.a, {})
  using files = directory()
  const elsewhere = `http://127.0.0.1:${await freePort()}/a`
  const text = gateway(world.a.issuer).replace('audience:', `jwks_uri: ${elsewhere}/jwks\n    audience:`)
  const config = files.write('gateway.yaml', text)

  const { code, stdout } = await runToEnd(['explain', 'GET', '/orders/1', '--config', config], {
    input,
    env: { SECRET: 'rs-secret-4444' },
  })

  assert.equal(code, 6, stdout)
  assert.match(stdout, /^deny keys_unavailable \(503\)/m)
})

test('postern explain is 6 for an opaque token whose issuer is down', async () => {
  using files = directory()
  const config = files.write('gateway.yaml', gateway(`http://127.0.0.1:${await freePort()}/a`))

  const { code, stdout } = await runToEnd(['explain', 'GET', '/orders/1', '--config', config], {
    input: 'an-opaque-token',
    env: { SECRET: 'x' },
  })

  assert.equal(code, 6, stdout)
  assert.match(stdout, /^deny introspection_unavailable \(503\)/m)
})

// product.md §3: an argument stands in the process list, and what is said about it in somebody's CI log.
for (const argument of ['aSecretToken', '--token=aSecretToken', '--token aSecretToken', '-t=aSecretToken']) {
  test(`postern explain takes no token as an argument, and does not repeat it: ${argument}`, async () => {
    const shell = fakeShell()

    const words = ['explain', 'GET', '/orders/1', ...argument.split(' '), '--config', 'gateway.yaml']
    assert.equal(await runCommand(words, shell), 2)

    assert.ok(!(shell.told.out + shell.told.say).includes('aSecretToken'), shell.told.say)
  })
}

test('postern explain refuses more than a token on stdin, and a URL that is none', async () => {
  using files = directory()
  const config = files.write('gateway.yaml', gateway('http://127.0.0.1:9/a'))
  const env = { SECRET: 'x' }

  const flooded = await runToEnd(['explain', 'GET', '/', '--config', config], { input: 'x'.repeat(100_000), env })
  const odd = await runToEnd(['explain', 'GET', 'ftp://x/', '--config', config], { env })

  assert.equal(flooded.code, 1)
  assert.match(flooded.stderr, /^postern: Cannot read stdin: more than \d+ bytes$/m)
  assert.equal(odd.code, 2)
  assert.match(odd.stderr, /^postern: Cannot read URL: /m)
})

test('postern explain refuses a broken configuration with 3, like serve', async () => {
  using files = directory()
  const shell = fakeShell({ SECRET: 'x' })
  const config = files.write('gateway.yaml', `${gateway('http://127.0.0.1:9/a')}surprise: 1\n`)

  assert.equal(await runCommand(['explain', 'GET', '/', '--config', config], shell), 3)

  assert.match(shell.told.say, /gateway\.yaml:12:1: .*surprise/)
})

test('postern check is 0 for a good file with warnings and says what it means; --strict makes that 3', async () => {
  using files = directory()
  const text = gateway('http://127.0.0.1:9/a')
    .replace('scopes: [orders:read]', 'claims: {}')
    .replace('audience:', 'require_aud: false\n    audience:')
  const file = files.write('gateway.yaml', text)
  const lax = fakeShell()
  const strict = fakeShell()

  assert.equal(await runCommand(['check', file], lax), 0, lax.told.out)
  assert.equal(await runCommand(['check', '--strict', file], strict), 3)

  assert.match(lax.told.out, /gateway\.yaml:6:18: warning: .*\n +6 \| .*\n +\| +\^+/)
  assert.match(lax.told.out, /^\S+gateway\.yaml: ok, \d warnings$/m)
  assert.match(strict.told.out, /^\S+gateway\.yaml: \d warnings, refused by --strict$/m)
  assert.match(lax.told.out, /^ {2}2 rules, 1 issuer; what no rule matches is denied$/m)
  assert.match(
    lax.told.out,
    /is unreachable: JWTs refused with 503 after 5m \(blacklist\.max_staleness\), opaque tokens at once/,
  )
})

test('postern check warns of a path in braces that is not quoted', async () => {
  using files = directory()
  const text = gateway('http://127.0.0.1:9/a').replace("'/orders/{id}'", '/orders/{id}')
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', files.write('gateway.yaml', text)], shell), 0)

  assert.match(shell.told.out, /gateway\.yaml:10:48: warning: quote it: other YAML parsers refuse braces here/)
})

const atTheDoor = [
  { written: 'require_https: true', said: /warning: .*every request is refused/ },
  { written: 'require_https: true\ntrusted_proxies: [127.0.0.1]', said: undefined },
  { written: "trusted_proxies: ['unix:']", said: /warning: .*nobody comes on a Unix socket/ },
  { written: "trusted_proxies: ['unix:']\nlisten: { proxy: 'unix:/run/a.sock' }", said: undefined },
  { written: "listen: { proxy: 'unix:a.sock' }", said: /expected an address like 127\.0\.0\.1:8080, or unix:/ },
  { written: `listen: { proxy: 'unix:/${'a'.repeat(107)}' }`, said: /expected/ },
  {
    written: 'listen: { tls: { cert: { file: /none.crt }, key: { file: /none.key } } }',
    said: /warning: Cannot read listen\.tls\.cert\.file: the file cannot be read \(ENOENT\)/,
  },
  {
    written: 'listen: { tls: { cert: { file: a }, key: { file: b }, client_certificate: required } }',
    said: /client_certificate: expected client_ca beside it/,
  },
  {
    written: 'listen: { tls: { cert: { file: a }, key: { file: b }, client_ca: { file: c } } }',
    said: /client_certificate: expected optional or required, since client_ca is given/,
  },
] as const
for (const { written, said } of atTheDoor) {
  test(`postern check says ${said?.source ?? 'nothing'} of ${written.replace('\n', '; ').slice(0, 80)}`, async () => {
    using files = directory()
    const text = gateway('http://127.0.0.1:9/a')
    const file = files.write('gateway.yaml', `${text.replace(/^listen:.*\n/m, '')}${written}\n`)
    const shell = fakeShell({ SECRET: 'x' })

    await runCommand(['check', file], shell)

    if (said === undefined) assert.doesNotMatch(shell.told.out, /warning: .*(?:refused|Unix)|error/)
    else assert.match(shell.told.out, said)
  })
}

test('postern check --json lists every finding of every file, a missing file among them', async () => {
  using files = directory()
  const bad = files.write('bad.yaml', `${gateway('http://127.0.0.1:9/a')}surprise: 1\n`)
  const fine = files.write('fine.yaml', gateway('http://127.0.0.1:9/a'))
  const shell = fakeShell()

  assert.equal(await runCommand(['check', '--json', bad, '/nonexistent', fine], shell), 3)

  type Checked = {
    ok: boolean
    file: string
    findings: { severity: string; line: number; column: number; path: string }[]
  }
  const [first, second, third] = JSON.parse(shell.told.out) as Checked[] // --json promises it
  assert.deepEqual([first?.ok, second?.ok, third?.ok], [false, false, true])
  assert.equal(first?.file, bad)
  assert.deepEqual(
    first?.findings.map(({ severity, line, column, path }) => [severity, line, column, path]),
    [
      ['error', 12, 1, 'surprise'],
      ['warning', 7, 63, 'issuers.0.introspection.client_secret.env'],
    ],
  )
  assert.deepEqual([second?.file, second?.findings.length], ['/nonexistent', 1])
  assert.deepEqual([third?.file, third?.findings.filter(({ severity }) => severity === 'error')], [fine, []])
})

test('postern check warns of a secret that is not here, and with --secrets refuses', async () => {
  using files = directory()
  const file = files.write('gateway.yaml', gateway('http://127.0.0.1:9/a'))
  const shell = fakeShell()

  assert.equal(await runCommand(['check', file], shell), 0)
  assert.match(shell.told.out, /warning: Cannot read secret: environment variable SECRET is not set/)
  assert.equal(await runCommand(['check', '--strict', file], fakeShell()), 3)
  assert.equal(await runCommand(['check', file], fakeShell({ SECRET: 'x' })), 0)
  assert.equal(await runCommand(['check', '--secrets', file], fakeShell()), 3)
})

for (const { env, what, text } of [
  {
    env: { SEC: 'hush "12, 3*', ID: 'hush' },
    what: 'an audience, a scope, a claim and an id',
    text: `issuers: [{ issuer: https://a.test, audience: "\${SEC}" }]
rules:
  - id: "\${ID}-a"
    match: { path: /a/:b, methods: [GTE] }
    audience: ["a \${SEC}"]
    claims: { azp: ["\${SEC}"] }
  - { id: "\${ID}-b", match: { path: /b } }
`,
  },
  {
    env: { SEC: 'hush', HOST: 'hush.test' },
    what: 'hosts, and issuers',
    text: `hosts: [b.test]
issuers: [{ issuer: "https://\${HOST}", audience: a, introspection: { client_id: a, client_secret: { env: HOST } } }]
rules:
  - match: { path: /a, host: "\${SEC}.a.test" }
    freshness: always
`,
  },
  {
    env: { SEC: 'hush', HOST: 'hush.test' },
    what: 'an issuer that is nearly the one of a rule',
    text: `issuers: [{ issuer: "https://\${HOST}", audience: a }]
rules: [{ match: { path: /a }, issuers: ["https://\${HOST}s"] }]
`,
  },
]) {
  test(`postern check tells the name of an environment variable, and not its value: ${what}`, async () => {
    using files = directory()
    const file = files.write('gateway.yaml', `version: 1\nupstream: { url: http://127.0.0.1:9 }\n${text}`)
    const shell = fakeShell(env)

    await runCommand(['check', file], shell)

    assert.match(shell.told.out, /^\S+: (?:warning|Cannot read)[^\n]*\$\{\w+\}/m)
    assert.doesNotMatch(shell.told.out, /hush/)
  })
}

for (const { written, says } of [
  { written: '{"kez":1}', says: 'it has no keys array' },
  { written: '{"keys":[]}', says: 'it has no usable key' },
  { written: 'keys', says: 'Cannot read issuers.0.jwks.file: it holds no JSON Web Key Set: no value at offset 0' },
]) {
  test(`postern check --secrets refuses a file of keys that are none: ${written}`, async () => {
    using files = directory()
    const keys = files.write('keys.json', written)
    const text = gateway('http://127.0.0.1:9/a').replace('audience:', `jwks: { file: ${keys} }\n    audience:`)
    const shell = fakeShell({ SECRET: 'x' })

    assert.equal(await runCommand(['check', '--secrets', files.write('gateway.yaml', text)], shell), 3)

    assert.match(shell.told.out, /gateway\.yaml:6:19: Cannot /)
    assert.ok(shell.told.out.includes(says), shell.told.out)
  })
}

for (const { written, at } of [
  { written: 'version: 1\nentrys: []\n', at: '2:1' },
  { written: "version: 1\nentries: [{ issuer: 'http://127.0.0.1:9/a/', kind: sub, value: bob }]\n", at: '2:21' },
]) {
  test(`postern check refuses an operator's list that serve refuses: ${JSON.stringify(written)}`, async () => {
    using files = directory()
    const list = files.write('denied.yaml', written)
    const file = files.write(
      'gateway.yaml',
      `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${list} } }\n`,
    )
    const shell = fakeShell()

    assert.equal(await runCommand(['check', file], shell), 3)

    assert.ok(shell.told.out.includes(`${list}:${at}: Cannot read entr`), shell.told.out)
  })
}

test("postern check tells what is wrong in the operator's list itself beside what is wrong in the configuration", async () => {
  using files = directory()
  // Whether an issuer is one of ours cannot be told: that may be what is wrong.
  const list = files.write(
    'denied.yaml',
    'version: 1\nentries: [{ kind: sub, value: a, issuer: "https://other.test" }, { kind: ip, value: a }]\n',
  )
  const file = files.write(
    'gateway.yaml',
    `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${list} } }\noops: 1\n`,
  )
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', file], shell), 3)

  assert.match(shell.told.out, /gateway\.yaml:\d+:1: Cannot read oops: /)
  assert.match(shell.told.out, /denied\.yaml:2:\d+: Cannot read entries\.1\.kind: /)
  assert.doesNotMatch(shell.told.out, /entries\.0/)
  assert.match(shell.told.out, /gateway\.yaml: 2 errors/)
})

for (const { what, change } of [
  { what: 'a required key is mistyped', change: (text: string) => text.replace('rules:', 'ruels:') },
  {
    what: 'another key of its section is',
    change: (text: string) => text.replace('{ local:', '{ pol_interval: 1s, local:'),
  },
  { what: 'a variable is not set', change: (text: string) => text.replace('orders-api', `\${NONE}`) },
]) {
  test(`postern check tells what is wrong in the operator's list where ${what}`, async () => {
    using files = directory()
    const list = files.write('denied.json', '{"version":1,"entries":[{"kind":"ip","value":"a"}]}')
    const text = `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${list} } }\n`
    const changed = change(text)
    assert.notEqual(changed, text)
    const shell = fakeShell({ SECRET: 'x' })

    assert.equal(await runCommand(['check', files.write('gateway.yaml', changed)], shell), 3)

    assert.match(shell.told.out, /denied\.json:1:\d+: Cannot read entries\.0\.kind: /)
  })
}

test("postern check tells once that the operator's list is not there, whatever else is wrong", async () => {
  using files = directory()
  const text = `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${files.path}/none } }\noops: 1\n`
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', files.write('gateway.yaml', text)], shell), 3)

  assert.equal(shell.told.out.match(/ENOENT/g)?.length, 1, shell.told.out)
  assert.match(shell.told.out, /gateway\.yaml: 1 error/)
})

test("postern check leaves the operator's list alone where the configuration is refused and the list is good", async () => {
  using files = directory()
  const list = files.write('denied.json', '{"version":1,"entries":[{"kind":"sub","value":"a"}]}')
  const file = files.write(
    'gateway.yaml',
    `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${list} } }\noops: 1\n`,
  )
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', file], shell), 3)

  assert.match(shell.told.out, /gateway\.yaml: 1 error\n/)
})

test("postern check warns once of values of the operator's list that begin or end in white space", async () => {
  using files = directory()
  const list = files.write(
    'denied.json',
    JSON.stringify({
      version: 1,
      entries: ['bob b', 'mallory ', 'eve\n', '\u00a0oscar'].map((value) => ({ kind: 'sub', value })),
    }),
  )
  const file = files.write(
    'gateway.yaml',
    `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${list} } }\n`,
  )
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', file], shell), 0)

  const at = readFileSync(list, 'utf8').indexOf('"mallory') + 1
  const warning = `${list}:1:${at}: warning: it begins or ends in white space, and revokes nothing that does not, the first of 3\n`
  assert.ok(shell.told.out.includes(warning), shell.told.out)
})

test('postern check warns once of a list that refuses what is still to be issued', async () => {
  using files = directory()
  const list = files.write(
    'denied.yaml',
    `version: 1
entries:
  - { kind: issued_before, value: "*", issued_before: 2020-01-01 }
  - { kind: issued_before, value: "*", issued_before: 2100-01-01 }
  - { kind: sub, value: bob, issued_before: 4102444800 }
  - { kind: sub, value: trudy, issued_before: 4102444800, expires_at: 2020-01-01 }
`,
  )
  const file = files.write(
    'gateway.yaml',
    `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${list} } }\n`,
  )
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', file], shell), 0)

  assert.equal(shell.told.out.split('in the future').length, 2, shell.told.out)
  assert.match(shell.told.out, /denied\.yaml:4:\d+: warning: it is in the future, .*\(UTC\), the first of 2\n/)
})

test("postern check warns once of entries of the operator's list that have expired, at the first", async () => {
  using files = directory()
  const list = files.write(
    'denied.yaml',
    `version: 1
entries:
  - { kind: sub, value: bob, expires_at: 2100-01-01 }
  - { kind: sub, value: eve, expires_at: 2020-01-01 }
  - { kind: sub, value: mallory, expires_at: 1577836800 }
  - { kind: sub, value: trudy }
  - { kind: sub, value: oscar, expires_at: ${Math.floor(Date.now() / 1000)} }
`,
  )
  const file = files.write(
    'gateway.yaml',
    `${gateway('http://127.0.0.1:9/a')}blacklist: { local: { file: ${list} } }\n`,
  )
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', file], shell), 0)

  assert.equal(shell.told.out.split('expired').length, 2, shell.told.out)
  assert.ok(
    shell.told.out.includes(
      `${list}:4:42: warning: this entry has expired, and revokes nothing any more, the first of 2\n`,
    ),
    shell.told.out,
  )
})

for (const name of ['gateway.yaml', 'full.yaml']) {
  test(`config/${name} passes postern check`, async () => {
    const shell = fakeShell()
    assert.equal(await runCommand(['check', join(root, 'config', name)], shell), 0, shell.told.out)
  })
}

test('config/full.yaml asks for fresh answers only where they are had of JWTs, too', async () => {
  const shell = fakeShell()

  await runCommand(['check', join(root, 'config', 'full.yaml')], shell)

  assert.doesNotMatch(shell.told.out, /this does nothing for JWTs/)
})

test('config/postern.schema.json and config/README.md are what npm run docs writes', () => {
  const committed = (name: string) => readFileSync(join(root, 'config', name), 'utf8')
  assert.equal(committed('postern.schema.json'), formatSchema())
  assert.equal(committed('README.md'), formatReference(listMetrics()))
})

test('postern schema prints the committed JSON Schema', async () => {
  const { code, stdout, stderr } = await runToEnd(['schema'])

  assert.deepEqual([code, stderr], [0, ''])
  assert.equal(stdout, readFileSync(join(root, 'config/postern.schema.json'), 'utf8'))
  const schema = JSON.parse(stdout) as { $schema: string; properties: object } // the test is that it is JSON
  assert.equal(schema.$schema, 'http://json-schema.org/draft-07/schema#')
  assert.ok('issuers' in schema.properties)
})

test('postern version prints version and runtime', async () => {
  const { code, stdout } = await runToEnd(['version'])
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string } // npm's own

  assert.equal(code, 0)
  assert.equal(stdout, `postern ${version} (Node ${process.version})\n`)
  for (const option of ['--version', '-v']) assert.deepEqual(await runToEnd([option]), { code, stdout, stderr: '' })
})

const misused = [
  { args: ['nonsense'], says: /unknown command 'nonsense'/ },
  { args: ['serv'], says: /Did you mean serve\?/ },
  { args: ['serve'], says: /required option '--config <file>'/ },
  { args: ['serve', '--confg', 'a.yaml'], says: /unknown option '--confg'\n\(Did you mean --config\?\)/ },
  { args: ['issuer'], says: /required option '--config <file>'/ },
  { args: ['explain', 'GET', '/a'], says: /required option '--config <file>'/ },
  { args: ['serve', '--config='], says: /'--config <file>' argument '' is invalid.*path of a file/ },
  { args: ['serve', '--config', 'a.yaml', '--verbose'], says: /unknown option '--verbose'/ },
  { args: ['check'], says: /at least one file/ },
  { args: ['explain', 'GET', '--config', 'a.yaml'], says: /missing required argument 'url'/ },
  { args: [], says: /Usage: postern/ },
] as const
for (const { args, says } of misused) {
  test(`postern ${args.join(' ')} is 2: the command line is wrong`, async () => {
    const shell = fakeShell()
    assert.equal(await runCommand(args, shell), 2)
    assert.match(shell.told.say, says)
    assert.equal(shell.told.out, '')
  })
}

test('postern --help is 0, and names every command', async () => {
  const { code, stdout } = await runToEnd(['--help'])

  assert.equal(code, 0)
  for (const name of ['serve', 'check', 'explain', 'issuer', 'demo', 'schema', 'health', 'version'])
    assert.match(stdout, new RegExp(`^  ${name} `, 'm'))
})

for (const command of ['serve', 'issuer']) {
  test(`postern ${command} with a file that is not there is 3`, async () => {
    const shell = fakeShell()
    assert.equal(await runCommand([command, '--config', '/nonexistent/gateway.yaml'], shell), 3)
    assert.match(shell.told.say, /^\/nonexistent\/gateway\.yaml:1:1: Cannot read configuration: .*ENOENT/)
  })
}

test('a reader of stdout that leaves early gets no stack trace on stderr', async () => {
  using left = start(['schema'])
  left.child.stdout?.destroy()

  assert.equal(await left.ended, 1)
  assert.equal(left.stderr(), '')
})
