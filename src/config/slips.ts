// What people mistype in YAML, in words of what they typed: the parser tells what it stumbled over, often lines later.
import { findMisaligned } from './indentation.ts'
import type { Finding } from './problems.ts'
import { maxProblems } from './problems.ts'
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
 * Turns what the parser says into findings, the first of each line: one mistake makes it stumble several times. Of more
 * than `maxProblems` there is one more.
 *
 * @param marks Every quoted scalar, from its opening quote on, and every bracket and brace, in the order of the text.
 */
export function explainSyntax(
  errors: readonly ParserError[],
  text: string,
  marks: readonly Span[],
): readonly Finding[] {
  const left = errors.length === 0 ? null : leftover.exec(text)
  if (left !== null) {
    const why =
      left[1] === undefined ? 'here is Markdown, wanted what is in it' : 'a merge conflict is not resolved here'
    return [finding({ start: left.index, end: left.index + left[0].length }, why)]
  }
  const found: Finding[] = []
  const isQuote = ({ start }: Span) => text[start] === '"' || text[start] === "'"
  const quoted = marks.filter(isQuote)
  const brackets = marks.filter((mark) => !isQuote(mark))
  const openBracket = createOpenBracket(text, brackets)
  let opened = 0
  for (const error of firstOfEachLine(errors, text)) {
    while ((quoted[opened]?.start ?? Number.POSITIVE_INFINITY) <= error.pos[0]) opened += 1
    const slip = slipOf(error, text, quoted[opened - 1]) ?? slipOfStructure(error, text, openBracket(error.pos[0]))
    if (slip === undefined && found.length > 0 && isConsequence(error)) break
    found.push(slip === undefined ? syntax(error) : finding(slip.at, slip.why))
    if (slip?.isLast === true || found.length > maxProblems) break
  }
  return found
}

