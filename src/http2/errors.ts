// What breaks one stream of a session must not break the others (RFC 9113 §8.1.1).
import type { Http2Session, Http2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { http2Codes } from './codes.ts'
import { freeBeforeSession, freeStreamsFirst } from './lifetime.ts'

// NGHTTP2_ERR_PROTO, of nghttp2.h.
const protocolError = -505

/**
 * Resets a stream, and lets go of it in the same moment, but where its answer is whole (NO_ERROR) and has an end to send.
 * While the socket takes nothing, node keeps a reset back until it does; a stream that still writes, and that it lets go
 * of by itself just then, is gone without one, and nghttp2 asks for more of its body, and gets nothing, for ever, in a
 * loop of its own that ends with the memory.
 */
export function closeNow(stream: Http2Stream, code: number): void {
  if (stream.closed || stream.destroyed) return
  freeBeforeSession(stream)
  stream.close(code)
  if (code !== http2Codes.NO_ERROR) stream.destroy()
}

/**
 * Has a session survive a message that is longer than its `content-length`, or has a body where there can be none.
 * nghttp2 resets the stream of such a message, and tells node, which takes that for the end of the session as it does an
 * error of the connection. The two are told apart by what follows: a stream that was reset, in the same turn of the event
 * loop. Without one the session ends with its socket.
 *
 * @returns To be called with each stream of the session.
 */
export function outliveStreamErrors(session: Http2Session, socket: Socket): (stream: Http2Stream) => void {
  const follow = freeStreamsFirst(session, socket)
  const destroy = session.destroy.bind(session)
  let errors = 0
  // Named first, as in `upstream-exchange.ts`, and why.
  const destroyUnlessSpared = (error?: unknown, code?: number) => {
    if (!isProtocolError(error)) {
      destroy(error as Error | undefined, code) // as node has it: null, too
      return
    }
    errors += 1
    // By then node has sent the resets, where the socket has room for them.
    setImmediate(() => {
      if (errors > 0) socket.destroy()
    })
  }
  session.destroy = destroyUnlessSpared
  return (stream) => {
    follow(stream)
    stream.once('close', () => {
      if (stream.rstCode === http2Codes.PROTOCOL_ERROR && errors > 0) errors -= 1
    })
  }
}

function isProtocolError(error: unknown): error is Error {
  return error instanceof Error && 'errno' in error && error.errno === protocolError
}
