import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../base/time.ts'
import { pollMs } from './demo-options.ts'
import type { Answer } from './demo-wire.ts'

// product.md §7: the poll, one fetch and 250 ms; the same again for the fetch, on a machine that is busy.
const boundMs = pollMs + 500
const patienceMs = 1500
const betweenMs = 10

/**
 * Sends a request whose token was just revoked, until it is refused or 1.5 s have passed.
 *
 * @param first The answer before the revocation.
 * @returns What was seen; `within one poll` when the refusal came within the interval, one fetch and 250 ms.
 */
export async function untilRefused(
  first: Answer,
  send: () => Promise<Answer>,
  clock: Clock,
): Promise<{ readonly text: string; readonly us: number; readonly note: string }> {
  const revokedMs = clock.monotonicMs()
  for (;;) {
    const { status, reason, us } = await send()
    const afterMs = Math.round(clock.monotonicMs() - revokedMs)
    if (status === 200 && afterMs < patienceMs) {
      await sleep(betweenMs)
      continue
    }
    const when = afterMs <= boundMs ? 'within one poll' : 'too late'
    const note = `after ${afterMs} ms, polled every ${pollMs} ms`
    return { text: `${first.status} ${first.reason}, then ${status} ${reason} ${when}`, us, note }
  }
}
