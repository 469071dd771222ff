// What a worker has been sent of the primary's sources, and the copies that its configuration makes of it.
import type { Clock } from '../../base/time.ts'
import type { Blacklist, BlacklistOptions } from '../../sources/blacklist.ts'
import type { HeldKeysOptions, KeysSnapshot } from '../../sources/held-keys.ts'
import type { Jwks } from '../../sources/jwks.ts'
import type { KeyWanted } from '../../spec/jwk.ts'
import type { ReplicaKeys } from './replica-keys.ts'
import { createReplicaKeys } from './replica-keys.ts'
import type { ListCopy, ListMessage, ReplicaListDeps } from './replica-list.ts'
import { createListCopy, createReplicaList } from './replica-list.ts'
import type { SourceNumbers, ToPrimary, ToWorker } from './worker-messages.ts'

/** Sources that another process keeps. */
export type Replicas = {
  /** The numbers of an issuer's sources, in the configuration that is being loaded. */
  readonly numbersOf: (issuer: string) => SourceNumbers
  readonly keys: (number: number, options: HeldKeysOptions, suppressed: () => void, previous?: KeysSnapshot) => Jwks
  readonly list: (number: number, options: BlacklistOptions, deps: ReplicaListDeps) => Blacklist
}

/** The worker's end of them. */
export type ReplicaStore = {
  readonly replicas: Replicas
  readonly receive: (message: SourceMessage) => void
  /** Says which sources the next configuration has. */
  readonly expect: (sources: readonly SourceNumbers[]) => void
  /** Lets go of what only configurations before it had. */
  readonly keepExpected: () => void
}

/** What the primary says of its sources. */
export type SourceMessage = Extract<ToWorker, { readonly kind: 'keys' | 'keys_looked' }> | ListMessage

type KeysMessage = Extract<ToWorker, { readonly kind: 'keys' }>

// As long as the primary may take: its own question about where the keys are, and the one for them, 2 s each.
const lookMs = 4000
// A primary that does not answer is not asked by every token that comes along.
const unansweredMs = 1000

/** Makes the store of a worker that has been sent nothing yet. */
export function createReplicaStore({
  clock,
  send,
}: {
  readonly clock: Clock
  readonly send: (message: Extract<ToPrimary, { readonly kind: 'look_for_key' }>) => void
}): ReplicaStore {
  const keys = new Map<number, { message: KeysMessage | undefined; readonly copies: Set<ReplicaKeys> }>()
  const lists = new Map<number, ListCopy>()
  const looking = new Map<number, (untilMs: number) => void>()
  let expected: readonly SourceNumbers[] = []
  // Numbers grow: keys of a greater one were sent ahead of the configuration that has them. A list is sent with its own.
  let newest = 0
  let asked = 0
  return {
    replicas: {
      numbersOf,
      keys: makeKeys,
      list: (number, options, deps) => createReplicaList(options, listOf(number), deps),
    },
    receive,
    expect(sources) {
      expected = sources
      newest = Math.max(newest, ...sources.map((each) => each.keys))
    },
    keepExpected() {
      for (const number of keys.keys())
        if (number <= newest && !expected.some((each) => each.keys === number)) keys.delete(number)
      for (const number of lists.keys()) if (!expected.some((each) => each.list === number)) lists.delete(number)
    },
  }

  function receive(message: SourceMessage): void {
    if (message.kind === 'keys') {
      const held = keysOf(message.source)
      held.message = message
      for (const copy of held.copies) give(copy, message)
    } else if (message.kind === 'keys_looked') looking.get(message.ask)?.(message.untilMs)
    else listOf(message.source).receive(message)
  }

  function numbersOf(issuer: string): SourceNumbers {
    const found = expected.find((each) => each.issuer === issuer)
    if (found === undefined)
      throw new TypeError('Cannot find the sources: the primary has not named any of this issuer')
    return found
  }

  function makeKeys(number: number, options: HeldKeysOptions, suppressed: () => void, previous?: KeysSnapshot): Jwks {
    const held = keysOf(number)
    const look = (wanted: KeyWanted) => lookFor(number, wanted)
    const made = createReplicaKeys(options, { clock, look, suppressed }, previous)
    held.copies.add(made)
    if (held.message !== undefined) give(made, held.message)
    return { ...made, close: () => void held.copies.delete(made) }
  }

  function give(copy: ReplicaKeys, { document, startedMs, startedWallMs }: KeysMessage): void {
    copy.take(Buffer.from(document), startedMs, startedWallMs)
  }

  function lookFor(number: number, { kid, algorithm, iat, arrivedMs }: KeyWanted): Promise<number> {
    const ask = asked
    asked += 1
    return new Promise((resolve) => {
      const patience = setTimeout(() => settle(clock.monotonicMs() + unansweredMs), lookMs).unref()
      looking.set(ask, settle)
      const age = typeof iat === 'number' ? iat : null
      send({ kind: 'look_for_key', ask, source: number, kid: kid ?? null, algorithm, iat: age, arrivedMs })

      function settle(untilMs: number): void {
        clearTimeout(patience)
        looking.delete(ask)
        resolve(untilMs)
      }
    })
  }

  function keysOf(number: number) {
    const held = keys.get(number) ?? { message: undefined, copies: new Set() }
    keys.set(number, held)
    return held
  }

  function listOf(number: number): ListCopy {
    const held = lists.get(number) ?? createListCopy()
    lists.set(number, held)
    return held
  }
}
