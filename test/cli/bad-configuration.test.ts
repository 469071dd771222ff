// Every configuration that must not start, through `serve` as it is started.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import { test } from 'node:test'
import { runCommand } from '../../src/cli/program.ts'
import { freePort } from '../support/free-port.ts'
import { directory, fakeShell, runToEnd } from './process.ts'

const good = `version: 1
listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' }
upstream: { url: 'http://127.0.0.1:9' }
issuers:
  - issuer: http://127.0.0.1:9/a
    audience: orders-api
    leeway: 30s
    introspection: { client_id: gateway, client_secret: { env: SECRET } }
    blacklist: { url: http://127.0.0.1:9/a/blacklist }
blacklist: { purge_delay: 1m }
drain: { delay: 0s }
rules:
  - id: read
    match: { methods: [GET], path: '/orders/{id}' }
    scopes: [orders:read]
`
const [headOfGood = ''] = good.split('rules:')
const bomb = `a: &a [x, x]\n${'bcdefghij'
  .split('')
  .map((name, at) => `${name}: &${name} [${Array.from({ length: 9 }, () => `*${'abcdefghi'[at]}`).join(', ')}]`)
  .join('\n')}\n`

// The place is where the caret must stand: line and column of the text below.
const refused = [
  { what: 'an unknown key', text: good.replace('audience:', 'audiense:'), says: /:6:5: .*audiense.*audience/ },
  { what: 'a wrong type', text: good.replace('[orders:read]', '7'), says: /:15:13: .*rules\.0\.scopes/ },
  { what: 'a duplicate key', text: good.replace('drain:', 'blacklist: {}\ndrain:'), says: /:11:1: .*a second time/ },
  {
    what: 'a wait that is none',
    text: good.replace('leeway: 30s', 'jwks: { refresh: 0s }'),
    says: /:7:22: .*issuers\.0\.jwks\.refresh: expected a duration from 10ms to 1d/,
  },
  {
    // A timer of more than 24 days is due at once: keys would be fetched without end.
    what: 'a wait that no timer can wait',
    text: good.replace('leeway: 30s', 'jwks: { refresh: 25d }'),
    says: /:7:22: .*issuers\.0\.jwks\.refresh: expected a duration from 10ms to 1d/,
  },
  {
    what: 'keys too old before the next fetch is due',
    text: good.replace('leeway: 30s', 'jwks: { refresh: 8s, stale_max: 2s }'),
    says: /:7:37: .*issuers\.0\.jwks\.stale_max: expected at least the refresh of 8s/,
  },
  {
    what: 'keys fetched less often than the default lets them be used',
    text: good.replace('leeway: 30s', 'jwks: { refresh: 2h }'),
    says: /:7:22: .*issuers\.0\.jwks\.refresh: expected at most the stale_max of 1h/,
  },
  {
    what: 'a file of keys read less often than they are used',
    text: good.replace('leeway: 30s', 'jwks: { file: /none, refresh: 8s, stale_max: 2s }'),
    says: /:7:50: .*issuers\.0\.jwks\.stale_max: expected at least the refresh of 8s/,
  },
  {
    what: 'a drain that never ends',
    text: good.replace('delay: 0s', 'timeout: 25d'),
    says: /:11:19: .*drain\.timeout: expected a duration from 0s to 1d/,
  },
  {
    what: 'no time for a request',
    text: good.replace('drain:', 'limits: { head_timeout: 0s }\ndrain:'),
    says: /:11:25: .*limits\.head_timeout: expected a duration from 1ms to 1d/,
  },
  {
    what: 'no time for an answer',
    text: good.replace("9' }", "9', head_timeout: 0s }"),
    says: /:3:54: .*upstream\.head_timeout: expected a duration from 1ms to 1d/,
  },
  {
    what: 'a missing audience',
    text: good.replace('    audience: orders-api\n', ''),
    says: /:5:5: .*issuers\.0\.audience: it is missing/,
  },
  {
    what: 'a missing secret file',
    text: good.replace('env: SECRET', 'file: /nonexistent/secret'),
    says: /:8:65: .*\/nonexistent\/secret.*ENOENT/,
  },
  {
    what: 'a secret that everybody may read',
    text: good.replace('env: SECRET', 'file: PUBLIC'),
    says: /:8:65: .*mode 0644/,
  },
  {
    what: 'an unset variable of a secret',
    text: good.replace('env: SECRET', 'env: OTHER'),
    says: /:8:64: .*OTHER is not set/,
  },
  {
    what: 'a secret in place of the name of its variable',
    text: good.replace('env: SECRET', `env: \${SECRET}`),
    says: /:8:64: .*client_secret\.env: .*write "env: SECRET"/,
  },
  {
    what: 'a secret in place of the name of its file',
    text: good.replace('env: SECRET', `file: \${SECRET}`),
    says: /:8:65: .*file \$\{SECRET\} cannot be read/,
  },
  {
    what: 'an unset variable in a value',
    text: good.replace('orders-api', `\${OTHER}`),
    says: /:6:15: .*OTHER is not set/,
  },
  {
    what: 'a purge_delay below the leeway',
    text: good.replace('1m', '29s'),
    says: /:10:27: .*purge_delay: expected at least the leeway of 30s/,
  },
  {
    what: 'two rules with the same pattern and method',
    text: `${good}  - id: again\n    match: { methods: [GET], path: '/orders/{other}' }\n    scopes: [orders:write]\n`,
    says: /:17:36: .*rules\.1\.match\.path/,
  },
  { what: 'an alias bomb', text: `${bomb}${good}`, says: /:\d+:\d+: .*alias/i },
  { what: '5,000 [', text: `${headOfGood}rules: ${'['.repeat(5000)}`, says: /:12:\d+: .*nested deeper/ },
  { what: 'no document at all', text: '', says: /:1:1: / },
] as const
for (const { what, text, says } of refused) {
  test(`postern serve refuses ${what} with 3, its place and a caret, and starts nothing`, {
    timeout: 5000,
  }, async () => {
    using files = directory()
    const open = files.write('open-secret', 'not-to-be-shown', 0o644)
    const file = files.write('gateway.yaml', text.replace('PUBLIC', open))
    const shell = fakeShell({ SECRET: 'not-to-be-shown' })

    assert.equal(await runCommand(['serve', '--config', file], shell), 3)

    assert.match(shell.told.say, says)
    assert.ok(shell.told.say.startsWith(`${file}:`), 'the file is named first')
    if (text !== '') assert.match(shell.told.say, /^ +\d+ \| .*\n +\| +\^+$/m)
    assert.ok(!shell.told.say.includes('not-to-be-shown'), 'no secret is shown')
    assert.ok(shell.told.say.length < 20_000, 'an answer somebody can read')
    assert.equal(shell.told.out, '')
  })
}

