// `postern serve` over its life: reload, drain, signals.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { program } from '../support/program.ts'
import { openLane } from '../support/raw-lane.ts'
import { until } from '../support/until.ts'
import type { Started } from './process.ts'
import { directory, runToEnd, start } from './process.ts'

function configuration(rule: string, { upstream = 9, drain = '{ delay: 0s }' } = {}): string {
  return `version: 1
listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0' }
upstream: { url: 'http://127.0.0.1:${upstream}' }
drain: ${drain}
rules:
  - { id: ${rule}, match: { path: /${rule} }, public: true }
`
}

type Serving = Started & {
  readonly proxy: string
  readonly health: string
  readonly admin: string
  readonly events: (name: string) => Line[]
}
type Line = Readonly<Record<string, unknown>>

/** Starts the gateway and reads from its log where it listens. */
async function serve(file: string, options?: Parameters<typeof start>[1]): Promise<Serving> {
  const started = start(['serve', '--config', file], options)
  const events = (name: string) =>
    started
      .stdout()
      .split('\n')
      .filter((line) => line.includes(`"${name}"`))
      .map((line) => JSON.parse(line) as Line) // our own log: one object a line
  await until(() => events('started').length > 0 || started.child.exitCode !== null, 'the gateway to start')
  const [line] = events('started')
  assert.ok(line !== undefined, started.stderr())
  const at = (port: unknown) => `http://127.0.0.1:${String(port)}`
  return {
    ...started,
    proxy: at(line['proxy_port']),
    health: at(line['health_port']),
    admin: at(line['admin_port']),
    events,
  }
}

async function statusOf(url: string): Promise<number> {
  const answer = await fetch(url)
  await answer.arrayBuffer()
  return answer.status
}

async function textOf(url: string): Promise<string> {
  return await (await fetch(url)).text()
}

/** A service that answers when it is told to. */
async function openService(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  const close = () => {
    server.closeAllConnections()
    server.close()
  }
  return { port, [Symbol.dispose]: close }
}

test('SIGHUP swaps in a good configuration', async () => {
  using service = await openService((_, response) => response.end('ok'))
  using files = directory()
  const file = files.write('gateway.yaml', configuration('old', { upstream: service.port }))
  using gateway = await serve(file)
  assert.equal(await statusOf(`${gateway.proxy}/old`), 200)

  writeFileSync(file, configuration('new', { upstream: service.port }))
  gateway.child.kill('SIGHUP')

  await until(() => gateway.events('config_reloaded').length > 0, 'the reload')
  assert.equal(await statusOf(`${gateway.proxy}/new`), 200)
  assert.equal(await statusOf(`${gateway.proxy}/old`), 403)
  assert.match(await textOf(`${gateway.health}/metrics`), /^postern_config_reloads_total\{result="success"\} 1$/m)
})

test('SIGHUP with a broken configuration keeps the old one, and log, /readyz?verbose and metrics say so', async () => {
  using service = await openService((_, response) => response.end('ok'))
  using files = directory()
  const file = files.write('gateway.yaml', configuration('old', { upstream: service.port }))
  using gateway = await serve(file)

  writeFileSync(file, `${configuration('new', { upstream: service.port })}surprise: 1\n`)
  gateway.child.kill('SIGHUP')

  await until(() => gateway.events('config_refused').length > 0, 'the refusal')
  assert.match(String(gateway.events('config_refused')[0]?.['error']), /gateway\.yaml:7:1: .*surprise/)
  assert.equal(await statusOf(`${gateway.proxy}/old`), 200)
  assert.equal(await statusOf(`${gateway.proxy}/new`), 403)
  const ready = await textOf(`${gateway.health}/readyz?verbose`)
  assert.match(ready, /^\[!\] configuration file: .*:7:1: .*surprise/m)
  assert.match(ready, /^ok$/m, 'a pod that serves stays ready')
  const metrics = await textOf(`${gateway.health}/metrics`)
  assert.match(metrics, /^postern_config_reloads_total\{result="failure"\} [1-9]/m)
  assert.match(metrics, /^postern_config_last_reload_successful 0$/m)

  writeFileSync(file, configuration('new', { upstream: service.port }))
  gateway.child.kill('SIGHUP')

  await until(async () => (await statusOf(`${gateway.proxy}/new`)) === 200, 'the mended configuration')
  assert.match(await textOf(`${gateway.health}/readyz?verbose`), /^\[\+\] configuration file: in use$/m)
  assert.match(await textOf(`${gateway.health}/metrics`), /^postern_config_last_reload_successful 1$/m)
})

