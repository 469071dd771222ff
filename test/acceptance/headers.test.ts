import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../support/until.ts'
import type { Ask, World } from './harness.ts'
import { allowed, checkChallenge, denied, headerSetup, openWorld } from './harness.ts'
import { testVectors } from './vectors.ts'

type Line = readonly [string, string]
type Row = { readonly id: string; readonly send: readonly Line[]; readonly expect: string }
const path = '/admin/x'
const identity = ['x-user', 'x-scope', 'x-client-id', 'x-token-claims', 'x-gw-id']

function fold(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-')
}

/** Sends lines with a good token and asserts that the upstream learns of the caller what the token says, and no more. */
async function assertIdentity(world: World, lines: readonly Line[], message = JSON.stringify(lines)) {
  const seen = await allowed(world, { path, token: world.mint({ claims: { jti: 'j1' } }), lines }, message)
  const told = seen.lines.filter(([name]) => identity.includes(fold(name)))
  const wanted = [
    ['x-user', 'alice'],
    ['x-scope', 'read'],
    ['x-client-id', 'web'],
    ['x-gw-id', 'j1'],
  ]
  assert.deepEqual(told, wanted, message)
  assert.deepEqual(seen.all('authorization'), [])
  return seen
}

const malformed = { status: 400, reason: 'request_malformed' }
const missing = { status: 401, reason: 'token_missing' }

/** How a row of the table is tested: what is wanted without a token, and whether the lines pass with a good one. */
const wanted: Readonly<Record<string, { status: number; reason: string }>> = {
  H011: malformed,
  H041: missing,
  H047: { status: 400, reason: 'token_malformed' },
  H071: malformed,
  H074: malformed,
}

testVectors<{ cases: readonly Row[] }>(
  'each header of the table is refused, removed or replaced',
  'examples/header_cases.json',
  async ({ cases }, t) => {
    await using world = await openWorld(headerSetup)
    assert.ok(cases.length > 0)
    for (const { id, send, expect } of cases) {
      await t.test(`${id} ${JSON.stringify(send)}`, async () => {
        const good = world.mint()
        const lines = send.map(([name, value]) => [name, value.replace('GOOD', good)] as const)
        const written = lines.some(([name]) => name === 'Authorization')
        if (written && expect.startsWith('200')) return void (await allowed(world, { path, lines }))
        const { status, reason } = wanted[id] ?? missing

        await refusedRow(world, { path, lines }, status, reason)
        if (written) return
        if (status === 400) return void (await refusedRow(world, { path, token: good, lines }, status, reason))
        const seen = await assertIdentity(world, lines)
        assertStripped(seen.lines, lines)
      })
    }
  },
)

/** As `denied`, and node's parser may answer before a header is read. */
async function refusedRow(world: World, ask: Ask, status: number, reason: string): Promise<void> {
  const before = world.seen.length
  const got = await world.ask(ask)
  assert.deepEqual([got.status, got.reason], [status, reason])
  checkChallenge(got)
  assert.equal(world.seen.length, before)
}

/** Of what the table sends, only what has no meaning to anybody goes on as it came. */
function assertStripped(seen: readonly Line[], sent: readonly Line[]): void {
  const harmless = ['constructor', 'prototype', 'origin', 'access-control-request-method', 'cookie']
  for (const [name, value] of sent) {
    const passed = seen.some(([each, text]) => fold(each) === fold(name) && text === value)
    assert.equal(passed, harmless.includes(fold(name)) || fold(name).startsWith('x-forwarded-for'), `${name}: ${value}`)
  }
}

const separators = [..."-_.!#$%&'*+^`|~"]

