import assert from 'node:assert/strict'
import { test } from 'node:test'
import { load } from '../../src/config/load.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'

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
