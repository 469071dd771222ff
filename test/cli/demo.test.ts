import assert from 'node:assert/strict'
import { test } from 'node:test'
import { demo } from '../../src/cli/demo.ts'
import { demoCases } from '../../src/cli/demo-cases.ts'
import { gatewayText } from '../../src/cli/demo-options.ts'
import { formatRows } from '../../src/cli/demo-table.ts'
import { until } from '../support/until.ts'
import { fakeShell, runToEnd, start } from './process.ts'

const named = [
  'JWT allowed',
  'missing token',
  'expired',
  'wrong audience',
  'forged signature',
  'alg confusion (HS256 with the public key)',
  'JWT-shaped garbage',
  'scope missing',
  'rotated key accepted without restart',
  'rotate-and-revoke refused',
  'opaque allowed, exactly one introspection for ten requests',
  'wrapped opaque routed to issuer B',
  'wrapper naming an unknown issuer, zero calls',
  'inactive',
  'revoked JWT refused within one poll',
  'revoked cached opaque token refused',
  'issuer down: cached allowed',
  'issuer down: new opaque 503',
  'issuer down: JWT allowed',
  'no rule 403',
  'spoofed identity header stripped',
  'ambiguous path 400',
]

test('postern demo runs every case, shows what moved and one refusal, and exits 0', async () => {
  const { code, stdout, stderr } = await runToEnd(['demo'])

  assert.equal(code, 0, stdout + stderr)
  assert.equal(stderr, '', 'progress is for terminals')
  const rows = stdout.split('\n').filter((line) => /^ ok | ?DIFF/.test(line))
  for (const name of named)
    assert.ok(
      rows.some((row) => row.startsWith(` ok   ${name}  `)),
      `no good row for ${name}`,
    )
  assert.ok(!stdout.includes('DIFF') && !stdout.includes('\u001b'), 'no colours into a pipe')
  assert.match(stdout, /^ {6}case +expected +seen +µs$/m)
  assert.match(stdout, /^ ok {3}expired +401 token_expired +401 token_expired +\d+$/m)
  assert.match(stdout, /revoked JWT refused .* after \d+ ms, polled every 300 ms$/m)
  assert.match(stdout, /^postern_decisions_total\{decision="deny",reason="token_expired",.* 1 \(\+1\)$/m)
  assert.match(stdout, /^ FAIL authorize\.scope +orders:read$/m)
  assert.match(stdout, /^deny scope_missing \(403\), rule write-orders/m)
  assert.match(stdout, /^An example: why POST \/orders\/1 with scope orders:read is refused$/m)
  assert.match(stdout, /\n\d+ cases, all as expected\n$/, 'the verdict is the last word')
})

test('formatRows() is a table, and where the terminal is narrower the same below each other', () => {
  const rows = [
    { name: 'a case', expected: '200 ok', text: '200 ok', us: 12, note: 'a note', ok: true },
    { name: 'another', expected: '403 no_rule', text: '200 ok', us: 0, ok: false },
  ]
  const table = `      case     expected     seen    µs
 ok   a case   200 ok       200 ok  12  a note
DIFF  another  403 no_rule  200 ok   -

2 cases, 1 not as expected
`
  const stacked = ` ok   a case       12 µs
      as expected: 200 ok
      a note
DIFF  another
      expected: 403 no_rule
          seen: 200 ok

2 cases, 1 not as expected
`
  const width = ' ok   a case   200 ok       200 ok  12  a note'.length

  assert.equal(formatRows(rows, { color: false, columns: undefined }), table)
  assert.equal(formatRows(rows, { color: false, columns: width }), table)
  assert.equal(formatRows(rows, { color: false, columns: width - 1 }), stacked)
})

test('postern demo --keep stays up with a curl line that works, until SIGTERM ends it with 0', async () => {
  using kept = start(['demo', '--keep'])
  await until(() => kept.stdout().includes('/revoke\n') || kept.child.exitCode !== null, 'the addresses')

  const [, header = '', url = ''] = /curl -i -H '([^']+)' (http\S+)/.exec(kept.stdout()) ?? []
  const [name = '', value = ''] = header.split(': ')
  const answer = await fetch(url, { headers: { [name]: value } })
  assert.equal(answer.status, 200)
  assert.match(await answer.text(), /"x-auth-subject":\["web"\]/)
  const [, user = '', address = ''] =
    /curl -u (\S+) -d grant_type=client_credentials (http\S+)/.exec(kept.stdout()) ?? []
  const authorization = `Basic ${Buffer.from(user).toString('base64')}`
  const body = new URLSearchParams({ grant_type: 'client_credentials' })
  const granted = await fetch(address, { method: 'POST', headers: { authorization }, body })
  assert.equal(granted.status, 200, 'the issuer is back')
  for (const [, other = ''] of kept.stdout().matchAll(/^ {2}(?:health|metrics|admin|issuer [AB]|service) +(http\S+)/gm))
    assert.equal((await fetch(other)).status, 200, other)

  kept.child.kill('SIGTERM')
  assert.equal(await kept.ended, 0)
})

