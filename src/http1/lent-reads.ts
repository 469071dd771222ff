// Reading without a new buffer for every read: all sockets share one, and what is read is lent for the time of a call.
import type { OnReadOpts } from 'node:net'
import { Socket } from 'node:net'
import { copiedBytes } from './exchange.ts'

const readBytes = 65_536
const shared = Buffer.allocUnsafeSlow(readBytes)

/** An `onread`; after `letGo` nobody is told of what is read. */
export type LentReads = OnReadOpts & { readonly letGo: () => void }

/**
 * The `onread` of a socket to an upstream: what is read goes to `received`, lent up to `copiedBytes`, a larger piece given
 * away. While reads are large the socket reads into buffers of its own, which need no copy: that saves a tenth of a long
 * answer. There are few such sockets, and each keeps one buffer at most.
 */
export function lendReads(received: (bytes: Buffer) => void): LentReads {
  let receive: ((bytes: Buffer) => void) | undefined = received
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
      receive?.(isLarge && isOwn ? bytes : lentOrCopied(bytes))
      return true
    },
    letGo() {
      receive = undefined
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

// By which names Node keeps in a socket what its option `onread` says: not documented, so they are looked up in one.
const names = findNames()

/**
 * Has the `data` of an accepted socket lent in the same way: a server's sockets cannot be told to when they are made. That
 * saves 2 of 29 µs a request. A socket of another kind, as under TLS, is served as it is.
 *
 * @returns The socket itself.
 */
export function lendAcceptedReads(accepted: Socket): Socket {
  const socket = accepted as Socket & { readonly _handle?: Handle | null } & Record<symbol, unknown>
  const handle = socket._handle // there since the first versions
  if (Object.getPrototypeOf(socket) !== Socket.prototype || names === undefined) return socket
  if (handle === undefined || handle === null) return socket
  handle.useUserBuffer(shared)
  socket[names.buffer] = shared
  socket[names.callback] = (count: number) => {
    socket.emit('data', lentOrCopied(firstOf(count)))
    return true
  }
  return letGoWhenClosed(socket)
}

type Handle = { readonly useUserBuffer: (buffer: Buffer) => void }

function findNames(): { readonly buffer: symbol; readonly callback: symbol } | undefined {
  const all = Object.getOwnPropertySymbols(new Socket())
  const [buffer, callback] = ['kBuffer', 'kBufferCb'].map((name) => all.find(({ description }) => description === name))
  return buffer === undefined || callback === undefined ? undefined : { buffer, callback }
}

/**
 * Has nobody listen to a socket that is closed. It lives on until a long collection of garbage: of each, Node's streams
 * hold a function that V8 puts among what lives long, and that reaches it. What listens is larger than the socket.
 */
export function letGoWhenClosed(socket: Socket): Socket {
  return socket.on('close', () => socket.removeAllListeners().on('error', ignore))
}

function ignore(): void {}
