import { messageOf } from '../base/errors.ts'
import type { SecretSource } from '../base/options.ts'
import { readSecret } from '../io/files.ts'
import type { Log } from '../io/log.ts'
import type { Powers } from './app.ts'

// A secret is read when it is used, so that a rotated one needs no restart; this often at most.
const secretMaxAgeMs = 1000

/** Makes the way to every secret of the configuration; while one cannot be read, the last good one stays in use. */
export function createSecrets(
  { clock, env, readFile, fileMode }: Pick<Powers, 'clock' | 'env' | 'readFile' | 'fileMode'>,
  log: Log,
): (source: SecretSource) => string {
  const held = new Map<string, { value: string; readMs: number }>()
  return (source) => {
    const key = JSON.stringify(source)
    const known = held.get(key)
    const nowMs = clock.monotonicMs()
    if (known !== undefined && nowMs - known.readMs < secretMaxAgeMs) return known.value
    try {
      const value = readSecret(source, { env, readFile, mode: fileMode })
      held.set(key, { value, readMs: nowMs })
      return value
    } catch (error) {
      if (known === undefined) throw error
      held.set(key, { value: known.value, readMs: nowMs })
      log.error('secret_unreadable', { error: messageOf(error) })
      return known.value
    }
  }
}
