// Wiring: configuration → look-ups → gateway → listeners; start, drain, close.
import { createAdmin } from '../admin/admin.ts'
import type { Check, MetricsPage } from '../admin/health.ts'
import { createHealth } from '../admin/health.ts'
import { sentenceOf } from '../base/errors.ts'
import type { Clock } from '../base/time.ts'
import { formatDuration, nextTurn, sleep } from '../base/time.ts'
import type { Problem } from '../config/problems.ts'
import type { Principal } from '../decision/decision.ts'
import type { TlsMaterial } from '../gates/tls.ts'
import type { HttpHandler } from '../io/http-server.ts'
import { startHttpServer } from '../io/http-server.ts'
import { listenAs, splitAddress } from '../io/listen.ts'
import type { WriteChunk } from '../io/log.ts'
import { createLineWriter, createLog } from '../io/log.ts'
import { createKnownTokens } from '../sources/known-tokens.ts'
import { createCertificates, findTlsConflicts } from './certificates.ts'
import type { ConfigurationSource } from './configuration.ts'
import { readConfiguration, shortHash } from './configuration.ts'
import type { DataPlane } from './data-plane.ts'
import { openDataPlane } from './data-plane.ts'
import { shareDescriptors } from './descriptors.ts'
import { createDropAlarm } from './drop-alarm.ts'
import type { Explanation, Question } from './explain/explain.ts'
import { explain } from './explain/explain.ts'
import { registerDataPlane, registerGauges } from './gauges.ts'
import { createGatewayMetrics } from './metrics.ts'
import { createProbes } from './probes.ts'
import { createReloading } from './reloading.ts'
import { createSecrets } from './secrets.ts'
import { connectionBytes, countWorkers, knownBytes } from './shares.ts'
import { createUpstreamHealth } from './upstream/upstream-health.ts'
import type { Workers } from './workers/workers.ts'

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

