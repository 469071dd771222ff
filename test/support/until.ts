// Waiting for a state, and never for a time.
import { setTimeout as wait } from 'node:timers/promises'

// Only a ceiling, for a machine that has much else to do: what is waited for is there in less than a second elsewhere.
const patienceMs = 30_000

/**
 * Waits until something holds, at most 30 s, or as long as is said.
 *
 * @param what The sentence of what is waited for: it is all that is told when it does not come.
 */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string | (() => string),
  ceilingMs = patienceMs,
): Promise<void> {
  const endMs = performance.now() + ceilingMs
  while (!(await holds())) {
    const said = typeof what === 'string' ? what : what()
    if (performance.now() > endMs) throw new Error(`Cannot go on: waited ${ceilingMs / 1000} s for ${said}`)
    await wait(3)
  }
}

/**
 * Lets everything happen that is under way between sockets of this process. Turns of its loop are counted, each of which
 * reads all that has come: a time would be over before the second one where the machine has much else to do.
 */
export async function settle(turns = 20): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await wait(1)
}

/** Waits until something has begun to move, and moves no more. */
export async function untilStill(position: () => number, what: string): Promise<void> {
  await until(() => position() > 0, what)
  let last = -1
  await until(async () => {
    const isStill = position() === last
    last = position()
    await settle()
    return isStill && position() === last
  }, what)
}
