import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { rootCertificates } from 'node:tls'
import { createRereading } from '../../src/app/rereading.ts'
import type { World } from '../acceptance/harness.ts'
import { openWorld, until } from '../acceptance/harness.ts'

const clock = { wallMs: Date.now, monotonicMs: () => performance.now() }
const certificate = rootCertificates[0] ?? ''

function folder(): Disposable & { readonly at: (name: string) => string } {
  const made = mkdtempSync(path.join(tmpdir(), 'postern-'))
  return { at: (name) => path.join(made, name), [Symbol.dispose]: () => rmSync(made, { recursive: true }) }
}

/** A good configuration that names a file at one of the places where it may. */
function naming(place: string, file: string): string {
  const issuer = {
    issuer: 'https://issuer.test',
    audience: 'orders-api',
    introspection: { client_id: 'gateway', client_secret: place === 'secret' ? { file } : { env: 'SECRET' } },
    http: place === 'issuer ca' ? { ca: { file } } : {},
    jwks: place === 'keys' ? { file } : {},
  }
  return JSON.stringify({
    version: 1,
    upstream: { url: 'https://127.0.0.1:9', ...(place === 'upstream ca' ? { tls: { ca: { file } } } : {}) },
    blacklist: place === 'list' ? { local: { file } } : {},
    issuers: [issuer],
    rules: [{ match: { path: '/orders' }, scopes: ['orders:read'] }],
  })
}

/** The way to a configuration's file, and how often a change was told. */
function reread(text: () => string, readFile: (path: string) => Buffer = (path) => readFileSync(path)) {
  let told = 0
  const onChange = () => {
    told += 1
  }
  const fileMode = (path: string) => statSync(path).mode
  const rereading = createRereading(
    { file: 'gateway.yaml', read: text },
    { clock, env: { SECRET: 'secret' }, readFile, fileMode, watched: () => [], onChange },
  )
  return { ...rereading, told: () => told, [Symbol.dispose]: rereading.close }
}

for (const { place, before, good } of [
  { place: 'list', before: undefined, good: 'version: 1\nentries: []\n' },
  { place: 'list', before: 'version: 1\nentries: [{}]\n', good: 'version: 1\nentries: []\n' },
  { place: 'secret', before: undefined, good: 'secret' },
  { place: 'secret', before: '', good: 'secret' },
  { place: 'upstream ca', before: undefined, good: certificate },
  { place: 'upstream ca', before: 'x', good: certificate },
  { place: 'issuer ca', before: 'x', good: certificate },
  { place: 'keys', before: undefined, good: '{"keys":[]}' },
])
  test(`createRereading() tells of the ${place} that a refused configuration waits for: ${before === undefined ? 'it was not there' : `it was ${JSON.stringify(before)}`}`, async () => {
    using named = folder()
    const file = named.at('named')
    if (before !== undefined) writeFileSync(file, before, { mode: 0o600 })
    using it = reread(() => naming(place, file))
    assert.equal(it.read().kind, 'refused')
    assert.equal(it.told(), 0)

    writeFileSync(named.at('new'), good, { mode: 0o600 })
    renameSync(named.at('new'), file)
    await until(() => it.told() === 1, 'the change')

    assert.equal(it.read().kind, 'loaded')
  })

test('createRereading() sees a file that comes while the configuration that names it is being refused', () => {
  using named = folder()
  const file = named.at('list')
  using it = reread(
    () => naming('list', file),
    (wanted) => {
      try {
        return readFileSync(wanted)
      } finally {
        writeFileSync(file, 'version: 1\nentries: []\n')
      }
    },
  )

  assert.equal(it.read().kind, 'loaded')
})

test('createRereading() tells nothing of what only a configuration before named, and nothing once it is closed', async () => {
  using named = folder()
  const [one, two] = [named.at('one'), named.at('two')]
  let text = naming('list', one)
  using it = reread(() => text)
  assert.equal(it.read().kind, 'refused')
  text = naming('list', two)
  assert.equal(it.read().kind, 'refused')

  writeFileSync(one, 'x')
  writeFileSync(two, 'x')
  await until(() => it.told() === 1, 'the change')
  it.close()
  writeFileSync(two, 'y')
  await new Promise((resolve) => setTimeout(resolve, 300))

  assert.equal(it.told(), 1)
})

test('startApp() loads a configuration that it has refused as soon as the files it names are good', async () => {
  using named = folder()
  const file = named.at('denied.yaml')
  await using world = await openWorld()
  const token = world.mint({ claims: { sub: 'mallory' } })
  const outcomes = async () => [(await world.ask({ path: '/any/x', token })).reason, countsOf(world)]
  const change = () =>
    world.reload((configuration) => {
      configuration['blacklist'] = { local: { file } }
    })

  assert.throws(change, { actual: 'refused' })
  assert.deepEqual(await outcomes(), ['ok', [0, 1]])
  writeFileSync(file, 'version: 1\nentries: [{ kind: subject, value: mallory }]\n')
  await until(() => countsOf(world)[1] === 2, 'the second refusal')
  assert.deepEqual(await outcomes(), ['ok', [0, 2]])
  writeFileSync(file, 'version: 1\nentries: [{ kind: sub, value: mallory }]\n')
  await until(() => countsOf(world)[0] === 1, 'the reload')

  assert.deepEqual(await outcomes(), ['token_revoked', [1, 2]])
})

function countsOf(world: World): readonly number[] {
  return ['success', 'failure'].map((result) => world.count(`postern_config_reloads_total{result="${result}"}`))
}
