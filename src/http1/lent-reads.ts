// Reading without a new buffer for every read: all sockets share one, and what is read is lent for the time of a call.
import type { OnReadOpts } from 'node:net'
import { Socket } from 'node:net'
import { copiedBytes } from './exchange.ts'

const readBytes = 65_536
const shared = Buffer.allocUnsafeSlow(readBytes)

// Buffers that nobody needs, to read large pieces into: a new one for each would be a long collection of garbage for
// every few megabytes.
const spare: Buffer[] = []
const maxSpare = 16

// The buffer of the large piece that is being told of, and how much of that nobody needs any more.
let given: ArrayBufferLike | undefined
let givenBack = 0

/**
 * Says of bytes, while they are being told of, that nobody needs so many of them any more. Only when all of a large piece
 * is given back its buffer is read into again.
 */
export function giveBack(bytes: Buffer, count: number): void {
  if (given !== undefined && bytes.buffer === given) givenBack += count
}

/** An `onread`; after `letGo`, which is for a closed socket, nobody is told of anything. */
export type LentReads = OnReadOpts & { readonly letGo: () => void }

/**
 * The `onread` of a socket to an upstream: what is read goes to `received`, lent up to `copiedBytes`, a larger piece given
 * away. While reads are large the socket reads into a buffer of its own, which needs no copy: that saves a tenth of a long
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
      const asked = hasRead ? next : current
      hasRead = false
      next = undefined
      // Of what was small or copied nobody holds on to anything.
      if (asked === shared) putAway(current)
      current = asked ?? current
      return asked as Buffer // the types know nothing of undefined
    },
    callback(count) {
      hasRead = true
      if (count >= readBytes / 2) tellLarge(count)
      else if (current === shared) receive?.(lentOrCopied(firstOfShared(count)))
      else {
        next = shared
        receive?.(lentOrCopied(firstOf(current, count)))
      }
      return true
    },
    letGo() {
      receive = undefined
      // Where there is a next one, somebody may hold on to the current one.
      putAway(next ?? current)
    },
  }

  function tellLarge(count: number): void {
    const own = current === shared ? takeBuffer() : current
    if (own !== current) shared.copy(own, 0, 0, count)
    given = own.buffer
    givenBack = 0
    receive?.(firstOf(own, count))
    given = undefined
    // Given back exactly: whatever else was counted, somebody may hold on to it.
    if (givenBack !== count) next = takeBuffer()
    else if (own !== current) next = own
  }
}

function takeBuffer(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(readBytes)
}

function putAway(buffer: Buffer): void {
  if (buffer !== shared && spare.length < maxSpare) spare.push(buffer)
}

function firstOf(buffer: Buffer, count: number): Buffer {
  return Buffer.from(buffer.buffer, buffer.byteOffset, count)
}

// Nobody holds on to a view of what is lent: one for each length will do, 120 bytes each.
const views: (Buffer | undefined)[] = new Array(copiedBytes + 1).fill(undefined)

function firstOfShared(count: number): Buffer {
  const known = views[count]
  if (known !== undefined) return known
  const view = firstOf(shared, count)
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
 * saves 2 of 29 µs a request. Its reading begins. A socket of another kind, as under TLS, is served as it is, and any where
 * Node has none of this any more.
 *
 * @returns The socket itself.
 */
export function lendAcceptedReads(accepted: Socket): Socket {
  if (!readIntoShared(accepted, lentOrCopied)) return accepted
  // A server may have paused it to hand it over.
  if (accepted.isPaused()) accepted.resume()
  return letGoWhenClosed(accepted)
}

/** Has every `data` of a socket lent, however large it is, where Node has that; for who holds on to nothing. */
export function lendAllReads(socket: Socket): void {
  readIntoShared(socket, (bytes) => bytes)
}

/** Whether it can be told to. */
function readIntoShared(it: Socket, told: (bytes: Buffer) => Buffer): boolean {
  const socket = it as Socket & { readonly _handle?: Handle | null } & Record<symbol, unknown>
  const handle = socket._handle // there since the first versions
  if (Object.getPrototypeOf(socket) !== Socket.prototype || names === undefined) return false
  if (handle?.useUserBuffer === undefined) return false
  handle.useUserBuffer(shared)
  socket[names.buffer] = shared
  // By a name of its own: V8 makes a function that is written where a property is assigned among what lives long, and what
  // it reaches, the socket, lives with it.
  const tell = (count: number) => {
    socket.emit('data', told(firstOfShared(count)))
    return true
  }
  socket[names.callback] = tell
  return true
}

type Handle = { readonly useUserBuffer?: (buffer: Buffer) => void }

function findNames(): { readonly buffer: symbol; readonly callback: symbol } | undefined {
  const all = Object.getOwnPropertySymbols(new Socket())
  const [buffer, callback] = ['kBuffer', 'kBufferCb'].map((name) => all.find(({ description }) => description === name))
  return buffer === undefined || callback === undefined ? undefined : { buffer, callback }
}

/**
 * Has nobody listen to a socket that is closed. It lives on until a long collection of garbage: of each, Node's streams
 * hold such a function that reaches the socket, until many thousands of connections have had that code optimized. What
 * listens is larger than the socket.
 */
export function letGoWhenClosed(socket: Socket): Socket {
  return socket.on('close', () => socket.removeAllListeners().on('error', ignore))
}

function ignore(): void {}
