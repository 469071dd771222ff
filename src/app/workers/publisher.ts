// Hands what the primary's sources fetch on to its workers (architecture.md §5).
import type { BlacklistSection, ListChange } from '../../sources/blacklist.ts'
import { listSlice } from '../../sources/held-list.ts'
import type { Revocation, RevocationIndex } from '../../spec/revocation.ts'
import type { IssuerSources } from '../issuer-sources.ts'
import type { Deliver, Outbox } from './outbox.ts'
import type { ListState, ToPrimary, ToWorker } from './worker-messages.ts'
import { writeEntries } from './worker-messages.ts'

/** Follows the sources of the configuration in use, and tells every worker. */
export type Publisher = {
  /**
   * Follows these from now on, and no others. New keys are sent at once. A worker's copy of a list stays where another
   * list takes its place that has begun with all it holds, as at a reload.
   */
  readonly follow: (sources: readonly Followed[], limits: ListLimits) => void
  /** Sends all the keys there are to one worker, and from then on what comes. */
  readonly connect: (outbox: Outbox) => void
  readonly disconnect: (outbox: Outbox) => void
  /**
   * Sends a worker the lists that it does not have, as a job of its outbox; resolves when those that are followed by then
   * have been sent, and a configuration with these and no others can be.
   */
  readonly hand: (outbox: Outbox, deliver: Deliver) => Promise<void>
  /** Looks for a key that a worker does not know; resolves once what was found has been sent. */
  readonly look: (outbox: Outbox, question: Extract<ToPrimary, { readonly kind: 'look_for_key' }>) => Promise<void>
}

/** What is followed of one issuer. */
export type Followed = Pick<IssuerSources, 'jwks' | 'keysId' | 'blacklist'> & {
  readonly trusted: Pick<IssuerSources['trusted'], 'issuer'>
}

/** What may be held of each list. */
export type ListLimits = Pick<BlacklistSection, 'cache_size' | 'purge_delay'>

type Jwks = IssuerSources['jwks']
type List = NonNullable<IssuerSources['blacklist']>
type Snapshot = NonNullable<ReturnType<List['snapshot']>>
/** A worker, by issuer. */
type Recipient = {
  /** Which index its copy of a list is of: what came since was sent as it came. */
  readonly sent: Map<string, RevocationIndex>
  /** How much of a list waits for its turn. */
  readonly waiting: Map<string, number>
}

