// HTTP/2 in bytes, for tests that send what no library would: frames written by hand, frames read back.
import type { Socket } from 'node:net'
import { connect } from 'node:net'

/** RFC 9113 §6. */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  rst_stream: 3,
  settings: 4,
  push_promise: 5,
  ping: 6,
  goaway: 7,
  window_update: 8,
  continuation: 9,
} as const

export const flags = { endStream: 1, ack: 1, endHeaders: 4 } as const

/** RFC 9113 §7, by number. */
export const codes = { noError: 0, protocol: 1, internal: 2, refused: 7, cancel: 8, calm: 11 } as const

/** One frame as received. */
export type Frame = {
  readonly type: keyof typeof frameTypes
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** A name and a value; each character is a byte. */
export type Field = readonly [string, string]

/** Where an HTTP/2 connection begins. */
export const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

/** One frame in bytes. */
export function frame(type: keyof typeof frameTypes, flag: number, stream: number, payload: Buffer | string): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload
  const head = Buffer.alloc(9)
  head.writeUIntBE(body.length, 0, 3)
  head.writeUInt8(frameTypes[type], 3)
  head.writeUInt8(flag, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, body])
}

/** Fields as HPACK literals without index and without Huffman (RFC 7541 §6.2.2): any bytes at all. */
export function encodeFields(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]))
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1')
  return Buffer.concat([integer(bytes.length, 7), bytes])
}

/** RFC 7541 §5.1. */
function integer(value: number, bits: number): Buffer {
  const most = 2 ** bits - 1
  if (value < most) return Buffer.of(value)
  const bytes = [most]
  for (let left = value - most; ; left >>= 7) {
    if (left < 128) return Buffer.from([...bytes, left])
    bytes.push((left & 127) | 128)
  }
}

/** The fields of a plain request, changed and added to. */
export function requestFields(path: string, more: readonly Field[] = [], method = 'GET'): readonly Field[] {
  return [[':method', method], [':scheme', 'http'], [':authority', 'a.test'], [':path', path], ...more]
}

/** HEADERS, with the end of the stream unless told otherwise; in frames of at most 16 KiB. */
export function headers(stream: number, fields: readonly Field[], endStream = true): Buffer {
  const block = encodeFields(fields)
  const parts: Buffer[] = []
  for (let at = 0; at === 0 || at < block.length; at += 16_384) parts.push(block.subarray(at, at + 16_384))
  return Buffer.concat(
    parts.map((part, at) => {
      const last = at === parts.length - 1 ? flags.endHeaders : 0
      return at === 0
        ? frame('headers', last | (endStream ? flags.endStream : 0), stream, part)
        : frame('continuation', last, stream, part)
    }),
  )
}

/** RST_STREAM. */
export function reset(stream: number, code: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(code)
  return frame('rst_stream', 0, stream, payload)
}

/** Four bytes that say how much more may come. */
export function windowUpdate(stream: number, by: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(by)
  return frame('window_update', 0, stream, payload)
}

/** A connection on which frames are written by hand. */
export type FrameClient = Disposable & {
  readonly socket: Socket
  /** Every frame received so far. */
  readonly frames: readonly Frame[]
  readonly send: (...bytes: readonly Buffer[]) => void
  /** Resolves with the first frame, past or to come, that is wanted; rejects when the connection closes before. */
  readonly frame: (wanted: (frame: Frame) => boolean) => Promise<Frame>
  /** Resolves with the frames of a stream once it has ended, was reset, or the connection is gone. */
  readonly stream: (id: number) => Promise<readonly Frame[]>
  readonly closed: Promise<void>
}

/**
 * Connects, says the preface and SETTINGS; the server's SETTINGS are acknowledged as they come.
 *
 * @param manner `in parts`: byte by byte; `no settings`: nothing but the preface;
 *   `no acknowledgement`: the server's SETTINGS and PINGs are not acknowledged.
 */
