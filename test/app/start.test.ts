// What changes while the gateway starts: nothing watches it before the listeners are up.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startApp } from '../../src/app/app.ts'
import { jwkOf, keys } from '../acceptance/forge.ts'
import { until } from '../support/until.ts'

type At = (name: string) => string

const any = '127.0.0.1:0'

/** A gateway started of files, one of which is changed right after it was first read. */
async function startWhileChanging(change?: { readonly name: string; readonly to: (at: At) => string }) {
  const directory = mkdtempSync(join(tmpdir(), 'postern-start-'))
  const at = (name: string) => join(directory, name)
  writeFileSync(at('gateway.yaml'), configuration(at, 'one'))
  writeFileSync(at('denied.yaml'), 'version: 1\nentries: []\n')
  writeFileSync(at('jwks.json'), JSON.stringify({ keys: [jwkOf(keys.good, { kid: 'k1' })] }))
  let toChange = change
  let logs = ''
  const reads: string[] = []
  const readFile = (path: string) => {
    reads.push(path)
    const bytes = readFileSync(path)
    if (toChange !== undefined && path === at(toChange.name)) {
      writeFileSync(path, toChange.to(at))
      toChange = undefined
    }
    return bytes
  }
  const app = await startApp(
    { file: at('gateway.yaml'), read: () => readFile(at('gateway.yaml')).toString('utf8') },
    {
      clock: { wallMs: Date.now, monotonicMs: () => performance.now() },
      random: () => 0,
      randomBytes,
      env: {},
      readFile,
      fileMode: (path) => statSync(path).mode,
      write(chunk, done) {
        logs += chunk
        done()
      },
      version: 'test',
      revision: '',
    },
  )
  assert.ok(app.kind === 'running')
  return {
    app,
    reads,
    /** Ends it, so that all it has logged is there. */
    async events() {
      await app.close()
      return [...logs.matchAll(/"event.name":"([^"]+)"/g)].map(([, name]) => name)
    },
    async [Symbol.asyncDispose]() {
      await app.close()
      rmSync(directory, { recursive: true })
    },
  }
}

function configuration(at: At, rule: string): string {
  return JSON.stringify({
    version: 1,
    listen: { proxy: any, health: any, admin: any },
    upstream: { url: 'http://127.0.0.1:9' },
    issuers: [{ issuer: 'https://issuer.test', audience: 'api', jwks: { file: at('jwks.json') } }],
    blacklist: { local: { file: at('denied.yaml') } },
    rules: [{ id: rule, match: { path: `/${rule}` }, public: true }],
  })
}

test('startApp() takes up the configuration that changed while it started', async () => {
  await using gateway = await startWhileChanging({ name: 'gateway.yaml', to: (at) => configuration(at, 'two') })

  const question = { method: 'GET', url: 'http://gateway.test/two', token: undefined }
  assert.equal((await gateway.app.explain(question)).reason, 'public')
  assert.deepEqual(await gateway.events(), ['started', 'config_reloaded'])
})

test("startApp() takes up the operator's list that changed while it started", async () => {
  await using gateway = await startWhileChanging({
    name: 'denied.yaml',
    to: () => 'version: 1\nentries: [{ kind: sub, value: mallory }]\n',
  })

  assert.deepEqual(await gateway.events(), ['started', 'config_reloaded'])
})

test('startApp() says that a list is broken which was broken while it started', async () => {
  await using gateway = await startWhileChanging({ name: 'denied.yaml', to: () => 'version: 2\n' })

  assert.ok((await gateway.events()).includes('config_refused'))
})

test('startApp() reads nothing anew where nothing has changed', async () => {
  await using gateway = await startWhileChanging()

  await until(() => gateway.app.isReady(), 'the keys')
  const fetched = 'postern_jwks_refresh_total{issuer="https://issuer.test",result="success"}'
  assert.equal(gateway.app.counters().get(fetched), 1)
  assert.deepEqual(await gateway.events(), ['started'])
})

test('startApp() counts, and says once, that somebody fills its health listener, and is found alive meanwhile', async () => {
  await using it = await startWhileChanging()
  const { health } = it.app.ports
  const held = await Promise.all(
    Array.from({ length: 260 }, async () => {
      const socket = connect(health, '127.0.0.1')
      socket.on('error', () => {})
      await once(socket, 'connect')
      socket.write('GET /livez HTTP/1.1\r\n')
      return socket
    }),
  )

  const { status } = await fetch(`http://127.0.0.1:${health}/livez`)

  assert.equal(status, 200)
  const name = 'postern_connections_dropped_total{listener="health",cause="crowded"}'
  assert.equal(it.app.counters().get(name), 5)
  for (const socket of held) socket.destroy()
  assert.equal((await it.events()).filter((event) => event === 'connections_crowded').length, 1)
})

test('startApp() lets in no more connections than its container has memory for', async (t) => {
  t.mock.method(process, 'constrainedMemory', () => 128 * 1_048_576)
  await using it = await startWhileChanging()
  const name = 'postern_connections_dropped_total{listener="proxy",cause="memory"}'
  // 8 MiB of it, of 16 KiB each.
  const sockets: Socket[] = []
  using _ = { [Symbol.dispose]: () => sockets.forEach((socket) => void socket.destroy()) }
  const come = () => {
    const counted = it.app.counters()
    return (counted.get('postern_connections{listener="proxy"}') ?? 0) + (counted.get(name) ?? 0)
  }
  // Not all at once: of whom the kernel's queue has no room for, the gateway may never hear.
  while (sockets.length < 515) {
    const batch = Array.from({ length: 103 }, () => connect(it.app.ports.proxy, '127.0.0.1').on('error', () => {}))
    sockets.push(...batch)
    await until(() => come() === sockets.length, 'all that have come')
  }

  assert.equal(it.app.counters().get(name), 3)
  assert.equal(it.app.counters().get('postern_connections{listener="proxy"}'), 512)
})

test('startApp() reads once how many descriptors there are', async () => {
  await using it = await startWhileChanging()

  assert.equal(it.reads.filter((path) => path === '/proc/self/limits').length, 1)
})
