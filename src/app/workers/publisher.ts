// Hands what the primary's sources fetch on to its workers (architecture.md §5).
import type { ListChange } from '../../sources/blacklist.ts'
import { listSlice } from '../../sources/held-list.ts'
import type { Revocation, RevocationIndex } from '../../spec/revocation.ts'
import type { IssuerSources } from '../issuer-sources.ts'
import type { Outbox } from './outbox.ts'
import type { ListState, SourceNumbers, ToPrimary, ToWorker } from './worker-messages.ts'
import { writeEntries } from './worker-messages.ts'

/** Follows the sources of the configuration in use, and tells every worker. */
export type Publisher = {
  /** Follows these from now on, and no others; what is new of them is sent before what is queued later. */
  readonly follow: (sources: readonly IssuerSources[], cacheSize: number) => readonly SourceNumbers[]
  /** Sends all there is to one worker, and from then on what comes. */
  readonly connect: (outbox: Outbox) => void
  readonly disconnect: (outbox: Outbox) => void
  /** Looks for a key that a worker does not know; resolves once what was found has been sent. */
  readonly look: (outbox: Outbox, question: Extract<ToPrimary, { readonly kind: 'look_for_key' }>) => Promise<void>
}

type Keys = { readonly number: number; readonly of: IssuerSources['jwks'] }
type List = {
  readonly number: number
  readonly of: NonNullable<IssuerSources['blacklist']>
  readonly cacheSize: number
}
type Snapshot = NonNullable<ReturnType<List['of']['snapshot']>>

