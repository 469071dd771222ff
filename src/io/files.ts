import { createHash } from 'node:crypto'
import type { FSWatcher } from 'node:fs'
import { closeSync, constants, fstatSync, openSync, readSync, realpathSync, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import { codeOf } from '../base/errors.ts'
import type { SecretSource } from '../base/options.ts'
import type { Clock } from '../base/time.ts'

/** What has the name of a file and is none: a pipe, a socket, a disk. */
class NoRegularFile extends Error {
  override readonly name = 'NoRegularFile'
  readonly code = 'ERR_NO_REGULAR_FILE'
}

// Whatever a name leads to, nobody waits for gigabytes of it. The longest file that may be good is a list of 12 MiB; what
// each kind may have is judged where it is read.
const maxFileBytes = 16_777_216

/** What is longer than any file may be, or has no end. */
class FileTooLarge extends Error {
  override readonly name = 'FileTooLarge'
  readonly code = 'ERR_FILE_TOO_LARGE'
}

// What the process was started with: the shell's `<(…)`, or its stdin.
const ownDescriptor = /^\/(?:dev\/(?:stdin|fd\/\d+)|proc\/self\/fd\/\d+)$/

/**
 * Makes the way to files by their names, which waits for nobody: a pipe would stop the process until somebody wrote to it
 * and closed it. Only a descriptor of our own is waited for, and once: there is no more in it later.
 *
 * @returns The bytes of a file. Throws a system error, or one whose code is `ERR_NO_REGULAR_FILE` or, of more than 16 MiB,
 *   `ERR_FILE_TOO_LARGE`.
 */
export function createFileReader(): (path: string) => Buffer {
  const waitedFor = new Set<string>()
  return (path) => {
    if (!ownDescriptor.test(path) || waitedFor.has(path) || statSync(path).isFile()) return readAtOnce(path)
    waitedFor.add(path)
    return readOpened(openSync(path, constants.O_RDONLY), () => 0)
  }
}

function readAtOnce(path: string): Buffer {
  return readOpened(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), (fd) => {
    // Asked of what was opened: a name may lead elsewhere by now.
    const found = fstatSync(fd)
    // A directory says by itself that it is one, and `/dev/null` is an empty file.
    if (!found.isFile() && !found.isDirectory() && !found.isCharacterDevice())
      throw new NoRegularFile('Cannot read a file: its name leads to a pipe or a device, wanted a regular file')
    return found.isFile() ? found.size : 0
  })
}

/** Reads to the end, and closes it; `sizeOf` says how much that should be, 0 where nobody knows. */
function readOpened(fd: number, sizeOf: (fd: number) => number): Buffer {
  try {
    const size = sizeOf(fd)
    const chunks: Buffer[] = []
    for (let total = 0; ; ) {
      if (Math.max(size, total) > maxFileBytes)
        throw new FileTooLarge(`Cannot read a file: it is larger than ${maxFileBytes} bytes`)
      // One byte more than there should be: what has grown meanwhile is not cut off.
      const chunk = Buffer.allocUnsafe(size > total ? size - total + 1 : 65_536)
      const read = readSync(fd, chunk)
      if (read === 0) return Buffer.concat(chunks, total)
      chunks.push(chunk.subarray(0, read))
      total += read
    }
  } finally {
    closeSync(fd)
  }
}

/** Why a file cannot be read, as the rest of a sentence about it. */
export function saidOfUnreadable(cause: unknown): string {
  if (cause instanceof FileTooLarge) return `cannot be read (it is larger than ${maxFileBytes} bytes)`
  const why = cause instanceof NoRegularFile ? 'it is a pipe or a device, no regular file' : codeOf(cause)
  return `cannot be read (${why})`
}

/** What reading a secret needs from outside. */
export type SecretDeps = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The bytes of a file. Throws when it cannot be read. */
  readonly readFile: (path: string) => Buffer
  /** The permission bits of a file, links followed (`statSync(path).mode`). Throws when there is none. */
  readonly mode: (path: string) => number
}

/** A secret that cannot be used. The message names the file or variable and the reason, never the content. */
export class SecretRefused extends Error {
  override readonly name = 'SecretRefused'
  readonly code = 'ERR_SECRET_REFUSED'
  /** The reason alone, for whoever must not tell the name, such as `is not set`. */
  readonly why: string
  constructor(named: string, why: string, options?: ErrorOptions) {
    super(`Cannot read secret: ${named} ${why}`, options)
    this.why = why
  }
}

// 64 KiB: more than any key or password; a secret that long is another file.
const maxSecretBytes = 65_536

/**
 * Reads a secret. One trailing newline is cut, as editors and `echo` leave it.
 *
 * @throws SecretRefused when it is missing, empty, over 64 KiB, not UTF-8, or a file that everybody on the machine may read.
 */
export function readSecret(source: SecretSource, deps: SecretDeps): string {
  if ('env' in source) {
    const named = `environment variable ${source.env}`
    const held = Object.hasOwn(deps.env, source.env) ? deps.env[source.env] : undefined
    if (held === undefined) throw new SecretRefused(named, 'is not set')
    return cut(held, named)
  }
  const named = `file ${source.file}`
  const { mode, bytes } = readGuarded(source.file, deps)
  if ((mode & 0o004) !== 0) {
    const octal = (mode & 0o777).toString(8).padStart(4, '0')
    throw new SecretRefused(named, `has mode ${octal}, wanted one that others cannot read, such as 0440`)
  }
  if (bytes.length > maxSecretBytes)
    throw new SecretRefused(named, `is ${bytes.length} bytes, wanted at most ${maxSecretBytes}`)
  const text = bytes.toString('utf8')
  if (text.includes('\ufffd')) throw new SecretRefused(named, 'is not UTF-8 text')
  return cut(text, named)
}

