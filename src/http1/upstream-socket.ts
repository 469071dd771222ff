// Sockets to an upstream: of TCP or a path, plain or under TLS.
import type { Socket } from 'node:net'
import { connect as connectTcp } from 'node:net'
import type { SecureContext } from 'node:tls'
import { connect as connectTls } from 'node:tls'
import { lendReads } from './lent-reads.ts'
import type { OpenSocket } from './upstream-connection.ts'

/** Where a connection goes: a port of an address, or a socket's path. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string }

/** How an upstream proves itself, and we to it. */
export type UpstreamTls = { readonly context: SecureContext; readonly servername: string | undefined }

/** Makes what opens connections to one address. */
export function createSocketOpener(address: SocketAddress, tls: UpstreamTls | undefined): OpenSocket {
  return (received) => (tls === undefined ? openPlain(address, received) : openTls(address, tls, received))
}

function openPlain(address: SocketAddress, received: (bytes: Buffer) => void): ReturnType<OpenSocket> {
  const socket = connectTcp({ ...address, noDelay: true, onread: lendReads(received) })
  return { socket, ready: 'connect' }
}

function openTls(address: SocketAddress, tls: UpstreamTls, received: (bytes: Buffer) => void): ReturnType<OpenSocket> {
  const { context, servername } = tls
  const socket: Socket = connectTls({
    ...address,
    secureContext: context,
    ...(servername === undefined ? {} : { servername }),
    rejectUnauthorized: true,
    ALPNProtocols: ['http/1.1'],
  })
  socket.setNoDelay(true)
  socket.on('data', received)
  return { socket, ready: 'secureConnect' }
}
