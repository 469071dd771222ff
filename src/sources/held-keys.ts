// The key set that is held of one issuer, and what it says of a key: the same in the process that fetched it and in one
// that was sent a copy (product.md §1, "unknown key").
import { parseJsonObject } from '../base/json.ts'
import type { Clock } from '../base/time.ts'
import type { KeyAnswer, KeySet, KeyWanted, VerificationKey } from '../spec/jwk.ts'
import { parseKeySet } from '../spec/jwk.ts'
import { SourceFailed } from './source-failed.ts'

/** How long a set is used, and how far clocks may differ; milliseconds. */
export type HeldKeysOptions = { readonly stale_max: number; readonly leeway: number }

/** A fetched set with the document it was read from, and the times its fetch began. */
export type KeysSnapshot = {
  readonly set: KeySet
  readonly document: Buffer
  readonly startedMs: number
  readonly startedWallMs: number
}

/** One issuer's key set as it is held. */
export type HeldKeys = {
  /** What it says; undefined when it cannot tell: none is held, it is too old, or the key may be newer than it. */
  readonly find: (wanted: KeyWanted) => KeyAnswer | undefined
  /** Whether there is a set, and it is not too old. */
  readonly isUsable: () => boolean
  /** Whether a key is still in the set, and the set is not too old. */
  readonly holds: (key: VerificationKey) => boolean
  /**
   * Reads a document and holds it from now on. Returns what is newly left out of it.
   *
   * @throws SourceFailed, JsonRefused or KeySetRefused; what was held stays then.
   */
  readonly take: (document: Buffer, startedMs: number, startedWallMs: number) => KeySet['dropped']
  /** What is held was found unchanged by a fetch that began then. */
  readonly confirm: (startedMs: number, startedWallMs: number) => void
  readonly held: () => KeysSnapshot | undefined
  readonly state: () => HeldKeysState
}

/** How a key set is, for readiness, metrics and people. */
export type HeldKeysState = {
  readonly loaded: boolean
  readonly keys: number
  readonly stale: boolean
  readonly lastSuccessWallMs: number | undefined
}

/** Most bytes of a key set. */
export const maxKeySetBytes = 262_144
// 100 keys, with all their members and certificate chains.
const jsonLimits = { maxMembers: 4096 } as const
// security.md, "Settled": what one token without kid may cost.
const maxTried = 16

/** Makes a holder of keys; of `previous`, or of nothing yet. */
export function createHeldKeys(
  options: HeldKeysOptions,
  { clock }: { readonly clock: Clock },
  previous?: KeysSnapshot,
): HeldKeys {
  let held = previous
  return { find, isUsable, holds, take, confirm, held: () => held, state }

  function find(wanted: KeyWanted): KeyAnswer | undefined {
    if (held === undefined || isStale(held)) return undefined
    const { set } = held
    const { kid } = wanted
    const key = kid === undefined ? findUnnamed(set, wanted) : set.byKid.get(kid)
    if (key !== undefined) return { kind: 'key', key }
    // Dropped by us: a fetch would bring the same key, and drop it again.
    if (kid !== undefined && set.dropped.some((dropped) => dropped.kid === kid)) return { kind: 'unknown' }
    return isOlderThanSet(wanted, held) ? { kind: 'unknown' } : undefined
  }

  /** A key that were newer than our set would have signed later than the set was fetched, or the request come later. */
  function isOlderThanSet({ iat, arrivedMs }: KeyWanted, { startedMs, startedWallMs }: KeysSnapshot): boolean {
    if (startedMs >= arrivedMs) return true
    // By the clock of now, too: if it was wrong at the fetch and is right again, the token's time is of the right one.
    const fetchedMs = Math.min(startedWallMs, clock.wallMs() - (clock.monotonicMs() - startedMs))
    // 1 s: `iat` is in whole seconds.
    return typeof iat === 'number' && fetchedMs > iat * 1000 + 1000 + options.leeway
  }

  function findUnnamed(set: KeySet, { algorithm, verifies }: KeyWanted): VerificationKey | undefined {
    const fitting = [...set.withoutKid, ...set.byKid.values()].filter(({ algorithms }) =>
      algorithms.includes(algorithm),
    )
    return fitting.slice(0, maxTried).find(verifies)
  }

  function isStale({ startedMs }: KeysSnapshot): boolean {
    return clock.monotonicMs() - startedMs > options.stale_max
  }

  function isUsable(): boolean {
    return held !== undefined && !isStale(held)
  }

  function holds(key: VerificationKey): boolean {
    if (held === undefined || isStale(held)) return false
    if (key.kid === undefined) return held.set.withoutKid.some((each) => isSame(each, key))
    const named = held.set.byKid.get(key.kid)
    return named !== undefined && isSame(named, key)
  }

  function take(document: Buffer, startedMs: number, startedWallMs: number): KeySet['dropped'] {
    const set = readKeySet(document)
    const before = held?.set.dropped ?? []
    held = { set: reuse(set, held?.set), document, startedMs, startedWallMs }
    return set.dropped.filter(({ kid, why }) => !before.some((old) => old.kid === kid && old.why === why))
  }

  function confirm(startedMs: number, startedWallMs: number): void {
    if (held !== undefined) held = { ...held, startedMs, startedWallMs }
  }

  function state(): HeldKeysState {
    return {
      loaded: held !== undefined,
      keys: held === undefined ? 0 : held.set.byKid.size + held.set.withoutKid.length,
      stale: held === undefined || isStale(held),
      lastSuccessWallMs: held?.startedWallMs,
    }
  }
}

