import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lintPublic } from '../../src/decision/public-lint.ts'
import { findRuleConflicts, lintRules } from '../../src/decision/rule-lint.ts'
import { createEffort } from '../../src/decision/rule-overlap.ts'
import { rulesOptions } from '../../src/decision/rules.ts'

const scopes = ['read']

const conflicts = [
  { because: 'one path twice', rules: [{ match: { path: '/a' } }, { match: { path: '/a' } }], at: ['1.match.path'] },
  {
    because: 'names in braces do not tell patterns apart',
    rules: [{ match: { path: '/{a}' } }, { match: { path: '/{b}' } }],
    at: ['1.match.path'],
  },
  {
    because: 'one method twice',
    rules: [{ match: { path: '/a', methods: ['GET', 'PUT'] } }, { match: { path: '/a', methods: ['PUT'] } }],
    at: ['1.match.path'],
  },
  {
    because: 'no methods are all of them',
    rules: [{ match: { path: '/a' } }, { match: { path: '/a', methods: ['PUT'] } }],
    at: ['1.match.path'],
  },
  {
    because: 'all of them include the named',
    rules: [{ match: { path: '/a', methods: ['PUT'] } }, { match: { path: '/a' } }],
    at: ['1.match.path'],
  },
  {
    because: 'HEAD follows GET',
    rules: [{ match: { path: '/a', methods: ['GET'] } }, { match: { path: '/a', methods: ['GET', 'HEAD'] } }],
    at: ['1.match.path'],
  },
  {
    because: 'one host twice',
    rules: [{ match: { path: '/a', host: 'a.test' } }, { match: { path: '/a', host: 'a.test' } }],
    at: ['1.match.path'],
  },
  {
    because: 'only a GET is upgraded',
    rules: [{ match: { path: '/a', methods: ['POST'] }, upgrade: ['websocket'] }],
    at: ['0.upgrade'],
  },
  { because: 'HEAD without GET', rules: [{ match: { path: '/a', methods: ['HEAD'] } }], at: ['0.match.methods'] },
  {
    because: 'one id twice',
    rules: [
      { id: 'a', match: { path: '/a' } },
      { id: 'a', match: { path: '/b' } },
    ],
    at: ['1.id'],
  },
  {
    because: 'an id that another has by its place',
    rules: [{ id: 'rule-2', match: { path: '/a' } }, { match: { path: '/b' } }],
    at: ['1'],
  },
  {
    because: 'more than 64 methods in all rules, once',
    rules: [
      { match: { path: '/a', methods: Array.from({ length: 40 }, (_, at) => `A${at}`) } },
      { match: { path: '/b', methods: Array.from({ length: 40 }, (_, at) => `B${at}`) } },
      { match: { path: '/c', methods: ['C'] } },
    ],
    at: ['1.match.methods'],
  },
  { because: 'a literal its own rule rejects', rules: [{ match: { path: '/a%2Fb' } }], at: ['0.match.path'] },
  {
    because: 'a public rule reads no scopes',
    rules: [{ match: { path: '/a' }, public: true, scopes }],
    at: ['0.scopes'],
  },
  {
    because: 'a public rule reads no claims',
    rules: [{ match: { path: '/a' }, public: true, claims: { a: 1 } }],
    at: ['0.claims'],
  },
  {
    because: 'a public rule has no issuers, audience and freshness',
    rules: [{ match: { path: '/a' }, public: true, issuers: ['i'], audience: 'a', freshness: 'always' }],
    at: ['0.issuers', '0.audience', '0.freshness'],
  },
  { because: 'an anonymous catch-all', rules: [{ match: { path: '/**' }, public: true }], at: ['0.public'] },
  {
    because: 'an anonymous catch-all of one host',
    rules: [{ match: { path: '/**', host: 'a.test' }, public: true }],
    at: ['0.public'],
  },
  {
    because: 'an anonymous catch-all but for the shortest paths',
    rules: [
      { match: { path: '/' }, public: true },
      { match: { path: '/{a}/**' }, public: true },
      { match: { path: '/{a}/{b}/**', methods: ['GET'] }, public: true },
    ],
    at: ['1.public', '2.public'],
  },
]
for (const { because, rules, at } of conflicts) {
  test(`findRuleConflicts() finds ${because}`, () => {
    const found = findRuleConflicts(rulesOptions.parse(rules))

    assert.deepEqual(
      found.map(({ path }) => path.join('.')),
      at,
    )
    for (const { message } of found) assert.match(message, /^expected /)
  })
}

