// npm run bench: everything on loopback, every contestant in turn, one table, and what of the promises was seen.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { hasWrk } from './load/wrk.ts'
import { measureGroup } from './measure/rounds.ts'
import { measureStart } from './measure/start-figure.ts'
import { median } from './measure/statistics.ts'
import { canPin, isInstalled, pinSelf } from './processes.ts'
import { draw } from './report/draw.ts'
import { formatReport, readReport } from './report/kept.ts'
import type { MeasuredRow, Report } from './report/report.ts'
import { formatGroup, formatVerdicts } from './report/table.ts'
import { judge } from './report/verdicts.ts'
import { listGroups } from './scenarios.ts'
import type { Selection } from './selection.ts'
import { readSelection, usage } from './selection.ts'
import { readVersions } from './versions.ts'
import { createWorld } from './world.ts'

const root = join(import.meta.dirname, '../..')
const results = join(import.meta.dirname, 'results')
const starts = 9

const args = process.argv.slice(2)
const selection = readSelection(args, process.env, listGroups())
if (args.includes('--help')) {
  process.stdout.write(usage)
} else if (typeof selection === 'string') {
  process.stderr.write(`${selection}\n${usage}`)
  process.exitCode = 2
} else if (selection.drawOnly) {
  drawKept()
} else if (!hasWrk || !isInstalled('nginx')) {
  process.stderr.write(
    'Cannot run: wrk and nginx are the load and the upstream, and not installed (npm run bench:setup)\n',
  )
  process.exitCode = 1
} else {
  await bench(selection)
}

async function bench({ groups, start, rounds, seconds, keep }: Selection): Promise<void> {
  const made = new Date().toISOString()
  build()
  say('minting tokens')
  await using world = await createWorld(groups.some(({ name }) => name === 'cold') ? rounds + 1 : 0)
  pinSelf('1')
  const rows: MeasuredRow[] = []
  for (const group of groups) {
    const measured = await measureGroup(group, world, { rounds, seconds, say })
    rows.push(...measured)
    say('')
    process.stdout.write(`${formatGroup(group.title, measured)}\n`)
  }
  say('start')
  const figure = start ? await measureStart(starts, world.write) : undefined
  say('')
  const runs = rows.flatMap((row) => row.runs)
  const others = runs.length === 0 ? 0 : median(runs.map((run) => run.others))
  const report: Report = {
    made,
    node: process.versions.node,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    pinned: canPin,
    rounds,
    seconds,
    versions: await readVersions(),
    others,
    rows,
    start: figure,
    verdicts: judge({ rows, start: figure }),
  }
  process.stdout.write(formatVerdicts(report))
  if (!keep) return
  writeFileSync(join(results, 'latest.json'), formatReport(report))
  drawKept()
}

/** From the file, so that the two always agree. */
function drawKept(): void {
  const kept = readReport(readFileSync(join(results, 'latest.json'), 'utf8'))
  writeFileSync(join(results, 'latest.svg'), draw(kept))
}

/** What is measured is what was written. */
function build(): void {
  say('building')
  const { status, stderr } = spawnSync('npm', ['run', 'build'], { cwd: root, encoding: 'utf8' })
  if (status !== 0) throw new Error(`Cannot build: ${stderr}`)
}

function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`)
}
