import { scopesOf } from '../decision/authorize.ts'
import type { Deny } from '../decision/decision.ts'
import { deny, denyReasons } from '../decision/decision.ts'
import type { Rule } from '../decision/rules.ts'
import type { AnswerSink } from '../http1/exchange.ts'
import { mediaTypeOf } from '../http1/field-lines.ts'
import type { RequestHead } from '../http1/request-head.ts'
import { formatBearerChallenge } from '../spec/authorization.ts'
import type { UpstreamFailure } from './gate.ts'

/** What the client gets instead of the upstream's answer. */
export type Denial = {
  readonly status: number
  readonly reason: string
  /** Names and values alternating, as they go on the wire; the length of the body is among them. */
  readonly headers: readonly string[]
  readonly body: Buffer
}

const realm = 'postern'
const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  413: 'Content Too Large',
  414: 'URI Too Long',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
}

/**
 * Puts a denial in the client's words: status, challenge (RFC 6750 §3) and a problem body (RFC 9457). The client learns
 * the RFC's code and our reason; never a claim value, a key id or what exactly was compared.
 */
export function respond(denied: Deny): Denial {
  const { status, error, help } = denyReasons[denied.reason]
  const denial = formatDenial(denied.status ?? status, denied.reason, help)
  const headers = [...denial.headers]
  const challenge = challengeOf(denied, error)
  if (challenge !== undefined) headers.push('WWW-Authenticate', challenge)
  if (status === 503) headers.push('Retry-After', String(denied.retryAfterS ?? 1))
  return { ...denial, headers }
}

/** The denial of a body over the `max_body` of its rule, whether its length says so or it turns out. */
export function bodyTooLarge(rule: Rule): Deny {
  return { kind: 'deny', reason: 'too_large', status: 413, rule }
}

/** What an upstream's failure looks like to the client; its decision was an allow. */
export function respondUpstream(failure: UpstreamFailure): Denial {
  if (failure === 'overloaded') return respond(deny(failure))
  const { status, help } = upstreamReasons[failure]
  return formatDenial(status, failure, help)
}

/** Sends a denial, whole; to a gRPC call in gRPC's words. */
export function send(sink: AnswerSink, denial: Denial, isGrpc: boolean): void {
  if (isGrpc) {
    // Trailers-only: a head that is the end, and has the status of the call.
    sink.begin(200, 'OK', grpcFields(denial), 'none')
    sink.end([])
    return
  }
  const { status, headers, body } = denial
  sink.begin(status, titles[status] ?? 'Error', headers, body.length)
  sink.write(body)
  sink.end([])
}

/** Whether a media type is gRPC's. */
export function isGrpcType(mediaType: string): boolean {
  return grpcType.test(mediaType)
}

/** Whether a request is a gRPC call: in HTTP/1.1 there is none, whatever its type says. */
export function isGrpcCall({ version, lines }: Pick<RequestHead, 'version' | 'lines'>): boolean {
  return version === '2' && isGrpcType(mediaTypeOf(lines))
}

const grpcType = /^application\/grpc(?:[+-]|$)/

/** Codes of gRPC by status (product.md §1); what a client sends too much of is RESOURCE_EXHAUSTED, a bug INTERNAL. */
const grpcCodes: Readonly<Record<number, number>> = {
  400: 3,
  401: 16,
  403: 7,
  413: 8,
  414: 8,
  431: 8,
  500: 13,
  502: 14,
  503: 14,
  504: 14,
}

/** What a gRPC call is told at its end. */
export function grpcTrailers({ status, reason }: Pick<Denial, 'status' | 'reason'>): readonly string[] {
  return ['Grpc-Status', String(grpcCodes[status] ?? 2), 'Grpc-Message', reason]
}

function grpcFields(denial: Denial): readonly string[] {
  const { headers } = denial
  const fields = ['Content-Type', 'application/grpc', ...grpcTrailers(denial)]
  for (let at = 0; at + 1 < headers.length; at += 2)
    if (!/^content-/i.test(headers[at] ?? '')) fields.push(headers[at] ?? '', headers[at + 1] ?? '')
  return fields
}

/** What an upstream's failure is called where a denial has its reason: status, and the sentence the docs print. */
export const upstreamReasons = {
  upstream_connect: { status: 502, help: 'The service behind the gateway cannot be reached.' },
  upstream_reset: { status: 502, help: 'The service behind the gateway broke off, or spoke no HTTP.' },
  upstream_timeout: { status: 504, help: 'The service behind the gateway was too slow.' },
} as const

function formatDenial(status: number, reason: string, detail: string): Denial {
  const title = titles[status] ?? 'Error'
  const body = Buffer.from(JSON.stringify({ type: `urn:postern:reason:${reason}`, title, status, reason, detail }))
  const headers = [
    'Content-Type',
    'application/problem+json',
    // What is denied now may be allowed in a second.
    'Cache-Control',
    'no-store',
    'Content-Length',
    String(body.length),
  ]
  return { status, reason, headers, body }
}

function challengeOf({ reason, rule }: Deny, error: string | null): string | undefined {
  const scope = rule === undefined ? '' : scopesOf(rule).join(' ')
  // RFC 6750 §3.1: who sent nothing learns what is needed, and no error code.
  if (reason === 'token_missing') return formatBearerChallenge({ realm, scope })
  if (error === null) return undefined
  const error_description = denyReasons[reason].help.replaceAll('`', '')
  if (error === 'insufficient_scope') return formatBearerChallenge({ realm, error, error_description, scope })
  return formatBearerChallenge({ realm, error, error_description })
}
