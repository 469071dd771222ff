// RFC 8259 and I-JSON (RFC 7493 §2.3): one parser for every body and token from outside. It refuses what two readers
// may read differently (repeated names, lone surrogates, numbers out of range) and what hurts (depth, `__proto__`).

/** A JSON value; objects have no prototype, so no name in them is special. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject
/** A JSON object; null prototype, members in the order of the text. */
export type JsonObject = { readonly [name: string]: Json }

/** Bounds of one document; what goes past one is refused. */
export type JsonLimits = {
  /** Nesting of arrays and objects; 1 is a flat object. */
  readonly maxDepth?: number
  /** Members of all objects and arrays together. */
  readonly maxMembers?: number
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** A document that is not the JSON we accept. The message names the place, never the content. */
export class JsonRefused extends Error {
  override readonly name = 'JsonRefused'
  readonly code = 'ERR_JSON_REFUSED'
}

/**
 * Parses JSON strictly. The caller has bounded its length.
 *
 * @param source UTF-8 bytes or text. A byte order mark is refused (RFC 8259 §8.1).
 * @throws JsonRefused
 */
export function parseJson(source: Uint8Array | string, limits: JsonLimits = {}): Json {
  const text = typeof source === 'string' ? source : decodeUtf8(source)
  const maxDepth = limits.maxDepth ?? 16
  let membersLeft = limits.maxMembers ?? 256
  let at = 0
  skipSpace()
  const value = readValue(0)
  skipSpace()
  if (at !== text.length) refuse('text after the value')
  return value

  function refuse(why: string): never {
    throw new JsonRefused(`Cannot parse JSON: ${why} at offset ${at}`)
  }

  function skipSpace(): void {
    for (;;) {
      const code = text.charCodeAt(at)
      if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return
      at += 1
    }
  }

  function readValue(depth: number): Json {
    switch (text.charCodeAt(at)) {
      case 34:
        return readString()
      case 123:
        return readObject(depth + 1)
      case 91:
        return readArray(depth + 1)
      case 116:
        return readWord('true', true)
      case 102:
        return readWord('false', false)
      case 110:
        return readWord('null', null)
      default:
        return readNumber()
    }
  }

  function readWord<T>(word: string, value: T): T {
    if (!text.startsWith(word, at)) refuse('no value')
    at += word.length
    return value
  }

  function readNumber(): number {
    numberPattern.lastIndex = at
    const match = numberPattern.exec(text)
    if (match === null) refuse('no value')
    const number = Number(match[0])
    if (!Number.isFinite(number)) refuse('a number out of range')
    at = numberPattern.lastIndex
    return number
  }

  function readString(): string {
    const start = at + 1
    let end = start
    for (;;) {
      const code = text.charCodeAt(end)
      if (code === 34) break
      if (code === 92 || !(code >= 32) || (code >= 0xd800 && code <= 0xdfff)) return readEscapedString()
      end += 1
    }
    at = end + 1
    return text.slice(start, end)
  }

  /** The slow way: a string with escapes, surrogates or something forbidden in it; the platform's parser judges the literal. */
  function readEscapedString(): string {
    if (text.charCodeAt(at) !== 34) refuse('no string')
    let end = at + 1
    while (end < text.length && text.charCodeAt(end) !== 34) end += text.charCodeAt(end) === 92 ? 2 : 1
    let string: string
    try {
      string = JSON.parse(text.slice(at, end + 1)) as string // begins with a quote: a string or a SyntaxError
    } catch {
      return refuse('a broken string')
    }
    if (!string.isWellFormed()) refuse('a lone surrogate')
    at = end + 1
    return string
  }

  /** Before what is in it: an empty one is as deep. */
  function enter(depth: number): void {
    if (depth > maxDepth) refuse('nested too deep')
    at += 1
    skipSpace()
  }

  function count(): void {
    membersLeft -= 1
    if (membersLeft < 0) refuse('too many members')
  }

  function readObject(depth: number): JsonObject {
    const object: Record<string, Json> = Object.create(null) as Record<string, Json>
    enter(depth)
    if (text.charCodeAt(at) === 125) {
      at += 1
      return object
    }
    for (;;) {
      count()
      if (text.charCodeAt(at) !== 34) refuse('no member name')
      const name = readString()
      // `__proto__` is refused rather than stored: a copy of this object might not be as careful as we are.
      if (name === '__proto__') refuse('a forbidden member name')
      if (name in object) refuse('a repeated member name')
      skipSpace()
      if (text.charCodeAt(at) !== 58) refuse('no colon')
      at += 1
      skipSpace()
      object[name] = readValue(depth)
      skipSpace()
      const code = text.charCodeAt(at)
      at += 1
      if (code === 125) return object
      if (code !== 44) refuse('no comma')
      skipSpace()
    }
  }

  function readArray(depth: number): Json[] {
    const array: Json[] = []
    enter(depth)
    if (text.charCodeAt(at) === 93) {
      at += 1
      return array
    }
    for (;;) {
      count()
      array.push(readValue(depth))
      skipSpace()
      const code = text.charCodeAt(at)
      at += 1
      if (code === 93) return array
      if (code !== 44) refuse('no comma')
      skipSpace()
    }
  }
}

/** Parses a JSON document that must be an object. Throws JsonRefused. */
export function parseJsonObject(source: Uint8Array | string, limits?: JsonLimits): JsonObject {
  const value = parseJson(source, limits)
  if (!isJsonObject(value)) throw new JsonRefused('Cannot parse JSON: value is not an object')
  return value
}

/** Whether a JSON value is an object, as opposed to an array, a scalar or null. */
export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Whether two values say the same: the order of an object's members says nothing (RFC 8259 §4), that of an array's does,
 * unless none of them is an array or object. Such lists, of groups or roles, are taken for the sets they are made from.
 */
export function sameJson(one: Json | undefined, other: Json | undefined): boolean {
  if (Array.isArray(one) && Array.isArray(other)) {
    if (one.every(isScalar) && other.every(isScalar)) return isSameSet(new Set(one), new Set(other))
    return one.length === other.length && one.every((member, at) => sameJson(member, other[at]))
  }
  if (!isJsonObject(one) || !isJsonObject(other)) return one === other
  const names = Object.keys(one)
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => name in other && sameJson(one[name], other[name]))
  )
}

function isScalar(value: Json): boolean {
  return typeof value !== 'object' || value === null
}

function isSameSet(one: ReadonlySet<Json>, other: ReadonlySet<Json>): boolean {
  return one.size === other.size && [...one].every((member) => other.has(member))
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch (cause) {
    throw new JsonRefused('Cannot parse JSON: bytes are not UTF-8', { cause })
  }
}

const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
