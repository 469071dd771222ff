// A worker's copy of one blacklist. The primary alone polls; the copy ages here, by the time of the poll it came from.
import { unreachable } from '../../base/errors.ts'
import type { Log } from '../../io/log.ts'
import type { Blacklist, BlacklistOptions } from '../../sources/blacklist.ts'
import type { FeedDeps } from '../../sources/blacklist-pages.ts'
import type { Holding } from '../../sources/held-list.ts'
import { openList, shareCapacity } from '../../sources/held-list.ts'
import type { RevocationIndex } from '../../spec/revocation.ts'
import { createRevocationIndex } from '../../spec/revocation.ts'
import type { ListLimits } from './publisher.ts'
import type { ListState, ToWorker } from './worker-messages.ts'
import { readEntry } from './worker-messages.ts'

/** What the primary says of a list. */
export type ListMessage = Extract<ToWorker, { readonly kind: `list_${string}` }>

/** What has been sent of one list. It is there before the configuration that uses it. */
export type ListCopy = {
  readonly holding: Holding
  /** What may be held, as told with what was sent. */
  readonly limits: () => ListLimits
  readonly receive: (message: ListMessage) => void
  /** Has somebody told of entries that have come; one at a time. */
  onAdded: () => void
  /** Has somebody told of every good poll; one at a time. */
  onPolled: () => void
}

/** Makes a copy of nothing yet. */
export function createListCopy(): ListCopy {
  const holding: Holding = { held: undefined, good: undefined, unlisted: 0 }
  let coming: { readonly index: RevocationIndex; readonly inherited: RevocationIndex } | undefined
  let limits: ListLimits = { cache_size: 0, purge_delay: 0 }
  const copy: ListCopy = { holding, limits: () => limits, receive, onAdded() {}, onPolled() {} }
  return copy

  function receive(message: ListMessage): void {
    switch (message.kind) {
      case 'list_begin':
        // The primary has seen to it that they fit.
        coming = {
          index: createRevocationIndex({ capacity: Number.POSITIVE_INFINITY }),
          inherited: createRevocationIndex({ capacity: Number.POSITIVE_INFINITY }),
        }
        return
      case 'list_slice':
      case 'list_added': {
        const part = message.kind === 'list_added' ? 'added' : message.part
        const into = part === 'added' ? [holding.held?.index, coming?.index] : [coming?.[part]]
        for (const entry of message.entries) for (const index of into) index?.put(readEntry(entry))
        if (part === 'added') copy.onAdded()
        return
      }
      case 'list_end':
        if (coming !== undefined) settle(coming, message.state)
        coming = undefined
        return
      case 'list_state':
        if (holding.held !== undefined) settle(holding.held, message.state)
        return
      default:
        unreachable(message)
    }
  }

  function settle(lists: Pick<NonNullable<Holding['held']>, 'index' | 'inherited'>, state: ListState): void {
    const { good, totalLive, unlisted, leftOutUntil, serverTimeS, toldMs, cacheSize, purgeDelay } = state
    const { index, inherited } = lists
    index.noteLeftOut(leftOutUntil)
    holding.held = { index, inherited, totalLive, serverTimeS, toldMs }
    holding.good = good ?? undefined
    holding.unlisted = unlisted
    limits = { cache_size: cacheSize, purge_delay: purgeDelay }
    shareCapacity(holding.held, cacheSize)
    copy.onPolled()
  }
}

/** What a list that is sent here needs beside its copy. */
export type ReplicaListDeps = FeedDeps & { readonly log: Pick<Log, 'warn'> }

/**
 * Makes a blacklist of a copy.
 *
 * Single tokens that may be outside memory are asked for by the worker itself, as tokens are introspected by it: that
 * work grows with the requests, and must not keep the one process that polls from polling.
 */
export function createReplicaList(options: BlacklistOptions, copy: ListCopy, deps: ReplicaListDeps): Blacklist {
  // The list may be that of the next configuration, and is not sent again with it: what that keeps must not go before. Nor
  // what the one that runs here still needs.
  const sized = {
    ...options,
    get cache_size() {
      return copy.limits().cache_size
    },
    get purge_delay() {
      return Math.max(options.purge_delay, copy.limits().purge_delay)
    },
  }
  const { feed, lookups, list } = openList(sized, copy.holding, deps)
  let purging = false
  return {
    start() {
      // Where one of them has made an older one go, what was answered before that was revoked must not count again.
      copy.onAdded = lookups.forget
      copy.onPolled = () => {
        lookups.forget()
        void purge()
      }
    },
    check: list.check,
    poll: async () => {},
    state: () => ({ ...list.state(), failure: undefined, lagSeconds: 0, skewSeconds: 0 }),
    snapshot: () => undefined,
    watch() {},
    close: feed.close,
  }

  async function purge(): Promise<void> {
    if (purging) return
    purging = true
    try {
      await list.purge()
    } finally {
      purging = false
    }
  }
}
