// The primary's side of `workers:`: processes that serve, started anew when they end (architecture.md §5).
import type { Check } from '../../admin/health.ts'
import { codeOf, unreachable } from '../../base/errors.ts'
import type { Clock } from '../../base/time.ts'
import { formatDuration, sleep } from '../../base/time.ts'
import type { TlsMaterial } from '../../gates/tls.ts'
import { listenAddress } from '../../io/listen.ts'
import type { LineWriter, Log } from '../../io/log.ts'
import type { Metrics } from '../../io/metrics.ts'
import type { MetricsReport } from '../../io/metrics-rows.ts'
import type { Running } from '../configuration.ts'
import { shortHash } from '../configuration.ts'
import type { DataPlane } from '../data-plane.ts'
import type { DropAlarm } from '../drop-alarm.ts'
import { registerWorkers } from '../gauges.ts'
import { createBackOff } from './back-off.ts'
import type { Handover } from './handover.ts'
import { createHandover } from './handover.ts'
import type { Outbox } from './outbox.ts'
import { createOutbox } from './outbox.ts'
import { createPublisher } from './publisher.ts'
import type { Desk } from './reception.ts'
import { openReception } from './reception.ts'
import type { ToPrimary } from './worker-messages.ts'
import type { WorkerEnd, WorkerProcess } from './worker-process.ts'
import { NoWorkerServes, startWorkerProcess } from './worker-process.ts'

/** What workers need of their primary. */
export type WorkersDeps = {
  readonly clock: Clock
  readonly log: Log
  /** Takes what workers log. */
  readonly writer: Pick<LineWriter, 'lines'>
  readonly metrics: Metrics
  readonly failed: (error: unknown) => void
  readonly dropped: DropAlarm['dropped']
  readonly running: () => Running
  /** The certificate of the front door; undefined where there is no TLS. */
  readonly material: () => TlsMaterial | undefined
  /** Connections that no worker has taken yet. */
  readonly maxUntaken: number
}

/** Workers that serve requests, together. */
export type Workers = DataPlane & {
  readonly port: number
  /** Hands the configuration that is in use now to every worker that has another. */
  readonly reloaded: () => void
  /** Has every worker report what it has counted; a worker that does not is not waited for. */
  readonly gather: () => Promise<void>
  readonly checks: () => readonly Check[]
  /** Whether those that serve have the keys and lists of every required issuer. */
  readonly loaded: () => readonly Check[]
  readonly notes: () => readonly Check[]
  readonly status: () => unknown
  readonly close: () => Promise<void>
  /** Ends every worker, also one that does not hear. */
  readonly kill: () => void
}

/** A place for a worker, and who is in it. */
type Slot = Occupant & {
  readonly number: number
  readonly backOff: ReturnType<typeof createBackOff>
  /** Why the last one ended; undefined while one serves. */
  problem: string | undefined
  cutOff: number
  timer: NodeJS.Timeout | undefined
}

type Occupant = {
  process: WorkerProcess | undefined
  outbox: Outbox
  desk: Desk | undefined
  /** There once it listens to what it is told; what was sent before is lost. */
  handover: Handover | undefined
  /** What it runs; undefined until it serves. */
  hash: string | undefined
  servesSinceMs: number | undefined
  isLoaded: boolean
  connections: number
  report: MetricsReport
  reporting: Map<number, () => void>
  /** Seconds since it last said anything: it is asked every second. */
  unanswered: number
}

const pingMs = 1000
// Seconds. It is a worker whose event loop stands still: no load does that, and nobody else would notice.
const maxUnanswered = 10
// One that is starting may have to wait for a processor, and serves nobody meanwhile.
const maxUnansweredAtStart = 30
// Then it is handed no more connections, if another answers.
const maxSilent = 2
// A scrape does not wait longer for a worker; what that last said is told then.
const gatherMs = 250
// For the last words of a worker that has drained.
const farewellMs = 1000
const pollMs = 10

