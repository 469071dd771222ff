// What node has of a session and of its streams is freed as they are collected. A stream with half a head, or half of its
// trailers, has memory that is counted as its session's: where the session goes first, node aborts the process
// (`current_nghttp2_memory_`).
import type { Http2Session, Http2Stream } from 'node:http2'
import type { Socket } from 'node:net'

// What node has of those that are not over.
const handles = new Map<Http2Session, unknown>()
// Has what node has of a session for as long as a stream of it is there.
const outlived = new FinalizationRegistry<unknown>(() => {})

/**
 * Has the streams of a session freed before it. To be called before anybody else changes its `destroy`.
 *
 * @returns To be called with each stream of the session.
 */
export function freeStreamsFirst(session: Http2Session, socket: Socket): (stream: Http2Stream) => void {
  const destroy = session.destroy.bind(session)
  const streams = new Set<Http2Stream>()
  // Where its socket is destroyed it ends with that: told before, it hears of no write that was under way, and keeps what
  // was to be written, and with it the stream, for as long as it is there itself.
  const destroyBeforeSocket: typeof destroy = (...how) => {
    if (socket.destroyed) return
    for (const stream of streams) freeBeforeSession(stream)
    destroy(...how)
  }
  session.destroy = destroyBeforeSocket
  handles.set(session, handleOf(session))
  // Streams that end with it are freed in the turn behind its end.
  session.once('close', () => setImmediate(setImmediate, () => handles.delete(session)))
  return (stream) => {
    streams.add(stream)
    stream.once('close', () => streams.delete(stream))
  }
}

/**
 * Has a stream that is about to be destroyed freed before its session: where something of it is still being written, node
 * leaves it to the collector.
 */
export function freeBeforeSession(stream: Http2Stream): void {
  const handle = handleOf(stream)
  if (stream.session === undefined || typeof handle !== 'object' || handle === null) return
  outlived.register(handle, handles.get(stream.session))
}

/** The object that what node has of it lives as long as: hidden behind a symbol; undefined where it is no more. */
function handleOf(of: Http2Session | Http2Stream): unknown {
  const hidden = Object.getOwnPropertySymbols(of).find(({ description }) => description === 'kHandle')
  return hidden === undefined ? undefined : Reflect.get(of, hidden)
}
