import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lintHosts, lintPublic } from '../../src/decision/public-lint.ts'
import { createEffort } from '../../src/decision/rule-overlap.ts'
import { rulesOptions } from '../../src/decision/rules.ts'

const scopes = ['read']
const orders = { id: 'orders', match: { path: '/orders/**' }, scopes }
const openings: readonly {
  match: { path: string; methods?: string[]; host?: string }
  of?: object
  more?: readonly object[]
  said?: string | RegExp | undefined
}[] = [
  {
    match: { methods: ['GET'], path: '/orders/{id}' },
    said: 'GET /orders/{id} needs no token: open is public, and decides within orders (/orders/**), which wants one',
  },
  {
    match: { path: '/orders/{id}/**' },
    said: 'any method of /orders/{id}/** needs no token: open is public, and decides within orders (/orders/**), which wants one',
  },
  {
    match: { path: '/orders/{id}' },
    of: { match: { methods: ['GET', 'PUT'], path: '/orders/**' } },
    said: 'GET, PUT /orders/{id} needs no token: open is public, and decides within orders (/orders/**), which wants one',
  },
  {
    match: { methods: ['GET'], host: 'a.test', path: '/orders/{id}' },
    of: { match: { host: '*.test', path: '/orders/**' } },
    said: 'GET /orders/{id} needs no token at a.test: open is public, and its host comes before every path, so it decides within orders (*.test/orders/**), which wants one; which host it is the client says',
  },
  {
    match: { host: 'www.a.test', path: '/**' },
    said: 'any method of /** needs no token at www.a.test: open is public, and its host comes before every path, so it decides within orders (/orders/**), which wants one; which host it is the client says',
  },
  ...[
    { match: { path: '/{a}/**' } },
    { match: { path: '/{a}/{b}' } },
    { match: { path: '/{a}' } },
    { match: { path: '/{a}/list' } },
    { match: { path: '/orders/**' }, of: { match: { path: '/orders' } } },
    { match: { path: '/orders' }, of: { match: { path: '/orders' } } },
    { match: { path: '/orders/{id}' }, of: { match: { path: '/orders/{id}' } } },
    { match: { path: '/**' }, of: { match: { path: '/' } } },
    // Spelled out, and for whoever says that it is this host.
    { match: { path: '/orders' } },
    { match: { path: '/orders/help' } },
    { match: { path: '/help/**' }, of: { match: { path: '/**' } } },
    // Some of its methods stay open.
    { match: { path: '/**' }, more: [{ match: { host: '*.test', path: '/**', methods: ['GET'] }, scopes }] },
    { match: { path: '/**' }, more: [{ match: { host: 'a.test', path: '/orders/**', methods: ['GET'] }, scopes }] },
  ].map(({ match, ...rest }) => ({ ...rest, match: { ...match, host: 'a.test' }, said: /needs no token at a\.test/ })),
  ...[
    { match: { path: '/**' }, more: [{ match: { host: 'a.test', path: '/orders/**' }, scopes }] },
    { match: { path: '/**' }, of: { match: { host: 'b.test', path: '/orders/**' } } },
    { match: { path: '/{a}/x' }, of: { match: { path: '/orders' } } },
    { match: { path: '/static/**' }, of: { match: { path: '/{tenant}/orders' } } },
    {
      match: { path: '/orders/help' },
      of: { match: { path: '/{tenant}/{name}' } },
      more: [{ match: { path: '/orders/help' }, public: true }],
    },
    { match: { path: '/{a}' }, of: { match: { path: '/' } } },
  ].map(({ match, ...rest }) => ({ ...rest, match: { ...match, host: 'a.test' }, said: undefined })),
  { match: { path: '/orders/help' }, said: undefined },
  { match: { path: '/orders/{id}/picture' }, said: undefined },
  { match: { path: '/other/{id}' }, said: undefined },
  { match: { path: '/static/**' }, of: { match: { path: '/**' } }, said: undefined },
  { match: { methods: ['GET'], path: '/orders/{id}' }, of: { match: { methods: ['PUT'], path: '/orders/**' } } },
  { match: { path: '/orders/{id}' }, of: { match: { host: 'a.test', path: '/orders/**' } } },
  { match: { path: '/orders/{id}' }, of: { match: { path: '/orders/**' }, scopes: [], public: true } },
]
for (const { match, of, more, said } of openings) {
  test(`lintPublic() warns of ${said ?? 'nothing'}: ${JSON.stringify({ match, of, more })}`, () => {
    const rules = rulesOptions.parse([
      { ...orders, ...of },
      { id: 'open', match, public: true, insecure: match.path === '/**' },
      ...(more ?? []),
    ])

    const found = lintPublic(rules)

    assert.deepEqual(
      found.map(({ path }) => path.join('.')),
      said === undefined ? [] : ['1.match.path'],
    )
    if (said instanceof RegExp) assert.match(found[0]?.message ?? '', said)
    else assert.equal(found[0]?.message, said)
  })
}