// A page costs milliseconds in which nobody else is served, and asking costs nothing: however many do, one is made, and the
// next so much later. Waited for, not kept: what has happened before somebody asks is in what he gets.
const scrapeRestMs = 250

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
  const { options } = configuration
  const workerCount = countWorkers(options)
  // Room for what each worker has written while this process was busy.
  const writer = createLineWriter({ maxBufferedBytes: workerCount * 1_048_576 }, { write: powers.write })
  const log = createLog({ stream: 'main' }, { writer, clock })
  const counted = createGatewayMetrics()
  const { metrics } = counted
  const known = createKnownTokens<Principal>(clock.monotonicMs, knownBytes(workerCount, process.constrainedMemory()))
  const secrets = createSecrets(powers, log)
  const shares = shareDescriptors(options, readFile)
  const { maxInFlight } = shares
  const deps = { ...powers, log, counted, known, secret: secrets.secret, maxInFlight }
  const drops = createDropAlarm({ clock, log })
  const { dropped } = drops
  const failed = (error: unknown) => log.error('internal_error', { error: sentenceOf(error) })
  const { side: maxConnections } = shares
  if (shares.shortage !== undefined) log.warn('descriptors_short', shares.shortage)
  let plane: Plane | undefined
  let workers: Workers | undefined
  let draining = false
  let stopping: Promise<void> | undefined
  let scraping: Promise<MetricsPage> | undefined
  let telling = Promise.resolve()
  let scrapedMs = Number.NEGATIVE_INFINITY
  const crowded = { health: 0, admin: 0 }
  const changed = (material: TlsMaterial) => plane?.useTls(material)
  const certificates = options.listen.tls && createCertificates(options.listen.tls, { ...deps, metrics, changed })
  // Before the listeners: the issuers answer meanwhile.
  const reloading = createReloading(source, configuration, {
    ...deps,
    certificates,
    reloaded: () => workers?.reloaded(),
  })
  const { running } = reloading
  const { unreadable } = secrets
  const probes = createProbes({ ...reloading, unreadable, isDraining: () => draining, workers: () => workers })
  const open: { close: () => unknown }[] = certificates === undefined ? [reloading] : [reloading, certificates]
  try {
    plane = await listenAs('listen.proxy', options.listen.proxy, openPlane())
    open.push(plane)
    registerDataPlane(metrics, { running, known, plane, crowded, writer })
    const upstreamHealth = createUpstreamHealth(options.upstream, powers)
    open.push(upstreamHealth)
    const health = createHealth({ ...probes, notes, metrics: scrape, upstream: upstreamHealth.ask })
    const healthPort = await openListener('health', 1024, health)
    const adminPort = await openListener('admin', 65_536, createAdmin({ explain: ask, status: probes.status }))
    const build = { version: powers.version, revision: powers.revision, nodeVersion: process.version }
    registerGauges(metrics, { running, build })
    log.info('started', {
      version: powers.version,
      config_hash: shortHash(configuration.hash),
      proxy_port: plane.port,
      proxy_socket: plane.port === 0 ? options.listen.proxy : undefined,
      health_port: healthPort,
      admin_port: adminPort,
      rules: options.rules.length,
      issuers: options.issuers.length,
      workers: workers === undefined ? undefined : workerCount,
    })
    reloading.watch()
    return {
      kind: 'running',
      ports: { proxy: plane.port, health: healthPort, admin: adminPort },
      reload: reloading.reload,
      drain: () => (stopping ??= drain()),
      close,
      abandon: () => workers?.kill(),
      explain: ask,
      counters: metrics.snapshot,
      isReady: probes.isReady,
    }
  } catch (error) {
    await close()
    throw error
  }

  async function openPlane(): Promise<Plane> {
    const serving = () => running().serving
    const maxClientBytes = connectionBytes(workerCount, process.constrainedMemory())
    if (workerCount === 1)
      return await openDataPlane(options, shares, certificates?.current(), {
        ...deps,
        ...{ writer, failed, dropped, serving, maxClientBytes },
      })
    // Loaded here: a gateway of one process needs nothing of it.
    const { startWorkers } = await import('./workers/workers.ts')
    const material = () => certificates?.current()
    const maxUntaken = shares.untaken(workerCount)
    const workersDeps = { clock, log, writer, failed, dropped, material, metrics, running, maxUntaken }
    workers = await startWorkers(workerCount, workersDeps)
    return workers
  }

  async function openListener(name: 'health' | 'admin', maxBodyBytes: number, handle: HttpHandler): Promise<number> {
    const address = options.listen[name]
    const onCrowded = () => {
      crowded[name] += 1
      // Once: whoever fills it makes thousands, and the metric goes on.
      if (crowded[name] === 1) log.warn('connections_crowded', { listener: name, limit: maxConnections })
    }
    const opening = startHttpServer(
      { ...splitAddress(address), maxBodyBytes, maxConnections },
      { handle, onError: failed, onCrowded },
    )
    const server = await listenAs(`listen.${name}`, address, opening)
    open.push(server)
    return server.port
  }

  /** Whoever asks while a page is made, or has to be waited for, gets that one. */
  async function scrape(): Promise<MetricsPage> {
    scraping ??= makePage().finally(forgetScraping)
    const page = await scraping
    // One after another, with everybody else's turn between them: a thousand at once would take half a second.
    telling = telling.then(nextTurn)
    await telling
    return page
  }

  async function makePage(): Promise<MetricsPage> {
    const restsMs = scrapedMs + scrapeRestMs - clock.monotonicMs()
    if (restsMs > 0) await sleep(restsMs)
    await workers?.gather()
    const { contentType, body } = await metrics.scrape()
    scrapedMs = clock.monotonicMs()
    return { contentType, body: Buffer.from(body) }
  }

  function forgetScraping(): void {
    scraping = undefined
  }

  function notes(): readonly Check[] {
    return [...probes.notes(), ...drops.notes(), ...(certificates?.notes() ?? [])]
  }

  function ask(question: Question): Promise<Explanation> {
    return explain(question, running(), clock, options)
  }

  async function drain(): Promise<void> {
    const { delay, timeout } = options.drain
    draining = true
    // At once: by the time the listener closes, no client with requests under way has a connection it would use again.
    plane?.announceClose()
    log.info('draining', { delay: formatDuration(delay), timeout: formatDuration(timeout) })
    await sleep(delay)
    log.info('stopped', { cut_off: await plane?.drain(timeout) })
    await close()
  }

  async function close(): Promise<void> {
    await Promise.all(open.splice(0).map((each) => each.close()))
    await writer.flush()
  }
}

/** Whoever serves requests, and where. */
type Plane = DataPlane & { readonly port: number }
