// Clients that look at an answer only when they have sent everything, as urllib3 and Apache HttpClient do: they are told, too.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempDisposableSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { readResponse, valuesOf } from '../support/strict-reader.ts'
import { openScripted, openWorldBefore } from './scripted-upstream.ts'

const bodyBytes = 5 * 1_048_576
const rules = [
  { id: 'open', match: { path: '/open/**' }, public: true },
  { id: 'small', match: { path: '/small' }, public: true, max_body: 1000 },
  { id: 'orders', match: { path: '/orders/**' }, scopes: ['read'] },
] as const

const lengthLine = `Content-Length: ${bodyBytes}`
const refusals = [
  { what: 'a denial', target: '/orders/7', framing: lengthLine, status: 401 },
  { what: 'a limit', target: '/small', framing: 'Transfer-Encoding: chunked', status: 413 },
  { what: 'the service', target: '/open/early', framing: lengthLine, status: 409 },
] as const

/** Sends all of a request, reads nothing before, and tells what came until the connection ended. */
async function upload(socket: Socket, target: string, framing: string): Promise<string> {
  socket.pause()
  let received = ''
  const failed = once(socket, 'error').then(([error]) => Promise.reject(error))
  failed.catch(() => {})
  const body = Buffer.alloc(bodyBytes, 'x')
  socket.write(`POST ${target} HTTP/1.1\r\nHost: a.test\r\n${framing}\r\n\r\n`)
  if (framing !== lengthLine) socket.write(`${bodyBytes.toString(16)}\r\n`)
  const sent = new Promise((resolve) => socket.write(body, resolve))
  await Promise.race([sent, failed])
  // For a reset, if there is one.
  await wait(300)
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1')
  })
  socket.resume()
  await Promise.race([once(socket, 'end', { signal: AbortSignal.timeout(5000) }), failed])
  return received
}

for (const secured of [false, true])
  test(`an upload of 5 MiB that is refused is answered${secured ? ' under TLS' : ''}, also where its client reads nothing before it has sent all`, {
    skip: secured && skipWithoutOpenssl,
  }, async () => {
    await using stack = new AsyncDisposableStack()
    const upstream = stack.use(await openScripted(() => assert.fail('an upload came whole')))
    upstream.onHead = (socket) => {
      socket.pause()
      socket.write('HTTP/1.1 409 Conflict\r\nContent-Length: 7\r\n\r\nnot now')
    }
    const authority = secured ? stack.use(createAuthority()) : undefined
    const world = stack.use(await openWorldBefore(upstream, {}, rules, authority && { listen: secureListen() }))

    for (const { what, target, framing, status } of refusals) {
      const port = world.app.ports.proxy
      const below = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
      const socket = authority ? connectTls({ socket: below, ca: authority.ca, servername: 'localhost' }) : below
      stack.defer(() => void socket.destroy())
      await once(socket, authority ? 'secureConnect' : 'connect')

      const answer = readResponse(await upload(socket, target, framing), 0, 'POST', true)

      assert.ok(answer.kind === 'message', `${what}: ${JSON.stringify(answer)}`)
      assert.deepEqual([what, answer.status, valuesOf(answer, 'connection')], [what, status, ['close']])
    }

    function secureListen() {
      const directory = stack.use(mkdtempDisposableSync(join(tmpdir(), 'postern-uploads-')))
      const pair = authority?.issue('a.test')
      const write = (name: string, text = '') => {
        const file = join(directory.path, name)
        writeFileSync(file, text, { mode: 0o600 })
        return { file }
      }
      const tls = { cert: write('cert.pem', pair?.cert), key: write('key.pem', pair?.key) }
      return { proxy: '127.0.0.1:0', health: '127.0.0.1:0', admin: '127.0.0.1:0', tls }
    }
  })