test('no alias of an identity header reaches the upstream beside ours', async () => {
  await using world = await openWorld(headerSetup)

  for (const name of identity)
    for (const separator of separators) {
      const alias = name.replaceAll('-', separator)
      for (const spelling of [alias, alias.toUpperCase(), alias.replace(/\b./g, (char) => char.toUpperCase())])
        await assertIdentity(world, [[spelling, 'attacker']], spelling)
    }
  await assertIdentity(
    world,
    identity.map((name) => [name, ''] as const),
  )
  await assertIdentity(
    world,
    Array.from({ length: 20 }, () => ['X-User', 'attacker'] as const),
  )
})

test("the default identity headers are never the client's, also where others are configured, under any alias", async () => {
  await using world = await openWorld(headerSetup)

  for (const name of ['x-auth-subject', 'x-auth-client', 'x-auth-scope'])
    for (const separator of separators) {
      const alias = name.replaceAll('-', separator)
      const lines = [
        [alias, 'attacker'],
        [alias.toUpperCase(), 'attacker'],
      ] as const
      const seen = [
        await assertIdentity(world, lines, alias),
        await allowed(world, { path: '/public/a', lines }, alias),
        await allowed(world, { path: '/public/a', token: world.mint(), lines }, alias),
      ]
      for (const each of seen) assert.ok(!each.lines.some(([, value]) => value === 'attacker'), alias)
    }
})

test('a header name with a space, a control or a byte beyond ASCII is 400', async () => {
  await using world = await openWorld(headerSetup)

  for (const name of [
    'X-User ',
    ' X-User',
    'X User',
    'X-User\t',
    'X-User\x00',
    'X-Us\x7fer',
    'X-Usér',
    'X-User\x0b',
    '',
  ]) {
    const got = await world.ask({
      path,
      token: world.mint(),
      lines: [
        ['X-Other', '1'],
        [name, 'attacker'],
      ],
    })
    assert.equal(got.status, 400, JSON.stringify(name))
  }
  for (const value of ['a\rb', 'a\nX-User: b', 'a\r\n b', 'a\x00b', '\rX-User: b']) {
    const got = await world.ask({ path, token: world.mint(), lines: [['X-Any', value]] })
    assert.equal(got.status, 400, JSON.stringify(value))
  }
  assert.equal(world.seen.length, 0)
})

test('an override header neither moves a request to another rule nor reaches the upstream, under any alias', async () => {
  await using world = await openWorld(headerSetup)
  const overrides = [
    'X-Original-URL',
    'X-Rewrite-URL',
    'X-Original-URI',
    'X-Original-Method',
    'X-Forwarded-Uri',
    'X-Forwarded-Path',
    'X-Forwarded-Method',
    'X-Forwarded-Prefix',
    'X-Envoy-Original-Path',
    'X-HTTP-Method-Override',
    'X-Method-Override',
    'X-HTTP-Method',
  ]

  for (const name of overrides)
    for (const alias of [name, name.toLowerCase(), name.replaceAll('-', '_'), name.replaceAll('-', '.')]) {
      await denied(world, { path, lines: [[alias, '/public/a']] }, 401, 'token_missing', alias)
      const seen = await assertIdentity(world, [[alias, '/public/a']], alias)
      assert.ok(!seen.lines.some(([each]) => fold(each) === fold(name)), alias)
      const open = await allowed(world, { path: '/public/a', lines: [[alias, '/admin/x']] })
      assert.ok(!open.lines.some(([each]) => fold(each) === fold(name)), alias)
    }
})

test('what a client says of where it comes from is replaced by what the connection shows', async () => {
  await using world = await openWorld(headerSetup)
  const names = [
    'X-Forwarded-For',
    'X-Forwarded-Proto',
    'X-Forwarded-Host',
    'X-Forwarded-Port',
    'X-Real-IP',
    'Forwarded',
    'Via',
    'X-Forwarded-Client-Cert',
  ]

  for (const name of names)
    for (const alias of [name, name.toUpperCase(), name.replaceAll('-', '_'), name.replaceAll('-', '.')]) {
      const seen = await assertIdentity(
        world,
        [
          [alias, 'attacker'],
          [alias, 'second'],
        ],
        alias,
      )
      assert.ok(!seen.lines.some(([, value]) => /attacker|second/.test(value)), alias)
      assert.deepEqual(seen.all('x-forwarded-for'), ['127.0.0.1'])
      assert.deepEqual(seen.all('x-forwarded-proto'), ['http'])
      assert.deepEqual(seen.all('x-forwarded-host'), ['gateway.test'])
    }
})