test('demo() returns 1 when a single expectation is not met, and says which', async () => {
  const shell = fakeShell()
  const play = {
    configuration: gatewayText,
    cases: (stage: Parameters<typeof demoCases>[0]) =>
      demoCases(stage)
        .slice(0, 3)
        .map((each) => (each.name === 'expired' ? { ...each, expected: '200 ok' } : each)),
  }

  assert.equal(await demo({}, shell, play), 1)

  assert.match(shell.told.out, /^DIFF {2}expired +200 ok +401 token_expired/m)
  assert.match(shell.told.out, /^3 cases, 1 not as expected$/m)
})

test('demo() returns 1 when a case cannot be run, and runs the others', async () => {
  const shell = fakeShell()
  const broken = {
    name: 'broken',
    expected: '200 ok',
    run: () => Promise.reject(new Error('Cannot run: it is broken')),
  }
  const play = {
    configuration: gatewayText,
    cases: (stage: Parameters<typeof demoCases>[0]) => [broken, ...demoCases(stage).slice(0, 1)],
  }

  assert.equal(await demo({}, shell, play), 1)

  assert.match(shell.told.out, /^DIFF {2}broken +200 ok +Cannot run: it is broken/m)
  assert.match(shell.told.out, /^ ok {3}JWT allowed/m)
})

test('demo() returns 1 when the gateway does not start', async () => {
  const shell = fakeShell()
  const configuration: typeof gatewayText = (at) => `${gatewayText(at)}\nsurprise: 1\n`

  assert.equal(await demo({}, shell, { cases: demoCases, configuration }), 1)

  assert.match(shell.told.say, /surprise/)
})

// A gateway that lets through what it should not, or asks too often, must not look like one that works.
const weakened = [
  { name: 'scope missing', change: (text: string) => text.replace('scopes: [orders:write]', '') },
  {
    name: 'wrong audience',
    change: (text: string) => text.replaceAll('audience: orders-api', 'audience: [orders-api, billing-api]'),
  },
  { name: 'missing token', change: (text: string) => text.replace('scopes: [orders:read]', 'public: true') },
  {
    name: 'expired',
    change: (text: string) =>
      text.replaceAll('jwks:', 'leeway: 1h\n    jwks:').replace('poll_interval', 'purge_delay: 2h, poll_interval'),
  },
  {
    name: 'spoofed identity header stripped',
    change: (text: string) => text.replace(/^identity_headers.*$/m, 'identity_headers: { x-other: sub }'),
  },
  {
    name: 'opaque allowed, exactly one introspection for ten requests',
    change: (text: string) => text.replaceAll('} }\n    blacklist', '}, max_age: 0s }\n    blacklist'),
  },
  {
    name: 'revoked JWT refused within one poll',
    change: (text: string) => text.replaceAll(/^ {4}blacklist: .*$/gm, ''),
  },
  {
    name: 'revoked cached opaque token refused',
    change: (text: string) => text.replace('poll_interval: 300ms', 'poll_interval: 60s'),
  },
  { name: 'rotate-and-revoke refused', change: (text: string) => text.replaceAll(/^ {4}blacklist: .*$/gm, '') },
  {
    name: 'wrapped opaque routed to issuer B',
    change: (text: string) => text.replaceAll('jwks:', 'wrapped: { typ: [other] }\n    jwks:'),
  },
  {
    name: 'no rule 403',
    change: (text: string) =>
      text.replace('/healthz', '/**').replace('public: true', 'public: true\n    insecure: true'),
  },
] as const
for (const { name, change } of weakened) {
  test(`demo() notices a gateway weakened for: ${name}`, async () => {
    const shell = fakeShell()
    const configuration: typeof gatewayText = (at) => {
      const text = gatewayText(at)
      assert.notEqual(change(text), text, 'the change changes something')
      return change(text)
    }
    const cases = (stage: Parameters<typeof demoCases>[0]) => demoCases(stage).filter((each) => each.name === name)

    assert.equal(await demo({}, shell, { cases, configuration }), 1, shell.told.out)

    assert.match(shell.told.out, /^DIFF /m, shell.told.say)
  })
}
