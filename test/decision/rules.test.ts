import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { TrailStep } from '../../src/decision/decision.ts'
import type { AccessRequest } from '../../src/decision/request.ts'
import { readAccessRequest } from '../../src/decision/request.ts'
import type { Rule } from '../../src/decision/rules.ts'
import { compileRules, ruleOptions, rulesOptions } from '../../src/decision/rules.ts'

function request(line: string): AccessRequest {
  const [method = '', target = '', host = 'api.test'] = line.split(' ')
  const read = readAccessRequest(
    { method, target, host: [host], authorization: [], arrivedMs: 0 },
    { hosts: new Set() },
  )
  assert.ok(read.kind === 'request', `${line} is no request`)
  return read
}

/** A rule from `GET,POST host/path`; `*` is every method. The text is its name in the tests. */
function written(pattern: string) {
  const [methods = '', place = ''] = pattern.split(' ')
  const at = place.indexOf('/')
  return {
    match: {
      ...(methods === '*' ? {} : { methods: methods.split(',') }),
      ...(at === 0 ? {} : { host: place.slice(0, at) }),
      path: place.slice(at),
    },
  }
}

function decide(patterns: readonly string[], line: string, more: object = {}): string {
  const table = compileRules(rulesOptions.parse(patterns.map((pattern) => ({ ...written(pattern), ...more }))))
  const found = table.match(request(line))
  return found.kind === 'rule' ? (patterns[found.index] ?? '') : found.reason
}

const decided = [
  { rules: ['* /orders/{id}', '* /orders/7'], sent: 'GET /orders/7', by: '* /orders/7' },
  { rules: ['* /orders/**', '* /orders/{id}'], sent: 'GET /orders/7', by: '* /orders/{id}' },
  { rules: ['* /orders/**', '* /orders'], sent: 'GET /orders', by: '* /orders' },
  { rules: ['* /orders/**', '* /orders/'], sent: 'GET /orders/', by: '* /orders/' },
  { rules: ['* /**', '* /orders/**'], sent: 'GET /orders', by: '* /orders/**' },
  { rules: ['* /{a}/x', '* /a/{b}'], sent: 'GET /a/x', by: '* /a/{b}' },
  { rules: ['* /{a}/b/c', '* /a/**'], sent: 'GET /a/b/c', by: '* /a/**' },
  { rules: ['* /a/{b}/x', '* /{a}/b/c'], sent: 'GET /a/b/c', by: '* /{a}/b/c' },
  { rules: ['* /a/b/x', '* /a/{b}/y', '* /{a}/**'], sent: 'GET /a/b/z', by: '* /{a}/**' },
  { rules: ['GET /a/b', '* /a/{x}'], sent: 'POST /a/b', by: '* /a/{x}' },
  { rules: ['GET /a/b', 'POST /a/b'], sent: 'POST /a/b', by: 'POST /a/b' },
  { rules: ['GET /a/b', 'POST /**'], sent: 'POST /a/b', by: 'POST /**' },
  { rules: ['GET /a/**', '* /a/**'], sent: 'GET /a/b', by: 'GET /a/**' },
  { rules: ['* api.test/**', '* /a'], sent: 'GET /a', by: '* api.test/**' },
  { rules: ['* *.test/**', '* /a'], sent: 'GET /a', by: '* *.test/**' },
  { rules: ['* *.test/a', '* api.test/**'], sent: 'GET /a', by: '* api.test/**' },
  { rules: ['* api.test/b', '* *.test/**'], sent: 'GET /a', by: '* *.test/**' },
  { rules: ['GET api.test/a', '* /a'], sent: 'POST /a', by: '* /a' },
  { rules: ['* api.test/**'], sent: 'GET /a API.TEST:8080', by: '* api.test/**' },
  { rules: ['GET /a', 'PUT /a', '* /a', 'POST /a'], sent: 'POST /a', by: 'POST /a' },
  { rules: ['GET /a', 'PUT /a', '* /a', 'POST /a'], sent: 'DELETE /a', by: '* /a' },
  // The table finds a segment by a number, and these two share theirs.
  { rules: ['* /s1143', '* /s22665'], sent: 'GET /s1143', by: '* /s1143' },
  { rules: ['* /s1143', '* /s22665'], sent: 'GET /s22665', by: '* /s22665' },
  { rules: ['* /s1143', '* /{a}'], sent: 'GET /s22665', by: '* /{a}' },
] as const
for (const { rules, sent, by } of decided) {
  test(`match() decides ${sent} by "${by}" among ${JSON.stringify(rules)}, in any order`, () => {
    assert.equal(decide(rules, sent), by)
    assert.equal(decide(rules.toReversed(), sent), by)
  })
}

