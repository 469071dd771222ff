import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { test } from 'node:test'
import { TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { createDirectWrite, surviveFailedWrites } from '../../src/http1/direct-write.ts'
import { settle } from '../support/until.ts'
import { openPair } from './pair.ts'

async function readAll(socket: Socket): Promise<string> {
  const parts: Buffer[] = []
  socket.on('data', (chunk: Buffer) => parts.push(chunk))
  await once(socket, 'end')
  return Buffer.concat(parts).toString('latin1')
}

/** Writes to an end whose other end does not read, until the system takes no more of it at once. */
function fill(near: Socket): { readonly writes: (text: string) => boolean; readonly sent: string } {
  const direct = createDirectWrite(near)
  assert.ok(direct !== undefined)
  const writes = direct.text
  let sent = ''
  for (let count = 0; count < 10_000; count += 1) {
    const text = `${count}:${'x'.repeat(10_000)}\xff`
    if (!writes(text)) return { writes, sent }
    sent += text
  }
  throw new Error('The system takes a hundred megabytes')
}

test('createDirectWrite() writes every byte as it is, past the stream', async () => {
  await using pair = await openPair()
  const writes = createDirectWrite(pair.near)?.text
  const text = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join('')

  assert.equal(writes?.(text), true)
  assert.equal(pair.near.writableLength, 0)
  assert.equal(pair.near.bytesWritten, 256)
  pair.near.end()

  assert.equal(await readAll(pair.far), text)
})

test('createDirectWrite() loses and reorders nothing where the other side reads late', async () => {
  await using pair = await openPair()
  const { sent } = fill(pair.near)

  pair.near.write('then a text,', 'latin1')
  pair.near.write(Buffer.alloc(100_000, 'b'))
  assert.ok(pair.near.writableNeedDrain)
  const all = readAll(pair.far)
  await once(pair.near, 'drain')
  const writes = createDirectWrite(pair.near)?.text
  assert.equal(writes?.('and the last'), true)
  pair.near.end()

  assert.ok((await all) === `${sent}then a text,${'b'.repeat(100_000)}and the last`)
})

test('createDirectWrite() goes before nothing that the stream holds back', async () => {
  await using pair = await openPair()
  const writes = createDirectWrite(pair.near)?.text
  const first = Buffer.alloc(20_000_000, 'a') // more than the system takes

  pair.near.write(first)
  pair.near.write('b'.repeat(1000), 'latin1')
  assert.equal(writes?.('c'), false)
  pair.near.write('c', 'latin1')
  pair.near.end()

  assert.ok((await readAll(pair.far)) === `${first.toString('latin1')}${'b'.repeat(1000)}c`)
})

test('createDirectWrite().bytes() writes a text and bytes behind it, and says that nobody needs them any more', async () => {
  await using pair = await openPair()
  const direct = createDirectWrite(pair.near)
  const bytes = Buffer.alloc(20_000, 'b')

  assert.equal(direct?.bytes('head,\xff', bytes), 'written')
  assert.equal(direct?.bytes('', bytes), 'written')
  assert.equal(direct?.bytes('', Buffer.alloc(65_537)), 'refused')
  bytes.fill('!')
  assert.equal(pair.near.writableLength, 0)
  pair.near.end()

  assert.ok((await readAll(pair.far)) === `head,\xff${'b'.repeat(40_000)}`)
})

test('createDirectWrite().bytes() says of bytes that have to wait that it holds on to them, and sends all of them', async () => {
  await using pair = await openPair()
  const direct = createDirectWrite(pair.near)
  let sent = ''
  let became: string | undefined = 'written'
  for (let count = 0; count < 1000 && became === 'written'; count += 1) {
    const [text, bytes] = [`${count}:`, Buffer.alloc(65_536, 97 + (count % 26))]
    became = direct?.bytes(text, bytes)
    sent += text + bytes.toString('latin1')
  }

  assert.equal(became, 'held')
  assert.equal(direct?.bytes('', Buffer.alloc(10)), 'refused')
  pair.near.write('the last')
  pair.near.end()

  assert.ok((await readAll(pair.far)) === `${sent}the last`)
})

type Write = { oncomplete?: (status: number) => void; readonly writeStatus?: null }
type Handle = Record<
  'writeBuffer' | 'writeLatin1String' | 'writev',
  (...given: [Write | null, ...unknown[]]) => unknown
>
type StreamBase = { readonly streamBaseState: Int32Array; readonly kLastWriteWasAsync: number }

/** Has every write to a socket wait for the next turn, as one does whose peer takes little at a time. */
function haveWritesWait(near: Socket): void {
  const { binding } = process as unknown as { binding: (name: string) => StreamBase }
  const { streamBaseState, kLastWriteWasAsync } = binding('stream_wrap')
  const { _handle: handle } = near as unknown as { readonly _handle: Handle }
  for (const name of ['writeBuffer', 'writeLatin1String', 'writev'] as const) {
    const write = handle[name].bind(handle)
    handle[name] = (given, ...rest) => {
      const status = write(given, ...rest)
      if (status !== 0 || streamBaseState[kLastWriteWasAsync] !== 0) return status
      streamBaseState[kLastWriteWasAsync] = 1
      // Node itself may give none, and gets one where the write waits.
      const request: Write = given ?? { writeStatus: null }
      setImmediate(() => request.oncomplete?.(0))
      return given === null ? request : status
    }
  }
}

for (const behind of [0, 10, 60_000, 100_000])
  test(`createDirectWrite() has the socket emit drain when what was held has left, with ${behind} bytes behind it that wait, too`, async () => {
    await using pair = await openPair()
    const all = readAll(pair.far)
    const direct = createDirectWrite(pair.near)
    haveWritesWait(pair.near)

    assert.equal(direct?.bytes('', Buffer.alloc(20_000, 'a')), 'held')
    if (behind > 0) pair.near.write(Buffer.alloc(behind, 'b'))
    await once(pair.near, 'drain', { signal: AbortSignal.timeout(5000) })

    assert.ok(!pair.near.writableNeedDrain && !direct.isHolding())
    pair.near.end()
    assert.ok((await all) === 'a'.repeat(20_000) + 'b'.repeat(behind))
  })

test('createDirectWrite() lets several sockets wait at a time', async () => {
  await using one = await openPair()
  await using other = await openPair()
  const [first, second] = [fill(one.near), fill(other.near)]

  one.near.end()
  other.near.end()

  assert.ok((await readAll(one.far)) === first.sent)
  assert.ok((await readAll(other.far)) === second.sent)
})

test('createDirectWrite() takes nothing while something waits to be written, nor after the end', async () => {
  await using pair = await openPair()
  const { writes, sent } = fill(pair.near)

  assert.equal(writes('a'), false)
  pair.near.end()
  assert.equal(writes('b'), false)

  assert.ok((await readAll(pair.far)) === sent)
  assert.equal(writes('c'), false)
})

test('createDirectWrite() leaves a long text to the stream, and what goes through TLS', async () => {
  await using pair = await openPair()

  assert.equal(createDirectWrite(pair.near)?.text('x'.repeat(16_001)), false)
  assert.equal(createDirectWrite(new TLSSocket(pair.far)), undefined)
})

test('createDirectWrite() closes a socket whose other side is gone, and tells it as an error', async () => {
  await using pair = await openPair()
  const writes = createDirectWrite(pair.near)?.text
  const errors: Error[] = []
  pair.near.on('error', (error) => errors.push(error))
  const closed = new Promise((resolve) => pair.near.once('close', resolve))
  // Reading would tell first.
  const { _handle: handle } = pair.near as Socket & { _handle?: { readStop: () => void } } // node:net's own
  handle?.readStop()
  pair.far.resetAndDestroy()
  await settle()

  assert.equal(writes?.('a'), true)
  await closed

  assert.deepEqual([errors.length, errors[0]?.message.startsWith('Cannot write')], [1, true])
  assert.equal(writes?.('b'), false)
})

test('createDirectWrite() tells whoever wants to know that the other side is gone, drops what comes then, and lets it be read to its end', async () => {
  await using pair = await openPair()
  const errors: Error[] = []
  const direct = createDirectWrite(pair.near, (error) => errors.push(error))
  await settle()
  pair.far.write('the last of it')
  pair.far.resetAndDestroy()

  assert.deepEqual(
    [direct?.text('a'), direct?.text('b'), direct?.bytes('c', Buffer.alloc(10_000))],
    [true, true, 'written'],
  )
  assert.equal(await readAll(pair.near), 'the last of it')

  assert.deepEqual([errors.length, errors[0]?.message.startsWith('Cannot write')], [1, true])
})

test('createDirectWrite() tells it, too, of what had to wait, and writes nothing that the stream was given behind it', async () => {
  await using pair = await openPair()
  const errors: Error[] = []
  const others: Error[] = []
  pair.near.on('error', (error) => others.push(error))
  const direct = createDirectWrite(pair.near, (error) => errors.push(error))
  for (let became = ''; became !== 'held'; became = direct?.bytes('', Buffer.alloc(60_000, 'x')) ?? 'held');
  pair.near.write('more')
  pair.far.write('the last of it')
  pair.far.resetAndDestroy()

  assert.equal(await readAll(pair.near), 'the last of it')

  assert.deepEqual([errors.length, others.length], [1, 0])
  assert.equal(direct?.bytes('c', Buffer.alloc(10_000)), 'written')
})

test("createDirectWrite() leaves all to the stream where Node's permission model is on, or has nothing to write with", async () => {
  const program = `
    import { Socket } from 'node:net'
    const { createDirectWrite } = await import('./src/http1/direct-write.ts')
    process.stdout.write(String(createDirectWrite(new Socket())))
  `
  const args = ['--permission', '--allow-fs-read=*', '--input-type=module', '-e', program]

  assert.equal((await promisify(execFile)(process.execPath, args)).stdout, 'undefined')
  assert.equal(createDirectWrite(new Socket())?.text('a'), false)
})

test('createDirectWrite() survives a socket that is destroyed while a write waits', async () => {
  for (const side of ['near', 'far'] as const) {
    await using pair = await openPair()
    const { writes } = fill(pair.near)
    const closed = new Promise((resolve) => pair.near.once('close', resolve))

    if (side === 'near') pair.near.destroy()
    else pair.far.resetAndDestroy()
    await closed

    assert.equal(writes('a'), false)
  }
})

test('surviveFailedWrites() sends nothing behind what could not be written: it would look whole with a part missing', async () => {
  await using pair = await openPair()
  const write = pair.near._write.bind(pair.near)
  const errors: Error[] = []
  pair.near.on('error', () => assert.fail('the socket was to live on'))
  // A failure that passes, which a real one hardly ever does.
  let isDown = false
  pair.near._write = (chunk, encoding, done) => (isDown ? done(new Error('down')) : write(chunk, encoding, done))
  surviveFailedWrites(pair.near, (error) => errors.push(error))

  pair.near.write('before,')
  await new Promise<void>((resolve) => pair.near.write('', () => resolve()))
  isDown = true
  await new Promise<void>((resolve) => pair.near.write('missing,', () => resolve()))
  isDown = false
  pair.near.write('behind')
  pair.near.end()

  assert.equal(await readAll(pair.far), 'before,')
  assert.deepEqual(
    errors.map(({ message }) => message),
    ['down'],
  )
})
