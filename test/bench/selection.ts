import { parseArgs } from 'node:util'
import type { Group } from './scenarios.ts'

/** What a run is to measure. */
export type Selection = {
  readonly groups: readonly Group[]
  /** Whether the start of the gateway is measured too. */
  readonly start: boolean
  readonly rounds: number
  /** Of a round; wrk knows whole ones only. */
  readonly seconds: number
  /** Whether the result is kept: that of a part is not, unless asked for. */
  readonly keep: boolean
  /** Nothing is measured: the kept result is drawn anew. */
  readonly drawOnly: boolean
}

/** How it is asked for. */
export const usage = `npm run bench [-- [--pairs N] [--ms N] [--keep] [--draw] [WORD…]]
  --pairs N   rounds, default 7 (BENCH_PAIRS)
  --ms N      milliseconds of a round, to whole seconds, default 3000 (BENCH_MS)
  --keep      keeps the result of a part, too
  --draw      draws the kept result anew, and measures nothing
  WORD        a group or a contestant; none: everything
`

/**
 * Reads arguments and environment. Words that name groups select these, words that name contestants select theirs
 * beside the gateway's.
 *
 * @returns A sentence when there is something in them that is not known.
 */
export function readSelection(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  groups: readonly Group[],
): Selection | string {
  const parsed = parse(args)
  if (typeof parsed === 'string') return parsed
  const { values, positionals: words } = parsed
  const rounds = Number(values.pairs ?? env['BENCH_PAIRS'] ?? 7)
  const ms = Number(values.ms ?? env['BENCH_MS'] ?? 3000)
  if (!Number.isInteger(rounds) || rounds < 1) return 'Cannot run: --pairs is not a number of rounds'
  if (!(ms >= 1)) return 'Cannot run: --ms is not a number of milliseconds'
  const names = [...groups.map(({ name }) => name), 'start']
  const contestants = [...new Set(groups.flatMap(({ rows }) => rows.map(({ by }): string => by)))]
  const unknown = words.find((word) => !names.includes(word) && !contestants.includes(word))
  if (unknown !== undefined)
    return `Cannot run: ${unknown} is neither a group (${names.join(' ')}) nor a contestant (${contestants.join(' ')})`
  const wantedNames = words.filter((word) => names.includes(word))
  const wantedContestants = words.filter((word) => contestants.includes(word))
  const chosen = groups
    .filter(({ name }) => wantedNames.length === 0 || wantedNames.includes(name))
    .filter(({ rows }) => wantedContestants.length === 0 || rows.some(({ by }) => wantedContestants.includes(by)))
    .map((group) => ({
      ...group,
      rows: group.rows.filter(
        ({ by }) => wantedContestants.length === 0 || by === 'gateway' || wantedContestants.includes(by),
      ),
    }))
  return {
    groups: chosen,
    start: words.length === 0 || words.includes('start'),
    rounds,
    seconds: Math.max(1, Math.round(ms / 1000)),
    keep: words.length === 0 || values.keep === true,
    drawOnly: values.draw === true,
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        pairs: { type: 'string' },
        ms: { type: 'string' },
        keep: { type: 'boolean' },
        draw: { type: 'boolean' },
      },
    })
  } catch (error) {
    return error instanceof Error ? `Cannot run: ${error.message}` : 'Cannot run'
  }
}
