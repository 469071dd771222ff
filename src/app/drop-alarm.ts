// Says that clients lose their connections to limits of ours, which no access line tells: none of them is a request.
import type { Check } from '../admin/health.ts'
import type { Reminder } from '../base/reminder.ts'
import { createReminder } from '../base/reminder.ts'
import type { Clock } from '../base/time.ts'
import type { DropCause } from '../gates/entrance.ts'
import type { Log } from '../io/log.ts'

/** Tells people of connections that were dropped for want of room; the metric counts all, whatever they were dropped for. */
export type DropAlarm = {
  readonly dropped: (cause: DropCause) => void
  /** A line while it lasts, and a minute longer. */
  readonly notes: () => readonly Check[]
}

// What clients do wrong is theirs, and anybody can do it all the time.
const ours: ReadonlySet<DropCause> = new Set(['limit', 'memory', 'no_worker'])
const repeatMs = 60_000

/** Makes the alarm of one process. */
export function createDropAlarm({ clock, log }: { readonly clock: Clock; readonly log: Pick<Log, 'warn'> }): DropAlarm {
  const causes = new Map<DropCause, { readonly isDue: Reminder; lastMs: number; count: number }>()
  return { dropped, notes }

  function dropped(cause: DropCause): void {
    if (!ours.has(cause)) return
    const nowMs = clock.monotonicMs()
    const known = causes.get(cause) ?? { isDue: createReminder(repeatMs, { clock }), lastMs: nowMs, count: 0 }
    causes.set(cause, known)
    known.lastMs = nowMs
    known.count += 1
    if (!known.isDue()) return
    log.warn('connections_dropped', { listener: 'proxy', cause, count: known.count })
    known.count = 0
  }

  function notes(): readonly Check[] {
    const nowMs = clock.monotonicMs()
    const lately = [...causes].filter(([, { lastMs }]) => nowMs - lastMs < repeatMs).map(([cause]) => cause)
    if (lately.length === 0) return []
    const said = `connections of clients were dropped within the last minute (${lately.join(', ')})`
    return [{ name: 'front door', ok: false, mark: '-', said }]
  }
}
