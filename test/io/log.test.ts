import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { LogFields, WriteChunk } from '../../src/io/log.ts'
import { createFingerprint, createLineReader, createLineWriter, createLog } from '../../src/io/log.ts'
import { injections } from './injections.ts'

/** A log whose lines end up in an array. */
function recordedLog(wallMs = Date.UTC(2026, 10, 21, 9, 30, 0, 7)) {
  const lines: string[] = []
  const log = createLog(
    { stream: 'main' },
    { writer: { line: (text) => lines.push(text) }, clock: { wallMs: () => wallMs, monotonicMs: () => 0 } },
  )
  return { lines, log }
}

test('createLog() writes one line of JSON per event, with OpenTelemetry’s names', () => {
  const { lines, log } = recordedLog()

  log.info('jwks_refreshed', {
    issuer: 'https://login.example.com',
    keys: 2,
    changed: true,
    gone: undefined,
    kid: null,
  })
  log.warn('config_unchanged')
  log.error('jwks_failed', { code: 'ERR_HTTP_CALL_FAILED', seconds: Number.NaN })

  assert.deepEqual(lines, [
    '{"timestamp":"2026-11-21T09:30:00.007Z","severity_text":"INFO","event.name":"jwks_refreshed","stream":"main","issuer":"https://login.example.com","keys":2,"changed":true,"kid":null}',
    '{"timestamp":"2026-11-21T09:30:00.007Z","severity_text":"WARN","event.name":"config_unchanged","stream":"main"}',
    '{"timestamp":"2026-11-21T09:30:00.007Z","severity_text":"ERROR","event.name":"jwks_failed","stream":"main","code":"ERR_HTTP_CALL_FAILED","seconds":null}',
  ])
})

test('createLog() keeps its own members: a field of the same name is left out', () => {
  const { lines, log } = recordedLog()

  log.info('started', { timestamp: 'forged', severity_text: 'forged', 'event.name': 'forged', stream: 'forged' })

  assert.doesNotMatch(lines.join(), /forged/)
})

const timestamps = [0, 999, 1000, 59_999.9, 1_795_253_400_000, 1_795_253_400_001, 1_795_253_399_099, 951_782_400_010]
for (const wallMs of timestamps) {
  test(`createLog() writes ${wallMs} ms as Date does`, () => {
    const { lines, log } = recordedLog(wallMs)

    log.info('a')

    assert.equal(JSON.parse(lines[0] ?? '').timestamp, new Date(wallMs).toISOString())
  })
}

for (const { value, because } of injections) {
  test(`createLog() keeps ${because} inside one line of visible ASCII`, () => {
    const { lines, log } = recordedLog()

    log.info(value, { [`x${value}`]: value })

    const [line = ''] = lines
    assert.match(line, /^[ -~]+$/)
    const said = JSON.parse(line)
    assert.equal(said['event.name'], value)
    assert.equal(said[`x${value}`], value)
  })
}

test('createLog() cuts a value after 512 characters', () => {
  const { lines, log } = recordedLog()

  log.info('a', { exact: 'x'.repeat(512), long: 'x'.repeat(513), escaped: '\n'.repeat(100_000) })

  const { exact, long, escaped } = JSON.parse(lines[0] ?? '')
  assert.equal(exact, 'x'.repeat(512))
  assert.equal(long, `${'x'.repeat(511)}…`)
  assert.equal(escaped.length, 512)
})

test('createLog() writes valid JSON on one line whatever it is given', async () => {
  const value = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.constant(undefined),
  )
  await fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.dictionary(fc.string(), value), (event, fields: LogFields) => {
      const { lines, log } = recordedLog()
      log.info(event, fields)
      assert.match(lines[0] ?? '', /^[ -~]+$/)
      assert.equal(JSON.parse(lines[0] ?? '')['event.name'], event)
    }),
  )
})

test('createFingerprint() is the first 8 bytes of HMAC-SHA256, and another one under another key', () => {
  const [one, two] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]

  const seen = createFingerprint(one)('a-token')

  assert.equal(seen, createHmac('sha256', one).update('a-token').digest('hex').slice(0, 16))
  assert.notEqual(createFingerprint(two)('a-token'), seen)
  assert.throws(() => createFingerprint(Buffer.alloc(15)), RangeError)
})

