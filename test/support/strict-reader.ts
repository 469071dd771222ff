// HTTP/1.1 (RFC 9112) by its strict grammar, written for tests and independent of src/http1: whatever a test sends, or
// finds on a wire, is judged by this. Text is latin1: one character per byte.

/** A field line, the value without the white space around it. */
export type Line = readonly [name: string, value: string]

/** A request or response as far as its head goes. */
export type Head = {
  /** Of a request. */
  readonly method: string
  readonly target: string
  /** Of a response; 0 in a request. */
  readonly status: number
  readonly version: '1.0' | '1.1'
  readonly lines: readonly Line[]
  /** Bytes from the first of the start line to the last of the empty line. */
  readonly headBytes: number
}

/** A whole message. */
export type Message = Head & {
  readonly kind: 'message'
  readonly framing: 'none' | 'length' | 'chunked' | 'close'
  readonly body: string
  readonly trailers: readonly Line[]
  readonly trailerBytes: number
  /** Of all chunks the longest extension, its `;` included. */
  readonly extensionBytes: number
  /** Whether a chunk extension is none by its grammar, or has white space where nothing that is meant well puts any. */
  readonly hasOddExtension: boolean
  /** Where the next message begins. */
  readonly end: number
}

/** The text ends before the message does; the head is there once it was whole. */
export type Unfinished = { readonly kind: 'unfinished'; readonly head: Head | undefined }

/** The text is not HTTP by the strict grammar; the head is there where the body is what broke. */
export type Broken = { readonly kind: 'broken'; readonly why: string; readonly head: Head | undefined }

export type Reading = Message | Unfinished | Broken

const tchar = "[!#$%&'*+.^_`|~0-9A-Za-z-]"
const requestLine = new RegExp(`^(${tchar}+) ([!-~\\x80-\\xff]+) HTTP/(1\\.[01])$`)
const statusLine = /^HTTP\/(1\.[01]) ([1-5]\d{2}) [\t -~\x80-\xff]*$/
const fieldLine = new RegExp(`^(${tchar}+):[\\t ]*([\\t -~\\x80-\\xff]*)$`)
const length = /^(?:0|[1-9]\d{0,15})$/
// RFC 9112 §7.1.1 without its "bad white space".
const extension = `;${tchar}+(?:=(?:${tchar}+|"(?:[\\t !#-\\[\\]-~\\x80-\\xff]|\\\\[\\t -~\\x80-\\xff])*"))?`
const plainExtensions = new RegExp(`^(?:${extension})*$`)
// Whatever an extension says, it says it on one line.
// No more digits than the gateway takes (`limits.test.ts`): more would be no other size.
const chunkLine = /^([0-9A-Fa-f]{1,12})((?:[\t ]*;[\t -~\x80-\xff]*)?)$/

/** Values of a name, any case. */
export function valuesOf({ lines }: Pick<Head, 'lines'>, name: string): readonly string[] {
  return lines.filter(([each]) => each.length === name.length && each.toLowerCase() === name).map(([, value]) => value)
}

/** Reads one request that begins at a place in the text, without an empty line before it. */
export function readRequest(text: string, at: number): Reading {
  const found = readHead(text, at)
  if (found.kind !== 'head') return found
  const [, method = '', target = '', version] = requestLine.exec(found.start) ?? []
  if (version === undefined) return broken('the request line')
  const { lines, headBytes } = found
  const head: Head = { method, target, status: 0, version: version === '1.0' ? '1.0' : '1.1', lines, headBytes }
  const framing = framingOf(head)
  if (framing === undefined) return broken('the framing', head)
  return readBody(text, at + headBytes, head, framing === 'close' ? 'none' : framing)
}

/**
 * Reads one response that begins at a place in the text. A 1xx is a response without a body.
 *
 * @param method Of the request it answers.
 * @param ended Whether the text is all there will be.
 */
export function readResponse(text: string, at: number, method: string, ended: boolean): Reading {
  const found = readHead(text, at)
  if (found.kind !== 'head') return found
  const [, version, status] = statusLine.exec(found.start) ?? []
  if (version === undefined) return broken('the status line')
  const { lines, headBytes } = found
  const head: Head = {
    method: '',
    target: '',
    status: Number(status),
    version: version === '1.0' ? '1.0' : '1.1',
    lines,
    headBytes,
  }
  const framing = framingOf(head)
  if (framing === undefined) return broken('the framing', head)
  const bodiless = method === 'HEAD' || head.status < 200 || head.status === 204 || head.status === 304
  const from = at + headBytes
  if (bodiless) return readBody(text, from, head, 'none')
  if (framing !== 'close') return readBody(text, from, head, framing)
  if (!ended) return { kind: 'unfinished', head }
  return whole(head, 'close', text.slice(from), text.length)
}

