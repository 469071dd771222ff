// The gateway as a process, spoken to by the tools of nghttp2: a client that none of us has written.
import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { openUpstream } from '../gates/door.ts'
import { startGatewayProcess } from '../support/gateway-process.ts'

// A package of their own (`apt-get install nghttp2-client`); where it is missing, only CI insists.
const missing = spawnSync('h2load', ['--version']).error !== undefined && process.env['CI'] !== 'true'
const run = promisify(execFile)
const options = { skip: missing } as const

async function openWorld() {
  const upstream = await openUpstream((request, response) => {
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    request.on('end', () => {
      if (request.url !== '/trailers') {
        response.end(`got ${bytes}`)
        return
      }
      response.writeHead(200, { trailer: 'x-last' })
      response.write('with trailers')
      response.addTrailers({ 'x-last': 'words' })
      response.end()
    })
  })
  const gateway = await startGatewayProcess({
    upstream: { url: `http://127.0.0.1:${upstream.port}` },
    rules: [{ id: 'open', match: { path: '/**' }, public: true, insecure: true }],
  })
  return {
    gateway,
    url: `http://127.0.0.1:${gateway.proxyPort}`,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await upstream[Symbol.asyncDispose]()
    },
  }
}

test('h2load has every request answered, on many streams of a few sessions', options, async () => {
  await using world = await openWorld()

  const { stdout } = await run('h2load', ['-n', '2000', '-c', '4', '-m', '50', `${world.url}/a`])

  assert.match(stdout, /2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout/)
  assert.match(stdout, /2000 2xx, 0 3xx, 0 4xx, 0 5xx/)
  assert.equal((await world.gateway.metrics()).get('postern_requests_in_flight{listener="proxy"}'), 0)
})

test('h2load has every body taken', options, async () => {
  await using world = await openWorld()
  const directory = mkdtempSync(join(tmpdir(), 'postern-h2load-'))
  const file = join(directory, 'body')
  writeFileSync(file, Buffer.alloc(200_000))

  const { stdout } = await run('h2load', ['-n', '200', '-c', '2', '-m', '20', '-d', file, `${world.url}/a`])

  rmSync(directory, { recursive: true })
  assert.match(stdout, /200 succeeded, 0 failed, 0 errored, 0 timeout/)
  assert.match(stdout, /200 2xx, 0 3xx, 0 4xx, 0 5xx/)
})

test('nghttp sees the trailers of an answer', options, async () => {
  await using world = await openWorld()

  const { stdout } = await run('nghttp', ['-v', `${world.url}/trailers`])

  assert.match(stdout, /:status: 200/)
  assert.match(stdout, /with trailers/)
  assert.match(stdout, /x-last: words/)
  assert.match(stdout, /; END_STREAM \| END_HEADERS/)
})
