// The way to an upstream that speaks HTTP/2: a session for each place, and more where the streams of one are not enough.
import type { Deadlines } from '../http1/deadlines.ts'
import type { AnswerEvents, Upstream, UpstreamExchange, UpstreamProblem, UpstreamRequest } from '../http1/exchange.ts'
import type { PoolLimits } from '../http1/limits.ts'
import type { Endpoints, Place } from '../http1/places.ts'
import { createPlaces } from '../http1/places.ts'
import type { LostRequest } from '../http1/upstream-connection.ts'
import type { Waiting } from '../http1/waiting-line.ts'
import { createWaitingLine } from '../http1/waiting-line.ts'
import type { SessionHabits, UpstreamSession } from './upstream-session.ts'
import { createUpstreamSession, mostStreams } from './upstream-session.ts'

/** What is held of one place: its sessions, who waits for each to be ready, and what such sessions do. */
type Held = { readonly sessions: Map<UpstreamSession, Waiting[]>; readonly habits: SessionHabits }
type OwnPlace = Place<Held>

/** Makes the pool of one upstream. */
export function createHttp2Upstream(endpoints: Endpoints, limits: PoolLimits, deadlines: Deadlines): Upstream {
  const places = createPlaces<Held>(endpoints, deadlines, hold, busyOf)
  // Those of places that are listed no more, too.
  const sessions = new Set<UpstreamSession>()
  let isClosed = false
  const line = createWaitingLine(limits, deadlines, () => {
    // Where the upstream is there and takes no stream it is not the way to it that fails.
    return isAtLimit() || places.all().some(isShut) ? 'overloaded' : 'connect'
  })
  // Whose head may not be out yet.
  const leaving = new Map<AnswerEvents, UpstreamExchange>()
  // Sent for the second time: there is no third.
  const repeated = new WeakSet<UpstreamRequest>()
  endpoints.watch?.(changed)
  return { open, cancel, isFull, close }

  function open(request: UpstreamRequest, events: AnswerEvents): void {
    enter(line.make(request, events), undefined)
  }

  /** @param failed The place that was tried before. */
  function enter(waiting: Waiting, failed: OwnPlace | undefined): void {
    if (isClosed || (places.areKnown() && places.all().length === 0)) {
      line.giveUp(waiting, 'connect')
      return
    }
    if (!seat(waiting, failed)) line.queue(waiting)
  }

  function isAtLimit(): boolean {
    return sessions.size >= limits.connections
  }

  /** Finds a session for a request, or one that will be ready; false where there is none, and can be none. */
  function seat(waiting: Waiting, failed: OwnPlace | undefined): boolean {
    const place = places.choose(waiting.triesLeft, failed)
    if (place === undefined) return false
    const session = roomAt(place, false, waiting.lostBy)
    if (session !== undefined) {
      begin(session, waiting)
      return true
    }
    for (const [session, promised] of place.sessions) {
      if (!session.isConnecting() || promised.length >= mostStreams) continue
      line.promise(waiting)
      promised.push(waiting)
      return true
    }
    // What is shut may open; another session there would be shut, too.
    if (isShut(place) || isAtLimit()) return seatWhereItCan(waiting, place)
    dial(place, waiting)
    return true
  }

  /**
   * There can be no session more: one at another place will do, where it has company, or else one that is spent, or at last
   * the one that has refused it, as others would go past it there. So where one request finds no room none does.
   */
  function seatWhereItCan(waiting: Waiting, chosen: OwnPlace): boolean {
    const others = places
      .all()
      .filter((place) => place !== chosen)
      .sort((one, two) => busyOf(one) - busyOf(two))
    const { lostBy } = waiting
    for (const { evenSpent, but } of [
      { evenSpent: false, but: lostBy },
      { evenSpent: true, but: lostBy },
      { evenSpent: true, but: undefined },
    ])
      for (const place of [chosen, ...others]) {
        const session = roomAt(place, evenSpent, but)
        if (session === undefined) continue
        if (evenSpent) putLast(place, session)
        begin(session, waiting)
        return true
      }
    return false
  }

  function roomAt(place: OwnPlace, evenSpent: boolean, but: object | undefined): UpstreamSession | undefined {
    for (const session of place.sessions.keys()) if (session !== but && session.hasRoom(evenSpent)) return session
    return undefined
  }

  /** In turn: what spends them ends each the later. */
  function putLast({ sessions: own }: OwnPlace, session: UpstreamSession): void {
    const promised = own.get(session) ?? []
    own.delete(session)
    own.set(session, promised)
  }

  function begin(session: UpstreamSession, waiting: Waiting): void {
    const { request, events } = waiting
    line.take(waiting)
    const exchange = session.send(request, events)
    leaving.set(events, exchange)
    // By then it was told as opened, and whoever gives it up can say so there.
    setImmediate(() => {
      if (leaving.get(events) === exchange) leaving.delete(events)
    })
  }

  function dial(place: OwnPlace, first: Waiting): void {
    line.promise(first)
    const promised = [first]
    const session: UpstreamSession = createUpstreamSession(place.endpoint.open, limits, deadlines, place.habits, {
      room() {
        // Fewer than were promised, where it allows fewer: these wait for an end like everybody else.
        for (const waiting of promised.splice(0)) {
          if (waiting.isCancelled) continue
          if (session.hasRoom(false)) begin(session, waiting)
          else enter(waiting, undefined)
        }
        serveQueue()
      },
      answered: () => places.answered(place),
      failed: (problem, lost) => retry(place, session, problem, lost),
      closed(wasReady, why) {
        sessions.delete(session)
        place.sessions.delete(session)
        if (!wasReady && !isClosed) {
          places.blame(place)
          endpoints.failed?.(place.endpoint, why)
        }
        for (const waiting of promised.splice(0)) again(waiting, place)
        serveQueue()
      },
    })
    sessions.add(session)
    place.sessions.set(session, promised)
  }

  /** No byte of it was sent: once, on a new session, elsewhere if there is one (product.md §8). */
  function again(waiting: Waiting, failed: OwnPlace): void {
    if (waiting.isCancelled) return
    if (waiting.triesLeft === 0) {
      line.giveUp(waiting, 'connect')
      return
    }
    waiting.triesLeft -= 1
    enter(waiting, failed)
  }

  function retry(place: OwnPlace, session: UpstreamSession, problem: UpstreamProblem, lost: LostRequest): void {
    const { request, events, isUnlucky, isUnsent } = lost
    // Refused, or behind the last one of a GOAWAY, or lost with the session: that is nobody's failure.
    if ((isUnsent || (isUnlucky && request.repeatable)) && !repeated.has(request)) {
      const second = { ...request }
      repeated.add(second)
      enter(line.make(second, events, session), place)
      return
    }
    if (!isUnlucky && !isUnsent) places.blame(place)
    events.failed(problem)
  }

  function serveQueue(): void {
    for (let next = line.first(); next !== undefined && seat(next, undefined); next = line.first());
  }

  function changed(): void {
    for (const { sessions: left } of places.arrange()) for (const session of left.keys()) session.retire()
    if (places.all().length > 0) serveQueue()
    else if (places.areKnown()) line.giveUpAll()
  }

  function cancel(events: AnswerEvents): void {
    leaving.get(events)?.abort()
    leaving.delete(events)
    line.cancel(events)
  }

  function isFull(): boolean {
    if (!line.isFull() || !isAtLimit()) return false
    return !places.all().some((place) => [...place.sessions.keys()].some((session) => session.hasRoom(true)))
  }

  function close(): void {
    isClosed = true
    line.giveUpAll()
    for (const session of sessions) session.destroy()
  }
}

function hold(): Held {
  return { sessions: new Map(), habits: { mostRequests: Number.POSITIVE_INFINITY } }
}

function isShut({ sessions }: Held): boolean {
  return [...sessions.keys()].some((session) => session.isShut())
}

function busyOf({ sessions }: Held): number {
  let busy = 0
  for (const [session, promised] of sessions) busy += session.streams() + promised.length
  return busy
}
