// The way to an upstream that speaks HTTP/2: a session for each place, and more where the streams of one are not enough.
import type { Deadline, Deadlines } from '../http1/deadlines.ts'
import type { AnswerEvents, Upstream, UpstreamProblem, UpstreamRequest } from '../http1/exchange.ts'
import type { PoolLimits } from '../http1/limits.ts'
import type { LostRequest } from '../http1/upstream-connection.ts'
import type { Endpoint, Endpoints } from '../http1/upstream-pool.ts'
import type { UpstreamSession } from './http2-session.ts'
import { createUpstreamSession, mostStreams } from './http2-session.ts'

/** What one endpoint has. */
type Place = {
  readonly endpoint: Endpoint
  /** And who waits for it to be ready. */
  readonly sessions: Map<UpstreamSession, Waiting[]>
  /** Without an answer, in a row. */
  failures: number
  /** Monotonic milliseconds until which it is left alone. */
  restsUntilMs: number
}

/** A request that has no stream yet. */
type Waiting = Deadline & {
  readonly request: UpstreamRequest
  readonly events: AnswerEvents
  /** The session that has lost it before, which will not do. */
  readonly lostBy: UpstreamSession | undefined
  triesLeft: number
  isCancelled: boolean
}

// Passive health, as for HTTP/1.1: an endpoint that failed so often in a row is given a rest, as long as there are others.
const maxFailures = 3
const restMs = 5000

