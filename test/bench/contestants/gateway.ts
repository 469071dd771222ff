import { setTimeout as sleep } from 'node:timers/promises'
import { image } from '../../support/program.ts'
import { run, start } from '../processes.ts'
import { manyRules } from '../requests.ts'
import { audience, issuer } from '../tokens.ts'
import type { World } from '../world.ts'
import type { Contestant, Missing } from './contestant.ts'
import { runningAt } from './contestant.ts'

/** What a gateway is configured with beside the usual. */
export type GatewaySetting = {
  readonly rules?: 'few' | 'many'
  /** Asks the issuer about opaque tokens. */
  readonly opaque?: true
  /** Entries of its blacklist; absent: it has none. */
  readonly blacklist?: number
  readonly upstream?: 'answers' | 'sink'
  readonly tls?: true
  readonly workers?: number
}

/** The program as `npm run build` makes it, started as in the image. */
export const gatewayCommand: readonly string[] = [process.execPath, ...image.options, image.program]
// A million entries come in a thousand pages.
const readyMs = 120_000
const few = 10

let count = 0

/** The built gateway with a configuration of its own. Missing is what this build's `check` does not know. */
export function gateway(setting: GatewaySetting = {}): Contestant {
  return async (world, cpus) => {
    if (setting.tls === true && world.files.certificate === undefined)
      return { kind: 'missing', why: 'openssl is not installed (npm run bench:setup)' }
    count += 1
    const file = world.write(`gateway-${count}.yaml`, formatConfiguration(setting, world))
    const refused = await check(file)
    if (refused !== undefined) return refused
    const started = start([...gatewayCommand, 'serve', '--config', file], {
      cpus,
      env: { NODE_ENV: 'production', BENCH_SECRET: 'bench-secret' },
    })
    try {
      const ports = await started.line((line) => {
        const found = /"event.name":"started".*"proxy_port":(\d+),"health_port":(\d+)/.exec(line)
        return found === null ? undefined : { proxy: Number(found[1]), health: Number(found[2]) }
      })
      await ready(ports.health, setting.blacklist)
      const scheme = setting.tls === true ? 'https' : 'http'
      return runningAt(`${scheme}://127.0.0.1:${ports.proxy}`, started)
    } catch (error) {
      await started.stop()
      throw error
    }
  }
}

/** A line for each part: every JSON document is a YAML document. */
function formatConfiguration(setting: GatewaySetting, world: World): string {
  const { rules = 'few', opaque, blacklist, upstream = 'answers', tls, workers } = setting
  const credentials = { client_id: 'bench', client_secret: { env: 'BENCH_SECRET' } }
  const { cert = '', key = '' } = world.files.certificate ?? {}
  const parts = {
    version: 1,
    ...(workers === undefined ? {} : { workers }),
    listen: {
      proxy: '127.0.0.1:0',
      health: '127.0.0.1:0',
      admin: '127.0.0.1:0',
      ...(tls === true ? { tls: { cert: { file: cert }, key: { file: key } } } : {}),
    },
    upstream: { url: world[upstream] },
    issuers: [
      {
        issuer,
        audience,
        jwks: { file: world.files.jwks },
        ...(opaque === true
          ? {
              introspection_endpoint: `${world.issuerStub}/introspect`,
              introspection: { ...credentials, max_age: '1h' },
            }
          : {}),
        ...(blacklist === undefined
          ? {}
          : { blacklist: { url: `${world.issuerStub}/blacklist/${blacklist}`, ...credentials } }),
      },
    ],
    ...(blacklist === undefined ? {} : { blacklist: { cache_size: 1_000_000 } }),
  }
  // With the open one below, as many as a configuration may have.
  const length = rules === 'few' ? few : manyRules - 1
  const each = Array.from({ length }, (_, at) =>
    JSON.stringify({ match: { methods: ['GET', 'POST'], path: `/r${at}/{id}` }, scopes: ['read'] }),
  )
  const open = JSON.stringify({ match: { path: '/open/{id}' }, public: true })
  return `${JSON.stringify(parts).slice(0, -1)},\n"rules":[\n${[...each, open].join(',\n')}\n]}\n`
}

async function check(file: string): Promise<Missing | undefined> {
  const { code, stdout, stderr } = await run([...gatewayCommand, 'check', file], { cpus: '0,1', timeoutMs: 60_000 })
  if (code !== 3) return undefined
  const [first = ''] = `${stdout}${stderr}`.split('\n')
  return { kind: 'missing', why: `not in this build (${first.replace(/^.*?:\d+:\d+: /, '')})` }
}

async function ready(port: number, entries: number | undefined): Promise<void> {
  for (const endMs = performance.now() + readyMs; performance.now() < endMs; await sleep(50)) {
    const { status } = await fetch(`http://127.0.0.1:${port}/readyz`)
    if (status !== 200) continue
    if (entries === undefined) return
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    const held = Number(/^postern_blacklist_entries\{[^}]*\} (\d+)/m.exec(text)?.[1])
    if (held !== entries) throw new Error(`the blacklist has ${held} entries, wanted ${entries}`)
    return
  }
  throw new Error('it is not ready')
}
