import type { Powers } from '../app/app.ts'
import { messageOf } from '../base/errors.ts'
import type { Problem } from '../config/problems.ts'
import { formatProblem } from '../config/problems.ts'
import type { Runtime } from './runtime.ts'

/** What a command gets from the process: arguments come parsed, everything else through here. */
export type Shell = Powers & {
  readonly runtime: Runtime
  /** Data, to stdout. */
  readonly out: (text: string) => void
  /** Talk, to stderr. */
  readonly say: (text: string) => void
  /** Whether what is said is read by a person at a terminal. */
  readonly isTerminal: boolean
  /** How wide the terminal is that stdout goes to; undefined: to none. */
  readonly columns: number | undefined
  /** Whether colours are wanted on stdout. */
  readonly color: boolean
  /** Whether they are on stderr. */
  readonly sayColor: boolean
  /** All of stdin, at most `maxBytes`; rejects with RangeError when there is more. */
  readonly readStdin: (maxBytes: number) => Promise<string>
  readonly stdinIsTerminal: boolean
  readonly writeFile: (path: string, text: string) => void
  readonly onSignal: (name: 'SIGTERM' | 'SIGINT' | 'SIGHUP', listener: () => void) => void
  /** Told once what the start needed is needed no more. */
  readonly started: () => void
  /** Ends the process with `code`, and waits for nothing but a write of the log that is under way, a moment. */
  readonly exitNow: (code: number) => void
}

/** What the process ends with (product.md §3). */
export const exitCodes = {
  ok: 0,
  failure: 1,
  usage: 2,
  configuration: 3,
  deny: 5,
  undecided: 6,
} as const

/** Says in one line why a command cannot go on. */
export function sayFailure(shell: Shell, error: unknown): number {
  shell.say(`postern: ${messageOf(error)}\n`)
  return exitCodes.failure
}

/** Says everything that is wrong with a configuration. */
export function sayRefused(shell: Shell, problems: readonly Problem[]): number {
  for (const problem of problems) shell.say(`${formatProblem(problem, { color: shell.sayColor })}\n`)
  return exitCodes.configuration
}

/** Resolves at the first SIGTERM or SIGINT; the second ends the process at once, after `beforeEnd`. */
export function untilSignal(shell: Shell, beforeEnd: () => void = () => {}): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  let asked = 0
  const stop = () => {
    asked += 1
    if (asked > 1) {
      beforeEnd()
      return shell.exitNow(exitCodes.failure)
    }
    resolve()
  }
  shell.onSignal('SIGTERM', stop)
  shell.onSignal('SIGINT', stop)
  return promise
}
