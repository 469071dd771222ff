// Reading without a new buffer for every read: all sockets share one, and what is read is lent for the time of a call.
import type { OnReadOpts, SocketConstructorOpts } from 'node:net'
import { Socket } from 'node:net'
import { copiedBytes } from './exchange.ts'

const readBytes = 65_536
const shared = Buffer.allocUnsafeSlow(readBytes)

/**
 * The `onread` of a socket to an upstream: what is read goes to `received`, lent up to `copiedBytes`, a larger piece given
 * away. While reads are large the socket reads into buffers of its own, which need no copy: that saves a tenth of a long
 * answer. There are few such sockets, and each keeps one buffer at most.
 */
export function lendReads(received: (bytes: Buffer) => void): OnReadOpts {
  let current: Buffer = shared
  let next: Buffer | undefined
  let hasRead = false
  return {
    // Asked for after each read, where undefined leaves the buffer as it is; and for each handle the socket gets.
    buffer() {
      const given = hasRead ? next : current
      hasRead = false
      next = undefined
      current = given ?? current
      return given as Buffer // the types know nothing of undefined
    },
    callback(count, buffer) {
      hasRead = true
      const isOwn = buffer !== shared
      const bytes = isOwn ? Buffer.from(buffer.buffer, buffer.byteOffset, count) : firstOf(count)
      const isLarge = count >= readBytes / 2
      if (isLarge) next = Buffer.allocUnsafeSlow(readBytes)
      else if (isOwn) next = shared
      received(isLarge && isOwn ? bytes : lentOrCopied(bytes))
      return true
    },
  }
}

// Nobody holds on to a view of what is lent: one for each length will do, 120 bytes each.
const views: (Buffer | undefined)[] = new Array(copiedBytes + 1).fill(undefined)

function firstOf(count: number): Buffer {
  const known = views[count]
  if (known !== undefined) return known
  const view = Buffer.from(shared.buffer, shared.byteOffset, count)
  if (count <= copiedBytes) views[count] = view
  return view
}

/** The buffer that sockets share cannot be given away: others hold on to it, and may read into it next. */
function lentOrCopied(bytes: Buffer): Buffer {
  return bytes.length > copiedBytes ? Buffer.from(bytes) : bytes
}

/**
 * Makes of an accepted socket one whose `data` is lent in the same way: a server's sockets cannot be told to, but their
 * handle can be given to a socket of ours. That saves 2 of 29 µs a request. Where a socket has no handle of its own, as
 * under TLS, it is served as it is.
 *
 * @returns The socket to listen to from now on; the one given is an empty shell.
 */
export function adoptSocket(accepted: Socket): Socket {
  const shell = accepted as Socket & { _handle?: unknown } // not documented, and there since the first versions
  const handle = shell._handle
  if (Object.getPrototypeOf(accepted) !== Socket.prototype || handle === undefined || handle === null) return accepted
  shell._handle = null
  const onread: OnReadOpts = {
    buffer: shared,
    callback(count) {
      socket.emit('data', lentOrCopied(firstOf(count)))
      return true
    },
  }
  const options = { handle, onread, allowHalfOpen: accepted.allowHalfOpen }
  const socket = new Socket(options as SocketConstructorOpts) // `handle` is what node:net itself makes sockets with
  return letGoWhenClosed(socket)
}

/**
 * Has nobody listen to a socket that is closed. It lives on until a long collection of garbage: of each, Node's streams
 * hold a function that V8 puts among what lives long, and that reaches it. What listens is larger than the socket.
 */
export function letGoWhenClosed(socket: Socket): Socket {
  return socket.on('close', () => socket.removeAllListeners().on('error', ignore))
}

function ignore(): void {}