test('findRuleConflicts() finds nothing against rules that differ in host, path or method', () => {
  const rules = [
    { match: { path: '/a', methods: ['GET'] } },
    { match: { path: '/a', methods: ['POST'] } },
    { match: { path: '/a', host: 'a.test' } },
    { match: { path: '/a', host: '*.test' } },
    { match: { path: '/a/' } },
    { match: { path: '/a/**' } },
    { match: { path: '/a/{b}' } },
    { match: { path: '/a%2Fb' }, allow_encoded: ['slash'] },
    { match: { path: '/b', methods: ['GET', 'HEAD'] }, public: true, upgrade: ['websocket'] },
    { match: { path: '/**' }, public: true, insecure: true },
    { match: { path: '/{a}/**' }, public: true, insecure: true },
    { match: { path: '/{a}/{b}' }, public: true },
    { match: { path: '/{a}/b/**' }, public: true },
  ]

  assert.deepEqual(findRuleConflicts(rulesOptions.parse(rules)), [])
})

const warned = [
  { of: 'a rule that asks for nothing', rules: [{ match: { path: '/a' } }], says: [['0', /any valid token/]] },
  {
    of: 'insecure where it means nothing',
    rules: [{ match: { path: '/a' }, scopes, insecure: true }],
    says: [['0.insecure', /needs no insecure/]],
  },
  {
    of: 'a protocol that is nearly websocket',
    rules: [{ match: { path: '/a' }, scopes, upgrade: ['mqtt', 'websockets'] }],
    says: [['0.upgrade.1', /did you mean "websocket"/]],
  },
  {
    of: 'a method that is nearly a known one',
    rules: [{ match: { path: '/a', methods: ['GET', 'POTS', 'PROPFIN'] }, scopes }],
    says: [
      ['0.match.methods.1', /did you mean "POST"/],
      ['0.match.methods.2', /did you mean "PROPFIND"/],
    ],
  },
  {
    of: 'names that metrics use themselves',
    rules: [
      { id: 'cors', match: { path: '/a' }, scopes },
      { id: 'other', match: { path: '/b' }, scopes },
    ],
    says: [
      ['0.id', /cors stands for something else/],
      ['1.id', /other stands for something else/],
    ],
  },
  {
    of: 'words that are methods nowhere',
    rules: [{ match: { path: '/a', methods: ['ANY', 'ALL', 'DEL', 'READ', 'UPDATE'] }, scopes }],
    says: [
      ['0.match.methods.0', /ANY is a method that nobody sends; without methods/],
      ['0.match.methods.1', /ALL is a method that nobody sends/],
      ['0.match.methods.2', /did you mean "DELETE"/],
      ['0.match.methods.3', /did you mean "GET"/],
      ['0.match.methods.4', /did you mean "PUT" or "PATCH"/],
    ],
  },
  {
    of: 'a segment that is a name in the words of other routers',
    rules: [{ match: { path: '/users/:id/**' }, scopes }],
    says: [['0.match.path', /:id matches only these very characters; \{id\} would/]],
  },
  {
    of: 'a path that is written as a regular expression',
    rules: [
      { match: { path: '/orders$' }, scopes },
      { match: { path: '/items/.+' }, scopes },
      { match: { path: '/$metadata/a$b/c+.d/{id}' }, scopes },
    ],
    says: [
      ['0.match.path', /^this matches only these very characters: a path is compared as a whole/],
      ['1.match.path', /^this matches only these very characters/],
    ],
  },
  {
    of: 'a ** whose every path another rule takes',
    rules: [
      { match: { path: '/a/**' }, scopes },
      { match: { path: '/a' }, scopes },
      { match: { path: '/a/' }, scopes },
      { match: { path: '/a/{b}/**' }, scopes },
    ],
    says: [['0.match', /never reached/]],
  },
  {
    of: 'a ** taken step by step, for each of its methods',
    rules: [
      { match: { path: '/**', methods: ['GET', 'PUT'] }, scopes },
      { match: { path: '/', methods: ['GET', 'PUT'] }, scopes },
      { match: { path: '/{a}' }, scopes },
      { match: { path: '/{a}/', methods: ['GET'] }, scopes },
      { match: { path: '/{a}/', methods: ['PUT'] }, scopes },
      { match: { path: '/{a}/{b}/**' }, scopes },
    ],
    says: [['0.match', /never reached/]],
  },
  {
    of: 'a method of a protected path that reaches a public rule',
    rules: [
      { match: { path: '/a/{id}', methods: ['GET', 'PUT', 'PATCH', 'POST', 'OPTIONS'] }, scopes },
      { id: 'open', match: { path: '/a/**' }, public: true },
    ],
    says: [['0', /does not cover DELETE: the public rule open does/]],
  },
  {
    of: 'a method of a protected path that reaches a public rule for one host',
    rules: [
      { match: { path: '/a/{id}', methods: ['GET'] }, scopes },
      { id: 'open', match: { path: '/{x}/**', host: 'www.a.test', methods: ['PUT'] }, public: true },
    ],
    says: [['0', /does not cover PUT: the public rule open does$/]],
  },
  {
    of: 'what many rules leave to many hosts once',
    rules: [
      ...['/a', '/b', '/c'].map((path) => ({ match: { path, methods: ['POST'] }, scopes })),
      ...['a', 'b', 'c'].map((id) => {
        return { id, match: { path: '/**', host: `${id}.test`, methods: ['GET'] }, public: true, insecure: true }
      }),
    ],
    says: [
      ['0', /^rule-1 does not cover GET: the public rule a does, and 2 more for other hosts; so it is with 2 more$/],
    ],
  },
  {
    of: 'every other public rule that takes what one leaves',
    rules: [
      { match: { path: '/a/{id}', methods: ['POST'] }, scopes },
      { match: { path: '/b/{id}', methods: ['POST'] }, scopes },
      { id: 'open', match: { path: '/a/**' }, public: true },
      { id: 'too', match: { path: '/b/**' }, public: true },
    ],
    says: [
      ['0', /does not cover GET, PUT, PATCH, DELETE, OPTIONS: the public rule open does$/],
      ['1', /does not cover GET, PUT, PATCH, DELETE, OPTIONS: the public rule too does$/],
    ],
  },
] as const
for (const { of, rules, says } of warned) {
  test(`lintRules() warns of ${of}`, () => {
    const found = lintRules(rulesOptions.parse(rules))

    assert.deepEqual(
      found.map(({ path }) => path.join('.')),
      says.map(([path]) => path),
    )
    for (const [at, [, pattern]] of says.entries()) assert.match(found[at]?.message ?? '', pattern)
  })
}

