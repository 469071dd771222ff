// wrk as the load: a closed loop that finds the ceiling, each connection sending its next request when it has its answer.
import { join } from 'node:path'
import { isInstalled, run } from '../processes.ts'

/** What one row sends. */
export type Load = {
  /** The file of requests of a round; 0 is the warm-up. */
  readonly file: (round: number) => string
  readonly connections: number
  /** Sent with each request; absent: a GET without. */
  readonly bodyBytes?: number
  /** Each line is sent once, and the round ends with them. */
  readonly once?: true
}

/** What wrk saw. Latencies are milliseconds. */
export type LoadResult = {
  readonly requests: number
  readonly us: number
  readonly bytes: number
  readonly p50: number
  readonly p99: number
  /** Answers of 400 and above. */
  readonly refused: number
  /** Connections that broke, or took over ten seconds. */
  readonly broken: number
}

/** Whether the load can be made here. */
export const hasWrk = isInstalled('wrk')

const script = join(import.meta.dirname, 'requests.lua')

/** Sends one round. Rejects when wrk says nothing. */
export async function sendRound(
  origin: string,
  { file, connections, bodyBytes = 0, once }: Load,
  round: number,
  options: { readonly seconds: number; readonly cpus: string },
): Promise<LoadResult> {
  const method = bodyBytes > 0 ? 'POST' : 'GET'
  const { seconds, cpus } = options
  const how = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script]
  const what = [file(round), method, String(bodyBytes), once === true ? 'once' : 'cycle']
  const { stdout, stderr } = await run(['wrk', ...how, origin, '--', ...what], {
    cpus,
    timeoutMs: (seconds + 30) * 1000,
  })
  const result = /^RESULT (.*)$/m.exec(stdout)?.[1]
  if (result === undefined) throw new Error(`wrk says nothing: ${stderr.trim().slice(-300)}`)
  return JSON.parse(result) as LoadResult // by our own script
}
