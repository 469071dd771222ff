import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import * as fc from 'fast-check'
import type { HeldBytes } from '../../src/http1/held-bytes.ts'
import { createHeldBytes, maxHeldBytes } from '../../src/http1/held-bytes.ts'

/** Connections of this process, which are all told of in the order of their end. */
const open = new Set<HeldBytes>()
afterEach(() => {
  for (const held of open) held.clear()
  open.clear()
})

function connect(expelled: string[] = [], name = '', isIdle = () => true): HeldBytes {
  const held = createHeldBytes({ isIdle, expel: () => void expelled.push(name) })
  open.add(held)
  return held
}

const quarter = Buffer.alloc(maxHeldBytes / 4, 'x')

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

test('createHeldBytes() keeps no large piece for a small rest of it', () => {
  const held = connect()
  held.add(Buffer.alloc(65_536, 'x'))
  held.settle()

  held.drop(65_526)
  held.settle()

  assert.equal(held.bytes?.buffer.byteLength, 10)
})

test('createHeldBytes() expels who waits longest for the rest of a head, as long as one does, and only then others', () => {
  const expelled: string[] = []
  const fill = (name: string, isIdle: boolean) => {
    const held = connect(expelled, name, () => isIdle)
    held.add(quarter)
    held.settle()
    return held
  }

  fill('busy 1', false)
  fill('idle 1', true)
  fill('idle 2', true)
  const last = fill('idle 3', true)
  assert.deepEqual(expelled, [])
  fill('idle 4', true)
  assert.deepEqual(expelled, ['idle 1'])
  last.clear()
  fill('busy 2', false)
  assert.deepEqual(expelled, ['idle 1'])
  for (const name of ['busy 3', 'busy 4', 'busy 5']) fill(name, false)

  assert.deepEqual(expelled, ['idle 1', 'idle 2', 'idle 4', 'busy 1'])
})

test('createHeldBytes() has a connection read 64 KiB behind a request, and next to nothing while all hold much', () => {
  const [one, other] = [connect(), connect()]
  const isEnough = (bytes: number) => {
    one.clear()
    if (bytes > 0) one.add(Buffer.alloc(bytes))
    one.settle()
    return one.isEnough()
  }
  assert.deepEqual([isEnough(0), isEnough(65_535), isEnough(65_536)], [false, false, true])

  other.add(Buffer.concat([quarter, Buffer.from('x')]))
  other.settle()
  assert.deepEqual([isEnough(0), isEnough(1)], [false, true])
  other.clear()

  assert.deepEqual([isEnough(1), isEnough(65_536)], [false, true])
})
