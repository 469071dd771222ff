// The connections to an upstream: kept, counted, waited for, and never more than allowed.
import type { Deadline, Deadlines } from './deadlines.ts'
import type { AnswerEvents, Upstream, UpstreamProblem, UpstreamRequest } from './exchange.ts'
import type { PoolLimits } from './limits.ts'
import type { LostRequest, OpenSocket, UpstreamConnection } from './upstream-connection.ts'
import { createUpstreamConnection } from './upstream-connection.ts'

/** One place that answers requests. */
export type Endpoint = { readonly name: string; readonly open: OpenSocket }

/** The places there are at the moment. */
export type Endpoints = {
  /** A list that has changed is another list. Undefined: not known yet, and requests wait for it. */
  readonly list: () => readonly Endpoint[] | undefined
  /** Has this called whenever there is another list. */
  readonly watch?: (changed: () => void) => void
  /** Told why there was no connection to one of them; the reason is for people. */
  readonly failed?: (endpoint: Endpoint, why: string) => void
}

/** What one endpoint has. */
type Place = {
  readonly endpoint: Endpoint
  /** Connections nobody uses; the one used last is used next, so that the others can end. */
  readonly idle: UpstreamConnection[]
  readonly all: Set<UpstreamConnection>
  /** Without an answer, in a row. */
  failures: number
  /** Monotonic milliseconds until which it is left alone. */
  restsUntilMs: number
}

/** A request that has no connection yet. */
type Waiting = {
  readonly request: UpstreamRequest
  readonly events: AnswerEvents
  /** Whether a kept connection will not do: one was lost before. */
  readonly wantsNew: boolean
  triesLeft: number
  isCancelled: boolean
}

// Passive health: an endpoint that failed so often in a row is given a rest, as long as there are others.
const maxFailures = 3
const restMs = 5000