function broken(why: string, head?: Head): Broken {
  return { kind: 'broken', why, head }
}

function whole(head: Head, framing: Message['framing'], body: string, end: number): Message {
  return {
    kind: 'message',
    ...head,
    framing,
    body,
    trailers: [],
    trailerBytes: 0,
    extensionBytes: 0,
    hasOddExtension: false,
    end,
  }
}

type FoundHead = { readonly kind: 'head'; readonly start: string; readonly lines: Line[]; readonly headBytes: number }

function readHead(text: string, at: number): FoundHead | Unfinished | Broken {
  const end = text.indexOf('\r\n\r\n', at)
  if (end === -1) return { kind: 'unfinished', head: undefined }
  const [start = '', ...rest] = text.slice(at, end).split('\r\n')
  const lines = readLines(rest)
  if (lines === undefined) return broken('a field line')
  return { kind: 'head', start, lines, headBytes: end + 4 - at }
}

function readLines(texts: readonly string[]): Line[] | undefined {
  const lines: Line[] = []
  for (const text of texts) {
    const match = fieldLine.exec(text)
    if (match === null) return undefined
    const [, name = '', value = ''] = match
    lines.push([name, value.replace(/[\t ]+$/, '')])
  }
  return lines
}

/** How the end of the body is told: undefined where it is told in two ways, or in none that everybody knows. */
function framingOf(head: Head): 'none' | 'length' | 'chunked' | 'close' | undefined {
  const codings = valuesOf(head, 'transfer-encoding')
  const lengths = valuesOf(head, 'content-length')
  if (codings.length > 0) {
    const plain = codings.length === 1 && codings[0]?.toLowerCase() === 'chunked'
    return plain && lengths.length === 0 && head.version === '1.1' ? 'chunked' : undefined
  }
  if (lengths.length === 0) return 'close'
  return lengths.length === 1 && length.test(lengths[0] ?? '') ? 'length' : undefined
}

function readBody(text: string, from: number, head: Head, framing: 'none' | 'length' | 'chunked'): Reading {
  if (framing === 'none') return whole(head, framing, '', from)
  if (framing === 'chunked') return readChunks(text, from, head)
  const end = from + Number(valuesOf(head, 'content-length')[0])
  if (text.length < end) return { kind: 'unfinished', head }
  return whole(head, framing, text.slice(from, end), end)
}

function readChunks(text: string, from: number, head: Head): Reading {
  let body = ''
  let extensionBytes = 0
  let hasOddExtension = false
  for (let at = from; ; ) {
    const lineEnd = text.indexOf('\r\n', at)
    if (lineEnd === -1) return { kind: 'unfinished', head }
    const match = chunkLine.exec(text.slice(at, lineEnd))
    if (match === null) return broken('a chunk line', head)
    const [, hex = '', extension = ''] = match
    extensionBytes = Math.max(extensionBytes, extension.length)
    hasOddExtension ||= !plainExtensions.test(extension)
    const size = Number.parseInt(hex, 16)
    const data = lineEnd + 2
    if (size === 0) return readTrailers(text, data, head, { body, extensionBytes, hasOddExtension })
    if (size > Number.MAX_SAFE_INTEGER) return broken('a chunk size', head)
    const end = data + size
    if (text.length < end + 2)
      return text.length > end && text[end] !== '\r' ? broken('the end of a chunk', head) : { kind: 'unfinished', head }
    if (text[end] !== '\r' || text[end + 1] !== '\n') return broken('the end of a chunk', head)
    body += text.slice(data, end)
    at = end + 2
  }
}

function readTrailers(
  text: string,
  from: number,
  head: Head,
  read: { readonly body: string; readonly extensionBytes: number; readonly hasOddExtension: boolean },
): Reading {
  if (text.startsWith('\r\n', from)) return { ...whole(head, 'chunked', read.body, from + 2), ...read }
  const end = text.indexOf('\r\n\r\n', from)
  if (end === -1) return { kind: 'unfinished', head }
  const trailers = readLines(text.slice(from, end).split('\r\n'))
  if (trailers === undefined) return broken('a trailer line', head)
  return { ...whole(head, 'chunked', read.body, end + 4), ...read, trailers, trailerBytes: end + 4 - from }
}
