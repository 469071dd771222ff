// How long the body of a request may take.
import type { Deadlines } from './deadlines.ts'
import type { ServerLimits } from './limits.ts'

/** The time of one body after another. */
export type BodyTime = {
  /** Another body begins. */
  readonly begin: () => void
  /** So many bytes of it came. */
  readonly took: (bytes: number) => void
  /** It is read again after a pause. */
  readonly resumed: () => void
  /** Until when it may come as it does (as `nowMs` counts): to be asked again then. */
  readonly dueMs: () => number
  /**
   * Looks at what has come, once its time has passed, and compares with the look before.
   *
   * @param isRead Whether we read it: while we do not, it is not the client that is slow.
   * @returns Whether it has come too slowly.
   */
  readonly look: (isRead: boolean) => boolean
}

// For who was not read: to show that there is more.
const restartMs = 500

/**
 * Makes one. A body has `requestMs`, and more for as long as it keeps its rate; but who falls silent for as long is given
 * up within twice that, however much has come (security.md §4.1).
 */
export function createBodyTime(
  { requestMs, minBodyRate }: Pick<ServerLimits, 'requestMs' | 'minBodyRate'>,
  { nowMs }: Pick<Deadlines, 'nowMs'>,
): BodyTime {
  let begunMs = nowMs()
  let bytes = 0
  // When its time had passed last; -1: it was not read all the time since.
  let bytesThen = -1
  return {
    begin() {
      begunMs = nowMs()
      bytes = 0
      bytesThen = -1
    },
    took(more) {
      bytes += more
    },
    resumed() {
      bytesThen = -1
    },
    dueMs,
    look(isRead) {
      if (!isRead) begunMs = nowMs() - requestMs + restartMs
      const isSilent = isRead && bytes === bytesThen
      bytesThen = isRead ? bytes : -1
      return isSilent || dueMs() <= nowMs()
    },
  }

  function dueMs(): number {
    return Math.min(begunMs + requestMs + (bytes / minBodyRate) * 1000, nowMs() + requestMs)
  }
}