/** Makes one that follows nothing yet. */
export function createPublisher(): Publisher {
  let made = 0
  let keys: readonly Keys[] = []
  let lists: readonly List[] = []
  /** Workers, each with the index it was last sent of every list that is still there: what came since was sent as it came. */
  const outboxes = new Map<Outbox, WeakMap<List['of'], RevocationIndex>>()
  return {
    follow,
    connect(outbox) {
      outboxes.set(outbox, new WeakMap())
      for (const each of keys) sendKeys(outbox, each)
      for (const each of lists) queueList(outbox, each)
    },
    disconnect: (outbox) => void outboxes.delete(outbox),
    look,
  }

  function follow(sources: readonly IssuerSources[], cacheSize: number): readonly SourceNumbers[] {
    const [keysBefore, listsBefore] = [keys, lists]
    keys = sources.map(({ jwks }) => keysBefore.find(({ of }) => of === jwks) ?? { number: number(), of: jwks })
    lists = sources.flatMap(({ blacklist }) => {
      if (blacklist === undefined) return []
      return [listsBefore.find(({ of }) => of === blacklist) ?? { number: number(), of: blacklist, cacheSize }]
    })
    for (const each of keys.filter((it) => !keysBefore.includes(it))) followKeys(each)
    for (const each of lists.filter((it) => !listsBefore.includes(it))) followList(each)
    return sources.map(({ trusted, jwks, blacklist }) => ({
      issuer: trusted.issuer,
      keys: keys.find(({ of }) => of === jwks)?.number ?? 0,
      list: lists.find(({ of }) => of === blacklist)?.number ?? null,
    }))
  }

  // Apart, like the next: who is watched must not hold what was followed before it.
  function followKeys(each: Keys): void {
    const tell = () => {
      for (const outbox of outboxes.keys()) sendKeys(outbox, each)
    }
    each.of.watch(tell)
    tell()
  }

  function followList(each: List): void {
    each.of.watch((change) => publish(each, change))
    for (const outbox of outboxes.keys()) queueList(outbox, each)
  }

  function number(): number {
    made += 1
    return made
  }

  function sendKeys(outbox: Outbox, each: Keys): void {
    const held = each.of.snapshot()
    // No longer followed: its last fetch ends after the reload that did without it.
    if (held === undefined || !keys.includes(each)) return
    const { number: source } = each
    const { document, startedMs, startedWallMs } = held
    outbox.send({ kind: 'keys', source, document: document.toString('utf8'), startedMs, startedWallMs })
  }

  function publish(list: List, change: ListChange): void {
    const snapshot = list.of.snapshot()
    if (snapshot === undefined || !lists.includes(list)) return
    const { number: source, cacheSize } = list
    const state = stateOf(snapshot, snapshot, cacheSize)
    const entries = change.kind === 'extended' ? [...change.entries] : []
    for (const outbox of outboxes.keys()) {
      if (change.kind === 'replaced') queueList(outbox, list)
      else if (entries.length > 0) sendAdded(outbox, source, entries)
      // After the entries it speaks for, and after a list that is still on its way.
      outbox.queue(() => outbox.send({ kind: 'list_state', source, state }))
    }
  }

  /** A few at once: a revocation does not wait for a list that is on its way, but is put into that, too. */
  function sendAdded(outbox: Outbox, source: number, entries: readonly Revocation[]): void {
    if (entries.length <= listSlice) {
      outbox.send({ kind: 'list_added', source, entries: writeEntries(entries) })
      return
    }
    outbox.queue(async (deliver) => {
      for (let at = 0; at < entries.length; at += listSlice)
        await deliver(slice(source, 'added', entries.slice(at, at + listSlice)))
    })
  }

  function queueList(outbox: Outbox, { number: source, of, cacheSize }: List): void {
    outbox.queue(async (deliver) => {
      const start = of.snapshot()
      const sent = outboxes.get(outbox)
      if (start === undefined || sent === undefined || sent.get(of) === start.held.index) return
      const { index, inherited } = start.held
      sent.set(of, index)
      outbox.send({ kind: 'list_begin', source })
      // What comes meanwhile is met on the way, or was sent by itself: the walk of a Map sees what is added to it.
      for (const [part, some] of [['index', index] as const, ['inherited', inherited] as const])
        for (const entries of slices(some?.entries() ?? [])) await deliver(slice(source, part, entries))
      outbox.send({ kind: 'list_end', source, state: stateOf(start, of.snapshot() ?? start, cacheSize) })
    })
  }

  async function look(
    outbox: Outbox,
    { ask, source, kid, algorithm, iat, arrivedMs }: Parameters<Publisher['look']>[1],
  ): Promise<void> {
    const jwks = keys.find(({ number: each }) => each === source)?.of
    // A kid-less token's worker has tried every key it was sent: only a set that is newer may hold another.
    const wanted = { kid: kid ?? undefined, algorithm, iat: iat ?? undefined, arrivedMs, verifies: () => false }
    await jwks?.key(wanted)
    outbox.send({ kind: 'keys_looked', ask, untilMs: Math.max(0, jwks?.quietUntilMs() ?? 0) })
  }
}

/**
 * What is told beside the entries. The times are of when the walk began, which had all that was known then; what had to
 * be left out is told as of its end: an entry may have gone before the walk came to it.
 */
function stateOf({ held, good }: Snapshot, end: Snapshot, cacheSize: number): ListState {
  const { index, totalLive, serverTimeS, toldMs } = held
  return {
    good: good === undefined ? null : { startedMs: good.startedMs, wallMs: good.wallMs },
    totalLive,
    unlisted: end.unlisted,
    leftOutUntil: index.leftOutUntil(),
    serverTimeS,
    toldMs,
    cacheSize,
  }
}

function slice(source: number, part: 'index' | 'inherited' | 'added', entries: readonly Revocation[]): ToWorker {
  return { kind: 'list_slice', source, part, entries: writeEntries(entries) }
}

function* slices<T>(items: Iterable<T>): Iterable<readonly T[]> {
  let slice: T[] = []
  for (const item of items) {
    slice.push(item)
    if (slice.length < listSlice) continue
    yield slice
    slice = []
  }
  if (slice.length > 0) yield slice
}
