// One JSON object a line, with OpenTelemetry's names where it has one. Everything outside visible ASCII is escaped:
// a line break, an ANSI sequence or a bidirectional override in a value must not draw another line on a terminal.
import { createHmac, createSecretKey } from 'node:crypto'
import { write as fsWrite } from 'node:fs'
import type { Clock } from '../base/time.ts'

/** Takes lines and writes them in batches, without ever making the caller wait. */
export type LineWriter = {
  /** Queues one line of ASCII, its line feed not included; drops and counts it when the buffer is full. */
  readonly line: (text: string) => void
  /** Queues whole lines, their line feeds included, in the same way. */
  readonly lines: (bytes: Buffer) => void
  /** Lines lost so far: to a full buffer or a failed write. */
  readonly dropped: () => number
  /** Resolves when what was queued is written, or after 1 s. */
  readonly flush: () => Promise<void>
}

/** Writes a chunk, which stays as it is until then, and calls back once: with an error when some of it was not written. */
export type WriteChunk = (chunk: Buffer, done: (error?: Error | null) => void) => void

const maxBufferedBytes = 1_048_576
// A write wakes another thread, which costs more than writing the line: so lines travel together, soon enough for people.
const batchMs = 50
const batchBytes = 262_144
const firstPageBytes = 65_536
const flushMs = 1000
const lineFeed = 10
const stdoutRetryMs = 10
const maxValueLength = 512

/**
 * A bounded writer: lines wait up to 50 ms, or until they are 256 KiB, for others to be written with; one write at a time.
 *
 * @param options `maxBufferedBytes`: what may wait, the write under way included; default 1 MiB.
 */
export function createLineWriter(
  options: { readonly maxBufferedBytes?: number },
  { write }: { readonly write: WriteChunk },
): LineWriter {
  const maxBytes = options.maxBufferedBytes ?? maxBufferedBytes
  // Bytes, not text: a text that long is a tree of its pieces, which every collection of young objects would walk through.
  let page: Buffer = Buffer.alloc(0)
  let spare = page
  let used = 0
  let writingBytes = 0
  let timer: NodeJS.Timeout | undefined
  let dropped = 0
  let idle: PromiseWithResolvers<void> | undefined
  return { line, lines, dropped: () => dropped, flush }

  function line(text: string): void {
    const size = text.length + 1
    if (!makeRoom(size)) {
      dropped += 1
      return
    }
    page.write(text, used, 'latin1')
    page[used + size - 1] = lineFeed
    added(size)
  }

  function lines(bytes: Buffer): void {
    if (!makeRoom(bytes.length)) {
      dropped += countLines(bytes)
      return
    }
    bytes.copy(page, used)
    added(bytes.length)
  }

  function makeRoom(size: number): boolean {
    if (writingBytes + used + size > maxBytes) return false
    if (used + size > page.length) page = enlarge(page, used + size)
    return true
  }

  function added(size: number): void {
    used += size
    if (writingBytes > 0) return
    if (used > batchBytes) writeWaiting()
    else timer ??= setTimeout(writeWaiting, batchMs)
  }

  function writeWaiting(): void {
    clearTimeout(timer)
    timer = undefined
    if (writingBytes > 0) return
    if (used === 0) {
      idle?.resolve()
      idle = undefined
      return
    }
    const written = page
    writingBytes = used
    page = spare
    used = 0
    let reported = false
    try {
      write(written.subarray(0, writingBytes), done)
    } catch (error) {
      done(error instanceof Error ? error : new Error('Cannot write log lines'))
    }

    function done(error?: Error | null): void {
      if (reported) return
      reported = true
      if (error) dropped += countLines(written.subarray(0, writingBytes))
      writingBytes = 0
      spare = written
      // Never at once: a write that calls back before it returns would otherwise recurse.
      if (idle === undefined && used <= batchBytes) timer ??= setTimeout(writeWaiting, batchMs)
      else setImmediate(writeWaiting)
    }
  }

  async function flush(): Promise<void> {
    if (used === 0 && writingBytes === 0) return
    idle ??= Promise.withResolvers()
    writeWaiting()
    const late = Promise.withResolvers<void>()
    const patience = setTimeout(late.resolve, flushMs)
    await Promise.race([idle.promise, late.promise])
    clearTimeout(patience)
  }
}

function countLines(bytes: Buffer): number {
  let count = 0
  for (let at = bytes.indexOf(lineFeed); at !== -1; at = bytes.indexOf(lineFeed, at + 1)) count += 1
  return count
}

