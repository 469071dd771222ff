import { JsonRefused, parseJsonObject } from '../base/json.ts'
import { isLoopbackUrl } from '../base/options.ts'
import type { Clock } from '../base/time.ts'
import type { HttpClient } from '../io/http-client.ts'
import type { EndpointName, IssuerMetadata } from '../spec/metadata.ts'
import { metadataUrls, parseMetadata } from '../spec/metadata.ts'
import { SourceFailed } from './source-failed.ts'

/** Whose metadata, and where from. */
export type MetadataOptions = {
  readonly issuer: string
  /** Where the document is, if not at the issuer's own well-known places. */
  readonly metadata_url?: string | undefined
  /** Whether endpoints may be plain http to other machines. */
  readonly insecure_http: boolean
  /** Least time between two fetches of a document that is doubted; milliseconds. */
  readonly cool_down: number
}

/** What discovery needs from outside. */
export type MetadataDeps = { readonly clock: Clock; readonly send: HttpClient['send'] }

/** One issuer's metadata (RFC 8414), fetched when first needed, one fetch at a time. */
export type Metadata = {
  /** The address of an endpoint. Rejects with SourceFailed when it cannot be had. */
  readonly endpoint: (name: EndpointName) => Promise<string>
  /**
   * Has the document fetched again, as soon as the cool-down allows: what it points to does not do what it should, so it
   * may be out of date. Nobody waits for it.
   */
  readonly doubt: () => void
}

// As long as keys may be used unseen; a document moves far less often than keys do.
const maxAgeMs = 3_600_000
// With no cool-down, an issuer that answers about tokens and not about itself is not asked about itself for every token.
const minCoolDownMs = 500
const maxBodyBytes = 65_536
// For all places together: who waits for one of them has a slot at the issuer, and a client.
const deadlineMs = 2000

/** A document, and where it was found, as it may be told. */
type Found = { readonly document: IssuerMetadata; readonly from: string }

class NotThere extends SourceFailed {}
class DocumentRefused extends SourceFailed {}

/** Finds an issuer's endpoints by discovery, in the OpenID Connect and the RFC 8414 form. */
export function createMetadata(options: MetadataOptions, { clock, send }: MetadataDeps): Metadata {
  let held: (Found & { readonly untilMs: number }) | undefined
  let pending: Promise<Found> | undefined
  let againMs = Number.NEGATIVE_INFINITY
  // Of the places to look at, where it was found, or where to look first.
  let beginAt = 0
  return {
    async endpoint(name) {
      const { document, from } = await current()
      const found = document[name]
      if ('why' in found) throw new SourceFailed('metadata', `Cannot use metadata from ${from}: ${found.why}`)
      const { url } = found
      if (url.startsWith('http:') && !isLoopbackUrl(url) && !options.insecure_http)
        throw new SourceFailed('metadata', `Cannot use metadata from ${from}: its ${name} is plain http, https wanted`)
      return url
    },
    doubt() {
      if (held === undefined) return
      held = { ...held, untilMs: Number.NEGATIVE_INFINITY }
      renew()
    },
  }

  async function current(): Promise<Found> {
    if (held === undefined) return await discoverOnce()
    renew()
    return held
  }

  /** Nobody waits for a newer document: the endpoints of the old one are right until they fail. */
  function renew(): void {
    const nowMs = clock.monotonicMs()
    if (held === undefined || nowMs < held.untilMs || nowMs < againMs) return
    // Stamped by attempt, whatever is answered: garbage tokens raise doubts, too.
    againMs = nowMs + Math.max(options.cool_down, minCoolDownMs)
    discoverOnce().catch(() => {})
  }

  function discoverOnce(): Promise<Found> {
    pending ??= discover().finally(() => {
      pending = undefined
    })
    return pending
  }

  async function discover(): Promise<Found> {
    const urls = options.metadata_url === undefined ? metadataUrls(options.issuer) : [options.metadata_url]
    const untilMs = clock.monotonicMs() + deadlineMs
    let failure: unknown
    // What is silent takes all of the time: the next attempt begins behind it.
    for (const url of [...urls.slice(beginAt), ...urls.slice(0, beginAt)]) {
      const leftMs = untilMs - clock.monotonicMs()
      if (leftMs < 1) break
      beginAt = urls.indexOf(url)
      try {
        const found = await fetchDocument(url, leftMs)
        held = { ...found, untilMs: clock.monotonicMs() + maxAgeMs }
        return found
      } catch (error) {
        if (tells(error) > tells(failure)) failure = error
      }
    }
    beginAt = clock.monotonicMs() < untilMs ? 0 : (beginAt + 1) % urls.length
    throw failure
  }

  async function fetchDocument(url: string, leftMs: number): Promise<Found> {
    const headers = { accept: 'application/json' }
    const call = { method: 'GET', url, headers } as const
    const { from, status, body } = await send(call, { maxBodyBytes, deadlineMs: Math.ceil(leftMs) })
    if (status !== 200) {
      const why = `Cannot load metadata from ${from}: status is ${status}, wanted 200`
      throw status === 404 ? new NotThere('metadata', why) : new SourceFailed('metadata', why)
    }
    try {
      const document = parseMetadata(parseJsonObject(body, { maxMembers: 2048 }), options.issuer)
      if (typeof document !== 'string') return { document, from }
      throw new DocumentRefused('metadata', `Cannot use metadata from ${from}: ${document}`)
    } catch (cause) {
      if (!(cause instanceof JsonRefused)) throw cause
      throw new SourceFailed('metadata', `Cannot read metadata from ${from}: ${cause.message}`, { cause })
    }
  }
}

/** Of several places most have nothing, and the one that has something says what is wrong; the first is the usual one. */
function tells(failure: unknown): number {
  if (failure === undefined) return 0
  if (failure instanceof NotThere) return 1
  return failure instanceof DocumentRefused ? 3 : 2
}
