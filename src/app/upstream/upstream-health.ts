// What /upstreamz answers: the upstream's own word for how it is, asked for the way requests go, beside them.
import type { Clock } from '../../base/time.ts'
import type { UpstreamOptions } from '../../gates/options.ts'
import { createDeadlines } from '../../http1/deadlines.ts'
import type { AnswerEvents, AnswerHead, UpstreamExchange } from '../../http1/exchange.ts'
import type { HttpAnswer } from '../../io/http-server.ts'
import { problem } from '../../io/http-server.ts'
import { silentLog } from '../../io/log.ts'
import { resolveName } from './addresses.ts'
import { authorityOf, createUpstream, placesOf } from './upstream.ts'

/** What asking needs from the process. */
export type UpstreamHealthDeps = {
  readonly clock: Clock
  readonly readFile: (path: string) => Buffer
}

/** Asks the upstream on the one configured path. */
export type UpstreamHealth = {
  /** Any answer is relayed, none is 503; who asks meanwhile gets the same. Undefined where no path is configured. */
  readonly ask: () => Promise<HttpAnswer> | undefined
  readonly close: () => void
}

const deadlineMs = 2000
const maxBodyBytes = 65_536

/** Makes what asks; it has a connection of its own, so that a probe waits for no request. */
export function createUpstreamHealth(
  options: UpstreamOptions,
  { clock, readFile }: UpstreamHealthDeps,
): UpstreamHealth {
  const { health_path: path } = options
  if (path === undefined) return { ask: () => undefined, close() {} }
  const deadlines = createDeadlines(clock)
  const own = { ...options, max_connections: 1 }
  // What happens to the upstream is logged by the way that requests go; what is found here, the answer tells.
  const upstream = createUpstream(own, { clock, deadlines, readFile, log: silentLog, resolve: resolveName })
  const authority = authorityOf(placesOf(options)[0] ?? '')
  let asking: Promise<HttpAnswer> | undefined
  return {
    // One after another, a thousand who ask would keep the probe from its answer, and the service would be restarted.
    ask: () => (asking ??= ask(path).finally(forgetAsking)),
    close: () => upstream.close(),
  }

  function forgetAsking(): void {
    asking = undefined
  }

  function ask(target: string): Promise<HttpAnswer> {
    const { promise, resolve } = Promise.withResolvers<HttpAnswer>()
    let exchange: UpstreamExchange | undefined
    let head: AnswerHead | undefined
    let length = 0
    const parts: Buffer[] = []
    const timer = setTimeout(() => giveUp(`no whole answer within ${deadlineMs} ms`), deadlineMs)
    const events: AnswerEvents = {
      opened(opened) {
        exchange = opened
      },
      head(found) {
        head = found
      },
      data(chunk) {
        length += chunk.length
        // Lent: what is kept is copied.
        if (length > maxBodyBytes) giveUp(`the body is over ${maxBodyBytes} bytes`)
        else parts.push(Buffer.from(chunk))
      },
      end() {
        const headers = { 'content-type': typeOf(head?.lines ?? []) }
        answer({ status: head?.status ?? 503, headers, body: Buffer.concat(parts) })
      },
      failed: (kind) => answer(problem(503, `The upstream gave no answer: ${kind}`)),
      switched: () => giveUp('it switched protocols'),
      flush() {},
      drained() {},
    }
    upstream.open(
      {
        ...{ method: 'GET', target, authority, lines: [], framing: 'none', upgrade: undefined, repeatable: true },
        own: { lines: ['Host', authority], text: `Host: ${authority}\r\n` },
      },
      events,
    )
    return promise

    function giveUp(why: string): void {
      exchange?.abort()
      upstream.cancel(events)
      answer(problem(503, `The upstream gave no answer: ${why}`))
    }

    function answer(given: HttpAnswer): void {
      clearTimeout(timer)
      resolve(given)
    }
  }
}

function typeOf(lines: readonly string[]): string {
  const at = lines.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === 'content-type')
  return at === -1 ? 'text/plain' : (lines[at + 1] ?? 'text/plain')
}
