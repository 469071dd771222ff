import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer } from 'node:net'
import type { HttpCallFailure } from '../../src/io/http-client.ts'
import { HttpCallFailed } from '../../src/io/http-client.ts'

/** A server of bytes on loopback, and what it was sent. */
export type Peer = AsyncDisposable & { readonly port: number; readonly url: string; readonly heads: readonly string[] }

/**
 * A server of bytes: calls back with each request's head (and what came with it), its connection, the connection's
 * number and the request's number on it, all from 1.
 */
export async function peer(
  answer: (head: string, socket: Socket, connection: number, request: number) => void,
): Promise<Peer> {
  const sockets = new Set<Socket>()
  const heads: string[] = []
  let connections = 0
  const server: Server = createServer((socket) => {
    connections += 1
    const connection = connections
    let requests = 0
    let received = ''
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      if (!received.includes('\r\n\r\n')) return
      requests += 1
      const head = received
      received = ''
      heads.push(head)
      answer(head, socket, connection, requests)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a host and a port
  return {
    port,
    url: `http://127.0.0.1:${port}/jwks?secret=in-the-query`,
    heads,
    async [Symbol.asyncDispose]() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** The least of an answer. */
export const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** Fails with the kind, and with a message that shows nothing of the call but method, URL without query, and error code. */
export async function failsWith(kind: HttpCallFailure, sending: Promise<unknown>): Promise<HttpCallFailed> {
  let failure: HttpCallFailed | undefined
  await assert.rejects(sending, (error) => {
    assert.ok(error instanceof HttpCallFailed)
    assert.equal(error.kind, kind, error.message)
    assert.equal(error.code, 'ERR_HTTP_CALL_FAILED')
    assert.doesNotMatch(error.message, /secret|\?/)
    failure = error
    return true
  })
  assert.ok(failure !== undefined)
  return failure
}
