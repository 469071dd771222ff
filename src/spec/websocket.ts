// RFC 6455 §5: where frames begin and end, so that one can be put between two; their content is nobody's business here.

/** Follows one direction of a WebSocket as it passes. It keeps numbers, never bytes, and knows no wrong ones. */
export type FrameTracker = {
  /** Takes bytes that pass. */
  readonly pass: (bytes: Buffer) => void
  /** Takes bytes up to the end of the frame under way, none between two. @returns How many those are. */
  readonly passFrame: (bytes: Buffer) => number
  /** Whether the last frame has passed whole: the one place where another may begin. */
  readonly isBetween: () => boolean
  /** Whether a close frame has begun to pass: after it nothing may be sent (§5.5.1). */
  readonly hasClosed: () => boolean
}

/** Why a connection is closed (§7.4.1): its server goes away, or what it does is against a policy. */
export const closeCodes = { going_away: 1001, policy_violation: 1008 } as const

const closeOpcode = 8

/** Makes the tracker of one direction, from its first frame on. */
export function createFrameTracker(): FrameTracker {
  // Of the header of the frame under way: bytes seen, bytes there are, and the length as read so far.
  let seen = 0
  let wanted = 2
  let lengthBytes = 0
  let length = 0
  let left = 0
  let closed = false
  return {
    pass(bytes) {
      for (let at = 0; at < bytes.length; ) at = step(bytes, at)
    },
    passFrame(bytes) {
      let at = 0
      while (at < bytes.length && !isBetween()) at = step(bytes, at)
      return at
    },
    isBetween,
    hasClosed: () => closed,
  }

  function isBetween(): boolean {
    return left === 0 && seen === 0
  }

  /** Takes one byte of a header, or what is there of the payload. */
  function step(bytes: Buffer, at: number): number {
    if (left > 0) {
      const taken = Math.min(left, bytes.length - at)
      left -= taken
      return at + taken
    }
    const byte = bytes[at] ?? 0
    if (seen === 0) closed ||= (byte & 0x0f) === closeOpcode
    else if (seen === 1) {
      const short = byte & 0x7f
      lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0
      length = lengthBytes === 0 ? short : 0
      wanted = 2 + lengthBytes + ((byte & 0x80) === 0 ? 0 : 4)
    } else if (seen < 2 + lengthBytes) length = length * 256 + byte
    seen += 1
    if (seen < wanted) return at + 1
    left = length
    seen = 0
    wanted = 2
    return at + 1
  }
}

/**
 * A close frame (§5.5.1).
 *
 * @param from A client's frames are masked (§5.3). With zeros: the key protects what a browser's script chooses, and
 *   nobody chooses this.
 */
export function formatCloseFrame(code: number, from: 'client' | 'server'): Buffer {
  const mask = from === 'client' ? [0, 0, 0, 0] : []
  return Buffer.from([0x80 | closeOpcode, (from === 'client' ? 0x80 : 0) | 2, ...mask, code >> 8, code & 0xff])
}
