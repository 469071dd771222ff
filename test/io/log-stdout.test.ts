// The last step of a log line: a descriptor that is a pipe, a file, or broken.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createOutput } from '../../src/io/log.ts'

test('createOutput().write() writes all of a chunk through a full pipe: short writes, EAGAIN, a slow reader', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-log-'))
  const path = join(directory, 'pipe')
  execFileSync('mkfifo', [path])
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  const chunk = Array.from({ length: 30_000 }, (_, at) => `line ${at}\n`).join('')
  const buffer = Buffer.alloc(50_000)
  const read: Buffer[] = []

  const writing = Promise.withResolvers<Error | null | undefined>()
  let written = false
  createOutput(fd).write(Buffer.from(chunk), (error) => {
    written = true
    writing.resolve(error)
  })
  await new Promise((resolve) => setTimeout(resolve, 30))
  assert.equal(written, false, 'the pipe took it all: the test shows nothing')
  let length = 0
  while (length < chunk.length) {
    try {
      const count = readSync(fd, buffer)
      length += count
      read.push(Buffer.from(buffer.subarray(0, count)))
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  assert.equal(await writing.promise, undefined)
  assert.equal(Buffer.concat(read).toString(), chunk)
  closeSync(fd)
  rmSync(directory, { recursive: true })
})

test('createOutput().write() reports a descriptor that cannot be written', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-log-'))
  const path = join(directory, 'file')
  writeFileSync(path, '')
  const fd = openSync(path, 'r')

  const error = await new Promise<Error | null | undefined>((resolve) =>
    createOutput(fd).write(Buffer.from('a\n'), resolve),
  )

  assert.equal((error as NodeJS.ErrnoException).code, 'EBADF') // undefined would fail here as well
  assert.equal(readFileSync(path, 'utf8'), '')
  closeSync(fd)
  rmSync(directory, { recursive: true })
})

test('createOutput().write() says how much of a chunk was written before its reader left', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-log-'))
  const path = join(directory, 'pipe')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
  const told = Promise.withResolvers<readonly [code: string | undefined, writtenBytes: number | undefined]>()

  createOutput(fd).write(Buffer.alloc(1_000_000, 'x'), (error, writtenBytes) =>
    told.resolve([(error as NodeJS.ErrnoException).code, writtenBytes]),
  )
  const buffer = Buffer.alloc(4096)
  while (readSomething(reader, buffer) === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  closeSync(reader)
  const [code, writtenBytes = 0] = await told.promise

  assert.equal(code, 'EPIPE')
  assert.ok(writtenBytes >= 4096 && writtenBytes < 1_000_000, String(writtenBytes))
  closeSync(fd)
  rmSync(directory, { recursive: true })
})

test('createOutput().isWriting() is true for as long as the kernel keeps a write, and false while a full pipe is tried again', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-log-'))
  const path = join(directory, 'pipe')
  execFileSync('mkfifo', [path])
  const patient = openSync(path, constants.O_RDWR)
  const hasty = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  const [stuck, full] = [createOutput(patient), createOutput(hasty)]
  const finished = Promise.withResolvers<void>()
  const buffer = Buffer.alloc(100_000)
  let length = 0

  assert.equal(stuck.isWriting(), false)
  stuck.write(Buffer.alloc(100_000, 'x'), () => finished.resolve())
  full.write(Buffer.from('y'), () => {})
  await new Promise((resolve) => setTimeout(resolve, 30))
  // Between two tries, each of which the kernel has for a moment.
  while (full.isWriting()) await new Promise((resolve) => setTimeout(resolve, 1))
  assert.equal(stuck.isWriting(), true)
  while (length < 100_000) {
    length += readSomething(hasty, buffer)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await finished.promise

  assert.equal(stuck.isWriting(), false)
  closeSync(patient)
  closeSync(hasty)
  rmSync(directory, { recursive: true })
})

function readSomething(fd: number, buffer: Buffer): number {
  try {
    return readSync(fd, buffer)
  } catch {
    return 0
  }
}
