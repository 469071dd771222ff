// The mutation fuzzer: messages on many connections to the gateway; what it accepts is told to node:http, byte for byte
// the same. What it refuses need not be: the gateway may be as strict as it likes, if it takes what is good.
import { setImmediate as tick } from 'node:timers/promises'
import type { Random } from '../support/random.ts'
import { createRandom } from '../support/random.ts'
import type { Message } from '../support/strict-reader.ts'
import type { Difference } from './differences.ts'
import type { Held } from './hold.ts'
import { hold } from './hold.ts'
import { judge } from './judge.ts'
import type { Connection } from './line.ts'
import { openConnection } from './line.ts'
import { makeMessage } from './mutate.ts'
import type { NodeOracle, NodeSaw } from './node-oracle.ts'
import type { WireWorld } from './world.ts'

/** What came of a run. */
export type Fuzzed = {
  messages: number
  connections: number
  forwarded: number
  denied: number
  refused: number
  unfinished: number
  /** Accepted though Node refuses it, by the difference that explains it. */
  readonly explained: Record<string, number>
  /** What must not be; at most twenty. */
  readonly wrong: string[]
}

// Some of them always wait: for what must not come, or for an end.
const lanes = 128

/** Sends so many messages made from a seed. */
export async function fuzz(
  { port, recorder }: WireWorld,
  oracle: NodeOracle,
  { seed, messages, differences }: { seed: number; messages: number; differences: readonly Difference[] },
): Promise<Fuzzed> {
  const fuzzed: Fuzzed = {
    messages: 0,
    connections: 0,
    forwarded: 0,
    denied: 0,
    refused: 0,
    unfinished: 0,
    explained: {},
    wrong: [],
  }
  await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)))
  return fuzzed

  /** A lane sends the same whatever the others do. */
  async function run(lane: number): Promise<void> {
    const random = createRandom(seed + lane * 7919)
    let gateway: Connection | undefined
    let node: ToNode | undefined
    let previous = ''
    for (let number = lane; number < messages && fuzzed.wrong.length < 20; number += lanes) {
      const text = makeMessage(random, number)
      if (gateway?.isOpen() !== true) {
        gateway?.[Symbol.dispose]()
        gateway = await openConnection(port)
        previous = ''
        fuzzed.connections += 1
      }
      const expectation = judge(text)
      const held = await hold(gateway, text, expectation, recorder, cutsOf(random, text))
      count(held)
      if (held.wrong !== undefined) fuzzed.wrong.push(`${held.wrong}: ${shown(text)} after ${shown(previous)}`)
      previous = text
      // What was read of one message to its last byte has left nothing for the next.
      const isUsed = held.usable && held.accepted.length === expectation.each.length
      if (held.accepted.length > 0) {
        node ??= await openToNode(oracle)
        const agreed = await agree(text, held.accepted, node)
        if (!agreed || !isUsed || expectation.closes) {
          node[Symbol.dispose]()
          node = undefined
        }
      }
      if (isUsed) continue
      gateway[Symbol.dispose]()
      gateway = undefined
    }
    gateway?.[Symbol.dispose]()
    node?.[Symbol.dispose]()
  }

  /** Whether Node, told the same bytes, reads the requests that the gateway accepted. */
  async function agree(text: string, accepted: readonly Message[], node: ToNode): Promise<boolean> {
    const reads = await node.tell(text, accepted.length)
    for (const [at, request] of accepted.entries()) {
      const read = reads.requests[at]
      if (
        read !== undefined &&
        read.method === request.method &&
        read.url === request.target &&
        read.body === request.body
      )
        continue
      const difference = differences.find(({ explains }) => explains(request, accepted.slice(0, at), text))
      if (difference === undefined)
        fuzzed.wrong.push(
          `accepted ${shown(request.target)}, node:http read ${JSON.stringify(read ?? reads.refused ?? 'nothing')}: ${shown(text)}`,
        )
      else fuzzed.explained[difference.name] = (fuzzed.explained[difference.name] ?? 0) + 1
      return false
    }
    return reads.refused === undefined && reads.requests.length === accepted.length
  }

  function count({ accepted, statuses }: Held): void {
    fuzzed.messages += 1
    const forwarded = statuses.filter((status) => status === 200).length
    fuzzed.forwarded += forwarded
    fuzzed.denied += accepted.length - forwarded
    fuzzed.refused += statuses.length - accepted.length
    if (statuses.length === 0) fuzzed.unfinished += 1
  }
}

/** A connection to Node's parser. */
type ToNode = Disposable & {
  /** Sends bytes, and tells what Node read of them once that is so many requests, or will not be. */
  readonly tell: (text: string, wanted: number) => Promise<NodeSaw>
}

// Node's parser lives on this event loop: after so many turns of it there is nothing left to read.
const patience = { ms: 50, turns: 50 } as const

async function openToNode(oracle: NodeOracle): Promise<ToNode> {
  const connection = await openConnection(oracle.port)
  let saw = oracle.saw(connection.from())
  return {
    async tell(text, wanted) {
      const before = saw?.requests.length ?? 0
      await connection.write(text)
      const endMs = performance.now() + patience.ms
      for (let turn = 0; ; turn += 1) {
        await tick()
        saw ??= oracle.saw(connection.from())
        const requests = saw?.requests.slice(before) ?? []
        if (
          requests.length >= wanted ||
          saw?.refused !== undefined ||
          (turn > patience.turns && performance.now() > endMs)
        )
          return { requests, refused: saw?.refused }
      }
    },
    [Symbol.dispose]() {
      connection[Symbol.dispose]()
      oracle.forget(connection.from())
    },
  }
}

/** Where a message is cut for its way: mostly nowhere, sometimes in two or three, rarely after every byte. */
function cutsOf(random: Random, text: string): readonly number[] {
  if (text.length < 2 || !random.oneIn(4)) return []
  if (text.length < 400 && random.oneIn(40)) return Array.from({ length: text.length - 1 }, (_, at) => at + 1)
  const cuts = [1 + random.below(text.length - 1), 1 + random.below(text.length - 1)]
  return random.oneIn(2) ? cuts.slice(0, 1) : cuts.sort((one, other) => one - other)
}

function shown(text: string): string {
  return JSON.stringify(text.length > 1500 ? `${text.slice(0, 700)} … ${text.slice(-700)}` : text)
}
