import { setTimeout as sleep } from 'node:timers/promises'
import type { Started } from '../processes.ts'
import { isInstalled } from '../processes.ts'
import type { World } from '../world.ts'

/** A contestant that answers. */
export type Running = {
  readonly kind: 'running'
  /** Such as `http://127.0.0.1:8080`. */
  readonly origin: string
  readonly pid: number
  /** The end of what it wrote to stderr. */
  readonly said: () => string
  readonly stop: () => Promise<void>
}

/** A contestant that cannot be had, and why. */
export type Missing = { readonly kind: 'missing'; readonly why: string }

/** Starts a contestant on the processors given; rejects when it is there and does not start. */
export type Contestant = (world: World, cpus: string) => Promise<Running | Missing>

const readyMs = 10_000

/** Says that a program is not installed; undefined when it is. */
export function missingProgram(command: string): Missing | undefined {
  return isInstalled(command)
    ? undefined
    : { kind: 'missing', why: `${command} is not installed (npm run bench:setup)` }
}

/** A started program as a contestant. */
export function runningAt(origin: string, { pid, said, stop }: Started): Running {
  return { kind: 'running', origin, pid, said, stop }
}

/** Waits until a started program answers HTTP at its port, whatever it says. */
export async function answering(started: Started, port: number, scheme: 'http' | 'https' = 'http'): Promise<Running> {
  const origin = `${scheme}://127.0.0.1:${port}`
  const plain = `http://127.0.0.1:${port}`
  for (const endMs = performance.now() + readyMs; ; await sleep(20)) {
    if (started.exited() || performance.now() > endMs) {
      await started.stop()
      throw new Error(`it ${started.exited() ? 'exits' : 'does not answer'}: ${started.said().trim().slice(-300)}`)
    }
    // Whoever listens with TLS says something else to plain HTTP, or hangs up.
    const answered = await fetch(plain).then(
      () => true,
      (error: Error) => scheme === 'https' && !/ECONNREFUSED/.test(String(error.cause)),
    )
    if (answered) return runningAt(origin, started)
  }
}
