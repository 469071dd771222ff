// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what the configuration writes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatSchema } from '../../src/config/reference.ts'

type Node = {
  readonly [key: string]: unknown
  readonly type?: string
  readonly pattern?: string
  readonly minimum?: number
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Node[]
}

/** As far as the values below need it. */
function takes(node: Node, value: unknown): boolean {
  if (node.anyOf !== undefined) return node.anyOf.some((each) => takes(each, value))
  if ('const' in node) return node['const'] === value
  if (node.enum !== undefined) return node.enum.includes(value)
  if (node.type === 'integer') return Number.isInteger(value) && Number(value) >= (node.minimum ?? 0)
  if (node.type === 'boolean') return typeof value === 'boolean'
  return typeof value === 'string' && new RegExp(node.pattern ?? '', 'u').test(value)
}

function schemaAt(...path: readonly string[]): Node {
  let node = JSON.parse(formatSchema()) as Node // our own
  for (const name of path) node = node[name] as Node // a path that is not there fails the test
  return node
}

const rule = ['properties', 'rules', 'items', 'properties'] as const
for (const { path, good, bad } of [
  { path: ['properties', 'workers'], good: [2, '${N}'], bad: [0, 'two'] },
  { path: ['properties', 'require_https'], good: [true, '${X:-false}'], bad: ['yes'] },
  { path: ['properties', 'drain', 'properties', 'delay'], good: ['5s', '${D:-5s}'], bad: ['5 s', 5] },
  { path: ['properties', 'hosts', 'items'], good: ['a.test', '${H}', 'a.${D}'], bad: ['A.test', '$H'] },
  { path: [...rule, 'allow_encoded', 'items'], good: ['slash', '${E}'], bad: ['dot'] },
  { path: [...rule, 'match', 'properties', 'path'], good: ['/a', '${P}/x'], bad: ['a'] },
]) {
  test(`formatSchema() takes \${…} for a value where the loader does, and nothing else more: ${path.at(-1)}`, () => {
    const node = schemaAt(...path)

    assert.deepEqual(
      [...good, ...bad].map((value) => takes(node, value)),
      [...good.map(() => true), ...bad.map(() => false)],
    )
  })
}

test('formatSchema() takes none in a name, where nothing is filled in', () => {
  const names = schemaAt('properties', 'identity_headers', 'propertyNames')

  assert.deepEqual([takes(names, 'x-user'), takes(names, '${X}')], [true, false])
})
