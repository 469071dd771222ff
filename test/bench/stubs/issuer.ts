// An issuer as a gateway asks it: introspection of opaque tokens, and blacklists of any size. Prints its port.
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const lifeS = 7200

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://stub')
  const [, what, size] = pathname.split('/')
  if (what === 'blacklist')
    return void sendPage(response, Number(size), Number(searchParams.get('cursor')), Number(searchParams.get('limit')))
  let body = ''
  request.on('data', (chunk: Buffer) => {
    body += chunk.toString('latin1')
  })
  request.on('end', () => introspect(response, new URLSearchParams(body).get('token') ?? ''))
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo // listening on a port
  process.stdout.write(`${port}\n`)
})

/** Good is what begins as the bench's opaque tokens do. */
function introspect(response: ServerResponse, token: string): void {
  if (!token.startsWith('opaque-')) return void send(response, { active: false })
  const iat = Math.floor(Date.now() / 1000)
  const names = { iss: 'https://bench.example', aud: 'api', client_id: 'web', sub: token, scope: 'read write' }
  send(response, { active: true, token_type: 'Bearer', ...names, iat, exp: iat + lifeS, jti: token })
}

/** A page of the feed: as many entries as the list is long, and never another one. */
function sendPage(response: ServerResponse, size: number, cursor: number, limit: number): void {
  const now = Math.floor(Date.now() / 1000)
  const entries = Array.from({ length: Math.max(0, Math.min(limit, size - cursor)) }, (_, at) => ({
    seq: cursor + at + 1,
    kind: 'jti',
    value: `revoked-${cursor + at + 1}`,
    issued_before: now,
    revoked_at: now,
    expires_at: now + lifeS,
    cause: 'owner',
  }))
  const last = cursor + entries.length
  send(response, {
    epoch: 'bench',
    cursor: String(last),
    more: last < size,
    server_time: now,
    total_live: size,
    reset: false,
    entries,
  })
}

function send(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}
