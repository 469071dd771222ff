// What node:http's parser lets through and we do not: the framing and the sizes of a request's head.
import type { Deny } from '../decision/decision.ts'
import { deny } from '../decision/decision.ts'

/** The lines of a head that decide how it is read. */
export type RequestHead = {
  readonly kind: 'head'
  readonly host: readonly string[]
  readonly authorization: readonly string[]
  /** The declared length of the body, as sent; undefined where it is chunked, or there is none. */
  readonly contentLength: string | undefined
  readonly hasBody: boolean
}

// security.md §4.1.
const maxHeaderBytes = 16_384
const maxHeaders = 100
const maxOneHeaderBytes = 12_288
const none: readonly string[] = []

/**
 * Reads the lines that matter of a request's head.
 *
 * @param rawHeaders Names and values alternating, as received.
 * @returns The lines, or a denial: `too_large` (431), or `request_malformed` for ambiguous framing (RFC 9112 §6.3)
 *   and for an expectation other than `100-continue`.
 */
export function readHead(rawHeaders: readonly string[], httpVersion: string): RequestHead | Deny {
  if (rawHeaders.length > maxHeaders * 2) return deny('too_large')
  let bytes = 0
  let host = none
  let authorization = none
  let encodings = none
  let lengths = none
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? ''
    const value = rawHeaders[at + 1] ?? ''
    const size = name.length + value.length
    // 4: the colon, a space, the line's end.
    bytes += size + 4
    if (size > maxOneHeaderBytes || bytes > maxHeaderBytes) return deny('too_large')
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === 'host') host = [...host, value]
        break
      case 6:
        // RFC 9110 §10.1.1 knows one expectation; node's parser also finds it inside of others.
        if (name.toLowerCase() === 'expect' && value.toLowerCase() !== '100-continue') return deny('request_malformed')
        break
      case 13:
        if (name.toLowerCase() === 'authorization') authorization = [...authorization, value]
        break
      case 14:
        if (name.toLowerCase() === 'content-length') lengths = [...lengths, value]
        break
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') encodings = [...encodings, value]
        break
      default:
    }
  }
  const chunked = encodings.length > 0
  const [contentLength] = lengths
  // One framing, in its one spelling: whatever reads on behind us must count the same bytes.
  if (
    chunked &&
    (encodings.length > 1 || encodings[0]?.toLowerCase() !== 'chunked' || httpVersion !== '1.1' || lengths.length > 0)
  )
    return deny('request_malformed')
  if (contentLength !== undefined && (lengths.length > 1 || !/^(?:0|[1-9]\d{0,15})$/.test(contentLength)))
    return deny('request_malformed')
  const hasBody = chunked || (contentLength !== undefined && contentLength !== '0')
  return { kind: 'head', host, authorization, contentLength: chunked ? undefined : contentLength, hasBody }
}
