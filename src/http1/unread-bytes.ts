// What clients were answered and do not read. Of one connection, or one stream of HTTP/2, that is little; of thousands it
// may be more than a process has. Whoever is answered needs no token for that.
import { count, createHolder, createLine, letGo } from './holders.ts'

/** What one connection, or one stream, has to send that has not left. */
export type UnreadBytes = {
  /** So many more of them wait. */
  readonly add: (bytes: number) => void
  /** None does any more. */
  readonly clear: () => void
}

/** What all may have at least to send, bytes: of 64 KiB each 384, as many as wait for the upstream at once and more. */
export const leastUnreadBytes = 24 * 1_048_576
const answers = createLine(Number.POSITIVE_INFINITY)

/** Bounds what all connections of this process may have to send, bytes; no less than `leastUnreadBytes`. */
export function boundUnread(maxBytes: number): void {
  answers.maxBytes = Math.max(leastUnreadBytes, maxBytes)
}

/** What all connections of this process have to send, bytes, and may have sent since they were looked at. */
export function unreadBytes(): number {
  return answers.bytes
}

/**
 * Makes what one has to send. While all have too much the one is expelled that has taken nothing for longest; who has
 * ever taken some of what waited, or has just come, where nobody else is left.
 *
 * @param ownBytes What it takes beside, for as long as something waits.
 * @param waiting How many bytes wait, at this moment; undefined where it is over.
 * @param expel Called in a turn of its own: whoever adds something is in the middle of writing.
 */
export function createUnreadBytes(ownBytes: number, waiting: () => number | undefined, expel: () => void): UnreadBytes {
  const holder = createHolder(() => void setImmediate(expel), look)
  return { add, clear: () => letGo(holder) }

  function add(bytes: number): void {
    // What was there before it stood in the line was not counted, and what has left meanwhile does not count any more.
    const left = look()
    if (left < holder.bytes + bytes) letGo(holder, left)
    if (left > 0) count(holder, answers, left)
  }

  function look(): number {
    const bytes = waiting()
    return bytes === undefined ? 0 : ownBytes + bytes
  }
}
