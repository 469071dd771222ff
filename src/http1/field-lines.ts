// RFC 9110 §5 and RFC 9112 §5, read strictly: what two readers could take for two things is refused.
import { copyOf } from '../base/copy-of.ts'
import { fieldName } from '../base/field-name.ts'
import type { FieldLimits } from './limits.ts'
import { arePlain } from './plain-bytes.ts'

/** Why field lines are not taken. */
export type FieldProblem = 'malformed' | 'too_large'

// Visible characters, spaces and tabs, and obs-text (§5.5); one character stands for one byte.
const outsideValue = /[^\t -~\x80-\xff]/
// No more digits than numbers hold exactly, and one spelling: whatever reads on behind us must count the same bytes.
const contentLength = /^(?:0|[1-9]\d{0,14})$/
const maxKnownNames = 1000
const maxKnownLength = 64

/** A name that was read before. */
type KnownName = {
  readonly own: string
  readonly lower: string
  readonly mayBeRemembered: boolean
  readonly after: Guess
}
/** A line that was read before, its CR LF included. */
type KnownLine = { readonly written: string; readonly name: string; readonly value: string; readonly known: KnownName }
/** The line that is likely next, or at least the name, since it was last time. */
type Guess = { line: KnownLine | undefined; name: KnownName | undefined; misses: number }

/** What the lines are of: each kind of message has names and an order of its own. */
export type LinesOf = 'request' | 'response' | 'trailers'
// Names are few and come again: finding one, with its lower-case form, is cheaper than reading it. Names, and whole lines,
// come again behind the same names: comparing one is cheaper than finding its parts.
type Memory = { readonly names: Map<string, KnownName>; readonly first: Guess }
const memories: Readonly<Record<LinesOf, Memory>> = {
  request: { names: new Map(), first: createGuess() },
  response: { names: new Map(), first: createGuess() },
  trailers: { names: new Map(), first: createGuess() },
}
// Of lines, only such as hold no secret and say little of who is behind a request. In lower case, and as they are usually
// written.
const repeatedNames: ReadonlySet<string> = new Set(
  [
    'accept',
    'accept-encoding',
    'accept-language',
    'accept-ranges',
    'cache-control',
    'connection',
    'content-encoding',
    'content-length',
    'content-type',
    'date',
    'host',
    'keep-alive',
    'pragma',
    'server',
    'strict-transport-security',
    'te',
    'transfer-encoding',
    'user-agent',
    'vary',
    'x-content-type-options',
    'x-forwarded-host',
    'x-forwarded-proto',
  ].flatMap((name) => [name, name.replace(/(?<=^|-)[a-z]/g, (first) => first.toUpperCase())]),
)
const maxRepeatedLength = 256
// Clients that take turns do not make us forget each other's lines all the time.
const maxMisses = 3
// From here on it pays to look at the bytes instead of the text.
const longValue = 64
const maxPlaces = 64

/**
 * Reads field lines into a list.
 *
 * @param text Latin-1, one character a byte.
 * @param at Where the first line begins.
 * @param end Where the empty line begins: every line before it, the last too, ends in CR LF.
 * @param into Receives names and values alternating, as sent, without the white space around a value.
 * @param names Receives the names, lower-case.
 * @param bytes What the text was made of, if at hand; the text begins there at `shift`.
 * @returns What is wrong; undefined when all is well. No line is folded, and no space stands before a colon.
 */
