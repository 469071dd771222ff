// What node has of a session and of its streams is freed as they are collected. A stream with half a head, or half of its
// trailers, has memory that is counted as its session's: where the session goes first, node aborts the process
// (`current_nghttp2_memory_`).
import type { Http2Session } from 'node:http2'
import type { Socket } from 'node:net'

// What node has of those that are not over.
const handles = new Map<Http2Session, unknown>()

/** Has the streams of a session freed before it. To be called before anybody else changes its `destroy`. */
export function freeStreamsFirst(session: Http2Session, socket: Socket): void {
  const destroy = session.destroy.bind(session)
  // Where its socket is destroyed it ends with that: told before, it hears of no write that was under way, and keeps what
  // was to be written, and with it the stream, for as long as it is there itself.
  const destroyBeforeSocket: typeof destroy = (...how) => {
    if (!socket.destroyed) destroy(...how)
  }
  session.destroy = destroyBeforeSocket
  handles.set(session, handleOf(session))
  // Streams that end with it are freed in the turn behind its end.
  session.once('close', () => setImmediate(setImmediate, () => handles.delete(session)))
}

/** The object that what node has of a session lives as long as: hidden behind a symbol; undefined where it is no more. */
function handleOf(session: Http2Session): unknown {
  const hidden = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'kHandle')
  return hidden === undefined ? undefined : Reflect.get(session, hidden)
}
