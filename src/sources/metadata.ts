// Where an issuer's endpoints are (RFC 8414), by these rules and no others:
// It is read when first needed, and whoever needs it waits. It is read anew every hour, 30 s after that has failed, and
// where it is doubted at once, or when a second has passed since the last doubt: nobody waits for those, and what fails
// changes nothing. It
// is doubted when a call to an address of it fails, or finds no address, and when a good set lacks a key: never oftener
// than its endpoints are asked, which schedules, cool-downs and circuits bound.
// A reading asks the usual place and, once that has nothing or has been slow for 250 ms, all others at once; each has the
// 2 s of every call. It holds the first document in the order of the places. One of a later place than the document that is
// held comes instead of that only where all before it say that they have nothing: where one fails, what stands behind it
// may be what the issuer has left behind, withdrawn keys and all. Where none was held, and such a one had to do, it is read
// anew after 30 s, too.
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
}

/** What discovery needs from outside. */
export type MetadataDeps = { readonly clock: Clock; readonly send: HttpClient['send'] }

/** One issuer's metadata (RFC 8414), fetched when first needed, one reading at a time. */
export type Metadata = {
  /** The address of an endpoint. Rejects with SourceFailed when it cannot be had. */
  readonly endpoint: (name: EndpointName) => Promise<string>
  /**
   * Has the document read again: what it points to does not do what it should, so it may be out of date. Resolves when a
   * reading that began after the doubt has ended, well or not. Never rejects.
   */
  readonly doubt: () => Promise<void>
}

// As long as keys may be used unseen; a document moves far less often than keys do.
const maxAgeMs = 3_600_000
const retryMs = 30_000
// As long as keys that cannot be fetched are left alone at first: each attempt may find them at another address.
const leastMs = 1000
// A place that has nothing mostly says so within this; one request is enough for most issuers.
const headStartMs = 250
const limits = { maxBodyBytes: 65_536, deadlineMs: 2000 } as const

/** A document, and where it was found: as it may be told, and in the order of the places. */
type Found = { readonly document: IssuerMetadata; readonly from: string; readonly place: number }

/** `isSure`: all places before it say that they have nothing. */
type Chosen = Found & { readonly isSure: boolean }

class NotThere extends SourceFailed {}
class DocumentRefused extends SourceFailed {}

/** Finds an issuer's endpoints by discovery, in the OpenID Connect and the RFC 8414 form. */
export function createMetadata(options: MetadataOptions, { clock, send }: MetadataDeps): Metadata {
  const [usual = '', ...others] =
    options.metadata_url === undefined ? metadataUrls(options.issuer) : [options.metadata_url]
  let held: Chosen | undefined
  let pending: Promise<Chosen> | undefined
  let doubted: Promise<void> | undefined
  let againMs = Number.NEGATIVE_INFINITY
  let dueMs = Number.NEGATIVE_INFINITY
  return {
    async endpoint(name) {
      const { document, from } = await current()
      const found = document[name]
      if ('why' in found) throw new SourceFailed(`Cannot use metadata from ${from}: ${found.why}`)
      const { url } = found
      if (url.startsWith('http:') && !isLoopbackUrl(url) && !options.insecure_http)
        throw new SourceFailed(`Cannot use metadata from ${from}: its ${name} is plain http, https wanted`)
      return url
    },
    async doubt() {
      if (held === undefined) return
      doubted ??= readAgain()
      await doubted
    },
  }

  /** One reading answers all doubts that were raised before it begins; those that come later have another. */
  async function readAgain(): Promise<void> {
    const earlyMs = againMs - clock.monotonicMs()
    if (earlyMs > 0) await new Promise((resolve) => setTimeout(resolve, earlyMs).unref())
    // What is under way began before the doubt, and may bring what is doubted.
    await pending?.catch(() => {})
    // Stamped by attempt, whatever is answered: garbage tokens raise doubts, too.
    againMs = clock.monotonicMs() + leastMs
    doubted = undefined
    await read().catch(() => {})
  }

  async function current(): Promise<Chosen> {
    if (held === undefined) return await read()
    // Nobody waits for a newer document: the endpoints of the old one are right until they fail.
    if (clock.monotonicMs() >= dueMs) read().catch(() => {})
    return held
  }

  function read(): Promise<Chosen> {
    pending ??= readOnce().finally(() => {
      pending = undefined
    })
    return pending
  }

  async function readOnce(): Promise<Chosen> {
    const begunMs = clock.monotonicMs()
    dueMs = begunMs + retryMs
    held = await discover()
    dueMs = begunMs + (held.isSure ? maxAgeMs : retryMs)
    return held
  }

  async function discover(): Promise<Chosen> {
    const first = fetchDocument(usual, 0)
    const late = new Promise<false>((resolve) => void setTimeout(resolve, headStartMs, false).unref())
    const inTime = first.then(
      () => true,
      () => false,
    )
    const isThere = await Promise.race([inTime, late])
    const answers = isThere ? [first] : [first, ...others.map((url, at) => fetchDocument(url, at + 1))]
    // What fails before its turn is looked at in its turn.
    for (const answer of answers) answer.catch(() => {})
    let failure: unknown
    for (const answer of answers) {
      try {
        const found = await answer
        const isSure = tells(failure) <= nothing
        if (held === undefined || found.place <= held.place || isSure) return { ...found, isSure }
      } catch (error) {
        if (tells(error) > tells(failure)) failure = error
      }
    }
    throw failure
  }

  async function fetchDocument(url: string, place: number): Promise<Found> {
    const { from, status, body } = await send({ method: 'GET', url, headers: { accept: 'application/json' } }, limits)
    if (status !== 200) {
      const why = `Cannot load metadata from ${from}: status is ${status}, wanted 200`
      throw status === 404 || status === 410 ? new NotThere(why) : new SourceFailed(why)
    }
    try {
      const document = parseMetadata(parseJsonObject(body, { maxMembers: 2048 }), options.issuer)
      if (typeof document !== 'string') return { document, from, place }
      throw new DocumentRefused(`Cannot use metadata from ${from}: ${document}`)
    } catch (cause) {
      if (!(cause instanceof JsonRefused)) throw cause
      throw new SourceFailed(`Cannot read metadata from ${from}: ${cause.message}`, { cause })
    }
  }
}

// What tells no more than this is that there is nothing.
const nothing = 1

/** Of several places most have nothing, and the one that has something says what is wrong; the first is the usual one. */
function tells(failure: unknown): number {
  if (failure === undefined) return 0
  if (failure instanceof NotThere) return nothing
  return failure instanceof DocumentRefused ? 3 : 2
}
