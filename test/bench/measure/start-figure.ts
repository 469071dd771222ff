// How long the built gateway takes to be ready beside its own issuer, and what it holds then.
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../support/free-port.ts'
import { gatewayCommand } from '../contestants/gateway.ts'
import type { Started } from '../processes.ts'
import { start } from '../processes.ts'
import type { StartFigure } from '../report/report.ts'
import { residentMib } from './cpu.ts'

const settleMs = 2000
const pollMs = 2
const readyMs = 10_000
const secret = 'bench-secret'

/**
 * Starts the gateway so many times beside one bundled issuer.
 *
 * @param write Writes a file; returns its path.
 */
export async function measureStart(times: number, write: (name: string, text: string) => string): Promise<StartFigure> {
  const [issuerPort, proxy, health, admin] = await Promise.all([freePort(), freePort(), freePort(), freePort()])
  const origin = `http://127.0.0.1:${issuerPort}`
  const issuerFile = write('start-issuer.yaml', JSON.stringify(issuerConfiguration(issuerPort)))
  const listen = { proxy: `127.0.0.1:${proxy}`, health: `127.0.0.1:${health}`, admin: `127.0.0.1:${admin}` }
  const gatewayFile = write('start-gateway.yaml', JSON.stringify({ listen, ...gatewayConfiguration(origin) }))
  const issuer = launch(['issuer', '--config', issuerFile, '--dev'])
  const figure = { readyMs: [] as number[], residentMib: [] as number[] }
  try {
    await answers(`${origin}/main/jwks`, issuer)
    for (let time = 0; time < times; time += 1) {
      const begunMs = performance.now()
      const gateway = launch(['serve', '--config', gatewayFile])
      try {
        await answers(`http://127.0.0.1:${health}/readyz`, gateway)
        figure.readyMs.push(performance.now() - begunMs)
        await sleep(settleMs)
        figure.residentMib.push(residentMib(gateway.pid))
      } finally {
        await gateway.stop()
      }
    }
  } finally {
    await issuer.stop()
  }
  return figure
}

function launch(args: readonly string[]): Started {
  const env = { NODE_ENV: 'production', BENCH_SECRET: secret }
  return start([...gatewayCommand, ...args], { cpus: '0,1', env })
}

/** Resolves with the first 200. */
async function answers(url: string, started: Started): Promise<void> {
  for (const endMs = performance.now() + readyMs; performance.now() < endMs; await sleep(pollMs)) {
    const status = await fetch(url).then(
      (response) => response.status,
      () => 0,
    )
    if (status === 200) return
    if (started.exited()) break
  }
  throw new Error(`Cannot start: ${url} has no 200: ${started.said()}`)
}

function issuerConfiguration(port: number): unknown {
  return {
    version: 1,
    listen: `127.0.0.1:${port}`,
    store: 'memory',
    realms: [
      {
        name: 'main',
        audience: 'orders-api',
        clients: [{ client_id: 'web', client_secret: 'web-secret', scopes: ['orders:read'] }],
        resource_servers: [{ client_id: 'orders-gateway', client_secret: secret, audience: 'orders-api' }],
      },
    ],
  }
}

function gatewayConfiguration(origin: string): Readonly<Record<string, unknown>> {
  return {
    version: 1,
    upstream: { url: 'http://127.0.0.1:3000' },
    issuers: [
      {
        issuer: `${origin}/main`,
        audience: 'orders-api',
        introspection: { client_id: 'orders-gateway', client_secret: { env: 'BENCH_SECRET' } },
        blacklist: { url: `${origin}/main/blacklist` },
      },
    ],
    rules: [
      { id: 'read-orders', match: { methods: ['GET'], path: '/orders/**' }, scopes: ['orders:read'] },
      { id: 'health', match: { methods: ['GET'], path: '/healthz' }, public: true },
    ],
  }
}
