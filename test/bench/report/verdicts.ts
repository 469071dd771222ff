// The promises about speed, and what a run saw of them.
import { median, medianRatio } from '../measure/statistics.ts'
import type { MeasuredRow, Report, Run, StartFigure, Verdict } from './report.ts'

type Figure = 'rate' | 'cpuUs' | 'p99'

/** One promise: a quotient of two rows, round by round, and its bound. */
type Promised = {
  readonly claim: string
  readonly of: string
  readonly by: string
  readonly figure: Figure
  readonly least?: number
  readonly most?: number
}

const warm = 'gateway, 2000 warm JWTs'
const promised: readonly Promised[] = [
  faster('node:http + undici + cache', 'self-warm', 1.8),
  faster('HAProxy jwt_verify RS256', 'haproxy-rs256', 2),
  faster('HAProxy jwt_verify ES256', 'haproxy-es256', 4),
  faster('Envoy jwt_authn with its cache', 'envoy-cache', 2.5),
  faster('Apache mod_auth_openidc', 'apache-oidc', 3),
  faster('bare HAProxy', 'haproxy-bare', 0.7),
  {
    claim: `${warm}: p99 at saturation : bare HAProxy's`,
    of: 'gateway-warm',
    by: 'haproxy-bare',
    figure: 'p99',
    most: 2,
  },
  dearer('CPU a request, 10000 rules : 10', 'rules-many', 'rules-few', 1.05),
  dearer('CPU a request, 10000 rules, 2000 of them asked for : 10', 'rules-spread', 'rules-few', 1.05),
  dearer('CPU a request, 1000000 blacklist entries : 0', 'blacklist-million', 'blacklist-none', 1.05),
  dearer('CPU a request, 2 workers : 1', 'workers-two', 'workers-one', 1.1),
]
const mostUneven = 0.1
const mostReadyMs = 300
const mostMib = 70

/** Says of each promise what was seen; `ok` is undefined where nothing was. */
export function judge({ rows, start }: Pick<Report, 'rows' | 'start'>): readonly Verdict[] {
  return [...promised.map((each) => judgeRatio(each, rows)), judgeShares(rows), ...judgeStart(start)]
}

function faster(than: string, by: string, least: number): Promised {
  return { claim: `${warm}: requests/s : ${than}`, of: 'gateway-warm', by, figure: 'rate', least }
}

function dearer(claim: string, of: string, by: string, most: number): Promised {
  return { claim, of, by, figure: 'cpuUs', most }
}

function judgeRatio({ claim, of, by, figure, least, most }: Promised, rows: readonly MeasuredRow[]): Verdict {
  const wanted = least === undefined ? `at most ${most}` : `at least ${least}`
  const [first, second] = [runsOf(rows, of), runsOf(rows, by)]
  const ratio = medianRatio(
    first.map((run) => run[figure]),
    second.map((run) => run[figure]),
  )
  if (Number.isNaN(ratio)) return { claim, wanted, seen: 'not measured', ok: undefined }
  return { claim, wanted, seen: ratio.toFixed(2), ok: ratio >= (least ?? 0) && ratio <= (most ?? ratio) }
}

function judgeShares(rows: readonly MeasuredRow[]): Verdict {
  const claim = '2 workers: difference of their shares : mean'
  const wanted = `at most ${mostUneven}`
  const spreads = runsOf(rows, 'workers-two').map(({ shares }) => {
    // Those of the two that did most: the primary serves nothing.
    const [most = 0, next = 0] = shares.toSorted((a, b) => b - a)
    return (most - next) / ((most + next) / 2)
  })
  if (spreads.length === 0) return { claim, wanted, seen: 'not measured', ok: undefined }
  const spread = median(spreads)
  return { claim, wanted, seen: spread.toFixed(2), ok: spread <= mostUneven }
}

function judgeStart(start: StartFigure | undefined): readonly Verdict[] {
  const figures = [
    { claim: 'start of the built gateway to a 200 on /readyz', unit: 'ms', values: start?.readyMs, most: mostReadyMs },
    { claim: 'resident memory of the idle gateway', unit: 'MiB', values: start?.residentMib, most: mostMib },
  ]
  return figures.map(({ claim, unit, values = [], most }) => {
    const wanted = `under ${most} ${unit}`
    if (values.length === 0) return { claim, wanted, seen: 'not measured', ok: undefined }
    const value = median(values)
    return { claim, wanted, seen: `${value.toFixed(0)} ${unit}`, ok: value < most }
  })
}

function runsOf(rows: readonly MeasuredRow[], id: string): readonly Run[] {
  return rows.find((row) => row.id === id)?.runs ?? []
}
