import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo, NetConnectOpts } from 'node:net'
import { afterEach, test } from 'node:test'
import type { ConnectionOptions } from 'node:tls'
import { connect, createServer } from 'node:tls'
import { copiedBytes } from '../../src/http1/exchange.ts'
import {
  giveBack,
  giveBackLater,
  keep,
  lendAcceptedReads,
  lendAllReads,
  lendReads,
  restOf,
} from '../../src/http1/lent-reads.ts'
import { arePlain, beginWith, copyBeginning } from '../../src/http1/plain-bytes.ts'
import { createAuthority, skipWithoutOpenssl } from '../support/certificates.ts'
import { settle } from '../support/until.ts'
import { openPair } from './pair.ts'

test('lendAcceptedReads() makes a socket that reads, writes, pauses and ends as the accepted one would', async () => {
  await using pair = await openPair()
  const socket = lendAcceptedReads(pair.near)
  let received = ''
  assert.equal(socket.remoteAddress, '127.0.0.1')
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1')
  })

  pair.far.write('hello')
  await settle()
  socket.pause()
  pair.far.end('world')
  await settle()
  assert.equal(received, 'hello')
  socket.resume()
  await once(socket, 'end')
  assert.equal(received, 'helloworld')
  // Half-open, as the accepted one was: it may still write.
  pair.far.setEncoding('latin1')
  socket.end('bye')
  const [answer] = await once(pair.far, 'data')

  assert.equal(answer, 'bye')
})

test('lendAcceptedReads() gives large pieces away for good: nobody else reads into them', async () => {
  await using one = await openPair()
  await using other = await openPair()
  const kept: Buffer[] = []
  let read = 0
  lendAcceptedReads(one.near).on('data', (chunk: Buffer) => void kept.push(chunk))
  lendAcceptedReads(other.near).on('data', (chunk: Buffer) => {
    read += chunk.length
  })

  one.far.write(Buffer.alloc(copiedBytes + 1, 'x'))
  await settle()
  other.far.write('the secret of somebody else')
  await settle()
  one.far.write(Buffer.alloc(copiedBytes + 1, 'x'))
  await settle()
  other.far.write(Buffer.alloc(20_000, 'y'))
  await settle()

  assert.equal(read, 20_027)
  assert.match(Buffer.concat(kept).toString('latin1'), /^x{8194}$/)
})

test('lendAcceptedReads() reads large pieces into a buffer of the socket while they are given back', async () => {
  await using one = await openPair()
  await using other = await openPair()
  const buffers = new Map<ArrayBufferLike, number>()
  const received = { one: '', other: '' }
  for (const [name, { near }] of [
    ['one', one],
    ['other', other],
  ] as const)
    lendAcceptedReads(near).on('data', (chunk: Buffer) => {
      received[name] += chunk.toString('latin1')
      if (chunk.length > 32_768) buffers.set(chunk.buffer, (buffers.get(chunk.buffer) ?? 0) + 1)
      giveBack(chunk, chunk.length)
    })

  for (const { far } of [one, other, one, other]) {
    far.write(Buffer.alloc(2_000_000, far === one.far ? 'x' : 'y'))
    await settle()
  }
  const ends = [one, other].map(({ near }) => once(near, 'end'))
  for (const { far } of [one, other]) far.end()
  await Promise.all(ends)

  assert.match(received.one, /^x{4000000}$/)
  assert.match(received.other, /^y{4000000}$/)
  assert.ok(buffers.size <= 4, `large pieces were in ${buffers.size} buffers`)
  assert.ok(Math.max(...buffers.values()) >= 3)
})

