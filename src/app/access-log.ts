import type { Clock } from '../base/time.ts'
import type { Principal } from '../decision/decision.ts'
import { plainAddress } from '../decision/headers.ts'
import type { Exchange } from '../gates/gate.ts'
import type { LineWriter } from '../io/log.ts'
import { createFingerprint } from '../io/log.ts'
import { formatAccessLine } from './access-line.ts'

/** What the access log needs from outside. */
export type AccessLogDeps = { readonly clock: Clock; readonly randomBytes: (count: number) => Buffer }

/**
 * Writes one line per request. A token stands in it only as a fingerprint, under a key that lives as long as the
 * process: lines of one run can be compared, and nobody can look a token up by its line.
 */
export function createAccessLog(
  deps: AccessLogDeps,
  writer: Pick<LineWriter, 'line'>,
): (exchange: Exchange, nowMs: number) => void {
  const { clock, randomBytes } = deps
  const fingerprint = createFingerprint(randomBytes(32))
  const run = randomBytes(4).toString('hex')
  // A fingerprint costs more than the rest of the line.
  const known = new WeakMap<Principal, string>()
  let count = 0
  let told = { atMs: Number.NEGATIVE_INFINITY, aheadMs: 0 }
  return (exchange, nowMs) => {
    const { method, request, peer, arrivedMs, decision, status, cut, upstreamFailure } = exchange
    count += 1
    const lasted = nowMs - arrivedMs
    const principal = decision.kind === 'allow' ? decision.principal : null
    writer.line(
      formatAccessLine({
        timeMs: wallMs(nowMs) - lasted,
        method,
        path: request?.path ?? '',
        status,
        decision: decision.kind,
        reason: cut ?? decision.reason,
        rule: decision.rule?.id,
        issuer: principal?.issuer.issuer ?? (decision.kind === 'deny' ? decision.issuer?.issuer : undefined),
        fingerprint: principal === null ? printOf(exchange) : printOfPrincipal(principal, exchange),
        clientAddress: plainAddress(peer),
        upstreamError: upstreamFailure,
        durationUs: lasted * 1000,
        run,
        count,
      }),
    )
  }

  /** As of a second ago, since asking costs a tenth of the line. */
  function wallMs(nowMs: number): number {
    if (nowMs - told.atMs >= 1000) told = { atMs: nowMs, aheadMs: clock.wallMs() - nowMs }
    return nowMs + told.aheadMs
  }

  function printOfPrincipal(principal: Principal, exchange: Exchange): string | undefined {
    const held = known.get(principal)
    if (held !== undefined) return held
    const print = printOf(exchange)
    if (print !== undefined) known.set(principal, print)
    return print
  }

  /** Of the whole line, scheme left out; a public request's is as unread here as everywhere. */
  function printOf({ request, decision }: Exchange): string | undefined {
    const [line] = request?.authorization ?? []
    if (line === undefined || decision.rule?.public === true) return undefined
    return fingerprint(line.replace(/^bearer +/i, ''))
  }
}
