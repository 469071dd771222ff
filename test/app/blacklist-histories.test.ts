// Random histories of an issuer that revokes, forgets, restarts and is restored, and of a gateway that polls, is reloaded
// and hands its list on to a worker; beside them an oracle of a few lines that knows what must never pass.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createOutbox } from '../../src/app/workers/outbox.ts'
import type { Publisher } from '../../src/app/workers/publisher.ts'
import { createPublisher } from '../../src/app/workers/publisher.ts'
import type { ReplicaStore } from '../../src/app/workers/replicas.ts'
import { createReplicaStore } from '../../src/app/workers/replicas.ts'
import type { ToWorker } from '../../src/app/workers/worker-messages.ts'
import type { Blacklist } from '../../src/sources/blacklist.ts'
import type { BlacklistAnswer } from '../../src/sources/held-list.ts'
import type { RevocableToken } from '../../src/spec/revocation.ts'
import type { Setup } from '../sources/feed-server.ts'
import { answerOf, raw, setup, t0, token } from '../sources/feed-server.ts'
import { endpoint } from '../sources/key-endpoint.ts'
import { createTestLog } from '../support/log.ts'

const issuer = 'https://issuer.test'
// `s` stand for subjects, whose entries cannot be asked for one by one.
const names = [...Array.from({ length: 14 }, (_, at) => `j${at}`), 's0', 's1']
const sizes = fc.constantFrom(3, 6, 12, 30)
const delays = fc.constantFrom(10_000, 60_000, 600_000)

type Limits = { readonly cache_size: number; readonly purge_delay: number }

/** What may happen between two polls, mostly in this order, and how the second of them ends. */
const round = fc
  .tuple(
    fc.option(fc.record({ act: fc.constant('pass' as const), s: fc.integer({ min: 1, max: 400 }) }), { freq: 2 }),
    // From a backup that has the first of the entries, or all: then it was only started anew.
    fc.option(fc.record({ act: fc.constant('restore' as const), kept: fc.constantFrom(0, 1, 2, 5, 100) }), { freq: 2 }),
    fc.record({ act: fc.constant('revoke' as const), of: fc.subarray(names, { maxLength: 8 }) }),
    fc.option(fc.record({ act: fc.constant('reload' as const), cache_size: sizes, purge_delay: delays }), { freq: 2 }),
    fc.record({ act: fc.constantFrom('poll' as const, 'poll' as const, 'poll' as const, 'fail' as const) }),
  )
  .map((acts) => acts.filter((each) => each !== null))

test('no history has a revoked token pass for which there was room, in the primary or in a worker', async () => {
  await fc.assert(
    fc.asyncProperty(sizes, fc.array(round, { maxLength: 8 }), async (cache_size, rounds) => {
      await using it = setup({ cache_size, max_staleness: Number.MAX_SAFE_INTEGER })
      it.feed.pageSize = 4
      const oracle = createOracle(it, cache_size)
      const worker = createWorker(it)
      const cached = [newTokens(), newTokens()] as const
      const ever = new Set<string>()
      await worker.use(it.blacklist, { cache_size, purge_delay: 60_000 })

      for (const each of rounds.flat()) {
        if (each.act === 'revoke') for (const name of revoke(it, each.of)) ever.add(name)
        else if (each.act === 'restore') {
          const entries = it.feed.entries.slice(0, each.kept)
          Object.assign(it.feed, { epoch: `${it.feed.epoch}+`, entries, lastSeq: entries.at(-1)?.seq ?? 0 })
          oracle.restored()
        } else if (each.act === 'pass') it.pass(each.s * 1000)
        else if (each.act === 'fail') {
          it.answer = () => raw(503, '')
          await it.blacklist.poll()
          it.answer = undefined
          oracle.failed()
        } else if (each.act === 'reload') {
          const { cache_size, purge_delay } = each
          it.reload({ cache_size, purge_delay })
          oracle.reloaded({ cache_size, purge_delay })
          await worker.use(it.blacklist, { cache_size, purge_delay })
        } else {
          await it.blacklist.poll()
          assert.notEqual(it.counts.at(-1), 'refused')
          if (oracle.polled()) assert.equal(it.blacklist.state().lookups, false, 'there was room for all')
        }
        await worker.settled()

        for (const [at, list] of [it.blacklist, worker.list()].entries()) {
          for (const asked of cached[at] ?? []) {
            const said = await list.check(asked)
            const name = asked.claims.jti ?? ''
            if (oracle.isOwed(name)) assert.ok(said, `${name} passes in the ${at === 0 ? 'primary' : 'worker'}`)
            else if (!ever.has(name) && said !== 'stale') assert.equal(said, undefined, `${name} was never revoked`)
            if (!list.state().lookups) assert.deepEqual(said, await fresh(list, asked))
          }
        }
      }
      worker.close()
    }),
    { numRuns: 200 },
  )
})

function revoke(it: Setup, of: readonly string[]): readonly string[] {
  for (const name of of) {
    const expires_at = expiryOf(name)
    if (it.feed.entries.some(({ value }) => value === name) || expires_at <= it.feed.serverTime()) continue
    it.revoke(name, { kind: name.startsWith('s') ? 'sub' : 'jti', expires_at })
  }
  return of
}

