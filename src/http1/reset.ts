// Ending a connection so that its peer cannot take what it has got for all there is.
import { Socket } from 'node:net'

/**
 * Breaks a connection off: by RST where it is one of TCP (RFC 9293 §3.5.3). Of a Unix socket there is no such thing; under
 * TLS the end that was not announced (RFC 8446 §6.1) says it.
 */
export function reset(socket: Socket): void {
  const isTcp = Object.getPrototypeOf(socket) === Socket.prototype && socket.remoteAddress !== undefined
  if (isTcp) socket.resetAndDestroy()
  else socket.destroy()
}