/** A destination that takes a chunk only when told to. */
function slowWrite() {
  const chunks: string[] = []
  const calls: Parameters<WriteChunk>[1][] = []
  const write: WriteChunk = (chunk, done) => {
    chunks.push(chunk.toString())
    calls.push(done)
  }
  return { chunks, write, finish: (error?: Error, writtenBytes?: number) => calls.shift()?.(error, writtenBytes) }
}

/** Longer than lines wait for each other. */
function batch(): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, 100))
}

test('createLineWriter() writes at once what has become 256 KiB', () => {
  const { chunks, write } = slowWrite()
  const writer = createLineWriter({}, { write })

  for (let at = 0; at < 270; at += 1) writer.line('x'.repeat(1000))

  assert.equal(chunks.length, 1)
})

test('createLineWriter() writes lines together after 50 ms, and one chunk at a time', async () => {
  const { chunks, write, finish } = slowWrite()
  const writer = createLineWriter({}, { write })

  writer.line('a')
  writer.line('b')
  assert.deepEqual(chunks, [])
  await batch()
  writer.line('c')
  await batch()
  assert.deepEqual(chunks, ['a\nb\n'])
  finish()
  await batch()

  assert.deepEqual(chunks, ['a\nb\n', 'c\n'])
  finish()
  await writer.flush()
  assert.equal(writer.dropped(), 0)
})

test('createLineWriter() leaves a chunk as it is until it is written, whatever comes meanwhile', async () => {
  const held: { chunk: Buffer; before: string; done: () => void }[] = []
  const writer = createLineWriter(
    {},
    { write: (chunk, done) => held.push({ chunk, before: chunk.toString(), done: () => done() }) },
  )
  for (const letter of ['a', 'b', 'c', 'd']) {
    for (let at = 0; at < 300; at += 1) writer.line(letter.repeat(1000))
    const last = held.at(-1)
    assert.ok(last)
    assert.ok(last.before.includes(letter.repeat(1000)))
    for (let at = 0; at < 300; at += 1) writer.line('later'.repeat(200))
    assert.equal(last.chunk.toString(), last.before)
    last.done()
    while (held.at(-1) === last) await new Promise((resolve) => setTimeout(resolve, 5))
    held.at(-1)?.done()
  }
  await writer.flush()
  assert.equal(writer.dropped(), 0)
})

test('createLineWriter() drops and counts lines while a blocked stdout fills its buffer, and goes on after', async () => {
  const { chunks, write, finish } = slowWrite()
  const writer = createLineWriter({ maxBufferedBytes: 10 }, { write })

  writer.line('1234')
  await batch()
  writer.line('5678')
  writer.line('x')
  writer.line('')
  assert.equal(writer.dropped(), 2)
  finish()
  await batch()
  writer.line('9')
  finish()
  await batch()

  assert.deepEqual(chunks, ['1234\n', '5678\n', '9\n'])
  finish()
  await writer.flush()
})

test('createLineWriter().lines() takes whole lines as line() does one, and counts each that is lost', async () => {
  const { chunks, write, finish } = slowWrite()
  const writer = createLineWriter({ maxBufferedBytes: 10 }, { write })

  writer.line('1')
  writer.lines(Buffer.from('2\n34\n'))
  writer.lines(Buffer.from('5\n6\n7\n'))
  writer.lines(Buffer.from('8\n'))
  await batch()
  assert.deepEqual(chunks, ['1\n2\n34\n8\n'])
  assert.equal(writer.dropped(), 3)
  finish(new Error('EPIPE'))
  await writer.flush()

  assert.equal(writer.dropped(), 7)
})

test('createLineReader() makes the same lines of them, wherever they are cut', () => {
  void fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[ -~]{0,40}$/)), fc.array(fc.nat(2000)), (texts, cuts) => {
      const bytes = Buffer.from([...texts, 'begun'].join('\n'))
      const told: string[] = []
      const read = createLineReader((lines) => told.push(...lines.toString().split('\n').slice(0, -1)))
      const places = [...cuts.filter((cut) => cut < bytes.length).sort((one, other) => one - other), bytes.length]
      let from = 0
      for (const to of places) {
        const piece = Buffer.from(bytes.subarray(from, to))
        read(piece)
        // It is lent: what comes next is read into it.
        piece.fill('#')
        from = to
      }

      assert.deepEqual(told, texts)
    }),
  )
})

