// The text of a log line. Everything outside visible ASCII is escaped: a line break, an ANSI sequence or a bidirectional
// override in a value must not draw another line on a terminal.

/** What of a value stands in a line, in UTF-16 code units. */
export const maxValueLength = 512

/** What a number below a thousand is written as with three digits. */
export const digits: readonly string[] = Array.from({ length: 1000 }, (_, number) => String(number).padStart(3, '0'))

// The last second written: making it anew costs as much as the rest of an access line.
let knownSecond = { second: Number.NaN, text: '' }

/** The beginning of a line: a time in UTC (RFC 3339), as far as its milliseconds; its `Z` and the quote are to follow. */
export function timestamp(wallMs: number): string {
  return `${secondOf(wallMs)}${digits[millisecondsOf(wallMs)]}`
}

function secondOf(wallMs: number): string {
  const second = Math.floor(wallMs / 1000)
  if (second !== knownSecond.second)
    knownSecond = { second, text: `{"timestamp":"${new Date(second * 1000).toISOString().slice(0, 20)}` }
  return knownSecond.text
}

function millisecondsOf(wallMs: number): number {
  return Math.floor(wallMs - Math.floor(wallMs / 1000) * 1000)
}

const special = /[^ !#-[\]-~]/g

/** A text as JSON has it, quotes included, cut after 512 characters; `null` where there is none. */
export function jsonString(text: string | undefined): string {
  return text === undefined ? 'null' : `"${escaped(text)}"`
}

/** What stands between the quotes of a JSON string, cut after 512 characters. */
export function escaped(text: string): string {
  if (text.length <= maxValueLength && isPlain(text)) return text
  const kept = text.length <= maxValueLength ? text : `${text.slice(0, maxValueLength - 1)}…`
  return kept.replace(special, escapeUnit)
}

/** Whether it stands in JSON as it is. Such texts are short: an expression takes longer to begin than this to end. */
function isPlain(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c) return false
  }
  return true
}

function escapeUnit(unit: string): string {
  if (unit === '"' || unit === '\\') return `\\${unit}`
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}
