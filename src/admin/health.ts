import type { HttpAnswer, HttpHandler } from '../io/http-server.ts'
import { problem } from '../io/http-server.ts'

/** One thing that health depends on. */
export type Check = {
  readonly name: string
  /** Whether the process is as healthy as the probe asks, as far as this goes. */
  readonly ok: boolean
  readonly said: string
  /** What people see before it, where `ok` does not say it: `+` well, `!` worth a look, and nobody is refused for it, `-` requests are. */
  readonly mark?: '+' | '!' | '-'
}

/** What Prometheus is told. */
export type MetricsPage = {
  readonly contentType: string
  /** Bytes, which many answers may share. */
  readonly body: Uint8Array
}

/** What the health listener asks the process. */
export type HealthDeps = {
  /** Valid configuration, listeners up. */
  readonly started: () => readonly Check[]
  /** Also: each required issuer's keys and lists loaded once, not draining. */
  readonly ready: () => readonly Check[]
  /** What does not make it unready, and people want to see. */
  readonly notes: () => readonly Check[]
  readonly metrics: () => Promise<MetricsPage>
  /** The upstream's answer on the one configured path; undefined where none is configured. */
  readonly upstream: () => Promise<HttpAnswer> | undefined
}

/** Answers the health listener: /livez /startupz /readyz /metrics /upstreamz, and nothing else. */
export function createHealth(deps: HealthDeps): HttpHandler {
  return async ({ method, path, query }) => {
    if (method !== 'GET' && method !== 'HEAD') return problem(405, 'Method Not Allowed')
    const verbose = new URLSearchParams(query).has('verbose')
    switch (path) {
      case '/livez':
        // That this runs is the answer; load is never judged, or the busiest pod would be killed first.
        return report([{ name: 'process', ok: true, said: 'answers' }], [], verbose)
      case '/startupz':
        return report(deps.started(), [], verbose)
      case '/readyz':
        return report([...deps.started(), ...deps.ready()], deps.notes(), verbose)
      case '/metrics': {
        const { contentType, body } = await deps.metrics()
        return { status: 200, headers: { 'content-type': contentType, 'cache-control': 'no-store' }, body }
      }
      case '/upstreamz':
        return (await deps.upstream()) ?? problem(404, 'No upstream.health_path is configured')
      default:
        return problem(404, 'Not Found')
    }
  }
}

function report(checks: readonly Check[], notes: readonly Check[], verbose: boolean): HttpAnswer {
  const ok = checks.every((check) => check.ok)
  const headers = { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' }
  const lineOf = ({ name, ok, said, mark }: Check, bad: '!' | '-') => `[${mark ?? (ok ? '+' : bad)}] ${name}: ${said}`
  const lines = [...checks.map((check) => lineOf(check, '-')), ...notes.map((note) => lineOf(note, '!'))]
  const failed = checks.filter((check) => !check.ok).map(({ name, said }) => `${name}: ${said}`)
  const body = verbose ? [...lines, ok ? 'ok' : 'not ok'].join('\n') : ok ? 'ok' : `not ok: ${failed.join('; ')}`
  return { status: ok ? 200 : 503, headers, body: `${body}\n` }
}
