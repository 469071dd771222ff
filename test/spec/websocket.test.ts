import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { closeCodes, createFrameTracker, formatCloseFrame } from '../../src/spec/websocket.ts'

/** A frame with a payload of so many bytes, written by the rules of RFC 6455 §5.2. */
function frame(opcode: number, length: number, isMasked: boolean): Buffer {
  const mask = isMasked ? 0x80 : 0
  const size = Buffer.alloc(length < 126 ? 0 : length < 65_536 ? 2 : 8)
  if (size.length === 2) size.writeUInt16BE(length)
  if (size.length === 8) size.writeBigUInt64BE(BigInt(length))
  const short = length < 126 ? length : length < 65_536 ? 126 : 127
  return Buffer.concat([
    Buffer.from([0x80 | opcode, mask | short]),
    size,
    Buffer.alloc(isMasked ? 4 : 0, 7),
    Buffer.alloc(length, 0x88),
  ])
}

const frames = fc.array(
  fc.record({
    opcode: fc.constantFrom(0, 1, 2, 9, 10),
    length: fc.oneof(fc.nat(130), fc.constantFrom(125, 126, 65_535, 65_536)),
    isMasked: fc.boolean(),
  }),
  { maxLength: 6 },
)

test('createFrameTracker() knows every boundary between frames and no other, however they are cut up', () => {
  fc.assert(
    fc.property(frames, fc.array(fc.integer({ min: 1, max: 70_000 }), { maxLength: 20 }), (sent, cuts) => {
      const written = sent.map(({ opcode, length, isMasked }) => frame(opcode, length, isMasked))
      const all = Buffer.concat(written)
      const boundaries = new Set([0])
      let end = 0
      for (const each of written) {
        end += each.length
        boundaries.add(end)
      }
      const tracker = createFrameTracker()
      let at = 0
      for (const cut of [...cuts, all.length]) {
        tracker.pass(all.subarray(at, at + cut))
        at = Math.min(all.length, at + cut)
        assert.equal(tracker.isBetween(), boundaries.has(at))
      }
      assert.equal(tracker.hasClosed(), false)
    }),
  )
})

test('createFrameTracker().passFrame() takes the rest of the frame under way, and nothing of the next', () => {
  fc.assert(
    fc.property(fc.nat(70_000), fc.nat(70_100), fc.boolean(), (length, share, isMasked) => {
      const first = frame(2, length, isMasked)
      const begun = 1 + (share % (first.length - 1))
      const tracker = createFrameTracker()
      tracker.pass(first.subarray(0, begun))
      const rest = tracker.passFrame(Buffer.concat([first.subarray(begun), frame(1, 5, isMasked)]))

      assert.equal(rest, first.length - begun)
      assert.equal(tracker.isBetween(), true)
      assert.equal(tracker.passFrame(Buffer.from('anything')), 0)
    }),
  )
})

test('createFrameTracker() never throws, whatever passes', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.uint8Array({ maxLength: 64 }))), (chunks) => {
      const tracker = createFrameTracker()
      for (const [whole, bytes] of chunks) {
        const chunk = Buffer.from(bytes)
        if (whole) tracker.pass(chunk)
        else assert.ok(tracker.passFrame(chunk) <= chunk.length)
        tracker.isBetween()
      }
    }),
  )
})

test('createFrameTracker() sees the close frame, and none inside a payload', () => {
  const tracker = createFrameTracker()
  tracker.pass(frame(1, 300, true))
  assert.equal(tracker.hasClosed(), false)
  tracker.pass(frame(8, 2, true))
  assert.equal(tracker.hasClosed(), true)
  // Nothing may follow (§5.5.1); if something does, it takes nothing back.
  tracker.pass(frame(1, 5, true))
  assert.equal(tracker.hasClosed(), true)
})

test('formatCloseFrame() masks what a client says, and is one whole frame', () => {
  assert.equal(formatCloseFrame(closeCodes.policy_violation, 'server').toString('hex'), '880203f0')
  assert.equal(formatCloseFrame(closeCodes.going_away, 'client').toString('hex'), '88820000000003e9')
  for (const from of ['client', 'server'] as const) {
    const tracker = createFrameTracker()
    tracker.pass(formatCloseFrame(1008, from))
    assert.equal(tracker.isBetween(), true)
  }
})
