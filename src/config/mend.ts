import type * as z from 'zod'
import type { Path } from './problems.ts'
import { maxProblems } from './problems.ts'

/** What a schema takes of a value once the parts it refused are left out. */
export type Mended<T> = {
  readonly value: T
  /** Where something of `value` stands in the whole. */
  readonly original: (path: Path) => Path
  /** Whether nothing at or below a path of the whole was left out. */
  readonly isWhole: (path: Path) => boolean
}

type Issue = z.core.$ZodIssue

// Each round leaves out at least one part; a file that needs more is not understood by what is left of it.
const maxRounds = 8

/**
 * Leaves out what a schema refuses, so that the rest can be judged as a whole, and one run tells about all of it.
 *
 * @param value As it was parsed; left as it is.
 * @returns Undefined when too little is left for the schema.
 */
export function mend<S extends z.ZodType>(schema: S, value: unknown): Mended<z.output<S>> | undefined {
  const removed = new Map<string, Path>()
  for (let round = 0; round < maxRounds; round += 1) {
    const kept = new Map<string, readonly number[]>()
    const touched = new Set([...removed.values()].flatMap(beginnings))
    const pruned = prune(value, [], { removed, touched, kept })
    const original = (path: Path) => toOriginal(path, kept)
    const result = schema.safeParse(pruned)
    if (result.success) {
      return { value: result.data, original, isWhole: wholeness([...removed.values()]) }
    }
    for (const path of result.error.issues.flatMap(partsOf)) {
      const part = brokenPart(value, original(path), removed)
      if (part.length === 0) return undefined
      removed.set(JSON.stringify(part), part)
    }
  }
  return undefined
}

/** As many issues as are told, and one more; of an unknown key and of each branch of a union, too. */
export function firstIssues(issues: readonly Issue[]): readonly Issue[] {
  return issues.slice(0, maxProblems + 1).map((issue) => {
    if (issue.code === 'unrecognized_keys') return { ...issue, keys: issue.keys.slice(0, maxProblems + 1) }
    if (issue.code !== 'invalid_union' || issue.inclusive === false) return issue
    return { ...issue, errors: issue.errors.map((errors) => [...firstIssues(errors)]) }
  })
}

/** The places an issue speaks of: each key that should not be there, or the value itself. */
function partsOf(issue: Issue): readonly Path[] {
  const path = issue.path.filter((step) => typeof step !== 'symbol')
  return issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...path, key]) : [path]
}

/** What has to go: the value, or, where it is what is missing, the nearest thing around it that a list can do without. */
function brokenPart(value: unknown, path: Path, removed: ReadonlyMap<string, Path>): Path {
  if (valueAt(value, path) !== undefined && !removed.has(JSON.stringify(path))) return path
  const member = path.slice(0, -1).findLastIndex((step) => typeof step === 'number')
  return path.slice(0, member === -1 ? Math.max(0, path.length - 1) : member + 1)
}

type Pruning = {
  readonly removed: ReadonlyMap<string, Path>
  /** What something is left out of. */
  readonly touched: ReadonlySet<string>
  readonly kept: Map<string, readonly number[]>
}

function prune(value: unknown, path: Path, pruning: Pruning): unknown {
  if (typeof value !== 'object' || value === null) return value
  const { removed, touched, kept } = pruning
  // Most of a file is as it should be, and needs no copy.
  if (!touched.has(JSON.stringify(path))) return value
  const stays = (step: string | number) => !removed.has(JSON.stringify([...path, step]))
  if (!Array.isArray(value)) {
    const members = Object.entries(value).filter(([name]) => stays(name))
    return Object.fromEntries(members.map(([name, member]) => [name, prune(member, [...path, name], pruning)]))
  }
  const indices = [...value.keys()].filter(stays)
  kept.set(JSON.stringify(path), indices)
  return indices.map((index) => prune(value[index], [...path, index], pruning))
}

function toOriginal(path: Path, kept: ReadonlyMap<string, readonly number[]>): Path {
  let whole: (string | number)[] = []
  for (const step of path) {
    const index = typeof step === 'number' ? kept.get(JSON.stringify(whole))?.[step] : undefined
    whole = [...whole, index ?? step]
  }
  return whole
}

function valueAt(value: unknown, path: Path): unknown {
  let at = value
  for (const step of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined
    at = Reflect.get(at, step)
  }
  return at
}

/** Asked of every rule of a file, beside as many parts that were left out: each is looked up, none is gone through. */
function wholeness(removed: readonly Path[]): (path: Path) => boolean {
  const gone = new Set(removed.map((path) => JSON.stringify(path)))
  const touched = new Set(removed.flatMap(beginnings))
  return (path) => !touched.has(JSON.stringify(path)) && !beginnings(path).some((start) => gone.has(start))
}

function beginnings(path: Path): readonly string[] {
  return Array.from({ length: path.length + 1 }, (_, length) => JSON.stringify(path.slice(0, length)))
}
