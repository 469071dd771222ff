// Cross-origin requests of browsers (Fetch standard, "CORS protocol"): what is answered to their question whether they may,
// and what stands on answers so that scripts may read them. Who may is decided by the rules, as for everybody.
import * as z from 'zod'
import { list } from '../base/list.ts'
import { duration } from '../base/options.ts'
import type { Allow } from './decision.ts'
import { methodName } from './request.ts'

const origin = z
  .string()
  .max(256)
  .refine((text) => text === '*' || isOrigin(text), {
    error: 'expected an origin as browsers write it, like https://app.example.com, or *',
  })
const name = z.string().regex(/^[!#$%&'+.^_`|~0-9A-Za-z-]{1,64}$/, { error: 'expected the name of a header' })
const method = z.string().regex(methodName, { error: 'expected a method in upper case, such as GET' })

/** Which scripts of other origins may ask, and read the answers. */
export const corsOptions = z.strictObject({
  allow_origins: list(origin).min(1).max(1000).describe('Origins, compared exactly; or `*` alone for every one.'),
  allow_methods: list(method)
    .max(100)
    .prefault(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'])
    .describe('Methods a script may use; the rules still judge each request.'),
  allow_headers: list(name)
    .max(100)
    .prefault(['Authorization', 'Content-Type'])
    .describe('Request headers a script may set beside the harmless ones.'),
  expose_headers: list(name)
    .max(100)
    .prefault([])
    .describe('Headers of an answer a script may read beside the harmless ones.'),
  allow_credentials: z
    .boolean()
    .prefault(false)
    .describe('Whether browsers send cookies and client certificates along; never with `*`.'),
  max_age: duration.prefault('10m').describe('How long a browser may keep the answer to a preflight.'),
})

/** `cors:` as read: durations are milliseconds. */
export type CorsOptions = z.output<typeof corsOptions>

/** What is wrong with `cors:` as a whole, each with its place. */
export function findCorsConflicts({
  allow_origins,
  allow_credentials,
}: CorsOptions): readonly { readonly path: readonly (string | number)[]; readonly message: string }[] {
  const at = allow_origins.indexOf('*')
  if (at === -1) return []
  const found = []
  // Every page on the internet could act, and read, as whoever looks at it.
  if (allow_credentials)
    found.push({ path: ['allow_origins', at], message: 'expected origins by name with allow_credentials: true' })
  if (allow_origins.length > 1) found.push({ path: ['allow_origins', at], message: 'expected * alone' })
  return found
}

/** The CORS protocol of one configuration. Lines are names and values alternating. */
export type Cors = {
  /** The one origin a request is from; undefined where it names none, or several. */
  readonly originOf: (lines: readonly string[]) => string | undefined
  /** Whether a request is a browser's question whether another one may be sent. */
  readonly isPreflight: (method: string, lines: readonly string[]) => boolean
  /** The lines that answer it. To an origin that is not listed nothing is said, which browsers take for a no. */
  readonly answerPreflight: (origin: string | undefined) => string[]
  /** The lines of any other answer: ours take the place of the upstream's. */
  readonly answer: (origin: string | undefined, lines: readonly string[]) => string[]
}

/** The permit of a preflight: it is answered here, and carries no token to be judged. */
export const preflightAllow: Allow = {
  kind: 'allow',
  reason: 'public',
  rule: {
    kind: 'rule',
    id: 'cors',
    index: -1,
    methods: ['OPTIONS'],
    host: undefined,
    path: '/**',
    public: true,
    scopes: { all: [], any: [] },
    claims: [],
    issuers: undefined,
    audience: undefined,
    freshness: { kind: 'cached' },
    allowEncoded: 0,
    upgrade: [],
    forwardAuthorization: false,
    maxBody: undefined,
  },
  principal: null,
  path: 'none',
}

/** Makes it of options in which `findCorsConflicts` has found nothing. */
export function createCors(options: CorsOptions): Cors {
  const everyone = options.allow_origins.includes('*')
  const origins = new Set(options.allow_origins)
  const credentials = options.allow_credentials ? ['Access-Control-Allow-Credentials', 'true'] : []
  const preflight = [
    ...['Access-Control-Allow-Methods', options.allow_methods.join(', ')],
    ...['Access-Control-Allow-Headers', options.allow_headers.join(', ')],
    ...['Access-Control-Max-Age', String(Math.floor(options.max_age / 1000))],
  ]
  const exposed =
    options.expose_headers.length === 0 ? [] : ['Access-Control-Expose-Headers', options.expose_headers.join(', ')]
  return {
    originOf: (lines) => onlyValue(lines, 'origin'),
    isPreflight: (method, lines) =>
      method === 'OPTIONS' && has(lines, 'origin') && has(lines, 'access-control-request-method'),
    answerPreflight(from) {
      const allowed = allow(from)
      return [...allowed, ...(allowed.length === 0 ? [] : preflight), ...vary([])]
    },
    answer(from, lines) {
      const kept = lines.filter((_, at) => !/^access-control-/i.test(lines[at - (at % 2)] ?? ''))
      const allowed = allow(from)
      return [...kept, ...allowed, ...(allowed.length === 0 ? [] : exposed), ...vary(kept)]
    },
  }

  function allow(from: string | undefined): readonly string[] {
    if (from === undefined || !(everyone || origins.has(from))) return []
    return ['Access-Control-Allow-Origin', everyone ? '*' : from, ...credentials]
  }

  /** Whoever keeps an answer must not give one origin's to another; also the one that names none. */
  function vary(lines: readonly string[]): readonly string[] {
    if (everyone) return []
    const varies = lines.some(
      (value, at) =>
        at % 2 === 1 && lines[at - 1]?.toLowerCase() === 'vary' && /(?:^|[\s,])(?:\*|origin)(?:$|[\s,])/i.test(value),
    )
    return varies ? [] : ['Vary', 'Origin']
  }
}

/** The value of the one line of a name, lower-case; undefined where there is none, or several. */
function onlyValue(lines: readonly string[], name: string): string | undefined {
  let found: string | undefined
  for (let at = 0; at + 1 < lines.length; at += 2) {
    if (lines[at]?.length !== name.length || lines[at]?.toLowerCase() !== name) continue
    if (found !== undefined) return undefined
    found = lines[at + 1]
  }
  return found
}

function has(lines: readonly string[], name: string): boolean {
  return lines.some((line, at) => at % 2 === 0 && line.toLowerCase() === name)
}

/** RFC 6454 §6.2: scheme, host and port, in lower case, the usual port left out. Never `null`: anybody can be that. */
function isOrigin(text: string): boolean {
  const match =
    /^([a-z][a-z0-9+.-]*):\/\/(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]{2,45}\])(?::([1-9]\d{0,4}))?$/.exec(text)
  const [, scheme, port] = match ?? []
  if (match === null || Number(port ?? 0) > 65_535) return false
  return !((scheme === 'https' && port === '443') || (scheme === 'http' && port === '80'))
}