/**
 * Reads the bytes of a key set.
 *
 * @throws SourceFailed when there are too many, JsonRefused or KeySetRefused.
 */
export function readKeySet(document: Buffer): KeySet {
  if (document.length > maxKeySetBytes)
    throw new SourceFailed(`Cannot load keys: ${document.length} bytes, at most ${maxKeySetBytes} wanted`)
  return parseKeySet(parseJsonObject(document, jsonLimits))
}

/** The answer of who cannot tell before `untilMs` (monotonic). */
export function unavailable(untilMs: number, { clock }: { readonly clock: Clock }): KeyAnswer {
  return { kind: 'unavailable', retryAfterS: Math.max(1, Math.ceil((untilMs - clock.monotonicMs()) / 1000)) }
}

/** Whom to ask once more about a key that is not held, and when. */
export type AskAgainDeps = {
  readonly clock: Clock
  /** What is held says; undefined when asking may tell. */
  readonly find: (wanted: KeyWanted) => KeyAnswer | undefined
  /** The question under way; undefined where there is none. */
  readonly pending: () => Promise<void> | undefined
  /** Asks. Never rejects; the answer is held before it resolves. */
  readonly begin: (wanted: KeyWanted) => Promise<void>
  /** Until when (monotonic) nobody is asked. */
  readonly quietUntilMs: () => number
  /** Told of every request that the cool-down answers. */
  readonly suppressed: () => void
}

/** Asks once more about a key that is not held, as far as the cool-down allows: one question at a time (product.md §1). */
export async function askAgain(wanted: KeyWanted, deps: AskAgainDeps): Promise<KeyAnswer> {
  const { clock, find, pending, begin, quietUntilMs, suppressed } = deps
  let attempted = false
  // The question that is under way may have begun before this was wanted; the next one has not. With a short cool-down there
  // may be always one under way, of others who want what is not there.
  for (let waits = 0; waits < 2; waits += 1) {
    let asked = pending()
    if (asked === undefined) {
      // One attempt of its own: with no cool-down, whoever fails would be asked for as long as that lasts.
      if (attempted) break
      if (clock.monotonicMs() < quietUntilMs()) {
        suppressed()
        break
      }
      attempted = true
      asked = begin(wanted)
    }
    await asked
    const answer = find(wanted)
    if (answer !== undefined) return answer
  }
  return unavailable(quietUntilMs(), deps)
}

/** The same keys as the same objects, so that "is this key still in the set" is one comparison on every request. */
function reuse(set: KeySet, before: KeySet | undefined): KeySet {
  if (before === undefined) return set
  const same = (key: VerificationKey, old: VerificationKey | undefined) =>
    old !== undefined && isSame(old, key) ? old : key
  return {
    byKid: new Map([...set.byKid].map(([kid, key]) => [kid, same(key, before.byKid.get(kid))])),
    withoutKid: set.withoutKid.map((key) =>
      same(
        key,
        before.withoutKid.find((old) => old.thumbprint === key.thumbprint),
      ),
    ),
    dropped: set.dropped,
  }
}

/** Whether two sets, perhaps from two places, mean one key. */
function isSame(one: VerificationKey, other: VerificationKey): boolean {
  if (one === other) return true
  return one.thumbprint === other.thumbprint && one.algorithms.join() === other.algorithms.join()
}
