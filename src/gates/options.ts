// What the configuration says of front door and upstream, and the numbers of security.md §4.1 as defaults.
import * as z from 'zod'
import { list } from '../base/list.ts'
import { durationBetween } from '../base/options.ts'
import { maxSocketPath, unixAddress } from '../base/unix-address.ts'
import type { PoolLimits, ServerLimits } from '../http1/limits.ts'

const file = z.strictObject({ file: z.string().min(1) })
// None is no time at all: there is no word for a wait without an end.
const wait = durationBetween('1ms', '1d')
const count = (most: number) => z.int().min(1).max(most)

/** What requests and connections of clients may cost. */
export const limitsOptions = z.strictObject({
  header_bytes: count(1_048_576).prefault(16_384).describe('All header lines of a request together; over it 431.'),
  headers: count(10_000).prefault(100).describe('Header lines of a request; over it 431.'),
  header: count(1_048_576).prefault(12_288).describe('One header, name and value; over it 431.'),
  target: count(65_536).prefault(8192).describe('The target of a request; over it 414.'),
  head_timeout: wait
    .prefault('10s')
    .describe('For the head of a request; of HTTP/2, for its greeting (then `idle_timeout` counts).'),
  request_timeout: wait
    .prefault('60s')
    .describe(
      'For a whole request; one that takes longer must keep `min_body_rate`. One of which nothing comes for so long is given up within twice that.',
    ),
  min_body_rate: count(1_000_000_000).prefault(1024).describe('Bytes a second, once `request_timeout` has passed.'),
  idle_timeout: wait.prefault('65s').describe("Between two requests; longer than a load balancer's."),
  write_timeout: wait
    .prefault('60s')
    .describe(
      'How long what a client has not taken may wait: until about a third of the buffers on the way to it is free.',
    ),
  connections: count(1_000_000).prefault(10_000).describe('Over it connections are dropped, and counted.'),
  requests_per_connection: count(1_000_000_000).prefault(10_000).describe('After so many a connection is closed.'),
})

/** `limits:` as read. */
export type LimitsOptions = z.output<typeof limitsOptions>

const originPattern = /^(?:https?:\/\/(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[1-9]\d{0,4})?\/?|unix:\/[^\s?#]+)$/
/** How the front door speaks TLS. */
export const listenTlsOptions = z.strictObject({
  cert: file.describe('Our certificate and those between it and its CA, PEM; re-read on change.'),
  key: file.describe('Its key, PEM; re-read on change. A secret: others must not be able to read it.'),
  client_ca: file.optional().describe("The CA of clients' certificates, PEM; re-read on change."),
  client_certificate: z
    .enum(['none', 'optional', 'required'])
    .prefault('none')
    .describe('Whether clients are asked for a certificate of `client_ca`. A bad one is never taken for none.'),
})

/** `listen.tls` as read. */
export type ListenTlsOptions = z.output<typeof listenTlsOptions>

const origin = z
  .string()
  .refine((text) => originPattern.test(text) && (text.startsWith(unixAddress) || URL.parse(text) !== null), {
    error: 'expected an origin like http://127.0.0.1:3000 without a path, or unix:/run/app.sock',
  })
  .refine(
    (text) => !text.startsWith(unixAddress) || Buffer.byteLength(text.slice(unixAddress.length)) <= maxSocketPath,
    {
      error: `expected a socket's path of at most ${maxSocketPath} bytes`,
    },
  )

/** Where allowed requests go. */
export const upstreamOptions = z.strictObject({
  url: origin
    .optional()
    .describe(
      'The service behind the gateway: http, https, or unix: and a path. A name is looked up every 30s; each address is a place.',
    ),
  urls: list(origin)
    .min(1)
    .max(100)
    .optional()
    .describe('Several places of it, instead of `url`; a request goes to the one with the least to do.'),
  protocol: z
    .enum(['http1', 'h2'])
    .prefault('http1')
    .describe('What it speaks; h2 without TLS is by prior knowledge (RFC 9113 §3.3).'),
  health_path: z
    .string()
    .regex(/^\/[!-~]*$/, { error: 'expected a path that begins with /, without spaces, and escaped as in a request' })
    .optional()
    .describe('What /upstreamz of the health listener relays.'),
  connect_timeout: wait.prefault('2s').describe('Until a connection is there, TLS included.'),
  head_timeout: wait.prefault('30s').describe('Until the head of an answer.'),
  body_timeout: wait.prefault('60s').describe('Between two parts of an answer.'),
  keep_alive: durationBetween('0s', '1d')
    .prefault('4s')
    .describe('How long a connection is kept unused; less where its `Keep-Alive: timeout` says so.'),
  max_connections: count(100_000).prefault(256).describe('Connections to all places together.'),
  queue: z
    .strictObject({
      size: z.int().min(0).max(1_000_000).prefault(1024).describe('Requests that may wait for a connection.'),
      timeout: durationBetween('0s', '1d').prefault('2s').describe('How long; then 503.'),
    })
    .prefault({})
    .describe('Requests that wait for one of `max_connections`.'),
  tls: z
    .strictObject({
      ca: file.optional().describe('Certificates trusted instead of the usual ones, PEM.'),
      cert: file.optional().describe('Our certificate, PEM, where the upstream wants one.'),
      key: file.optional().describe('Its key, PEM.'),
      server_name: z
        .string()
        .regex(
          /^(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F.]{0,15}){2,8})$/,
          {
            error: 'expected a host name, or an address, without a port',
          },
        )
        .optional()
        .describe('The name its certificate must be for; absent: its host.'),
    })
    .optional()
    .describe('How an https upstream proves itself, and we to it. The files are read again when they change.'),
})

/** `upstream:` as read. */
export type UpstreamOptions = z.output<typeof upstreamOptions>

// Of answers; no client can make an upstream send more.
const responseFields = { bytes: 65_536, count: 200, one: 32_768 } as const

/** The limits of a client's connection. */
export function serverLimits(options: LimitsOptions): ServerLimits {
  const { target, header_bytes, headers, header } = options
  return {
    request: { target, fields: { bytes: header_bytes, count: headers, one: header } },
    headMs: options.head_timeout,
    requestMs: options.request_timeout,
    minBodyRate: options.min_body_rate,
    idleMs: options.idle_timeout,
    writeMs: options.write_timeout,
    requestsPerConnection: options.requests_per_connection,
  }
}

/** The limits of an upstream's connections. */
export function poolLimits(options: UpstreamOptions): PoolLimits {
  return {
    response: { fields: responseFields },
    connectMs: options.connect_timeout,
    headMs: options.head_timeout,
    bodyMs: options.body_timeout,
    keepAliveMs: options.keep_alive,
    connections: options.max_connections,
    queued: options.queue.size,
    queuedMs: options.queue.timeout,
  }
}