function enlarge(page: Buffer, wanted: number): Buffer {
  const larger = Buffer.allocUnsafeSlow(Math.max(firstPageBytes, 2 ** Math.ceil(Math.log2(wanted))))
  page.copy(larger)
  return larger
}

/** Writes to an open descriptor, 1 for stdout: the rest after a short write, and again in 10 ms while its pipe is full. */
export function createStdoutWrite(fd: number): WriteChunk {
  return (bytes, done) => {
    rest(0)

    function rest(from: number): void {
      fsWrite(fd, bytes, from, bytes.length - from, null, (error, written) => {
        const full = error?.code === 'EAGAIN' || (error === null && written === 0)
        if (error !== null && !full) return done(error)
        if (full) return void setTimeout(rest, stdoutRetryMs, from).unref() // a pipe nobody reads must not keep us alive
        if (from + written < bytes.length) return rest(from + written)
        done()
      })
    }
  }
}

// More than any line of ours has.
const maxLineBytes = 65_536

/**
 * Makes whole lines of what another process says piece by piece: two that wrote to one pipe would end up within each
 * other's lines. What has no end is lost. A piece is not held on to.
 */
export function createLineReader(lines: LineWriter['lines']): (piece: Buffer) => void {
  let begun: Buffer | undefined
  return (piece) => {
    // The begun line is joined and told alone, so that the many whole ones behind it are not copied.
    const first = begun === undefined ? 0 : piece.indexOf(lineFeed) + 1
    const end = piece.lastIndexOf(lineFeed) + 1
    if (first > 0) lines(join(begun, piece.subarray(0, first)))
    if (end > first) lines(piece.subarray(first, end))
    const rest = join(end === 0 ? begun : undefined, piece.subarray(end))
    begun = rest.length === 0 || rest.length > maxLineBytes ? undefined : rest
  }
}

/** A copy: a piece is not held on to. */
function join(begun: Buffer | undefined, bytes: Buffer): Buffer {
  return begun === undefined ? Buffer.from(bytes) : Buffer.concat([begun, bytes])
}

/** What a log line may hold; undefined members are left out. Never a token, a secret or a claim's value. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>

/** Writes one line per event. */
export type Log = {
  readonly info: (event: string, fields?: LogFields) => void
  readonly warn: (event: string, fields?: LogFields) => void
  readonly error: (event: string, fields?: LogFields) => void
}

const ownNames: readonly string[] = ['timestamp', 'severity_text', 'event.name', 'stream']

/**
 * A log on a writer. Strings longer than 512 characters are cut.
 *
 * @example {"timestamp":"2026-11-21T09:30:00.000Z","severity_text":"INFO","event.name":"jwks_refreshed","stream":"main","keys":2}
 */
export function createLog(
  options: { readonly stream: string },
  { writer, clock }: { readonly writer: Pick<LineWriter, 'line'>; readonly clock: Clock },
): Log {
  const stream = jsonString(options.stream)
  return {
    info: (event, fields) => put('INFO', event, fields),
    warn: (event, fields) => put('WARN', event, fields),
    error: (event, fields) => put('ERROR', event, fields),
  }

  function put(severity: string, event: string, fields: LogFields = {}): void {
    const wallMs = clock.wallMs()
    let text = `${secondOf(wallMs)}${digits[millisecondsOf(wallMs)]}Z","severity_text":"${severity}"`
    text += `,"event.name":${jsonString(event)},"stream":${stream}`
    for (const [name, value] of Object.entries(fields)) {
      // A second member of the same name would let readers disagree on what the line says.
      if (value === undefined || ownNames.includes(name)) continue
      text += `,${jsonString(name)}:${typeof value === 'string' ? jsonString(value) : JSON.stringify(value)}`
    }
    writer.line(`${text}}`)
  }
}

/** What is told about one request; undefined is written as null, so that every line has the same members. */
export type AccessFields = {
  /** When the request began, milliseconds since 1970. */
  readonly timeMs: number
  readonly method: string
  /** Canonical, without the query. */
  readonly path: string
  readonly status: number
  readonly decision: 'allow' | 'deny'
  readonly reason: string
  /** The id of the rule that matched. */
  readonly rule: string | undefined
  /** The configured issuer, never one as received. */
  readonly issuer: string | undefined
  /** From `createFingerprint()`. */
  readonly fingerprint: string | undefined
  readonly clientAddress: string | undefined
  readonly durationUs: number
  /** The id of the request is `run-count`; `run` is the same for all requests of a process. */
  readonly run: string
  readonly count: number
}

