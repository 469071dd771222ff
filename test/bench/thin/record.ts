// What the gateway keeps of each request, kept here too: an access line, and numbers in arrays.
import { randomBytes } from 'node:crypto'
import { formatAccessLine } from '../../../src/app/access-line.ts'
import type { Clock } from '../../../src/base/time.ts'
import type { Decision, Principal } from '../../../src/decision/decision.ts'
import type { AccessRequest } from '../../../src/decision/request.ts'
import { createFingerprint, createLineWriter, createOutput } from '../../../src/io/log.ts'
import { createMetrics } from '../../../src/io/metrics.ts'

/** One request that is over. Times are monotonic milliseconds. */
export type Exchange = {
  readonly request: AccessRequest | undefined
  readonly decision: Decision
  readonly status: number
  readonly peer: string
  readonly arrivedMs: number
  readonly decidedMs: number
}

const buckets = [0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2]

/** Makes the keeper of access lines, on stdout, and counters. */
export function createRecord(clock: Clock): (exchange: Exchange) => void {
  const writer = createLineWriter({}, { write: createOutput(1).write })
  const metrics = createMetrics()
  const decisions = metrics.counter('decisions_total', 'Decisions.', ['decision', 'reason'])
  const durations = metrics.histogram('decision_duration_seconds', 'Time to a decision.', [], buckets)
  const upstream = metrics.histogram('upstream_request_duration_seconds', 'Time to the answer.', [], buckets)
  const [durationSlot, upstreamSlot] = [durations.slot(), upstream.slot()]
  const slots = new Map<string, number>()
  const fingerprint = createFingerprint(randomBytes(32))
  const prints = new WeakMap<Principal, string>()
  let count = 0
  return ({ request, decision, status, peer, arrivedMs, decidedMs }) => {
    const nowMs = clock.monotonicMs()
    const { kind, reason, rule } = decision
    const principal = decision.kind === 'allow' ? decision.principal : null
    count += 1
    decisions.add(slotOf(reason, kind))
    durations.observe(durationSlot, (decidedMs - arrivedMs) / 1000)
    upstream.observe(upstreamSlot, (nowMs - decidedMs) / 1000)
    writer.line(
      formatAccessLine({
        timeMs: clock.wallMs() - (nowMs - arrivedMs),
        method: request?.method ?? '',
        path: request?.path ?? '',
        status,
        decision: kind,
        reason,
        rule: rule?.id,
        issuer: principal?.issuer.issuer,
        fingerprint: principal === null ? undefined : printOf(principal, request?.authorization[0] ?? ''),
        clientAddress: peer,
        upstreamError: undefined,
        durationUs: (nowMs - arrivedMs) * 1000,
        run: 'bench',
        count,
      }),
    )
  }

  function slotOf(reason: string, kind: string): number {
    const known = slots.get(reason)
    if (known !== undefined) return known
    const made = decisions.slot(kind, reason)
    slots.set(reason, made)
    return made
  }

  function printOf(principal: Principal, authorization: string): string {
    const held = prints.get(principal)
    if (held !== undefined) return held
    const made = fingerprint(authorization)
    prints.set(principal, made)
    return made
  }
}
