// RFC 9112 §6 and §7.1, the writing half: a head and its body to a socket, in as few writes as there are.
import type { Socket } from 'node:net'
import { copyOf } from '../base/copy-of.ts'
import { createDirectWrite, surviveFailedWrites } from './direct-write.ts'
import { copiedBytes } from './exchange.ts'
import { createLineFormatter } from './field-lines.ts'
import { giveBack, giveBackLater, keep } from './lent-reads.ts'
import { atTurnsEnd } from './turn.ts'
import type { UnreadBytes } from './unread-bytes.ts'
import { createUnreadBytes } from './unread-bytes.ts'

/** Writes one message after another to a socket. What is small waits for company until the end of the turn. */
export type MessageWriter = {
  /** @param head The whole head, its empty line included. */
  readonly begin: (head: string, isChunked: boolean) => void
  /**
   * @param chunk Of up to `copiedBytes`: copied; a larger one is given back (`lent-reads.ts`) once it is written.
   * @returns Whether the socket wants more; if not, it emits `drain` when it does.
   */
  readonly write: (chunk: Buffer) => boolean
  /** Whether the socket wants more; if not, it emits `drain` when it does. */
  readonly hasRoom: () => boolean
  /** Whether something that was written has not left. */
  readonly isWaiting: () => boolean
  /** Whether any of the last message has been written. While `failed` is told of the first of it: no. */
  readonly hasBegun: () => boolean
  /** Forgets the last message, where none of it has been written. @returns Whether it did. */
  readonly takeBack: () => boolean
  /** @param trailers Names and values alternating; sent where the body is in chunks. */
  readonly end: (trailers: readonly string[]) => void
  /** Waits for nothing more: what is there leaves at the end of this turn. */
  readonly flush: () => void
  /**
   * Writes what is there, and ends the socket behind it; `ended` is told when that has left. Behind a direct write that
   * waits the system would take an end, and after that no reset (`reset.ts`): it gets it once that has left.
   */
  readonly close: (ended?: () => void) => void
}

const maxJoinedBytes = 65_536
// What a write that waits takes beside its bytes, and more: its end makes room for some.
const waitBytes = 4096
const trailerLines = createLineFormatter()
const answerLines = createLineFormatter()
// The head said last, where all of its lines are remembered.
let last = { status: 0, reason: '', lines: [] as readonly string[], ours: '', text: '' }

/**
 * The whole head of an answer.
 *
 * @param passed Names and values alternating.
 * @param ours Lines of this connection, each with its end.
 */
export function formatAnswerHead(status: number, reason: string, passed: readonly string[], ours: string): string {
  if (passed === last.lines && status === last.status && reason === last.reason && ours === last.ours) return last.text
  const text = `HTTP/1.1 ${status} ${reason}\r\n${answerLines.format(passed)}${ours}\r\n`
  // Copied: in one piece it joins what follows.
  if (answerLines.isKnown(passed)) last = { status, reason, lines: passed, ours, text: copyOf(text) }
  return text
}

/**
 * Makes the writer of one socket.
 *
 * @param failed Told when a write fails; absent: the socket is destroyed, with the error.
 * @param expel Told to end the connection, since all have too much to send (`unread-bytes.ts`); absent: it is not counted.
 */
export function createMessageWriter(
  socket: Socket,
  failed?: (error: Error) => void,
  expel?: () => void,
): MessageWriter {
  const directWrite = createDirectWrite(socket, failed)
  if (failed !== undefined) surviveFailedWrites(socket, failed)
  let out = ''
  let chunked = false
  let isDue = false
  let hasBegun = false
  let begunAt = 0
  // Of the direct write that waits.
  let holdingBytes = 0
  let unread: UnreadBytes | undefined
  return { begin, write, hasRoom, isWaiting, hasBegun: () => hasBegun, takeBack, end, flush, close }

  function begin(head: string, isChunked: boolean): void {
    begunAt = out.length
    out += head
    hasBegun = false
    chunked = isChunked
    if (out.length > maxJoinedBytes) send()
  }

  function write(chunk: Buffer): boolean {
    // An empty chunk would be the last one.
    if (chunk.length === 0) return hasRoom()
    if (chunked) out += `${chunk.length.toString(16)}\r\n`
    // As text a small part joins what is before it; as bytes it would be a piece of a gathered write.
    if (chunk.length <= copiedBytes) {
      out += chunk.toString('latin1')
      giveBack(chunk, chunk.length)
      if (chunked) out += '\r\n'
      if (out.length > maxJoinedBytes) send()
    } else {
      writeNow(chunk)
      // The chunk's end goes with whatever comes next.
      out = chunked ? '\r\n' : ''
    }
    return hasRoom()
  }

  function hasRoom(): boolean {
    return !socket.writableNeedDrain && directWrite?.isHolding() !== true
  }

  function isWaiting(): boolean {
    return socket.writableLength > 0 || directWrite?.isHolding() === true
  }

  function waitingBytes(): number | undefined {
    const bytes = socket.writableLength + (directWrite?.isHolding() === true ? holdingBytes : 0)
    return bytes === 0 || socket.destroyed ? undefined : bytes
  }

  /** Counts what was just written, where it waits. */
  function count(bytes: number): void {
    if (expel === undefined || !isWaiting() || socket.destroyed) return
    // All that waited before has left, or this would wait in the stream.
    if (socket.writableLength === 0) holdingBytes = bytes
    if (unread === undefined) {
      unread = createUnreadBytes(waitBytes, waitingBytes, expel)
      socket.once('close', unread.clear)
      socket.on('drain', took)
    }
    unread.add(bytes)
  }

  /** Some of what waited has left. Under TLS all waits, for a moment. */
  function took(): void {
    if (unread !== undefined && !isWaiting()) unread.clear()
  }

  function writeNow(chunk: Buffer): void {
    const became = directWrite?.bytes(out, chunk) ?? 'refused'
    if (became === 'written') giveBackLater(chunk)
    else if (became === 'refused') {
      // The stream may hold many of them.
      const kept = keep(chunk)
      socket.cork()
      if (out !== '') socket.write(out, 'latin1')
      socket.write(kept, () => {
        giveBackLater(kept)
        took()
      })
      socket.uncork()
    }
    if (became !== 'written') count(out.length + chunk.length)
    hasBegun = true
  }

  function takeBack(): boolean {
    if (hasBegun) return false
    // What is before it is the end of another message.
    out = out.slice(0, begunAt)
    return true
  }

  function end(trailers: readonly string[]): void {
    if (chunked) out += trailers.length === 0 ? '0\r\n\r\n' : `0\r\n${trailerLines.format(trailers)}\r\n`
    flush()
  }

  function flush(): void {
    if (isDue || out === '') return
    isDue = true
    atTurnsEnd(sendDue)
  }

  function sendDue(): void {
    isDue = false
    send()
  }

  function close(ended?: () => void): void {
    send()
    if (directWrite?.isHolding() === true) socket.once('drain', () => socket.end(ended))
    else socket.end(ended)
  }

  function send(): void {
    if (out === '') return
    const text = out
    out = ''
    if (!socket.destroyed && directWrite?.text(text) !== true) socket.write(text, 'latin1', took)
    count(text.length)
    hasBegun = true
  }
}