/** Opens the door and starts workers. Rejects when the address cannot be listened on, or none of them comes to serve. */
export async function startWorkers(count: number, deps: WorkersDeps): Promise<Workers> {
  const { clock, log, metrics, failed, running } = deps
  const { options, text: startedText } = running().configuration
  const address = listenAddress(options.listen.proxy)
  const reception = await openReception({ address, maxUntaken: deps.maxUntaken }, deps)
  const publisher = createPublisher()
  const restarted = registerWorkers(metrics, () => serving().length)
  followRunning()
  let asked = 0
  let announcesClose = false
  let isStopping = false
  const slots = Array.from({ length: count }, (_, at): Slot => {
    const backOff = createBackOff({ clock })
    return { ...vacant(), number: at + 1, backOff, problem: undefined, cutOff: 0, timer: undefined }
  })
  metrics.include(() => slots.map(({ report }) => report))
  const pings = setInterval(ping, pingMs).unref()
  const firsts = slots.map(start)
  await Promise.all(firsts)
  if (serving().length === 0) {
    await close()
    throw new NoWorkerServes(`Cannot start: no worker serves (${slots[0]?.problem ?? 'they ended as they started'})`)
  }
  return {
    port: reception.port,
    inFlight: () => 0,
    connections: () => 0,
    dropped: reception.dropped,
    useTls(material) {
      for (const slot of slots) sendTls(slot, material)
    },
    announceClose() {
      announcesClose = true
      for (const { outbox } of serving()) outbox.send({ kind: 'announce_close' })
    },
    drain,
    close,
    kill,
    reloaded() {
      followRunning()
      for (const { handover } of slots) handover?.reloaded()
    },
    gather,
    checks() {
      const serve = serving().length
      return [{ name: 'workers', ok: serve > 0, said: `${serve} of ${count} serve` }]
    },
    loaded() {
      const serve = serving()
      const { hash: wanted } = running().configuration
      const all = serve.filter(({ isLoaded, hash }) => isLoaded && hash === wanted).length
      const said = `${all} of ${serve.length} have what they need`
      return [{ name: 'keys and lists of workers', ok: all > 0 && all === serve.length, said }]
    },
    notes: () =>
      slots.flatMap(({ number, problem }) =>
        problem === undefined ? [] : [{ name: `worker ${number}`, ok: false, said: problem }],
      ),
    status: () =>
      slots.map(({ number, process, hash, problem, connections }) => ({
        worker: number,
        pid: process?.pid ?? null,
        serves: hash !== undefined,
        config_hash: hash ?? null,
        problem: problem ?? null,
        connections,
      })),
  }

  function followRunning(): void {
    const { sources, configuration } = running()
    publisher.follow(sources, configuration.options.blacklist)
  }

  function serving(): readonly Slot[] {
    return slots.filter(({ hash }) => hash !== undefined)
  }

  /** Starts a worker; resolves when it serves, or has ended. */
  function start(slot: Slot): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    try {
      startProcess(slot, resolve)
    } catch (error) {
      failed(error)
      ended(slot, { code: null, signal: null, error: codeOf(error) })
      resolve()
    }
    return promise
  }

  function startProcess(slot: Slot, resolve: () => void): void {
    const worker = startWorkerProcess({
      lines: deps.writer.lines,
      message(message) {
        slot.unanswered = 0
        heard(slot, worker, message)
        if (slot.hash !== undefined) resolve()
      },
      unusable(why) {
        log.error('worker_unusable', { worker: slot.number, why })
        worker.kill()
      },
      ended(how) {
        ended(slot, how)
        resolve()
      },
    })
    slot.process = worker
    slot.unanswered = 0
    slot.outbox = createOutbox(worker.post, failed)
  }

  function heard(slot: Slot, worker: WorkerProcess, message: ToPrimary): void {
    switch (message.kind) {
      case 'hello':
        sendTls(slot, deps.material())
        publisher.connect(slot.outbox)
        slot.handover = handOver(slot)
        slot.handover.reloaded()
        break
      case 'took':
        slot.outbox.took()
        break
      case 'configured':
        configured(slot, worker, message.hash)
        break
      case 'loaded':
        slot.isLoaded = true
        break
      case 'failed':
        slot.problem = message.problem
        log.error('worker_failed', { worker: slot.number, error: message.problem })
        break
      case 'connections':
        slot.connections = message.open
        if (slot.desk !== undefined) reception.told(slot.desk, message)
        break
      case 'look_for_key':
        publisher.look(slot.outbox, message).catch(failed)
        break
      case 'report':
        slot.report = message.metrics
        slot.reporting.get(message.ask)?.()
        slot.reporting.delete(message.ask)
        break
      case 'drained':
        slot.cutOff = message.cutOff
        break
      default:
        unreachable(message)
    }
  }

  function sendTls(slot: Slot, material: TlsMaterial | undefined): void {
    if (material !== undefined) slot.outbox.send({ kind: 'tls', ...material, clientCa: material.clientCa ?? null })
  }

  function handOver({ number: worker, outbox }: Slot): Handover {
    const inUse = () => running().configuration
    return createHandover({ worker, startedText }, { outbox, inUse, publisher })
  }

  function configured(slot: Slot, worker: WorkerProcess, hash: string): void {
    const isFirst = slot.hash === undefined
    slot.hash = hash
    slot.isLoaded = false
    slot.problem = undefined
    slot.handover?.configured()
    if (!isFirst || isStopping) return
    slot.servesSinceMs = clock.monotonicMs()
    slot.desk = {
      hand: (socket, number) => worker.post({ kind: 'connection', number }, socket),
      ask: (through) => worker.post({ kind: 'handed', through }),
      answers: () => slot.unanswered <= maxSilent,
    }
    if (announcesClose) slot.outbox.send({ kind: 'announce_close' })
    reception.open(slot.desk)
    log.info('worker_started', { worker: slot.number, pid: worker.pid, config_hash: shortHash(hash) })
  }

  function ended(slot: Slot, how: WorkerEnd): void {
    slot.outbox.close()
    publisher.disconnect(slot.outbox)
    if (slot.desk !== undefined) reception.leave(slot.desk)
    metrics.absorb(slot.report)
    for (const done of slot.reporting.values()) done()
    const { servesSinceMs } = slot
    const pid = slot.process?.pid
    Object.assign(slot, vacant())
    slot.problem ??= how.error === undefined ? 'it ended' : `no process could be made (${how.error})`
    if (isStopping) return
    const delayMs = slot.backOff.nextMs(servesSinceMs)
    log.error('worker_exited', { worker: slot.number, pid, ...how, restart_in: formatDuration(delayMs) })
    slot.timer = setTimeout(() => {
      restarted()
      void start(slot)
    }, delayMs).unref()
  }

  function ping(): void {
    reception.turn()
    for (const slot of slots) {
      if (slot.process === undefined) continue
      slot.unanswered += 1
      // Counted in our own turns: a primary that was stopped itself does not take its workers for stuck.
      if (slot.unanswered > (slot.hash === undefined ? maxUnansweredAtStart : maxUnanswered)) {
        log.error('worker_stuck', { worker: slot.number, pid: slot.process.pid })
        slot.process.kill()
      } else if (slot.hash !== undefined) slot.outbox.send({ kind: 'report', ask: nextAsk() })
    }
  }

  function nextAsk(): number {
    asked += 1
    return asked
  }

  async function gather(): Promise<void> {
    const all = serving().map((slot) => {
      const ask = nextAsk()
      const { promise, resolve } = Promise.withResolvers<void>()
      slot.reporting.set(ask, resolve)
      slot.outbox.send({ kind: 'report', ask })
      return promise
    })
    await Promise.race([Promise.all(all), sleep(gatherMs)])
    for (const slot of slots) slot.reporting.clear()
  }

  async function drain(timeoutMs: number): Promise<number> {
    stop()
    await reception.drain()
    for (const slot of slots) {
      if (slot.hash === undefined) slot.process?.kill()
      else slot.outbox.send({ kind: 'drain', timeoutMs })
    }
    await untilGone(timeoutMs + farewellMs)
    return slots.reduce((sum, { cutOff }) => sum + cutOff, 0)
  }

  async function close(): Promise<void> {
    stop()
    reception.close()
    kill()
    await untilGone(farewellMs)
  }

  function kill(): void {
    for (const slot of slots) slot.process?.kill()
  }

  function stop(): void {
    isStopping = true
    for (const { timer } of slots) clearTimeout(timer)
    clearInterval(pings)
  }

  /** Waits for the workers to end, at most so long. */
  async function untilGone(ms: number): Promise<void> {
    const byMs = clock.monotonicMs() + ms
    while (slots.some(({ process }) => process !== undefined) && clock.monotonicMs() < byMs) await sleep(pollMs)
  }
}

function vacant(): Occupant {
  return {
    process: undefined,
    outbox: createOutbox(
      () => {},
      () => {},
    ),
    desk: undefined,
    handover: undefined,
    hash: undefined,
    servesSinceMs: undefined,
    isLoaded: false,
    connections: 0,
    report: [],
    reporting: new Map(),
    unanswered: 0,
  }
}