const silent = [
  {
    of: 'a ** that still has its own path',
    rules: [
      { match: { path: '/a/**' }, scopes },
      { match: { path: '/a/' }, scopes },
      { match: { path: '/a/{b}/**' }, scopes },
    ],
  },
  {
    of: 'a ** that others take for one method of two',
    rules: [
      { match: { path: '/a/**' }, scopes },
      { match: { path: '/a' }, scopes },
      { match: { path: '/a/' }, scopes },
      { match: { path: '/a/{b}/**', methods: ['GET'] }, scopes },
    ],
  },
  {
    of: 'a ** that others take on one host only',
    rules: [
      { match: { path: '/**' }, scopes },
      { match: { path: '/', host: 'a.test' }, scopes },
      { match: { path: '/{a}/**', host: 'a.test' }, scopes },
    ],
  },
  {
    of: 'a method that falls to another protected rule first',
    rules: [
      { match: { path: '/a/b', methods: ['GET'] }, scopes },
      { match: { path: '/a/**' }, scopes },
      { match: { path: '/**' }, public: true, insecure: true },
    ],
  },
  {
    of: "methods of WebDAV, one that is nobody else's, and a colon within a segment",
    rules: [{ match: { path: '/things/1:batch', methods: ['MKCOL', 'QUERY', 'XYZZY'] }, scopes }],
  },
  {
    of: 'HEAD beside GET',
    rules: [
      { match: { path: '/a', methods: ['GET'] }, scopes },
      { match: { path: '/{x}', methods: ['HEAD', 'GET'] }, public: true },
    ],
  },
]
for (const { of, rules } of silent) {
  test(`lintRules() says nothing of ${of}`, () => assert.deepEqual(lintRules(rulesOptions.parse(rules)), []))
}