export function readFieldLines(
  of: LinesOf,
  text: string,
  at: number,
  end: number,
  limits: FieldLimits,
  into: string[],
  names: string[],
  bytes?: Buffer,
  shift = 0,
): FieldProblem | undefined {
  if (end - at > limits.bytes) return 'too_large'
  let begin = at
  const memory = memories[of]
  let guess = memory.first
  while (begin < end) {
    const likely = guess.line
    if (likely !== undefined && likely.written.length <= limits.one && stands(likely.written, text, begin)) {
      into.push(likely.name, likely.value)
      names.push(likely.known.lower)
      begin += likely.written.length
      guess.misses = 0
      guess = likely.known.after
      continue
    }
    const lineEnd = text.indexOf('\r\n', begin)
    if (lineEnd === -1) return 'malformed'
    let known = guess.name
    let colon = begin + (known?.own.length ?? 0)
    if (known === undefined || text.charCodeAt(colon) !== 58 || !stands(known.own, text, begin)) {
      colon = text.indexOf(':', begin)
      if (colon === -1 || colon > lineEnd) return 'malformed'
      const name = text.slice(begin, colon)
      known = memory.names.get(name) ?? learnName(name, memory)
      if (known === undefined) return 'malformed'
      if (name.length <= maxKnownLength) guess.name = known
    }
    let from = colon + 1
    let to = lineEnd
    while (from < to && isSpace(text.charCodeAt(from))) from += 1
    while (to > from && isSpace(text.charCodeAt(to - 1))) to -= 1
    const value = text.slice(from, to)
    const isPlain = bytes !== undefined && to - from >= longValue && arePlain(bytes, shift + from, shift + to)
    if (!isPlain && !isFieldValue(value)) return 'malformed'
    if (known.own.length + value.length > limits.one) return 'too_large'
    into.push(known.own, value)
    names.push(known.lower)
    if (known.mayBeRemembered && lineEnd - begin < maxRepeatedLength)
      learnLine(guess, text.slice(begin, lineEnd + 2), value, known)
    guess = known.after
    begin = lineEnd + 2
  }
  return into.length > limits.count * 2 ? 'too_large' : undefined
}

function learnLine(guess: Guess, written: string, value: string, known: KnownName): void {
  guess.misses += 1
  if (guess.line !== undefined && guess.misses <= maxMisses) return
  guess.line = { written: copyOf(written), name: known.own, value: internOf(value), known }
  guess.misses = 0
}

/** Whether a text stands there. Cut out and compared it takes half the time of `startsWith`, which goes letter by letter. */
export function stands(wanted: string, text: string, at: number): boolean {
  return text.slice(at, at + wanted.length) === wanted
}

/** Whether lines of these names, lower-case, may be remembered. */
export function mayBeRemembered(names: readonly string[]): boolean {
  for (const name of names) if (!repeatedNames.has(name)) return false
  return true
}

/**
 * Whether the beginning of a head can never become a whole one, so that nobody need wait for the rest: a bare CR or LF,
 * or a control character.
 */
export function isHopeless(text: string): boolean {
  return /[^\t\r\n -~\x80-\xff]|^\n|[^\r]\n|\r[^\n]/.test(text)
}

/** A line that was written before, its CR LF included. */
type WrittenLine = { readonly name: string; readonly value: string; readonly text: string; misses: number }

/** Makes texts of field lines. */
export type LineFormatter = {
  /** @param lines Names and values alternating. */
  readonly format: (lines: readonly string[]) => string
  /** Whether this very list was the last of which all is remembered: a frozen one, which may come again. */
  readonly isKnown: (lines: readonly string[]) => boolean
}

/**
 * Makes a formatter that remembers what stood in each place last, as far as lines may be remembered: one text that is
 * there already joins a head faster than the four it is made of.
 */
export function createLineFormatter(): LineFormatter {
  const places: (WrittenLine | undefined)[] = new Array(maxPlaces).fill(undefined)
  let last: { readonly lines: readonly string[]; readonly text: string } = { lines: [], text: '' }
  return { format, isKnown: (lines) => lines === last.lines }

  function format(lines: readonly string[]): string {
    if (lines === last.lines) return last.text
    let text = ''
    let areKnown = true
    // Where frozen lists have been read, the engine looks every other list up as if it had never seen one.
    const list = lines.slice()
    for (let at = 0; at + 1 < list.length; at += 2) {
      const name = list[at] ?? ''
      const value = list[at + 1] ?? ''
      const place = places[at >> 1]
      if (place !== undefined && place.name === name && place.value === value) {
        text += place.text
        place.misses = 0
      } else {
        // Joined like this the engine knows that these are texts; in a template it makes sure of each.
        text += name
        text += ': '
        text += value
        text += '\r\n'
        areKnown = false
        if (repeatedNames.has(name) && name.length + value.length < maxRepeatedLength) learnPlace(at >> 1, name, value)
      }
    }
    // Others are slices of what they came with, which may hold a secret, and do not come again.
    if (areKnown && Object.isFrozen(lines)) last = { lines, text }
    return text
  }

  function learnPlace(at: number, name: string, value: string): void {
    if (at >= maxPlaces) return
    const place = places[at]
    if (place !== undefined) {
      place.misses += 1
      if (place.misses <= maxMisses) return
    }
    places[at] = { name: internOf(name), value: internOf(value), text: copyOf(`${name}: ${value}\r\n`), misses: 0 }
  }
}

