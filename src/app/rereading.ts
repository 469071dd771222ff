// A configuration and the files it names may come one after the other, as a ConfigMap and a Secret do: one that is
// refused is read again when a file changes that it names.
import type { Refused } from '../config/load.ts'
import type { FileWatch } from '../io/files.ts'
import { watchFiles } from '../io/files.ts'
import type { Powers } from './app.ts'
import type { Configuration, ConfigurationSource } from './configuration.ts'
import { readConfiguration } from './configuration.ts'

/** What reading a configuration again needs. */
export type RereadingDeps = Pick<Powers, 'clock' | 'env' | 'readFile' | 'fileMode'> & {
  /** Files that somebody else watches. */
  readonly watched: () => readonly string[]
  /** Told that a file has changed which the configuration read last names, and that it was refused. */
  readonly onChange: () => void
}

/** The way to what a configuration's file says now. */
export type Rereading = {
  /** Never throws. */
  readonly read: () => Configuration | Refused
  readonly close: () => void
}

/** Reads a configuration as often as asked; watches nothing while the last one was good. */
export function createRereading(source: ConfigurationSource, deps: RereadingDeps): Rereading {
  let awaited: FileWatch | undefined
  return { read, close }

  function read(): Configuration | Refused {
    close()
    const named = new Set<string>()
    const found = readNoting(named)
    if (found.kind === 'loaded') return found
    const elsewhere = deps.watched()
    const paths = [...named].filter((path) => !elsewhere.includes(path))
    if (paths.length === 0) return found
    awaited = watchFiles(() => paths, deps)
    // Once more, now that they are watched: what came in between is no change any more.
    const again = readNoting(named)
    if (again.kind === 'loaded') close()
    return again
  }

  /** Reads it, and notes the files that this wants. */
  function readNoting(named: Set<string>): Configuration | Refused {
    const note = <T>(look: (path: string) => T) => {
      return (path: string) => {
        named.add(path)
        return look(path)
      }
    }
    const { env, readFile, fileMode } = deps
    return readConfiguration(source, { env, readFile: note(readFile), fileMode: note(fileMode) })
  }

  function close(): void {
    awaited?.close()
    awaited = undefined
  }
}
