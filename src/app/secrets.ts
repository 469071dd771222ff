import { messageOf } from '../base/errors.ts'
import type { SecretSource } from '../base/options.ts'
import { readSecret } from '../io/files.ts'
import type { Log } from '../io/log.ts'
import type { Powers } from './app.ts'

/** The way to every secret of the configuration. */
export type Secrets = {
  /** The secret; the last good one while it cannot be read. Throws where there never was one. */
  readonly secret: (source: SecretSource) => string
  /** Why some of these cannot be read at this moment: a restart would fail. */
  readonly unreadable: (sources: readonly SecretSource[]) => readonly string[]
}

// A secret is read when it is used, so that a rotated one needs no restart; this often at most.
const secretMaxAgeMs = 1000
const repeatMs = 60_000

/** Makes the way to every secret of the configuration. */
export function createSecrets(
  { clock, env, readFile, fileMode }: Pick<Powers, 'clock' | 'env' | 'readFile' | 'fileMode'>,
  log: Log,
): Secrets {
  type Held = { readonly value: string; readonly readMs: number; readonly failure?: string; readonly toldMs?: number }
  const held = new Map<string, Held>()
  return {
    secret: (source) => look(source).value,
    unreadable: (sources) =>
      sources.flatMap((source) => {
        try {
          return look(source).failure ?? []
        } catch (error) {
          return messageOf(error)
        }
      }),
  }

  function look(source: SecretSource): Held {
    const key = JSON.stringify(source)
    const known = held.get(key)
    const nowMs = clock.monotonicMs()
    if (known !== undefined && nowMs - known.readMs < secretMaxAgeMs) return known
    const found = read(source, known, nowMs)
    held.set(key, found)
    return found
  }

  function read(source: SecretSource, known: Held | undefined, nowMs: number): Held {
    try {
      const value = readSecret(source, { env, readFile, mode: fileMode })
      if (known?.failure !== undefined) log.info('secret_recovered', { was: known.failure })
      return { value, readMs: nowMs }
    } catch (error) {
      if (known === undefined) throw error
      const failure = messageOf(error)
      const isTold = known.failure === failure && nowMs - (known.toldMs ?? 0) < repeatMs
      if (!isTold) log.error('secret_unreadable', { error: failure })
      return { value: known.value, readMs: nowMs, failure, toldMs: isTold ? (known.toldMs ?? nowMs) : nowMs }
    }
  }
}