test('a good configuration differs from the bad ones by that one thing', { timeout: 5000 }, async () => {
  using files = directory()
  const shell = fakeShell({ SECRET: 'x' })

  assert.equal(await runCommand(['check', '--secrets', files.write('gateway.yaml', good)], shell), 0, shell.told.out)
})

test('postern serve says everything that is wrong in one run, and neither listens nor calls anybody', async () => {
  let calls = 0
  const issuer = createServer((socket) => {
    calls += 1
    socket.destroy()
  }).listen(0, '127.0.0.1')
  await once(issuer, 'listening')
  const proxyPort = await freePort()
  using files = directory()
  const text = good
    .replace("proxy: '127.0.0.1:0'", `proxy: '127.0.0.1:${proxyPort}'`)
    .replaceAll('127.0.0.1:9/', `127.0.0.1:${(issuer.address() as AddressInfo).port}/`) // it listens on a port
    .replace('    audience: orders-api\n', '')
    .replace('30s', 'soon')
    .replace('env: SECRET', 'file: /nonexistent/secret')
    .replace('delay: 0s', `delay: "\${UNSET}"`)
    .replace('[orders:read]', '7\n    scope: 1')
    .replace('rules:', 'version: 1\nrules:')
  const file = files.write('gateway.yaml', text)

  const { code, stdout, stderr } = await runToEnd(['serve', '--config', file])
  issuer.close()

  assert.equal(code, 3, stderr)
  assert.equal(stdout, '', 'not a line of log')
  assert.equal(calls, 0, 'no issuer was asked')
  for (const said of [
    'issuers.0.audience',
    'issuers.0.leeway',
    '/nonexistent/secret',
    'UNSET',
    'rules.0.scopes',
    'rules.0.scope:',
    'version: the key is here a second time',
  ])
    assert.ok(stderr.includes(said), `${said} is not said:\n${stderr}`)
  const places = [...stderr.matchAll(/^\S+:(\d+):\d+: /gm)].map(([, line]) => Number(line))
  assert.equal(places.length, 7, stderr)
  assert.deepEqual(
    places,
    [...places].sort((a, b) => a - b),
    'in the order of the file',
  )
  assert.equal([...stderr.matchAll(/^ +\| +\^+$/gm)].length, 7, 'each with a caret')
  await assert.rejects(once(connect(proxyPort, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' })
})
