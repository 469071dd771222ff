// Ending a connection so that its peer cannot take what it has got for all there is.
import { Socket } from 'node:net'

/** The sockets of TCP that others of TLS go over, where they have one of their own. */
export const carriers = new WeakMap<Socket, Socket>()

/**
 * Breaks a connection off: by RST where it is one of TCP, or goes over one of its own (RFC 9293 §3.5.3). Of a Unix socket
 * there is no such thing; under TLS the end that was not announced (RFC 8446 §6.1) says it. One that has been ended is only
 * closed: the system refuses to reset it, and node has let go of it by then, so that it would stay open for good.
 */
export function reset(socket: Socket): void {
  const carrier = carriers.get(socket)
  if (hasEnded(socket)) socket.destroy()
  else if (carrier !== undefined && isTcp(carrier)) {
    // The end of the peer, which may be read meanwhile, is not to be answered by one.
    socket.allowHalfOpen = true
    setImmediate(resetCarrier, socket, carrier)
  } else if (isTcp(socket)) socket.resetAndDestroy()
  else socket.destroy()
}

/** Later, and nothing else: under what node is reading just now, or closed from both ends, it frees memory twice. */
function resetCarrier(socket: Socket, carrier: Socket): void {
  if (hasEnded(socket)) socket.destroy()
  else if (!carrier.destroyed) carrier.resetAndDestroy()
}

/** Whether the end has been given to the system: it is once nothing that was written before it waits. */
function hasEnded(socket: Socket): boolean {
  return socket.writableEnded && socket.writableLength === 0
}

function isTcp(socket: Socket): boolean {
  return Object.getPrototypeOf(socket) === Socket.prototype && socket.remoteAddress !== undefined
}