// What Git and Markdown put around a text, and people forget to take away.
const leftover = /^(?:(<{7}|={7}|>{7})(?=[ \r\n]|$)|```|~~~)/m

function finding(at: Span, why: string): Finding {
  return { path: [], at, message: `Cannot parse YAML: ${why}` }
}

/** Whether bytes that were read as UTF-8 are text of two bytes a character, as some editors and shells of Windows write it. */
export function isUtf16(text: string): boolean {
  return /^(?:\ufffd\ufffd)?(?:[^\0]\0|\0[^\0])/.test(text)
}

function firstOfEachLine(errors: readonly ParserError[], text: string): readonly ParserError[] {
  const inOrder = [...errors].sort((a, b) => a.pos[0] - b.pos[0])
  let lineEnd = -1
  return inOrder.filter(({ pos: [at] }) => {
    const same = at <= lineEnd
    if (!same) lineEnd = endOfLine(text, at)
    return !same
  })
}

/** Whether the parser says of a line only that it is not what the lines before it made it expect. */
function isConsequence({ code, message }: ParserError): boolean {
  return code === 'BAD_INDENT' || code === 'BLOCK_AS_IMPLICIT_KEY' || / in YAML stream$/.test(message)
}

/**
 * What the line tells; its words may be a secret, and are not told.
 *
 * @param quote The last quoted text that opens before, or there.
 */
function slipOf(error: ParserError, text: string, quote: Span | undefined): Slip | undefined {
  const [at] = error.pos
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
  const template = line.indexOf('{{')
  if (template !== -1) {
    const span = { start: start + template, end: start + line.length }
    return { at: span, why: 'here is a template, {{ … }}, wanted what it is to become', isLast: true }
  }
  // Before a key it may make a text of it that goes on from the line above.
  for (const from of [text.lastIndexOf('\n', start - 2) + 1, start]) {
    const space = oddSpace.exec(text.slice(from, endOfLine(text, from)))
    const odd = from + (space === null ? 0 : space.index + space[0].length - 1)
    const why = 'here is no plain space, but one that looks like it'
    if (space !== null) return { at: { start: odd, end: odd + 1 }, why, isLast: true }
  }
  const key = /^ *(?:- +)*([A-Za-z_]\w*):(?![ \t\r]|\/\/|$)/.exec(line)
  if (key !== null) {
    const [whole, name = ''] = key
    const keyStart = start + whole.length - name.length - 1
    return { at: { start: keyStart, end: start + whole.length }, why: 'no space after ":"', isLast: false }
  }
  const address = /(?<=[\s:,])\[[0-9A-Fa-f:.]+\]:\d+/.exec(line)
  if (address !== null) {
    const addressAt = start + address.index
    const span = { start: addressAt, end: addressAt + address[0].length }
    return { at: span, why: 'quote it: a value that begins with [ is a list', isLast: false }
  }
  const comment = /^ *(?=\/\/)/.exec(line)
  if (comment !== null) {
    const slashes = start + comment[0].length
    return { at: { start: slashes, end: slashes + 2 }, why: aComment, isLast: false }
  }
  const hyphen = /^ *-(?=[A-Za-z_]\w*:)/.exec(line)
  if (hyphen !== null) {
    const end = start + hyphen[0].length
    return { at: { start: end - 1, end }, why: 'no space after "-"', isLast: true }
  }
  return slipOfCode(error, text, { start, end: start + line.length })
}

/** What only the parser's code tells apart. */
function slipOfCode({ code, message, pos: [at] }: ParserError, text: string, line: Span): Slip | undefined {
  switch (code) {
    case 'BAD_ALIAS':
      if (!/^\*(?=[\s,\]}]|$)/.test(text.slice(at, at + 2))) return undefined
      return { at: { start: at, end: at + 1 }, why: 'quote it: "*"', isLast: false }
    case 'BAD_SCALAR_START':
      return {
        at: { start: at, end: at + 1 },
        why: 'quote it: a value cannot begin with this character',
        isLast: false,
      }
    case 'MULTILINE_IMPLICIT_KEY':
    case 'MISSING_CHAR': {
      if (code === 'MISSING_CHAR' && !message.startsWith('Implicit map keys')) return undefined
      const [whole, equals] = /^[\w.-]+ *(=)?/.exec(text.slice(at, line.end)) ?? []
      if (whole === undefined || text.slice(at, line.end).includes(':')) return undefined
      const why = `no ":" after the key${equals === undefined ? '' : ', but "="'}`
      return { at: { start: at, end: at + whole.trimEnd().length }, why, isLast: false }
    }
    case 'BLOCK_AS_IMPLICIT_KEY':
      if (!/: +\S.*: /.test(text.slice(line.start, line.end))) return undefined
      return { at: { start: at, end: line.end }, why: 'quote it: a value cannot hold ": "', isLast: false }
    default:
      return undefined
  }
}

const aComment = 'a comment begins with #'

// Where only spaces may stand: in front of a key, and behind its colon.
const oddSpace = /^[ -]*[\u00a0\u2000-\u200b\u202f\u3000]|^[^#"']*:[\u00a0\u2000-\u200b\u202f\u3000]/

/**
 * What is told by brackets, and by where lines begin.
 *
 * @param open The innermost `[` or `{` that is open there.
 */
function slipOfStructure(error: ParserError, text: string, open: number | undefined): Slip | undefined {
  const { code, message } = error
  const at = error.pos[0]
  if (/^Unexpected flow-(?:map|seq)-end token in YAML stream/.test(message))
    return { at: { start: at, end: at + 1 }, why: `this ${text[at]} closes nothing`, isLast: true }
  const isBeyond = / at node end$/.test(message)
  if (isBeyond && text.startsWith('//', at)) return { at: { start: at, end: at + 2 }, why: aComment, isLast: false }
  if (open === undefined) {
    const start = text.lastIndexOf('\n', at - 1) + 1
    // Of a text that goes on in the next line the parser tells where it begins.
    const lines = /_IMPLICIT_KEY$/.test(code) ? [start, endOfLine(text, at) + 1] : [start]
    const misaligned = lines.map((line) => findMisaligned(text, line)).find((found) => found !== undefined)
    if (misaligned !== undefined) return { ...misaligned, isLast: true }
    if (!message.startsWith('A block sequence')) return undefined
    // Said of where the keys end.
    const [before] = /^(?: *[^\s-][^\n]*\n| *\r?\n)* */.exec(text.slice(start, start + 4000)) ?? ['']
    const hyphen = start + before.length
    const why = 'a list begins among the keys of a map: is a key or a "-" missing above?'
    return { at: { start: hyphen, end: hyphen + 1 }, why, isLast: true }
  }
  if (/ end with a? ?[\]}]$/.test(message)) {
    return { at: { start: open, end: open + 1 }, why: `the ${text[open]} that opens here is not closed`, isLast: true }
  }
  const isMissed = (isBeyond && /\s/.test(text[at - 1] ?? '')) || message.startsWith('Missing , ')
  // `{ a: b c: d }`: the text before the second colon is one.
  const before =
    code === 'BLOCK_IN_FLOW' ? /^[^,:{}[\]\n]*\s(?=[\w.-]+:\s)/.exec(text.slice(at, at + 400))?.[0] : undefined
  if (!isMissed && before === undefined) return undefined
  const start = at + (before?.length ?? 0)
  return { at: { start, end: start + 1 }, why: 'a "," is missing before this', isLast: true }
}

/** Finds the innermost `[` or `{` that is open at a place, to be asked of one after the other. */
function createOpenBracket(text: string, brackets: readonly Span[]): (at: number) => number | undefined {
  const open: number[] = []
  let next = 0
  return (at) => {
    for (; next < brackets.length; next += 1) {
      const start = brackets[next]?.start ?? at
      if (start >= at) break
      if (text[start] === '[' || text[start] === '{') open.push(start)
      else if (text[open.at(-1) ?? start] === (text[start] === ']' ? '[' : '{')) open.pop()
      // From one that closes another on, none is sure.
      else next = brackets.length
    }
    return open.at(-1)
  }
}

function isClosed({ start, end }: Span, text: string): boolean {
  const last = end - 1
  if (last === start || text[last] !== text[start]) return false
  // The last quote is one of the text where it is escaped: `"a\"`, or doubled: `'a''`; any before it would have ended it.
  const mark = text[start] === '"' ? '\\' : "'"
  let before = last - 1
  while (before > start && text[before] === mark) before -= 1
  return (last - 1 - before) % 2 === 0
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
  return finding({ start, end }, `${message[0]?.toLowerCase()}${message.slice(1)}`)
}

// In place of words that hold a piece of the file.
const ownWords: ReadonlyMap<string, string> = new Map([
  ['NON_STRING_KEY', 'a key must be plain text'],
  ['BAD_DQ_ESCAPE', 'no such escape in a text in double quotes'],
  ['BAD_DIRECTIVE', 'a line that begins with % must be a directive of YAML'],
])
