import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A server on this machine that answers by path, until disposed of. */
export type StubServer = Disposable & { readonly port: number; readonly url: string }

/** Starts one; what no route takes goes to `rest`, or is 404. A route that never answers hangs its client. */
export async function startStub(
  routes: Readonly<Record<string, (response: ServerResponse, request: IncomingMessage) => void>>,
  rest?: (response: ServerResponse, request: IncomingMessage) => void,
): Promise<StubServer> {
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const [path = ''] = (request.url ?? '').split('?')
    const route = Object.hasOwn(routes, path) ? routes[path] : rest
    if (route === undefined) response.writeHead(404).end()
    else route(response, request)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    [Symbol.dispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** Answers with JSON. */
export function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  const text = JSON.stringify(body)
  response
    .writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    .end(text)
}