test('lendAllReads() lends every piece, however large, and reads on, pauses and ends as the socket would', async () => {
  await using pair = await openPair()
  const kept: Buffer[] = []
  let received = ''
  lendAllReads(pair.near)
  pair.near.on('data', (piece: Buffer) => {
    kept.push(piece)
    received += piece.toString('latin1')
  })

  pair.far.write('x'.repeat(20_000))
  await settle()
  pair.near.pause()
  pair.far.end('y'.repeat(20_000))
  await settle()
  assert.equal(received, 'x'.repeat(20_000))
  pair.near.resume()
  await once(pair.near, 'end')

  assert.equal(received, 'x'.repeat(20_000) + 'y'.repeat(20_000))
  // A copy would have come from a pool, which is one buffer, too.
  assert.match(kept[0]?.toString('latin1') ?? '', /^y+$/)
})

test('lendAcceptedReads() lends small pieces of one buffer that all sockets share', async () => {
  await using one = await openPair()
  await using other = await openPair()
  const lent: Buffer[] = []
  for (const { near } of [one, other]) lendAcceptedReads(near).on('data', (chunk: Buffer) => void lent.push(chunk))

  for (const { far } of [one, other, one]) {
    far.write('small')
    await settle()
  }

  assert.deepEqual(
    lent.map(({ length }) => length),
    [5, 5, 5],
  )
  assert.equal(new Set(lent.map(({ buffer }) => buffer)).size, 1)
})

test('restOf() is what stands behind a part, of every piece that is lent, and of any other', () => {
  const pieces: Buffer[] = []
  const reads = lendReads((bytes) => {
    pieces.push(bytes)
    for (const from of [0, 1, 5, 5, bytes.length, 0, 7]) {
      const told = bytes.toString('latin1')
      assert.equal(restOf(bytes, from).toString('latin1'), told.slice(from))
      assert.equal(restOf(Buffer.from(bytes), from).toString('latin1'), told.slice(from))
    }
  })
  const buffer = (reads.buffer as () => Buffer)()
  for (const text of ['abcdefgh', 'ABCDEFGH', 'abcdefghi', 'x'.repeat(copiedBytes), 'y'.repeat(copiedBytes + 1)]) {
    buffer.write(text, 'latin1')
    reads.callback(text.length, buffer)
  }

  assert.deepEqual([pieces.length, pieces[0] === pieces[1]], [5, true])
})

test('arePlain() and beginWith() look at what is lent, and not at what was before', () => {
  const seen: boolean[][] = []
  const reads = lendReads((bytes) => {
    seen.push([arePlain(bytes, 0, bytes.length), beginWith(bytes, copyBeginning('abcdefgh'))])
  })
  const buffer = (reads.buffer as () => Buffer)()
  for (const text of ['abcdefgh1', 'abcdefgh\x7f', 'abcdefgH1', 'abcdefgh1']) {
    buffer.write(text, 'latin1')
    reads.callback(text.length, buffer)
  }

  assert.deepEqual(seen, [
    [true, true],
    [false, true],
    [true, false],
    [true, true],
  ])
})

test('lendReads() gives a buffer for every handle of a socket, and after a read only another one', () => {
  const { buffer, callback, letGo } = lendReads(all)
  const give = buffer as () => Buffer | undefined // what we make is a function

  // An address is tried after another: each has a handle of its own.
  const [first, second] = [give(), give()]
  assert.ok(first)
  assert.equal(second, first)

  callback(10, first)
  assert.equal(give(), undefined)
  callback(65_536, first)
  const own = give()
  assert.ok(own)
  assert.notEqual(own.buffer, first.buffer)
  assert.equal(give(), own)
  letGo()
})

const all = (bytes: Buffer) => giveBack(bytes, bytes.length)
const readers: { readonly letGo: () => void }[] = []
// How many sockets have a buffer of their own is counted.
afterEach(() => {
  for (const reader of readers.splice(0)) reader.letGo()
})

/** What a socket does with an `onread`: reads of so many bytes, each of another letter. */
function createReader(received: (bytes: Buffer) => void) {
  const reads = lendReads(received)
  readers.push(reads)
  const give = reads.buffer as () => Buffer | undefined // what we make is a function
  let current = give() ?? Buffer.alloc(0)
  return {
    read(count: number, letter: string) {
      const into = current
      into.fill(letter, 0, count)
      reads.callback(count, into)
      current = give() ?? current
      return into.buffer
    },
    letGo: reads.letGo,
  }
}

