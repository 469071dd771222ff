// The connections to an upstream: kept, counted, waited for, and never more than allowed.
import type { Bagged } from '../base/bag.ts'
import { createBag } from '../base/bag.ts'
import type { Deadline, Deadlines } from './deadlines.ts'
import type { AnswerEvents, Upstream, UpstreamProblem, UpstreamRequest } from './exchange.ts'
import type { PoolLimits } from './limits.ts'
import type { Endpoints, Place } from './places.ts'
import { createPlaces } from './places.ts'
import type { LostRequest, UpstreamConnection } from './upstream-connection.ts'
import { createUpstreamConnection } from './upstream-connection.ts'

/** What is held of one place. */
type Held = {
  /** Connections nobody uses; the one used last is used next, so that the others can end. */
  readonly idle: UpstreamConnection[]
  /** How many there are, with those. */
  open: number
}
type OwnPlace = Place<Held>

/** A request that has no connection yet. */
type Waiting = Bagged & {
  readonly request: UpstreamRequest
  readonly events: AnswerEvents
  /** Whether a kept connection will not do: one was lost before. */
  readonly wantsNew: boolean
  triesLeft: number
  isCancelled: boolean
  /** How long it may wait in the queue; undefined while it is not in it. */
  deadline: Deadline | undefined
}