test('match() finds each of sixty-four methods of a rule', () => {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
  const names = Array.from({ length: 64 }, (_, at) => `M-${at}-${letters[at % 26]}`)
  const rule = `${names.join(',')} /a`

  assert.equal(decide([rule], `${names.at(-1)} /a`), rule)
  assert.equal(decide([rule], 'GET /a'), 'no_rule')
})

const covered = [
  {
    rule: '* /orders/**',
    yes: ['/orders', '/orders/', '/orders/1', '/orders/1/2/', '/orders/**'],
    no: ['/ordersx', '/order', '/'],
  },
  { rule: '* /**', yes: ['/', '/a', '/a/'], no: [] },
  { rule: '* /', yes: ['/'], no: ['/a'] },
  { rule: '* /a', yes: ['/a', '/%61'], no: ['/a/', '/A', '/a/b'] },
  { rule: '* /{a}', yes: ['/x', '/**'], no: ['/', '/x/', '/x/y'] },
  { rule: '* /a/{b}/', yes: ['/a/x/'], no: ['/a/x', '/a/'] },
  { rule: '* /{a}/**', yes: ['/x', '/x/', '/x/y'], no: ['/'] },
  { rule: '* /caf%C3%A9', yes: ['/caf%c3%a9'], no: ['/cafe'] },
] as const
for (const { rule, yes, no } of covered) {
  for (const path of [...yes, ...no]) {
    const wanted = (yes as readonly string[]).includes(path)
    test(`match() takes "${rule}" as ${wanted ? '' : 'not '}covering ${path}`, () => {
      assert.equal(decide([rule], `GET ${path}`), wanted ? rule : 'no_rule')
    })
  }
}

const judgedMethods = [
  { rule: 'GET /a', sent: 'HEAD /a', by: 'GET /a' },
  { rule: 'GET,HEAD /a', sent: 'HEAD /a', by: 'GET,HEAD /a' },
  { rule: 'POST /a', sent: 'HEAD /a', by: 'no_rule' },
  { rule: 'GET /a', sent: 'OPTIONS /a', by: 'no_rule' },
  { rule: '* /a', sent: 'BREW /a', by: '* /a' },
  { rule: '* *.test/a', sent: 'GET /a a.b.test', by: 'no_rule' },
  { rule: '* *.test/a', sent: 'GET /a test', by: 'no_rule' },
  { rule: '* api.test/a', sent: 'GET /a x.api.test', by: 'no_rule' },
] as const
for (const { rule, sent, by } of judgedMethods) {
  test(`match() decides ${sent} by ${by} where the rule is "${rule}"`, () => assert.equal(decide([rule], sent), by))
}

const encodedCases = [
  { sent: 'GET /a/x%2Fy', allow: [], by: 'path_rejected' },
  { sent: 'GET /a/x%2Fy', allow: ['slash'], by: '* /a/{x}' },
  { sent: 'GET /a/x%2Fy', allow: ['semicolon', 'percent', 'question', 'hash'], by: 'path_rejected' },
  { sent: 'GET /a/..%2fb', allow: ['slash'], by: 'path_rejected' },
  { sent: 'GET /a/..;', allow: ['semicolon'], by: 'path_rejected' },
  { sent: 'GET /a/x;y', allow: ['semicolon'], by: '* /a/{x}' },
  { sent: 'GET /b/x;y', allow: ['semicolon'], by: 'path_rejected' },
  { sent: 'GET /b/xy', allow: ['semicolon'], by: 'no_rule' },
] as const
for (const { sent, allow, by } of encodedCases) {
  test(`match() decides ${sent} by ${by} where the rule allows ${JSON.stringify(allow)}`, () => {
    assert.equal(decide(['* /a/{x}'], sent, { allow_encoded: allow }), by)
  })
}

