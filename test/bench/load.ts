// A closed loop over kept connections: each sends its next request when the answer to the last one is in.
import { connect } from 'node:net'

/** What one run saw. Latencies are milliseconds. */
export type LoadResult = {
  readonly requests: number
  readonly seconds: number
  readonly p50: number
  readonly p99: number
  readonly wrong: number
}

/**
 * Sends requests for a while.
 *
 * @param heads Whole request heads, taken in turn by all connections.
 */
export async function load(
  port: number,
  heads: readonly Buffer[],
  connections: number,
  ms: number,
): Promise<LoadResult> {
  const latencies: number[] = []
  let wrong = 0
  let next = 0
  const startedMs = performance.now()
  const untilMs = startedMs + ms
  await Promise.all(Array.from({ length: connections }, run))
  latencies.sort((a, b) => a - b)
  const at = (share: number) => latencies[Math.floor(latencies.length * share)] ?? 0
  return {
    requests: latencies.length,
    seconds: (performance.now() - startedMs) / 1000,
    p50: at(0.5),
    p99: at(0.99),
    wrong,
  }

  function run(): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1')
      let text = ''
      let sentMs = 0
      socket.setNoDelay(true)
      socket.on('connect', send)
      socket.on('error', reject)
      socket.on('close', () => resolve())
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1')
        const head = text.indexOf('\r\n\r\n')
        if (head === -1) return
        const length = Number(/content-length: (\d+)/i.exec(text.slice(0, head))?.[1] ?? Number.NaN)
        if (!(text.length >= head + 4 + length)) return
        if (!text.startsWith('HTTP/1.1 200 ')) wrong += 1
        text = ''
        const nowMs = performance.now()
        latencies.push(nowMs - sentMs)
        if (nowMs < untilMs) send()
        else socket.end()
      })

      function send(): void {
        sentMs = performance.now()
        socket.write(heads[next % heads.length] ?? '')
        next += 1
      }
    })
  }
}
