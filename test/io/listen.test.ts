import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { listenAddress, listenAs, listenOn } from '../../src/io/listen.ts'

function directory(): Disposable & { readonly at: (name: string) => string } {
  const path = mkdtempSync(join(tmpdir(), 'postern-socket-'))
  return {
    at: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  }
}

/** A socket whose process was killed. */
async function leaveStale(path: string): Promise<void> {
  const code = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  await once(spawn(process.execPath, ['-e', code], { stdio: 'ignore' }), 'exit')
  assert.ok(lstatSync(path).isSocket())
}

test('listenAddress() reads host and port, also of IPv6, and a path after unix:', () => {
  assert.deepEqual(listenAddress('127.0.0.1:8080'), { host: '127.0.0.1', port: 8080 })
  assert.deepEqual(listenAddress('[::1]:0'), { host: '::1', port: 0 })
  assert.deepEqual(listenAddress('unix:/run/a:1'), { path: '/run/a:1' })
})

test('listenOn() gives the port of an address, and refuses one that is taken', async () => {
  const [one, two] = [createServer(), createServer()]

  const port = await listenOn(one, { host: '127.0.0.1', port: 0 })

  assert.ok(port !== undefined && port > 0)
  await assert.rejects(listenOn(two, { host: '127.0.0.1', port }), { code: 'EADDRINUSE' })
  one.close()
})

test('listenOn() makes a socket for its user and group alone, and takes it away at the close', async () => {
  using files = directory()
  const server = createServer((socket) => socket.end('hello'))
  const path = files.at('a.sock')

  assert.equal(await listenOn(server, { path }), undefined)

  assert.equal(statSync(path).mode & 0o777, 0o660)
  const [said] = await once(connect(path), 'data')
  assert.equal(String(said), 'hello')
  server.close()
  await once(server, 'close')
  assert.equal(existsSync(path), false)
})

test('listenOn() replaces what a dead process left', async () => {
  using files = directory()
  const path = files.at('a.sock')
  await leaveStale(path)
  const server = createServer((socket) => socket.end('new'))

  await listenOn(server, { path })

  assert.equal(String((await once(connect(path), 'data'))[0]), 'new')
  server.close()
})

test('listenOn() refuses a path where somebody listens, and leaves it to him', async () => {
  using files = directory()
  const path = files.at('a.sock')
  const living = createServer((socket) => socket.on('error', () => {}).end('old'))
  await listenOn(living, { path })

  await assert.rejects(listenOn(createServer(), { path }), {
    message: `Cannot listen on unix:${path}: another process listens there`,
  })

  assert.equal(String((await once(connect(path), 'data'))[0]), 'old')
  living.close()
})

test('listenOn() says of a socket whose directory is missing what the system does not', async () => {
  using files = directory()
  const path = files.at('missing/app.sock')

  await assert.rejects(listenOn(createServer(), { path }), {
    message: `Cannot listen on unix:${path}: its directory is not there`,
  })
})

test('listenOn() removes nothing but a socket', async () => {
  using files = directory()
  const file = files.at('file')
  const link = files.at('link')
  writeFileSync(file, 'precious')
  await leaveStale(files.at('stale'))
  symlinkSync(files.at('stale'), link)

  for (const path of [file, link])
    await assert.rejects(listenOn(createServer(), { path }), {
      message: `Cannot listen on unix:${path}: what is there is no socket`,
    })

  assert.ok(existsSync(file) && existsSync(link))
})

test('listenAs() names the key whose address is none of this machine, or a name that is not found', async () => {
  const listening = listenOn(createServer(), { host: '203.0.113.1', port: 1 })
  const unknown = Promise.reject(Object.assign(new Error('not found'), { code: 'ENOTFOUND', syscall: 'getaddrinfo' }))

  await assert.rejects(listenAs('listen.health', '203.0.113.1:1', listening), {
    message: 'Cannot listen on listen.health 203.0.113.1:1: it is no address of this machine (EADDRNOTAVAIL)',
  })
  await assert.rejects(listenAs('listen.health', 'a.test:1', unknown), {
    message: 'Cannot listen on listen.health a.test:1: its name is not found (ENOTFOUND)',
  })
})

test('listenAs() lets what has nothing to do with listening through as it is', async () => {
  const error = new Error('Cannot use it')

  await assert.rejects(listenAs('listen.proxy', 'a:1', Promise.reject(error)), error)
})
