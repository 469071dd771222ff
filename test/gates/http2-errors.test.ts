// What is wrong with a connection ends it, what is wrong with a message does not, and neither hides the other.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { codes, connectFrames, flags, frame, headers, requestFields } from '../support/h2-frames.ts'
import { until } from '../support/until.ts'
import { endOf, openPair, plain, slow } from './http2-pair.ts'

const data = (stream: number, text: string, flag = 0) => frame('data', flag, stream, text)
const tooLong = [
  headers(1, requestFields('/a', [['content-length', '2']], 'POST'), false),
  data(1, 'abc', flags.endStream),
]
const badTrailer = [headers(1, requestFields('/slow', [], 'POST'), false), headers(1, [['X-A', 'b']])]
const fatal = [
  { what: 'DATA that belongs to no stream', bytes: [data(0, 'x')], code: codes.protocol },
  { what: 'a stream with an even number', bytes: [headers(2, plain)], code: codes.protocol },
  { what: 'SETTINGS of three bytes', bytes: [frame('settings', 0, 0, 'abc')], code: 6 },
  { what: 'fields that HPACK has not', bytes: [frame('headers', 5, 5, Buffer.from('ffffffffff', 'hex'))], code: 9 },
] as const
const before = [
  { when: '', frames: [] },
  { when: ', also behind a body that is too long', frames: tooLong },
  { when: ', also behind a trailer that HTTP/2 has not', frames: badTrailer },
  { when: ', also behind a request that is answered', frames: [headers(1, plain)] },
] as const
for (const { what, bytes, code } of fatal)
  for (const { when, frames } of before) {
    test(`serveHttp2() ends the session of whoever sends ${what}${when}`, async () => {
      await using pair = await openPair()
      using client = connectFrames(pair.port)

      client.send(...frames, headers(3, slow))
      await until(() => pair.waiting.length > 0 && client.frames.length > 0, 'the request')
      client.send(...bytes)

      assert.equal(await endOf(client), code)
      await until(() => pair.door.door.connections() === 0, 'the connection to be gone')
    })
    test(`serveHttp2() ends the session of whoever sends ${what} in one write with other requests${when}`, async () => {
      await using pair = await openPair()
      using client = connectFrames(pair.port)

      client.send(...frames, headers(3, slow), ...bytes)

      await client.closed
      await until(() => pair.door.door.connections() === 0, 'the connection to be gone')
    })
  }