test('createLineReader() keeps nothing of what has no end', () => {
  const told: string[] = []
  const read = createLineReader((lines) => told.push(lines.toString()))

  // No piece is longer than 64 KiB.
  read(Buffer.alloc(40_000, 'x'))
  read(Buffer.alloc(30_000, 'x'))
  read(Buffer.from('rest\nwhole\n'))

  assert.deepEqual(told, ['rest\nwhole\n'])
})

test('createLineWriter() goes on at once after a write, where as much has come meanwhile as it writes at once', async () => {
  const { chunks, write, finish } = slowWrite()
  const writer = createLineWriter({}, { write })
  const some = () => {
    for (let at = 0; at < 300; at += 1) writer.line('x'.repeat(1000))
  }

  some()
  some()
  assert.equal(chunks.length, 1)
  finish()
  await new Promise(setImmediate)
  await new Promise(setImmediate)

  assert.equal(chunks.length, 2)
})

test('createLineWriter() counts the lines of a failed write as lost, and survives a write that throws', async () => {
  const { write, finish } = slowWrite()
  let broken = false
  const writer = createLineWriter(
    {},
    {
      write: (chunk, done) => {
        if (broken) throw new Error('closed')
        write(chunk, done)
      },
    },
  )

  writer.line('a')
  writer.line('b')
  await batch()
  finish(new Error('EPIPE'))
  broken = true
  writer.line('c')
  await writer.flush()

  assert.equal(writer.dropped(), 3)
})

/** A disk with room for so many bytes: it takes what fits, and fails then. */
function smallDisk(roomBytes: number) {
  const disk = { text: '', roomBytes }
  const write: WriteChunk = (chunk, done) => {
    const fits = chunk.subarray(0, disk.roomBytes)
    disk.text += fits.toString()
    disk.roomBytes -= fits.length
    if (fits.length === chunk.length) done()
    else done(Object.assign(new Error('no space left on device'), { code: 'ENOSPC' }), fits.length)
  }
  return { disk, write }
}

const fullDisks = [
  { room: 0, dropped: 3, text: 'four\n', because: 'nothing was written' },
  { room: 2, dropped: 3, text: 'on\nfour\n', because: 'the first line is torn' },
  { room: 4, dropped: 2, text: 'one\nfour\n', because: 'the first line is whole' },
  { room: 7, dropped: 1, text: 'one\ntwo\nfour\n', because: 'the second lacks only its line feed' },
  { room: 10, dropped: 1, text: 'one\ntwo\nth\nfour\n', because: 'the third is torn' },
] as const
for (const { room, dropped, text, because } of fullDisks) {
  test(`createLineWriter() counts ${dropped} lost and glues no line to another after ${room} bytes on a full disk: ${because}`, async () => {
    const { disk, write } = smallDisk(room)
    const writer = createLineWriter({}, { write })

    writer.lines(Buffer.from('one\ntwo\nthree\n'))
    await writer.flush()
    assert.equal(writer.dropped(), dropped)
    disk.roomBytes = 100
    writer.line('four')
    await writer.flush()

    assert.equal(writer.dropped(), dropped)
    assert.equal(disk.text, text)
  })
}

test('createLineWriter() never counts nor repeats the line feed that ends a torn line, however long the disk is full', async () => {
  const { disk, write } = smallDisk(2)
  const writer = createLineWriter({ maxBufferedBytes: 5 }, { write })

  for (const roomBytes of [2, 0, 0, 1, 0, 3]) {
    disk.roomBytes = roomBytes
    writer.line('1234')
    await writer.flush()
  }
  assert.equal(writer.dropped(), 6)
  disk.roomBytes = 100
  for (const line of ['', '56']) {
    writer.line(line)
    await writer.flush()
  }

  assert.equal(writer.dropped(), 6)
  assert.equal(disk.text, '12\n123\n\n56\n')
})

test('createLineWriter().flush() waits for what was queued, but not for ever', async () => {
  const { write } = slowWrite()
  const writer = createLineWriter({}, { write })
  await writer.flush()
  const done: string[] = []
  const prompt = createLineWriter(
    {},
    {
      write: (chunk, callback) => {
        setTimeout(() => {
          done.push(chunk.toString())
          callback()
        }, 5)
      },
    },
  )

  prompt.line('a')
  await prompt.flush()
  writer.line('never written')
  await writer.flush()

  assert.deepEqual(done, ['a\n'])
})