test('match() matches on undecoded segments, so %2F does not reach a rule of another depth', () => {
  assert.equal(decide(['* /a/b', '* /{x}'], 'GET /a%2Fb', { allow_encoded: ['slash'] }), '* /{x}')
})

// Not the star: in a rule it is refused.
for (const character of "!$&'()+,:;=@") {
  const escaped = `%${character.charCodeAt(0).toString(16)}`
  test(`match() lets nobody past a rule for ${character} by ${escaped}, whatever the upstream makes of that`, () => {
    const rules = [`* /a/x${character}b`, `* /a/x${character}b/**`, '* /a/{x}', '* /a/**']

    const allow = { allow_encoded: character === ';' ? ['semicolon'] : [] } as const
    const decided = (path: string) => decide(rules, `GET ${path}`, allow)

    assert.equal(decided(`/a/x${character}b`), rules[0])
    for (const path of [`/a/x${escaped}b`, `/a/x${escaped.toUpperCase()}b`, `/a/x${escaped}b/c`])
      assert.equal(decided(path), 'path_rejected')
    assert.equal(decided(`/a/c/x${escaped}b`), '* /a/**', 'one rule either way')
    assert.equal(decide(['* /a/::b', '* /a/{x}'], 'GET /a/%3A%3ab'), 'path_rejected')
  })
}

test('match() names the rule that rejects a path, and tells the trail what it compared', () => {
  const table = compileRules(rulesOptions.parse([{ id: 'a', match: { path: '/a/**', methods: ['GET'] } }]))
  const trail: TrailStep[] = []
  const found = table.match(request('GET /a/%2F'), (step) => trail.push(step))

  assert.ok(found.kind === 'deny')
  assert.equal(found.rule?.id, 'a')
  assert.deepEqual(
    trail.map(({ stage, passed }) => [stage, passed]),
    [
      ['rules.match', true],
      ['rules.allow_encoded', false],
    ],
  )
  table.match(request('POST /a'), (step) => trail.push(step))
  assert.deepEqual(trail.at(-1), {
    stage: 'rules.match',
    passed: false,
    is: 'POST api.test/a',
    wanted: 'a rule for this method, host and path',
  })
})

const told = [
  {
    rule: { match: { path: '/a/**' } },
    is: ['a: any method /a/**', 'at most these escapes: none'],
  },
  {
    rule: { match: { path: '/a/**', methods: ['GET', 'PUT'], host: 'api.test' }, allow_encoded: ['percent', 'slash'] },
    is: ['a: GET, PUT api.test/a/**', 'at most these escapes: slash, percent'],
  },
] as const
for (const { rule, is } of told) {
  test(`match() tells the trail which rule decides, and which escapes it allows: ${is[0]}`, () => {
    const table = compileRules(rulesOptions.parse([{ id: 'a', ...rule }]))
    const trail: TrailStep[] = []
    table.match(request('GET /a/%3F%23'), (step) => trail.push(step))

    assert.equal(trail[0]?.wanted, is[0])
    assert.equal(trail.at(-1)?.is, 'question, hash')
    assert.equal(trail.at(-1)?.wanted, `${is[1]}; dots and slashes unambiguous when decoded`)
  })
}

