import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { start } from '../processes.ts'
import type { World } from '../world.ts'
import type { Contestant } from './contestant.ts'
import { runningAt } from './contestant.ts'

/** What the Node contestants are told, as JSON in their first argument. */
export type NodeSettings = {
  /** Where requests go. */
  readonly upstream: string
  /** The key set, as an address and as a file; and the RS256 key alone. */
  readonly jwksUri: string
  readonly jwksFile: string
  readonly publicKeyFile: string
  /** Tokens kept, where there is a cache. */
  readonly cacheSize: number
  /** Where opaque tokens are asked about; absent: nowhere. */
  readonly introspection?: string
}

const bench = join(import.meta.dirname, '..')

/**
 * A contestant that is a program of ours on other people's packages, or on our own.
 *
 * @param file From `test/bench`.
 * @param needs A package that it cannot do without.
 */
export function nodeProgram(
  file: string,
  needs: string,
  setting: { readonly upstream?: 'answers' | 'sink'; readonly opaque?: true } = {},
): Contestant {
  return async (world, cpus) => {
    if (!existsSync(join(bench, 'node_modules', needs)))
      return { kind: 'missing', why: `${needs} is not installed (npm run bench:setup)` }
    const settings = JSON.stringify(settingsOf(world, setting))
    const env = { NODE_ENV: 'production' }
    const started = start([process.execPath, join(bench, file), settings], { cpus, env })
    try {
      const port = await started.line((line) => (/^\d+$/.test(line) ? Number(line) : undefined))
      return runningAt(`http://127.0.0.1:${port}`, started)
    } catch (error) {
      await started.stop()
      throw error
    }
  }
}

function settingsOf(
  world: World,
  { upstream = 'answers', opaque }: { readonly upstream?: 'answers' | 'sink'; readonly opaque?: true },
): NodeSettings {
  return {
    upstream: world[upstream],
    jwksUri: `${world.answers}/jwks.json`,
    jwksFile: world.files.jwks,
    publicKeyFile: world.files.rs256,
    cacheSize: 4000,
    ...(opaque === true ? { introspection: `${world.issuerStub}/introspect` } : {}),
  }
}
