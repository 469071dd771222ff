// A worker: serves requests with the configuration, keys and lists that its primary sends (architecture.md §5). A worker
// that hears nothing more lets what it was sent grow old, and answers 503 then; one whose primary is gone is ended by
// node:cluster, as its pipe closes.
import cluster from 'node:cluster'
import { Socket } from 'node:net'
import { messageOf, sentenceOf } from '../../base/errors.ts'
import { formatProblemLine } from '../../config/problems.ts'
import type { Principal } from '../../decision/decision.ts'
import type { TlsMaterial } from '../../gates/tls.ts'
import { createLineWriter, createLog } from '../../io/log.ts'
import { createKnownTokens } from '../../sources/known-tokens.ts'
import type { Powers } from '../app.ts'
import type { Configuration, Running } from '../configuration.ts'
import { readConfiguration, run, shortHash } from '../configuration.ts'
import { createDataPlane } from '../data-plane.ts'
import { shareDescriptors } from '../descriptors.ts'
import { createDropAlarm } from '../drop-alarm.ts'
import { registerDataPlane } from '../gauges.ts'
import { createGatewayMetrics } from '../metrics.ts'
import { hasLoaded } from '../probes.ts'
import { createSecrets } from '../secrets.ts'
import { connectionBytes, countWorkers, knownBytes } from '../shares.ts'
import { createReplicaStore } from './replicas.ts'
import type { ToPrimary, ToWorker } from './worker-messages.ts'
import { parseToWorker } from './worker-messages.ts'

type Configure = Extract<ToWorker, { readonly kind: 'configure' }>

// Closed connections are told of together, soon enough for the next ones to be shared fairly.
const closedMs = 20

/**
 * Runs a worker until its primary has it drain.
 *
 * @param started Told once, when it serves.
 * @returns The exit code; undefined where no primary has started this process.
 */