export function connectFrames(
  port: number,
  settings: Buffer = Buffer.alloc(0),
  manner: 'at once' | 'in parts' | 'no settings' | 'no acknowledgement' = 'at once',
): FrameClient {
  const socket = connect(port, '127.0.0.1')
  const frames: Frame[] = []
  const waiting = new Set<() => void>()
  let received: Buffer = Buffer.alloc(0)
  let isClosed = false
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => {
      isClosed = true
      for (const look of [...waiting]) look()
      resolve()
    })
  })
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    while (received.length >= 9 && received.length >= 9 + received.readUIntBE(0, 3)) take()
    for (const look of [...waiting]) look()
  })
  const first = manner === 'no settings' ? [] : [frame('settings', 0, 0, settings)]
  const beginning = Buffer.concat([Buffer.from(preface), ...first])
  const sent: Promise<unknown> = manner === 'in parts' ? writeSlowly(beginning) : write(beginning)
  return {
    socket,
    frames,
    closed,
    send: (...bytes) => void sent.then(() => write(Buffer.concat(bytes))),
    frame: (wanted) => until(() => frames.find(wanted)),
    stream: (id) =>
      until(() => {
        const own = frames.filter(({ stream }) => stream === id)
        return isClosed || own.some(isLast) ? own : undefined
      }),
    [Symbol.dispose]: () => void socket.destroy(),
  }

  async function write(bytes: Buffer): Promise<void> {
    socket.write(bytes)
  }

  async function writeSlowly(bytes: Buffer): Promise<void> {
    socket.setNoDelay(true)
    for (const byte of bytes) {
      socket.write(Buffer.of(byte))
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  function take(): void {
    const length = received.readUIntBE(0, 3)
    const number = received.readUInt8(3)
    const [type] = Object.entries(frameTypes).find(([, each]) => each === number) ?? ['data']
    frames.push({
      type: type as Frame['type'], // a key of the table
      flags: received.readUInt8(4),
      stream: received.readUInt32BE(5) & 0x7fff_ffff,
      payload: Buffer.from(received.subarray(9, 9 + length)),
    })
    received = received.subarray(9 + length)
    const last = frames.at(-1)
    if (last?.type === 'settings' && (last.flags & flags.ack) === 0 && !manner.startsWith('no'))
      void sent.then(() => write(frame('settings', flags.ack, 0, '')))
    if (last?.type === 'ping' && (last.flags & flags.ack) === 0 && !manner.startsWith('no'))
      socket.write(frame('ping', flags.ack, 0, last.payload))
  }

  function until<T>(find: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => settle(() => reject(new Error(`not within 30 s, after ${said()}`))), 30_000)
      const look = () => {
        const found = find()
        if (found !== undefined) settle(() => resolve(found))
        else if (isClosed) settle(() => reject(new Error(`closed, after ${said()}`)))
      }
      const settle = (then: () => void) => {
        clearTimeout(timer)
        waiting.delete(look)
        then()
      }
      waiting.add(look)
      look()
    })
  }

  function said(): string {
    return frames.map(({ type, stream, flags: flag }) => `${type}(${stream}, ${flag})`).join(' ')
  }
}

/** Whether nothing comes after this frame of a stream. */
export function isLast({ type, flags: flag }: Frame): boolean {
  return type === 'rst_stream' || ((type === 'data' || type === 'headers') && (flag & flags.endStream) !== 0)
}

/**
 * What stands in the answer of a stream: its status where HPACK has an index for it, or the body is a problem's; its
 * body, and its reset.
 */
export function readAnswer(frames: readonly Frame[]): { status: number; body: string; reset: number | undefined } {
  const first = frames.find(({ type }) => type === 'headers')?.payload[0] ?? 0
  // RFC 7541 appendix A: 8 to 14.
  const statuses = [200, 204, 206, 304, 400, 404, 500]
  const data = frames.filter(({ type }) => type === 'data').map(({ payload }) => payload.toString('latin1'))
  const body = data.join('')
  const last = frames.find(({ type }) => type === 'rst_stream')?.payload.readUInt32BE(0)
  const told = /"status":(\d+)/.exec(body)?.[1]
  return { status: statuses[first - 0x88] ?? Number(told ?? 0), body, reset: last }
}

/** What a client got on one stream: status and reason, or the code of its reset. */
export async function outcomeOf(client: FrameClient, stream: number): Promise<string> {
  const { status, body, reset } = readAnswer(await client.stream(stream))
  const reason = /"reason":"([a-z_]+)"/.exec(body)?.[1]
  if (status === 0) return reset === undefined ? 'closed' : `reset ${reset}`
  return reason === undefined ? String(status) : `${status} ${reason}`
}
