// Sockets to an upstream: of TCP or a path, plain or under TLS.
import { connect as connectPlain, isIP } from 'node:net'
import type { SecureContext, TLSSocket } from 'node:tls'
import { lendReads, letGoWhenClosed } from './lent-reads.ts'
import { carriers } from './reset.ts'
import type { OpenSocket } from './upstream-connection.ts'

/** Where a connection goes: a port of an address, or a socket's path. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string }

/** How an upstream proves itself, and we to it. */
export type UpstreamTls = {
  /** What is trusted and shown; asked for each connection, so that it can be renewed. */
  readonly context: () => SecureContext
  /** The name, or the address, its certificate must be for. */
  readonly name: string
}

/** What is spoken on a connection. For `h2` nothing is `received`: node:http2 reads by itself. */
export type UpstreamProtocol = 'http1' | 'h2'

/** Makes what opens connections to one address. */
export function createSocketOpener(
  address: SocketAddress,
  tls: UpstreamTls | undefined,
  protocol: UpstreamProtocol,
): OpenSocket {
  return tls === undefined ? (received) => openPlain(address, received) : createTlsOpener(address, tls, protocol)
}

function openPlain(address: SocketAddress, received: (bytes: Buffer) => void): ReturnType<OpenSocket> {
  const reads = lendReads(received)
  const socket = connectPlain({ ...address, noDelay: true, onread: reads })
  return { socket: letGoWhenClosed(socket).once('close', reads.letGo), ready: 'connect' }
}

/** Keeps the last session, so that the next handshake is a short one (RFC 8446 §2.2). */
function createTlsOpener(
  address: SocketAddress,
  { context, name }: UpstreamTls,
  protocol: UpstreamProtocol,
): OpenSocket {
  // Loaded where it is wanted: most upstreams are on this machine.
  const { connect, checkServerIdentity } = process.getBuiltinModule('node:tls')
  let kept: { readonly context: SecureContext; readonly session: Buffer } | undefined
  return (received) => {
    const now = context()
    // Of its own, to be reset: the end of one under TLS is always ours, and costs a port for a minute.
    const carrier = connectPlain({ ...address, noDelay: true })
    carrier.on('error', () => {}) // told by what goes over it
    const socket: TLSSocket = connect({
      socket: carrier,
      secureContext: now,
      // RFC 6066 §3: an address is no name.
      ...(isIP(name) === 0 ? { servername: name } : {}),
      // What was agreed on with other files says nothing about these.
      ...(kept?.context === now ? { session: kept.session } : {}),
      checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
      rejectUnauthorized: true,
      ALPNProtocols: [protocol === 'h2' ? 'h2' : 'http/1.1'],
    })
    carriers.set(socket, carrier)
    // Told only of a connection whose certificate was found good: nobody looks at it again when the session is resumed.
    socket.on('session', (session) => {
      kept = { context: now, session }
    })
    if (protocol === 'http1') socket.on('data', received)
    return { socket, ready: 'secureConnect' }
  }
}
