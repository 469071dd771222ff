// One JSON object a line, with OpenTelemetry's names where it has one.
import { createHmac, createSecretKey } from 'node:crypto'
import { write as fsWrite } from 'node:fs'
import type { Clock } from '../base/time.ts'
import { jsonString, timestamp } from './log-text.ts'

/** Takes lines and writes them in batches, without ever making the caller wait. */
export type LineWriter = {
  /** Queues one line of ASCII, its line feed not included; drops and counts it when the buffer is full. */
  readonly line: (text: string) => void
  /** Queues whole lines, their line feeds included, in the same way. */
  readonly lines: (bytes: Buffer) => void
  /** Lines lost so far: to a full buffer or a failed write, of which a part may have been written. */
  readonly dropped: () => number
  /** Resolves when what was queued is written, or after 1 s. */
  readonly flush: () => Promise<void>
}

/**
 * Writes a chunk, which stays as it is until then, and calls back once: with an error when some of it was not written,
 * and how many of its bytes were; without the number, none.
 */
export type WriteChunk = (chunk: Buffer, done: (error?: Error | null, writtenBytes?: number) => void) => void

const maxBufferedBytes = 1_048_576
// A write wakes another thread, which costs more than writing the line: so lines travel together, soon enough for people.
const batchMs = 50
const batchBytes = 262_144
const firstPageBytes = 65_536
const flushMs = 1000
const lineFeed = 10
const retryMs = 10

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
  // Whether what was written ends within a line, which the next one must not go on with: a disk that was full.
  let isTorn = false
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
    const firstLine = isTorn ? 1 : 0
    if (isTorn) insertLineFeed()
    const written = page
    const chunk = written.subarray(0, used)
    writingBytes = used
    page = spare
    used = 0
    let reported = false
    try {
      write(chunk, done)
    } catch (error) {
      done(error instanceof Error ? error : new Error('Cannot write log lines'))
    }

    function done(error?: Error | null, writtenBytes = 0): void {
      if (reported) return
      reported = true
      if (!error) isTorn = false
      else lost(chunk, firstLine, writtenBytes)
      writingBytes = 0
      spare = written
      // Never at once: a write that calls back before it returns would otherwise recurse.
      if (idle === undefined && used <= batchBytes) timer ??= setTimeout(writeWaiting, batchMs)
      else setImmediate(writeWaiting)
    }
  }

  /** Beyond the bound, if need be: by one byte. */
  function insertLineFeed(): void {
    if (used === page.length) page = enlarge(page, used + 1)
    page.copyWithin(1, 0, used)
    page[0] = lineFeed
    used += 1
  }

  /** Counts the lines of a chunk that were not wholly written; the first begins at `firstLine`. */
  function lost(chunk: Buffer, firstLine: number, writtenBytes: number): void {
    if (writtenBytes > 0) isTorn = chunk[writtenBytes - 1] !== lineFeed
    // A line that lacks nothing but its line feed is given one by the next write.
    const isWhole = writtenBytes > 0 && isTorn && chunk[writtenBytes] === lineFeed
    dropped += countLines(chunk.subarray(Math.max(firstLine, writtenBytes + (isWhole ? 1 : 0))))
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

/** The way to an open descriptor. */
export type Output = {
  readonly write: WriteChunk
  /** Whether a write has gone to the kernel and has not come back: to a terminal that nobody reads, it never does. */
  readonly isWriting: () => boolean
}

/** Writes to an open descriptor, 1 for stdout: the rest after a short write, and again in 10 ms while its pipe is full. */
export function createOutput(fd: number): Output {
  let underWay = 0
  return { write, isWriting: () => underWay > 0 }

  function write(bytes: Buffer, done: Parameters<WriteChunk>[1]): void {
    rest(0)

    function rest(from: number): void {
      underWay += 1
      fsWrite(fd, bytes, from, bytes.length - from, null, (error, written) => {
        underWay -= 1
        const full = error?.code === 'EAGAIN' || (error === null && written === 0)
        if (error !== null && !full) return done(error, from)
        if (full) return void setTimeout(rest, retryMs, from).unref() // a pipe nobody reads must not keep us alive
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

/** Writes nothing. */
export const silentLog: Log = { info() {}, warn() {}, error() {} }

const ownNames: readonly string[] = ['timestamp', 'severity_text', 'event.name', 'stream']

/**
 * A log on a writer. Strings longer than 512 characters are cut.
 *
 * @example {"timestamp":"2026-11-21T09:30:00.000Z","severity_text":"INFO","event.name":"jwks_recovered","stream":"main","issuer":"https://login.example.com"}
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
    let text = `${timestamp(clock.wallMs())}Z","severity_text":"${severity}"`
    text += `,"event.name":${jsonString(event)},"stream":${stream}`
    for (const [name, value] of Object.entries(fields)) {
      // A second member of the same name would let readers disagree on what the line says.
      if (value === undefined || ownNames.includes(name)) continue
      text += `,${jsonString(name)}:${typeof value === 'string' ? jsonString(value) : JSON.stringify(value)}`
    }
    writer.line(`${text}}`)
  }
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
