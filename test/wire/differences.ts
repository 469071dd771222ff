import { METHODS } from 'node:http'
import type { Message } from '../support/strict-reader.ts'
import { valuesOf } from '../support/strict-reader.ts'

/** A reason why the gateway may accept a request that Node's parser refuses. */
export type Difference = {
  readonly name: string
  /**
   * @param before What came in the same text before it, and was accepted.
   * @param text The bytes as sent.
   */
  readonly explains: (request: Message, before: readonly Message[], text: string) => boolean
}

/** Where the gateway may take what Node's parser does not, each with its argument. */
export const differences: readonly Difference[] = [
  {
    // RFC 9110 §9.1: a method is any token, and a rule says which it wants. Node knows those of a list.
    name: 'a method that is in no list of Node',
    explains: ({ method }) => !METHODS.includes(method),
  },
  {
    // RFC 9110 §6.5.1: such a trailer must be ignored, and is: no trailer is ever taken for a line of the head.
    name: 'framing in a trailer',
    explains: ({ trailers }) => trailers.some(([name]) => /^(?:content-length|transfer-encoding)$/i.test(name)),
  },
  {
    // RFC 9110 §5.6.3: a tab is white space around a value as a space is.
    name: 'a tab behind chunked',
    explains: ({ framing }, _before, text) => framing === 'chunked' && /:[\t ]*chunked *\t/i.test(text),
  },
  {
    // RFC 9112 §7.1.1: an extension that is not understood is ignored. What stands between `;` and the line's end, of up to
    // 256 bytes without a control, is dropped unread; nobody behind us sees it, so nobody can read it otherwise.
    name: 'a chunk extension that is none by its grammar',
    explains: ({ hasOddExtension }) => hasOddExtension,
  },
  {
    // A bug of Node's: where nobody listens for an upgrade, what came in one piece with it is lost.
    name: 'a request behind one with Upgrade',
    explains: (_request, before) => before.some((each) => valuesOf(each, 'upgrade').length > 0),
  },
]
