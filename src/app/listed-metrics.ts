// Every metric there is, for the reference: registered as a gateway does, and read by nobody.
import type { MetricMeaning } from '../io/metrics.ts'
import { registerCertificate } from './certificates.ts'
import { registerDataPlane, registerGauges, registerWorkers } from './gauges.ts'
import { createGatewayMetrics } from './metrics.ts'

/** All metrics of a gateway with TLS and workers, by name. */
export function listMetrics(): readonly MetricMeaning[] {
  const { metrics } = createGatewayMetrics()
  const plane = { inFlight: unread, connections: unread, dropped: unread }
  registerDataPlane(metrics, { running: unread, known: { entries: unread }, plane, writer: { dropped: unread } })
  registerGauges(metrics, { running: unread, build: { version: '', revision: '', nodeVersion: '' } })
  registerCertificate(metrics, unread)
  registerWorkers(metrics, unread)
  return metrics.list().toSorted((one, other) => (one.name < other.name ? -1 : 1))
}

function unread(): never {
  throw new TypeError('Cannot read a metric: it is only listed')
}
