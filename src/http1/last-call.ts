import { nextTurn } from '../base/time.ts'

// Twice what Node lets the kernel keep: those who go on coming are not waited for.
const maxTurns = 1024

/**
 * Waits until nobody more comes in. Who has connected and waits in the kernel's queue would be reset with the listener
 * that is closed next, though no client could know.
 *
 * @param accepted How many have come in so far.
 */
export async function lastCall(accepted: () => number): Promise<void> {
  for (let turn = 0, before = -1; turn < maxTurns && before !== accepted(); turn += 1) {
    before = accepted()
    // Two: the first may be the rest of a turn that has looked at its sockets already.
    await nextTurn()
    await nextTurn()
  }
}
