// What a run found, as it is kept in results/latest.json.

/** One round of one row. */
export type Run = {
  /** Requests a second. */
  readonly rate: number
  /** Processor time a request, of the contestant and all its processes; microseconds. */
  readonly cpuUs: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  /** What the client received, megabytes a second. */
  readonly mbPerS: number
  /** Processors the contestant kept busy; well below 1 on one processor, it was not what was slow. */
  readonly busy: number
  /** Processors that others than the bench kept busy. */
  readonly others: number
  /** How the work was divided among the contestant's processes. */
  readonly shares: readonly number[]
}

/** One row: a contestant in a scenario. */
export type MeasuredRow = {
  readonly group: string
  readonly id: string
  readonly name: string
  readonly by: string
  /** The row it is compared with. */
  readonly against: string
  /** Why there are no figures, or fewer. */
  readonly missing: string | undefined
  readonly runs: readonly Run[]
}

/** How the built gateway starts, and what it holds when nothing happens. */
export type StartFigure = {
  /** From the start of the process to a 200 on /readyz, each start. */
  readonly readyMs: readonly number[]
  /** Resident memory two seconds later, each start. */
  readonly residentMib: readonly number[]
}

/** One promise, and what was seen of it. */
export type Verdict = {
  readonly claim: string
  readonly seen: string
  readonly wanted: string
  readonly ok: boolean | undefined
}

/** A run. */
export type Report = {
  /** When it began, RFC 3339. */
  readonly made: string
  readonly node: string
  readonly processor: string
  readonly pinned: boolean
  readonly rounds: number
  readonly seconds: number
  /** Of the contestants, as they say it themselves. */
  readonly versions: Readonly<Record<string, string>>
  /** Processors that others kept busy meanwhile, the median of all rounds. */
  readonly others: number
  readonly rows: readonly MeasuredRow[]
  readonly start: StartFigure | undefined
  readonly verdicts: readonly Verdict[]
}

// security.md §3.1: with more than this from others, figures are not to be judged.
const quiet = 0.3

/** Whether the machine was left alone enough for the figures to mean something. */
export function wasQuiet({ others }: Pick<Report, 'others'>): boolean {
  return !(others > quiet)
}