test('needs_restart names what differs from the start, also after a reload in between, as a warning, and so do /readyz?verbose and /status', async () => {
  using files = directory()
  const file = files.write('gateway.yaml', configuration('a'))
  using gateway = await serve(file)
  const limits = 'limits: { headers: 50 }\n'
  const steps = [
    { text: configuration('a') + limits, restart: 'limits', said: '[!] configuration file: in use, but limits only' },
    { text: configuration('b') + limits, restart: 'limits', said: '[!] configuration file: in use, but limits only' },
    { text: configuration('b'), restart: '', said: '[+] configuration file: in use\n' },
  ]

  for (const [at, { text, restart, said }] of steps.entries()) {
    writeFileSync(file, text)
    gateway.child.kill('SIGHUP')
    await until(() => gateway.events('config_reloaded').length > at, 'the reload')
    const line = gateway.events('config_reloaded')[at]
    assert.deepEqual([line?.['needs_restart'], line?.['severity_text']], [restart, restart === '' ? 'INFO' : 'WARN'])
    const status = JSON.parse(await textOf(`${gateway.admin}/status`)) as { configuration: { needs_restart: string[] } }
    assert.equal(status.configuration.needs_restart.join(' '), restart)
    assert.ok((await textOf(`${gateway.health}/readyz?verbose`)).includes(said), said)
  }
})

test('a named pipe in place of a list is refused, and holds up nobody', async () => {
  using files = directory()
  const list = files.write('list.yaml', 'version: 1\nentries: []\n')
  const named = `blacklist: { local: { file: '${list}' } }\n`
  using gateway = await serve(files.write('gateway.yaml', configuration('a') + named))

  execFileSync('mkfifo', [`${list}.new`])
  renameSync(`${list}.new`, list)

  await until(() => gateway.events('config_refused').length > 0, 'the refusal')
  assert.equal(await statusOf(`${gateway.health}/livez`), 200)
  assert.match(
    String(gateway.events('config_refused')[0]?.['error']),
    /cannot be read \(it is a pipe or a device, no regular file\)$/,
  )
})

test('a ConfigMap swap, symbolic links and no signal, is noticed', async () => {
  using service = await openService((_, response) => response.end('ok'))
  using files = directory()
  const at = (name: string) => join(files.path, name)
  for (const version of ['old', 'new']) {
    mkdirSync(at(`..${version}`))
    files.write(`..${version}/gateway.yaml`, configuration(version, { upstream: service.port }))
  }
  symlinkSync('..old', at('..data'))
  symlinkSync('..data/gateway.yaml', at('gateway.yaml'))
  using gateway = await serve(at('gateway.yaml'))
  assert.equal(await statusOf(`${gateway.proxy}/old`), 200)

  // As the kubelet does it: a new link beside the old one, then a rename over it, then the old directory goes.
  symlinkSync('..new', at('..data_tmp'))
  renameSync(at('..data_tmp'), at('..data'))
  rmSync(at('..old'), { recursive: true })

  await until(async () => (await statusOf(`${gateway.proxy}/new`)) === 200, 'the swap')
  assert.equal(gateway.events('config_refused').length, 0, 'no moment in which the file seemed gone')
})

test('a configuration that the shell pipes in is not asked of it again', async () => {
  using files = directory()
  const file = files.write('gateway.yaml', configuration('a'))
  // A group, or only the shell would be ended.
  const command = ['cat "$0" | "$1" "$2" serve --config /dev/stdin', file, process.execPath, program]
  const child = spawn('sh', ['-c', ...command], { detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
  let told = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    told += text
  })
  try {
    await until(() => told.includes('"started"') || child.exitCode !== null, 'the gateway to start')
    process.kill(-Number(child.pid), 'SIGTERM')
    await once(child, 'close')
  } finally {
    if (child.exitCode === null) process.kill(-Number(child.pid), 'SIGKILL')
  }

  assert.deepEqual(
    [...told.matchAll(/"event.name":"([^"]+)"/g)].map(([, name]) => name),
    ['started', 'draining', 'stopped'],
  )
})