/** Makes the pool of one upstream. */
export function createUpstreamPool(endpoints: Endpoints, limits: PoolLimits, deadlines: Deadlines): Upstream {
  let listed: readonly Endpoint[] | undefined
  let places: Place[] = []
  let turn = 0
  let isClosed = false
  const connections = new Set<UpstreamConnection>()
  const waitings = new Map<AnswerEvents, Waiting>()
  const queue: (Waiting & Deadline)[] = []
  arrange()
  endpoints.watch?.(changed)
  return { open, cancel, isFull, close }

  function open(request: UpstreamRequest, events: AnswerEvents): void {
    const place = choose()
    const connection = place === undefined ? undefined : takeIdle(place)
    if (connection !== undefined) connection.send(request, events)
    else enter({ request, events, wantsNew: false, triesLeft: 1, isCancelled: false }, place)
  }

  /** A request for which no connection is free: a new one, or the queue. */
  function enter(waiting: Waiting, place: Place | undefined): void {
    if (isClosed || (place === undefined && listed !== undefined)) {
      giveUp(waiting, 'connect')
      return
    }
    // One that is kept at another place is in the way of the one that is wanted here.
    if (place !== undefined && connections.size >= limits.connections) longestIdle()?.destroy()
    if (place !== undefined && connections.size < limits.connections) dial(place, waiting)
    else if (queue.length >= limits.queued) giveUp(waiting, 'overloaded')
    else enqueue(waiting)
  }

  function enqueue(waiting: Waiting): void {
    const queued = Object.assign(waiting, {
      atMs: deadlines.nowMs() + limits.queuedMs,
      expire() {
        leaveQueue(queued)
        giveUp(queued, connections.size < limits.connections ? 'connect' : 'overloaded')
      },
    })
    waitings.set(waiting.events, waiting)
    deadlines.watch(queued)
    queue.push(queued)
  }

  function longestIdle(): UpstreamConnection | undefined {
    return places.find(({ idle }) => idle.length > 0)?.idle[0]
  }

  function giveUp(waiting: Waiting, problem: UpstreamProblem): void {
    waitings.delete(waiting.events)
    waiting.events.failed(problem)
  }

  function begin(connection: UpstreamConnection, waiting: Waiting): void {
    waitings.delete(waiting.events)
    connection.send(waiting.request, waiting.events)
  }

  function leaveQueue(queued: Waiting & Deadline): void {
    deadlines.unwatch(queued)
    const at = queue.indexOf(queued)
    if (at !== -1) queue.splice(at, 1)
  }

  function dial(place: Place, waiting: Waiting): void {
    waitings.set(waiting.events, waiting)
    let first: Waiting | undefined = waiting
    const connection = createUpstreamConnection(place.endpoint.open, limits, deadlines, {
      connected() {
        const now = first
        first = undefined
        // Whoever it was for may have left meanwhile.
        if (now !== undefined && !now.isCancelled) begin(connection, now)
        else release(place, connection)
      },
      answered() {
        place.failures = 0
      },
      idle: () => release(place, connection),
      failed: (problem, lost) => retry(place, problem, lost),
      closed(why) {
        connections.delete(connection)
        place.all.delete(connection)
        const at = place.idle.indexOf(connection)
        if (at !== -1) place.idle.splice(at, 1)
        const unserved = first
        first = undefined
        if (unserved !== undefined && !isClosed) {
          blame(place)
          endpoints.failed?.(place.endpoint, why)
        }
        if (unserved !== undefined && !unserved.isCancelled) again(unserved, place)
        serveQueue()
      },
    })
    connections.add(connection)
    place.all.add(connection)
  }

  /** No byte of it was sent: once, on a new connection, elsewhere if there is one (product.md §8). */
  function again(waiting: Waiting, failed: Place): void {
    if (waiting.triesLeft === 0) {
      giveUp(waiting, 'connect')
      return
    }
    waiting.triesLeft -= 1
    enter(waiting, choose(waiting.triesLeft, failed))
  }

  function retry(place: Place, problem: UpstreamProblem, { request, events, isUnlucky }: LostRequest): void {
    // A kept connection may be closed by the other side just as it is used again: that is nobody's failure.
    if (isUnlucky && request.repeatable) {
      enter({ request, events, wantsNew: true, triesLeft: 0, isCancelled: false }, choose(0))
      return
    }
    if (!isUnlucky) blame(place)
    events.failed(problem)
  }

  function blame(place: Place): void {
    place.failures += 1
    if (place.failures >= maxFailures) place.restsUntilMs = deadlines.nowMs() + restMs
  }

  function release(place: Place, connection: UpstreamConnection): void {
    // An endpoint that is not listed any more gets nothing.
    if (!places.includes(place)) {
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
    while (queue.length > 0 && connections.size < limits.connections) {
      const next = queue[0]
      const place = choose(next?.triesLeft)
      if (next === undefined || place === undefined) return
      leaveQueue(next)
      dial(place, next)
    }
  }

  function takeIdle(place: Place): UpstreamConnection | undefined {
    for (let connection = place.idle.pop(); connection !== undefined; connection = place.idle.pop()) {
      if (connection.isUsable()) return connection
      connection.destroy()
    }
    return undefined
  }

  /**
   * The one with the least to do of those that work, other than `failed`; of all, where none does. With no try left, one
   * that has failed lately does not work: others find out whether it does.
   */
  function choose(triesLeft = 1, failed?: Place): Place | undefined {
    const only = places[0]
    if (places.length < 2) return only
    const nowMs = deadlines.nowMs()
    turn = (turn + 1) % places.length
    let best: Place | undefined
    let least = Number.POSITIVE_INFINITY
    for (let at = 0; at < places.length; at += 1) {
      const place = places[(turn + at) % places.length]
      if (place === undefined) continue
      const busy = place.all.size - place.idle.length
      const isDoubtful = place === failed || (triesLeft === 0 && place.failures > 0) || isResting(place, busy, nowMs)
      const cost = busy + (isDoubtful ? 1e6 : 0)
      if (cost >= least) continue
      best = place
      least = cost
    }
    return best
  }

  /** After its rest one request at a time finds out whether it works again. */
  function isResting({ failures, restsUntilMs }: Place, busy: number, nowMs: number): boolean {
    return failures >= maxFailures && (restsUntilMs > nowMs || busy > 0)
  }

  function changed(): void {
    arrange()
    if (places.length > 0) serveQueue()
    else if (listed !== undefined)
      for (const queued of [...queue]) {
        leaveQueue(queued)
        giveUp(queued, 'connect')
      }
  }

  /** Takes up what is listed now; what is not listed any more finishes what it is at. */
  function arrange(): void {
    listed = endpoints.list()
    const before = places
    places = (listed ?? []).map(
      (endpoint) =>
        before.find((place) => place.endpoint === endpoint) ?? {
          endpoint,
          idle: [],
          all: new Set(),
          failures: 0,
          restsUntilMs: 0,
        },
    )
    for (const place of before)
      if (!places.includes(place)) for (const connection of place.idle.splice(0)) connection.destroy()
  }

  function cancel(events: AnswerEvents): void {
    const waiting = waitings.get(events)
    if (waiting === undefined) return
    waiting.isCancelled = true
    waitings.delete(events)
    const queued = queue.find((each) => each.events === events)
    if (queued !== undefined) leaveQueue(queued)
  }

  function isFull(): boolean {
    return queue.length >= limits.queued && connections.size >= limits.connections && longestIdle() === undefined
  }

  function close(): void {
    isClosed = true
    for (const queued of queue.splice(0)) {
      deadlines.unwatch(queued)
      giveUp(queued, 'connect')
    }
    for (const connection of connections) connection.destroy()
  }
}