test('lendReads() reads into the same buffer again where all of a large piece is given back', () => {
  const told: string[] = []
  const reader = createReader((bytes) => {
    told.push(`${bytes.length}${bytes.toString('latin1', 0, 1)}`)
    giveBack(bytes, bytes.length)
  })
  reader.read(65_536, 'a')

  const [one, other] = [reader.read(65_536, 'b'), reader.read(40_000, 'c')]

  assert.equal(one, other)
  assert.deepEqual(told, ['65536a', '65536b', '40000c'])
})

test('lendReads() reads into another buffer while anybody holds on to a part of a large piece', () => {
  const kept: Buffer[] = []
  const reader = createReader((bytes) => {
    kept.push(bytes)
    // A head, say.
    giveBack(bytes, 100)
  })
  for (const letter of ['a', 'b', 'c', 'd']) reader.read(65_536, letter)
  // The next of them might get a buffer that was put away.
  reader.letGo()
  const next = createReader(all)
  for (const letter of ['x', 'y', 'z']) next.read(65_536, letter)

  assert.equal(new Set(kept.map(({ buffer }) => buffer)).size, 4)
  assert.deepEqual(
    kept.map((bytes) => bytes.toString('latin1')),
    ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(65_536)),
  )
})

test('giveBack() does nothing for bytes of another buffer, nor when nothing is being told of', () => {
  const kept: Buffer[] = []
  const reader = createReader((bytes) => {
    kept.push(bytes)
    giveBack(Buffer.alloc(65_536), 65_536)
  })
  reader.read(65_536, 'a')
  for (const bytes of kept) all(bytes)
  reader.read(65_536, 'b')
  for (let count = 0; count < 20; count += 1) createReader(all).read(65_536, 'c')

  assert.deepEqual(
    kept.map((bytes) => bytes.toString('latin1')),
    ['a', 'b'].map((letter) => letter.repeat(65_536)),
  )
})

test('giveBackLater() has a buffer read into again once every byte of its piece is given back, and no sooner', () => {
  const kept: Buffer[] = []
  createReader((bytes) => {
    // A head, say.
    giveBack(bytes, 100)
    kept.push(bytes.subarray(100))
  }).read(65_536, 'a')
  const [piece] = kept
  assert.ok(piece)
  const takes = (bytes: Buffer) => {
    const got: ArrayBufferLike[] = []
    giveBackLater(bytes)
    createReader(({ buffer }) => void got.push(buffer)).read(65_536, 'b')
    return got[0] === piece.buffer
  }

  assert.equal(takes(Buffer.alloc(piece.length)), false)
  assert.equal(takes(piece.subarray(0, 30_000)), false)
  assert.equal(piece.toString('latin1'), 'a'.repeat(65_436))
  assert.equal(takes(piece.subarray(30_000)), true)
  assert.equal(takes(piece), false)
})

test('giveBackLater() gives a buffer to nobody twice', () => {
  const kept: Buffer[] = []
  createReader((bytes) => void kept.push(bytes)).read(65_536, 'a')
  const [piece = Buffer.alloc(0)] = kept
  giveBackLater(piece)
  giveBackLater(piece)

  const got = [1, 2].map(() => {
    let buffer: ArrayBufferLike | undefined
    createReader((bytes) => {
      buffer = bytes.buffer
    }).read(65_536, 'b')
    return buffer
  })

  assert.deepEqual([got[0] === piece.buffer, got[1] === piece.buffer], [true, false])
})

test('giveBackLater() gives back at once what is being told of', () => {
  const told: string[] = []
  const reader = createReader((bytes) => {
    told.push(bytes.toString('latin1', 0, 1))
    giveBackLater(bytes.subarray(0, 1000))
    giveBackLater(bytes.subarray(1000))
  })
  const [shared, own, again] = ['a', 'b', 'c'].map((letter) => reader.read(65_536, letter))

  assert.notEqual(own, shared)
  assert.equal(again, own)
  assert.deepEqual(told, ['a', 'b', 'c'])
})

