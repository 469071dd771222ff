// Reading without a new buffer for every read: all sockets share one, and what is read is lent for the time of a call.
import type { OnReadOpts } from 'node:net'
import { Socket } from 'node:net'
import { copiedBytes } from './exchange.ts'

const readBytes = 65_536
const largeBytes = readBytes / 2
const shared = Buffer.allocUnsafeSlow(readBytes)

// Buffers that nobody needs, for large pieces: a new one for each would be a long collection of garbage for every few
// megabytes.
const spare: Buffer[] = []
const maxSpare = 16

// Sockets that read into a buffer of their own, which they keep while nothing comes: not every one may have one.
const maxOwn = 256
let own = 0

// The buffer of the large piece that is being told of, and how much of that nobody needs any more.
let given: ArrayBufferLike | undefined
let givenBack = 0
// How much of what was told before somebody still needs.
const kept = new WeakMap<ArrayBufferLike, number>()

/**
 * Says of bytes, while they are being told of, that nobody needs so many of them any more. Only when all of a large piece
 * is given back its buffer is read into again.
 */
export function giveBack(bytes: Buffer, count: number): void {
  if (given !== undefined && bytes.buffer === given) givenBack += count
}

/**
 * Says of bytes, at any time, that nobody needs them any more. It looks them up, which is too much for what is small: that
 * is given back while it is told of, or left to the garbage.
 */
export function giveBackLater(bytes: Buffer): void {
  const { buffer } = bytes
  if (buffer === given) {
    givenBack += bytes.length
    return
  }
  const left = kept.get(buffer)
  if (left === undefined) return
  if (left !== bytes.length) {
    kept.set(buffer, left - bytes.length)
    return
  }
  kept.delete(buffer)
  putAway(Buffer.from(buffer))
}

/**
 * The same bytes, to be held on to. What is small beside the buffer it is in is copied: it would keep all of that.
 *
 * @param bytes Such as are being told of.
 */
export function keep(bytes: Buffer): Buffer {
  if (bytes.length >= largeBytes || (bytes.length > copiedBytes && bytes.buffer !== given)) return bytes
  giveBack(bytes, bytes.length)
  return Buffer.from(bytes)
}

/** An `onread`; after `letGo`, which is for a closed socket, nobody is told of anything. */
export type LentReads = OnReadOpts & { readonly letGo: () => void }

/**
 * The `onread` of a socket: what is read goes to `received`, lent up to `copiedBytes`, a larger piece given away. While
 * reads are at least half a buffer (under TLS they never are), and nobody holds on to them, the socket reads into a buffer
 * of its own, which needs no copy: that saves a tenth of a long answer.
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
      current = asked ?? current
      return asked as Buffer // the types know nothing of undefined
    },
    callback(count) {
      if (receive === undefined) return true
      hasRead = true
      if (count > copiedBytes) tellGiven(count, receive)
      else if (current === shared) receive(firstOfShared(count))
      else {
        receive(firstOf(current, count))
        // Of what was lent nobody holds on to anything.
        putAway(current)
        readIntoSharedNext()
      }
      return true
    },
    letGo() {
      receive = undefined
      // Where there is a next one, somebody may hold on to the current one.
      const last = next ?? current
      if (last === shared) return
      putAway(last)
      readIntoSharedNext()
    },
  }

  function tellGiven(count: number, tell: (bytes: Buffer) => void): void {
    const isOwn = current !== shared
    const into = isOwn ? current : takeBuffer()
    if (!isOwn) shared.copy(into, 0, 0, count)
    given = into.buffer
    givenBack = 0
    tell(firstOf(into, count))
    given = undefined
    // Given back exactly: whatever else was counted, somebody may hold on to it.
    if (givenBack !== count) {
      kept.set(into.buffer, count - givenBack)
      if (isOwn) readIntoSharedNext()
    } else if (!isOwn && count >= largeBytes && own < maxOwn) {
      own += 1
      next = into
    } else if (!isOwn) putAway(into)
  }

  function readIntoSharedNext(): void {
    own -= 1
    next = shared
  }
}

function takeBuffer(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(readBytes)
}

function putAway(buffer: Buffer): void {
  if (spare.length < maxSpare) spare.push(buffer)
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

/** Whether bytes are such a view: then they stand at the beginning of `sharedWords`. */
export function areShared(bytes: Buffer): boolean {
  return bytes.length <= copiedBytes && views[bytes.length] === bytes
}

/** The words of all the memory that such views are of. */
export const sharedWords = new Int32Array(shared.buffer, 0, readBytes >> 2)

// For each length, what was left of it last.
const rests: ({ readonly from: number; readonly rest: Buffer } | undefined)[] = new Array(copiedBytes + 1).fill(
  undefined,
)

/** What stands behind a part of what is being told of: answers are often as long as the one before. */
export function restOf(bytes: Buffer, from: number): Buffer {
  if (!areShared(bytes)) return bytes.subarray(from)
  let known = rests[bytes.length]
  if (known?.from !== from) {
    known = { from, rest: bytes.subarray(from) }
    rests[bytes.length] = known
  }
  return known.rest
}

// By which names Node keeps in a socket what its option `onread` says: not documented, so they are looked up in one.
const names = findNames()

/**
 * Has the `data` of an accepted socket lent in the same way: a server's sockets, of TCP and of TLS, cannot be told to when
 * they are made. That saves 2 of 29 µs a request. Its reading begins. It is served as it is where something has been read
 * of it, and where Node has none of this any more.
 *
 * @returns The socket itself.
 */
export function lendAcceptedReads(accepted: Socket): Socket {
  if (!readIntoShared(accepted, true)) return accepted
  // A server may have paused it to hand it over.
  if (accepted.isPaused()) accepted.resume()
  return letGoWhenClosed(accepted)
}

/** Has every `data` of a socket lent, however large it is, where Node has that; for who holds on to nothing. */
export function lendAllReads(socket: Socket): void {
  readIntoShared(socket, false)
}

/** Whether it can be told to. */
function readIntoShared(it: Socket, givesAway: boolean): boolean {
  const socket = it as Socket & { readonly _handle?: Handle | null } & Record<symbol, unknown>
  const handle = socket._handle // there since the first versions
  if (names === undefined || handle?.useUserBuffer === undefined) return false
  // What has been read already would be overtaken.
  if (socket.readableLength > 0) return false
  handle.useUserBuffer(shared)
  socket[names.buffer] = shared
  // By a name of its own: V8 makes a function that is written where a property is assigned among what lives long, and what
  // it reaches, the socket, lives with it.
  const { generate, callback } = names
  const tell = (count: number) => {
    if (count <= copiedBytes || !givesAway) socket.emit('data', firstOfShared(count))
    else {
      const reads = lendReads((bytes) => void socket.emit('data', bytes))
      socket[generate] = reads.buffer
      socket[callback] = reads.callback
      socket.once('close', reads.letGo)
      reads.callback(count, shared)
    }
    return true
  }
  socket[callback] = tell
  return true
}

type Handle = { readonly useUserBuffer?: (buffer: Buffer) => void }

type Names = Readonly<Record<'buffer' | 'generate' | 'callback', symbol>>

function findNames(): Names | undefined {
  const all = Object.getOwnPropertySymbols(new Socket())
  const find = (name: string) => all.find(({ description }) => description === name)
  const [buffer, generate, callback] = [find('kBuffer'), find('kBufferGen'), find('kBufferCb')]
  if (buffer === undefined || generate === undefined || callback === undefined) return undefined
  return { buffer, generate, callback }
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
