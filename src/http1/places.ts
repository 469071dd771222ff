// Which of several places a request goes to: the one with the least to do, and passive health. The same for every protocol.
import type { Deadlines } from './deadlines.ts'
import type { OpenSocket } from './upstream-connection.ts'

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
  /** Told what came from one of them in place of an answer, for people, and never a byte of it. */
  readonly broke?: (endpoint: Endpoint, found: string) => void
}

/** A place, with what its pool holds of it. */
export type Place<Held> = Held & {
  readonly endpoint: Endpoint
  /** Without an answer, in a row. */
  failures: number
  /** Until when it is left alone, as `Deadlines.nowMs` counts. */
  restsUntilMs: number
}

/** The places of one pool. */
export type Places<Held> = {
  /** Those that are listed. */
  readonly all: () => readonly Place<Held>[]
  /** Whether it is known which there are, be it none. */
  readonly areKnown: () => boolean
  /**
   * The one with the least to do of those that work, other than `failed`; of all, where none does, and rather not
   * `failed`; undefined where there is none. With no try left (default 1), one that has failed lately does not work:
   * others find out whether it does.
   */
  readonly choose: (triesLeft?: number, failed?: Place<Held>) => Place<Held> | undefined
  /** It answers: what it failed before is forgotten. */
  readonly answered: (place: Place<Held>) => void
  readonly blame: (place: Place<Held>) => void
  /** Takes up what is listed now. @returns Those that are not listed any more: they finish what they are at. */
  readonly arrange: () => readonly Place<Held>[]
}

// An endpoint that failed so often in a row is given a rest, as long as there are others.
const maxFailures = 3
const restMs = 5000
// More than any place can have to do; and more than that, but less than what is known to fail.
const justFailed = 1e6
const doubtful = 2e6

/** Makes the places of one pool; `hold` makes what it holds of a new one, `busyOf` counts what that has to do. */
export function createPlaces<Held extends object>(
  endpoints: Endpoints,
  deadlines: Deadlines,
  hold: () => Held,
  busyOf: (held: Held) => number,
): Places<Held> {
  let listed: readonly Endpoint[] | undefined
  let places: readonly Place<Held>[] = []
  let turn = 0
  arrange()
  return {
    all: () => places,
    areKnown: () => listed !== undefined,
    choose,
    answered(place) {
      place.failures = 0
    },
    blame(place) {
      place.failures += 1
      if (place.failures >= maxFailures) place.restsUntilMs = deadlines.nowMs() + restMs
    },
    arrange,
  }

  function choose(triesLeft = 1, failed?: Place<Held>): Place<Held> | undefined {
    if (places.length < 2) return places[0]
    const nowMs = deadlines.nowMs()
    turn = (turn + 1) % places.length
    let best: Place<Held> | undefined
    let least = Number.POSITIVE_INFINITY
    for (let at = 0; at < places.length; at += 1) {
      const place = places[(turn + at) % places.length]
      if (place === undefined) continue
      const busy = busyOf(place)
      // After its rest one request at a time finds out whether it works again.
      const isResting = place.failures >= maxFailures && (place.restsUntilMs > nowMs || busy > 0)
      const isDoubtful = (triesLeft === 0 && place.failures > 0) || isResting
      const cost = busy + (isDoubtful ? doubtful : 0) + (place === failed ? justFailed : 0)
      if (cost >= least) continue
      best = place
      least = cost
    }
    return best
  }

  function arrange(): readonly Place<Held>[] {
    listed = endpoints.list()
    const before = places
    places = (listed ?? []).map(
      (endpoint) =>
        before.find((place) => place.endpoint === endpoint) ?? { ...hold(), endpoint, failures: 0, restsUntilMs: 0 },
    )
    return before.filter((place) => !places.includes(place))
  }
}
