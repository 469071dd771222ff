// Who takes some of the memory that all have together, in the order in which they began: who holds it longest makes room.
// A list of links: a `Set` is none for what comes and goes (`base/bag.ts`).

/** One that may be told to let go of what it holds, since all hold too much together. */
export type Holder = {
  bytes: number
  /** Undefined while it holds nothing. */
  line: Line | undefined
  before: Holder | undefined
  behind: Holder | undefined
  readonly expel: () => void
  /** How much it still holds, where that becomes less without a word. Less than what was counted: it is not the one. */
  readonly look: (() => number) | undefined
}

/** Those that hold something of one kind. */
export type Line = {
  maxBytes: number
  bytes: number
  first: Holder | undefined
  last: Holder | undefined
}

/** Makes a line with nobody in it. */
export function createLine(maxBytes: number): Line {
  return { maxBytes, bytes: 0, first: undefined, last: undefined }
}

/** Makes one that holds nothing. */
export function createHolder(expel: () => void, look?: () => number): Holder {
  return { bytes: 0, line: undefined, before: undefined, behind: undefined, expel, look }
}

/** Has it hold so many bytes in this line. While that are too many those are expelled who have stood longest. */
export function count(holder: Holder, line: Line, bytes: number): void {
  if (holder.line !== line) stand(holder, line, bytes)
  line.bytes += bytes - holder.bytes
  holder.bytes = bytes
  for (let first = line.first; line.bytes > line.maxBytes && first !== undefined; first = line.first) {
    const left = first.look?.() ?? first.bytes
    if (left > 0 && left < first.bytes) stand(first, line, left)
    else {
      // Before it is told: it says so itself, too.
      leave(first)
      if (left > 0) first.expel()
    }
  }
}

/** Has it stand last in a line, with so many bytes. */
export function stand(holder: Holder, line: Line, bytes: number): void {
  leave(holder)
  holder.bytes = bytes
  line.bytes += bytes
  holder.line = line
  holder.before = line.last
  if (line.last === undefined) line.first = holder
  else line.last.behind = holder
  line.last = holder
}

/** Has it hold nothing. */
export function leave(holder: Holder): void {
  const { line, before, behind } = holder
  if (line === undefined) return
  if (before === undefined) line.first = behind
  else before.behind = behind
  if (behind === undefined) line.last = before
  else behind.before = before
  line.bytes -= holder.bytes
  holder.bytes = 0
  holder.line = undefined
  holder.before = undefined
  holder.behind = undefined
}