/** Makes one that follows nothing yet. */
export function createPublisher(): Publisher {
  let keys: ReadonlyMap<string, Jwks> = new Map()
  let lists: ReadonlyMap<string, List> = new Map()
  let limits: ListLimits = { cache_size: 0, purge_delay: 0 }
  const recipients = new Map<Outbox, Recipient>()
  return {
    follow,
    connect(outbox) {
      recipients.set(outbox, { sent: new Map(), waiting: new Map() })
      for (const id of keys.keys()) sendKeys(outbox, id)
    },
    disconnect: (outbox) => void recipients.delete(outbox),
    hand,
    look,
  }

  function follow(sources: readonly Followed[], next: ListLimits): void {
    const before = { keys, lists }
    limits = next
    keys = new Map(sources.map(({ keysId, jwks }) => [keysId, jwks]))
    lists = new Map(
      sources.flatMap(({ trusted, blacklist }) => (blacklist === undefined ? [] : [[trusted.issuer, blacklist]])),
    )
    for (const [id, jwks] of keys) if (before.keys.get(id) !== jwks) followKeys(id, jwks)
    for (const [issuer, list] of lists) if (before.lists.get(issuer) !== list) followList(issuer, list)
  }

  // Apart, like the next: who is watched must not hold what was followed before it.
  function followKeys(id: string, jwks: Jwks): void {
    const tell = () => {
      for (const outbox of recipients.keys()) sendKeys(outbox, id)
    }
    jwks.watch(tell)
    tell()
  }

  function followList(issuer: string, list: List): void {
    list.watch((change) => publish(issuer, change))
  }

  function sendKeys(outbox: Outbox, source: string): void {
    // None where they are no longer followed: their last fetch ends after the reload that did without them.
    const held = keys.get(source)?.snapshot()
    if (held === undefined) return
    const { document, startedMs, startedWallMs } = held
    outbox.send({ kind: 'keys', source, document: document.toString('utf8'), startedMs, startedWallMs })
  }

  function publish(issuer: string, change: ListChange): void {
    const snapshot = lists.get(issuer)?.snapshot()
    if (snapshot === undefined) return
    const { index } = snapshot.held
    const state = stateOf(snapshot, snapshot, limits)
    const entries = change.kind === 'unchanged' ? [] : [...change.entries]
    for (const [outbox, to] of recipients) {
      // Whatever its copy is of: they do not wait for a list that has been read anew.
      if (entries.length > 0) sendAdded(outbox, to, issuer, entries)
      // After the entries it speaks for, and for no other list than theirs. That of another issuer may be long on its way.
      const isOfIt = () => to.sent.get(issuer) === index
      const tell = () => outbox.send({ kind: 'list_state', issuer, state })
      if (isOfIt() && !to.waiting.has(issuer)) tell()
      else queue(outbox, to, issuer, (deliver) => (isOfIt() ? tell() : sendList(outbox, issuer, deliver)))
    }
  }

  /** A few at once: a revocation does not wait for a list that is on its way, but is put into that, too. */
  function sendAdded(outbox: Outbox, to: Recipient, issuer: string, entries: readonly Revocation[]): void {
    if (entries.length <= listSlice) {
      outbox.send({ kind: 'list_added', issuer, entries: writeEntries(entries) })
      return
    }
    queue(outbox, to, issuer, async (deliver) => {
      for (const some of slices(entries)) await deliver(slice(issuer, 'added', some))
    })
  }

  function queue(
    outbox: Outbox,
    { waiting }: Recipient,
    issuer: string,
    job: (deliver: Deliver) => Promise<void> | void,
  ): void {
    waiting.set(issuer, (waiting.get(issuer) ?? 0) + 1)
    outbox.queue(async (deliver) => {
      try {
        await job(deliver)
      } finally {
        const left = (waiting.get(issuer) ?? 1) - 1
        if (left > 0) waiting.set(issuer, left)
        else waiting.delete(issuer)
      }
    })
  }

  async function hand(outbox: Outbox, deliver: Deliver): Promise<void> {
    const handed = new Set<string>()
    for (;;) {
      // Looked for anew each time, as a reload may have brought another. A short one does not wait for a long one, and none
      // is sent twice: one that is always another must not hold up a configuration.
      const [next] = [...lists.keys()].filter((each) => !handed.has(each)).sort((a, b) => sizeOf(a) - sizeOf(b))
      if (next === undefined) break
      handed.add(next)
      await sendList(outbox, next, deliver)
    }
    // The worker lets go of what it has of others.
    const { sent } = recipients.get(outbox) ?? {}
    for (const issuer of sent?.keys() ?? []) if (!lists.has(issuer)) sent?.delete(issuer)
  }

  function sizeOf(issuer: string): number {
    return lists.get(issuer)?.snapshot()?.held.index.size() ?? 0
  }

  /** Sends all of a list, unless the worker has it. */
  async function sendList(outbox: Outbox, issuer: string, deliver: Deliver): Promise<void> {
    const start = lists.get(issuer)?.snapshot()
    const { sent } = recipients.get(outbox) ?? {}
    if (start === undefined || sent === undefined || sent.get(issuer) === start.held.index) return
    const { index, inherited } = start.held
    outbox.send({ kind: 'list_begin', issuer })
    // What comes meanwhile is met on the way, or was sent by itself: a walk of a list sees what is added to it.
    for (const [part, some] of [['index', index] as const, ['inherited', inherited] as const])
      for (const entries of slices(some?.entries() ?? [])) await deliver(slice(issuer, part, entries))
    outbox.send({ kind: 'list_end', issuer, state: stateOf(start, lists.get(issuer)?.snapshot() ?? start, limits) })
    sent.set(issuer, index)
  }

  async function look(
    outbox: Outbox,
    { ask, source, kid, algorithm, iat, arrivedMs }: Parameters<Publisher['look']>[1],
  ): Promise<void> {
    const jwks = keys.get(source)
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
function stateOf(start: Snapshot, end: Snapshot, { cache_size, purge_delay }: ListLimits): ListState {
  const { held, good } = start
  const { index, totalLive, serverTimeS, toldMs } = held
  return {
    good: good === undefined ? null : { startedMs: good.startedMs, wallMs: good.wallMs },
    totalLive,
    unlisted: Math.max(start.unlisted, end.unlisted),
    leftOutUntil: index.leftOutUntil(),
    serverTimeS,
    toldMs,
    cacheSize: cache_size,
    purgeDelay: purge_delay,
  }
}

function slice(issuer: string, part: 'index' | 'inherited' | 'added', entries: readonly Revocation[]): ToWorker {
  return { kind: 'list_slice', issuer, part, entries: writeEntries(entries) }
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