// No two of them have a request in common that the public one decides.
const many = Array.from({ length: 200 }, (_, at) => [
  { match: { host: `t${at}.test`, path: '/**' }, public: true, insecure: true },
  { match: { host: `t${at}.test`, path: '/{x}' }, scopes },
  { match: { path: `/a${at}` }, scopes },
]).flat()

test('lintPublic() says so where it has not compared each of many rules with each', () => {
  const rules = rulesOptions.parse(many)

  assert.deepEqual(lintPublic(rules), [])
  const [told, ...more] = lintPublic(rules, createEffort(20_000))
  assert.deepEqual([told?.path, more], [[0, 'match', 'path'], []])
  assert.match(
    told?.message ?? '',
    /^rule-1 was compared with some rules only.*, and so were 199 more: what it takes of them/,
  )
})

test('lintPublic() still finds what the last of many public rules takes when those before it leave no time', () => {
  const rules = rulesOptions.parse([
    ...many,
    { match: { host: 'www.test', path: '/orders/**' }, scopes },
    { id: 'open', match: { host: 'www.test', path: '/orders/{id}' }, public: true },
  ])

  assert.deepEqual(
    lintPublic(rules, createEffort(20_000)).map(({ path }) => path[0]),
    [601, 0],
  )
})

test('lintPublic() compares rules of thousands of hosts to the end', () => {
  const rules = rulesOptions.parse(
    Array.from({ length: 3300 }, (_, at) => [
      { match: { host: `t${at}.test`, path: '/**' }, public: true, insecure: true },
      { match: { host: `t${at}.test`, path: '/{x}/**' }, scopes },
      { match: { host: `t${at}.test`, path: '/' }, scopes },
    ]).flat(),
  )

  const found = lintPublic(rules)

  assert.deepEqual(found, [])
})

test('lintPublic() says nothing of a rule for a host that is not among those we answer for', () => {
  const open = { match: { path: '/orders/{id}', host: 'a.test' }, public: true }
  const rules = rulesOptions.parse([orders, open])
  const found = [[], ['a.test'], ['b.test']].map((hosts) => lintPublic(rules, createEffort(), hosts))

  assert.deepEqual(
    found.map(({ length }) => length),
    [1, 1, 0],
  )
  assert.match(found[0]?.[0]?.message ?? '', /; which host it is the client says$/)
  assert.match(found[1]?.[0]?.message ?? '', /; no other of hosts is left for /)
})

test('lintPublic() says nothing of a path that is spelled out for a host, where we answer for no other', () => {
  const rules = rulesOptions.parse([orders, { match: { path: '/orders/help', host: 'a.test' }, public: true }])
  const found = [[], ['a.test'], ['a.test', 'b.test']].map((hosts) => lintPublic(rules, createEffort(), hosts).length)

  assert.deepEqual(found, [1, 0, 1])
})

test('lintPublic() says nothing of a path that is spelled out for each host that we answer for', () => {
  const help = (host: string) => ({ match: { path: '/orders/help', host }, public: true })
  const rules = rulesOptions.parse([orders, help('a.test'), help('b.test')])
  const found = [[], ['a.test', 'b.test'], ['a.test', 'b.test', 'c.test']].map(
    (hosts) => lintPublic(rules, createEffort(), hosts).length,
  )

  assert.deepEqual(found, [2, 0, 2])
})

