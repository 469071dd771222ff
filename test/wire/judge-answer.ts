// What must become of bytes an upstream answers with: relayed as they are meant, or refused.
import type { Message } from '../support/strict-reader.ts'
import { readResponse } from '../support/strict-reader.ts'

export type ExpectedAnswer =
  /** The client gets this answer, whole. */
  | { readonly kind: 'relay'; readonly answer: Message }
  /** The client gets it whole, or not at all. */
  | { readonly kind: 'either'; readonly answer: Message }
  /** The client gets 502: this is no HTTP, or none of ours. */
  | { readonly kind: 'refuse'; readonly why: string }
  /** The head was good and the body is not: the client gets 502, or an answer that visibly has no end. */
  | { readonly kind: 'cut'; readonly why: string }
  /** More is to come. */
  | { readonly kind: 'wait' }

// From here on an upstream only wastes our time.
const maxInterim = 16

/**
 * Judges what an upstream sends after one request.
 *
 * @param ended Whether it closes behind it.
 */
export function judgeAnswer(text: string, method: string, ended: boolean): ExpectedAnswer {
  for (let at = 0, interim = 0; ; interim += 1) {
    const read = readResponse(text, at, method, ended)
    switch (read.kind) {
      case 'broken':
        return read.head === undefined || read.why === 'the framing'
          ? { kind: 'refuse', why: read.why }
          : { kind: 'cut', why: read.why }
      case 'unfinished':
        if (!ended) return { kind: 'wait' }
        return read.head === undefined ? { kind: 'refuse', why: 'half a head' } : { kind: 'cut', why: 'half a body' }
      case 'message':
        if (read.status >= 200) return { kind: read.hasOddExtension ? 'either' : 'relay', answer: read }
        if (read.status === 101) return { kind: 'refuse', why: 'a switch nobody asked for' }
        if (interim >= maxInterim) return { kind: 'refuse', why: 'too many 1xx' }
        at = read.end
        break
      default:
        return { kind: 'wait' }
    }
  }
}
