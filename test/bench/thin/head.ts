// What node:http's parser lets through and the gateway does not: the framing and the sizes of a request's head.

/** The lines of a head that decide how it is read. */
export type Head = {
  readonly host: readonly string[]
  readonly authorization: readonly string[]
  /** The declared length of the body, as sent; undefined where it is chunked, or there is none. */
  readonly contentLength: string | undefined
  readonly hasBody: boolean
}

const maxHeaderBytes = 16_384
const maxHeaders = 100
const maxOneHeaderBytes = 12_288
const none: readonly string[] = []

/** Reads the lines that matter of names and values as received; undefined for a head that is too large or ambiguous. */
export function readHead(rawHeaders: readonly string[], httpVersion: string): Head | undefined {
  if (rawHeaders.length > maxHeaders * 2) return undefined
  let bytes = 0
  let host = none
  let authorization = none
  let encodings = none
  let lengths = none
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? ''
    const value = rawHeaders[at + 1] ?? ''
    const size = name.length + value.length
    bytes += size + 4
    if (size > maxOneHeaderBytes || bytes > maxHeaderBytes) return undefined
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === 'host') host = [...host, value]
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
  if (chunked && (encodings[0]?.toLowerCase() !== 'chunked' || httpVersion !== '1.1' || lengths.length > 0))
    return undefined
  if (contentLength !== undefined && (lengths.length > 1 || !/^(?:0|[1-9]\d{0,15})$/.test(contentLength)))
    return undefined
  const hasBody = chunked || (contentLength !== undefined && contentLength !== '0')
  return { host, authorization, contentLength: chunked ? undefined : contentLength, hasBody }
}