for (const { bytes, copied, why } of [
  { bytes: 10, copied: true, why: 'lent' },
  { bytes: copiedBytes, copied: true, why: 'lent' },
  { bytes: copiedBytes + 1, copied: true, why: 'small beside its buffer' },
  { bytes: 32_767, copied: true, why: 'small beside its buffer' },
  { bytes: 32_768, copied: false, why: 'large' },
])
  test(`keep() ${copied ? 'copies' : 'does not copy'} ${bytes} bytes, which are ${why}`, () => {
    const kept: Buffer[] = []
    let told: Buffer | undefined
    const reader = createReader((piece) => {
      told = piece
      kept.push(keep(piece))
    })
    reader.read(bytes, 'a')
    const buffer = told?.buffer
    reader.read(bytes, 'b')
    for (let count = 0; count < 20; count += 1) createReader(all).read(65_536, 'c')

    assert.equal(kept[0]?.buffer === buffer, !copied)
    assert.deepEqual(
      kept.map((each) => each.toString('latin1')),
      ['a'.repeat(bytes), 'b'.repeat(bytes)],
    )
  })

test('keep() gives back what it copies, and leaves what is of no such buffer where it is', () => {
  const got: ArrayBufferLike[] = []
  const read = () => createReader(({ buffer }) => void got.push(buffer)).read(10_000, 'b')
  let told: Buffer | undefined
  createReader((piece) => {
    told = piece
    keep(piece)
  }).read(10_000, 'a')
  const foreign = Buffer.alloc(10_000)
  read()

  assert.equal(got[0], told?.buffer)
  assert.equal(keep(foreign), foreign)
})

test('lendReads() gives no more than 256 sockets a buffer of their own, and the next when one is let go of', () => {
  const hasOwn = (reader: ReturnType<typeof createReader>) => {
    const shared = reader.read(65_536, 'a')
    return reader.read(65_536, 'b') !== shared
  }
  const many = Array.from({ length: 300 }, () => createReader(all))
  const told: string[] = []

  assert.equal(many.map(hasOwn).lastIndexOf(true), 255)
  const late = createReader((bytes) => void told.push(bytes.toString('latin1')))
  assert.equal(hasOwn(late), false)
  assert.deepEqual(told, ['a'.repeat(65_536), 'b'.repeat(65_536)])
  many[0]?.letGo()
  // What has become small leaves its buffer to others, too.
  many[1]?.read(10, 'c')
  assert.deepEqual(
    [1, 2, 3].map(() => hasOwn(createReader(all))),
    [true, true, false],
  )
})

test('lendReads() reads into the buffer that all share when a piece is smaller than half of one, and gives that away', () => {
  const kept: Buffer[] = []
  const reader = createReader((bytes) => void kept.push(bytes))
  const into = new Set(['a', 'b', 'c'].map((letter) => reader.read(32_767, letter)))

  assert.equal(into.size, 1)
  assert.equal(kept.map(String).join(''), ['a', 'b', 'c'].map((letter) => letter.repeat(32_767)).join(''))
})

test('lendReads() puts a buffer of its own away for others, once it is closed or its reads are small', () => {
  const first = createReader(all)
  const got: ArrayBufferLike[] = []
  const others = [1, 2].map(() => createReader(({ buffer }) => void got.push(buffer)))
  first.read(65_536, 'a')
  const own = first.read(65_536, 'b')
  first.read(10, 'c')
  first.letGo()

  for (const other of others) other.read(65_536, 'd')

  assert.equal(got[0], own)
  assert.notEqual(got[1], own)
})

