import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'

/** Each room, and the rooms it may import. Reading this table is reading the architecture; src/README.md draws it. */
const mayImport: Record<string, readonly string[]> = {
  base: [],
  spec: ['base'],
  io: ['base'],
  http1: ['base'],
  http2: ['http1'],
  decision: ['spec', 'base'],
  sources: ['spec', 'base', 'io'],
  issuer: ['spec', 'base', 'io'],
  'gateway.ts': ['decision', 'base'],
  gates: ['gateway.ts', 'decision', 'spec', 'http2', 'http1', 'base', 'io'],
  admin: ['base', 'io'],
  config: ['decision', 'sources', 'gates', 'base', 'io'],
  app: ['config', 'admin', 'gates', 'gateway.ts', 'sources', 'decision', 'spec', 'http2', 'http1', 'base', 'io'],
  cli: ['app', 'config', 'issuer', 'decision', 'spec', 'base', 'io'],
  'main.ts': ['cli', 'io'],
}

/** Each room or file, and the packages it may touch. A package that stands at one file has its one door there. */
const mayTouch: Record<string, readonly string[]> = {
  'base/list.ts': ['zod'],
  'base/lookup-cache.ts': ['lru-cache'],
  'base/options.ts': ['zod'],
  spec: ['node:crypto'],
  io: ['node:crypto', 'node:fs', 'node:path', 'node:net', 'node:http', 'node:https', 'node:tls'],
  'io/metrics.ts': ['prom-client'],
  'io/name-lookup.ts': ['node:dns'],
  'io/sqlite.ts': ['node:sqlite'],
  decision: ['zod'],
  sources: ['zod'],
  issuer: ['zod', 'node:crypto'],
  http1: ['node:net', 'node:tls'],
  http2: ['node:net', 'node:http2'],
  gates: ['node:net', 'node:tls', 'node:http2'],
  'gates/options.ts': ['zod'],
  'gates/tls.ts': ['node:crypto'],
  config: ['zod', 'node:crypto', 'node:util'],
  'config/yaml.ts': ['yaml'],
  app: ['node:net', 'node:cluster', 'node:os'],
  'app/upstream/upstream-files.ts': ['node:tls'],
  'app/workers/worker-messages.ts': ['zod'],
  cli: ['node:net', 'node:timers/promises'],
  'cli/program.ts': ['commander'],
  'cli/lean-start.ts': ['node:v8', 'node:vm'],
  'main.ts': ['node:crypto', 'node:fs'],
}

const source = join(import.meta.dirname, '../src')
const files = globSync('**/*.ts', { cwd: source }).sort()
// Static, re-exported, dynamic and side-effect imports, and built-in modules taken without one.
const specifiers = [
  /\bfrom\s*'([^']+)'/g,
  /\bimport\(\s*['"`]([^'"`]+)['"`]/g,
  /^\s*import\s*'([^']+)'/gm,
  /getBuiltinModule\(\s*'([^']+)'/g,
]

function roomOf(file: string): string {
  return file.includes('/') ? (file.split('/')[0] ?? '') : file
}

function importsOf(text: string): readonly string[] {
  return specifiers.flatMap((pattern) => [...text.matchAll(pattern)].map(([, specifier = '']) => specifier))
}

/** What a file imports and may not, as sentences. */
function trespasses(file: string, text: string): readonly string[] {
  const room = roomOf(file)
  return importsOf(text).flatMap((specifier) => {
    if (specifier.startsWith('.')) {
      const target = roomOf(join(dirname(file), specifier))
      return target === room || mayImport[room]?.includes(target) === true ? [] : [`${file} imports ${target}`]
    }
    const name = specifier.startsWith('node:')
      ? specifier
      : specifier
          .split('/')
          .slice(0, specifier.startsWith('@') ? 2 : 1)
          .join('/')
    const allowed = [...(mayTouch[room] ?? []), ...(mayTouch[file] ?? [])]
    return allowed.includes(name) ? [] : [`${file} touches ${name}`]
  })
}

test('src has files, and every one of them is in a room of the table', () => {
  assert.ok(files.length > 50)
  for (const file of files) assert.ok(mayImport[roomOf(file)] !== undefined, `${file} is in no room`)
})

for (const file of files) {
  test(`src/${file} imports only rooms below it, and only its packages`, () => {
    assert.deepEqual(trespasses(file, readFileSync(join(source, file), 'utf8')), [])
  })

  test(`src/${file} has at most 400 lines`, () => {
    const lines = readFileSync(join(source, file), 'utf8').split('\n').length - 1
    assert.ok(lines <= 400, `${lines} lines`)
  })
}

test('every grant of the tables is used', () => {
  const used = new Set(
    files.flatMap((file) =>
      importsOf(readFileSync(join(source, file), 'utf8')).flatMap((specifier) => {
        const target = specifier.startsWith('.') ? roomOf(join(dirname(file), specifier)) : specifier
        return [`${roomOf(file)} ${target}`, `${file} ${target}`]
      }),
    ),
  )
  const grants = [...Object.entries(mayImport), ...Object.entries(mayTouch)]
  const unused = grants.flatMap(([who, what]) => what.map((each) => `${who} ${each}`)).filter((each) => !used.has(each))
  assert.deepEqual(unused, [])
})

test('every file that src/README.md names is there', () => {
  const rows = readFileSync(join(source, 'README.md'), 'utf8').split('\n')
  const missing = rows.flatMap((row) => {
    // A name alone is of the room that was named before it.
    let folder = ''
    return [...row.matchAll(/`([a-z0-9/-]+\.ts)`/g)].flatMap(([, name = '']) => {
      if (name.includes('/')) folder = dirname(name)
      return files.includes(name) || files.includes(join(folder, name)) ? [] : [name]
    })
  })
  assert.deepEqual(missing, [])
})

const trespassing = [
  { text: "import { a } from '../io/log.ts'", said: 'decision/x.ts imports io' },
  { text: "import 'undici'", said: 'decision/x.ts touches undici' },
  { text: "const a = await import('../sources/jwks.ts')", said: 'decision/x.ts imports sources' },
  { text: "export { a } from '../gates/proxy.ts'", said: 'decision/x.ts imports gates' },
  { text: "process.getBuiltinModule('node:fs')", said: 'decision/x.ts touches node:fs' },
] as const
for (const { text, said } of trespassing) {
  test(`the floors test catches ${text}`, () => {
    assert.deepEqual(trespasses('decision/x.ts', text), [said])
  })
}

test('rm -r src/issuer leaves a gateway: only one command imports the issuer', () => {
  const users = files.filter((file) => {
    if (roomOf(file) === 'issuer') return false
    return importsOf(readFileSync(join(source, file), 'utf8')).some((specifier) => specifier.includes('/issuer/'))
  })
  assert.ok(
    users.every((file) => /^cli\/(?:issuer|demo[a-z-]*)\.ts$/.test(file)),
    users.join(', '),
  )
})

test('every room of the table is named in src/README.md, with the rooms it may import', () => {
  const map = readFileSync(join(source, 'README.md'), 'utf8')
  for (const [room, allowed] of Object.entries(mayImport)) {
    const row = map.split('\n').find((line) => line.startsWith(`| \`${room}\` |`))
    assert.ok(row !== undefined, `no row for ${room}`)
    const told = [...(row.split('|')[2] ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name)
    assert.deepEqual(told.sort(), [...allowed].sort(), room)
  }
})
