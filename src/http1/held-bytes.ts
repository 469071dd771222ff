// What clients have sent and nobody has read yet: heads that are not whole, and what stands behind a request. Of one
// connection that is little; of thousands it may be more than a process has, and no limit of one connection sees that.
import type { Bagged } from '../base/bag.ts'
import { createBag } from '../base/bag.ts'
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
  /** Whether nothing more is to be read of what stands behind a request. */
  readonly isEnough: () => boolean
}

/** One that may be told to close its connection, since all hold too much together. */
type Holder = Bagged & {
  bytes: number
  /** The smaller, the longer ago it began. */
  since: number
  /** Whether it waits for the rest of a head: nothing is lost by its end. */
  readonly isIdle: () => boolean
  readonly expel: () => void
}

/** What all connections of a process may hold together, bytes. */
export const maxHeldBytes = 16 * 1_048_576
// From here on what stands behind a request is left with the system, which has its sender wait.
const tightBytes = maxHeldBytes / 4
const enoughBytes = 65_536

const holders = createBag<Holder>()
let total = 0
let begun = 0

/** Makes what one connection holds. While all hold too much the one is expelled that has waited longest. */
export function createHeldBytes({ isIdle, expel }: Pick<Holder, 'isIdle' | 'expel'>): HeldBytes {
  const holder: Holder = { bytes: 0, since: 0, isIdle, expel, slot: undefined }
  // Memory of its own, which the bytes are a part of.
  let room: Buffer | undefined
  const it: HeldBytes = { bytes: undefined, add, drop, settle, clear, isEnough }
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
    if (count < bytes.length) it.bytes = bytes.subarray(count)
    else clear()
  }

  function settle(): void {
    const { bytes } = it
    if (bytes === undefined) {
      if (room !== undefined) clear()
      return
    }
    // What is small keeps no large piece in memory.
    if (room === undefined || bytes.buffer !== room.buffer || bytes.length * 4 < room.length) {
      room = copyInto(Buffer.allocUnsafeSlow(bytes.length), 0, bytes)
      it.bytes = room
    }
    count(holder, room.length)
  }

  function clear(): void {
    it.bytes = undefined
    room = undefined
    if (holder.bytes > 0) forget(holder)
  }

  function isEnough(): boolean {
    return (it.bytes?.length ?? 0) >= (total > tightBytes ? 1 : enoughBytes)
  }
}

function copyInto(room: Buffer, at: number, bytes: Buffer): Buffer {
  bytes.copy(room, at)
  giveBack(bytes, bytes.length)
  return room
}

function count(holder: Holder, bytes: number): void {
  if (holder.bytes === 0) {
    begun += 1
    holder.since = begun
    holders.add(holder)
  }
  total += bytes - holder.bytes
  holder.bytes = bytes
  while (total > maxHeldBytes) {
    const oldest = findOldest()
    // Before it is told: it says so itself, too.
    forget(oldest)
    oldest.expel()
  }
}

function forget(holder: Holder): void {
  holders.delete(holder)
  total -= holder.bytes
  holder.bytes = 0
}

/** Of those that wait for the rest of a head, as long as there are some. */
function findOldest(): Holder {
  const all = holders.all()
  const idle = all.filter((each) => each.isIdle())
  return (idle.length > 0 ? idle : all).reduce((one, other) => (other.since < one.since ? other : one))
}
