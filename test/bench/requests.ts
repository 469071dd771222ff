// The files of requests that are sent: a path and a token a line.
import { bodySizes } from './upstream.ts'

/** Different tokens of the warm rows. */
export const warmTokens = 2000
/** New tokens a cold row sends in a round. */
export const coldTokens = 15_000
/** What the long list of rules is long by; as many as a configuration may have. */
export const manyRules = 10_000

/** Files of requests whose tokens are sent over and over. */
export type WarmRequests = {
  readonly warm: { readonly rs256: string; readonly es256: string }
  /** One token for all. */
  readonly one: string
  readonly opaque: string
  /** Without a token, to a public path. */
  readonly open: string
  /** Over all of the many rules. */
  readonly spread: string
  /** Answers of a size, by its name. */
  readonly sized: ReadonlyMap<string, string>
  /** A single request, which gets a body. */
  readonly sent: string
}

type Write = (name: string, text: string) => string

/** Writes the files of the rows that are not cold. */
export function writeRequests(
  write: Write,
  tokens: { readonly rs256: readonly string[]; readonly es256: readonly string[]; readonly opaque: readonly string[] },
): WarmRequests {
  const [first = ''] = tokens.rs256
  const sizes = Object.entries(bodySizes)
  return {
    warm: {
      rs256: writeLines(write, 'warm-rs256', tokens.rs256, 10),
      es256: writeLines(write, 'warm-es256', tokens.es256, 10),
    },
    one: write('one', `/r0/0 ${first}\n`),
    opaque: writeLines(write, 'opaque', tokens.opaque, 10),
    open: write(
      'open',
      lines(warmTokens, (at) => `/open/${at}`),
    ),
    spread: writeLines(write, 'spread', tokens.rs256, manyRules),
    sized: new Map(
      sizes.map(([name, bytes]) => [
        name,
        write(
          `sized-${bytes}`,
          lines(warmTokens, (at) => `/r0/bytes-${bytes} ${tokens.rs256[at]}`),
        ),
      ]),
    ),
    sent: write('sent', `/r0/sent ${first}\n`),
  }
}

/** Writes one request per token, evenly over the paths of so many rules; returns the file. */
export function writeLines(write: Write, name: string, tokens: readonly string[], rules: number): string {
  const step = Math.max(1, Math.floor(rules / tokens.length))
  return write(
    name,
    lines(tokens.length, (at) => `/r${(at * step) % rules}/${at} ${tokens[at]}`),
  )
}

function lines(count: number, line: (at: number) => string): string {
  return Array.from({ length: count }, (_, at) => `${line(at)}\n`).join('')
}
