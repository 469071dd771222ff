// Writing past a stream's bookkeeping: what the system takes at once needs none. That saves 0.5 of 23 µs a request, and of
// a long answer tells whether its bytes are still needed. What Node's own streams do it with is not documented; where any
// of it is missing or forbidden, they do it.
import { Socket } from 'node:net'
import { giveBackLater } from './lent-reads.ts'

type Request = { oncomplete?: (status: number) => void }
type Handle = {
  readonly writeLatin1String?: (request: Request, text: string) => number
  readonly writeBuffer?: (request: Request, bytes: Buffer) => number
  readonly writev?: (request: Request, parts: readonly (string | Buffer)[], areBuffers: boolean) => number
}
type StreamWrap = {
  readonly WriteWrap: new () => Request
  readonly streamBaseState: Int32Array
  readonly kLastWriteWasAsync: number
}

// Node copies no more than this to where it can be written from at once.
const maxTextBytes = 16_000
// One piece as it is read: as much as a stream holds before it wants a pause.
const maxBytes = 65_536
const wrap = findStreamWrap()
// Of no use until a write has to wait: one does for all that do not.
let request = wrap && new wrap.WriteWrap()

/** Writes to a socket at once. Nothing is taken while something else waits to be written. */
export type DirectWrite = {
  /** @returns Whether it took the text (Latin-1); not when it is long. */
  readonly text: (text: string) => boolean
  /**
   * A text, and bytes behind it, up to 64 KiB.
   *
   * @returns Whether it took them: `held` until the bytes are written, which must not change before.
   */
  readonly bytes: (text: string, bytes: Buffer) => 'written' | 'held' | 'refused'
  /** Whether what was taken last still waits; the stream does not count it. Then the socket emits `drain`. */
  readonly isHolding: () => boolean
}

/**
 * Makes what writes to a socket directly; undefined where the socket must do it, as under TLS. What the system does not
 * take at once goes before all that is written later.
 *
 * @param failed Told when a write fails; whatever is written afterwards is dropped. Absent: the socket is destroyed, with
 *   the error.
 */
export function createDirectWrite(socket: Socket, failed?: (error: Error) => void): DirectWrite | undefined {
  if (wrap === undefined || Object.getPrototypeOf(socket) !== Socket.prototype) return undefined
  const { WriteWrap, streamBaseState, kLastWriteWasAsync } = wrap
  let isHolding = false
  let hasFailed = false
  const own = socket as Socket & { readonly _handle?: Handle | null } // not documented, and there since the first versions
  return {
    text(text) {
      if (hasFailed) return true
      const handle = own._handle
      if (text.length > maxTextBytes || handle?.writeLatin1String === undefined || request === undefined) return false
      if (hasToWait()) return false
      hasLeft(handle.writeLatin1String(request, text), undefined)
      return true
    },
    bytes(text, bytes) {
      if (hasFailed) return 'written'
      const handle = own._handle
      if (handle?.writeBuffer === undefined || handle.writev === undefined || request === undefined) return 'refused'
      if (bytes.length > maxBytes || hasToWait()) return 'refused'
      const status =
        text === ''
          ? handle.writeBuffer(request, bytes)
          : handle.writev(request, [text, 'latin1', bytes, 'buffer'], false)
      return hasLeft(status, bytes) ? 'written' : 'held'
    },
    isHolding: () => isHolding,
  }

  function hasToWait(): boolean {
    return socket.writableLength > 0 || socket.writableCorked > 0 || socket.connecting || !socket.writable
  }

  /** Whether all of it is on its way, or never will be. */
  function hasLeft(status: number, bytes: Buffer | undefined): boolean {
    if (status !== 0) fail(status)
    if (status !== 0 || streamBaseState[kLastWriteWasAsync] === 0 || request === undefined) return true
    // The stream keeps what comes next until this has gone.
    socket.cork()
    isHolding = true
    // By a name of its own, as in lent-reads.ts.
    const tell = (code: number) => written(code, bytes)
    request.oncomplete = tell
    request = new WriteWrap()
    return false
  }

  function written(status: number, bytes: Buffer | undefined): void {
    isHolding = false
    if (bytes !== undefined) giveBackLater(bytes)
    // Before the stream tries, too, and fails.
    if (status !== 0) fail(status)
    if (hasFailed) return
    socket.uncork()
    // Where too much came meanwhile the stream says so, once it has written that: of less it says nothing.
    if (!socket.writableNeedDrain && !socket.destroyed) socket.emit('drain')
  }

  function fail(status: number): void {
    const error = new Error(`Cannot write: the system says ${status}`)
    hasFailed = failed !== undefined
    if (failed === undefined) socket.destroy(error)
    else failed(error)
  }
}

/**
 * Has a socket live on when a write of its stream fails, as when one of a `DirectWrite` does: what came before may be here,
 * unread. What is written afterwards is dropped. (`_write` and `_writev` are what streams are documented to implement.)
 *
 * @param failed Told of the first that fails.
 */
export function surviveFailedWrites(socket: Socket, failed: (error: Error) => void): void {
  const write = socket._write.bind(socket)
  const writev = socket._writev?.bind(socket)
  let hasFailed = false
  socket._write = (chunk, encoding, done) => (hasFailed ? done() : write(chunk, encoding, surviving(done)))
  if (writev !== undefined) socket._writev = (chunks, done) => (hasFailed ? done() : writev(chunks, surviving(done)))

  function surviving(done: (error?: Error | null) => void): typeof done {
    return (error) => {
      if (error !== undefined && error !== null && !hasFailed && !socket.destroyed) {
        hasFailed = true
        failed(error)
      }
      done(hasFailed ? null : error)
    }
  }
}

function findStreamWrap(): StreamWrap | undefined {
  const { binding } = process as unknown as { binding?: (name: string) => Partial<StreamWrap> } // nor is this
  let found: Partial<StreamWrap> | undefined
  try {
    found = binding?.('stream_wrap')
  } catch {
    return undefined // so it is under --permission, and where the name is not known any more
  }
  const isWhole = [found?.WriteWrap, found?.streamBaseState, found?.kLastWriteWasAsync].every(
    (each) => each !== undefined,
  )
  return isWhole ? (found as StreamWrap) : undefined
}
