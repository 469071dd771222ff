// Two ends of one connection on loopback.
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'

/** Both ends, half-open as those of the front door are. */
export type Pair = AsyncDisposable & { readonly near: Socket; readonly far: Socket }

/** Opens a connection. Nothing is read of it until somebody listens. */
export async function openPair(): Promise<Pair> {
  const server = createServer({ allowHalfOpen: true, noDelay: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // listening on a port
  const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  const [near] = (await once(server, 'connection')) as [Socket]
  server.close()
  near.on('error', () => {})
  far.on('error', () => {})
  return {
    near,
    far,
    async [Symbol.asyncDispose]() {
      near.destroy()
      far.destroy()
    },
  }
}