const admin = { id: 'admin', match: { methods: ['DELETE'], path: '/o/{id}' }, scopes: ['admin'] }
const hiding: readonly { rule: object; of?: object; more?: readonly object[]; said?: string | RegExp }[] = [
  {
    rule: { match: { host: 'api.test', path: '/**' }, scopes },
    said: 'DELETE /o/{id} needs something else at api.test: wide lacks a scope that admin wants, and its host comes before every path; which host it is the client says',
  },
  {
    rule: { match: { host: '*.test', path: '/{a}/{b}' }, scopes },
    said: /^DELETE .* needs something else at \*\.test: wide lacks a scope/,
  },
  {
    rule: { match: { host: 'api.test', path: '/**' } },
    of: { scopes: { any: ['a', 'b'] } },
    said: /lacks a scope that/,
  },
  {
    rule: { match: { host: 'api.test', path: '/**' }, scopes: ['admin'] },
    of: { claims: { role: 'a' } },
    said: /^DELETE .* needs less at api\.test: wide lacks a claim that/,
  },
  {
    rule: { match: { host: 'api.test', path: '/**' }, scopes, claims: { role: ['a', 'b'] } },
    of: { scopes, claims: { role: 'a' } },
    said: /lacks a claim that/,
  },
  {
    rule: { match: { host: 'api.test', path: '/**' }, scopes },
    of: { match: { host: '*.test', path: '/o' } },
    said: /^any m/,
  },
  // It asks for as much.
  { rule: { match: { host: 'api.test', path: '/**' }, scopes: ['admin', 'read'] } },
  { rule: { match: { host: 'api.test', path: '/**' }, scopes: ['a'] }, of: { scopes: { any: ['a', 'b'] } } },
  { rule: { match: { host: 'api.test', path: '/**' }, scopes: { any: ['a'] } }, of: { scopes: { any: ['a', 'b'] } } },
  {
    rule: { match: { host: 'api.test', path: '/**' }, claims: { r: 'a' } },
    of: { scopes: [], claims: { r: ['a', 'b'] } },
  },
  // Whoever writes the same path for a host, or a closer one, means it.
  { rule: { match: { host: 'api.test', path: '/o/{id}' }, scopes } },
  { rule: { match: { host: 'api.test', path: '/o/7' }, scopes } },
  // Nothing is taken.
  { rule: { match: { path: '/**' }, scopes } },
  {
    rule: { match: { host: 'api.test', path: '/**' }, scopes },
    of: { match: { host: 'other.test', path: '/o/{id}' } },
  },
  { rule: { match: { host: 'api.test', path: '/**', methods: ['GET'] }, scopes } },
  { rule: { match: { host: 'api.test', path: '/p/**' }, scopes } },
  {
    rule: { match: { host: 'api.test', path: '/**' }, scopes },
    more: [{ match: { host: 'api.test', path: '/o/{id}' }, scopes: ['admin'] }],
  },
  // It has a stricter one of its own, or the other has nothing anyway.
  { rule: { match: { host: 'api.test', path: '/**' }, scopes }, of: { scopes: [], public: true } },
]
for (const { rule, of, more, said } of hiding) {
  test(`lintHosts() warns of ${said ?? 'nothing'}: ${JSON.stringify({ rule, of, more })}`, () => {
    const rules = rulesOptions.parse([{ ...admin, ...of }, { id: 'wide', ...rule }, ...(more ?? [])])

    const found = lintHosts(rules)

    assert.deepEqual(
      found.map(({ path }) => path.join('.')),
      said === undefined ? [] : ['1.match.host'],
    )
    if (said instanceof RegExp) assert.match(found[0]?.message ?? '', said)
    else assert.equal(found[0]?.message, said)
  })
}

test('lintHosts() does not say that the client has a choice where all of our names are for the host', () => {
  const rules = rulesOptions.parse([admin, { id: 'wide', match: { host: 'a.test', path: '/**' }, scopes }])
  const said = [['a.test'], ['a.test', 'b.test']].map((hosts) => lintHosts(rules, undefined, hosts)[0]?.message ?? '')

  assert.match(said[0] ?? '', /; no other of hosts is left for admin$/)
  assert.match(said[1] ?? '', /; which host it is the client says$/)
})

test('lintHosts() tells of hundreds of hosts that hide one rule once, and of none for which we do not answer', () => {
  const rules = rulesOptions.parse([
    admin,
    ...Array.from({ length: 300 }, (_, at) => ({ match: { host: `t${at}.test`, path: '/**' }, scopes })),
  ])

  const [whole, part, none] = [[], ['t7.test', 't8.test'], ['other.test']].map((hosts) =>
    lintHosts(rules, createEffort(), hosts).map(({ message }) => message),
  )

  assert.equal(whole?.length, 1)
  assert.match(whole?.[0] ?? '', /; so it is with 299 more for other hosts$/)
  assert.match(part?.[0] ?? '', / at t7\.test: .*; so it is with 1 more for other hosts$/)
  assert.deepEqual(none, [])
})

test('lintHosts() takes about a second of the processor at most for ten thousand rules, and says what it has not compared', () => {
  const rules = rulesOptions.parse([
    ...Array.from({ length: 5000 }, (_, at) => ({ match: { path: `/p${at}/{id}` }, scopes: ['admin'] })),
    ...Array.from({ length: 5000 }, (_, at) => {
      return { match: { host: `t${at}.test`, path: '/**' }, scopes: ['admin', `s${at}`] }
    }),
  ])
  const before = process.cpuUsage()

  const found = lintHosts(rules)

  const { user } = process.cpuUsage(before)
  assert.match(found[0]?.message ?? '', /was compared with some rules only/)
  assert.ok(user < 1_500_000, `it took ${user} µs of the processor`)
})

test('lintHosts() compares no rules of one host with each other, however many they are', () => {
  const rules = rulesOptions.parse([
    ...Array.from({ length: 2000 }, (_, at) => ({
      match: { host: 'a.test', path: `/p${at}/{id}` },
      scopes: ['admin'],
    })),
    ...Array.from({ length: 2000 }, (_, at) => ({
      match: { host: 'a.test', path: `/{a}/{b}/q${at}` },
      scopes: [`s${at}`],
    })),
    admin,
    { id: 'wide', match: { host: 'a.test', path: '/**' }, scopes },
  ])

  assert.deepEqual(
    lintHosts(rules).map(({ path }) => path[0]),
    [4001],
  )
})
