// What clients have sent and nobody has read yet: heads that are not whole, and what stands behind a request. Of one
// connection that is little; of thousands it may be more than a process has, and no limit of one connection sees that.
import { count, createHolder, createLine, leave, stand } from './holders.ts'
import { giveBack } from './lent-reads.ts'

/** What one connection holds. */
export type HeldBytes = {
  /** Undefined where it is nothing. Until `settle` they may be such as are only lent. */
  bytes: Buffer | undefined
  /** What just came, behind what is held: pieces one by one are not copied anew for each of them. */
  readonly add: (chunk: Buffer) => void
  /** So many of them are not needed any more. */
  readonly drop: (count: number) => void
  /** From now on they stand in memory of its own, and are counted. Said after every read, and when some were taken. */
  readonly settle: () => void
  /** Nothing is held any more. */
  readonly clear: () => void
  /** Nothing will be: the connection is somebody else's, or gone. */
  readonly close: () => void
  /** Whether nothing more is to be read of what stands behind a request. */
  readonly isEnough: () => boolean
}

// Apart: whoever has requests under way must not have those expelled who send the first one.
const heads = createLine(12 * 1_048_576)
const requests = createLine(24 * 1_048_576)
/** What all connections of a process may hold together of heads that are not whole, bytes. */
export const maxHeadBytes = heads.maxBytes
/** And of what stands behind a request under way. */
export const maxBehindBytes = requests.maxBytes
// From here on what stands behind a request is left with the system, which has its sender wait.
const tightBytes = requests.maxBytes / 4
const enoughBytes = 65_536
// What holds a byte takes as much beside it; and one large head makes room by the end of a few, not of thousands.
const leastBytes = 4096

/** What all connections of this process hold, bytes. */
export function heldBytes(): number {
  return heads.bytes + requests.bytes
}

/**
 * Makes what one connection holds. While all hold too much the one is expelled that has waited longest.
 *
 * @param isBusy Whether a request of it is under way.
 */
export function createHeldBytes(isBusy: () => boolean, expel: () => void): HeldBytes {
  const holder = createHolder(expel)
  // Memory of its own, which the bytes are a part of.
  let room: Buffer | undefined
  let isClosed = false
  const it: HeldBytes = { bytes: undefined, add, drop, settle, clear, close, isEnough }
  return it

  function add(chunk: Buffer): void {
    const { bytes } = it
    if (bytes === undefined) {
      it.bytes = chunk
      return
    }
    const length = bytes.length + chunk.length
    let from = bytes.byteOffset
    if (room === undefined || bytes.buffer !== room.buffer || from + length > room.length) {
      from = 0
      room = copyInto(Buffer.allocUnsafeSlow(2 * length), 0, bytes)
    }
    copyInto(room, from + bytes.length, chunk)
    it.bytes = room.subarray(from, from + length)
  }

  function drop(count: number): void {
    const { bytes } = it
    if (bytes === undefined) return
    giveBack(bytes, count)
    if (count === bytes.length) {
      clear()
      return
    }
    it.bytes = bytes.subarray(count)
    // It has sent what it was waited for, and is waited for anew; what is left of it is in the same memory.
    if (holder.line !== undefined) stand(holder, holder.line, holder.bytes)
  }

  function settle(): void {
    const { bytes } = it
    if (bytes === undefined || isClosed) {
      if (room !== undefined || isClosed) clear()
      return
    }
    // What is small keeps no large piece in memory.
    if (room === undefined || bytes.buffer !== room.buffer || bytes.length * 4 < room.length) {
      room = copyInto(Buffer.allocUnsafeSlow(bytes.length), 0, bytes)
      it.bytes = room
    }
    count(holder, isBusy() ? requests : heads, Math.max(leastBytes, room.length))
  }

  function clear(): void {
    it.bytes = undefined
    room = undefined
    leave(holder)
  }

  function close(): void {
    isClosed = true
    clear()
  }

  function isEnough(): boolean {
    return (it.bytes?.length ?? 0) >= (requests.bytes > tightBytes ? 1 : enoughBytes)
  }
}

function copyInto(room: Buffer, at: number, bytes: Buffer): Buffer {
  bytes.copy(room, at)
  giveBack(bytes, bytes.length)
  return room
}
