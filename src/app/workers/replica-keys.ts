// A worker's copy of one key set. The primary alone fetches: one cool-down for all of them.
import type { Clock } from '../../base/time.ts'
import type { HeldKeysOptions, KeysSnapshot } from '../../sources/held-keys.ts'
import { askAgain, createHeldKeys } from '../../sources/held-keys.ts'
import type { Jwks } from '../../sources/jwks.ts'
import type { KeyWanted } from '../../spec/jwk.ts'

/** What a copy needs from outside. */
export type ReplicaKeysDeps = {
  readonly clock: Clock
  /**
   * Has the primary look for a key, as far as its cool-down allows; what it finds is taken before this resolves. Resolves
   * with the time (monotonic) before which asking again is no use. Never rejects.
   */
  readonly look: (wanted: KeyWanted) => Promise<number>
  /** Told of every request that the cool-down answered here. */
  readonly suppressed: () => void
}

/** A key set that is sent here. */
export type ReplicaKeys = Jwks & {
  /** Takes what the primary fetched. Throws what `HeldKeys.take` throws. */
  readonly take: (document: Buffer, startedMs: number, startedWallMs: number) => void
}

/** Makes a copy: of nothing before the first `take`, so that every answer is "unavailable". */
export function createReplicaKeys(
  options: HeldKeysOptions,
  deps: ReplicaKeysDeps,
  previous?: KeysSnapshot,
): ReplicaKeys {
  const keys = createHeldKeys(options, deps, previous)
  let pending: Promise<void> | undefined
  let quietUntilMs = Number.NEGATIVE_INFINITY
  // As in the primary, which stands in the issuer's place.
  const again = { ...deps, find: keys.find, pending: () => pending, begin, quietUntilMs: () => quietUntilMs }
  return {
    start() {},
    key: (wanted) => keys.find(wanted) ?? askAgain(wanted, again),
    holds: keys.holds,
    refresh: async () => {},
    state: () => ({ ...keys.state(), failure: undefined, suppressed: false }),
    quietUntilMs: () => quietUntilMs,
    snapshot: keys.held,
    watch() {},
    close() {},
    take: (document, startedMs, startedWallMs) => void keys.take(document, startedMs, startedWallMs),
  }

  function begin(wanted: KeyWanted): Promise<void> {
    pending = deps.look(wanted).then((untilMs) => {
      quietUntilMs = untilMs
      pending = undefined
    })
    return pending
  }
}