/** Makes the pool of one upstream. */
export function createUpstreamPool(endpoints: Endpoints, limits: PoolLimits, deadlines: Deadlines): Upstream {
  const hold = () => ({ idle: [], open: 0 })
  const places = createPlaces<Held>(endpoints, deadlines, hold, ({ open, idle }) => open - idle.length)
  let isClosed = false
  const connections = createBag<UpstreamConnection>()
  const waitings = createBag<Waiting>()
  const queue: Waiting[] = []
  endpoints.watch?.(changed)
  return { open, cancel, isFull, close }

  function open(request: UpstreamRequest, events: AnswerEvents): void {
    const place = places.choose()
    const connection = place === undefined ? undefined : takeIdle(place)
    if (connection !== undefined) connection.send(request, events)
    else enter(waitingOf(request, events, false), place)
  }

  /** @param wantsNew Then there is no try but the one on that. */
  function waitingOf(request: UpstreamRequest, events: AnswerEvents, wantsNew: boolean): Waiting {
    return { request, events, wantsNew, triesLeft: wantsNew ? 0 : 1, isCancelled: false, deadline: undefined }
  }

  /** A request for which no connection is free: a new one, or the queue. */
  function enter(waiting: Waiting, place: OwnPlace | undefined): void {
    if (isClosed || (place === undefined && places.areKnown())) {
      giveUp(waiting, 'connect')
      return
    }
    // One that is kept at another place is in the way of the one that is wanted here.
    if (place !== undefined && connections.size() >= limits.connections) longestIdle()?.destroy()
    if (place !== undefined && connections.size() < limits.connections) dial(place, waiting)
    else if (queue.length >= limits.queued) giveUp(waiting, 'overloaded')
    else enqueue(waiting)
  }

  function enqueue(waiting: Waiting): void {
    waiting.deadline = {
      atMs: deadlines.nowMs() + limits.queuedMs,
      expire() {
        leaveQueue(waiting)
        giveUp(waiting, connections.size() < limits.connections ? 'connect' : 'overloaded')
      },
    }
    waitings.add(waiting)
    deadlines.watch(waiting.deadline)
    queue.push(waiting)
  }

  function longestIdle(): UpstreamConnection | undefined {
    return places.all().find(({ idle }) => idle.length > 0)?.idle[0]
  }

  function giveUp(waiting: Waiting, problem: UpstreamProblem): void {
    waitings.delete(waiting)
    waiting.events.failed(problem)
  }

  function begin(connection: UpstreamConnection, waiting: Waiting): void {
    waitings.delete(waiting)
    connection.send(waiting.request, waiting.events)
  }

  function leaveQueue(waiting: Waiting): void {
    if (waiting.deadline === undefined) return
    deadlines.unwatch(waiting.deadline)
    waiting.deadline = undefined
    const at = queue.indexOf(waiting)
    if (at !== -1) queue.splice(at, 1)
  }

  function dial(place: OwnPlace, waiting: Waiting): void {
    waitings.add(waiting)
    let first: Waiting | undefined = waiting
    const connection = createUpstreamConnection(place.endpoint.open, limits, deadlines, {
      connected() {
        const now = first
        first = undefined
        // Whoever it was for may have left meanwhile.
        if (now !== undefined && !now.isCancelled) begin(connection, now)
        else release(place, connection)
      },
      answered: () => places.answered(place),
      idle: () => release(place, connection),
      failed: (problem, lost) => retry(place, problem, lost),
      closed(why) {
        connections.delete(connection)
        place.open -= 1
        const at = place.idle.indexOf(connection)
        if (at !== -1) place.idle.splice(at, 1)
        const unserved = first
        first = undefined
        if (unserved !== undefined && !isClosed) {
          places.blame(place)
          endpoints.failed?.(place.endpoint, why)
        }
        if (unserved !== undefined && !unserved.isCancelled) again(unserved, place)
        serveQueue()
      },
    })
    connections.add(connection)
    place.open += 1
  }

  /** No byte of it was sent: once, on a new connection, elsewhere if there is one (product.md §8). */
  function again(waiting: Waiting, failed: OwnPlace): void {
    if (waiting.triesLeft === 0) {
      giveUp(waiting, 'connect')
      return
    }
    waiting.triesLeft -= 1
    enter(waiting, places.choose(waiting.triesLeft, failed))
  }

  function retry(place: OwnPlace, problem: UpstreamProblem, lost: LostRequest): void {
    const { request, events, isUnlucky, isUnsent } = lost
    // A kept connection may be closed by the other side just as it is used again: that is nobody's failure.
    if (isUnlucky && (request.repeatable || isUnsent)) {
      enter(waitingOf(request, events, true), places.choose(0, place))
      return
    }
    if (!isUnlucky) places.blame(place)
    events.failed(problem)
  }

  function release(place: OwnPlace, connection: UpstreamConnection): void {
    // An endpoint that is not listed any more gets nothing.
    if (!places.all().includes(place)) {
      connection.destroy()
      return
    }
    const next = queue.find(({ wantsNew }) => !wantsNew)
    if (next !== undefined) {
      leaveQueue(next)
      begin(connection, next)
    } else if (queue.length > 0)
      connection.destroy() // makes room for the new one that is wanted
    else place.idle.push(connection)
  }

  function serveQueue(): void {
    while (queue.length > 0 && connections.size() < limits.connections) {
      const next = queue[0]
      const place = places.choose(next?.triesLeft)
      if (next === undefined || place === undefined) return
      leaveQueue(next)
      dial(place, next)
    }
  }

  function takeIdle(place: OwnPlace): UpstreamConnection | undefined {
    for (let connection = place.idle.pop(); connection !== undefined; connection = place.idle.pop()) {
      if (connection.isUsable()) return connection
      connection.destroy()
    }
    return undefined
  }

  function changed(): void {
    for (const { idle } of places.arrange()) for (const connection of idle.splice(0)) connection.destroy()
    if (places.all().length > 0) serveQueue()
    else if (places.areKnown())
      for (const queued of [...queue]) {
        leaveQueue(queued)
        giveUp(queued, 'connect')
      }
  }

  function cancel(events: AnswerEvents): void {
    // Only who breaks off is looked for.
    const waiting = waitings.all().find((each) => each.events === events)
    if (waiting === undefined) return
    waiting.isCancelled = true
    waitings.delete(waiting)
    leaveQueue(waiting)
  }

  function isFull(): boolean {
    return queue.length >= limits.queued && connections.size() >= limits.connections && longestIdle() === undefined
  }

  function close(): void {
    isClosed = true
    for (const queued of [...queue]) {
      leaveQueue(queued)
      giveUp(queued, 'connect')
    }
    for (const connection of connections.all()) connection.destroy()
  }
}
