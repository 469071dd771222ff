// What hostile clients cost the others: `node test/shows/hostile-load.ts [ATTACK…]` prints it, in some minutes. The same
// rate without the attack, with it, and with the attack on another gateway of the same machine, in turn, three times;
// judged by ratios, since time depends on the machine. What an attack elsewhere does to the others is the machine's part.
import { spawnSync } from 'node:child_process'
import { loadavg } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import type { Attack, Cost, HostileScene, Others } from './hostile-scene.ts'
import { attacks, openHostileScene, politeFlags, untilBaseline } from './hostile-scene.ts'
import { startService } from './hostile-service.ts'

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
const titles = { p50: 'p50', p99: 'p99', typicalP99: 'p99 of the median second' } as const

/** The others without the attack, beside one on another gateway, and beside one on theirs. */
type Round = { readonly quiet: Others; readonly aside: Others; readonly during: Others }

const wanted = process.argv.slice(2)
const chosen = wanted.length === 0 ? attacks : attacks.filter((attack) => wanted.includes(attack))
process.stdout.write(
  `load of the machine before: ${loadavg()
    .map((load) => load.toFixed(2))
    .join(' ')}\n`,
)
for (const attack of chosen) {
  // The limit of the table, and room for the others.
  const options = { limits: { connections: 10_200 }, startService }
  await using scene = await openHostileScene(options)
  await using elsewhere = await openHostileScene(options)
  await scene.others(perSecond, usualSettleMs)
  const before = await scene.cost()
  await Promise.all([warm(scene, attack), warm(elsewhere, attack)])
  // What it costs is asked for at the end alone: collecting garbage to tell it throws compiled code away, too.
  let peak = before
  const measured: Round[] = []
  for (let round = 0; round < rounds; round += 1) {
    const quiet = await scene.others(perSecond, forMs)
    const aside = await beside(elsewhere, attack, () => scene.others(perSecond, forMs))
    const during = await beside(scene, attack, () => scene.others(perSecond, forMs))
    measured.push({ quiet, aside, during })
  }
  await beside(scene, attack, async () => {
    peak = await scene.cost()
  })
  report(attack, measured, { before, peak, backMs: await untilBaseline(scene, before), after: await scene.cost() })
}

/** Does something while a gateway is attacked, and waits until that is over. */
async function beside<T>(attacked: HostileScene, attack: Attack, act: () => Promise<T>): Promise<T> {
  const done = await attackedWhile()
  await wait(usualSettleMs)
  return done

  async function attackedWhile(): Promise<T> {
    await using _ = await attacked.attack(attack, counts[attack])
    await wait(settleMs[attack] ?? usualSettleMs)
    return await act()
  }
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
  measured: readonly Round[],
  { before, peak, after, backMs }: { before: Cost; peak: Cost; after: Cost; backMs: number },
): void {
  const perConnection = ((peak.heldMib - before.heldMib) * 1024) / peak.connections
  const each = peak.connections < 100 ? '' : ` (${perConnection.toFixed(1)} KiB a connection)`
  const lines = [
    `${counts[attack]} ${attack}, ${perSecond} requests/s beside them: without, with them elsewhere, with them here`,
    ...(['p50', 'p99', 'typicalP99'] as const).map((figure) => `  ${titles[figure]}: ${row(measured, figure)}`),
    `  ratio of the last, here : without ${ratios(measured, 'during', 'quiet')}; here : elsewhere ${ratios(measured, 'during', 'aside')}`,
    `  statuses: ${JSON.stringify(measured.map(({ during }) => during.statuses))}`,
    `  held: ${before.heldMib} MiB before, ${peak.heldMib} with${each}, ${after.heldMib} after`,
    `  resident: ${before.residentMib} MiB before, ${peak.residentMib} with, ${after.residentMib} after`,
    `  descriptors: ${before.descriptors} before, ${peak.descriptors} with, ${after.descriptors} after; back within ${backMs} ms`,
    `  load of the machine: ${(loadavg()[0] ?? 0).toFixed(2)}`,
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

function row(measured: readonly Round[], figure: keyof typeof titles): string {
  const all = (['quiet', 'aside', 'during'] as const).map((kind) => measured.map((round) => round[kind][figure]))
  return `${all.map((values) => values.join(', ')).join(' | ')} ms`
}

function ratios(measured: readonly Round[], one: keyof Round, other: keyof Round): string {
  const all = measured.map((round) => round[one].typicalP99 / round[other].typicalP99)
  return `${all.map((ratio) => ratio.toFixed(2)).join(', ')}, median ${median(all).toFixed(2)}`
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((one, other) => one - other)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
