// What people mistype in YAML, in words of what they typed: the parser tells what it stumbled over, often lines later.
import type { Finding } from './problems.ts'
import type { Span } from './written.ts'

/** What the parser says, with the stretch of text it says it of. */
export type ParserError = {
  readonly code: string
  readonly message: string
  readonly pos: readonly [start: number, end: number]
}

/** A mistake that was recognised; `isLast`: what the parser says of the rest of the file is its consequence. */
type Slip = { readonly at: Span; readonly why: string; readonly isLast: boolean }

/**
 * Turns what the parser says into findings, the first of each line: one mistake makes it stumble several times.
 *
 * @param quoted Every quoted scalar, from its opening quote on, in the order of the text.
 */
export function explainSyntax(
  errors: readonly ParserError[],
  text: string,
  quoted: readonly Span[],
): readonly Finding[] {
  const found: Finding[] = []
  let opened = 0
  for (const error of firstOfEachLine(errors, text)) {
    while ((quoted[opened]?.start ?? Number.POSITIVE_INFINITY) <= error.pos[0]) opened += 1
    const slip = slipOf(error, text, quoted[opened - 1])
    found.push(
      slip === undefined ? syntax(error) : { path: [], at: slip.at, message: `Cannot parse YAML: ${slip.why}` },
    )
    if (slip?.isLast === true) break
  }
  return found
}

/** Whether bytes that were read as UTF-8 are text of two bytes a character, as some editors and shells of Windows write it. */
export function isUtf16(text: string): boolean {
  return /^(?:\ufffd\ufffd)?(?:[^\0]\0|\0[^\0])/.test(text)
}

function firstOfEachLine(errors: readonly ParserError[], text: string): readonly ParserError[] {
  const inOrder = [...errors].sort((a, b) => a.pos[0] - b.pos[0])
  let previous: ParserError | undefined
  return inOrder.filter((error) => {
    const same = previous !== undefined && !text.slice(previous.pos[0], error.pos[0]).includes('\n')
    if (!same) previous = error
    return !same
  })
}

/** @param quote The last quoted text that opens before, or there. */
function slipOf({ pos: [at] }: ParserError, text: string, quote: Span | undefined): Slip | undefined {
  const start = text.lastIndexOf('\n', at - 1) + 1
  const line = text.slice(start, endOfLine(text, start))
  const indent = /^ *\t/.exec(line)
  if (indent !== null) {
    const tab = start + indent[0].length - 1
    return { at: { start: tab, end: tab + 1 }, why: 'the line is indented with a tab, wanted spaces', isLast: true }
  }
  if (quote !== undefined && quote.end >= at && !isClosed(quote, text)) {
    const opening = { start: quote.start, end: endOfLine(text, quote.start) }
    return { at: opening, why: 'the quote that opens here is never closed', isLast: true }
  }
  const key = /^ *(?:- +)*([A-Za-z_]\w*):(?![ \t\r]|\/\/|$)/.exec(line)
  if (key !== null) {
    const [whole, name = ''] = key
    const keyStart = start + whole.length - name.length - 1
    return { at: { start: keyStart, end: start + whole.length }, why: `no space after "${name}:"`, isLast: false }
  }
  const address = /(?<=[\s:,])\[[0-9A-Fa-f:.]+\]:\d+/.exec(line)
  if (address !== null) {
    const addressAt = start + address.index
    const span = { start: addressAt, end: addressAt + address[0].length }
    return { at: span, why: `quote it: "${address[0]}"`, isLast: false }
  }
  return undefined
}

function isClosed({ start, end }: Span, text: string): boolean {
  // The last quote is one of the text where it is escaped: `"a\"`, or doubled: `'a''`.
  return /^(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')$/s.test(text.slice(start, end))
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf('\n', from)
  return end === -1 ? text.length : end
}

function syntax(error: ParserError): Finding {
  const [start, end] = error.pos
  // What follows ": " in the library's sentences is a piece of the file, which may be a secret.
  const said = error.message.replace(/(?<=\S): .*$/s, '')
  const message = ownWords.get(error.code) ?? said
  return {
    path: [],
    at: { start, end },
    message: `Cannot parse YAML: ${message[0]?.toLowerCase()}${message.slice(1)}`,
  }
}

// In place of words that hold a piece of the file.
const ownWords: ReadonlyMap<string, string> = new Map([
  ['NON_STRING_KEY', 'a key must be plain text'],
  ['BAD_DQ_ESCAPE', 'no such escape in a text in double quotes'],
  ['BAD_DIRECTIVE', 'a line that begins with % must be a directive of YAML'],
])