test('SIGTERM: unready at once, still serving for drain.delay, the request in flight finishes, then 0', async () => {
  const held = Promise.withResolvers<ServerResponse>()
  using service = await openService((request, response) =>
    request.headers['x-slow'] === undefined ? response.end('ok') : held.resolve(response),
  )
  using files = directory()
  const drain = '{ delay: 1s, timeout: 10s }'
  using gateway = await serve(files.write('gateway.yaml', configuration('a', { upstream: service.port, drain })))
  assert.equal(await statusOf(`${gateway.health}/readyz`), 200)
  const slow = fetch(`${gateway.proxy}/a`, { headers: { 'x-slow': '1' } })
  const upstreamAnswer = await held.promise

  gateway.child.kill('SIGTERM')

  await until(async () => (await statusOf(`${gateway.health}/readyz`)) === 503, 'readiness to go')
  assert.match(await textOf(`${gateway.health}/readyz?verbose`), /^\[-\] drain: draining$/m)
  assert.equal(await statusOf(`${gateway.health}/livez`), 200)
  assert.equal(await statusOf(`${gateway.proxy}/a`), 200, 'who has not heard of it is still served')
  await until(async () => !(await connects(`${gateway.proxy}/a`)), 'the door to close')
  assert.equal(gateway.child.exitCode, null, 'it waits for what is in flight')
  const finishedMs = performance.now()
  upstreamAnswer.end('late')
  assert.equal(await (await slow).text(), 'late')
  assert.equal(await gateway.ended, 0, gateway.stderr())
  assert.equal(gateway.events('stopped').length, 1)
  assert.ok(performance.now() - finishedMs < 5000, 'the connection kept for a next request is not waited for')
})

test('a second SIGTERM ends the process at once', async () => {
  using files = directory()
  const drain = '{ delay: 1h }'
  using gateway = await serve(files.write('gateway.yaml', configuration('a', { drain })))

  gateway.child.kill('SIGTERM')
  await until(() => gateway.events('draining').length > 0, 'the first to be heard')
  gateway.child.kill('SIGTERM')

  assert.equal(await gateway.ended, 1)
})

test('a request that outlasts drain.timeout does not keep the process', async () => {
  const held = Promise.withResolvers<void>()
  using service = await openService(() => held.resolve())
  using files = directory()
  const drain = '{ delay: 0s, timeout: 200ms }'
  using gateway = await serve(files.write('gateway.yaml', configuration('a', { upstream: service.port, drain })))
  const cut = assert.rejects(fetch(`${gateway.proxy}/a`))
  await held.promise

  gateway.child.kill('SIGTERM')

  assert.equal(await gateway.ended, 0)
  assert.equal(gateway.events('stopped')[0]?.['cut_off'], 1)
  await cut
})

test('postern serve warns of a limit of descriptors that is less than limits.connections may need', {
  skip: process.platform !== 'linux' && 'prlimit is of Linux',
}, async () => {
  using files = directory()
  const file = files.write('gateway.yaml', `${configuration('a')}limits: { connections: 1000 }\n`)

  using short = await serve(file, { descriptors: 1831 })
  using enough = await serve(file, { descriptors: 1832 })

  const [warned] = short.events('descriptors_short')
  assert.deepEqual([warned?.['severity_text'], warned?.['limit'], warned?.['wanted']], ['WARN', 1831, 1832])
  assert.deepEqual(enough.events('descriptors_short'), [])
})

test('postern serve keeps descriptors for its probes and its upstream, whatever one client holds', {
  skip: process.platform !== 'linux' && 'prlimit is of Linux',
}, async () => {
  using service = await openService((_, response) => response.end('ok'))
  using files = directory()
  const file = files.write('gateway.yaml', configuration('a', { upstream: service.port }))
  using gateway = await serve(file, { descriptors: 256 })
  using lane = await openLane(Number(new URL(gateway.proxy).port))
  const statuses = async () => [(await lane.get('/a', '')).status, await statusOf(`${gateway.health}/livez`)]
  assert.deepEqual(await statuses(), [200, 200])

  const held = Array.from({ length: 300 }, () => {
    const socket = connect(Number(new URL(gateway.proxy).port), '127.0.0.1')
    return socket.on('error', () => {})
  })
  await until(() => held.some(({ closed }) => closed), 'the excess to be dropped')

  assert.deepEqual(await statuses(), [200, 200])
  assert.match(
    await textOf(`${gateway.health}/metrics`),
    /connections_dropped_total\{listener="proxy",cause="limit"\} [1-9]/,
  )
  for (const socket of held) socket.destroy()
})