test('lintRules() says nothing of what a rule leaves open for a host that is not among those we answer for', () => {
  const guarded = { match: { path: '/a', methods: ['GET'] }, scopes }
  const open = { match: { path: '/a', methods: ['POST'] }, public: true }
  const forHost = (rule: typeof guarded | typeof open) => ({ ...rule, match: { ...rule.match, host: 'a.test' } })
  const pairs = [
    [guarded, forHost(open)],
    [forHost(guarded), open],
  ]

  const found = pairs.map((pair) =>
    [[], ['a.test'], ['b.test']].map((hosts) => lintRules(rulesOptions.parse(pair), createEffort(), hosts).length),
  )

  assert.deepEqual(found, [
    [1, 1, 0],
    [1, 1, 0],
  ])
})

test('lintRules() says so where it has not compared each of many rules with each', () => {
  const rules = rulesOptions.parse([
    ...Array.from({ length: 100 }, (_, at) => ({ match: { path: `/a${at}`, methods: ['POST'] }, scopes })),
    ...Array.from({ length: 100 }, (_, at) => {
      return { match: { path: '/{x}', host: `h${at}.test`, methods: ['PUT'] }, public: true }
    }),
  ])

  const [whole, part] = [lintRules(rules), lintRules(rules, createEffort(20_000))]

  assert.deepEqual(
    whole.map(({ message }) => message),
    ['rule-1 does not cover PUT: the public rule rule-101 does, and 99 more for other hosts; so it is with 99 more'],
  )
  const [gap, told, ...more] = part.map(({ message }) => message)
  assert.match(gap ?? '', /^rule-1 does not cover PUT: .*; so it is with 99 more$/)
  assert.match(
    told ?? '',
    /^rule-1 was compared with some rules only.*, and so were 99 more: what public rules take of it/,
  )
  assert.deepEqual(more, [])
})

test('lintRules() and lintPublic() take at most three seconds of the processor for hundreds of rules of 64 methods', () => {
  const methods = Array.from({ length: 64 }, (_, at) => `M${at}`)
  const rules = rulesOptions.parse([
    ...Array.from({ length: 200 }, (_, at) => ({ match: { path: `/p${at}/**`, methods: methods.slice(4) }, scopes })),
    ...Array.from({ length: 200 }, (_, at) => {
      return { match: { host: `h${at}`, path: '/**', methods: methods.slice(at % 4) }, public: true, insecure: true }
    }),
  ])
  const before = process.cpuUsage()

  const found = [lintPublic(rules).length, lintRules(rules).length]

  const { user } = process.cpuUsage(before)
  assert.equal(found[0], 200)
  assert.ok(user < 3_000_000, `it took ${user} µs of the processor`)
})