/** One each, so that what is revoked twice runs out once. */
function expiryOf(name: string): number {
  return t0 + 300 + names.indexOf(name) * 100
}

function newTokens(): readonly RevocableToken[] {
  return names.map((name) => token({ jti: name, sub: name }))
}

function fresh(list: Blacklist, { claims, kid }: RevocableToken): BlacklistAnswer | Promise<BlacklistAnswer> {
  return list.check({ claims, kid })
}

/**
 * What must not pass: what the issuer lists and has told, and what it has told and lists no more, as long as all of that
 * fits, and did when it was last listed.
 */
function createOracle(it: Setup, firstSize: number) {
  let delayS = 60
  const delaysS = [delayS]
  let size = firstSize
  let polledS = t0
  let gone: readonly string[] = []
  /** Revoked anew since they were inherited: these are held twice. */
  let twice = 0
  let epoch: string | undefined
  const told = new Set<string>()
  /** What the last good poll had, and has been listed ever since. */
  let current = new Set<string>()
  /** Surely in memory: what was listed by the last good poll, and what was so before and is listed no more. */
  let listed = new Set<string>()
  let inherited = new Set<string>()
  return {
    // What ran out by a shorter delay is not brought back by a longer one.
    isOwed: (name: string) =>
      isLive(name, Math.min(...delaysS)) && ((current.has(name) && isListed(name)) || isInMemory(name)),
    reloaded({ cache_size, purge_delay }: Limits) {
      size = cache_size
      delayS = purge_delay / 1000
      delaysS.push(delayS)
      epoch = undefined
      // A worker is sent what fits, before the first poll.
      makeRoom()
    },
    restored() {
      current = new Set([...current].filter(isListed))
    },
    failed: makeRoom,
    /** Whether the list was read from its beginning, and there was room for all of it. */
    polled(): boolean {
      makeRoom()
      const isAll = epoch !== it.feed.epoch
      const now = new Set(names.filter(isListed))
      for (const name of now) told.add(name)
      if (isAll) {
        // What cannot be asked for any more fits, or some of it goes, and nobody says which.
        gone = live().filter((name) => !now.has(name))
        const sure = gone.filter((name) => isInMemory(name))
        inherited = new Set(gone.length <= size ? sure : sure.filter((name) => name.startsWith('s')))
      }
      listed = new Set(now)
      current = now
      // What begins with nothing is read from its beginning again.
      epoch = isAll && now.size === 0 ? undefined : it.feed.epoch
      twice = gone.filter((name) => now.has(name)).length
      makeRoom()
      polledS = it.feed.serverTime()
      return isAll && live().length <= size
    },
  }

  /** Of what is listed the oldest go: each may be one of them. What has run out goes with a good poll, and not before. */
  function makeRoom(): void {
    if ([...told].filter((name) => isLive(name, Math.max(...delaysS), polledS)).length + twice > size)
      listed = new Set([...listed].filter((name) => name.startsWith('s')))
  }

  function live(): readonly string[] {
    return [...told].filter((name) => isLive(name))
  }

  function isInMemory(name: string): boolean {
    return listed.has(name) || inherited.has(name)
  }

  function isLive(name: string, delay = delayS, atS = it.feed.serverTime()): boolean {
    return atS < expiryOf(name) + delay
  }

  function isListed(name: string): boolean {
    return isLive(name, it.feed.keptFor) && it.feed.entries.some(({ value }) => value === name)
  }
}

/** A worker beside the primary; `settled` once it has all that it was sent. */
function createWorker(it: Setup) {
  const publisher: Publisher = createPublisher()
  const clock = { wallMs: () => it.clock.wallMs, monotonicMs: () => it.clock.monotonicMs }
  const store: ReplicaStore = createReplicaStore({ clock, send: () => assert.fail('no key is looked for') })
  const waiting: ToWorker[] = []
  const outbox = createOutbox(
    (message) => void waiting.push(message),
    (error) => assert.fail(String(error)),
  )
  const keys = endpoint()
  let list: Blacklist | undefined
  publisher.connect(outbox)
  return { use, settled, list: () => list ?? assert.fail('there is none yet'), close }

  async function use(blacklist: Blacklist, limits: Limits): Promise<void> {
    const sources = [{ trusted: { issuer }, keysId: 'its keys', jwks: keys.jwks, blacklist }]
    publisher.follow(sources, limits)
    outbox.queue((deliver) => publisher.hand(outbox, deliver))
    await settled()
    list?.close()
    const feed = { issuer, url: `${issuer}/blacklist`, client_id: 'gateway', wait: 0, poll_interval: 60_000 }
    list = store.replicas.list(
      { ...feed, ...limits, max_staleness: Number.MAX_SAFE_INTEGER },
      { clock, send: async (call) => answerOf(it.feed, call), secret: () => '', log: createTestLog() },
    )
    list.start()
    store.keepOnly(sources)
  }

  async function settled(): Promise<void> {
    do {
      for (const message of waiting.splice(0)) {
        if (message.kind === 'keys' || message.kind === 'keys_looked' || 'issuer' in message)
          store.receive(JSON.parse(JSON.stringify(message)))
        if (message.kind === 'list_slice') outbox.took()
      }
      await new Promise((resolve) => setImmediate(resolve))
    } while (waiting.length > 0)
  }

  function close(): void {
    list?.close()
    keys[Symbol.dispose]()
  }
}