for (const workers of [1, 2])
  test(`postern serve asks an issuer that hangs no more at a time than there are descriptors for, with ${workers} serving`, {
    skip: process.platform !== 'linux' && 'prlimit is of Linux',
  }, async () => {
    let asked = 0
    // Never answered.
    using issuer = await openService(({ url }) => {
      if (url === '/introspect') asked += 1
    })
    using files = directory()
    const url = `http://127.0.0.1:${issuer.port}`
    const secret = JSON.stringify(files.write('secret', 'secret'))
    const file = files.write(
      'gateway.yaml',
      `${configuration('a').replace('public: true', '')}workers: ${workers}
issuers:
  - issuer: ${url}
    audience: api
    jwks_uri: ${url}/keys
    introspection_endpoint: ${url}/introspect
    introspection: { client_id: gateway, client_secret: { file: ${secret} } }
`,
    )
    using gateway = await serve(file, { descriptors: 256 })
    using stack = new DisposableStack()
    const session = stack.adopt(connectHttp2(gateway.proxy), (each) => each.destroy())

    const answers = Array.from({ length: 90 }, async (_, at) => {
      const stream = session.request({ ':path': '/a', authorization: `Bearer opaque-${at}` })
      const [head] = await once(stream.end().resume(), 'response')
      return head[':status']
    })

    assert.equal(await Promise.race(answers), 503)
    // A third of what is not the listeners' and our own, and four of that are for keys and the like.
    assert.equal(asked, 49)
    await Promise.all(answers)
  })

test('postern serve keeps descriptors to start workers with, however many connect while all of them are gone', {
  skip: process.platform !== 'linux' && 'prlimit is of Linux',
}, async () => {
  using files = directory()
  const file = files.write('gateway.yaml', `${configuration('a')}workers: 2\n`)
  using gateway = await serve(file, { descriptors: 256 })
  const { pid } = gateway.child
  const workers = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number)
  assert.equal(workers.length, 2)
  for (const worker of workers) process.kill(worker, 'SIGKILL')
  const held = new Set<Socket>()
  using stack = new DisposableStack()
  stack.defer(() => {
    for (const socket of held) socket.removeAllListeners('close').destroy()
  })
  const hold = () => {
    const socket = connect(Number(new URL(gateway.proxy).port), '127.0.0.1').on('error', () => {})
    held.add(socket)
    socket.on('close', () => {
      held.delete(socket)
      stack.adopt(setTimeout(hold, 300), clearTimeout)
    })
  }
  for (let count = 0; count < 400; count += 1) hold()

  await until(() => gateway.events('worker_started').length === 4, 'both to be started anew')

  assert.equal(await statusOf(`${gateway.health}/livez`), 200)
})

for (const name of ['proxy', 'health', 'admin']) {
  test(`postern serve exits with 1 and names the key when listen.${name} is taken`, async () => {
    using service = await openService((_, response) => response.end())
    using files = directory()
    const text = configuration('a').replace(`${name}: '127.0.0.1:0'`, `${name}: '127.0.0.1:${service.port}'`)

    const { code, stderr } = await runToEnd(['serve', '--config', files.write('gateway.yaml', text)])

    assert.equal(code, 1)
    const said = `Cannot listen on listen.${name} 127.0.0.1:${service.port}: it is in use (EADDRINUSE)`
    assert.equal(stderr, `postern: ${said}\n`)
  })
}

test('postern health and the image read no configuration: the file may be broken, or wait for a restart, while the gateway is well', async () => {
  const dockerfile = readFileSync(join(import.meta.dirname, '../../Dockerfile'), 'utf8')
  const command = /^HEALTHCHECK .* CMD (\[.*\])$/m.exec(dockerfile)?.[1] ?? '[]'

  assert.deepEqual(JSON.parse(command), ['node', 'dist/main.js', 'health'])
  assert.equal((await runToEnd(['health', '--config', 'gateway.yaml'])).code, 2)
})

test('postern health is 0 for a gateway that answers, 1 for one that is not ready or not there', async () => {
  using service = await openService((_, response) => response.end('ok'))
  using files = directory()
  const unready = `${configuration('a')}issuers:\n  - { issuer: 'http://127.0.0.1:${service.port}/none', audience: x }\n`
  using gateway = await serve(files.write('gateway.yaml', unready))

  const live = await runToEnd(['health', '--url', `${gateway.health}/livez`])
  const ready = await runToEnd(['health', '--url', `${gateway.health}/readyz`])
  gateway.child.kill('SIGTERM')
  const signalledMs = performance.now()
  assert.equal(await gateway.ended, 0)
  assert.ok(performance.now() - signalledMs < 5000, 'nothing waits for drain.timeout, 20 s, where nothing is in flight')
  const gone = await runToEnd(['health', '--url', `${gateway.health}/livez`])

  assert.deepEqual([live.code, live.stdout], [0, 'ok\n'])
  assert.equal(ready.code, 1)
  assert.match(ready.stdout, /^not ok: keys of/)
  assert.equal(gone.code, 1)
  assert.match(gone.stderr, /^postern: Cannot GET http:.*ECONNREFUSED$/m)
})

async function connects(url: string): Promise<boolean> {
  try {
    await statusOf(url)
    return true
  } catch {
    return false
  }
}
