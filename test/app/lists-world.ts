// A primary whose reloads make the lists of its feeds anew, and a worker that takes what it is sent when a test says so.
import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Configuration } from '../../src/app/configuration.ts'
import { createHandover } from '../../src/app/workers/handover.ts'
import { createOutbox } from '../../src/app/workers/outbox.ts'
import type { Followed } from '../../src/app/workers/publisher.ts'
import { createPublisher } from '../../src/app/workers/publisher.ts'
import { createReplicaStore } from '../../src/app/workers/replicas.ts'
import type { ToWorker } from '../../src/app/workers/worker-messages.ts'
import { parseToWorker } from '../../src/app/workers/worker-messages.ts'
import type { HttpCall } from '../../src/io/http-client.ts'
import type { Blacklist } from '../../src/sources/blacklist.ts'
import type { Setup } from '../sources/feed-server.ts'
import { answerOf, setup } from '../sources/feed-server.ts'
import { endpoint } from '../sources/key-endpoint.ts'
import { createTestLog } from '../support/log.ts'

/** What a test's lists have room for, and for how long they are good. */
export const limits = { cache_size: 10_000, purge_delay: 60_000, max_staleness: 300_000 }
const unsendable = new Error('It cannot be sent')

/** A feed of which the primary has polled this many entries. */
export async function polledFeed(entries: number, more: Partial<typeof limits> = {}): Promise<Setup> {
  const feed = setup({ ...limits, ...more })
  for (let at = 0; at < entries; at += 1) feed.revoke(`t${at}`)
  await feed.blacklist.poll()
  return feed
}

/** The worker runs the first configuration. What it is sent of a list is told by the place of its feed. */
export async function openPrimary(first: readonly [Setup, ...Setup[]], more: Partial<typeof limits> = {}) {
  const bounds = { ...limits, ...more }
  const keys = endpoint()
  const clock = { wallMs: () => first[0].clock.wallMs, monotonicMs: () => first[0].clock.monotonicMs }
  const store = createReplicaStore({ clock, send: () => assert.fail('no key is looked for') })
  const publisher = createPublisher()
  const waiting: ToWorker[] = []
  let breaksAt: ToWorker['kind'] | undefined
  const outbox = createOutbox(post, (error) => assert.equal(error, unsendable))
  /** Those of each configuration; undefined: an issuer without a list. */
  const feeds: (Setup | undefined)[] = [...first]
  const followed = new Map<string, readonly Followed[]>()
  let runs: readonly Followed[] = []
  let lists: readonly (Blacklist | undefined)[] = []
  let reloads = 0
  let inUse = follow()
  const handover = createHandover({ worker: 1, startedText: '' }, { outbox, inUse: () => inUse, publisher })
  publisher.connect(outbox)
  handover.reloaded()
  await pass()
  return {
    /** With another feed there, or none. */
    reloadWith(at: number, feed: Setup | undefined) {
      feeds[at] = feed
      reloadRules()
    },
    reload,
    reloadRules,
    reloadSame: handover.reloaded,
    pass,
    step,
    queue: outbox.queue,
    list: (at = 0) => lists[at] ?? assert.fail('it runs none there'),
    hasList: (at: number) => lists[at] !== undefined,
    breakAt(kind: ToWorker['kind']) {
      breaksAt = kind
    },
  }

  function post(message: ToWorker): void {
    if (message.kind === breaksAt) {
      breaksAt = undefined
      throw unsendable
    }
    waiting.push(message)
  }

  function follow(): Configuration {
    const sources = feeds.map((feed, at) => {
      return { trusted: { issuer: `https://${at}` }, keysId: `keys-${at}`, jwks: keys.jwks, blacklist: feed?.blacklist }
    })
    publisher.follow(sources, bounds)
    const hash = String(reloads)
    followed.set(hash, sources)
    return { hash, file: 'f', text: '', files: new Map() } as unknown as Configuration // all that it looks at
  }

  function reload(): void {
    for (const feed of feeds) feed?.reload({})
    reloadRules()
  }

  /** Leaves the lists as they are. */
  function reloadRules(): void {
    reloads += 1
    inUse = follow()
    handover.reloaded()
  }

  /** Passes on what the worker is sent, and what it says, until a kind comes or nothing is left; says what that was. */
  async function pass(until?: ToWorker['kind']): Promise<readonly string[]> {
    const passed: string[] = []
    for (;;) {
      await nextTurn()
      if (waiting[0]?.kind === until) return passed
      passed.push((await step()) ?? assert.fail(`${until} is not sent`))
    }
  }

  /** Passes on one message, as a process would read it, and says which; undefined: there is none. */
  async function step(): Promise<string | undefined> {
    await nextTurn()
    const sent = waiting.shift()
    if (sent === undefined) return undefined
    const next = parseToWorker(JSON.parse(JSON.stringify(sent))) ?? assert.fail('it is no message of ours')
    if (next.kind === 'configure') configure(next.hash)
    else if (next.kind === 'keys' || next.kind === 'keys_looked' || 'issuer' in next) store.receive(next)
    if (next.kind === 'list_slice') outbox.took()
    return 'issuer' in next ? `${next.kind} ${next.issuer.replace('https://', '')}` : next.kind
  }

  /** As a worker does: a list of which nothing changed is kept. */
  function configure(hash: string): void {
    const before = { runs, lists }
    runs = followed.get(hash) ?? assert.fail('it is none of ours')
    lists = runs.map(({ trusted: { issuer }, blacklist }, at) => {
      if (blacklist === undefined) return undefined
      if (before.runs[at]?.blacklist === blacklist) return before.lists[at]
      const { feed } = feeds[at] ?? assert.fail('there is none')
      const options = { issuer, url: `${issuer}/blacklist`, client_id: 'gateway', wait: 0, poll_interval: 60_000 }
      const send = async (call: HttpCall) => answerOf(feed, call)
      const deps = { clock, send, secret: () => '', log: createTestLog() }
      const made = store.replicas.list({ ...options, ...bounds }, deps)
      made.start()
      return made
    })
    for (const [at, list] of before.lists.entries()) if (lists[at] !== list) list?.close()
    store.keepOnly(runs)
    handover.configured()
  }
}