test('match() tells the trail which other rule is for a path once it is decoded', () => {
  const table = compileRules(
    rulesOptions.parse([
      { id: 'any', match: { path: '/a/{x}' } },
      { id: 'all', match: { path: '/a/@all' } },
    ]),
  )
  const trail: TrailStep[] = []
  table.match(request('GET /a/%40all'), (step) => trail.push(step))

  assert.equal(trail.at(-1)?.is, '/a/@all: all: any method /a/@all')
})

test('compileRules() throws for a path that is no template, which the schema would have refused', () => {
  const [rule] = rulesOptions.parse([{ match: { path: '/a' } }])
  assert.ok(rule)

  for (const path of ['a', '/a//b', '/**/a', '/{1}'])
    assert.throws(() => compileRules([{ ...rule, match: { path } }]), RangeError, path)
})

test('compileRules() reads every member of a rule, and what is left out', () => {
  const { rules } = compileRules(
    rulesOptions.parse([
      { match: { path: '/a' } },
      {
        id: 'full',
        match: { methods: ['GET', 'PUT'], host: '*.example.com', path: '/b/{id}' },
        scopes: { all: ['x'], any: ['y', 'z'] },
        claims: { client_id: ['web', 'mobile'], level: 2, staff: true },
        issuers: ['https://login.test'],
        audience: 'orders',
        freshness: { max_age: '5s' },
        allow_encoded: ['slash', 'percent'],
        forward_authorization: true,
        max_body: 1000,
        upgrade: ['websocket', 'mqtt/5'],
      },
      { match: { path: '/c' }, scopes: ['x'], audience: ['a', 'b'], freshness: 'always', public: false },
    ]),
  )

  const bare = {
    kind: 'rule',
    methods: undefined,
    host: undefined,
    public: false,
    scopes: { all: [], any: [] },
    claims: [],
    issuers: undefined,
    audience: undefined,
    freshness: { kind: 'cached' },
    allowEncoded: 0,
    upgrade: [],
    forwardAuthorization: false,
    maxBody: undefined,
  }
  assert.deepEqual(rules, [
    { ...bare, id: 'rule-1', index: 0, path: '/a' },
    {
      ...bare,
      id: 'full',
      index: 1,
      methods: ['GET', 'PUT'],
      host: '*.example.com',
      path: '/b/{id}',
      scopes: { all: ['x'], any: ['y', 'z'] },
      claims: [
        { name: 'client_id', oneOf: ['web', 'mobile'] },
        { name: 'level', oneOf: [2] },
        { name: 'staff', oneOf: [true] },
      ],
      issuers: new Set(['https://login.test']),
      audience: ['orders'],
      freshness: { kind: 'max_age', maxAgeMs: 5000 },
      allowEncoded: 5,
      upgrade: ['websocket', 'mqtt/5'],
      forwardAuthorization: true,
      maxBody: 1000,
    },
    {
      ...bare,
      id: 'rule-3',
      index: 2,
      path: '/c',
      scopes: { all: ['x'], any: [] },
      audience: ['a', 'b'],
      freshness: { kind: 'always' },
    },
  ])
})