test('a client cannot make the gateway drop what it sets by naming it in Connection', async () => {
  await using world = await openWorld(headerSetup)
  const options = [
    ...identity,
    ...identity.map((name) => name.toUpperCase()),
    'X-Forwarded-For',
    'Host',
    'Authorization',
    'Content-Length',
    'Transfer-Encoding',
  ]

  for (const option of options)
    for (const value of [option, `close, ${option}`, `keep-alive,${option} `, `,,${option}`]) {
      const seen = await assertIdentity(
        world,
        [
          ['Connection', value],
          [option === 'X-Forwarded-For' ? option : 'X-A', 'b'],
        ],
        value,
      )
      assert.deepEqual(seen.all('host'), ['gateway.test'], value)
      assert.deepEqual(seen.all('x-forwarded-for'), ['127.0.0.1'], value)
    }
  const seen = await assertIdentity(world, [
    ['Connection', 'X-Secret'],
    ['X-Secret', 'hop'],
    ['X-Kept', 'end'],
  ])
  assert.deepEqual([seen.all('x-secret'), seen.all('x-kept')], [[], ['end']])
})

const credentials: readonly { lines: (token: string) => readonly Line[]; status: number; reason: string }[] = [
  { lines: () => [['Authorization', '']], ...missing },
  { lines: () => [['Authorization', 'Bearer']], ...missing },
  { lines: () => [['Authorization', 'Bearer    ']], ...missing },
  { lines: (token) => [['Authorization', token]], ...missing },
  { lines: (token) => [['Authorization', `Bearer${token}`]], ...missing },
  { lines: (token) => [['Authorization', `Bearer:${token}`]], ...missing },
  { lines: (token) => [['Authorization', `DPoP ${token}`]], ...missing },
  { lines: (token) => [['Authorization', `Token ${token}`]], ...missing },
  { lines: (token) => [['Authorization', `Digest ${token}`]], ...missing },
  { lines: (token) => [['Proxy-Authorization', `Bearer ${token}`]], ...missing },
  { lines: (token) => [['Authorization_', `Bearer ${token}`]], ...missing },
  { lines: (token) => [['X-Authorization', `Bearer ${token}`]], ...missing },
  { lines: (token) => [['Cookie', `access_token=${token}`]], ...missing },
  { lines: (token) => [['Authorization', `Bearer\t${token}`]], status: 400, reason: 'token_malformed' },
  { lines: (token) => [['Authorization', `Bearer ${token} `.concat('x')]], status: 400, reason: 'token_malformed' },
  { lines: (token) => [['Authorization', `Bearer "${token}"`]], status: 400, reason: 'token_malformed' },
  { lines: (token) => [['Authorization', `Bearer ${token},`]], status: 400, reason: 'token_malformed' },
  { lines: (token) => [['Authorization', `Bearer ${token}, Bearer ${token}`]], status: 400, reason: 'token_malformed' },
  { lines: (token) => [['Authorization', `Bearer ${token}\t`.concat('x')]], status: 400, reason: 'token_malformed' },
  { lines: (token) => [['Authorization', `Bearer \t${token}`]], status: 400, reason: 'token_malformed' },
  { lines: (token) => [['Authorization', `Bearer ${token}é`]], status: 400, reason: 'token_malformed' },
  { lines: () => [['Authorization', `Bearer ${'a'.repeat(4097)}`]], status: 400, reason: 'token_malformed' },
  { lines: () => [['Authorization', `Bearer ${'a'.repeat(8193)}`]], status: 400, reason: 'token_malformed' },
  {
    lines: (token) => [
      ['Authorization', `Bearer ${token}`],
      ['Authorization', `Bearer ${token}`],
    ],
    status: 400,
    reason: 'token_repeated',
  },
  {
    lines: (token) => [
      ['Authorization', `Bearer ${token}`],
      ['authorization', ''],
    ],
    status: 400,
    reason: 'token_repeated',
  },
  {
    lines: (token) => [
      ['AUTHORIZATION', 'Basic eDp5'],
      ['Authorization', `Bearer ${token}`],
    ],
    status: 400,
    reason: 'token_repeated',
  },
]

