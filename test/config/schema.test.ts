import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load } from '../../src/config/load.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'
import { readAccessRequest } from '../../src/decision/request.ts'

const broken = [
  {
    because: 'a rule that is refused counts where the others stand',
    rules: [
      { id: 'bad', match: { path: 'nope' } },
      { id: 'one', match: { path: '/x' } },
      { id: 'two', match: { path: '/x' } },
    ],
    crossed: ['rules.2.match.path: expected a pattern and method of its own, and rules.1 has the same'],
  },
  {
    because: 'a rule has its name by its place in the file',
    rules: [{ match: { path: 'nope' } }, { match: { path: '/x' } }, { id: 'rule-1', match: { path: '/y' } }],
    crossed: [],
  },
  {
    because: 'another rule has that name',
    rules: [{ match: { path: 'nope' } }, { match: { path: '/x' } }, { id: 'rule-2', match: { path: '/y' } }],
    crossed: ['rules.2.id: expected an id of its own, and rules.1 is rule-2 already'],
  },
  {
    because: 'what its methods are is not known',
    rules: [{ match: { path: '/x', methods: ['get'] } }, { match: { path: '/x', methods: ['PUT'] } }],
    crossed: [],
  },
  {
    because: 'what its id is is not known',
    rules: [
      { id: 'a b', match: { path: '/x' } },
      { id: 'rule-1', match: { path: '/y' } },
    ],
    crossed: [],
  },
  {
    because: 'what is wrong with it is no matter here',
    rules: [{ match: { path: '/x' }, scops: ['a'] }, { match: { path: '/x' } }],
    crossed: ['rules.1.match.path: expected a pattern and method of its own, and rules.0 has the same'],
  },
]
for (const { because, rules, crossed } of broken) {
  test(`findGatewayConflicts() finds ${crossed.length === 0 ? 'nothing' : 'one thing'} in rules beside a refused one: ${because}`, () => {
    const text = JSON.stringify({ version: 1, upstream: { url: 'http://127.0.0.1:9' }, rules })

    const loaded = load(gatewayOptions, { file: 'gateway.yaml', text }, { env: {} }, findGatewayConflicts)

    assert.ok(loaded.kind === 'refused')
    const said = loaded.problems.map(({ message }) => message)
    assert.equal(said.length, crossed.length + 1, said.join('\n'))
    assert.deepEqual(
      said.filter((message) => message.includes('of its own')),
      crossed.map((each) => `Cannot read ${each}`),
    )
  })
}

for (const { name, isOne } of [
  { name: 'a.test', isOne: true },
  { name: 'my_svc', isOne: true },
  { name: '[::1]', isOne: true },
  { name: 'A.test', isOne: false },
  { name: 'a.test:80', isOne: false },
  { name: 'a.test.', isOne: false },
  { name: 'a..test', isOne: false },
  { name: '*.a.test', isOne: false },
]) {
  test(`gatewayOptions ${isOne ? 'takes' : 'refuses'} ${name} in hosts, as requests ${isOne ? 'may' : 'cannot'} come for it`, () => {
    const options = {
      version: 1,
      upstream: { url: 'http://127.0.0.1:9' },
      hosts: [name],
      rules: [{ match: { path: '/a' } }],
    }
    const raw = { method: 'GET', target: '/', host: [name], authorization: [], arrivedMs: 0, certificate: undefined }

    assert.equal(gatewayOptions.safeParse(options).success, isOne)
    assert.equal(readAccessRequest(raw, { hosts: new Set([name]) }).kind === 'request', isOne)
  })
}
