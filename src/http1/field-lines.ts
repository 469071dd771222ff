// RFC 9110 §5 and RFC 9112 §5, read strictly: what two readers could take for two things is refused.
import type { FieldLimits } from './limits.ts'

/** Why field lines are not taken. */
export type FieldProblem = 'malformed' | 'too_large'

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
// Visible characters, spaces and tabs, and obs-text (§5.5); one character stands for one byte.
const outsideValue = /[^\t -~\x80-\xff]/
const maxKnownNames = 1000
const maxKnownLength = 64
// Names are few and come again: finding one, with its lower-case form, is cheaper than reading it.
const knownNames = new Map<string, string>()

/**
 * Reads field lines into a list.
 *
 * @param text Latin-1, one character a byte.
 * @param at Where the first line begins.
 * @param end Where the empty line begins: every line before it, the last too, ends in CR LF.
 * @param into Receives names and values alternating, as sent, without the white space around a value.
 * @param names Receives the names, lower-case.
 * @returns What is wrong; undefined when all is well. No line is folded, and no space stands before a colon.
 */
export function readFieldLines(
  text: string,
  at: number,
  end: number,
  limits: FieldLimits,
  into: string[],
  names: string[],
): FieldProblem | undefined {
  if (end - at > limits.bytes) return 'too_large'
  let begin = at
  while (begin < end) {
    const lineEnd = text.indexOf('\r\n', begin)
    const colon = text.indexOf(':', begin)
    if (colon === -1 || lineEnd === -1 || colon > lineEnd) return 'malformed'
    const name = text.slice(begin, colon)
    const lower = knownNames.get(name) ?? readName(name)
    if (lower === undefined) return 'malformed'
    let from = colon + 1
    let to = lineEnd
    while (from < to && isSpace(text.charCodeAt(from))) from += 1
    while (to > from && isSpace(text.charCodeAt(to - 1))) to -= 1
    const value = text.slice(from, to)
    if (!isFieldValue(value)) return 'malformed'
    if (name.length + value.length > limits.one) return 'too_large'
    into.push(name, value)
    names.push(lower)
    begin = lineEnd + 2
  }
  return into.length > limits.count * 2 ? 'too_large' : undefined
}

/**
 * Whether the beginning of a head can never become a whole one, so that nobody need wait for the rest: a bare CR or LF,
 * or a control character.
 */
export function isHopeless(text: string): boolean {
  return /[^\t\r\n -~\x80-\xff]|^\n|[^\r]\n|\r[^\n]/.test(text)
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

/** The name of a field in lower case (§5.1), or undefined where it is none. */
export function readName(name: string): string | undefined {
  if (!token.test(name)) return undefined
  const lower = name.toLowerCase()
  if (name.length > maxKnownLength) return lower
  // Whoever sends a thousand names makes us forget, not grow.
  if (knownNames.size >= maxKnownNames) knownNames.clear()
  // Copied: a slice would keep the whole head it was cut from.
  const own = Buffer.from(name, 'latin1').toString('latin1')
  knownNames.set(own, own.toLowerCase())
  return lower
}

/** Whether a field may have this value: nothing that ends a line, and no control character. */
export function isFieldValue(value: string): boolean {
  return !outsideValue.test(value)
}

function isSpace(code: number): boolean {
  return code === 32 || code === 9
}