/**
 * The access line of one request, without its line feed.
 *
 * @example {"timestamp":"2026-11-21T09:30:00.000Z","severity_text":"INFO","event.name":"request","http.request.method":"GET","url.path":"/orders/1","http.response.status_code":200,"decision":"allow","reason":"ok","rule":"read-orders","issuer":"https://login.example.com","token_fingerprint":"9f86d081884c7d65","client.address":"10.0.0.7","duration_us":182,"request_id":"5f1c9a02-1"}
 */
export function formatAccessLine(fields: AccessFields): string {
  const { timeMs, method, path, rule, fingerprint, clientAddress, durationUs, run, count } = fields
  const { before, behind } = outcomeOf(fields)
  // Of few pieces, which are put together once more when they are written.
  return (
    `${secondOf(timeMs)}${digits[millisecondsOf(timeMs)]}${memberOf(methods, method, beforeMethod, beforePath)}` +
    `${escaped(path)}${before}${jsonString(rule)}${behind}${jsonString(fingerprint)}` +
    `${memberOf(clients, clientAddress, beforeClient, beforeDuration)}${Math.round(durationUs)}` +
    `${idOf(run, Math.floor(count / 1000))}${count < 1000 ? count : digits[count % 1000]}"}`
  )
}

const beforeMethod = 'Z","severity_text":"INFO","event.name":"request","http.request.method":'
const beforePath = ',"url.path":"'
const beforeClient = ',"client.address":'
const beforeDuration = ',"duration_us":'

/** What has few values comes again: it is looked up, with what stands around it, and not looked through. */
type Known = Map<string | undefined, string>
/** What stands around the rule, for one reason. */
type Outcome = Pick<AccessFields, 'status' | 'decision' | 'issuer'> & {
  readonly before: string
  readonly behind: string
}

const methods: Known = new Map()
const clients: Known = new Map()
const outcomes = new Map<string, Outcome[]>()
const maxKnown = 1000
const maxOutcomes = 32

function memberOf(known: Known, value: string | undefined, before: string, behind: string): string {
  const found = known.get(value)
  if (found !== undefined) return found
  const text = `${before}${jsonString(value)}${behind}`
  if (known.size >= maxKnown) known.clear()
  if ((value ?? '').length <= maxValueLength) known.set(value, text)
  return text
}

// Requests are counted: all but the last three digits stay the same for a while.
let knownId = { run: '', thousands: 0, text: idText('', 0) }

function idOf(run: string, thousands: number): string {
  if (run !== knownId.run || thousands !== knownId.thousands) knownId = { run, thousands, text: idText(run, thousands) }
  return knownId.text
}

function idText(run: string, thousands: number): string {
  return `,"request_id":"${escaped(run)}-${thousands === 0 ? '' : thousands}`
}

function outcomeOf({ status, decision, reason, issuer }: AccessFields): Outcome {
  let known = outcomes.get(reason)
  if (known === undefined) {
    if (outcomes.size >= maxKnown) outcomes.clear()
    known = []
    outcomes.set(reason, known)
  }
  for (const each of known)
    if (each.status === status && each.decision === decision && each.issuer === issuer) return each
  const before = `","http.response.status_code":${status},"decision":"${decision}","reason":${jsonString(reason)},"rule":`
  const made = { status, decision, issuer, before, behind: `,"issuer":${jsonString(issuer)},"token_fingerprint":` }
  if (known.length >= maxOutcomes) known.length = 0
  known.push(made)
  return made
}

/**
 * Makes the one form in which a token may stand in a log: 8 bytes of HMAC-SHA256 (RFC 2104), 16 hexadecimal digits.
 *
 * @param key At least 16 bytes; lines can be compared for as long as it stays the same.
 * @throws RangeError when the key is shorter: with a guessed key, tokens could be tried against the log.
 */
export function createFingerprint(key: Buffer): (token: string) => string {
  if (key.length < 16) throw new RangeError(`Cannot use the key: it has ${key.length} bytes, wanted at least 16`)
  const secret = createSecretKey(key)
  return (token) => createHmac('sha256', secret).update(token).digest('hex').slice(0, 16)
}

// What a number below a thousand is written as with three digits.
const digits: readonly string[] = Array.from({ length: 1000 }, (_, number) => String(number).padStart(3, '0'))

// The last second written: making it anew costs as much as the rest of an access line.
let knownSecond = { second: Number.NaN, text: '' }

/** The beginning of a line: a time in UTC (RFC 3339), as far as its milliseconds. */
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

function jsonString(text: string | undefined): string {
  return text === undefined ? 'null' : `"${escaped(text)}"`
}

/** What stands between the quotes of a JSON string. */
function escaped(text: string): string {
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
