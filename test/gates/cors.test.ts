import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:http2'
import { test } from 'node:test'
import { load } from '../../src/config/load.ts'
import { formatProblem } from '../../src/config/problems.ts'
import { findGatewayConflicts, gatewayOptions } from '../../src/config/schema.ts'
import { openUpstream, talk } from './door.ts'
import { openScene } from './stream-scene.ts'

const app = 'https://app.example.com'
const cors = { allow_origins: [app], expose_headers: ['X-Total'] }
const ask = (method: string, ...lines: string[]) =>
  `${method} /plain/a HTTP/1.1\r\nHost: a.test\r\n${lines.map((line) => `${line}\r\n`).join('')}Connection: close\r\n\r\n`
const preflight = (origin: string) => ask('OPTIONS', `Origin: ${origin}`, 'Access-Control-Request-Method: PUT')

/** A service that says who asked, and what it thinks of other origins. */
async function openService(asked: (string | undefined)[]) {
  return await openUpstream((request, response) => {
    asked.push(request.method)
    response.setHeader('access-control-allow-origin', '*')
    response.setHeader('access-control-allow-credentials', 'true')
    response.setHeader('vary', 'accept')
    response.end(request.headers.origin)
  })
}

test('createHandler() answers a preflight itself: 204, counted as public, never forwarded', async () => {
  const asked: (string | undefined)[] = []
  await using service = await openService(asked)
  await using scene = await openScene(service.port, { cors })
  const text = await talk(scene.port, preflight(app))
  const unknown = await talk(scene.port, preflight('https://evil.example'))

  assert.match(text, /^HTTP\/1\.1 204 /)
  assert.match(text, /\r\nAccess-Control-Allow-Origin: https:\/\/app\.example\.com\r\n/)
  assert.match(text, /\r\nAccess-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n/)
  assert.match(text, /\r\nAccess-Control-Allow-Headers: Authorization, Content-Type\r\n/)
  assert.match(text, /\r\nAccess-Control-Max-Age: 600\r\n/)
  assert.match(unknown, /^HTTP\/1\.1 204 .*\r\nVary: Origin\r\n/s)
  assert.doesNotMatch(unknown, /access-control/i)
  assert.deepEqual(asked, [])
  const counted = 'postern_decisions_total{decision="allow",reason="public",issuer="",mode="none"}'
  assert.equal(scene.count(counted), 2)
})

test('createHandler() measures no time of the upstream for a preflight, which that never sees', async () => {
  await using service = await openService([])
  await using scene = await openScene(service.port, { cors })
  await talk(scene.port, preflight(app))
  await talk(scene.port, ask('GET', `Authorization: Bearer ${scene.mint()}`))

  const told = await (await fetch(`http://127.0.0.1:${scene.app.ports.health}/metrics`)).text()
  assert.match(told, /^postern_upstream_request_duration_seconds_count\{code="2xx"\} 1$/m)
})

test('createHandler() keeps a connection after a preflight, and judges what follows it', async () => {
  const asked: (string | undefined)[] = []
  await using service = await openService(asked)
  await using scene = await openScene(service.port, { cors })
  const text = await talk(
    scene.port,
    preflight(app).replace('Connection: close\r\n', '') + ask('PUT', `Origin: ${app}`),
  )

  assert.match(text, /^HTTP\/1\.1 204 .*HTTP\/1\.1 401 /s)
  assert.deepEqual(asked, [])
})

test('createHandler() lets scripts of a listed origin read that a head of HTTP/2 was too large', async () => {
  await using service = await openService([])
  await using scene = await openScene(service.port, { cors })
  const session = connect(`http://127.0.0.1:${scene.port}`)
  const many = Object.fromEntries(Array.from({ length: 101 }, (_, at) => [`x-${at}`, 'a']))
  const [head] = await once(session.request({ ':path': '/plain/a', origin: app, ...many }), 'response')
  session.destroy()

  assert.equal(head[':status'], 431)
  assert.equal(head['access-control-allow-origin'], app)
})

test('createHandler() lets scripts of a listed origin read answers, and its own denials', async () => {
  await using service = await openService([])
  await using scene = await openScene(service.port, { cors })
  const token = `Authorization: Bearer ${scene.mint()}`
  const allowed = await talk(scene.port, ask('GET', `Origin: ${app}`, token))
  const denied = await talk(scene.port, ask('GET', `Origin: ${app}`))
  const stranger = await talk(scene.port, ask('GET', 'Origin: https://evil.example', token))
  const nobody = await talk(scene.port, ask('GET', token))

  for (const [text, status] of [
    [allowed, 200],
    [denied, 401],
  ] as const) {
    assert.ok(text.startsWith(`HTTP/1.1 ${status} `))
    assert.deepEqual(text.match(/access-control-allow-origin: .*/gi), [
      'Access-Control-Allow-Origin: https://app.example.com',
    ])
    assert.doesNotMatch(text, /credentials/i)
    assert.match(text, /\r\nAccess-Control-Expose-Headers: X-Total\r\n/)
    assert.match(text, /\r\nVary: Origin\r\n/)
  }
  assert.ok(allowed.endsWith(app), 'the upstream is told the origin')
  for (const text of [stranger, nobody]) {
    assert.match(text, /^HTTP\/1\.1 200 .*\r\nVary: Origin\r\n/s)
    assert.doesNotMatch(text, /access-control/i)
  }
})

test('createHandler() without cors treats OPTIONS like any method, and answers pass as they are', async () => {
  const asked: (string | undefined)[] = []
  await using service = await openService(asked)
  await using scene = await openScene(service.port)

  assert.match(await talk(scene.port, preflight(app)), /^HTTP\/1\.1 401 /)
  const text = await talk(
    scene.port,
    preflight(app).replace('\r\n\r\n', `\r\nAuthorization: Bearer ${scene.mint()}\r\n\r\n`),
  )
  assert.match(text, /^HTTP\/1\.1 200 .*\r\naccess-control-allow-origin: \*\r\n/s)
  assert.deepEqual(asked, ['OPTIONS'])
})

test('createHandler() refuses a preflight that is no good request, cors or not', async () => {
  await using service = await openService([])
  await using scene = await openScene(service.port, { cors, hosts: ['a.test'] })

  assert.match(
    await talk(scene.port, preflight(app).replace('/plain/a', '/plain/../a')),
    /^HTTP\/1\.1 400 .*path_rejected/s,
  )
  assert.match(
    await talk(scene.port, preflight(app).replace('a.test', 'b.test')),
    /^HTTP\/1\.1 400 .*request_malformed/s,
  )
})

test('gatewayOptions refuses * with credentials, with a caret under the *', () => {
  const text = [
    'version: 1',
    'upstream: { url: http://127.0.0.1:3000 }',
    "cors: { allow_credentials: true, allow_origins: ['*'] }",
    'rules: [{ match: { path: /a }, public: true }]',
    '',
  ].join('\n')
  const read = load(gatewayOptions, { file: 'gateway.yaml', text }, { env: {} }, findGatewayConflicts)

  assert.ok(read.kind === 'refused')
  const [problem, ...others] = read.problems
  assert.deepEqual(others, [])
  assert.ok(problem !== undefined)
  assert.deepEqual([problem.line, problem.column], [3, 50])
  assert.match(formatProblem(problem, { color: false }), /expected origins by name.*\n.*\n *\|? *\^/s)
})
