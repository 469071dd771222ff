import { styleText } from 'node:util'

/** A place in a configuration file, as an editor counts: lines and columns (UTF-16 units) from 1. */
export type Place = {
  readonly file: string
  readonly line: number
  readonly column: number
  /** The source line, at most its first 400 characters; what may be a secret is overwritten with `*`, and of what is no configuration nothing is there. */
  readonly excerpt: string
  /** How many characters of the line are meant, at least 1. */
  readonly caretLength: number
}

/** One thing wrong with a configuration file, and where. */
export type Problem = Place & {
  /** Dotted, such as `issuers.0.audience`; empty for the document as a whole and for YAML that does not parse. */
  readonly path: string
  /** A sentence such as `Cannot read drain.delay: expected a duration like 30s, got "soon"`; never holds a secret. */
  readonly message: string
}

/** Steps from the root of a document to one value in it. */
export type Path = readonly (string | number)[]

/** What somebody found wrong at a path, before it is known where that is in the file. */
export type Finding = {
  readonly path: Path
  /** Which part the caret goes under: the key, the value, or this stretch of the text. */
  readonly at: 'key' | 'value' | { readonly start: number; readonly end: number }
  /** What stands there is also here, before; its line ends the message. */
  readonly first?: { readonly start: number; readonly end: number }
  readonly message: string
}

/**
 * How many problems of one file are told, then only that there are more: nobody reads them, and each costs time in which
 * a reload answers no probe.
 */
export const maxProblems = 200

/** Formats a path for people: `issuers.0.audience`. */
export function formatPath(path: Path): string {
  return path.join('.')
}

/** Replaces, one for one, every character but the tab that could drive a terminal, break the line or turn its direction. */
export function printable(text: string): string {
  return text.replaceAll(unprintable, '\ufffd')
}

/**
 * Formats a problem as a compiler would: `file:line:column: message`, the source line with its number, and a caret under
 * the place. Without an excerpt, or with a place beyond it, only the first line.
 */
export function formatProblem(problem: Problem, options: { readonly color: boolean }): string {
  const { file, line, column, message, excerpt } = problem
  const paint = (style: 'bold' | 'dim' | 'red', text: string) =>
    options.color ? styleText(style, text, { validateStream: false }) : text
  const head = `${paint('bold', `${file}:${line}:${column}:`)} ${message}`
  if (excerpt.trim() === '' || column > excerpt.length + 1) return head
  const number = String(line).padStart(5)
  // Tabs stay tabs, so that the caret stands right however wide the terminal draws them.
  const indent = excerpt.slice(0, column - 1).replaceAll(/[^\t]/g, ' ')
  const caret = '^'.repeat(Math.max(1, Math.min(problem.caretLength, excerpt.length - column + 1)))
  return [
    head,
    `${paint('dim', `${number} |`)} ${excerpt}`,
    `${paint('dim', `${' '.repeat(number.length)} |`)} ${indent}${paint('red', caret)}`,
  ].join('\n')
}

/** Formats a problem for a log: `file:line:column: message`. */
export function formatProblemLine({ file, line, column, message }: Problem): string {
  return `${file}:${line}:${column}: ${message}`
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not come through.
const unprintable = /[\0-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g