test('the credential is taken from one Authorization line with one Bearer token68, and from nowhere else', async (t) => {
  await using world = await openWorld(headerSetup)
  for (const { lines, status, reason } of credentials)
    await t.test(`${JSON.stringify(lines('TOKEN')).slice(0, 90)} is ${reason}`, async () => {
      await denied(world, { path, lines: lines(world.mint()) }, status, reason)
    })
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR', 'Bearer  '])
    await allowed(world, { path, lines: [['Authorization', `${scheme} ${world.mint()}`]] }, scheme)
})

test('a public rule forwards Authorization untouched, two lines of it too, and tells nothing of its own', async () => {
  await using world = await openWorld(headerSetup)
  const lines = [
    ['Authorization', 'Bearer not a token'],
    ['authorization', 'Basic eDp5'],
  ] as const

  const seen = await allowed(world, { path: '/public/a', lines: [...lines, ['X-User', 'attacker']] })

  assert.deepEqual(seen.all('authorization'), ['Bearer not a token', 'Basic eDp5'])
  assert.deepEqual(
    seen.lines.filter(([name]) => identity.includes(fold(name))),
    [],
  )
})

test('OPTIONS, HEAD, TRACE, CONNECT and methods nobody knows are not anonymous ways in', async () => {
  await using world = await openWorld(headerSetup)
  const preflight = [
    ['Origin', 'https://x'],
    ['Access-Control-Request-Method', 'GET'],
  ] as const

  for (const method of ['OPTIONS', 'POST', 'DELETE', 'PROPFIND', 'PURGE', 'FOO'])
    await denied(world, { method, path, lines: preflight }, 401, 'token_missing', method)
  for (const method of ['TRACE', 'get', 'Get', 'G ET']) {
    const got = await world.ask({ method, path, token: world.mint() })
    assert.deepEqual([got.status, got.reason], [400, 'request_malformed'], method)
  }
  const got = await world.send('CONNECT gateway.test:443 HTTP/1.1\r\nHost: gateway.test:443\r\n\r\n')
  assert.deepEqual([got.status, got.reason], [400, 'request_malformed'])
  assert.equal(world.seen.length, 0)
})

for (const value of ['a\r\nX-User: root', 'a\nb', 'a\u0000b', 'é', '\u202e', ' a', 'a ', 'a\u007f', '', '\t'])
  test(`a claim of ${JSON.stringify(value)} never becomes a second header, nor one the upstream reads otherwise`, async () => {
    await using world = await openWorld(headerSetup)

    const seen = await allowed(world, { path, token: world.mint({ claims: { sub: value, jti: value } }) })

    assert.deepEqual([seen.all('x-user'), seen.all('x-gw-id')], [[], []])
    assert.deepEqual(seen.all('x-scope'), ['read'])
  })

test('a client that keeps a refused connection open is cut off', async () => {
  await using world = await openWorld(headerSetup)
  const refused = [
    'garbage\r\n\r\n',
    'CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n',
  ]
  for (const bytes of refused) {
    const got = await world.send(bytes, 'stay')
    assert.deepEqual([got.status, got.reason], [400, 'request_malformed'], bytes)
  }

  await until(() => world.count('postern_connections{listener="proxy"}') === 0, 'the connections to be closed')
})