const refused = [
  { match: { path: 'a' }, at: 'path' },
  { match: { path: '' }, at: 'path' },
  { match: { path: '/a/../b' }, at: 'path' },
  { match: { path: '/a//b' }, at: 'path' },
  { match: { path: '/a/**/b' }, at: 'path' },
  { match: { path: '/**/b' }, at: 'path' },
  { match: { path: '/a*' }, at: 'path' },
  { match: { path: '/a/*' }, at: 'path' },
  { match: { path: '/a{b}' }, at: 'path' },
  { match: { path: '/{}' }, at: 'path' },
  { match: { path: '/a b' }, at: 'path' },
  { match: { path: '/%61' }, at: 'path' },
  { match: { path: '/%c3%a9' }, at: 'path' },
  { match: { path: '/a/%3A' }, at: 'path' },
  { match: { path: '/%40a' }, at: 'path' },
  { match: { path: '/%2E%2E' }, at: 'path' },
  { match: { path: '/é' }, at: 'path' },
  { match: { path: '/a?b' }, at: 'path' },
  { match: { path: '/a', methods: [] }, at: 'methods' },
  { match: { path: '/a', methods: ['get'] }, at: 'methods' },
  { match: { path: '/a', methods: ['TRACE'] }, at: 'methods' },
  { match: { path: '/a', methods: ['CONNECT'] }, at: 'methods' },
  { match: { path: '/a', host: 'API.test' }, at: 'host' },
  { match: { path: '/a', host: 'api.test:80' }, at: 'host' },
  { match: { path: '/a', host: '*' }, at: 'host' },
  { match: { path: '/a', host: 'a.*.test' }, at: 'host' },
  { match: { path: '/a', host: 'api.test.' }, at: 'host' },
  { match: { path: '/a', host: '[:::::]' }, at: 'host' },
  { match: { path: '/a', host: '[1:2]' }, at: 'host' },
  { match: { path: '/a', host: '[0:0:0:0:0:0:0:1]' }, at: 'host' },
  { match: { path: '/a', host: '[::300.1.1.1]' }, at: 'host' },
]
for (const { match, at } of refused) {
  test(`ruleOptions refuses ${JSON.stringify(match)}`, () => {
    const read = ruleOptions.safeParse({ match })

    assert.equal(read.success, false)
    assert.ok(read.error?.issues.every(({ path }) => path[0] === 'match' && path[1] === at))
  })
}

test('ruleOptions refuses names it does not know, so that a typing mistake loosens nothing', () => {
  assert.equal(ruleOptions.safeParse({ match: { path: '/a' }, scope: ['x'] }).success, false)
  assert.equal(ruleOptions.safeParse({ match: { path: '/a', method: 'GET' } }).success, false)
})

test('ruleOptions refuses a number that no double holds: another would meet it', () => {
  const fits = (account: number) => ruleOptions.safeParse({ match: { path: '/a' }, claims: { account } }).success

  assert.deepEqual([2 ** 53 - 1, 0.5, -1, 2 ** 53, -(2 ** 53)].map(fits), [true, true, true, false, false])
})

for (const protocol of ['h2c', 'h2', 'http/2.0', 'WebSocket', 'websocket, other', '', 'a b']) {
  test(`ruleOptions refuses an upgrade to ${JSON.stringify(protocol)}`, () => {
    assert.equal(ruleOptions.safeParse({ match: { path: '/a' }, upgrade: [protocol] }).success, false)
  })
}

const parts = ['a', 'b', '{x}', '']
const patterns = fc.record({
  methods: fc.constantFrom('*', 'GET', 'POST', 'GET,POST'),
  host: fc.constantFrom('', '', 'api.test', '*.test', 'x.test'),
  parts: fc.array(fc.constantFrom(...parts.slice(0, 3)), { maxLength: 3 }),
  end: fc.constantFrom('', '/', '/**'),
})
const ruleLists = fc.uniqueArray(
  patterns.map(({ methods, host, parts, end }) => `${methods} ${host}${['', ...parts].join('/') + end || '/'}`),
  { minLength: 1, maxLength: 12, selector: (pattern) => pattern.slice(pattern.indexOf(' ')) },
)
const requests = fc
  .tuple(
    fc.constantFrom('GET', 'HEAD', 'POST', 'PUT'),
    fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 4 }),
    fc.constantFrom('', '/'),
    fc.constantFrom('api.test', 'x.test', 'a.b.test', 'other'),
  )
  .map(([method, segments, end, host]) => `${method} ${['', ...segments].join('/') + end || '/'} ${host}`)