/** Makes the pool of one upstream. */
export function createHttp2Upstream(endpoints: Endpoints, limits: PoolLimits, deadlines: Deadlines): Upstream {
  let listed: readonly Endpoint[] | undefined
  let places: Place[] = []
  let sessions = 0
  let turn = 0
  let isClosed = false
  const waitings = new Map<AnswerEvents, Waiting>()
  const queue: Waiting[] = []
  arrange()
  endpoints.watch?.(changed)
  return { open, cancel, isFull, close }

  function open(request: UpstreamRequest, events: AnswerEvents): void {
    enter(waitingOf(request, events, undefined, 1), undefined)
  }

  function waitingOf(
    request: UpstreamRequest,
    events: AnswerEvents,
    lostBy: UpstreamSession | undefined,
    triesLeft: number,
  ): Waiting {
    const atMs = Number.POSITIVE_INFINITY
    const waiting = { request, events, lostBy, triesLeft, isCancelled: false, atMs, expire: () => expire(waiting) }
    return waiting
  }

  /** @param failed The place that was tried before. */
  function enter(waiting: Waiting, failed: Place | undefined): void {
    if (isClosed || (listed !== undefined && places.length === 0)) {
      giveUp(waiting, 'connect')
      return
    }
    if (seat(waiting, failed)) return
    if (queue.length >= limits.queued) {
      giveUp(waiting, 'overloaded')
      return
    }
    waiting.atMs = deadlines.nowMs() + limits.queuedMs
    waitings.set(waiting.events, waiting)
    deadlines.watch(waiting)
    queue.push(waiting)
  }

  /** Finds a session for a request, or one that will be ready; false where there is none, and can be none. */
  function seat(waiting: Waiting, failed: Place | undefined): boolean {
    const place = choose(waiting.triesLeft, failed)
    if (place === undefined) return false
    const session = roomAt(place, waiting)
    if (session !== undefined) {
      begin(session, waiting)
      return true
    }
    for (const [session, promised] of place.sessions) {
      if (!session.isConnecting() || promised.length >= mostStreams) continue
      waitings.set(waiting.events, waiting)
      promised.push(waiting)
      return true
    }
    if (sessions >= limits.connections) return seatElsewhere(waiting, place)
    waitings.set(waiting.events, waiting)
    dial(place, waiting)
    return true
  }

  /** There can be no session more: at another place it has company, and here it would wait for nothing. */
  function seatElsewhere(waiting: Waiting, full: Place): boolean {
    const others = places.filter((place) => place !== full).sort((one, two) => busyOf(one) - busyOf(two))
    for (const place of others) {
      const session = roomAt(place, waiting)
      if (session === undefined) continue
      begin(session, waiting)
      return true
    }
    return false
  }

  function roomAt({ sessions: all }: Place, { lostBy }: Waiting): UpstreamSession | undefined {
    for (const session of all.keys()) if (session !== lostBy && session.hasRoom()) return session
    return undefined
  }

  function begin(session: UpstreamSession, waiting: Waiting): void {
    waitings.delete(waiting.events)
    session.send(waiting.request, waiting.events)
  }

  function dial(place: Place, first: Waiting): void {
    const promised = [first]
    const session: UpstreamSession = createUpstreamSession(place.endpoint.open, limits, deadlines, {
      room() {
        // Fewer than were promised, where it allows fewer: these wait for an end like everybody else.
        for (const waiting of promised.splice(0)) {
          if (waiting.isCancelled) continue
          if (session.hasRoom()) begin(session, waiting)
          else enqueue(waiting)
        }
        serveQueue()
      },
      answered() {
        place.failures = 0
      },
      failed: (problem, lost) => retry(place, session, problem, lost),
      closed(wasReady, why) {
        sessions -= 1
        place.sessions.delete(session)
        if (!wasReady && !isClosed) {
          blame(place)
          endpoints.failed?.(place.endpoint, why)
        }
        for (const waiting of promised.splice(0)) again(waiting, place)
        serveQueue()
      },
    })
    sessions += 1
    place.sessions.set(session, promised)
  }

  function enqueue(waiting: Waiting): void {
    waiting.atMs = deadlines.nowMs() + limits.queuedMs
    deadlines.watch(waiting)
    queue.push(waiting)
  }

  /** No byte of it was sent: once, on a new session, elsewhere if there is one (product.md §8). */
  function again(waiting: Waiting, failed: Place): void {
    if (waiting.isCancelled) return
    if (waiting.triesLeft === 0) {
      giveUp(waiting, 'connect')
      return
    }
    waiting.triesLeft -= 1
    enter(waiting, failed)
  }

  function retry(place: Place, session: UpstreamSession, problem: UpstreamProblem, lost: LostRequest): void {
    const { request, events, isUnlucky } = lost
    // Refused, or behind the last one of a GOAWAY, or lost with the session: that is nobody's failure.
    if (isUnlucky && request.repeatable) {
      enter(waitingOf({ ...request, repeatable: false }, events, session, 0), undefined)
      return
    }
    if (!isUnlucky) blame(place)
    events.failed(problem)
  }

  function giveUp(waiting: Waiting, problem: UpstreamProblem): void {
    waitings.delete(waiting.events)
    waiting.events.failed(problem)
  }

  function expire(waiting: Waiting): void {
    leaveQueue(waiting)
    giveUp(waiting, sessions < limits.connections ? 'connect' : 'overloaded')
  }

  function leaveQueue(waiting: Waiting): void {
    deadlines.unwatch(waiting)
    const at = queue.indexOf(waiting)
    if (at !== -1) queue.splice(at, 1)
  }

  function serveQueue(): void {
    for (let next = queue[0]; next !== undefined && seat(next, undefined); next = queue[0]) leaveQueue(next)
  }

  function blame(place: Place): void {
    place.failures += 1
    if (place.failures >= maxFailures) place.restsUntilMs = deadlines.nowMs() + restMs
  }

  /**
   * The one with the least to do of those that work, other than `failed`; of all, where none does. With no try left, one
   * that has failed lately does not work: others find out whether it does.
   */
  function choose(triesLeft: number, failed: Place | undefined): Place | undefined {
    if (places.length < 2) return places[0]
    const nowMs = deadlines.nowMs()
    turn = (turn + 1) % places.length
    let best: Place | undefined
    let least = Number.POSITIVE_INFINITY
    for (let at = 0; at < places.length; at += 1) {
      const place = places[(turn + at) % places.length]
      if (place === undefined) continue
      const busy = busyOf(place)
      const isResting = place.failures >= maxFailures && (place.restsUntilMs > nowMs || busy > 0)
      const isDoubtful = place === failed || (triesLeft === 0 && place.failures > 0) || isResting
      const cost = busy + (isDoubtful ? 1e6 : 0)
      if (cost >= least) continue
      best = place
      least = cost
    }
    return best
  }

  function changed(): void {
    arrange()
    if (listed === undefined) return
    if (places.length > 0) serveQueue()
    else
      for (const waiting of [...queue]) {
        leaveQueue(waiting)
        giveUp(waiting, 'connect')
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
          sessions: new Map(),
          failures: 0,
          restsUntilMs: 0,
        },
    )
    for (const place of before)
      if (!places.includes(place)) for (const session of place.sessions.keys()) session.retire()
  }

  function cancel(events: AnswerEvents): void {
    const waiting = waitings.get(events)
    if (waiting === undefined) return
    waiting.isCancelled = true
    waitings.delete(events)
    leaveQueue(waiting)
  }

  function isFull(): boolean {
    if (queue.length < limits.queued || sessions < limits.connections) return false
    return !places.some((place) => [...place.sessions.keys()].some((session) => session.hasRoom()))
  }

  function close(): void {
    isClosed = true
    for (const waiting of queue.splice(0)) deadlines.unwatch(waiting)
    for (const place of places) for (const session of place.sessions.keys()) session.destroy()
  }
}

function busyOf({ sessions }: Place): number {
  let busy = 0
  for (const [session, promised] of sessions) busy += session.streams() + promised.length
  return busy
}
