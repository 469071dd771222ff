// What runs now, and what takes its place when a file changes. A configuration and the files it names may come one after
// the other, as a ConfigMap and a Secret do: one that is refused is read again when a file changes that it names.
import { codeOf, sentenceOf } from '../base/errors.ts'
import { createReminder } from '../base/reminder.ts'
import type { CrossFinding, Refused } from '../config/load.ts'
import { formatProblemLine } from '../config/problems.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { FileWatch } from '../io/files.ts'
import { watchFiles } from '../io/files.ts'
import type { LocalListOptions } from '../sources/local-list.ts'
import type { Powers } from './app.ts'
import type { Certificates } from './certificates.ts'
import type { Configuration, ConfigurationSource, RunDeps, Running } from './configuration.ts'
import { listHash, readConfiguration, retire, run, shortHash, withListAnew } from './configuration.ts'
import type { RefusedLists } from './local-list-file.ts'
import { lintListValues, lintLocalList } from './local-list-file.ts'
import type { GatewayMetrics } from './metrics.ts'
import { countWorkers } from './shares.ts'

/** What reading a configuration again, and putting it to work, needs. */
export type ReloadingDeps = Pick<Powers, 'env' | 'readFile' | 'fileMode'> &
  RunDeps & {
    readonly counted: Pick<GatewayMetrics, 'reloaded'>
    /** Read anew with the configuration; undefined where there is no TLS. */
    readonly certificates: Pick<Certificates, 'files' | 'reload'> | undefined
    /** Told that another configuration runs, or the same one once more. */
    readonly reloaded: () => void
  }

/** The configuration that runs, and the way to the next one. */
export type Reloading = {
  readonly running: () => Running
  /** Why the configuration in its file is not the one in use; undefined where it is. */
  readonly refusal: () => string | undefined
  /** Sections of the configuration that only a restart brings into force. */
  readonly restart: () => readonly string[]
  /** Reads the configuration anew; what does not load changes nothing but the operator's list, where that alone is good. Never throws. */
  readonly reload: () => 'reloaded' | 'unchanged' | 'refused'
  /** Reloads whenever a file changes that the configuration names, from now on; at once where one has changed since it was read. */
  readonly watch: () => void
  /** Ends what runs. */
  readonly close: () => void
}

// Longer than it takes the watch of files to see what a SIGHUP has just told of; whoever sends two is slower.
const echoMs = 1500

