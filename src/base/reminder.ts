// What lasts is said again and again, and not for every request that meets it.
import type { Clock } from './time.ts'

/** Whether something is to be said now. @param isNew It differs from what was said last: it is, whatever the time. */
export type Reminder = (isNew?: boolean) => boolean

/** Makes the reminder of one thing: true for the first time, and then once in so many milliseconds at most. */
export function createReminder(everyMs: number, { clock }: { readonly clock: Pick<Clock, 'monotonicMs'> }): Reminder {
  let saidMs = Number.NEGATIVE_INFINITY
  return (isNew = false) => {
    const nowMs = clock.monotonicMs()
    const isDue = isNew || nowMs - saidMs >= everyMs
    if (isDue) saidMs = nowMs
    return isDue
  }
}
