// The connections to an upstream: kept, counted, waited for, and never more than allowed.
import { createBag } from '../base/bag.ts'
import type { Deadlines } from './deadlines.ts'
import type { AnswerEvents, Upstream, UpstreamProblem, UpstreamRequest } from './exchange.ts'
import type { PoolLimits } from './limits.ts'
import type { Endpoints, Place } from './places.ts'
import { createPlaces } from './places.ts'
import type { LostRequest, UpstreamConnection } from './upstream-connection.ts'
import { createUpstreamConnection } from './upstream-connection.ts'
import type { Waiting } from './waiting-line.ts'
import { createWaitingLine } from './waiting-line.ts'

/** What is held of one place. */
type Held = {
  /** Connections nobody uses; the one used last is used next, so that the others can end. */
  readonly idle: UpstreamConnection[]
  /** How many there are, with those. */
  open: number
}
type OwnPlace = Place<Held>

/** Makes the pool of one upstream. */
export function createUpstreamPool(endpoints: Endpoints, limits: PoolLimits, deadlines: Deadlines): Upstream {
  const hold = () => ({ idle: [], open: 0 })
  const places = createPlaces<Held>(endpoints, deadlines, hold, ({ open, idle }) => open - idle.length)
  let isClosed = false
  const connections = createBag<UpstreamConnection>()
  const line = createWaitingLine(limits, deadlines, () => (isAtLimit() ? 'overloaded' : 'connect'))
  endpoints.watch?.(changed)
  return { open, cancel: line.cancel, isFull, close }

  function open(request: UpstreamRequest, events: AnswerEvents): void {
    const place = places.choose()
    const connection = place === undefined ? undefined : takeIdle(place)
    if (connection !== undefined) connection.send(request, events)
    else enter(line.make(request, events), place)
  }

  /** A request for which no connection is free: a new one, or the queue. */
  function enter(waiting: Waiting, place: OwnPlace | undefined): void {
    if (isClosed || (place === undefined && places.areKnown())) {
      line.giveUp(waiting, 'connect')
      return
    }
    // One that is kept at another place is in the way of the one that is wanted here.
    if (place !== undefined && isAtLimit()) longestIdle()?.destroy()
    if (place !== undefined && !isAtLimit()) dial(place, waiting)
    else line.queue(waiting)
  }

  function isAtLimit(): boolean {
    return connections.size() >= limits.connections
  }

  function longestIdle(): UpstreamConnection | undefined {
    return places.all().find(({ idle }) => idle.length > 0)?.idle[0]
  }

  function begin(connection: UpstreamConnection, waiting: Waiting): void {
    line.take(waiting)
    connection.send(waiting.request, waiting.events)
  }

  function dial(place: OwnPlace, waiting: Waiting): void {
    line.promise(waiting)
    let first: Waiting | undefined = waiting
    const connection: UpstreamConnection = createUpstreamConnection(place.endpoint.open, limits, deadlines, {
      connected() {
        const now = first
        first = undefined
        // Whoever it was for may have left meanwhile.
        if (now !== undefined && !now.isCancelled) begin(connection, now)
        else release(place, connection)
      },
      answered: () => places.answered(place),
      idle: () => release(place, connection),
      failed(problem, lost, found) {
        if (problem === 'reset' && !lost.isUnlucky) endpoints.broke?.(place.endpoint, found)
        retry(place, connection, problem, lost)
      },
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
      line.giveUp(waiting, 'connect')
      return
    }
    waiting.triesLeft -= 1
    enter(waiting, places.choose(waiting.triesLeft, failed))
  }

  function retry(place: OwnPlace, connection: UpstreamConnection, problem: UpstreamProblem, lost: LostRequest): void {
    const { request, events, isUnlucky, isUnsent } = lost
    // A kept connection may be closed by the other side just as it is used again: that is nobody's failure.
    if (isUnlucky && (request.repeatable || isUnsent)) {
      enter(line.make(request, events, connection), places.choose(0, place))
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
    // What a kept connection has lost is sent on a new one.
    const next = line.first(({ lostBy }) => lostBy === undefined)
    if (next !== undefined) begin(connection, next)
    else if (line.first() === undefined) place.idle.push(connection)
    else connection.destroy() // makes room for the new one that is wanted
  }

  function serveQueue(): void {
    for (let next = line.first(); next !== undefined && !isAtLimit(); next = line.first()) {
      const place = places.choose(next.triesLeft)
      if (place === undefined) return
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
    else if (places.areKnown()) line.giveUpAll()
  }

  function isFull(): boolean {
    return line.isFull() && isAtLimit() && longestIdle() === undefined
  }

  function close(): void {
    isClosed = true
    line.giveUpAll()
    for (const connection of connections.all()) connection.destroy()
  }
}
