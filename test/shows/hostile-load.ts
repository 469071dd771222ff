// What hostile clients cost the others: `node test/shows/hostile-load.ts [ATTACK…]` prints it, in some minutes. The same
// rate without and with the attack, in turn, three times; judged by ratios, since time depends on the machine.
import { loadavg } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import type { Attack, Cost, Others } from './hostile-scene.ts'
import { attacks, openHostileScene, untilBaseline } from './hostile-scene.ts'

const counts: Readonly<Record<Attack, number>> = {
  'slow heads': 2000,
  'slow bodies': 2000,
  'slow readers': 200,
  aborts: 10_000,
  idle: 10_000,
}
const perSecond = 1000
// Longer than a head may take.
const forMs = 12_000
const settleMs = 3000
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
  await scene.others(perSecond, 3000)
  const before = await scene.cost()
  const pairs: { quiet: Others; during: Others; cost: Cost; backMs: number }[] = []
  for (let round = 0; round < rounds; round += 1) {
    const quiet = await scene.others(perSecond, forMs)
    const attackers = await scene.attack(attack, counts[attack])
    // What fills buffers at first is no slow client yet.
    await wait(settleMs)
    const during = await scene.others(perSecond, forMs)
    const cost = await scene.cost()
    if (attack === 'aborts') await attackers.done
    await attackers[Symbol.asyncDispose]()
    pairs.push({ quiet, during, cost, backMs: await untilBaseline(scene, before) })
  }
  const after = await scene.cost()
  report(attack, before, pairs, after)
}

function report(
  attack: Attack,
  before: Cost,
  pairs: readonly { quiet: Others; during: Others; cost: Cost; backMs: number }[],
  after: Cost,
): void {
  const ratios = pairs.map(({ quiet, during }) => during.typicalP99 / quiet.typicalP99)
  const peak = pairs.at(-1)?.cost ?? before
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
    `  descriptors: ${before.descriptors} before, ${peak.descriptors} with, ${after.descriptors} after; back within ${pairs.map(({ backMs }) => backMs).join(', ')} ms`,
    `  load of the machine: ${(loadavg()[0] ?? 0).toFixed(2)}`,
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((one, other) => one - other)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