function readGuarded(file: string, deps: SecretDeps): { mode: number; bytes: Buffer } {
  try {
    return { mode: deps.mode(file), bytes: deps.readFile(file) }
  } catch (cause) {
    throw new SecretRefused(`file ${file}`, saidOfUnreadable(cause), { cause })
  }
}

function cut(text: string, named: string): string {
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '') throw new SecretRefused(named, 'is empty')
  return secret
}

/** What watching files needs from outside. */
export type WatchDeps = {
  readonly clock: Clock
  /** Told the paths, as they were given, whose content is another than last time; a file that vanished is told once. */
  readonly onChange: (changed: readonly string[]) => void
  /** How often contents are compared, whatever the system says. Default 5000. */
  readonly pollMs?: number
}

/** Files under watch, until closed. */
export type FileWatch = {
  /** Compares now instead of at the next poll, as when `paths` has others to tell; tells `onChange` only if something differs. */
  readonly check: () => void
  readonly close: () => void
}

// 100 ms of quiet: an editor's rename-save and a kubelet's swap are several events and one change. At most a second, so
// that a directory that is never quiet does not hide a change.
const quietMs = 100
const patienceMs = 1000

/**
 * Watches the content of files. The directories' events are only a hint; what counts is the SHA-256 of what each path
 * leads to, because a ConfigMap swap is silent for a watched file, and its inode numbers come back re-used. Of what is too
 * large to be read, its size, time and inode do.
 *
 * Start it before the files are first read: a change in between is then seen. It never throws by itself; a file that
 * cannot be read counts as vanished, unless it is for want of descriptors.
 *
 * @param paths Asked at every comparison, so that a reload may change the list. A path that is new is not a change.
 */
export function watchFiles(paths: () => readonly string[], deps: WatchDeps): FileWatch {
  const seen = new Map<string, string | undefined>()
  const directories = new Map<string, { watcher: FSWatcher; inode: number }>()
  let settle: NodeJS.Timeout | undefined
  let unsettledSinceMs: number | undefined
  let closed = false
  compare()
  const poll = setInterval(check, deps.pollMs ?? 5000).unref()
  return { check, close }

  function check(): void {
    if (closed) return
    clearTimeout(settle)
    unsettledSinceMs = undefined
    const changed = compare()
    if (changed.length > 0) deps.onChange(changed)
  }

  function close(): void {
    closed = true
    clearInterval(poll)
    clearTimeout(settle)
    for (const { watcher } of directories.values()) watcher.close()
    directories.clear()
  }

  /** Takes note of every content first and returns the changed paths, so that a throwing listener loses nothing. */
  function compare(): readonly string[] {
    const wanted = [...new Set(paths())]
    const changed: string[] = []
    for (const path of wanted) {
      const hash = hashOf(path)
      if (hash === 'cannot tell') continue
      if (seen.has(path) && seen.get(path) !== hash) changed.push(path)
      seen.set(path, hash)
    }
    for (const path of seen.keys()) if (!wanted.includes(path)) seen.delete(path)
    listen(new Set(wanted.flatMap(directoriesOf)))
    return changed
  }

  function listen(wanted: ReadonlySet<string>): void {
    for (const [directory, held] of directories) {
      if (wanted.has(directory) && inodeOf(directory) === held.inode) continue
      held.watcher.close()
      directories.delete(directory)
    }
    for (const directory of wanted) {
      const inode = inodeOf(directory)
      if (inode === undefined || directories.has(directory)) continue
      try {
        const watcher = watch(directory, { persistent: false }, hint)
        watcher.on('error', () => watcher.close())
        directories.set(directory, { watcher, inode })
      } catch {
        // No watch left (inotify limit), or gone since: the poll sees what the hint would have told.
      }
    }
  }

  function hint(): void {
    if (closed) return
    const nowMs = deps.clock.monotonicMs()
    unsettledSinceMs ??= nowMs
    if (settle !== undefined && nowMs - unsettledSinceMs > patienceMs - quietMs) return
    clearTimeout(settle)
    settle = setTimeout(check, quietMs).unref()
  }
}

/** Undefined for what is no file, or cannot be read. */
function hashOf(path: string): string | undefined {
  try {
    const found = statSync(path)
    // Only a regular file: what a pipe or a device holds is not for us to take.
    if (!found.isFile()) return undefined
    // It can only be refused: that it is another by now is worth knowing, and what it holds is not worth reading.
    if (found.size > maxFileBytes) return `${found.mode} ${found.size} ${found.mtimeMs} ${found.ino}`
    // With its mode: a secret that others could read is looked at again once they cannot.
    return `${found.mode} ${createHash('sha256').update(readAtOnce(path)).digest('hex')}`
  } catch (error) {
    // Of a process without descriptors: the file may be as it was.
    return ['EMFILE', 'ENFILE'].includes(codeOf(error)) ? 'cannot tell' : undefined
  }
}

/** The directory a path names, and the one its links lead to: a swap happens in the first, an edit perhaps in the second. */
function directoriesOf(path: string): readonly string[] {
  try {
    return [dirname(path), dirname(realpathSync(path))]
  } catch {
    return [dirname(path)]
  }
}

function inodeOf(directory: string): number | undefined {
  try {
    return statSync(directory).ino
  } catch {
    return undefined
  }
}
