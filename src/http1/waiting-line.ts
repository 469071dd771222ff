// Requests that no connection is free for: some are promised one that is being made, the others stand in line, so many
// and for so long. The same for every protocol.
import type { Bagged } from '../base/bag.ts'
import { createBag } from '../base/bag.ts'
import type { Deadline, Deadlines } from './deadlines.ts'
import type { AnswerEvents, UpstreamProblem, UpstreamRequest } from './exchange.ts'
import type { PoolLimits } from './limits.ts'

/** A request that has no connection yet. */
export type Waiting = Bagged & {
  readonly request: UpstreamRequest
  readonly events: AnswerEvents
  /** The connection that has lost it before: another is to have it, where there can be one. */
  readonly lostBy: object | undefined
  triesLeft: number
  isCancelled: boolean
  /** How long it may stand in line; undefined while it does not. */
  deadline: Deadline | undefined
}

/** All that wait for a connection of one pool. */
export type WaitingLine = {
  /** @param lostBy Absent: it is new, and may be tried twice. */
  readonly make: (request: UpstreamRequest, events: AnswerEvents, lostBy?: object) => Waiting
  /** A connection is being made for it: it need not stand in line. */
  readonly promise: (waiting: Waiting) => void
  /** Has it stand in line, or gives it up where that is full. */
  readonly queue: (waiting: Waiting) => void
  /** It waits no more: it is sent now. */
  readonly take: (waiting: Waiting) => void
  readonly giveUp: (waiting: Waiting, problem: UpstreamProblem) => void
  /** Gives up all that stand in line: there is nothing to wait for. */
  readonly giveUpAll: () => void
  /** Nobody wants its answer any more. */
  readonly cancel: (events: AnswerEvents) => void
  /** Who has stood in line longest, of those that are wanted. */
  readonly first: (isWanted?: (waiting: Waiting) => boolean) => Waiting | undefined
  readonly isFull: () => boolean
}

/** Makes an empty one; `whyLate` tells what has kept those who stood in line for too long. */
export function createWaitingLine(
  limits: Pick<PoolLimits, 'queued' | 'queuedMs'>,
  deadlines: Deadlines,
  whyLate: () => UpstreamProblem,
): WaitingLine {
  // Those who stand in line, and those who are promised a connection.
  const all = createBag<Waiting>()
  const line: Waiting[] = []
  return { make, promise, queue, take, giveUp, giveUpAll, cancel, first, isFull }

  function make(request: UpstreamRequest, events: AnswerEvents, lostBy?: object): Waiting {
    return {
      request,
      events,
      lostBy,
      triesLeft: lostBy === undefined ? 1 : 0,
      isCancelled: false,
      deadline: undefined,
    }
  }

  function promise(waiting: Waiting): void {
    leave(waiting)
    all.add(waiting)
  }

  function queue(waiting: Waiting): void {
    if (isFull()) {
      giveUp(waiting, 'overloaded')
      return
    }
    waiting.deadline = { atMs: deadlines.nowMs() + limits.queuedMs, expire: () => giveUp(waiting, whyLate()) }
    deadlines.watch(waiting.deadline)
    all.add(waiting)
    line.push(waiting)
  }

  function leave(waiting: Waiting): void {
    if (waiting.deadline === undefined) return
    deadlines.unwatch(waiting.deadline)
    waiting.deadline = undefined
    line.splice(line.indexOf(waiting), 1)
  }

  function take(waiting: Waiting): void {
    leave(waiting)
    all.delete(waiting)
  }

  function giveUp(waiting: Waiting, problem: UpstreamProblem): void {
    take(waiting)
    waiting.events.failed(problem)
  }

  function giveUpAll(): void {
    for (const waiting of line.slice()) if (waiting.deadline !== undefined) giveUp(waiting, 'connect')
  }

  function cancel(events: AnswerEvents): void {
    // Only who breaks off is looked for.
    const waiting = all.all().find((each) => each.events === events)
    if (waiting === undefined) return
    waiting.isCancelled = true
    take(waiting)
  }

  function first(isWanted?: (waiting: Waiting) => boolean): Waiting | undefined {
    return isWanted === undefined ? line[0] : line.find(isWanted)
  }

  function isFull(): boolean {
    return line.length >= limits.queued
  }
}
