// The connections to an upstream: kept, counted, waited for, and never more than allowed.
import type { Deadline, Deadlines } from './deadlines.ts'
import type { AnswerEvents, Upstream, UpstreamProblem, UpstreamRequest } from './exchange.ts'
import type { PoolLimits } from './limits.ts'
import type { LostRequest, OpenSocket, UpstreamConnection } from './upstream-connection.ts'
import { createUpstreamConnection } from './upstream-connection.ts'

/** One place that answers requests. */
export type Endpoint = { readonly name: string; readonly open: OpenSocket }

/** The places there are at the moment. A list that has changed is another list. */
export type Endpoints = { readonly list: () => readonly Endpoint[] }

/** What one endpoint has. */
type Place = {
  readonly endpoint: Endpoint
  /** Connections nobody uses; the one used last is used next, so that the others can end. */
  readonly idle: UpstreamConnection[]
  readonly all: Set<UpstreamConnection>
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
  let listed: readonly Endpoint[] = []
  let places: Place[] = []
  let count = 0
  let turn = 0
  const waitings = new Map<AnswerEvents, Waiting>()
  const queue: (Waiting & Deadline)[] = []
  return { open, cancel, isFull, close }

  function open(request: UpstreamRequest, events: AnswerEvents): void {
    if (endpoints.list() !== listed) arrange()
    const place = choose()
    const connection = place === undefined ? undefined : takeIdle(place)
    if (connection !== undefined) connection.send(request, events)
    else enter({ request, events, wantsNew: false, triesLeft: 1, isCancelled: false }, place)
  }

  /** A request for which no connection is free: a new one, or the queue. */
  function enter(waiting: Waiting, place: Place | undefined): void {
    if (place === undefined) giveUp(waiting, 'connect')
    else if (count < limits.connections) dial(place, waiting)
    else if (queue.length >= limits.queued) giveUp(waiting, 'overloaded')
    else {
      const queued = Object.assign(waiting, {
        atMs: deadlines.nowMs() + limits.queuedMs,
        expire() {
          leaveQueue(queued)
          giveUp(queued, 'overloaded')
        },
      })
      waitings.set(waiting.events, waiting)
      deadlines.watch(queued)
      queue.push(queued)
    }
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
    count += 1
    waitings.set(waiting.events, waiting)
    let first: Waiting | undefined = waiting
    const connection = createUpstreamConnection(place.endpoint.open, limits, deadlines, {
      connected() {
        place.failures = 0
        const now = first
        first = undefined
        // Whoever it was for may have left meanwhile.
        if (now !== undefined && !now.isCancelled) begin(connection, now)
        else release(place, connection)
      },
      idle() {
        place.failures = 0
        release(place, connection)
      },
      failed: (problem, lost) => retry(place, problem, lost),
      closed() {
        count -= 1
        place.all.delete(connection)
        const at = place.idle.indexOf(connection)
        if (at !== -1) place.idle.splice(at, 1)
        const unserved = first
        first = undefined
        if (unserved !== undefined) {
          blame(place)
          if (!unserved.isCancelled) again(unserved)
        }
        serveQueue()
      },
    })
    place.all.add(connection)
  }

  /** No byte of it was sent: once, on a new connection (product.md §8). */
  function again(waiting: Waiting): void {
    if (waiting.triesLeft === 0) {
      giveUp(waiting, 'connect')
      return
    }
    waiting.triesLeft -= 1
    enter(waiting, choose())
  }

  function retry(place: Place, problem: UpstreamProblem, { request, events, isUnlucky }: LostRequest): void {
    // A kept connection may be closed by the other side just as it is used again: that is nobody's failure.
    if (isUnlucky && request.repeatable) {
      const once = { ...request, repeatable: false }
      enter({ request: once, events, wantsNew: true, triesLeft: 0, isCancelled: false }, choose())
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
    while (queue.length > 0 && count < limits.connections) {
      const next = queue[0]
      const place = choose()
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

  /** The one with the least to do of those that work; of all, where none does. */
  function choose(): Place | undefined {
    const only = places[0]
    if (places.length < 2) return only
    const nowMs = deadlines.nowMs()
    turn = (turn + 1) % places.length
    let best: Place | undefined
    let least = Number.POSITIVE_INFINITY
    for (let at = 0; at < places.length; at += 1) {
      const place = places[(turn + at) % places.length]
      if (place === undefined) continue
      const busy = place.all.size - place.idle.length + (place.restsUntilMs > nowMs ? 1e6 : 0)
      if (busy >= least) continue
      best = place
      least = busy
    }
    return best
  }

  /** Takes up what is listed now; what is not listed any more finishes what it is at. */
  function arrange(): void {
    listed = endpoints.list()
    const before = places
    places = listed.map(
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
    return queue.length >= limits.queued && count >= limits.connections
  }

  function close(): void {
    for (const queued of queue.splice(0)) deadlines.unwatch(queued)
    for (const { all } of places) for (const connection of all) connection.destroy()
  }
}
