// What hostile clients cost the others: `node test/shows/hostile-load.ts [ATTACK…]` prints it, in some minutes. The same
// rate without and with the attack, in turn, three times; judged by ratios, since time depends on the machine.
import { spawnSync } from 'node:child_process'
import { loadavg } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import type { Attack, Cost, HostileScene, Others } from './hostile-scene.ts'
import { attacks, openHostileScene, politeFlags, untilBaseline } from './hostile-scene.ts'

// Those who measure are clients, too.
if (!politeFlags.every((flag) => process.execArgv.includes(flag)))
  process.exit(
    spawnSync(process.execPath, [...politeFlags, ...process.argv.slice(1)], { stdio: 'inherit' }).status ?? 1,
  )

const counts: Readonly<Record<Attack, number>> = {
  'slow heads': 2000,
  'slow bodies': 2000,
  'slow readers': 200,
  // About a thousand a second: ten thousand while the others are measured, and those before.
  aborts: 30_000,
  idle: 10_000,
}
const perSecond = 1000
// Longer than a head may take.
const forMs = 12_000
// What fills buffers at first is no slow client yet; and a process that breaks off without an end is to be warm itself.
const settleMs: Readonly<Partial<Record<Attack, number>>> = { aborts: 15_000 }
const usualSettleMs = 3000
// Until what the attack asks of the program has been compiled: a minute of it, at more than the rate that is measured.
const warmMs = 60_000
const warmPerSecond = 3000
const rounds = 3

const wanted = process.argv.slice(2)
const chosen = wanted.length === 0 ? attacks : attacks.filter((attack) => wanted.includes(attack))
process.stdout.write(
  `load of the machine before: ${loadavg()
    .map((load) => load.toFixed(2))
    .join(' ')}\n`,
)
for (const attack of chosen) {
  // The limit of the table, and room for the others.
  await using scene = await openHostileScene({ limits: { connections: 10_200 } })
  await scene.others(perSecond, usualSettleMs)
  const before = await scene.cost()
  await warm(scene, attack)
  // What it costs is asked for at the end alone: collecting garbage to tell it throws compiled code away, too.
  let peak = before
  const pairs: { quiet: Others; during: Others }[] = []
  for (let round = 0; round < rounds; round += 1) {
    const quiet = await scene.others(perSecond, forMs)
    await using attackers = await scene.attack(attack, counts[attack])
    await wait(settleMs[attack] ?? usualSettleMs)
    pairs.push({ quiet, during: await scene.others(perSecond, forMs) })
    if (round === rounds - 1) peak = await scene.cost()
    if (attack === 'aborts') await attackers.done
  }
  report(attack, pairs, { before, peak, backMs: await untilBaseline(scene, before), after: await scene.cost() })
}

/** What is measured is the attack, not the first time of everything. */
async function warm(scene: HostileScene, attack: Attack): Promise<void> {
  for (const beginMs = performance.now(); performance.now() - beginMs < warmMs; ) {
    await using attackers = await scene.attack(attack, counts[attack])
    await Promise.all([scene.others(warmPerSecond, warmMs / 6), attack === 'aborts' ? attackers.done : undefined])
  }
}

function report(
  attack: Attack,
  pairs: readonly { quiet: Others; during: Others }[],
  { before, peak, after, backMs }: { before: Cost; peak: Cost; after: Cost; backMs: number },
): void {
  const ratios = pairs.map(({ quiet, during }) => during.typicalP99 / quiet.typicalP99)
  const perConnection = ((peak.heldMib - before.heldMib) * 1024) / peak.connections
  const each = peak.connections < 100 ? '' : ` (${perConnection.toFixed(1)} KiB a connection)`
  const lines = [
    `${counts[attack]} ${attack}, ${perSecond} requests/s beside them`,
    `  p99 without: ${pairs.map(({ quiet }) => quiet.p99).join(', ')} ms; with: ${pairs.map(({ during }) => during.p99).join(', ')} ms`,
    `  p50 without: ${pairs.map(({ quiet }) => quiet.p50).join(', ')} ms; with: ${pairs.map(({ during }) => during.p50).join(', ')} ms`,
    `  p99 of the median second without: ${pairs.map(({ quiet }) => quiet.typicalP99).join(', ')} ms; with: ${pairs.map(({ during }) => during.typicalP99).join(', ')} ms`,
    `  its ratio: ${ratios.map((ratio) => ratio.toFixed(2)).join(', ')}; median ${median(ratios).toFixed(2)}`,
    `  statuses: ${JSON.stringify(pairs.map(({ during }) => during.statuses))}`,
    `  held: ${before.heldMib} MiB before, ${peak.heldMib} with${each}, ${after.heldMib} after`,
    `  resident: ${before.residentMib} MiB before, ${peak.residentMib} with, ${after.residentMib} after`,
    `  descriptors: ${before.descriptors} before, ${peak.descriptors} with, ${after.descriptors} after; back within ${backMs} ms`,
    `  load of the machine: ${(loadavg()[0] ?? 0).toFixed(2)}`,
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((one, other) => one - other)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