test('lendReads() lets nobody read into a piece that is held on to, when it is let go of before the next read', () => {
  const kept: Buffer[] = []
  let keeps = false
  const reads = lendReads((bytes) => (keeps ? void kept.push(bytes) : all(bytes)))
  const give = reads.buffer as () => Buffer | undefined // what we make is a function
  reads.callback(65_536, give() ?? Buffer.alloc(0))
  const own = give() ?? Buffer.alloc(0)
  own.fill('a')
  keeps = true
  reads.callback(65_536, own)
  reads.letGo()

  const other = createReader(all)
  for (let count = 0; count < 20; count += 1) other.read(65_536, 'b')
  for (let count = 0; count < 20; count += 1) createReader(() => {}).read(65_536, 'c')

  assert.equal(kept[0]?.toString('latin1'), 'a'.repeat(65_536))
})

test('lendReads() keeps no more than sixteen buffers that nobody reads into', () => {
  const readAll = (count: number) => {
    const readers = Array.from({ length: count }, () => createReader(all))
    for (const reader of readers) reader.read(65_536, 'a')
    const into = readers.map((reader) => reader.read(65_536, 'b'))
    for (const reader of readers) reader.letGo()
    return new Set(into)
  }
  const before = readAll(20)
  assert.equal(before.size, 20)

  const after = readAll(20)

  assert.equal([...after].filter((buffer) => before.has(buffer)).length, 16)
})

test('lendReads() tells nobody of anything once it is let go of', () => {
  let told = 0
  const reader = createReader(() => {
    told += 1
  })
  reader.read(10, 'a')
  reader.letGo()

  for (const count of [10, 20_000, 65_536]) reader.read(count, 'b')

  assert.equal(told, 1)
})

test('lendAcceptedReads() leaves a socket as it is where Node cannot be told', async () => {
  await using pair = await openPair()
  const { _handle: handle } = pair.near as unknown as { _handle: object } // as in src
  Object.defineProperty(handle, 'useUserBuffer', { value: undefined })
  const data = once(lendAcceptedReads(pair.near), 'data')

  pair.far.write('hello')

  assert.equal(String(await data), 'hello')
})

test('lendAcceptedReads() leaves a socket as it is of which something has been read', async () => {
  await using pair = await openPair()
  pair.near.unshift(Buffer.from('first, '))
  const socket = lendAcceptedReads(pair.near)
  let received = ''
  pair.far.end('second')
  await settle()
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1')
  })
  await once(socket, 'end')

  assert.equal(received, 'first, second')
})

test('lendAcceptedReads() lends what comes under TLS, too', { skip: skipWithoutOpenssl }, async () => {
  using authority = createAuthority()
  const lent: Buffer[] = []
  const server = createServer(authority.issue('a.test'), (socket) => {
    let received = ''
    lendAcceptedReads(socket).on('data', (chunk: Buffer) => {
      lent.push(chunk)
      received += chunk.toString('latin1')
    })
    socket.on('end', () => socket.end(received))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // it listens on a port
  const options: ConnectionOptions & NetConnectOpts = { port, host: '127.0.0.1', ca: authority.ca, allowHalfOpen: true }
  const client = connect(options)
  await once(client, 'secureConnect')
  client.setEncoding('latin1')

  for (const text of ['first, ', 'second, ']) {
    client.write(text)
    await settle()
  }
  client.end('x'.repeat(100_000))
  const answer = (await client.toArray()).join('')
  server.close()

  // What came later was read into the same place.
  assert.equal(lent[0]?.toString('latin1'), 'x'.repeat(7))
  assert.equal(answer, `first, second, ${'x'.repeat(100_000)}`)
})

test('lendAcceptedReads() has nobody listen once the socket is closed, after all have heard of it, and survives a late error', async () => {
  await using pair = await openPair()
  const socket = lendAcceptedReads(pair.near)
  let heard = 0
  const listener = () => {
    heard += 1
  }
  for (const event of ['data', 'drain', 'end', 'close', 'close']) socket.on(event, listener)

  socket.destroy()
  await new Promise((resolve) => socket.once('close', resolve))

  assert.equal(heard, 2)
  assert.deepEqual(socket.eventNames(), ['error'])
  socket.emit('error', new Error('late'))
})
