import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as fc from 'fast-check'
import type { HeldBytes } from '../../src/http1/held-bytes.ts'
import { createHeldBytes, heldBytes, maxBehindBytes, maxHeadBytes } from '../../src/http1/held-bytes.ts'

/** Connections of this process, which are all told of in the order of their end. */
const open = new Set<HeldBytes>()
afterEach(() => {
  for (const held of open) held.clear()
  open.clear()
})

function connect(expelled: string[] = [], name = '', isBusy = () => false): HeldBytes {
  const held = createHeldBytes(isBusy, () => void expelled.push(name))
  open.add(held)
  return held
}

/** Has one hold so many bytes. */
function fill(held: HeldBytes, bytes: number): HeldBytes {
  held.add(Buffer.alloc(bytes, 'x'))
  held.settle()
  return held
}

test('createHeldBytes() holds what was added and not dropped, in order, whoever reads into the pieces afterwards', () => {
  const step = fc.oneof(
    fc.record({ add: fc.string({ minLength: 1, maxLength: 40 }) }),
    fc.record({ drop: fc.nat(60) }),
    fc.constant({ settle: true as const }),
  )
  void fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const held = connect()
      let want = ''
      for (const each of steps) {
        if ('add' in each) {
          const piece = Buffer.from(each.add, 'latin1')
          held.add(piece)
          held.settle()
          piece.fill('!')
          want += Buffer.from(each.add, 'latin1').toString('latin1')
        } else if ('drop' in each) {
          held.drop(Math.min(each.drop, want.length))
          want = want.slice(each.drop)
        } else held.settle()

        assert.equal(held.bytes?.toString('latin1') ?? '', want)
        assert.equal(held.bytes === undefined, want === '')
      }
      held.clear()
    }),
    { numRuns: 500 },
  )
})

test('createHeldBytes() copies a text that comes byte by byte a few times, and not for each of them', (t) => {
  const held = connect()
  const make = t.mock.method(Buffer, 'allocUnsafeSlow')
  for (let at = 0; at < 16_384; at += 1) {
    held.add(Buffer.from('x'))
    held.settle()
  }
  make.mock.restore()

  assert.equal(held.bytes?.length, 16_384)
  assert.ok(make.mock.callCount() < 20, `${make.mock.callCount()} times`)
})

test('maxHeadBytes and maxBehindBytes are what README says of all connections of a process: 12 and 24 MiB', () => {
  assert.deepEqual([maxHeadBytes, maxBehindBytes], [12 * 1_048_576, 24 * 1_048_576])
})

test('createHeldBytes() lets go of the memory of what it holds no more', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void // the flag makes it
  const held = fill(connect(), 60_000)
  const memory = new WeakRef(held.bytes?.buffer ?? {})

  held.drop(60_000)
  held.settle()
  // A reference that was just looked at holds what it is to until the turn is over.
  await new Promise((resolve) => setImmediate(resolve))
  collect()

  assert.equal(memory.deref(), undefined)
  assert.equal(held.bytes, undefined)
})

test('createHeldBytes() keeps no large piece for a small rest of it', () => {
  const held = connect()
  held.add(Buffer.alloc(65_536, 'x'))
  held.settle()

  held.drop(65_526)
  held.settle()

  assert.equal(held.bytes?.buffer.byteLength, 10)
})

test('createHeldBytes() expels who waits longest for the rest of a head, and for those who have a request nobody else', () => {
  const expelled: string[] = []
  const head = (name: string) => fill(connect(expelled, name), maxHeadBytes / 4)
  const request = (name: string) =>
    fill(
      connect(expelled, name, () => true),
      maxBehindBytes / 4,
    )

  for (const name of ['head 1', 'head 2', 'head 3', 'head 4']) head(name)
  for (const name of ['request 1', 'request 2', 'request 3', 'request 4']) request(name)
  assert.deepEqual(expelled, [])
  head('head 5')
  assert.deepEqual(expelled, ['head 1'])
  request('request 5').clear()
  assert.deepEqual(expelled, ['head 1', 'request 1'])
  request('request 6')
  assert.deepEqual(expelled, ['head 1', 'request 1'])
  head('head 6')

  assert.deepEqual(expelled, ['head 1', 'request 1', 'head 2'])
})

test('createHeldBytes() counts waiting from the last head that was whole, or from a request that is over', () => {
  const expelled: string[] = []
  let isBusy = true
  const asked = fill(
    connect(expelled, 'who asked', () => isBusy),
    maxHeadBytes / 4,
  )
  const good = fill(connect(expelled, 'who sends one after another'), maxHeadBytes / 4)
  fill(connect(expelled, 'who waits'), maxHeadBytes / 4)
  good.drop(1)
  good.settle()
  isBusy = false
  asked.settle()
  fill(connect(expelled, 'one more'), maxHeadBytes / 4)

  fill(connect(expelled, 'one too many'), 1)

  assert.deepEqual(expelled, ['who waits'])
})

test('createHeldBytes() goes on counting the memory that what is left of it is in, until it says anew what it holds', () => {
  const held = fill(
    connect([], '', () => true),
    60_000,
  )

  held.drop(20_000)
  assert.equal(heldBytes(), 60_000)
  held.drop(30_000)
  held.settle()

  assert.equal(heldBytes(), 10_000)
})

test('createHeldBytes() counts a byte as some thousand, so that one head makes room by the end of a few', () => {
  const expelled: string[] = []
  const count = maxHeadBytes / 4096
  for (let at = 0; at < count; at += 1) fill(connect(expelled, `${at}`), 1)
  assert.equal(heldBytes(), maxHeadBytes)

  fill(connect(expelled, 'large'), 16_384)

  assert.deepEqual(expelled, ['0', '1', '2', '3'])
})

test('createHeldBytes() counts nothing of who has nothing, or is closed, whatever comes', () => {
  const held = fill(connect(), 10_000)
  assert.equal(heldBytes(), 10_000)
  held.bytes = undefined
  held.settle()
  assert.equal(heldBytes(), 0)
  fill(held, 10_000)
  held.drop(10_000)
  assert.equal(heldBytes(), 0)
  fill(held, 10_000)
  held.close()
  assert.equal(heldBytes(), 0)

  fill(held, 10_000)

  assert.deepEqual([heldBytes(), held.bytes], [0, undefined])
})

test('createHeldBytes() counts the memory it takes, and not only what is used of it', () => {
  const held = connect()
  held.add(Buffer.alloc(10_000))
  held.add(Buffer.alloc(10_000))
  held.settle()

  assert.equal(heldBytes(), 40_000)
})

test('createHeldBytes() has a connection read 64 KiB behind a request, and next to nothing while all hold much', () => {
  const [one, other] = [connect(), connect([], '', () => true)]
  const isEnough = (bytes: number) => {
    one.clear()
    if (bytes > 0) fill(one, bytes)
    return one.isEnough()
  }
  assert.deepEqual([isEnough(0), isEnough(65_535), isEnough(65_536)], [false, false, true])

  fill(other, maxBehindBytes / 4 + 1)
  assert.deepEqual([isEnough(0), isEnough(1)], [false, true])
  other.clear()

  assert.deepEqual([isEnough(1), isEnough(65_536)], [false, true])
})
