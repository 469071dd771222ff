// What /proc tells of processor time. Linux only, as the bench is.
import { readdirSync, readFileSync } from 'node:fs'

/** Processor time of one process, microseconds. */
export type ProcessTime = { readonly pid: number; readonly us: number }

// /proc counts in these: getconf CLK_TCK is 100 on every Linux that Node runs on.
const tickUs = 10_000

type Stat = { readonly pid: number; readonly parent: number; readonly own: number; readonly reaped: number }

/** User and system time of a process and all below it, each by itself. */
export function treeTimes(root: number): readonly ProcessTime[] {
  return treeOf(root).map(({ pid, own }) => ({ pid, us: own * tickUs }))
}

/** Time of a process and all that it ever started and waited for, microseconds. */
export function totalTime(root: number): number {
  return treeOf(root).reduce((sum, { own, reaped }) => sum + own + reaped, 0) * tickUs
}

/** Time that the whole machine was busy, microseconds. */
export function machineTime(): number {
  const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = readFileSync('/proc/stat', 'utf8')
    .slice(0, 256)
    .split(/\s+/)
    .map(Number)
  return (user + nice + system + irq + softirq + steal) * tickUs
}

/** Resident memory of a process, MiB. */
export function residentMib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

function treeOf(root: number): readonly Stat[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap(readStat)
  const tree = all.filter(({ pid }) => pid === root)
  // Grows while it is walked.
  for (const { pid } of tree) tree.push(...all.filter(({ parent }) => parent === pid))
  return tree
}

function readStat(pid: string): readonly Stat[] {
  try {
    // The name before it may hold anything.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
      .map(Number)
    const [, parent = 0] = fields
    const [user = 0, system = 0, reapedUser = 0, reapedSystem = 0] = fields.slice(11)
    return [{ pid: Number(pid), parent, own: user + system, reaped: reapedUser + reapedSystem }]
  } catch {
    // It has ended since it was listed.
    return []
  }
}
