import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseDocument } from 'yaml'
import { listMetrics } from '../src/app/listed-metrics.ts'
import { formatReference, formatSchema } from '../src/config/reference.ts'
import { gatewayOptions } from '../src/config/schema.ts'
import { denyReasons } from '../src/decision/decision.ts'
import { upstreamFailures } from '../src/gates/gate.ts'
import { localListOptions } from '../src/sources/local-list.ts'

const root = join(import.meta.dirname, '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const manifest = JSON.parse(read('package.json')) as {
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
  scripts: Record<string, string>
  allowScripts: Record<string, boolean>
}
type Locked = {
  version?: string
  resolved?: string
  integrity?: string
  hasInstallScript?: boolean
  dev?: boolean
  optional?: boolean
}
const lock = JSON.parse(read('package-lock.json')) as { lockfileVersion: number; packages: Record<string, Locked> }
const packages = Object.entries(lock.packages).filter(([path]) => path !== '')

for (const file of ['package-lock.json', 'test/bench/package-lock.json']) {
  test(`${file} is of version 3, names no address, and every package has its hash`, () => {
    const { lockfileVersion, packages: locked } = JSON.parse(read(file)) as typeof lock
    assert.equal(lockfileVersion, 3)
    for (const [path, { resolved, integrity }] of Object.entries(locked)) {
      if (path === '') continue
      assert.equal(resolved, undefined, path)
      assert.match(integrity ?? '', /^sha512-/, path)
    }
  })
}

test('test/bench/package.json pins exact versions, and none of its packages wants to run a script', () => {
  const { dependencies } = JSON.parse(read('test/bench/package.json')) as typeof manifest
  for (const [name, version] of Object.entries(dependencies)) assert.match(version, /^\d+\.\d+\.\d+$/, name)
  const { packages: locked } = JSON.parse(read('test/bench/package-lock.json')) as typeof lock
  for (const [path, { hasInstallScript }] of Object.entries(locked)) assert.equal(hasInstallScript, undefined, path)
})

test('package.json pins exact versions, and lets one install script run', () => {
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }))
    assert.match(version, /^\d+\.\d+\.\d+$/, name)
  assert.deepEqual(manifest.allowScripts, { node: true })
  const scripted = packages.filter(([, { hasInstallScript }]) => hasInstallScript === true).map(([path]) => path)
  assert.deepEqual(scripted, ['node_modules/node'])
})

test('the packages that are shipped are these, and no more', () => {
  const shipped = packages.filter(([, { dev, optional }]) => dev !== true && optional !== true).map(([path]) => path)
  assert.deepEqual(shipped.map((path) => path.replace('node_modules/', '')).sort(), [
    '@opentelemetry/api',
    'bintrees',
    'commander',
    'lru-cache',
    'prom-client',
    'tdigest',
    'yaml',
    'zod',
  ])
})

test('config/postern.schema.json and config/README.md are what npm run docs writes', () => {
  assert.equal(read('config/postern.schema.json'), formatSchema())
  assert.equal(read('config/README.md'), formatReference(listMetrics()))
})

test('config/README.md says what every word means that a client may be told', () => {
  const reference = read('config/README.md')
  const words = [...Object.keys(denyReasons), ...Object.values(upstreamFailures)]
  for (const word of words) assert.ok(reference.includes(`<a id="${word}">`), word)
})

test('config/full.yaml has every section of the configuration', () => {
  const sections = [...read('config/full.yaml').matchAll(/^([a-z_0-9]+):/gm)].map(([, name]) => name)
  assert.deepEqual(sections.toSorted(), Object.keys(gatewayOptions.shape).toSorted())
})

test('config/README.md says how the file of blacklist.local is written', () => {
  const reference = read('config/README.md')
  for (const key of Object.keys(localListOptions.shape)) assert.ok(reference.includes(`| \`${key}\` |`), key)
  assert.ok(reference.includes('`entries[].kind`'))
})

test('README.md shows the two commands, and every script of package.json it names exists', () => {
  const readme = read('README.md')
  for (const command of ['npm ci && npm run demo', 'npm ci && npm test']) assert.ok(readme.includes(command), command)
  for (const [, script = ''] of readme.matchAll(/npm run ([a-z]+(?::[a-z]+)?)/g))
    assert.ok(script in manifest.scripts, script)
  for (const script of ['demo', 'start', 'dev', 'test', 'check', 'build', 'bench', 'bench:setup', 'docs'])
    assert.ok(script in manifest.scripts)
})

// The machine's own may be too old for what is typed, and may not be.
test('what README.md, test/README.md and config/ have typed in a checkout runs on the Node that npm ci brings', () => {
  for (const page of ['README.md', 'test/README.md', ...globSync('config/*.yaml', { cwd: root })])
    for (const [typed] of read(page).matchAll(/\S*\s?\bnode \S+\.ts\b/g)) assert.match(typed, /npx node /, page)
})

test('README.md, src/README.md and test/README.md link only to files that exist', () => {
  for (const page of ['README.md', 'src/README.md', 'test/README.md', 'config/README.md']) {
    for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g))
      assert.ok(existsSync(join(root, page, '..', target)), `${page} links to ${target}`)
  }
})

test('every example is YAML to a parser that knows nothing of our braces', () => {
  const shown = [...read('README.md').matchAll(/^```yaml\n([\s\S]*?)^```/gm)].map(([, text = '']) => text)
  const examples = globSync('config/*.yaml', { cwd: root }).map(read)
  assert.ok(shown.length >= 2 && examples.length >= 3)
  for (const text of [...shown, ...examples]) {
    const { errors } = parseDocument(text)
    assert.deepEqual(
      errors.map(({ message }) => message),
      [],
    )
  }
})

test('README.md says what every event means that the log may warn of', () => {
  const told = read('README.md')
  const warning = /(?:\.(?:warn|error)|\bwarn)\(\s*'([a-z]+_[a-z_]+)'/g
  const files = globSync('src/**/*.ts', { cwd: root })
  const events = new Set(files.flatMap((file) => [...read(file).matchAll(warning)].map(([, event = '']) => event)))
  assert.ok(events.size > 25, String(events.size))
  for (const event of events) assert.ok(told.includes(`\`${event}\``), event)
})

test('every example in config/ is named in README.md', () => {
  const told = read('README.md')
  for (const file of globSync('config/*.yaml', { cwd: root })) assert.ok(told.includes(file), file)
})
