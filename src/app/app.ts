// Wiring: configuration → look-ups → gateway → listeners; start, reload, drain, close.
import { createAdmin } from '../admin/admin.ts'
import type { Check } from '../admin/health.ts'
import { createHealth } from '../admin/health.ts'
import { codeOf, sentenceOf } from '../base/errors.ts'
import type { Clock } from '../base/time.ts'
import { formatDuration } from '../base/time.ts'
import type { Problem } from '../config/problems.ts'
import type { GatewayOptions } from '../config/schema.ts'
import type { Principal } from '../decision/decision.ts'
import { watchFiles } from '../io/files.ts'
import { startHttpServer } from '../io/http-server.ts'
import { listenAs, splitAddress } from '../io/listen.ts'
import type { WriteChunk } from '../io/log.ts'
import { createLineWriter, createLog } from '../io/log.ts'
import { createKnownTokens } from '../sources/known-tokens.ts'
import { createCertificates, findTlsConflicts } from './certificates.ts'
import type { Configuration, ConfigurationSource } from './configuration.ts'
import { readConfiguration, retire, run } from './configuration.ts'
import type { DataPlane } from './data-plane.ts'
import { openDataPlane, sleep } from './data-plane.ts'
import { findDescriptorShortage } from './descriptors.ts'
import type { Explanation, Question } from './explain.ts'
import { explain } from './explain.ts'
import { createGatewayMetrics } from './metrics.ts'
import { createProbes, registerDataPlane, registerGauges } from './probes.ts'
import { createRereading } from './rereading.ts'
import { createSecrets } from './secrets.ts'
import { shortHash } from './short-hash.ts'
import { createUpstreamHealth } from './upstream-health.ts'
import type { Workers } from './workers.ts'

// Of the health and of the admin listener: they must not take the descriptors that the front door lives of.
const maxConnections = 256

/** What the process gives. Nothing below reads a clock, a file, the environment or a random number by itself. */
export type Powers = {
  readonly clock: Clock
  readonly random: () => number
  readonly randomBytes: (count: number) => Buffer
  readonly env: Readonly<Record<string, string | undefined>>
  readonly readFile: (path: string) => Buffer
  readonly fileMode: (path: string) => number
  /** Where log lines go. */
  readonly write: WriteChunk
  readonly version: string
  /** The commit this was built from; empty where nobody said. */
  readonly revision: string
}

/** A gateway that serves, until stopped. */
export type App = {
  readonly kind: 'running'
  readonly ports: { readonly proxy: number; readonly health: number; readonly admin: number }
  /** Reads the configuration anew; what does not load leaves the old one running. */
  readonly reload: () => 'reloaded' | 'unchanged' | 'refused'
  /** Stops as product.md §5 says: unready, keep serving, finish, close. */
  readonly drain: () => Promise<void>
  /** Ends at once. */
  readonly close: () => Promise<void>
  /** Ends its workers without waiting for anything: the process is about to end itself. */
  readonly abandon: () => void
  readonly explain: (question: Question) => Promise<Explanation>
  /** Counters and gauges as they are. */
  readonly counters: () => ReadonlyMap<string, number>
  readonly isReady: () => boolean
}