/** Puts the first configuration to work, and asks its issuers at once. */
export function createReloading(source: ConfigurationSource, first: Configuration, deps: ReloadingDeps): Reloading {
  const { clock, readFile, log, counted, certificates, reloaded } = deps
  const refusedLists: RefusedLists = new Map()
  // With workers this process judges no token.
  const inForce = countWorkers(first.options) === 1 ? 'in force' : 'loaded and handed to the workers'
  let running = run(first, undefined, deps)
  let refusal: string | undefined
  /** What was refused for its text alone, without a look at any file that it names. */
  let unfit: { readonly text: string; readonly found: Refused } | undefined
  const isRefusalDue = createReminder(echoMs, { clock })
  let told: string | undefined
  let isReloading = false
  let isDue = false
  let closed = false
  let watching: FileWatch | undefined
  /** The files of one that was refused. */
  let awaiting: FileWatch | undefined
  warnOfList(first.localList)
  return { running: () => running, refusal: () => refusal, restart, reload, watch, close }

  function reload(): 'reloaded' | 'unchanged' | 'refused' {
    if (isReloading) {
      // What is found meanwhile has its turn: taken up within this one, it would be told before it, and forgotten.
      isDue = true
      return 'unchanged'
    }
    isReloading = true
    try {
      return reloadOnce()
    } finally {
      isReloading = false
      if (isDue) setImmediate(() => closed || reload())
      isDue = false
    }
  }

  /** One new object, swapped in one assignment; what does not load changes nothing (product.md §2). */
  function reloadOnce(): 'reloaded' | 'unchanged' | 'refused' {
    certificates?.reload()
    const next = readAnew()
    if (next.kind === 'refused') return refuse(next.problems.map(formatProblemLine))
    const before = running
    const failure = use(next)
    if (failure !== undefined) return refuse([failure])
    const wasRefused = refusal !== undefined
    refusal = undefined
    told = undefined
    if (next.hash === before.configuration.hash && !wasRefused) return 'unchanged'
    counted.reloaded(true)
    if (listHash(next) !== listHash(before.configuration)) warnOfList(next.localList)
    const waiting = restart()
    const said = { rules: next.options.rules.length, needs_restart: waiting.join(' ') }
    // Half of what was asked for is no good news, whatever was loaded.
    log[waiting.length === 0 ? 'info' : 'warn']('config_reloaded', { config_hash: shortHash(next.hash), ...said })
    return 'reloaded'
  }

  /** Puts it to work in place of what runs. Returns why that cannot be, as a sentence. */
  function use(next: Configuration): string | undefined {
    try {
      running = run(next, running, deps)
    } catch (error) {
      return sentenceOf(error)
    }
    // Files that only this one names are watched from now on, not from the next poll.
    watching?.check()
    reloaded()
    return undefined
  }

  function refuse(problems: readonly string[]): 'refused' {
    const list = useListAlone()
    const [first = 'unknown'] = problems
    refusal = list === undefined ? first : `${first}; ${list.said}`
    const in_use = shortHash(running.configuration.hash)
    const all = [...new Set([...problems, ...(list?.problems ?? [])])].slice(0, 20)
    const words = JSON.stringify([refusal, in_use, all])
    counted.reloaded(false)
    const isNew = words !== told
    told = words
    if (!isRefusalDue(isNew)) return 'refused'
    for (const error of all) log.error('config_refused', { error, in_use })
    return 'refused'
  }

  /**
   * The operator's list is what he revokes by in an emergency: nothing else that is wrong may hold that up. It takes
   * nothing away until the rest is good.
   */
  function useListAlone(): { readonly said: string; readonly problems: readonly string[] } | undefined {
    const { configuration } = running
    const found = withListAnew(configuration, { ...deps, refusedLists })
    if (found === undefined) return undefined
    const list = `the list in use, ${configuration.options.blacklist.local?.file}`
    const unchanged = `${list}, stays as it was, too${saidOfLost(configuration.merged?.leftOut ?? 0)}`
    if ('kind' in found) return { said: unchanged, problems: found.problems.map(formatProblemLine) }
    const { configuration: next, kept, leftOut } = found
    const rest = kept === 0 ? '' : `, and so are ${kept} that it had before, until the configuration loads`
    const said = `${list}: its entries are ${inForce}${rest}${saidOfLost(leftOut)}`
    if (next.hash === configuration.hash) {
      // Another file, and the same in force: it is not put together once more.
      running = { ...running, configuration: next }
      return { said, problems: [] }
    }
    const failure = use(next)
    if (failure !== undefined) return { said: unchanged, problems: [failure] }
    const entries = next.localList.entries.slice(0, next.localList.entries.length - kept)
    warnOfList({ version: 1, entries })
    log[leftOut === 0 ? 'info' : 'warn']('local_list_reloaded', {
      config_hash: shortHash(next.hash),
      entries: entries.length,
      kept,
      left_out: leftOut,
    })
    return { said, problems: [] }
  }

  /** Which those were nobody knows any more: some may have been written again since. */
  function saidOfLost(leftOut: number): string {
    if (leftOut === 0) return ''
    return `; for ${leftOut} more that it had before there was no room: they are not in force unless it has them again`
  }

  function warnOfList(list: LocalListOptions): void {
    const { local } = running.configuration.options.blacklist
    const warn = (event: string, { path, message }: CrossFinding) =>
      log.warn(event, { file: local?.file ?? '', at: path.join('.'), warning: message })
    const ahead = lintLocalList(list, clock.wallMs() / 1000)
    if (ahead !== undefined) warn('local_list_ahead', ahead)
    for (const odd of lintListValues(list)) warn('local_list_value', odd)
  }

  /** Where what runs differs from what was started with, whatever came between. */
  function restart(): readonly string[] {
    const names = ['workers', 'listen', 'limits', 'upstream', 'drain'] as const
    const now: GatewayOptions = running.configuration.options
    return names.filter((name) => JSON.stringify(first.options[name]) !== JSON.stringify(now[name]))
  }

  function readAnew(): Configuration | Refused {
    awaiting?.close()
    const named = new Set<string>()
    const found = readNoting(named)
    if (found.kind === 'loaded') return found
    const elsewhere = watchedFiles()
    const paths = [...named].filter((path) => !elsewhere.includes(path))
    if (paths.length === 0) return found
    awaiting = watchFiles(() => paths, { clock, onChange: reload })
    // Once more, now that they are watched: what came in between is no change any more.
    const again = readNoting(named)
    if (again.kind === 'loaded') awaiting.close()
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
    const { env, fileMode } = deps
    const text = readText()
    // A SIGHUP and the watch of files tell of one change, and what is refused may cost the most.
    if (text !== undefined && text === unfit?.text) return unfit.found
    const anew = text === undefined ? source : { ...source, read: () => text }
    const found = readConfiguration(anew, { env, readFile: note(readFile), fileMode: note(fileMode), refusedLists })
    unfit = found.kind === 'refused' && text !== undefined && named.size === 0 ? { text, found } : undefined
    return found
  }

  /** Undefined where it cannot be read: why is told where it is tried. */
  function readText(): string | undefined {
    try {
      return source.read()
    } catch {
      return undefined
    }
  }

  function watch(): void {
    watching = watchFiles(watchedFiles, { clock, onChange })
    // What changed before they were watched: the watch takes it for what was always there.
    const changed = watchedFiles().filter(differs)
    if (changed.length > 0) onChange(changed)
    else certificates?.reload()
  }

  function watchedFiles(): readonly string[] {
    const { options } = running.configuration
    const lists = options.blacklist.local === undefined ? [] : [options.blacklist.local.file]
    const issuerFiles = options.issuers.flatMap(({ jwks, http }) => [jwks.file, http.ca?.file])
    return [source.file, ...lists, ...issuerFiles, ...(certificates?.files ?? [])].filter((file) => file !== undefined)
  }

  function onChange(changed: readonly string[]): void {
    for (const { options, jwks } of running.sources)
      if (options.jwks.file !== undefined && changed.includes(options.jwks.file)) void jwks.refresh()
    reload()
  }

  /** Whether a file holds another content than the configuration has of it; of some it has none. */
  function differs(path: string): boolean {
    const { text, files } = running.configuration
    try {
      return path === source.file ? source.read() !== text : files.get(path)?.equals(readFile(path)) === false
    } catch (error) {
      // The shell's `<(…)` can be read once.
      return codeOf(error) !== 'ERR_NO_REGULAR_FILE'
    }
  }

  function close(): void {
    closed = true
    retire(running)
    watching?.close()
    awaiting?.close()
  }
}
