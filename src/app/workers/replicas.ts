// What a worker has been sent of the primary's sources, and the copies that its configuration makes of it.
import type { Clock } from '../../base/time.ts'
import type { Blacklist, BlacklistOptions } from '../../sources/blacklist.ts'
import type { HeldKeysOptions, KeysSnapshot } from '../../sources/held-keys.ts'
import type { Jwks } from '../../sources/jwks.ts'
import type { KeyWanted } from '../../spec/jwk.ts'
import type { Followed } from './publisher.ts'
import type { ReplicaKeys } from './replica-keys.ts'
import { createReplicaKeys } from './replica-keys.ts'
import type { ListCopy, ListMessage, ReplicaListDeps } from './replica-list.ts'
import { createListCopy, createReplicaList } from './replica-list.ts'
import type { ToPrimary, ToWorker } from './worker-messages.ts'

/** Sources that another process keeps. */
export type Replicas = {
  readonly keys: (id: string, options: HeldKeysOptions, suppressed: () => void, previous?: KeysSnapshot) => Jwks
  readonly list: (options: BlacklistOptions, deps: ReplicaListDeps) => Blacklist
}

/** The worker's end of them. */
export type ReplicaStore = {
  readonly replicas: Replicas
  readonly receive: (message: SourceMessage) => void
  /** Lets go of all but these, which are those of the configuration that runs: what the next one has more is sent after it. */
  readonly keepOnly: (sources: readonly Followed[]) => void
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
  const keys = new Map<string, { message: KeysMessage | undefined; readonly copies: Set<ReplicaKeys> }>()
  const lists = new Map<string, ListCopy>()
  const looking = new Map<number, (untilMs: number) => void>()
  let asked = 0
  return {
    replicas: {
      keys: makeKeys,
      list: (options, deps) => createReplicaList(options, listOf(options.issuer), deps),
    },
    receive,
    keepOnly(sources) {
      for (const id of keys.keys()) if (!sources.some(({ keysId }) => keysId === id)) keys.delete(id)
      for (const each of lists.keys())
        if (!sources.some(({ trusted, blacklist }) => trusted.issuer === each && blacklist !== undefined))
          lists.delete(each)
    },
  }

  function receive(message: SourceMessage): void {
    if (message.kind === 'keys') {
      const held = keysOf(message.source)
      held.message = message
      for (const copy of held.copies) give(copy, message)
    } else if (message.kind === 'keys_looked') looking.get(message.ask)?.(message.untilMs)
    else listOf(message.issuer).receive(message)
  }

  function makeKeys(id: string, options: HeldKeysOptions, suppressed: () => void, previous?: KeysSnapshot): Jwks {
    const held = keysOf(id)
    const look = (wanted: KeyWanted) => lookFor(id, wanted)
    const made = createReplicaKeys(options, { clock, look, suppressed }, previous)
    held.copies.add(made)
    if (held.message !== undefined) give(made, held.message)
    return { ...made, close: () => void held.copies.delete(made) }
  }

  function give(copy: ReplicaKeys, { document, startedMs, startedWallMs }: KeysMessage): void {
    copy.take(Buffer.from(document), startedMs, startedWallMs)
  }

  function lookFor(source: string, { kid, algorithm, iat, arrivedMs }: KeyWanted): Promise<number> {
    const ask = asked
    asked += 1
    return new Promise((resolve) => {
      const patience = setTimeout(() => settle(clock.monotonicMs() + unansweredMs), lookMs).unref()
      looking.set(ask, settle)
      const age = typeof iat === 'number' ? iat : null
      send({ kind: 'look_for_key', ask, source, kid: kid ?? null, algorithm, iat: age, arrivedMs })

      function settle(untilMs: number): void {
        clearTimeout(patience)
        looking.delete(ask)
        resolve(untilMs)
      }
    })
  }

  function keysOf(id: string) {
    const held = keys.get(id) ?? { message: undefined, copies: new Set() }
    keys.set(id, held)
    return held
  }

  function listOf(issuer: string): ListCopy {
    const held = lists.get(issuer) ?? createListCopy()
    lists.set(issuer, held)
    return held
  }
}
