// A primary whose reloads make the lists of its feeds anew, and a worker that takes what it is sent when a test says so.
import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Configuration } from '../../src/app/configuration.ts'
import type { IssuerSources } from '../../src/app/issuer-sources.ts'
import type { InUse } from '../../src/app/workers/handover.ts'
import { createHandover } from '../../src/app/workers/handover.ts'
import { createOutbox } from '../../src/app/workers/outbox.ts'
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

/** The worker runs the first configuration. Numbers of sources: first those of the keys, then of the lists, from 1. */
export async function openPrimary(feeds: readonly [Setup, ...Setup[]], more: Partial<typeof limits> = {}) {
  const [first] = feeds
  const bounds = { ...limits, ...more }
  const keys = endpoint()
  const clock = { wallMs: () => first.clock.wallMs, monotonicMs: () => first.clock.monotonicMs }
  const store = createReplicaStore({ clock, send: () => assert.fail('no key is looked for') })
  const publisher = createPublisher()
  const waiting: ToWorker[] = []
  let breaksAt: ToWorker['kind'] | undefined
  const outbox = createOutbox(post, (error) => assert.equal(error, unsendable))
  let lists: readonly Blacklist[] = []
  let reloads = 0
  let inUse = follow()
  const handover = createHandover({ worker: 1, startedText: '' }, { outbox, inUse: () => inUse, publisher })
  publisher.connect(outbox)
  handover.reloaded()
  await pass()
  return {
    reload,
    reloadRules,
    reloadSame: handover.reloaded,
    pass,
    step,
    queue: outbox.queue,
    list: (at = 0) => lists[at] ?? assert.fail('it runs nothing yet'),
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

  function follow(): InUse {
    const sources = feeds.map(({ blacklist }, at) => {
      return { trusted: { issuer: `https://issuer-${at}.test` }, jwks: keys.jwks, blacklist } as IssuerSources // all that it looks at
    })
    const configuration = { hash: String(reloads), file: 'f', text: '', files: new Map() } as unknown as Configuration // likewise
    return { configuration, sources: publisher.follow(sources, bounds.cache_size) }
  }

  function reload(): void {
    for (const feed of feeds) feed.reload({})
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
    if (next.kind === 'configure') configure(next)
    else if (next.kind === 'keys' || next.kind === 'keys_looked' || 'source' in next) store.receive(next)
    if (next.kind === 'list_slice') outbox.took()
    return 'source' in next ? `${next.kind} ${next.source}` : next.kind
  }

  /** As a worker does. */
  function configure({ sources }: Extract<ToWorker, { readonly kind: 'configure' }>): void {
    store.expect(sources)
    for (const list of lists) list.close()
    lists = sources.map(({ issuer, list }, at) => {
      const options = { issuer, url: `${issuer}/blacklist`, client_id: 'gateway', wait: 0, poll_interval: 60_000 }
      const log = createTestLog()
      const send = async (call: HttpCall) => answerOf((feeds[at] ?? first).feed, call)
      const made = store.replicas.list(list ?? 0, { ...options, ...bounds }, { clock, send, secret: () => '', log })
      made.start()
      return made
    })
    store.keepExpected()
    handover.configured()
  }
}
