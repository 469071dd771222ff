// Ending a connection so that its peer cannot take what it has got for all there is.
import { Socket } from 'node:net'

/** The sockets of TCP that others of TLS go over, where they have one of their own. */
export const carriers = new WeakMap<Socket, Socket>()

/**
 * Breaks a connection off: by RST where it is one of TCP, or goes over one of its own (RFC 9293 §3.5.3). Of a Unix socket
 * there is no such thing; under TLS the end that was not announced (RFC 8446 §6.1) says it.
 */
export function reset(socket: Socket): void {
  const carrier = carriers.get(socket)
  // Later, and nothing else: under what node is reading just now, or closed from both ends, it frees memory twice.
  if (carrier !== undefined && isTcp(carrier)) setImmediate(() => carrier.destroyed || carrier.resetAndDestroy())
  else if (isTcp(socket)) socket.resetAndDestroy()
  else socket.destroy()
}

function isTcp(socket: Socket): boolean {
  return Object.getPrototypeOf(socket) === Socket.prototype && socket.remoteAddress !== undefined
}
