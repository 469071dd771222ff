// Who takes some of the memory that all have together, in the order in which they began: who holds it longest makes room,
// and behind all others who has ever let go of some of it.
// A list of links: a `Set` is none for what comes and goes (`base/bag.ts`).

/** One that may be told to let go of what it holds, since all hold too much together. */
export type Holder = {
  bytes: number
  /** Undefined while it holds nothing. */
  line: Line | undefined
  before: Holder | undefined
  behind: Holder | undefined
  /** Whether it has ever let go of some of what it held. */
  hasLetGo: boolean
  readonly expel: () => void
  /** How much it still holds, where that becomes less without a word; of a line all have it, or none. */
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
  return { bytes: 0, line: undefined, before: undefined, behind: undefined, hasLetGo: false, expel, look }
}

/** Has it hold so many bytes in this line. While that are too many those are expelled who have stood longest. */
export function count(holder: Holder, line: Line, bytes: number): void {
  if (holder.line !== line) stand(holder, line, bytes)
  line.bytes += bytes - holder.bytes
  holder.bytes = bytes
  if (line.bytes > line.maxBytes) makeRoom(line, holder.look !== undefined)
}

function makeRoom(line: Line, haveLook: boolean): void {
  if (haveLook) lookAtAll(line)
  if (line.bytes <= line.maxBytes) return
  const part = line.maxBytes / 16
  // A little more than what is too much: all are looked at again only for the next little.
  const most = haveLook ? line.maxBytes - part : line.maxBytes
  const expelled: Holder[] = []
  // Who has just come may wait for a moment only: he and who lets go of some, however slowly, make room where that is not
  // enough. How slowly is not asked: the system lets go of megabytes at once, and of none for many seconds before.
  for (const isLast of [false, true]) {
    let behindBytes = line.bytes
    for (let each = line.first; each !== undefined && line.bytes > most; ) {
      const { behind } = each
      behindBytes -= each.bytes
      if (isLast || (!each.hasLetGo && behindBytes >= part)) {
        // Before it is told: it says so itself, too.
        leave(each)
        expelled.push(each)
      }
      each = behind
    }
  }
  for (const each of expelled) each.expel()
}

/** Nobody is expelled for what others hold no more. Who holds less than before has his place behind all who do not. */
function lookAtAll(line: Line): void {
  const { last } = line
  for (let each = line.first; each !== undefined; ) {
    const { behind } = each
    const left = each.look?.() ?? each.bytes
    if (left < each.bytes) letGo(each, left)
    each = each === last ? undefined : behind
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

/** It has let go of some of what it held, or of all: its place is behind all who have not. */
export function letGo(holder: Holder, left = 0): void {
  const { line } = holder
  if (line === undefined) return
  holder.hasLetGo = true
  if (left === 0) leave(holder)
  else stand(holder, line, left)
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