/** The same by the book: every rule that matches, the most specific first. */
function naive(rules: readonly Rule[], { method, host, segments }: AccessRequest): Rule | undefined {
  const rank = (rule: Rule) => {
    const hostRank = rule.host === undefined ? 2 : rule.host.startsWith('*.') ? 1 : 0
    const partRanks = rule.path
      .slice(1)
      .split('/')
      .map((part) => (part === '**' ? 2 : part.startsWith('{') ? 1 : 0))
    // No closing ** is more specific than one that stands for nothing.
    return [hostRank, ...partRanks].join('')
  }
  const matches = (rule: Rule) => {
    const judged = method === 'HEAD' ? 'GET' : method
    if (rule.methods !== undefined && !rule.methods.includes(judged)) return false
    if (rule.host?.startsWith('*.') && host.slice(host.indexOf('.')) !== rule.host.slice(1)) return false
    if (rule.host !== undefined && !rule.host.startsWith('*.') && rule.host !== host) return false
    const pattern = rule.path
      .replace(/^\/\*\*$/, '/.*')
      .replace(/\/\*\*$/, '(?:/.*)?')
      .replaceAll(/\{\w+\}/g, '[^/]+')
    return new RegExp(`^${pattern}$`).test(`/${segments.join('/')}`)
  }
  return rules.filter(matches).sort((one, other) => (rank(one) < rank(other) ? -1 : 1))[0]
}

test('match() finds the rule that sorting all matching ones by the specification finds', () => {
  void fc.assert(
    fc.property(ruleLists, fc.array(requests, { minLength: 1, maxLength: 8 }), (list, lines) => {
      const table = compileRules(rulesOptions.parse(list.map(written)))
      for (const line of lines) {
        const sent = request(line)
        const found = table.match(sent)
        assert.equal(found.kind === 'rule' ? found.path : undefined, naive(table.rules, sent)?.path, line)
        assert.equal(found.kind === 'rule' ? found.host : undefined, naive(table.rules, sent)?.host, line)
      }
    }),
    { numRuns: 1000 },
  )
})

test('match() asks no more maps among ten thousand rules than among ten', (t) => {
  const many = (count: number) => Array.from({ length: count }, (_, at) => ({ match: { path: `/s${at}/{id}/x/**` } }))
  const asked = (count: number) => {
    const table = compileRules(rulesOptions.parse(many(count)))
    const last = request(`GET /s${count - 1}/7/x/y/z`)
    const probe = t.mock.method(Map.prototype, 'get')
    const found = table.match(last)
    probe.mock.restore()
    assert.equal(found.kind, 'rule')
    return probe.mock.callCount()
  }

  assert.equal(asked(10_000), asked(10))
})

test('compileRules() gives every rule what it would have alone, and rules that want alike the same of it', () => {
  const texts = fc.constantFrom('a', 'b', '1', 'true', 'GET')
  const values = fc.oneof(texts, fc.constantFrom(1, 0, true, false))
  const wanted = fc.record(
    {
      scopes: fc.oneof(
        fc.array(texts, { maxLength: 2 }),
        fc.record({ any: fc.array(texts, { minLength: 1, maxLength: 2 }) }),
      ),
      claims: fc.dictionary(texts, fc.oneof(values, fc.array(values, { minLength: 1, maxLength: 2 })), { maxKeys: 2 }),
      issuers: fc.array(texts, { minLength: 1, maxLength: 2 }),
      audience: fc.oneof(texts, fc.array(texts, { minLength: 1, maxLength: 2 })),
    },
    { requiredKeys: [] },
  )
  void fc.assert(
    fc.property(fc.array(wanted, { minLength: 1, maxLength: 20 }), (all) => {
      const options = rulesOptions.parse(all.map((each, at) => ({ id: `r${at}`, match: { path: `/r${at}` }, ...each })))
      const { rules } = compileRules(options)

      for (const [at, rule] of rules.entries()) {
        const [alone] = compileRules(options.slice(at, at + 1)).rules
        assert.deepEqual({ ...rule, index: 0 }, alone)
      }
    }),
  )
  const alike = [1, 2].map((at) => ({ match: { path: `/r${at}` }, scopes: ['a'], issuers: ['https://a.test'] }))
  const [one, other] = compileRules(rulesOptions.parse(alike)).rules
  assert.ok(one !== undefined && one.scopes === other?.scopes && one.issuers === other.issuers)
})
