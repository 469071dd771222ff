// Rounds: every contestant of a group in turn, and the order turning, so that whatever the machine does, it does to all.
import type { Contestant, Running } from '../contestants/contestant.ts'
import type { LoadResult } from '../load/wrk.ts'
import { sendRound } from '../load/wrk.ts'
import type { MeasuredRow, Run } from '../report/report.ts'
import type { Group, Row } from '../scenarios.ts'
import type { World } from '../world.ts'
import { machineTime, totalTime, treeTimes } from './cpu.ts'
import { findFault } from './proof.ts'

/** How long and how often. */
export type RoundOptions = {
  readonly rounds: number
  readonly seconds: number
  /** Told what is going on. */
  readonly say: (text: string) => void
}

/** A row at work: where it is, or why it is nowhere. */
type Entry = { readonly row: Row; readonly runs: Run[]; running: Running | undefined; missing: string | undefined }

// Until what is hot is compiled; once it is, another row of the same contestant needs less.
const leastWarmUpSeconds = 3
const nextWarmUpSeconds = 1
// Of the processes of a tree, those that do some of its work.
const workingShare = 0.05
const maxSentence = 240

/** Measures the rows of a group, with the processes of its contestants started once, or for each round. */
export async function measureGroup(group: Group, world: World, options: RoundOptions): Promise<readonly MeasuredRow[]> {
  const rounds = Array.from({ length: options.rounds }, (_, at) => at + 1)
  if (group.afresh !== true) return await measureRounds(group, world, rounds, options)
  const parts: (readonly MeasuredRow[])[] = []
  for (const round of rounds) parts.push(await measureRounds(group, world, [round], options))
  const [first = []] = parts
  return first.map((row, at) => ({
    ...row,
    missing: parts.map((part) => part[at]?.missing).find((why) => why !== undefined),
    runs: parts.flatMap((part) => part[at]?.runs ?? []),
  }))
}

/** Starts the contestants of a group, measures its rows in these rounds, and stops them. */
async function measureRounds(
  group: Group,
  world: World,
  rounds: readonly number[],
  options: RoundOptions,
): Promise<readonly MeasuredRow[]> {
  const { say } = options
  const seconds = Math.max(1, Math.round(options.seconds * (group.share ?? 1)))
  const contestantCpus = group.cpus ?? '0'
  const loadCpus = group.cpus ?? '1'
  const started = new Map<Contestant, Promise<Running | string>>()
  const warm = new Set<Running>()
  const entries: Entry[] = []
  try {
    for (const row of group.rows) {
      say(`${group.name}: starting ${row.name}`)
      const held = started.get(row.contestant) ?? startOne(row.contestant)
      started.set(row.contestant, held)
      entries.push(await enter(row, await held))
    }
    for (const entry of entries) await measure(entry, 0)
    for (const round of rounds)
      for (const at of entries.keys()) {
        const entry = entries[(at + round) % entries.length]
        if (entry !== undefined) await measure(entry, round)
      }
  } finally {
    for (const each of started.values()) {
      const running = await each
      if (typeof running !== 'string') await running.stop()
    }
  }
  const first = group.rows[0]?.id ?? ''
  return entries.map(({ row: { id, name, by, against = first }, runs, missing }) => ({
    group: group.name,
    id,
    name,
    by,
    against,
    missing,
    runs,
  }))

  async function startOne(contestant: Contestant): Promise<Running | string> {
    try {
      const running = await contestant(world, contestantCpus)
      return running.kind === 'running' ? running : `missing: ${running.why}`
    } catch (error) {
      return sentenceOf(error)
    }
  }

  async function enter(row: Row, running: Running | string): Promise<Entry> {
    if (typeof running === 'string') return { row, runs: [], running: undefined, missing: running }
    const fault = await findFault(running.origin, row.proof, world).catch(sentenceOf)
    const missing = fault === undefined ? undefined : oneLine(`no contestant: ${fault} ${running.said()}`)
    return { row, runs: [], running, missing }
  }

  function warmUp(running: Running): number {
    if (warm.has(running)) return nextWarmUpSeconds
    warm.add(running)
    return Math.max(leastWarmUpSeconds, seconds)
  }

  async function measure(entry: Entry, round: number): Promise<void> {
    const { row, runs, running } = entry
    if (running === undefined || entry.missing !== undefined) return
    say(`${group.name} ${round === 0 ? 'warm-up' : `${round}/${options.rounds}`}: ${row.name}`)
    const span = round === 0 ? warmUp(running) : seconds
    try {
      const run = await observe(running, () =>
        sendRound(running.origin, row.load(world), round, { seconds: span, cpus: loadCpus }),
      )
      if (round > 0) runs.push(run)
    } catch (error) {
      entry.missing = oneLine(`${sentenceOf(error)} ${running.said()}`)
    }
  }
}

async function observe({ pid }: Running, send: () => Promise<LoadResult>): Promise<Run> {
  const before = { tree: treeTimes(pid), ours: totalTime(process.pid), machine: machineTime(), ms: performance.now() }
  const { requests, us, bytes, p50, p99, refused, broken } = await send()
  const elapsedUs = (performance.now() - before.ms) * 1000
  if (requests === 0) throw new Error('no request was answered')
  if (refused > 0) throw new Error(`${refused} of ${requests} answers were refusals`)
  if (broken > requests / 1000) throw new Error(`${broken} connections broke in ${requests} requests`)
  const times = treeTimes(pid).map((now) => now.us - (before.tree.find((then) => then.pid === now.pid)?.us ?? 0))
  const cpu = times.reduce((sum, each) => sum + each, 0)
  const others = machineTime() - before.machine - (totalTime(process.pid) - before.ours)
  return {
    rate: requests / (us / 1e6),
    cpuUs: cpu / requests,
    p50,
    p99,
    mbPerS: bytes / us,
    busy: cpu / us,
    others: Math.max(0, others / elapsedUs),
    shares: times.map((each) => each / cpu).filter((share) => share > workingShare),
  }
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? oneLine(`failed: ${error.message}`) : 'failed'
}

/** What fits a row of the table. */
function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim().slice(0, maxSentence)
}