export async function runWorker(powers: Powers, started: () => void): Promise<number | undefined> {
  const self = cluster.worker
  if (self === undefined) return undefined
  const { clock, env } = powers
  const writer = createLineWriter({}, { write: powers.write })
  const counted = createGatewayMetrics()
  const store = createReplicaStore({ clock, send: post })
  const { promise: ended, resolve: end } = Promise.withResolvers<number>()
  let serving: ReturnType<typeof serve> | undefined
  let material: TlsMaterial | undefined
  let through = 0
  let lost: number[] = []
  let closedTimer: NodeJS.Timeout | undefined
  let isLoaded = false
  self.on('message', (received: unknown, handle: unknown) => {
    const message = parseToWorker(received)
    if (message === undefined) throw new TypeError('Cannot read what the primary says: it is no message of ours')
    receive(message, handle)
  })
  post({ kind: 'hello' })
  const code = await ended
  await writer.flush()
  return code

  function post(message: ToPrimary, sent: () => void = () => {}): void {
    if (self?.isConnected() === true) self.process.send?.(message, sent)
  }

  function receive(message: ToWorker, handle: unknown): void {
    switch (message.kind) {
      case 'configure':
        configure(message)
        break
      case 'tls':
        material = { cert: message.cert, key: message.key, clientCa: message.clientCa ?? undefined }
        serving?.plane.useTls(material)
        break
      case 'connection':
        reach(message.number - 1)
        through = message.number
        take(handle)
        break
      case 'handed':
        reach(message.through)
        tellConnections()
        break
      case 'report':
        post({ kind: 'report', ask: message.ask, metrics: counted.metrics.report() })
        break
      case 'announce_close':
        serving?.plane.announceClose()
        break
      case 'drain':
        void drain(message.timeoutMs)
        break
      default:
        store.receive(message)
        if (message.kind === 'list_slice') post({ kind: 'took' })
        tellLoaded()
    }
  }

  /** The primary says that it is ready only when we are, too. */
  function tellLoaded(): void {
    if (isLoaded || serving === undefined || !serving.sources().every(hasLoaded)) return
    isLoaded = true
    post({ kind: 'loaded' })
  }

  /** Either this worker runs what the primary runs, or it ends: an old configuration would let in what the new one refuses. */
  function configure(message: Configure): void {
    const { hash, file, text } = message
    const files = new Map(message.files.map((each) => [each.file, Buffer.from(each.base64, 'base64')]))
    // Its secrets were tried by the primary. Whether they can be read at this moment is no matter here.
    const next = readConfiguration({ file, read: () => text }, { env, readNamed: (path) => readHanded(path, files) })
    try {
      if (next.kind === 'refused') throw new Error(next.problems.map(formatProblemLine).join('; '))
      if (next.hash !== hash) throw new Error('Cannot use configuration: it is not the one the primary means')
      if (serving === undefined) serving = serve(next, message)
      else serving.reload(next)
    } catch (error) {
      const problem = messageOf(error).slice(0, 8192)
      post({ kind: 'failed', problem }, () => end(1))
      return
    }
    store.keepOnly(serving.sources())
    isLoaded = false
    post({ kind: 'configured', hash })
    tellLoaded()
  }

  /** Puts the first configuration to work. */
  function serve(configuration: Configuration, { worker, startedText, file }: Configure) {
    const log = createLog({ stream: `worker-${worker}` }, { writer, clock })
    const failed = (error: unknown) => log.error('internal_error', { error: sentenceOf(error) })
    // What needs a restart is as it was when the gateway started, or a worker that comes later would differ from the rest.
    // Without its secrets: those of then may be gone, and none of them is needed.
    const first = readConfiguration({ file, read: () => startedText }, { env })
    if (first.kind === 'refused') throw new Error('Cannot use configuration: what the gateway started with is refused')
    const workerCount = countWorkers(first.options)
    const keepBytes = knownBytes(workerCount, process.constrainedMemory())
    const maxClientBytes = connectionBytes(workerCount, process.constrainedMemory())
    const known = createKnownTokens<Principal>(clock.monotonicMs, keepBytes)
    const shares = shareDescriptors(first.options, powers.readFile)
    const { maxInFlight } = shares
    const deps = {
      ...powers,
      log,
      counted,
      known,
      ...createSecrets(powers, log),
      replicas: store.replicas,
      maxInFlight,
    }
    let running: Running = run(configuration, undefined, deps)
    const { dropped } = createDropAlarm({ clock, log })
    const planeDeps = {
      ...powers,
      log,
      counted,
      writer,
      failed,
      dropped,
      maxClientBytes,
      serving: () => running.serving,
    }
    const plane = createDataPlane(first.options, shares, material, planeDeps)
    registerDataPlane(counted.metrics, { running: () => running, known, plane, writer })
    started()
    return { plane, reload, sources: () => running.sources }

    function reload(next: Configuration): void {
      const before = running
      running = run(next, before, deps)
      if (next.hash !== before.configuration.hash)
        log.info('config_reloaded', { config_hash: shortHash(next.hash), rules: next.options.rules.length })
    }
  }

  function take(handle: unknown): void {
    // None where the connection was gone before it could be handed over.
    if (handle instanceof Socket) {
      // The door was opened with it, and a handle does not say so.
      handle.allowHalfOpen = true
      if (serving === undefined) handle.destroy()
      else serving.plane.take(handle, tellSoon)
    }
    tellConnections()
  }

  function tellSoon(): void {
    closedTimer ??= setTimeout(tellConnections, closedMs)
  }

  function tellConnections(): void {
    clearTimeout(closedTimer)
    closedTimer = undefined
    post({ kind: 'connections', through, lost, open: serving?.plane.connections() ?? 0 })
    lost = []
  }

  /** Connections up to there were handed over, in this order: those that have not come are lost. */
  function reach(number: number): void {
    for (; through < number; through += 1) lost.push(through + 1)
  }

  async function drain(timeoutMs: number): Promise<void> {
    const cutOff = (await serving?.plane.drain(timeoutMs)) ?? 0
    post({ kind: 'report', ask: 0, metrics: counted.metrics.report() })
    serving?.plane.close()
    post({ kind: 'drained', cutOff }, () => end(0))
  }
}

function readHanded(path: string, files: ReadonlyMap<string, Buffer>): Buffer {
  const bytes = files.get(path)
  if (bytes === undefined) throw new TypeError('Cannot read a file: the primary has not handed it over')
  return bytes
}