/** Starts the gateway, or says what is wrong with its configuration. Rejects when an address cannot be listened on. */
export async function startApp(
  source: ConfigurationSource,
  powers: Powers,
): Promise<App | { readonly kind: 'refused'; readonly problems: readonly Problem[] }> {
  const { clock, env, readFile, fileMode } = powers
  const configuration = readConfiguration(source, { env, readFile, fileMode }, (options) =>
    // At the start only: later ones are judged apart, so that a broken one holds nothing else up.
    findTlsConflicts(options, readFile),
  )
  if (configuration.kind === 'refused') return configuration
  const { listen, upstream: upstreamOptions, drain: drainOptions } = configuration.options
  const workerCount = countWorkers(configuration.options)
  // Room for what each worker has written while this process was busy.
  const writer = createLineWriter({ maxBufferedBytes: workerCount * 1_048_576 }, { write: powers.write })
  const log = createLog({ stream: 'main' }, { writer, clock })
  const counted = createGatewayMetrics()
  const known = createKnownTokens<Principal>(clock.monotonicMs)
  const deps = { ...powers, log, counted, known, secret: createSecrets(powers, log) }
  const failed = (error: unknown) => log.error('internal_error', { error: sentenceOf(error) })
  const shortage = findDescriptorShortage(configuration.options, readFile)
  if (shortage !== undefined) log.warn('descriptors_short', shortage)
  let served: DataPlane | undefined
  const certificates =
    listen.tls &&
    createCertificates(listen.tls, {
      ...deps,
      metrics: counted.metrics,
      changed: (material) => served?.useTls(material),
    })
  let running = run(configuration, undefined, deps)
  let refusal: string | undefined
  let draining = false
  let stopping: Promise<void> | undefined
  let workers: Workers | undefined

  const { options: atStart } = configuration
  const probes = createProbes({
    running: () => running,
    isDraining: () => draining,
    refusal: () => refusal,
    restart: () => needsRestart(atStart, running.configuration.options),
    workers: () => workers,
  })
  const rereading = createRereading(source, { ...powers, watched: watchedFiles, onChange: reload })
  const open: { close: () => unknown }[] = [rereading]
  // Before the listeners: the issuers answer meanwhile.
  for (const each of running.sources) each.start()
  try {
    const planeDeps = { ...powers, log, counted, writer, failed, serving: () => running.serving }
    const opening =
      workerCount === 1
        ? openDataPlane(configuration.options, certificates?.current(), planeDeps)
        : startWorkers(workerCount)
    const plane = await listenAs('listen.proxy', listen.proxy, opening)
    served = plane
    open.push(plane)
    registerDataPlane(counted.metrics, { running: () => running, known, plane, writer })
    const upstreamHealth = createUpstreamHealth(upstreamOptions, powers)
    open.push(upstreamHealth)
    const handleHealth = createHealth({ ...probes, notes, metrics: scrape, upstream: upstreamHealth.ask })
    const healthOpening = startHttpServer(
      { ...splitAddress(listen.health), maxBodyBytes: 1024, maxConnections },
      { handle: handleHealth, onError: failed },
    )
    const health = await listenAs('listen.health', listen.health, healthOpening)
    open.push(health)
    const handleAdmin = createAdmin({ explain: ask, status: probes.status })
    const adminOpening = startHttpServer(
      { ...splitAddress(listen.admin), maxBodyBytes: 65_536, maxConnections },
      { handle: handleAdmin, onError: failed },
    )
    const admin = await listenAs('listen.admin', listen.admin, adminOpening)
    open.push(admin)
    const build = { version: powers.version, revision: powers.revision, nodeVersion: process.version }
    registerGauges(counted.metrics, { running: () => running, build })
    open.push(watchFiles(watchedFiles, { clock, onChange }))
    const { rules, issuers } = configuration.options
    log.info('started', {
      version: powers.version,
      config_hash: shortHash(configuration.hash),
      proxy_port: plane.port,
      proxy_socket: plane.port === 0 ? listen.proxy : undefined,
      health_port: health.port,
      admin_port: admin.port,
      rules: rules.length,
      issuers: issuers.length,
      workers: workers === undefined ? undefined : workerCount,
    })
    // What changed before they were watched: the watch takes it for what was always there.
    const changed = findChanged(watchedFiles(), source, configuration, readFile)
    if (changed.length > 0) onChange(changed)
    else certificates?.reload()
    return {
      kind: 'running',
      ports: { proxy: plane.port, health: health.port, admin: admin.port },
      reload,
      drain: () => (stopping ??= drain(plane)),
      close,
      abandon: () => workers?.kill(),
      explain: ask,
      counters: counted.metrics.snapshot,
      isReady: probes.isReady,
    }
  } catch (error) {
    await close()
    throw error
  }

  /** Loaded here: a gateway of one process needs nothing of it. */
  async function startWorkers(count: number): Promise<Workers> {
    const { startWorkers } = await import('./workers.ts')
    const material = () => certificates?.current()
    workers = await startWorkers(count, {
      ...{ clock, log, writer, failed, material },
      metrics: counted.metrics,
      running: () => running,
    })
    return workers
  }

  async function scrape(): ReturnType<typeof counted.metrics.scrape> {
    await workers?.gather()
    return await counted.metrics.scrape()
  }

  function notes(): readonly Check[] {
    return [...probes.notes(), ...(certificates?.notes() ?? [])]
  }

  function ask(question: Question): Promise<Explanation> {
    return explain(question, running, clock, atStart.limits.target)
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

  /** One new object, swapped in one assignment; what does not load changes nothing (product.md §2). */
  function reload(): 'reloaded' | 'unchanged' | 'refused' {
    certificates?.reload()
    const next = rereading.read()
    if (next.kind === 'refused')
      return refuse(next.problems.map((each) => `${each.file}:${each.line}:${each.column}: ${each.message}`))
    const before = running
    try {
      running = run(next, before, deps)
    } catch (error) {
      return refuse([sentenceOf(error)])
    }
    for (const each of running.sources) each.start()
    retire(before, running)
    workers?.reloaded()
    const wasRefused = refusal !== undefined
    refusal = undefined
    if (next.hash === before.configuration.hash && !wasRefused) return 'unchanged'
    counted.reloaded(true)
    const waiting = needsRestart(atStart, next.options)
    const said = { rules: next.options.rules.length, needs_restart: waiting.join(' ') }
    // Half of what was asked for is no good news, whatever was loaded.
    log[waiting.length === 0 ? 'info' : 'warn']('config_reloaded', { config_hash: shortHash(next.hash), ...said })
    return 'reloaded'
  }

  function refuse(problems: readonly string[]): 'refused' {
    const [first = 'unknown'] = problems
    refusal = first
    counted.reloaded(false)
    for (const each of problems.slice(0, 20))
      log.error('config_refused', { error: each, in_use: shortHash(running.configuration.hash) })
    return 'refused'
  }

  async function drain(plane: DataPlane): Promise<void> {
    draining = true
    // At once: by the time the listener closes, no client with requests under way has a connection it would use again.
    plane.announceClose()
    log.info('draining', { delay: formatDuration(drainOptions.delay), timeout: formatDuration(drainOptions.timeout) })
    await sleep(drainOptions.delay)
    log.info('stopped', { cut_off: await plane.drain(drainOptions.timeout) })
    await close()
  }

  async function close(): Promise<void> {
    retire(running)
    await Promise.all(open.splice(0).map((each) => each.close()))
    await writer.flush()
  }
}

function countWorkers({ workers }: GatewayOptions): number {
  // Of the CPUs, and the share of them, that this process was given.
  return workers === 'auto' ? process.getBuiltinModule('node:os').availableParallelism() : workers
}

/** Those of some files that hold another content than the configuration has of them; of some it has none. */
function findChanged(
  paths: readonly string[],
  source: ConfigurationSource,
  { text, files }: Configuration,
  readFile: Powers['readFile'],
): readonly string[] {
  return paths.filter((path) => {
    try {
      return path === source.file ? source.read() !== text : files.get(path)?.equals(readFile(path)) === false
    } catch (error) {
      // The shell's `<(…)` can be read once.
      return codeOf(error) !== 'ERR_NO_REGULAR_FILE'
    }
  })
}

/** What of a configuration is not in force before a restart: where it differs from that of the start, whatever came between. */
function needsRestart(atStart: GatewayOptions, now: GatewayOptions): readonly string[] {
  const names = ['workers', 'listen', 'limits', 'upstream', 'drain'] as const
  return names.filter((name) => JSON.stringify(atStart[name]) !== JSON.stringify(now[name]))
}
