// Hands what the primary's sources fetch on to its workers (architecture.md §5).
import type { ListChange } from '../../sources/blacklist.ts'
import { listSlice } from '../../sources/held-list.ts'
import type { Revocation, RevocationIndex } from '../../spec/revocation.ts'
import type { IssuerSources } from '../issuer-sources.ts'
import type { Deliver, Outbox } from './outbox.ts'
import type { ListState, SourceNumbers, ToPrimary, ToWorker } from './worker-messages.ts'
import { writeEntries } from './worker-messages.ts'

/** Follows the sources of the configuration in use, and tells every worker. */
export type Publisher = {
  /** Follows these from now on, and no others. New keys are sent at once, a list with a configuration that has it. */
  readonly follow: (sources: readonly IssuerSources[], cacheSize: number) => readonly SourceNumbers[]
  /** Sends all the keys there are to one worker, and from then on what comes. */
  readonly connect: (outbox: Outbox) => void
  readonly disconnect: (outbox: Outbox) => void
  /**
   * Sends a worker the lists of the configuration in use, as a job of its outbox; resolves once all of them have been sent.
   * What comes of them is sent from then on.
   */
  readonly hand: (outbox: Outbox, deliver: Deliver) => Promise<void>
  /** The worker runs what it was handed last, and needs to know of no other list. */
  readonly runs: (outbox: Outbox) => void
  /** Looks for a key that a worker does not know; resolves once what was found has been sent. */
  readonly look: (outbox: Outbox, question: Extract<ToPrimary, { readonly kind: 'look_for_key' }>) => Promise<void>
}

type Keys = { readonly number: number; readonly of: IssuerSources['jwks'] }
type List = {
  readonly number: number
  readonly issuer: string
  readonly of: NonNullable<IssuerSources['blacklist']>
  readonly cacheSize: number
}
type Recipient = {
  /** Those of what it runs and of what it is on its way to, each with the index it was last sent: what came since was sent as it came. */
  readonly lists: Map<List, RevocationIndex | undefined>
  handed: readonly List[]
}
type Snapshot = NonNullable<ReturnType<List['of']['snapshot']>>

/** Makes one that follows nothing yet. */
export function createPublisher(): Publisher {
  let made = 0
  let keys: readonly Keys[] = []
  let lists: readonly List[] = []
  const recipients = new Map<Outbox, Recipient>()
  return {
    follow,
    connect(outbox) {
      recipients.set(outbox, { lists: new Map(), handed: [] })
      for (const each of keys) sendKeys(outbox, each)
    },
    disconnect: (outbox) => void recipients.delete(outbox),
    hand,
    runs(outbox) {
      const to = recipients.get(outbox)
      for (const each of to?.lists.keys() ?? []) if (to?.handed.includes(each) === false) to.lists.delete(each)
    },
    look,
  }

  function follow(sources: readonly IssuerSources[], cacheSize: number): readonly SourceNumbers[] {
    const [keysBefore, listsBefore] = [keys, lists]
    keys = sources.map(({ jwks }) => keysBefore.find(({ of }) => of === jwks) ?? { number: number(), of: jwks })
    lists = sources.flatMap(({ trusted: { issuer }, blacklist: of }) => {
      if (of === undefined) return []
      return [listsBefore.find((each) => each.of === of) ?? { number: number(), issuer, of, cacheSize }]
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
      for (const outbox of recipients.keys()) sendKeys(outbox, each)
    }
    each.of.watch(tell)
    tell()
  }

  function followList(each: List): void {
    each.of.watch((change) => publish(each, change))
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
    const { number: source, cacheSize, issuer } = list
    const state = stateOf(snapshot, snapshot, cacheSize)
    const entries = change.kind === 'unchanged' ? [] : [...change.entries]
    for (const [outbox, to] of recipients) {
      // What it runs until it has come to this one is no longer followed, and does not do without its issuer's revocations.
      // Nor do they wait for a list that has been read anew.
      for (const each of to.lists.keys())
        if (each.issuer === issuer && entries.length > 0) sendAdded(outbox, each.number, entries)
      if (!to.lists.has(list)) continue
      if (change.kind === 'replaced') queueList(outbox, list)
      // After the entries it speaks for, and after a list that is still on its way. What has been read anew is not sent
      // where it is no longer followed by then.
      outbox.queue(() => {
        if (lists.includes(list)) outbox.send({ kind: 'list_state', source, state })
      })
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

  function queueList(outbox: Outbox, list: List): void {
    outbox.queue(async (deliver) => {
      // What is no longer followed has left all it knew to what is handed over next.
      if (lists.includes(list)) await sendList(outbox, list, deliver)
    })
  }

  async function hand(outbox: Outbox, deliver: Deliver): Promise<void> {
    const to = recipients.get(outbox)
    if (to === undefined) return
    to.handed = lists
    // A short one does not wait for a long one.
    for (const each of to.handed.toSorted((a, b) => sizeOf(a) - sizeOf(b))) await sendList(outbox, each, deliver)
  }

  /** Also one that is no longer followed: who was handed a configuration must have what it needs. */
  async function sendList(outbox: Outbox, list: List, deliver: Deliver): Promise<void> {
    const { number: source, issuer, of, cacheSize } = list
    // What is followed now of its issuer has all that it knew, and what has been revoked since.
    const from = lists.find((each) => each.issuer === issuer)?.of ?? of
    const start = from.snapshot() ?? of.snapshot()
    const to = recipients.get(outbox)
    if (to === undefined) return
    const sent = to.lists.get(list)
    to.lists.set(list, start?.held.index)
    if (start === undefined || sent === start.held.index) return
    const { index, inherited } = start.held
    try {
      outbox.send({ kind: 'list_begin', source })
      // What comes meanwhile is met on the way, or was sent by itself: the walk of a Map sees what is added to it.
      for (const [part, some] of [['index', index] as const, ['inherited', inherited] as const])
        for (const entries of slices(some?.entries() ?? [])) await deliver(slice(source, part, entries))
      outbox.send({ kind: 'list_end', source, state: stateOf(start, from.snapshot() ?? start, cacheSize) })
    } catch (error) {
      // Half a list is none: the next time all of it is sent.
      to.lists.set(list, sent)
      throw error
    }
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

function sizeOf({ of }: List): number {
  return of.snapshot()?.held.index.size() ?? 0
}

/**
 * What is told beside the entries. The times are of when the walk began, which had all that was known then; what had to
 * be left out is told as of its end: an entry may have gone before the walk came to it.
 */
function stateOf(start: Snapshot, end: Snapshot, cacheSize: number): ListState {
  const { held, good } = start
  const { index, totalLive, serverTimeS, toldMs } = held
  return {
    good: good === undefined ? null : { startedMs: good.startedMs, wallMs: good.wallMs },
    totalLive,
    unlisted: Math.max(start.unlisted, end.unlisted),
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
