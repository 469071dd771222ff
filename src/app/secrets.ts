import { messageOf } from '../base/errors.ts'
import type { SecretSource } from '../base/options.ts'
import type { Reminder } from '../base/reminder.ts'
import { createReminder } from '../base/reminder.ts'
import { readSecret } from '../io/files.ts'
import type { Log } from '../io/log.ts'
import type { Powers } from './app.ts'

/** The way to every secret of the configuration. */
export type Secrets = {
  /**
   * The way to a secret, which is read at once and held. Never throws by itself; what it returns tells the secret as it
   * is now, the last good one while it cannot be read, and throws where there never was one.
   */
  readonly secret: (source: SecretSource) => () => string
  /** Why some of these cannot be read at this moment: a restart would fail. */
  readonly unreadable: (sources: readonly SecretSource[]) => readonly UnreadableSecret[]
}

/** A secret that cannot be read now: why, and whether one that was read before is used meanwhile. */
export type UnreadableSecret = { readonly failure: string; readonly isHeld: boolean }

// A secret is read when it is used, so that a rotated one needs no restart; this often at most.
const secretMaxAgeMs = 1000
const repeatMs = 60_000

/** Makes the way to every secret of the configuration. */
export function createSecrets(
  { clock, env, readFile, fileMode }: Pick<Powers, 'clock' | 'env' | 'readFile' | 'fileMode'>,
  log: Log,
): Secrets {
  type Held = { readonly value: string; readonly readMs: number; readonly failure?: string; readonly isDue: Reminder }
  const held = new Map<string, Held>()
  return {
    secret(source) {
      // The load has just found it good. It may be gone by the first token that needs it.
      problemOf(source)
      return () => look(source).value
    },
    unreadable: (sources) => sources.flatMap((source) => problemOf(source) ?? []),
  }

  function problemOf(source: SecretSource): UnreadableSecret | undefined {
    try {
      const { failure } = look(source)
      return failure === undefined ? undefined : { failure, isHeld: true }
    } catch (error) {
      return { failure: messageOf(error), isHeld: false }
    }
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
    const isDue = known?.isDue ?? createReminder(repeatMs, { clock })
    try {
      const value = readSecret(source, { env, readFile, mode: fileMode })
      if (known?.failure !== undefined) log.info('secret_recovered', { was: known.failure })
      return { value, readMs: nowMs, isDue }
    } catch (error) {
      if (known === undefined) throw error
      const failure = messageOf(error)
      if (isDue(known.failure !== failure)) log.error('secret_unreadable', { error: failure })
      return { value: known.value, readMs: nowMs, failure, isDue }
    }
  }
}