/** The members of a list (RFC 9110 §5.6.1), lower-case, empty ones left out. */
export function readList(value: string): readonly string[] {
  const known = knownLists.get(value)
  if (known !== undefined) return known
  return value
    .toLowerCase()
    .split(',')
    .map((member) => member.trim())
    .filter((member) => member !== '')
}

// What nearly every Connection line says.
const knownLists: ReadonlyMap<string, readonly string[]> = new Map([
  ['keep-alive', ['keep-alive']],
  ['Keep-Alive', ['keep-alive']],
  ['close', ['close']],
])

/** Guesses too: what one name leads to would live on through the others. */
function forget({ names, first }: Memory): void {
  for (const { after } of names.values()) Object.assign(after, createGuess())
  names.clear()
  Object.assign(first, createGuess())
}

function createGuess(): Guess {
  return { line: undefined, name: undefined, misses: 0 }
}

/** The name of a field in lower case (§5.1), or undefined where it is none. */
export function readName(name: string): string | undefined {
  return (memories.request.names.get(name) ?? learnName(name, memories.request))?.lower
}

/** Copied, too, and the one text of its kind: comparing it with another such text is comparing two addresses. */
function internOf(text: string): string {
  return Object.keys({ [copyOf(text)]: 0 })[0] ?? ''
}

function learnName(name: string, memory: Memory): KnownName | undefined {
  const { names } = memory
  if (!fieldName.test(name)) return undefined
  if (name.length > maxKnownLength) return nameOf(name, name.toLowerCase())
  // Whoever sends a thousand names makes us forget, not grow.
  if (names.size >= maxKnownNames) forget(memory)
  const own = internOf(name)
  const known = nameOf(own, internOf(own.toLowerCase()))
  names.set(own, known)
  return known
}

function nameOf(own: string, lower: string): KnownName {
  return { own, lower, mayBeRemembered: repeatedNames.has(lower), after: createGuess() }
}

/** Whether a field may have this value: nothing that ends a line, and no control character. */
export function isFieldValue(value: string): boolean {
  return !outsideValue.test(value)
}

function isSpace(code: number): boolean {
  return code === 32 || code === 9
}

/** Whether a value is a `Content-Length` we take (RFC 9110 §8.6). */
export function isContentLength(value: string): boolean {
  return contentLength.test(value)
}

// The type read last, which is nearly always the next one, too.
let lastContentType = ''
let lastMediaType = ''

/** The media type of a `Content-Type` (RFC 9110 §8.3), lower-case, without parameters. */
export function readMediaType(value: string): string {
  if (value === lastContentType) return lastMediaType
  lastContentType = copyOf(value)
  lastMediaType = lastContentType.split(';', 1)[0]?.trim().toLowerCase() ?? ''
  return lastMediaType
}

/** The media type that lines name, names and values alternating; empty where there is none. */
export function mediaTypeOf(lines: readonly string[]): string {
  for (let at = 0; at + 1 < lines.length; at += 2)
    if (lines[at]?.length === 12 && lines[at]?.toLowerCase() === 'content-type')
      return readMediaType(lines[at + 1] ?? '')
  return ''
}

/** Lines, names and values alternating, without the length of a body that does not follow. */
export function withoutLength(lines: readonly string[]): readonly string[] {
  return lines.filter((_, at) => lines[at - (at % 2)]?.toLowerCase() !== 'content-length')
}
