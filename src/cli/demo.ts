import { demoCases } from './demo-cases.ts'
import { gatewayText } from './demo-options.ts'
import type { Stage } from './demo-stage.ts'
import { startStage } from './demo-stage.ts'
import { formatMoved, formatRows, runCases } from './demo-table.ts'
import { formatExplanation } from './explain.ts'
import type { Shell } from './shell.ts'
import { exitCodes, sayFailure, untilSignal } from './shell.ts'

/** What a demo shows. */
export type Play = { readonly cases: typeof demoCases; readonly configuration: typeof gatewayText }

/**
 * Starts two issuers, a service and the gateway, and runs every case.
 *
 * @param options `keep`: leaves them running until a signal.
 * @param play Other cases, or another gateway, to see that the demo notices.
 * @returns 0, or 1 when anything differs from what is expected or nothing could be started.
 */
export async function demo(
  options: { readonly keep?: true },
  shell: Shell,
  play: Play = { cases: demoCases, configuration: gatewayText },
): Promise<number> {
  const stopped = options.keep === true ? untilSignal(shell) : undefined
  try {
    progress(shell, 'starting two issuers, a service and the gateway')
    await using stage = await startStage(play.configuration, shell)
    const before = stage.app.counters()
    const cases = play.cases(stage)
    const rows = await runCases(cases, (name, index) => progress(shell, `${index + 1}/${cases.length} ${name}`))
    progress(shell, '')
    shell.out(`Metrics that moved:\n${formatMoved(before, stage.app.counters())}`)
    const token = await stage.mint(stage.a)
    const explanation = await stage.app.explain({ method: 'POST', url: '/orders/1', token })
    shell.out(`\nAn example: why POST /orders/1 with scope orders:read is refused\n${formatExplanation(explanation)}`)
    // Last, so that a terminal ends with it.
    shell.out(`\n${formatRows(rows, shell)}`)
    if (stopped !== undefined) {
      shell.out(await formatAddresses(stage))
      await stopped
    }
    return rows.every(({ ok }) => ok) ? exitCodes.ok : exitCodes.failure
  } catch (error) {
    progress(shell, '')
    return sayFailure(shell, error)
  }
}

/** Replaces the line of progress; only a person at a terminal sees one. */
function progress({ isTerminal, say }: Shell, text: string): void {
  if (isTerminal) say(`\r\u001b[K${text}`)
}

async function formatAddresses({ app, a, b, secrets, servicePort, grant }: Stage): Promise<string> {
  const at = (port: number) => `http://127.0.0.1:${port}`
  const client = `curl -u web:${secrets.client}`
  return `
Running until Ctrl-C:
  gateway   ${at(app.ports.proxy)}
  health    ${at(app.ports.health)}/readyz?verbose
  metrics   ${at(app.ports.health)}/metrics
  admin     ${at(app.ports.admin)}/status
  issuer A  ${a.issuer}/.well-known/openid-configuration
  issuer B  ${b.issuer}/.well-known/openid-configuration
  service   ${at(servicePort)} (behind the gateway)

To try:
  curl -i -H 'Authorization: Bearer ${await grant(a)}' ${at(app.ports.proxy)}/orders/1
Another token, and its end:
  ${client} -d grant_type=client_credentials ${a.issuer}/token
  ${client} -d token=… ${a.issuer}/revoke
`
}
